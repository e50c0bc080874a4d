"""Estimates of mutual information without a network: nearest neighbours, correlations, bins.

Each takes N independent draws, row i of x with row i of y, and gives nats. They are fast and
need no training; each fails in its own way when the dimension grows or the shape is wrong.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from scipy.special import digamma
from sklearn.metrics import mutual_info_score
from torch import Tensor

from localmi.errors import ConfigError, DataError
from localmi.mi.samples.inputs import check_lengths, check_values

Array = NDArray[np.float64]
Counts = NDArray[np.intp]
Samples = Tensor | NDArray[np.floating] | NDArray[np.integer]
TREE_DIMS = 10  # of x and y together, above which all distances are cheaper than a search tree
ROWS = 128  # of the table of distances at a time
FULL_RANK = 1e-6  # smallest singular value over the largest: float32 copies lie below
EQUAL = 1e-12  # 1 - correlation: float32 copies lie below, 13 nats above


def ksg(x: Samples, y: Samples, *, neighbours: int = 3) -> float:
    """The first estimator of Kraskov, Stoegbauer and Grassberger 2004 (Eq. 8): KSG-1.

    psi(k) + psi(N) - mean of psi(n_x + 1) + psi(n_y + 1): e_i is the distance to the k-th
    neighbour in (x, y), in the max norm, and n_x counts the points with |x_i - x_j| < e_i.
    Columns are brought to unit variance first. Biased down when the dimension or the
    information grows: k neighbours do not see how thin the density is.

    Args:
        x: [N, dim_x] or [N].
        y: [N, dim_y] or [N].
        neighbours: k; more give less variance and more bias.

    Returns:
        Nats; may lie below 0 by its sampling error.

    Raises:
        DataError: unequal lengths, not finite, a constant column, or copies: the estimate is
            for continuous x and y.
        ConfigError: fewer than one neighbour, or not more samples than neighbours.

    Taught in 01_mutual_information.
    """
    x, y = _standardised("x", x), _standardised("y", y)
    check_lengths(x, y)
    _check_continuous(x, y)
    number = len(x)
    if not 1 <= neighbours < number:
        raise ConfigError(f"KSG needs 1 <= neighbours < N, found {neighbours} and N = {number}.")
    count = _nearer_by_tree if x.shape[1] + y.shape[1] <= TREE_DIMS else _nearer_by_table
    nearer_x, nearer_y = count(x, y, neighbours)
    psi = digamma(nearer_x + 1) + digamma(nearer_y + 1)
    return float(digamma(neighbours) + digamma(number) - psi.mean())


def gaussian_mi(x: Samples, y: Samples, *, corrected: bool = True) -> float:
    """What the linear correlations of x and y alone would mean: exact for Gaussians.

    -1/2 sum log(1 - rho_i^2) over the canonical correlations (Cover and Thomas 2006, Sec. 8.5).
    On N samples it is biased up by about dim_x dim_y / 2N, which is taken off. Heavy tails
    can push it far above the truth (Student, 1 degree of freedom), and what is not linear is
    not seen.

    Args:
        x: [N, dim_x] or [N].
        y: [N, dim_y] or [N].
        corrected: takes dim_x dim_y / 2N off.

    Returns:
        Nats; the corrected value may lie below 0 by its sampling error.

    Raises:
        DataError: unequal lengths, not finite, a constant column, not more samples than
            dimensions, a column that others already determine, or a y that x determines.

    Taught in 01_mutual_information.
    """
    x, y = _standardised("x", x), _standardised("y", y)
    check_lengths(x, y)
    number, dims = len(x), (x.shape[1], y.shape[1])
    if number <= sum(dims) + 1:
        raise DataError(f"{number} samples cannot give the correlations of {sum(dims)} columns.")
    cosines = np.linalg.svd(_basis("x", x).T @ _basis("y", y), compute_uv=False)
    if cosines[0] >= 1 - EQUAL:
        raise DataError("A linear combination of x equals one of y: infinite information.")
    value = -np.log1p(-np.square(cosines)).sum() / 2
    return float(value - (dims[0] * dims[1] / (2 * number) if corrected else 0))


def histogram_mi(x: Samples, y: Samples, *, bins: int) -> float:
    """The plug-in value of a two-dimensional histogram with equal bins.

    Biased up by about (bins - 1)^2 / 2N, down by what happens within a bin; the number of cells
    is bins^(dim_x + dim_y), which is why it ends at one dimension each.

    Args:
        x: [N] or [N, 1].
        y: [N] or [N, 1].
        bins: for each of the two.

    Returns:
        Nats, at least 0.

    Raises:
        DataError: unequal lengths, not finite, constant, or more than one dimension.
        ConfigError: fewer than two bins.

    Taught in 01_mutual_information.
    """
    x, y = _standardised("x", x), _standardised("y", y)
    check_lengths(x, y)
    if x.shape[1] != 1 or y.shape[1] != 1:
        raise DataError(
            f"A histogram takes one dimension each, found {x.shape[1]} and {y.shape[1]}: its "
            "cells would outnumber the samples. Use ksg or a neural estimate."
        )
    if bins < 2:
        raise ConfigError(f"A histogram needs at least two bins, found {bins}.")
    counts = np.histogram2d(x[:, 0], y[:, 0], bins=bins)[0]
    return float(mutual_info_score(None, None, contingency=counts))


def _nearer_by_tree(x: Array, y: Array, neighbours: int) -> tuple[Counts, Counts]:
    """n_x and n_y of every point, [N] each, by search trees: for few dimensions."""
    both = np.hstack([x, y])
    distance = cKDTree(both).query(both, k=[neighbours + 1], p=np.inf)[0][:, 0]  # [N]
    _check_copies(distance, neighbours)
    below = np.nextafter(distance, 0)
    return _count_within(x, below), _count_within(y, below)


def _count_within(points: Array, radius: Array) -> Counts:
    """How many others lie within each point's radius: [N]."""
    counts = cKDTree(points).query_ball_point(points, radius, p=np.inf, return_length=True)
    return np.asarray(counts) - 1


