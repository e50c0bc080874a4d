"""What is trained: image encoders, text encoders, and the local alignment of both."""
