"""What an estimate is given: checked samples, split by groups, and prepared column by column."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from sklearn.preprocessing import QuantileTransformer
from torch import Tensor

from localmi.errors import DataError, check_name

Scaling = Literal["rank", "standardise"]
Samples = Tensor | NDArray[np.floating]
MINIMUM = 10  # samples, and groups, that three splits need
SHARES = {"stop": 0.15, "report": 0.25}  # the rest is fitted on
ALIKE, SURE = 0.1, 5.0  # correlation of neighbouring rows worth a word; standard errors it takes
QUANTILES = 1000  # at most, of a column's distribution function; linear between them


class Part(NamedTuple):
    """The pairs of one split."""

    x: Tensor  # [n, dim_x] float32
    y: Tensor  # [n, dim_y] float32
    group: Tensor | None  # [n] int64; None where every pair is a group of its own

    def subset(self, index: Tensor) -> "Part":
        """Some of the pairs."""
        group = None if self.group is None else self.group[index]
        return Part(self.x[index], self.y[index], group)

    def allowed(self) -> Tensor | None:
        """[n, n] bool: pairs of two groups may be mismatched ones; None means all."""
        return None if self.group is None else self.group[:, None] != self.group


class Splits(NamedTuple):
    """Disjoint in pairs and in groups: fitted on, stopped by, reported from."""

    fit: Part
    stop: Part
    report: Part


@dataclass(frozen=True)
class Scale:
    """Maps each column by what the fit split says of it."""

    ranks: QuantileTransformer | None
    end: float  # half a sample: how near to 0 and 1 a rank may come
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]

    @classmethod
    def of(cls, points: NDArray[np.float64], how: Scaling) -> "Scale":
        """Fitted on the fit split, [n, d]. Raises ConfigError: unknown scaling."""
        check_name("scaling", how, get_args(Scaling))
        ranks, end = None, 0.5 / len(points)
        if how == "rank":
            number = min(QUANTILES, len(points))
            ranks = QuantileTransformer(n_quantiles=number, subsample=None).fit(points)
            points = _normal_scores(ranks, points, end)
        spread = points.std(axis=0)
        return cls(ranks, end, points.mean(axis=0), np.where(spread > 0, spread, 1))

    def __call__(self, points: NDArray[np.float64]) -> Tensor:
        """[n, d] float32."""
        if self.ranks is not None:
            points = _normal_scores(self.ranks, points, self.end)
        return torch.from_numpy((points - self.mean) / self.spread).float()

    def log_volume(self) -> float:
        """Nats that "standardise" takes off the entropy of the columns."""
        return float(np.log(self.spread).sum())


def check_pairs(x: Samples, y: Samples) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The samples in float64, [N, dim_x] and [N, dim_y].

    Raises:
        DataError: not [N, dim], unequal lengths, fewer than 10 pairs, integers, values that are
            not finite, a constant column.
    """
    arrays = _checked("x", x), _checked("y", y)
    check_lengths(*arrays)
    if len(x) < MINIMUM:
        raise DataError(
            f"{len(x)} pairs are too few: fitting, stopping and reporting need pairs of their "
            f"own, {MINIMUM} in all at the very least (and thousands for a narrow interval)."
        )
    return arrays


def check_groups(groups: Samples | Sequence[int] | Sequence[str], number: int) -> NDArray[np.intp]:
    """[N] the group of each pair as 0, 1, ...

    Raises:
        DataError: not one group a pair, a missing one, or fewer than 10 different ones.
    """
    array = groups.detach().cpu().numpy() if isinstance(groups, Tensor) else np.asarray(groups)
    if array.shape != (number,):
        raise DataError(f"groups must name one group a pair, [{number}], found {array.shape}.")
    # A list of words makes the word "nan" of a missing one: looked at before it is an array.
    given = array if isinstance(groups, Tensor) else np.asarray(groups, dtype=object)
    missing = np.flatnonzero(pd.isna(given))
    if array.dtype.kind in "OSU":
        array = array.astype(str)
        missing = np.union1d(missing, np.flatnonzero(np.char.strip(array) == ""))
    if len(missing):
        raise DataError(
            f"groups is missing for {len(missing)} of {number} pairs, the first is row "
            f"{missing[0]}. Give such a pair a group of its own, or remove it."
        )
    names, code = np.unique(array, return_inverse=True)
    if len(names) < MINIMUM:
        raise DataError(
            f"groups has {len(names)} different ones; whole groups go to one of three splits, "
            f"which needs at least {MINIMUM}."
        )
    return np.asarray(code, dtype=np.intp)


