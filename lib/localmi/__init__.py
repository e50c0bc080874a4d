"""Learning from images and text by maximising local mutual information."""

import os
import sys
import warnings

__version__ = "0.1.0"

STILL = "LOCALMI_STILL"  # in the environment where nobody sits before the notebook: no widgets

if os.environ.get(STILL):  # tqdm.auto, which other packages import, then has bars of text
    sys.modules.setdefault("ipywidgets", None)  # type: ignore[arg-type]
    warnings.filterwarnings("ignore", message="IProgress not found")
