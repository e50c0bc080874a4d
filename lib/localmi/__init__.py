"""Learning from images and text by maximising local mutual information."""

import warnings

__version__ = "0.1.0"

# tqdm.auto, which other packages import, asks every kernel for widgets; without them it falls back
# to the text bar that is meant here.
warnings.filterwarnings("ignore", message="IProgress not found")
