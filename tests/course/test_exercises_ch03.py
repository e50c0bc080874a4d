"""Exercises of chapter 3: a stub fails, a solution passes, wrong answers are told why."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from localmi.course import check


def stub(*_: Any) -> Any: ...


def off(scores: Tensor) -> Tensor:
    return scores[~torch.eye(len(scores), dtype=torch.bool)]


def log_pairs(scores: Tensor) -> float:
    return math.log(len(scores) * (len(scores) - 1))


@pytest.mark.parametrize("name", ["exercise_3_1", "exercise_3_2", "exercise_3_3"])
def test_a_stub_is_not_tried(name: str) -> None:
    assert getattr(check, name)(stub).status == "not tried yet"


class Seen:
    """An answer, and the number of pairs of each table that it was given."""

    def __init__(self, answer: Callable[..., Any]) -> None:
        self.answer = answer
        self.sizes: set[int] = set()

    def __call__(self, scores: Tensor, *more: Any) -> Any:
        self.sizes.add(len(scores))
        return self.answer(scores, *more)


def loop_mean(scores: Any, of: Callable[[float], float]) -> Any:
    """Mean of a function over the mismatched pairs, pair by pair."""
    K = len(scores)
    return sum(of(scores[i][j]) for i in range(K) for j in range(K) if i != j) / (K * (K - 1))


# 3.1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((0.414, 0.138), "top of the exact hill"),
        ((0.3, 0.138), "not where the mean gradient"),
        ((0.8, 0.138), "not where the mean gradient"),
        ((0.55, 0.113), "height of the exact hill"),
        ((0.55, 0.093), "the true DV of this critic"),
        ((0.55, 0.05), "above or below"),
        ((0.55, 0.2), "now plot it"),
        ((0.55,), "two numbers"),
        ("0.55", "two numbers"),
    ],
)
def test_predictions_that_are_wrong(answer: Any, words: str) -> None:
    verdict = check.exercise_3_1(answer)
    assert verdict.status == "not yet"
    assert words in verdict.words


def test_the_top_of_batches_of_four() -> None:
    generator = np.random.default_rng(3)
    x, noise = generator.standard_normal((2, 100_000, 4))
    both = x[:, :, None] * (x / 2 + math.sqrt(0.75) * noise)[:, None, :]
    mismatched = both[:, ~np.eye(4, dtype=bool)]
    thetas = np.linspace(0.4, 0.7, 13)
    curve = thetas / 2 - [np.log(np.exp(one * mismatched).mean(1)).mean() for one in thetas]
    assert check.exercise_3_1((thetas[curve.argmax()], curve.max())).passed


# 3.2


def smile(scores: Tensor, clip: float) -> Tensor:
    log_sum = off(scores).clamp(-clip, clip).logsumexp(0)
    return scores.diagonal().mean() - (log_sum - log_pairs(scores))


def objective(scores: Tensor, clip: float) -> Tensor:
    matched = functional.logsigmoid(scores.diagonal()).mean()
    return matched + functional.logsigmoid(-off(scores)).mean()


def upper_clip_only(scores: Tensor, clip: float) -> Tensor:
    log_sum = off(scores).clamp(max=clip).logsumexp(0)
    return scores.diagonal().mean() - (log_sum - log_pairs(scores))


def smile_in_numpy(scores: Tensor, clip: float) -> Any:
    table = np.asarray(scores)
    mismatched = table[~np.eye(len(table), dtype=bool)].clip(-clip, clip)
    return np.diag(table).mean() - np.log(np.exp(mismatched).mean())


def smile_by_loops(scores: Tensor, clip: float) -> float:
    rows: list[list[float]] = scores.tolist()
    mean = loop_mean(rows, lambda one: math.exp(max(-clip, min(clip, one))))
    return sum(rows[i][i] for i in range(len(rows))) / len(rows) - math.log(mean)


def smile_in_place(scores: Tensor, clip: float) -> Tensor:
    matched = scores.diagonal().mean()
    scores.clamp_(-clip, clip).fill_diagonal_(-math.inf)
    return matched - (scores.flatten().logsumexp(0) - log_pairs(scores))


@pytest.mark.parametrize(
    "answer",
    [
        smile,
        smile_in_numpy,
        smile_by_loops,
        smile_in_place,
        lambda s, t: np.array([smile_in_numpy(s, t)]),
    ],
)
def test_smiles_that_are_right(answer: Callable[[Tensor, float], Any]) -> None:
    seen = Seen(answer)
    assert check.exercise_3_2(seen).passed
    assert len(seen.sizes) > 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda s, t: smile(s.clamp(-t, t), t), "matched scores were clipped"),
        (lambda s, t: smile(s, math.inf), "this is DV"),
        (
            lambda s, t: (
                s.diagonal().mean() - s.clamp(-t, t).flatten().logsumexp(0) + 2 * math.log(len(s))
            ),
            "the diagonal is in",
        ),
        (lambda s, t: smile(s, t) - log_pairs(s) + 2 * math.log(len(s)), "not K^2"),
        (lambda s, t: smile(s, t) - log_pairs(s) + math.log(len(s)), "not log K"),
        (lambda s, t: smile(s, t) - log_pairs(s), "a log of a sum"),
        (lambda s, t: s.diagonal().mean() - off(s).clamp(-t, t).mean(), "not the mean of f"),
        (objective, "what is trained"),
        (upper_clip_only, "both sides"),
        (lambda s, t: smile(s, 5.0), "whatever tau"),
        (lambda s, t: smile(s, t) - log_pairs(s) + math.log(12), "another table"),
        (lambda s, t: smile(s, t) - s.diagonal().mean() + s.trace() / 4, "another table"),
        (lambda s, t: s.diagonal(), "one number"),
    ],
)
def test_smiles_that_are_wrong(answer: Callable[[Tensor, float], Any], words: str) -> None:
    verdict = check.exercise_3_2(answer)
    assert verdict.status == "not yet"
    assert words in verdict.words


# 3.3


def demi(logits: Tensor) -> Tensor:
    return logits.diagonal().mean() + math.log(len(logits) - 1)


def demi_by_loops(logits: Tensor) -> float:
    rows: list[list[float]] = logits.tolist()
    return sum(row[i] for i, row in enumerate(rows)) / len(rows) + math.log(len(rows) - 1)


@pytest.mark.parametrize(
    "answer",
    [
        demi,
        demi_by_loops,
        lambda s: np.diag(s.numpy()).mean() - np.log(1 / (len(s) - 1)),
        lambda s: torch.tensor([demi(s)]),
    ],
)
def test_demis_that_are_right(answer: Callable[[Tensor], Any]) -> None:
    seen = Seen(answer)
    assert check.exercise_3_3(seen).passed
    assert len(seen.sizes) > 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda s: s.diagonal().mean(), "forgotten"),
        (lambda s: s.diagonal().mean() - math.log(len(s) - 1), "the sign"),
        (lambda s: s.diagonal().mean() + math.log(len(s)), "log of the share"),
        (lambda s: s.diagonal().mean() + log_pairs(s), "1 : K - 1"),
        (lambda s: s.mean() + math.log(len(s) - 1), "not over all"),
        (lambda s: smile(s, math.inf), "this is DV"),
        (lambda s: s.diagonal(), "one number"),
        (lambda s: 0.0, "less log odds"),
        (lambda s: s.diagonal().mean() + math.log(3), "another table"),
        (lambda s: s.trace() / 4 + math.log(len(s) - 1), "another table"),
    ],
)
def test_demis_that_are_wrong(answer: Callable[[Tensor], Any], words: str) -> None:
    verdict = check.exercise_3_3(answer)
    assert verdict.status == "not yet"
    assert words in verdict.words


ANSWERS = {
    "exercise_3_1": [(0.55, 0.138), lambda: np.array([0.55, 0.138])],
    "exercise_3_2": [smile, smile_in_numpy, smile_by_loops, smile_in_place],
    "exercise_3_3": [demi, demi_by_loops],
}
SQUARE = {"exercise_3_2", "exercise_3_3"}  # scores [K, K]
