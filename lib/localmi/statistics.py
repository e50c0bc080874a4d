"""Intervals and tests: nothing is reported without one, no claim is made without the other."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from localmi.errors import DataError

CHUNK = 2_000_000  # weights, or drawn groups, in memory at once


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


NO_NUMBER = Interval(float("nan"), float("nan"), float("nan"))


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
        batch=max(1, CHUNK // len(counts)),
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high))


def partners(groups: np.ndarray) -> np.ndarray:
    """For every row a row of another group, each taken once: [n], a permutation.

    Where every row is a group of its own, the next one. A group of more than half of the rows has
    too few others: some of its rows then get one of their own.

    Args:
        groups: [n] of each row.
    """
    _, first, code = np.unique(groups, return_index=True, return_inverse=True)
    order = np.argsort(first[code], kind="stable")  # rows of a group side by side
    found = np.empty_like(order)
    found[order] = np.roll(order, -np.bincount(code).max(initial=0))  # past the largest group
    return found


def draw_texts(group: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """So many of the texts of a study at random, each once; fewer where it has fewer."""
    if number == 1:
        return rng.choice(group, size=1)
    return rng.choice(group, size=min(number, len(group)), replace=False)


Statistic = Callable[[np.ndarray], np.ndarray]
"""A statistic of weighted rows: weights [R, n] -> [R] values, NaN where there is none (a class is
missing). A resample is a row of weights, how often each image was drawn; see
`evaluate.weighted_statistics`."""

TIE = 1e-12  # differences that are closer are equal


@dataclass(frozen=True)
class Bootstrap:
    """An interval, and how many of the resamples had no value: in those a class was missing."""

    interval: Interval
    left_out: int


def bootstrap(
    statistic: Statistic, patients: np.ndarray, *, resamples: int = 2000, seed: int = 0
) -> Bootstrap:
    """The statistic of all rows with a percentile bootstrap interval over patients.

    Resamples without a value are left out and counted. Without a value, or with one patient,
    the interval is (nan, nan).

    Args:
        statistic: of n rows, such as `weighted_statistics.auc(targets, scores)`.
        patients: [n] the patient of each row.

    Taught in 08_downstream_tasks.
    """
    code, number = _codes(patients)
    value = float(statistic(np.ones((1, len(code))))[0])
    if np.isnan(value) or number < 2:
        return Bootstrap(Interval(value, np.nan, np.nan), 0)
    drawn = _resampled(statistic, code, number, resamples=resamples, seed=seed)
    found = drawn[~np.isnan(drawn)]
    return Bootstrap(_percentiles(value, found), resamples - len(found))


def _resampled(
    statistic: Statistic, code: np.ndarray, number: int, *, resamples: int, seed: int
) -> np.ndarray:
    """The statistic of resamples of patients, from `_codes`: [R], or [R, S] of S statistics."""
    rng, equal = np.random.default_rng(seed), np.full(number, 1 / number)
    return np.concatenate(
        [
            statistic(rng.multinomial(number, equal, size=size)[:, code].astype(float))
            for size in _chunks(resamples, len(code))
        ]
    )


def _percentiles(value: float, drawn: np.ndarray) -> Interval:
    low, high = np.percentile(drawn, [2.5, 97.5]) if len(drawn) else (np.nan, np.nan)
    return Interval(value, float(low), float(high))


@dataclass(frozen=True)
class PairedTest:
    """Two models on the same images: the difference a - b, and the p-value of "they are alike".

    difference: with its 95 % bootstrap interval over patients.
    p_value: two-sided, by permutation; NaN where there is no value.
    method, p_method: the same of the *method*, of which these networks are a sample as the
        patients are: see `over_seeds`. NaN with one seed.
    note: why there is none, or what was left out; "" otherwise.
    """

    difference: Interval
    p_value: float
    method: Interval = NO_NUMBER
    p_method: float = float("nan")
    note: str = ""


def over_seeds(by_seed: np.ndarray, drawn: np.ndarray) -> tuple[Interval, float]:
    """The mean over S trained networks as one of the method: a 95 % interval and the p-value of 0.

    The interval of resampled patients speaks of these networks alone: another seed is another
    network, as another reader is another eye. So both are drawn, as readers and cases are:

        variance = s² / S + c,   df = (s² / S + c)² / ((s² / S)² / (S - 1))

    with s² the variance over the seeds, and c the covariance of two seeds' values over the
    patients (0 where it is negative).

    Args:
        by_seed: [S] values.
        drawn: [R, S] the values of R resamples of patients.

    Returns:
        The interval of t with df degrees of freedom, and the two-sided p; NaN with one seed.

    Source: Obuchowski and Rockette 1995, https://doi.org/10.1080/03610919508813243, for the
    variance; Hillis 2007, https://doi.org/10.1002/sim.2532, for the degrees of freedom.
    Taught in 10_the_papers_tables.
    """
    seeds, value = len(by_seed), float(np.mean(by_seed))
    drawn = drawn[~np.isnan(drawn).any(axis=1)]
    if seeds < 2 or len(drawn) < 2:
        return Interval(value, np.nan, np.nan), np.nan
    covariances = np.cov(drawn, rowvar=False)
    shared = (covariances.sum() - np.trace(covariances)) / (seeds * (seeds - 1))
    of_seeds, of_patients = by_seed.var(ddof=1) / seeds, max(0.0, shared)
    variance = of_seeds + of_patients
    if variance == 0:  # the same value whoever is drawn
        return Interval(value, value, value), float(value == 0)
    degrees = np.inf if of_seeds == 0 else variance**2 / (of_seeds**2 / (seeds - 1))
    found = stats.t(degrees, loc=value, scale=np.sqrt(variance))
    p_value = 2 * stats.t.sf(abs(value) / np.sqrt(variance), degrees)
    return Interval(value, *map(float, found.interval(0.95))), float(p_value)


def paired_permutation(
    statistic: Callable[[np.ndarray, np.ndarray], Statistic],
    a: np.ndarray,
    b: np.ndarray,
    patients: np.ndarray,
    *,
    permutations: int = 10_000,
    resamples: int = 2000,
    seed: int = 0,
) -> PairedTest:
    """Is model a another than model b? Swaps the two models' predictions, patient by patient.

    A swap exchanges all images and all seeds of a patient. The statistic is the mean over seeds.
    p = (1 + permutations with a difference as large, either way) / (1 + permutations), so it is
    never 0. Predictions on different scales are not exchangeable: give ranks to a statistic of
    ranks, as `classification.compare` does.

    Args:
        statistic: of rows [m] (which row of the data each prediction belongs to) and predictions
            [m, ...] makes the statistic of m rows. Both models' predictions are pooled, m = 2n,
            so each is sorted once; a permutation is a set of weights.
        a, b: [S, n, ...] predictions of S seeds.
        patients: [n].

    Raises:
        DataError: a, b and patients do not fit each other.

    Source: Good 2005, Permutation, Parametric and Bootstrap Tests of Hypotheses, for the test;
    Phipson and Smyth 2010, https://doi.org/10.2202/1544-6115.1585, for the + 1.
    Taught in 08_downstream_tasks.
    """
    if a.shape != b.shape or a.shape[1] != len(patients):
        raise DataError(
            f"Predictions of shape {a.shape} and {b.shape} for {len(patients)} patients: a paired "
            "test needs the same seeds and images of both, [seeds, images, ...]."
        )
    code, number = _codes(patients)
    rows = np.tile(np.arange(len(code)), 2)
    pooled = [statistic(rows, np.concatenate(pair)) for pair in zip(a, b, strict=True)]

    def differences(own: np.ndarray, other: np.ndarray) -> np.ndarray:
        """[R, S], with weights [R, n] of a's and b's predictions in the first model; in the second
        they are swapped."""
        first, second = np.hstack([own, other]), np.hstack([other, own])
        return np.stack([one(first) - one(second) for one in pooled], axis=-1)

    def unswapped(weights: np.ndarray) -> np.ndarray:
        return differences(weights, np.zeros_like(weights))

    by_seed = unswapped(np.ones((1, len(code))))[0]
    value = float(by_seed.mean())
    if np.isnan(value):
        return PairedTest(NO_NUMBER, np.nan, note="no value: a class is missing")
    drawn = np.empty((0, len(a)))
    if number > 1:
        drawn = _resampled(unswapped, code, number, resamples=resamples, seed=seed)
    means = drawn.mean(axis=1)
    found = _percentiles(value, means[~np.isnan(means)])
    rng, extreme = np.random.default_rng([seed, 1]), 0
    for size in _chunks(permutations, 2 * len(code)):
        swapped = rng.integers(2, size=(size, number))[:, code].astype(float)
        # The tolerance: equal differences may be summed in another order.
        found_so = differences(1 - swapped, swapped).mean(axis=1)
        extreme += int((np.abs(found_so) >= abs(value) - TIE).sum())
    method, p_method = over_seeds(by_seed, drawn)
    return PairedTest(found, (1 + extreme) / (1 + permutations), method, p_method)


def holm(p_values: ArrayLike) -> np.ndarray:
    """p-values of a family of tests, adjusted: reject those below alpha, and the chance of any
    false rejection is at most alpha, however the tests depend on each other.

    NaN (no test was possible) stays NaN and does not count.

    Raises:
        DataError: a p-value is not in [0, 1].

    Source: Holm 1979, https://www.jstor.org/stable/4615733. Taught in 08_downstream_tasks.
    """
    adjusted = np.array(p_values, dtype=float)
    tested = np.flatnonzero(~np.isnan(adjusted))
    if ((adjusted[tested] < 0) | (adjusted[tested] > 1)).any():
        raise DataError(f"A p-value lies outside of [0, 1]: {adjusted.tolist()}.")
    order = tested[np.argsort(adjusted[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(adjusted[order] * factors), 1)
    return adjusted


def _codes(patients: np.ndarray) -> tuple[np.ndarray, int]:
    """Each row's patient as 0, 1, ..., and how many patients there are."""
    names, code = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    return code, len(names)


def _chunks(number: int, columns: int) -> Iterator[int]:
    """Sizes that add up to `number`, so that [size, columns] stays within memory."""
    size = max(1, CHUNK // max(1, columns))
    yield from (min(size, number - start) for start in range(0, number, size))
