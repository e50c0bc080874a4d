"""Is this machine ready for the course; building `.venv`."""
