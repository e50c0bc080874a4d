"""Taking a part of an image away, where the image cannot be made again without it."""

import numpy as np
from scipy.ndimage import binary_dilation


def paint_over(image: np.ndarray, patch: np.ndarray, *, rim: int = 4) -> np.ndarray:
    """The image with a patch in one grey, the mean of the pixels around it.

    What is painted is not a healthy image: a grey patch has an edge and no texture. Hold what it
    does against the same patch elsewhere (`move`).

    Args:
        image: [H, W].
        patch: [H, W] bool; one without a pixel changes nothing.
        rim: pixels around it that are averaged.

    Taught in 09_reading_the_model.
    """
    around = binary_dilation(patch, iterations=rim) & ~patch
    painted = image.copy()
    if around.any():
        painted[patch] = image[around].mean()
    return painted


def move(mask: np.ndarray, rng: np.random.Generator, *, tries: int = 100) -> np.ndarray:
    """The same shape in another place of the image, off the mask: [H, W] bool.

    Of `tries` random places the first that is off it, or the one that overlaps it least.

    Args:
        mask: [H, W] bool, not empty.

    Taught in 09_reading_the_model.
    """
    rows, columns = np.nonzero(mask)
    height, width = mask.shape
    best, least = mask, len(rows)
    for _ in range(tries):
        down = rng.integers(-rows.min(), height - rows.max())
        right = rng.integers(-columns.min(), width - columns.max())
        shared = int(mask[rows + down, columns + right].sum())
        if shared < least:
            best, least = np.zeros_like(mask), shared
            best[rows + down, columns + right] = True
        if not least:
            break
    return best
