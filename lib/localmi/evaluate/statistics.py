"""Intervals: nothing is reported without one."""

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"

    def as_dict(self) -> dict[str, float | list[float]]:
        """For results.json."""
        return {"value": self.value, "interval95": [self.low, self.high]}


def mean_interval(
    values: np.ndarray, groups: np.ndarray, *, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Mean of `values` with a percentile bootstrap interval over whole groups (patients).

    Images of one patient are alike, so patients are drawn, not images. With a single group there
    is nothing to resample: the interval is then (nan, nan).

    Args:
        values: [n] one number an image or sentence.
        groups: [n] the patient of each.
    """
    if len(values) == 0 or len(values) != len(groups):
        raise ValueError(
            f"{len(values)} values and {len(groups)} groups: both must be equally long, and not 0."
        )
    _, code = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    counts = np.bincount(code).astype(float)
    sums = np.bincount(code, weights=np.asarray(values, dtype=float))
    mean = float(sums.sum() / counts.sum())
    if len(counts) < 2:
        return Interval(mean, float("nan"), float("nan"))
    found = stats.bootstrap(
        (sums, counts),
        lambda total, count, axis: total.sum(axis=axis) / count.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high))
