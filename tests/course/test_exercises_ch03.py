"""Exercises of chapter 3: a stub fails, a solution passes, wrong answers are told why."""

import math
from collections.abc import Callable
from typing import Any

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


# 3.1


def surrogate(scores: Tensor, log_average: Tensor) -> Tensor:
    return scores.diagonal().mean() - (off(scores) - log_average).exp().mean()


def in_log_space(scores: Tensor, log_average: Tensor) -> Tensor:
    log_mean = off(scores).logsumexp(0) - log_pairs(scores)
    return scores.diagonal().mean() - (log_mean - log_average).exp()


@pytest.mark.parametrize("answer", [surrogate, in_log_space])
def test_surrogates_that_are_right(answer: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert check.exercise_3_1(answer).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            lambda s, a: s.diagonal().mean() - (off(s).logsumexp(0) - log_pairs(s)),
            "gradient of DV",
        ),
        (lambda s, a: s.diagonal().mean() - off(s).exp().mean(), "not divided"),
        (lambda s, a: s.diagonal().mean() - (s - a).exp().mean(), "leave the diagonal out"),
        (lambda s, a: s.diagonal().mean() - (off(s) - a).exp().sum() / len(s) ** 2, "not K^2"),
        (lambda s, a: s.diagonal().mean() - (off(s) - a).exp().sum(), "take their mean"),
        (lambda s, a: s.diagonal().mean() - off(s).exp().mean() / a, "the log of the average"),
        (lambda s, a: s.diagonal().mean() + (off(s) - a).exp().mean(), "must fall"),
        (lambda s, a: -surrogate(s, a), "the sign"),
        (lambda s, a: surrogate(s, a).detach(), "carries a gradient"),
    ],
)
def test_surrogates_that_are_wrong(answer: Callable[[Tensor, Tensor], Any], words: str) -> None:
    verdict = check.exercise_3_1(answer)
    assert verdict.status == "not yet"
    assert words in verdict.words


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


def test_smile() -> None:
    assert check.exercise_3_2(smile).passed


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


def test_demi() -> None:
    assert check.exercise_3_3(demi).passed


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
    ],
)
def test_demis_that_are_wrong(answer: Callable[[Tensor], Any], words: str) -> None:
    verdict = check.exercise_3_3(answer)
    assert verdict.status == "not yet"
    assert words in verdict.words
