"""Where pairs of image and report come from: MIMIC-CXR, OpenI, a CSV."""
