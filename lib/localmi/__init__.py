"""Learning from images and text by maximising local mutual information."""

__version__ = "0.1.0"
