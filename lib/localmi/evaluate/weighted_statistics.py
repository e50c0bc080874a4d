"""Statistics of weighted rows, for thousands of resamples at once.

Each function takes the data once (and sorts them once) and gives a `Statistic`: weights [R, n] ->
[R]. On weights of 1 it is what scikit-learn or numpy computes. NaN: a class has no weight.
Taught in 08_downstream_tasks.
"""

from collections.abc import Sequence

import numpy as np

from localmi.statistics import Statistic


def auc(targets: np.ndarray, scores: np.ndarray) -> Statistic:
    """Area under the ROC curve: the chance that a positive scores above a negative; ties half.

    Args:
        targets: [n] bool or 0/1.
        scores: [n], higher for positives.
    """
    positive = np.flatnonzero(targets)
    negative = np.flatnonzero(np.logical_not(targets))
    negative = negative[np.argsort(scores[negative], kind="stable")]
    below = np.searchsorted(scores[negative], scores[positive], side="left")
    up_to = np.searchsorted(scores[negative], scores[positive], side="right")

    def of(weights: np.ndarray) -> np.ndarray:
        number = _cumulative(weights[:, negative])  # [R, 1 + negatives], lowest scores first
        won = (weights[:, positive] * (number[:, below] + number[:, up_to])).sum(axis=1) / 2
        return _divided(won, weights[:, positive].sum(axis=1) * number[:, -1])

    return of


def average_precision(targets: np.ndarray, scores: np.ndarray) -> Statistic:
    """Area under the precision-recall curve, by steps (scikit-learn's average precision).

    NaN without negatives too: it would be 1 whatever the scores.

    Args:
        targets: [n] bool or 0/1.
        scores: [n], higher for positives.
    """
    order = np.argsort(-scores, kind="stable")
    positive = np.asarray(targets, dtype=bool)[order]
    descending = -scores[order]
    ends = np.searchsorted(descending, descending[positive], side="right")  # of each tie

    def of(weights: np.ndarray) -> np.ndarray:
        weights = weights[:, order]
        hits, number = _cumulative(weights * positive), _cumulative(weights)
        precision = _divided(hits[:, ends], number[:, ends])
        found = np.nansum(weights[:, positive] * precision, axis=1)
        both = (hits[:, -1] > 0) & (hits[:, -1] < number[:, -1])
        return np.where(both, _divided(found, hits[:, -1]), np.nan)

    return of


def quadratic_kappa(truth: np.ndarray, predicted: np.ndarray, *, levels: int) -> Statistic:
    """Cohen's kappa with quadratic weights (Cohen 1968): 1 agrees, 0 is what chance gives.

    NaN where truth and prediction are all of one and the same level.

    Args:
        truth, predicted: [n] int, levels 0 .. levels - 1.
    """
    cells = np.eye(levels**2)[np.asarray(truth, int) * levels + np.asarray(predicted, int)]
    grade = np.arange(levels)
    cost = (grade[:, None] - grade) ** 2  # [L, L]

    def of(weights: np.ndarray) -> np.ndarray:
        table = (weights @ cells).reshape(-1, levels, levels)
        chance = table.sum(axis=2)[:, :, None] * table.sum(axis=1)[:, None, :]
        observed = (cost * table).sum(axis=(1, 2)) * table.sum(axis=(1, 2))
        return 1 - _divided(observed, (cost * chance).sum(axis=(1, 2)))

    return of


def median(values: np.ndarray) -> Statistic:
    """The median; between two middle values their mean, as numpy has it.

    Args:
        values: [n].
    """
    order = np.argsort(values, kind="stable")

    def of(weights: np.ndarray) -> np.ndarray:
        number = weights[:, order].cumsum(axis=1)
        half = number[:, -1:] / 2
        lower, upper = (number >= half).argmax(axis=1), (number > half).argmax(axis=1)
        middle: np.ndarray = (values[order[lower]] + values[order[upper]]) / 2
        return middle

    return of


def precision_at(relevant: np.ndarray, scores: np.ndarray, k: int) -> Statistic:
    """Share of the relevant among the k rows with the highest scores.

    Of rows that tie across the border each counts by its share of the places that are left: the
    mean over all orders of the ties. NaN with fewer than k rows.

    Args:
        relevant: [n] bool or 0/1.
        scores: [n].
    """
    _, tie = np.unique(-scores, return_inverse=True)  # 0 for the highest
    order = np.argsort(tie, kind="stable")
    starts = np.unique(tie[order], return_index=True)[1]

    def of(weights: np.ndarray) -> np.ndarray:
        weights = weights[:, order]
        size = np.add.reduceat(weights, starts, axis=1)  # [R, ties]
        hits = np.add.reduceat(weights * relevant[order], starts, axis=1)
        end = size.cumsum(axis=1)
        taken = np.clip(k - (end - size), 0, size)
        share = np.nansum(taken * _divided(hits, size), axis=1) / k
        return np.where(end[:, -1] >= k, share, np.nan)

    return of


def on_rows(statistic: Statistic, rows: np.ndarray) -> Statistic:
    """A statistic of some rows, as one of all: `rows` [n] bool, or the row numbers."""
    return lambda weights: statistic(weights[:, rows])


def mean_of(statistics: Sequence[Statistic]) -> Statistic:
    """The mean of statistics of the same rows (seeds, tasks); NaN where one of them is."""

    def of(weights: np.ndarray) -> np.ndarray:
        values: np.ndarray = np.mean([one(weights) for one in statistics], axis=0)
        return values

    return of


def _cumulative(weights: np.ndarray) -> np.ndarray:
    """[R, m] -> [R, 1 + m], sums of the first 0, 1, ... m."""
    return np.pad(weights.cumsum(axis=1), ((0, 0), (1, 0)))


def _divided(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """NaN where there is nothing to divide by."""
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)
