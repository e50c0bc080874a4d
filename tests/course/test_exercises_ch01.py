"""Exercises of chapter 1: a stub fails, a solution passes, wrong answers are told why."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from localmi.course import check
from localmi.course.exercises.ch01 import Array


def stub(*_: Any) -> Any: ...


@pytest.mark.parametrize("name", ["exercise_1_1", "exercise_1_2", "exercise_1_3"])
def test_a_stub_is_not_tried(name: str) -> None:
    assert getattr(check, name)(stub).status == "not tried yet"


def entropy(p: Array) -> float:
    p = p[p > 0]
    return -float((p * np.log(p)).sum())


# 1.1


def by_entropies(table: Array) -> float:
    return entropy(table.sum(axis=1)) + entropy(table.sum(axis=0)) - entropy(table)


def by_ratio(table: Array) -> float:
    of_both = np.outer(table.sum(axis=1), table.sum(axis=0))
    some = table > 0
    return float((table[some] * np.log(table[some] / of_both[some])).sum())


def with_zeros(table: Array) -> float:
    of_both = np.outer(table.sum(axis=1), table.sum(axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return float((table * np.log(table / of_both)).sum())


def log_ratio(table: Array) -> Array:
    return np.log(table / np.outer(table.sum(axis=1), table.sum(axis=0)))


@pytest.mark.parametrize("answer", [by_entropies, by_ratio])
def test_information_that_is_right(answer: Callable[[Array], float]) -> None:
    assert check.exercise_1_1(answer).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda p: by_entropies(p) / np.log(2), "bits"),
        (lambda p: -by_entropies(p), "the sign"),
        (lambda p: -(np.outer(p.sum(1), p.sum(0)) * log_ratio(p)).sum(), "not symmetric"),
        (lambda p: log_ratio(p).mean(), "weigh it by p(x, y)"),
        (entropy, "H(X, Y)"),
        (lambda p: entropy(p.sum(1)) + entropy(p.sum(0)), "take H(X, Y) off"),
        (lambda p: entropy(p) - entropy(p.sum(1)), "H(Y | X)"),
        (lambda p: entropy(p) - entropy(p.sum(0)), "H(X | Y)"),
        (with_zeros, "0 log 0"),
        (lambda p: 0.0, "has I(X; Y)"),
        (lambda p: p, "one number"),
        (lambda p: "much", "one number"),
    ],
)
def test_information_that_is_wrong(answer: Callable[[Array], Any], words: str) -> None:
    verdict = check.exercise_1_1(answer)
    assert verdict.status == "not yet"
    assert words in verdict.words


# 1.2


def conditional(p: Array) -> float:
    """By the chain rule: I(X; Y | Z) = I(X; Y, Z) - I(X; Z)."""
    return by_entropies(p.reshape(len(p), -1)) - by_entropies(p.sum(axis=1))


def slices(p: Array) -> Array:
    weight = p.sum(axis=(0, 1))
    return np.array([by_entropies(p[:, :, z] / weight[z]) for z in range(p.shape[2])])


def slice_by_slice(p: Array) -> float:
    return float(slices(p) @ p.sum(axis=(0, 1)))


def without_p_of_z(p: Array, sign: int = 1) -> float:
    return slice_by_slice(p) + sign * entropy(p.sum(axis=(0, 1)))


def zeros_in_slices(p: Array) -> float:
    weight = p.sum(axis=(0, 1))
    return sum(weight[z] * with_zeros(p[:, :, z] / weight[z]) for z in range(p.shape[2]))


@pytest.mark.parametrize("answer", [conditional, slice_by_slice])
def test_conditional_information_that_is_right(answer: Callable[[Array], float]) -> None:
    assert check.exercise_1_2(answer).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda p: by_entropies(p.sum(axis=2)), "summed out"),
        (lambda p: slices(p).mean(), "every z counts alike"),
        (lambda p: slices(p).sum(), "are added"),
        (without_p_of_z, "H(Z) too much"),
        (lambda p: without_p_of_z(p, -1), "H(Z) too little"),
        (lambda p: by_entropies(p.reshape(2, 4)), "the whole"),
        (lambda p: by_entropies(p.transpose(1, 0, 2).reshape(2, 4)), "take I(Z; Y) off"),
        (lambda p: conditional(p) / np.log(2), "bits"),
        (zeros_in_slices, "leave them out"),
        (lambda p: 0.0, "two slices"),
    ],
)
def test_conditional_information_that_is_wrong(answer: Callable[[Array], Any], words: str) -> None:
    verdict = check.exercise_1_2(answer)
    assert verdict.status == "not yet"
    assert words in verdict.words


# 1.3


def log_det(block: Array) -> float:
    return float(np.linalg.slogdet(block)[1])


def gaussian(covariance: Array, dim_x: int) -> float:
    x, y = covariance[:dim_x, :dim_x], covariance[dim_x:, dim_x:]
    return (log_det(x) + log_det(y) - log_det(covariance)) / 2


def by_canonical_correlations(covariance: Array, dim_x: int) -> float:
    root_x, root_y = (
        np.linalg.inv(np.linalg.cholesky(block))
        for block in (covariance[:dim_x, :dim_x], covariance[dim_x:, dim_x:])
    )
    found = np.linalg.svd(root_x @ covariance[:dim_x, dim_x:] @ root_y.T, compute_uv=False)
    return float(-np.log1p(-np.square(found)).sum() / 2)


def by_determinants(covariance: Array, dim_x: int) -> float:
    det = np.linalg.det
    with np.errstate(all="ignore"):
        parts = det(covariance[:dim_x, :dim_x]) * det(covariance[dim_x:, dim_x:])
        return float(np.log(parts / det(covariance)) / 2)


def without_log(covariance: Array, dim_x: int) -> float:
    det = np.linalg.det
    of_x, of_y = det(covariance[:dim_x, :dim_x]), det(covariance[dim_x:, dim_x:])
    return float(of_x + of_y - det(covariance)) / 2


def ratio_of_determinants(covariance: Array, dim_x: int) -> float:
    det = np.linalg.det
    of_x, of_y = det(covariance[:dim_x, :dim_x]), det(covariance[dim_x:, dim_x:])
    return float(of_x * of_y / det(covariance))


def coordinate_by_coordinate(covariance: Array, dim_x: int) -> float:
    scale = np.sqrt(covariance.diagonal())
    cross = (covariance / np.outer(scale, scale))[:dim_x, dim_x:]
    return float(-np.log1p(-np.square(cross)).sum() / 2)


def from_variances(covariance: Array, dim_x: int) -> float:
    return (float(np.log(covariance.diagonal()).sum()) - log_det(covariance)) / 2


@pytest.mark.parametrize("answer", [gaussian, by_canonical_correlations])
def test_gaussian_information_that_is_right(answer: Callable[[Array, int], float]) -> None:
    assert check.exercise_1_3(answer).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda c, d: 2 * gaussian(c, d), "half of it"),
        (lambda c, d: -gaussian(c, d), "the sign"),
        (lambda c, d: gaussian(c, d) / np.log(2), "bits"),
        (without_log, "their logarithms"),
        (ratio_of_determinants, "the logarithm is missing"),
        (coordinate_by_coordinate, "as if they were independent"),
        (from_variances, "inside x"),
        (lambda c, d: gaussian(c, len(c) - d), "the first dim_x"),
        (by_determinants, "slogdet"),
        (lambda c, d: 0.0, "x of two dimensions"),
    ],
)
def test_gaussian_information_that_is_wrong(
    answer: Callable[[Array, int], Any], words: str
) -> None:
    verdict = check.exercise_1_3(answer)
    assert verdict.status == "not yet"
    assert words in verdict.words
