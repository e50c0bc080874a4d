"""Targets, scores, patients and masks of some tasks in one shape, checked at the door."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from localmi.errors import DataError, check_name
from localmi.evaluate import weighted_statistics
from localmi.statistics import Statistic

Metric = Literal["auc", "auprc"]
METRICS: Mapping[Metric, Callable[[np.ndarray, np.ndarray], Statistic]] = {
    "auc": weighted_statistics.auc,
    "auprc": weighted_statistics.average_precision,
}


@dataclass(frozen=True)
class TaskArrays:
    """One column a task.

    targets: [n, C] bool.
    scores: [S, n, C], of S seeds.
    patients: [n].
    mask: [n, C] bool, which labels count.
    """

    targets: np.ndarray
    scores: np.ndarray
    patients: np.ndarray
    mask: np.ndarray

    def both_classes(self) -> list[int]:
        """The tasks whose labelled images are of both classes."""
        positive = (self.targets & self.mask).any(axis=0)
        negative = (~self.targets & self.mask).any(axis=0)
        found: list[int] = np.flatnonzero(positive & negative).tolist()
        return found

    def labelled(self, task: int) -> np.ndarray:
        """The rows whose label counts."""
        return np.flatnonzero(self.mask[:, task])

    def statistic(self, metric: Metric, task: int) -> Statistic:
        """Of the labelled rows: the mean over the seeds.

        Raises:
            ConfigError: unknown metric.
        """
        check_name("metric", metric, METRICS)
        rows = self.labelled(task)
        targets = self.targets[rows, task]
        seeds = [METRICS[metric](targets, scores[rows, task]) for scores in self.scores]
        return weighted_statistics.mean_of(seeds)

    def ranks(self) -> np.ndarray:
        """[S, n, C] ranks among the images whose label counts, 0 elsewhere."""
        ranks = np.zeros_like(self.scores)
        for task in range(self.mask.shape[1]):
            rows = self.labelled(task)
            ranks[:, rows, task] = rankdata(self.scores[:, rows, task], axis=1)
        return ranks


def checked_arrays(
    targets: ArrayLike, scores: ArrayLike, patients: ArrayLike, mask: ArrayLike | None = None
) -> TaskArrays:
    """One shape for all: [n] becomes [n, 1], the scores of one model become one seed.

    Args:
        targets, mask: [n] or [n, C]; default mask: every label counts.
        scores: the same, or with seeds in front.
        patients: [n].

    Raises:
        DataError: shapes that do not fit, a target that is not 0 or 1, a score that is NaN.
    """
    wanted, values = np.asarray(targets, float), np.asarray(scores, float)
    counts = np.ones(wanted.shape, bool) if mask is None else np.asarray(mask, bool)
    owners = np.asarray(patients)
    seeds = values.shape[:1] if values.ndim == wanted.ndim + 1 else ()
    if (
        wanted.ndim not in (1, 2)
        or values.shape != seeds + wanted.shape
        or counts.shape != wanted.shape
        or owners.shape != wanted.shape[:1]
    ):
        raise DataError(
            f"Targets {wanted.shape}, scores {values.shape}, mask {counts.shape}, patients "
            f"{owners.shape}: expected [n] or [n, tasks] for the first three, scores with or "
            "without seeds in front, and [n] patients."
        )
    wrong = wanted[counts & ~np.isin(wanted, (0, 1))]
    if len(wrong):
        raise DataError(
            f"A target is {wrong[0]:g}; it must be 0 or 1. Mask the labels that do not count, "
            "see data.labels.label_targets."
        )
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise DataError(
            f"{bad} of {values.size} scores are NaN or infinite. Has the training diverged?"
        )
    if wanted.ndim == 1:
        wanted, values, counts = wanted[:, None], values[..., None], counts[:, None]
    by_seed = values if seeds else values[None]
    return TaskArrays(wanted == 1, by_seed, owners, counts)
