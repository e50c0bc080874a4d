"""Severity of edema, 0 to 3: the paper's three AUCs from the tails of a softmax, and kappa."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from localmi.errors import DataError
from localmi.evaluate import weighted_statistics
from localmi.evaluate.classification import NO_NUMBER, MultiLabelMetrics, multi_label_metrics
from localmi.statistics import Interval, bootstrap

EDEMA_TASKS = ("0 v 1-3", "0-1 v 2-3", "0-2 v 3")
LEVELS = 4


@dataclass(frozen=True)
class EdemaMetrics:
    """Levels 0 to 3: the three AUCs of `EDEMA_TASKS`, and quadratic kappa of the likeliest level.

    note: why there is no kappa; "" otherwise.
    """

    tails: MultiLabelMetrics
    kappa: Interval
    note: str = ""


def edema_metrics(
    levels: ArrayLike,
    probabilities: ArrayLike,
    patients: ArrayLike,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> EdemaMetrics:
    """The paper's three AUCs of edema severity, and quadratic kappa.

    Args:
        levels: [n] 0 to 3; NaN, not graded, does not count.
        probabilities: [n, 4] or [S, n, 4], a softmax.

    Raises:
        DataError: another level, or rows that are no probabilities.

    Source: paper, Table 2. Taught in 08_downstream_tasks.
    """
    targets, mask = edema_targets(levels)
    tails = edema_tails(probabilities)
    limits = {"resamples": resamples, "seed": seed}
    found = multi_label_metrics(targets, tails, patients, mask, names=EDEMA_TASKS, **limits)
    graded = np.flatnonzero(mask[:, 0])
    if not len(graded):
        return EdemaMetrics(found, NO_NUMBER, "no graded image")
    truth = np.asarray(levels, float)[graded].astype(int)
    values = np.asarray(probabilities, float)
    by_seed = values if values.ndim == 3 else values[None]  # [S, n, 4]
    kappa = weighted_statistics.mean_of(
        [
            weighted_statistics.quadratic_kappa(truth, one[graded].argmax(axis=1), levels=LEVELS)
            for one in by_seed
        ]
    )
    interval = bootstrap(kappa, np.asarray(patients)[graded], **limits).interval
    note = "" if np.isfinite(interval.value) else "no kappa: all are of one level, truth and guess"
    return EdemaMetrics(found, interval, note)


def edema_targets(levels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Levels [n] as targets and mask [n, 3] of `EDEMA_TASKS`: is it at least 1, 2, 3?

    Raises:
        DataError: a level other than 0 to 3 or NaN.
    """
    values = np.asarray(levels, float)
    graded = ~np.isnan(values)
    wrong = values[graded & ~np.isin(values, range(LEVELS))]
    if values.ndim != 1 or len(wrong):
        found = f"shape {values.shape}" if values.ndim != 1 else f"a level of {wrong[0]:g}"
        raise DataError(
            f"Levels of edema must be [n] of 0, 1, 2, 3, or NaN where not graded; found {found}."
        )
    return values[:, None] >= np.arange(1, LEVELS), np.repeat(graded[:, None], LEVELS - 1, axis=1)


def edema_tails(probabilities: ArrayLike) -> np.ndarray:
    """P(level >= 1), P(>= 2), P(>= 3): [..., 4] -> [..., 3], the scores of `EDEMA_TASKS`.

    Raises:
        DataError: no softmax over four levels.
    """
    values = np.asarray(probabilities, float)
    if values.shape[-1:] != (LEVELS,) or not (
        (values >= 0).all() and np.allclose(values.sum(axis=-1), 1, atol=1e-3)
    ):
        raise DataError(
            f"Expected probabilities of four levels in each row, [n, 4], found {values.shape} "
            "with negative numbers or sums other than 1. Give the softmax, not the logits."
        )
    return values[..., :0:-1].cumsum(axis=-1)[..., ::-1]
