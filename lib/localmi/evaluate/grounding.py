"""Does the region a sentence chose lie on the finding it speaks of?

A map is [G, G]: the score of a sentence in each region of the image, whose pixels all get it. A
mask is [H, W] bool in pixels. Taught in 09_reading_the_model.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.ndimage import binary_dilation, distance_transform_edt

from localmi.errors import ConfigError, DataError
from localmi.statistics import Interval, mean_interval

THRESHOLDS = np.linspace(0, 1, 21)[1:]  # of the share of a map's range
SIZES = {"small": 0.03, "medium": 0.06, "large": 1.0}  # up to this share of the image


@dataclass(frozen=True)
class Pointing:
    """The pointing game for some sentences; all arrays are [S], one entry a sentence."""

    hit: np.ndarray  # bool: the chosen point lies in the mask, or within the tolerance
    chance: np.ndarray  # share of the regions that would have been a hit
    mask_share: np.ndarray  # share of the image that the mask covers


def region_centres(
    winners: np.ndarray, *, grid: int, image_size: int | tuple[int, int]
) -> np.ndarray:
    """Centre pixel (row, column) of regions 0 .. grid**2 - 1: [S, 2] int.

    Args:
        image_size: in pixels, of a square image or (H, W).
    """
    places = np.stack(np.divmod(winners, grid), axis=-1)  # row and column of the grid
    return ((places + 0.5) * np.array(image_size) / grid).astype(int)


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
        tolerance: pixels; default 15 at 256 x 256 (the usual one), elsewhere in proportion to
            the longer side.

    Taught in 07_train_local_mi.
    """
    if len(winners) != len(masks):
        raise ValueError(f"{len(winners)} winners for {len(masks)} masks: give one of each.")
    if not masks.reshape(len(masks), -1).any(axis=1).all():
        raise ValueError("A mask is empty: a finding that is nowhere cannot be pointed at.")
    height, width = masks.shape[1:]
    reach = 15 * max(height, width) / 256 if tolerance is None else tolerance
    near = np.stack([distance_transform_edt(~mask) <= reach for mask in masks])
    every = np.arange(grid**2)
    rows, columns = region_centres(every, grid=grid, image_size=(height, width)).T
    hits = near[:, rows, columns]  # [S, N], what each region would have been
    return Pointing(
        hit=hits[np.arange(len(hits)), winners],
        chance=hits.mean(axis=1),
        mask_share=masks.reshape(len(masks), -1).mean(axis=1),
    )


