"""Weighted statistics against scikit-learn, numpy, and loops, to 1e-9."""

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, cohen_kappa_score, roc_auc_score

from localmi.evaluate import weighted_statistics


@st.composite
def scored(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets with both classes, scores with ties, integer weights with zeros."""
    number = draw(st.integers(2, 25))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    scores = rng.integers(0, draw(st.integers(1, 30)), size=number) / 7
    targets, weights = rng.integers(2, size=number), rng.integers(0, 4, size=number)
    assume(0 < (weights * targets).sum() < weights.sum())
    return targets, scores, weights


def auc_by_loop(targets: np.ndarray, scores: np.ndarray) -> float:
    wins = [
        (positive > negative) + 0.5 * (positive == negative)
        for positive in scores[targets == 1]
        for negative in scores[targets == 0]
    ]
    return float(np.mean(wins))


@settings(max_examples=40, deadline=None)
@given(scored())
def test_auc_and_average_precision_equal_scikit_learn(
    data: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    targets, scores, weights = data
    auc, precision = (
        weighted_statistics.auc(targets, scores),
        weighted_statistics.average_precision(targets, scores),
    )
    both = np.stack([weights, np.ones(len(weights))]).astype(float)
    for row, found_auc, found_precision in zip(both, auc(both), precision(both), strict=True):
        assert found_auc == pytest.approx(
            roc_auc_score(targets, scores, sample_weight=row), abs=1e-9
        )
        assert found_precision == pytest.approx(
            average_precision_score(targets, scores, sample_weight=row), abs=1e-9
        )
    drawn = np.repeat(np.arange(len(weights)), weights)  # a weight is how often a row was drawn
    loop = auc_by_loop(targets[drawn], scores[drawn])
    assert auc(weights[None].astype(float))[0] == pytest.approx(loop, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(scored(), st.sampled_from([np.exp, np.cbrt, lambda x: 3 * x - 100]))
def test_a_monotone_map_of_the_scores_changes_nothing(
    data: tuple[np.ndarray, np.ndarray, np.ndarray], shape: np.ufunc
) -> None:
    targets, scores, weights = data
    rows = weights[None].astype(float)
    for statistic in (weighted_statistics.auc, weighted_statistics.average_precision):
        found = statistic(targets, shape(scores))(rows)
        assert found == pytest.approx(statistic(targets, scores)(rows), abs=1e-12)
    assert weighted_statistics.auc(targets, -scores)(rows) == pytest.approx(
        1 - weighted_statistics.auc(targets, scores)(rows), abs=1e-12
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_kappa_equals_scikit_learn(seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(levels, size=(2, 20))
    weights = rng.integers(0, 4, size=20).astype(float)
    assume(len(set(truth[weights > 0])) > 1)
    found = weighted_statistics.quadratic_kappa(truth, predicted, levels=levels)(weights[None])[0]
    wanted = cohen_kappa_score(truth, predicted, weights="quadratic", sample_weight=weights)
    assert found == pytest.approx(wanted, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 12))
def test_median_equals_numpy_on_repeated_values(seed: int, number: int) -> None:
    rng = np.random.default_rng(seed)
    values, weights = rng.integers(0, 6, size=number) / 2, rng.integers(0, 4, size=number)
    assume(weights.sum() > 0)
    found = weighted_statistics.median(values)(weights[None].astype(float))[0]
    assert found == pytest.approx(np.median(np.repeat(values, weights)))


def test_precision_at_k_is_the_mean_over_all_orders_of_ties() -> None:
    relevant, scores = np.array([1, 0, 1, 1, 0, 0]), np.array([2.0, 2.0, 1.0, 1.0, 1.0, 0.0])
    for k in range(1, 7):
        orders = [
            order
            for order in permutations(range(6))
            if all(scores[first] >= scores[second] for first, second in pairwise(order))
        ]
        wanted = np.mean([relevant[list(order[:k])].mean() for order in orders])
        found = weighted_statistics.precision_at(relevant, scores, k)(np.ones((1, 6)))[0]
        assert found == pytest.approx(wanted, abs=1e-12)


def test_precision_at_k_counts_weights_as_copies() -> None:
    rng = np.random.default_rng(0)
    relevant, scores, weights = (
        rng.integers(2, size=8),
        rng.integers(4, size=8),
        rng.integers(3, size=8),
    )
    copies = np.repeat(np.arange(8), weights)
    for k in (1, 3, len(copies)):
        found = weighted_statistics.precision_at(relevant, scores, k)(weights[None].astype(float))
        wanted = weighted_statistics.precision_at(relevant[copies], scores[copies], k)(
            np.ones((1, len(copies)))
        )
        assert found == pytest.approx(wanted, abs=1e-12)
    too_many = weighted_statistics.precision_at(relevant, scores, len(copies) + 1)
    assert np.isnan(too_many(weights[None].astype(float)))


def test_without_one_class_there_is_no_value() -> None:
    targets, scores = np.array([0, 0, 1]), np.array([0.1, 0.2, 0.3])
    weights = np.array([[1.0, 1, 0], [0, 0, 1], [1, 0, 1]])
    for statistic in (weighted_statistics.auc, weighted_statistics.average_precision):
        assert np.isnan(statistic(targets, scores)(weights)).tolist() == [True, True, False]
    same = weighted_statistics.quadratic_kappa(np.array([1, 1]), np.array([1, 1]), levels=4)
    assert np.isnan(same(np.ones((1, 2)))[0])


def test_means_and_rows() -> None:
    targets, scores = np.array([0, 1, 0, 1]), np.array([0.0, 1.0, 2.0, 3.0])
    all_rows = weighted_statistics.auc(targets, scores)
    first = weighted_statistics.on_rows(
        weighted_statistics.auc(targets[:2], scores[:2]), np.array([0, 1])
    )
    ones = np.ones((1, 4))
    assert weighted_statistics.mean_of([all_rows, first])(ones) == pytest.approx((0.75 + 1) / 2)
    none = weighted_statistics.on_rows(
        weighted_statistics.auc(targets[:1], scores[:1]), np.array([0])
    )
    assert np.isnan(weighted_statistics.mean_of([all_rows, none])(ones))
