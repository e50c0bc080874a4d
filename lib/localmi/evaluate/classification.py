"""How well do scores tell classes apart? AUC and AUPRC with intervals, and paired tests.

Scores are [n] of one model, or [S, n] of S seeds: a statistic is then the mean over the seeds, and
its interval speaks of patients, not of seeds. Taught in 08_downstream_tasks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from localmi.errors import DataError, check_name
from localmi.evaluate import weighted_statistics
from localmi.evaluate.task_arrays import METRICS, Metric, TaskArrays, checked_arrays
from localmi.statistics import (
    NO_NUMBER,
    Interval,
    PairedTest,
    Statistic,
    bootstrap,
    paired_permutation,
)


@dataclass(frozen=True)
class BinaryMetrics:
    """One task with two classes.

    auc, auprc: NaN where the labelled images are all of one class.
    prevalence: of positives, which is also the AUPRC of a predictor that knows nothing.
    number: of labelled images.
    left_out: resamples that had only one class, so that the interval is without them.
    note: why there is no number, or that the predictor is constant; "" otherwise.
    """

    auc: Interval
    auprc: Interval
    prevalence: float
    number: int
    left_out: int = 0
    note: str = ""


@dataclass(frozen=True)
class MultiLabelMetrics:
    """Several tasks on the same images, by name, and the mean over those that have both classes.

    left_out: resamples in which one of these had only one class: the means' intervals are without.
    note: which tasks the mean leaves out, or why there is none; "" otherwise.
    """

    tasks: dict[str, BinaryMetrics]
    mean_auc: Interval
    mean_auprc: Interval
    left_out: int = 0
    note: str = ""


def binary_metrics(
    targets: ArrayLike,
    scores: ArrayLike,
    patients: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> BinaryMetrics:
    """AUC and AUPRC of one task.

    A constant predictor gets .5, with a note that says so; a class that is absent gives a result
    without numbers, and a note.

    Args:
        targets: [n] 0 or 1.
        scores: [n] or [S, n], higher for positives: any monotone map of them gives the same.
        patients: [n], resampled as wholes.
        mask: [n] bool, labels that count (`data.labels.label_targets`); default all.

    Raises:
        DataError: shapes that do not fit, a target that is not 0 or 1, a score that is NaN.

    Taught in 08_downstream_tasks.
    """
    table = checked_arrays(targets, scores, patients, mask)
    if table.scores.shape[2] != 1:
        raise DataError(f"{table.scores.shape[2]} columns of scores: use multi_label_metrics.")
    return _task(table, 0, resamples, seed)


def multi_label_metrics(
    targets: ArrayLike,
    scores: ArrayLike,
    patients: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    names: Sequence[str],
    resamples: int = 2000,
    seed: int = 0,
) -> MultiLabelMetrics:
    """AUC and AUPRC of each column, as `binary_metrics`, and their mean over the columns.

    Args:
        targets, mask: [n, C].
        scores: [n, C] or [S, n, C].
        names: [C] of the tasks.

    Raises:
        DataError: as `binary_metrics`.

    Taught in 08_downstream_tasks.
    """
    table = checked_arrays(targets, scores, patients, mask)
    if len(names) != table.scores.shape[2]:
        raise DataError(f"{len(names)} names for {table.scores.shape[2]} columns of scores.")
    tasks = {name: _task(table, index, resamples, seed) for index, name in enumerate(names)}
    able = table.both_classes()
    note = _without(names, able)
    if not able:
        return MultiLabelMetrics(tasks, NO_NUMBER, NO_NUMBER, note=note)
    auc, auprc = (
        bootstrap(_mean(table, metric, able), table.patients, resamples=resamples, seed=seed)
        for metric in METRICS
    )
    return MultiLabelMetrics(tasks, auc.interval, auprc.interval, auc.left_out, note)


def compare(
    targets: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    patients: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    metric: Metric = "auc",
    permutations: int = 10_000,
    resamples: int = 2000,
    seed: int = 0,
) -> PairedTest:
    """Is model a better than model b? A paired permutation test; several columns: of their mean.

    Both models' scores become ranks (within model, seed and task) before they are swapped: AUC
    and AUPRC are of ranks alone, and a difference of scale is no difference.

    Args:
        targets, mask: [n] or [n, C].
        a, b: [n], [S, n], [n, C] or [S, n, C], seed by seed.

    Returns:
        The difference a - b and p. Tasks without both classes are left out and noted by number.

    Raises:
        DataError: as `binary_metrics`, or the models do not have the same shape.
        ConfigError: unknown metric.

    Source: Venkatraman and Begg 1996, https://doi.org/10.1093/biomet/83.4.835 (ranks).
    Taught in 08_downstream_tasks.
    """
    check_name("metric", metric, METRICS)
    table, other = (checked_arrays(targets, scores, patients, mask) for scores in (a, b))
    able = table.both_classes()
    names = [str(number) for number in range(table.scores.shape[2])]
    if not able:
        return PairedTest(NO_NUMBER, np.nan, note=_without(names, able))
    make = METRICS[metric]

    def statistic(rows: np.ndarray, ranks: np.ndarray) -> Statistic:
        """Of predictions [m, C] for these rows [m]: the mean over the tasks."""
        parts = []
        for task in able:
            labelled = np.flatnonzero(table.mask[rows, task])
            target = table.targets[rows[labelled], task]
            parts.append(
                weighted_statistics.on_rows(make(target, ranks[labelled, task]), labelled)
            )
        return weighted_statistics.mean_of(parts)

    found = paired_permutation(
        statistic,
        table.ranks(),
        other.ranks(),
        table.patients,
        permutations=permutations,
        resamples=resamples,
        seed=seed,
    )
    return replace(found, note=found.note or _without(names, able))


def _mean(table: TaskArrays, metric: Metric, able: Sequence[int]) -> Statistic:
    """Of all rows: the mean over tasks, each on the images whose label counts."""
    return weighted_statistics.mean_of(
        [
            weighted_statistics.on_rows(table.statistic(metric, task), table.labelled(task))
            for task in able
        ]
    )


def _without(names: Sequence[str], able: Sequence[int]) -> str:
    """Which tasks cannot be counted."""
    missing = [name for index, name in enumerate(names) if index not in able]
    if not missing:
        return ""
    if not able:
        return "no value: no task has labelled images of both classes"
    return f"without {', '.join(missing)}: not both classes among the labelled images"


def _task(table: TaskArrays, task: int, resamples: int, seed: int) -> BinaryMetrics:
    rows = table.labelled(task)
    number, positives = len(rows), int(table.targets[rows, task].sum())
    if number == 0:
        return BinaryMetrics(NO_NUMBER, NO_NUMBER, np.nan, 0, note="no labelled image")
    prevalence = positives / number
    if positives in (0, number):
        absent = "negative" if positives else "positive"
        note = f"no {absent} among {number} labelled images: there is no AUC, no AUPRC"
        return BinaryMetrics(NO_NUMBER, NO_NUMBER, prevalence, number, note=note)
    patients = table.patients[rows]
    auc, auprc = (
        bootstrap(table.statistic(metric, task), patients, resamples=resamples, seed=seed)
        for metric in METRICS
    )
    note = _constant(table.scores[:, rows, task])
    return BinaryMetrics(auc.interval, auprc.interval, prevalence, number, auc.left_out, note)


def _constant(scores: np.ndarray) -> str:
    """[S, n]: whether a predictor says the same of every image."""
    constant = int((np.ptp(scores, axis=1) == 0).sum())
    if not constant:
        return ""
    of = "" if len(scores) == 1 else f" in {constant} of {len(scores)} seeds"
    return f"constant predictor{of}: every image has the same score"
