"""Does the region a sentence chose lie on the finding it speaks of?"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import distance_transform_edt


@dataclass(frozen=True)
class Pointing:
    """The pointing game for some sentences; all arrays are [S], one entry a sentence."""

    hit: np.ndarray  # bool: the chosen point lies in the mask, or within the tolerance
    chance: np.ndarray  # share of the regions that would have been a hit
    mask_share: np.ndarray  # share of the image that the mask covers


def region_centres(winners: np.ndarray, *, grid: int, image_size: int) -> np.ndarray:
    """Centre pixel (row, column) of regions 0 .. grid**2 - 1: [S, 2] int."""
    rows, columns = np.divmod(winners, grid)
    return ((np.stack([rows, columns], axis=-1) + 0.5) * image_size / grid).astype(int)


def pointing_game(
    winners: np.ndarray, masks: np.ndarray, *, grid: int, tolerance: float | None = None
) -> Pointing:
    """Pointing game (Zhang et al. 2018): is the winning region's centre on the finding?

    A region is a cell of the grid, so its centre can miss a finding that lies in the cell; the
    tolerance allows for that, and chance is counted with the same tolerance.

    Args:
        winners: [S] the winning region of each sentence, 0 .. grid**2 - 1, row by row.
        masks: [S, H, W] bool, where the finding of the sentence is; none may be empty.
        grid: regions a side.
        tolerance: pixels; default 15 at 256 x 256 (the usual one), in proportion elsewhere.

    Taught in 07_train_local_mi.
    """
    if len(winners) != len(masks):
        raise ValueError(f"{len(winners)} winners for {len(masks)} masks: give one of each.")
    if not masks.reshape(len(masks), -1).any(axis=1).all():
        raise ValueError("A mask is empty: a finding that is nowhere cannot be pointed at.")
    size = masks.shape[-1]
    reach = 15 * size / 256 if tolerance is None else tolerance
    near = np.stack([distance_transform_edt(~mask) <= reach for mask in masks])
    rows, columns = region_centres(np.arange(grid**2), grid=grid, image_size=size).T
    hits = near[:, rows, columns]  # [S, N], what each region would have been
    return Pointing(
        hit=hits[np.arange(len(hits)), winners],
        chance=hits.mean(axis=1),
        mask_share=masks.reshape(len(masks), -1).mean(axis=1),
    )
