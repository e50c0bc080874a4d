"""Exercises of chapter 10: a stub fails, a solution passes, wrong answers are told why."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from answers import refused, stub
from scipy.stats import binomtest

from localmi.course import check

NAMES = ["exercise_10_1", "exercise_10_2", "exercise_10_3"]


@pytest.mark.parametrize("name", NAMES)
def test_a_stub_is_not_tried(name: str) -> None:
    assert getattr(check, name)(stub).status == "not tried yet"


# 10.1


def standard_error(auc: float, positives: int, negatives: int) -> float:
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    between = (positives - 1) * (q1 - auc**2) + (negatives - 1) * (q2 - auc**2)
    return float(np.sqrt((auc * (1 - auc) + between) / (positives * negatives)))


def test_a_standard_error_that_is_right() -> None:
    assert check.exercise_10_1(standard_error).passed


def test_the_formula_agrees_with_resampling() -> None:
    """On normal scores, for which it was made to be close."""
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(1.19, 1, (4000, 40)), rng.normal(0, 1, (4000, 60))
    aucs = (positive[:, :, None] > negative[:, None]).mean(axis=(1, 2))
    assert standard_error(0.8, 40, 60) == pytest.approx(aucs.std(), rel=0.06)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda a, p, n: standard_error(a, p, n) ** 2, "take its root"),
        (lambda a, p, n: standard_error(a, n, p), "changed places"),
        (lambda a, p, n: np.sqrt(a * (1 - a) / (p + n)), "a share of images"),
        (lambda a, p, n: np.sqrt(a * (1 - a) / (p * n)), "terms with Q1 and Q2"),
        (lambda a, p, n: 0.05, "should give"),
    ],
)
def test_wrong_standard_errors(answer: Callable[..., float], words: str) -> None:
    refused("exercise_10_1", answer, words)


# 10.2


def by_scipy(differences: np.ndarray) -> float:
    wins, losses = (differences > 0).sum(), (differences < 0).sum()
    return float(binomtest(int(wins), int(wins + losses)).pvalue)


def test_a_sign_test_that_is_right() -> None:
    assert check.exercise_10_2(by_scipy).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda d: by_scipy(d) / 2, "one side"),
        (lambda d: binomtest(int((d > 0).sum()), len(d)).pvalue, "favours nobody"),
        (lambda d: binomtest(int((d >= 0).sum()), len(d)).pvalue, "no win"),
        (lambda d: (d > 0).sum() / (d != 0).sum(), "share of wins"),
        (lambda d: 2 * 7 * 0.5**7, "exactly 6"),
        (lambda d: "p", "one number"),
    ],
)
def test_wrong_sign_tests(answer: Callable[..., Any], words: str) -> None:
    refused("exercise_10_2", answer, words)


# 10.3


def verdict(difference: float, p_holm: float) -> str:
    if p_holm >= 0.05:
        return "open"
    return "holds" if difference > 0 else "contradicted"


def test_a_verdict_that_is_right() -> None:
    assert check.exercise_10_3(verdict).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda d, p: "holds" if p < 0.05 else "open", "the other way"),
        (lambda d, p: "holds" if d > 0 else "contradicted", "contradicts nothing"),
        (lambda d, p: "open" if p > 0.05 else verdict(d, p - 1e-9), "is not below .05"),
        (lambda d, p: p < 0.05, "is none of"),
        (lambda d, p: "open", "difference +0.04, p = 0.001: holds"),
    ],
)
def test_wrong_verdicts(answer: Callable[..., Any], words: str) -> None:
    refused("exercise_10_3", answer, words)
