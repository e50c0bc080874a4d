"""How it is trained: configuration, the loop, checkpoints."""
