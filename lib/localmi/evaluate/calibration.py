"""Do 70 of 100 images with a probability of .7 have the finding? Taught in 08_downstream_tasks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from localmi.errors import ConfigError, DataError
from localmi.evaluate import weighted_statistics
from localmi.evaluate.task_arrays import checked_arrays
from localmi.statistics import NO_NUMBER, Interval, Statistic, bootstrap, mean_interval


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram of K bins of equal width, and its expected calibration error.

    edges: [K + 1]. count: [K] predictions, of all seeds.
    predicted: [K] their mean probability. observed: [K] intervals of the share of positives; both
        NaN in an empty bin.
    ece: mean over images of |observed - predicted| of the image's bin; of seeds, the mean.
    ece_if_calibrated: what the same probabilities would get if every one of them were right.
        Never 0 with finitely many images, and only what lies above it is miscalibration. The
        interval of the ECE is biased upwards in the same way.
    note: why there is no number; "" otherwise.
    """

    edges: np.ndarray
    count: np.ndarray
    predicted: np.ndarray
    observed: tuple[Interval, ...]
    ece: Interval
    ece_if_calibrated: float
    note: str = ""


def reliability(
    targets: ArrayLike,
    probabilities: ArrayLike,
    patients: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    bins: int = 10,
    resamples: int = 2000,
    seed: int = 0,
) -> Reliability:
    """The reliability diagram of one task and its ECE, with intervals over patients.

    Args:
        targets: [n] 0 or 1.
        probabilities: [n] or [S, n] in [0, 1].
        patients: [n].
        mask: [n] bool, labels that count; default all.
        bins: K. A probability on the border of two bins counts in the lower one.

    Raises:
        DataError: shapes that do not fit, targets other than 0 and 1, probabilities outside of
            [0, 1].
        ConfigError: no bin.

    Source: Guo et al. 2017, https://arxiv.org/abs/1706.04599 (ECE); Bröcker and Smith 2007,
    https://doi.org/10.1175/WAF993.1 (what a calibrated forecast gets). Taught in
    08_downstream_tasks.
    """
    if bins < 1:
        raise ConfigError(f"bins={bins}: a reliability diagram needs at least one.")
    table = checked_arrays(targets, probabilities, patients, mask)
    if table.scores.shape[2] != 1:
        raise DataError(f"{table.scores.shape[2]} columns of probabilities: give one at a time.")
    rows = table.labelled(0)
    target, values = table.targets[rows, 0].astype(float), table.scores[:, rows, 0]  # [S, m]
    if ((values < 0) | (values > 1)).any():
        raise DataError(
            f"Probabilities from {values.min():.3g} to {values.max():.3g}: they must lie in "
            "[0, 1]. Give the sigmoid, not the logits."
        )
    edges = np.linspace(0, 1, bins + 1)
    if not len(rows):
        empty = np.full(bins, np.nan)
        nothing = (NO_NUMBER,) * bins
        note = "no labelled image"
        return Reliability(edges, np.zeros(bins, int), empty, nothing, NO_NUMBER, np.nan, note)
    place = np.searchsorted(edges[1:-1], values)  # [S, m]
    owners = table.patients[rows]
    error = weighted_statistics.mean_of(
        [_error(target, *one, bins=bins) for one in zip(values, place, strict=True)]
    )
    count = np.bincount(place.ravel(), minlength=bins)
    predicted = np.bincount(place.ravel(), weights=values.ravel(), minlength=bins)
    return Reliability(
        edges=edges,
        count=count,
        predicted=np.divide(predicted, count, out=np.full(bins, np.nan), where=count > 0),
        observed=tuple(
            _observed(place == number, target, owners, resamples, seed) for number in range(bins)
        ),
        ece=bootstrap(error, owners, resamples=resamples, seed=seed).interval,
        ece_if_calibrated=_if_calibrated(values, place, bins, seed),
    )


def _error(target: np.ndarray, values: np.ndarray, place: np.ndarray, *, bins: int) -> Statistic:
    """ECE: sum over bins of |sum of (target - probability)|, over the number of images."""
    excess = np.eye(bins)[place] * (target - values)[:, None]  # [m, K]

    def of(weights: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.abs(weights @ excess).sum(axis=1) / weights.sum(axis=1)
        return found

    return of


def _observed(
    inside: np.ndarray, target: np.ndarray, owners: np.ndarray, resamples: int, seed: int
) -> Interval:
    """The share of positives of the predictions [S, m] that lie in a bin."""
    if not inside.any():
        return NO_NUMBER
    rows = np.nonzero(inside)[1]
    return mean_interval(target[rows], owners[rows], resamples=resamples, seed=seed)


def _if_calibrated(
    values: np.ndarray, place: np.ndarray, bins: int, seed: int, draws: int = 200
) -> float:
    """The mean ECE of targets that are drawn with the predicted probabilities."""
    rng, found = np.random.default_rng([seed, 2]), []
    for one, bin_of in zip(values, place, strict=True):
        excess = (rng.random((draws, len(one))) < one) - one  # [draws, m]
        found.append(np.abs(excess @ np.eye(bins)[bin_of]).sum(axis=1).mean() / len(one))
    return float(np.mean(found))