def neighbours_alike(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    """A note where each row is like the next, in x and in y: `groups` would help; "" otherwise."""
    least = max(ALIKE, SURE / math.sqrt(len(x)))
    found = [_next_row_correlation(array) for array in (x, y)]
    if min(found) < least:
        return ""
    return (
        f"Rows next to each other are alike (correlation {found[0]:.2f} in x, {found[1]:.2f} in "
        "y). If they belong together (one patient, one recording), name them by groups: the value "
        "may be too high and the interval too narrow. If the table was only sorted, nothing is "
        "wrong."
    )


def _next_row_correlation(array: NDArray[np.float64]) -> float:
    """Of a column with its next row, the largest of all columns."""
    centred = array - array.mean(axis=0)
    return float(((centred[1:] * centred[:-1]).sum(axis=0) / (centred**2).sum(axis=0)).max())


def split(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    group: NDArray[np.intp] | None,
    *,
    scaling: Scaling = "rank",
    seed: int = 0,
) -> tuple[Splits, Scale]:
    """Whole groups to fit (60 %), stop (15 %) and report (25 %), prepared by the fit split.

    "rank" gives each column the ranks of the fit split and turns them into normal scores, then
    both ways give mean 0 and variance 1. A strictly increasing map of a column leaves MI as it
    is; values beyond the fit split's range are set to its ends, which can only lower MI.

    Returns:
        The splits, and the map of y.

    Raises:
        ConfigError: unknown scaling.
    """
    check_name("scaling", scaling, get_args(Scaling))
    unit = np.arange(len(x)) if group is None else group
    order = np.random.default_rng(seed).permutation(int(unit.max()) + 1)
    stop, report = (max(2, round(share * len(order))) for share in SHARES.values())
    at = np.split(order, [len(order) - stop - report, len(order) - report])
    rows = [np.flatnonzero(np.isin(unit, which)) for which in at]
    scale_x, scale_y = Scale.of(x[rows[0]], scaling), Scale.of(y[rows[0]], scaling)
    generator = np.random.default_rng([seed, 1])
    parts = []
    for row in map(generator.permutation, rows):  # so that blocks of neighbours are random ones
        named = None if group is None else torch.from_numpy(group[row])
        parts.append(Part(scale_x(x[row]), scale_y(y[row]), named))
    return Splits(*parts), scale_y


def _normal_scores(
    ranks: QuantileTransformer, points: NDArray[np.float64], end: float
) -> NDArray[np.float64]:
    """Normal quantiles of the ranks, which are kept `end` away from 0 and 1."""
    scores: NDArray[np.float64] = ndtri(np.clip(ranks.transform(points), end, 1 - end))
    return scores


def _checked(what: str, samples: Samples) -> NDArray[np.float64]:
    if isinstance(samples, Tensor):
        samples = samples.detach().cpu()
        samples = samples.double().numpy() if samples.is_floating_point() else samples.numpy()
    array = np.asarray(samples)
    if array.ndim != 2:
        raise DataError(
            f"{what} must be [N, dim], found shape {list(array.shape)}: "
            + (
                f"a dimension is missing. For one number a pair, give {what}[:, None]."
                if array.ndim < 2
                else f"flatten what belongs to one pair, as {what}.reshape(len({what}), -1)."
            )
        )
    if array.shape[1] == 0:
        raise DataError(f"{what} has no columns: shape {list(array.shape)}.")
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(
            f"{what} holds {array.dtype}, not floating-point numbers. For quantities convert "
            f"them to float; for categories, whose order means nothing, give one-hot columns."
        )
    check_values(what, array)
    return array.astype(np.float64)


def check_lengths(x: NDArray[np.floating], y: NDArray[np.floating]) -> None:
    """Row i of x goes with row i of y.

    Raises:
        DataError: one has more rows.
    """
    if len(x) != len(y):
        raise DataError(
            f"x and y must be pairs, row by row: found {len(x)} rows of x and {len(y)} of y."
        )


def check_values(what: str, array: NDArray[np.floating]) -> None:
    """[N, dim] finite numbers, none of them a constant column.

    Raises:
        DataError: names the first row or column that is not so.
    """
    bad = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(bad):
        raise DataError(
            f"{what} has NaN or infinite values in {len(bad)} of {len(array)} rows, the first is "
            f"row {bad[0]}. Remove these pairs from x and y."
        )
    constant = np.flatnonzero(np.ptp(array, axis=0) == 0) if len(array) else np.array([])
    if len(constant):
        raise DataError(
            f"{what} is constant in column {constant[0]} ({len(constant)} such of "
            f"{array.shape[1]}). A constant tells nothing: remove such columns."
        )