def _nearer_by_table(x: Array, y: Array, neighbours: int) -> tuple[Counts, Counts]:
    """As `_nearer_by_tree`, from all distances, some rows at a time: trees fail in many dims."""
    found: list[tuple[Array, Counts, Counts]] = []
    for start in range(0, len(x), ROWS):
        rows = slice(start, start + ROWS)
        to_x, to_y = cdist(x[rows], x, "chebyshev"), cdist(y[rows], y, "chebyshev")
        distance = np.partition(np.maximum(to_x, to_y), neighbours, axis=1)[:, [neighbours]]
        counts = ((table < distance).sum(axis=1) - 1 for table in (to_x, to_y))
        found.append((distance[:, 0], *counts))
    distances, nearer_x, nearer_y = (np.concatenate(part) for part in zip(*found, strict=True))
    _check_copies(distances, neighbours)
    return nearer_x, nearer_y


def _check_copies(distance: Array, neighbours: int) -> None:
    copied = int((distance == 0).sum())
    if copied:
        raise DataError(
            f"KSG: {copied} of {len(distance)} pairs (x, y) have {neighbours} exact copies or "
            "more. It is for continuous values; remove the copies."
        )


def _basis(what: str, points: Array) -> Array:
    """Orthonormal columns that span those of the centred points."""
    basis, sizes, _ = np.linalg.svd(points, full_matrices=False)
    if sizes[-1] < FULL_RANK * sizes[0]:
        raise DataError(f"A column of {what} is a linear combination of others; remove it.")
    orthonormal: Array = basis
    return orthonormal


def _standardised(what: str, samples: Samples) -> Array:
    """[N, d] float64 of mean 0 and variance 1."""
    array = samples.detach().cpu().double().numpy() if isinstance(samples, Tensor) else samples
    points: Array = np.asarray(array, dtype=np.float64)
    points = points[:, None] if points.ndim == 1 else points
    if points.ndim != 2 or 0 in points.shape:
        raise DataError(f"{what} must be [N, dim] or [N] and not empty, found {points.shape}.")
    check_values(what, points)
    points = points - points.mean(axis=0)
    return points / points.std(axis=0)


def _check_continuous(*both: Array) -> None:
    """A coordinate that repeats has no neighbour at a distance; some rounding is let through."""
    for what, points in zip("xy", both, strict=True):
        distinct = len(np.unique(points, axis=0))
        if distinct < len(points) / 2:
            raise DataError(
                f"KSG is for continuous values, but {what} has only {distinct} different ones in "
                f"{len(points)} samples. For discrete values count: scikit-learn's "
                "mutual_info_score."
            )