def contrast_to_noise(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """CNR: (mean in the mask - mean outside) / sqrt(variance inside + variance outside): [S].

    Over pixels. 0 by chance; negative where the map is lower on the finding, which the published
    form, an absolute value, hides. 0 for a map that is the same everywhere; infinite for one that
    is the mask itself; NaN for a mask that covers the whole image.

    Args:
        maps: [S, G, G]. Any a * map + b with a > 0 gives the same.
        masks: [S, H, W] bool; none may be empty.

    Source: Boecking et al. 2022 (BioViL), https://doi.org/10.1007/978-3-031-20059-5_1.
    Taught in 09_reading_the_model.
    """
    inside, pixels = _cells(maps, masks)
    values = maps.reshape(len(maps), -1)
    values = values - values.mean(axis=1, keepdims=True)  # or large scores cancel
    (mean_in, variance_in), (mean_out, variance_out) = (
        _moments(values, weights) for weights in (inside, pixels - inside)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (mean_in - mean_out) / np.sqrt(variance_in + variance_out)
    return np.where(np.ptp(values, axis=1) == 0, 0.0, found)


@dataclass(frozen=True)
class Threshold:
    """value: in [0, 1], of a map scaled to its own range. split: the one it was chosen on.
    mean_iou: what it reached there, which is too good: it was chosen for that."""

    value: float
    split: str
    mean_iou: float


def best_threshold(
    maps: np.ndarray, masks: np.ndarray, *, split: str, thresholds: np.ndarray = THRESHOLDS
) -> Threshold:
    """The threshold with the best mean IoU on this split, for `overlap` on another one.

    Args:
        maps: [S, G, G].
        masks: [S, H, W] bool.
        split: its name; `overlap` refuses to use the threshold there.
        thresholds: to choose from; of equally good ones the first.
    """
    cells = _cells(maps, masks)
    means = [_iou(maps, *cells, float(one)).mean() for one in thresholds]
    best = int(np.argmax(means))
    return Threshold(float(thresholds[best]), split, float(means[best]))


def overlap(
    maps: np.ndarray, masks: np.ndarray, *, threshold: Threshold, split: str
) -> np.ndarray:
    """Intersection over union of mask and map at the threshold: [S]. Its mean is the mIoU.

    A map is scaled to [0, 1] by its own minimum and maximum, for scores of two sentences have no
    common zero; a map that is the same everywhere marks nothing.

    Raises:
        ConfigError: the threshold was chosen on this split.

    Taught in 09_reading_the_model.
    """
    if threshold.split == split:
        raise ConfigError(
            f"The threshold was chosen on split {split!r}, where its IoU is too good. Choose it "
            "on another split (validate)."
        )
    return _iou(maps, *_cells(maps, masks), threshold.value)


def find_lenders(
    findings: ArrayLike, patients: ArrayLike, lent: ArrayLike, lenders: ArrayLike
) -> np.ndarray:
    """For each sentence a mask of the same finding in another patient, in turn: [S], -1 if none.

    The control. A sentence that denies a finding has no mask in its own image; on a borrowed one
    it should hit by chance. Where it does better, hold the same winners against the masks of other
    findings: what they reach there is where the model looks anyway, and only what is above it is
    the finding's usual place, known by the word. Of what affirming sentences reach on their own
    masks, only what is above borrowed ones can have been seen in the image.

    Args:
        findings, patients: [S] of the sentences.
        lent, lenders: [L] finding and patient of each mask.

    Taught in 09_reading_the_model.
    """
    lent, lenders = np.asarray(lent), np.asarray(lenders)
    chosen, turns = [], dict.fromkeys(np.unique(lent).tolist(), 0)
    for finding, patient in zip(np.asarray(findings), np.asarray(patients), strict=True):
        able = np.flatnonzero((lent == finding) & (lenders != patient))
        if not len(able):
            chosen.append(-1)
            continue
        chosen.append(int(able[turns[finding] % len(able)]))
        turns[finding] += 1
    return np.array(chosen, dtype=int)


@dataclass(frozen=True)
class Group:
    """The mean over some sentences: those whose `by` is `name`."""

    by: str
    name: str
    mean: Interval
    sentences: int
    patients: int


def by_group(
    values: np.ndarray,
    patients: np.ndarray,
    groups: Mapping[str, ArrayLike],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Group]:
    """Means with intervals over patients: of all sentences, then of each group.

    Args:
        values: [S] of each sentence: hit, chance, CNR, IoU.
        patients: [S].
        groups: such as finding, side, size -> [S] label of each sentence; "" does not apply.

    Raises:
        DataError: no sentence, or arrays of other lengths.
    """
    labels = {"all": np.full(len(values), "all")}
    labels |= {by: np.asarray(names, dtype=str) for by, names in groups.items()}
    lengths = {by: len(names) for by, names in labels.items()} | {"patients": len(patients)}
    if set(lengths.values()) != {len(values)} or not len(values):
        raise DataError(f"{len(values)} values, but {lengths}: one each, and at least one.")
    found = []
    for by, names in labels.items():
        for name in [name for name in np.unique(names) if name]:
            rows = names == name
            mean = mean_interval(values[rows], patients[rows], resamples=resamples, seed=seed)
            owners = len(np.unique(patients[rows]))
            found.append(Group(by, str(name), mean, int(rows.sum()), owners))
    return found


def size_names(mask_share: np.ndarray) -> np.ndarray:
    """[S] share of the image -> "small", "medium", "large": about thirds of the example study."""
    return np.array(list(SIZES))[np.searchsorted(list(SIZES.values()), mask_share)]


def region_confusion(winners: np.ndarray, masks: np.ndarray, *, grid: int) -> np.ndarray:
    """Which region won, against where the finding is: [N, N], rows the truth.

    A sentence adds 1, shared among the regions its mask covers in proportion to the pixels there.
    So a row's sum is how many sentences' worth of finding lies in that region.

    Args:
        winners: [S] region of each sentence, row by row.
        masks: [S, H, W] bool; none may be empty.

    Taught in 09_reading_the_model.
    """
    inside, _ = _cells(np.zeros((len(winners), grid, grid)), masks)
    truth = inside / inside.sum(axis=1, keepdims=True)
    confusion: np.ndarray = truth.T @ np.eye(grid**2)[winners]
    return confusion


def place_names(winners: np.ndarray, masks: np.ndarray, *, grid: int) -> np.ndarray:
    """[S] how a winner missed: "on" the finding, "beside" it (a region that touches one on it,
    corners too), on its "mirror" image (the wrong side), or "elsewhere"; the first that fits."""
    inside, _ = _cells(np.zeros((len(winners), grid, grid)), masks)
    on = (inside > 0).reshape(-1, grid, grid)
    beside = np.stack([binary_dilation(one, np.ones((3, 3))) for one in on])
    every = np.arange(len(winners))
    hits = [kind.reshape(len(on), -1)[every, winners] for kind in (on, beside, on[:, :, ::-1])]
    return np.select(hits, ["on", "beside", "mirror"], default="elsewhere")


def region_coverage(masks: np.ndarray, *, grid: int) -> np.ndarray:
    """Share of each region that a mask covers: the mask, seen through the grid. [S, G, G].

    Args:
        masks: [S, H, W] bool; none may be empty.
    """
    inside, pixels = _cells(np.zeros((len(masks), grid, grid)), masks)
    return (inside / pixels).reshape(-1, grid, grid)


def resize_masks(masks: np.ndarray, size: int) -> np.ndarray:
    """Masks for images of another size: [S, H, W] -> [S, size, size].

    A pixel is that of the mask which lies at its centre; of two that are as near, the first.
    """
    rows, columns = (
        ((2 * np.arange(size) + 1) * pixels - 1) // (2 * size) for pixels in masks.shape[1:]
    )
    return masks[:, rows[:, None], columns]


def _cells(maps: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of each mask in each region [S, N], and pixels of each region [N]."""
    sizes = maps.shape[1:] + masks.shape[1:]
    if maps.ndim != 3 or masks.ndim != 3 or len(maps) != len(masks) or not len(maps):
        raise DataError(f"Maps {maps.shape} and masks {masks.shape}: [S, G, G] and [S, H, W].")
    if min(masks.shape[1:]) < maps.shape[1] or not np.isfinite(maps).all():
        raise DataError(f"Maps finer than masks ({sizes}), or a map that is not finite.")
    if not masks.any(axis=(1, 2)).all():
        raise DataError("A mask is empty: a finding that is nowhere cannot be found.")
    starts = [
        -(-np.arange(cells) * pixels // cells)
        for cells, pixels in zip(maps.shape[1:], masks.shape[1:], strict=True)
    ]
    inside = np.add.reduceat(masks, starts[0], axis=1, dtype=np.int64)
    inside = np.add.reduceat(inside, starts[1], axis=2)
    rows, columns = (
        np.diff(first, append=pixels)
        for first, pixels in zip(starts, masks.shape[1:], strict=True)
    )
    return inside.reshape(len(maps), -1), np.outer(rows, columns).ravel()


def _moments(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the pixels of each map, by how many of them each region has: [S]."""
    number = weights.sum(axis=1)
    with np.errstate(invalid="ignore"):
        mean = (values * weights).sum(axis=1) / number
        return mean, ((values - mean[:, None]) ** 2 * weights).sum(axis=1) / number


def _iou(maps: np.ndarray, inside: np.ndarray, pixels: np.ndarray, threshold: float) -> np.ndarray:
    values = maps.reshape(len(maps), -1)
    low, span = values.min(axis=1, keepdims=True), np.ptp(values, axis=1, keepdims=True)
    chosen = np.divide(values - low, span, out=np.zeros_like(values), where=span > 0) >= threshold
    both = (inside * chosen).sum(axis=1)
    found: np.ndarray = both / (chosen @ pixels + inside.sum(axis=1) - both)
    return found
