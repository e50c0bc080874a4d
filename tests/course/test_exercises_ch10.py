"""Exercises of chapter 10: right answers pass in any way, wrong ones are told why."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from answers import refused
from scipy.stats import binom, binomtest

# 10.1


def standard_error(auc: float, positives: int, negatives: int) -> float:
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    between = (positives - 1) * (q1 - auc**2) + (negatives - 1) * (q2 - auc**2)
    return float(np.sqrt((auc * (1 - auc) + between) / (positives * negatives)))


def by_python_s_own(auc: float, positives: int, negatives: int) -> float:
    q1, q2, square = auc / (2 - auc), 2 * auc**2 / (1 + auc), auc**2
    parts = auc - square, (positives - 1) * (q1 - square), (negatives - 1) * (q2 - square)
    return math.sqrt(math.fsum(parts) / positives / negatives)


def standard_error_in_torch(auc: float, positives: int, negatives: int) -> torch.Tensor:
    a = torch.tensor(auc, dtype=torch.float64)
    of_positives = (positives - 1) * (a / (2 - a) - a**2)
    of_negatives = (negatives - 1) * (2 * a**2 / (1 + a) - a**2)
    return ((a * (1 - a) + of_positives + of_negatives) / (positives * negatives)).sqrt()


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


def by_tails(differences: np.ndarray) -> np.ndarray:
    wins, losses = np.count_nonzero(differences > 0), np.count_nonzero(differences < 0)
    return np.minimum(1, 2 * binom.cdf(min(wins, losses), wins + losses, 0.5))


def by_counting(differences: np.ndarray) -> float:
    signs = [one > 0 for one in differences.tolist() if one]
    n, fewer = len(signs), min(sum(signs), len(signs) - sum(signs))
    return min(1.0, 2 * sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n)


def sign_test_in_torch(differences: np.ndarray) -> torch.Tensor:
    signs = torch.from_numpy(differences).sign()
    n = int(signs.abs().sum())
    chance = torch.tensor([math.comb(n, k) for k in range(n + 1)]).double() / 2**n
    as_far = (2 * torch.arange(n + 1) - n).abs() >= signs.sum().abs()
    return chance[as_far].sum()


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


def verdict(difference: float, p_networks: float, p_method: float) -> str:
    if p_networks >= 0.05:
        return "open"
    if p_method >= 0.05:
        return "once"
    return "holds" if difference > 0 else "contradicted"


def by_sign(difference: float, p_networks: float, p_method: float) -> str:
    if p_networks < 0.05 <= p_method:
        return "once"
    return ("contradicted", "open", "holds")[int(np.sign(difference) * (p_networks < 0.05)) + 1]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda d, n, m: verdict(abs(d), n, m), "the other way"),
        (lambda d, n, m: "holds" if d > 0 else "contradicted", "contradicts nothing"),
        (lambda d, n, m: verdict(d, n, 0.0), "another seed"),
        (lambda d, n, m: "once" if m > 0.05 else verdict(d, n, m - 1e-9), "is not below .05"),
        (lambda d, n, m: verdict(d, 0.0, m), "0.4 of the method: open"),
        (lambda d, n, m: n < 0.05, "is none of"),
        (lambda d, n, m: "open", "0.01 of the method: holds"),
    ],
)
def test_wrong_verdicts(answer: Callable[..., Any], words: str) -> None:
    refused("exercise_10_3", answer, words)


ANSWERS = {
    "exercise_10_1": [standard_error, by_python_s_own, standard_error_in_torch],
    "exercise_10_2": [by_scipy, by_tails, by_counting, sign_test_in_torch],
    "exercise_10_3": [verdict, by_sign, lambda *both: np.str_(verdict(*both))],
}
