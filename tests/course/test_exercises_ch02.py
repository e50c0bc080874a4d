"""Exercises of chapter 2: a stub fails, a solution passes, wrong answers are told why."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from localmi.course import check
from localmi.mi import bounds


def stub(*_: Any) -> Any: ...


@pytest.mark.parametrize("name", ["exercise_2_1", "exercise_2_2", "exercise_2_3"])
def test_a_stub_is_not_tried(name: str) -> None:
    assert getattr(check, name)(stub).status == "not tried yet"


def test_a_pair_that_is_not_filled_in_is_not_tried() -> None:
    assert check.exercise_2_2((..., ...)).status == "not tried yet"
    assert check.exercise_2_2((1, ...)).status == "not tried yet"


def mismatched(scores: Tensor) -> Tensor:
    size = len(scores)
    return scores[~torch.eye(size, dtype=torch.bool)].reshape(size, size - 1)


# 2.1


def dv_by_mask(scores: Tensor) -> Tensor:
    others = scores.masked_fill(torch.eye(len(scores), dtype=torch.bool), -math.inf)
    count = len(scores) * (len(scores) - 1)
    return scores.diagonal().mean() - (others.flatten().logsumexp(0) - math.log(count))


def dv_with_exp(scores: Tensor) -> Tensor:
    return scores.diagonal().mean() - mismatched(scores).exp().mean().log()


def dv_over(count: float, with_diagonal: bool = False) -> Callable[[Tensor], Tensor]:
    def wrong(scores: Tensor) -> Tensor:
        pairs = scores if with_diagonal else mismatched(scores)
        return scores.diagonal().mean() - (pairs.flatten().logsumexp(0) - math.log(count))

    return wrong


@pytest.mark.parametrize("answer", [dv_by_mask, bounds.dv])
def test_dv_that_is_right(answer: Callable[[Tensor], Tensor]) -> None:
    assert check.exercise_2_1(answer).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (dv_over(16, with_diagonal=True), "the diagonal is left in the denominator"),
        (dv_over(12, with_diagonal=True), "though not in the count"),
        (dv_over(16), "K squared"),
        (dv_over(4), "log K in place of log K (K - 1)"),
        (dv_over(3), "one row only"),
        (dv_over(1), "the log of the sum"),
        (lambda s: dv_by_mask(s) + s.diagonal().sum() - s.diagonal().mean(), "take their mean"),
        (lambda s: -dv_by_mask(s), "the sign"),
        (lambda s: s.diagonal().mean() - mismatched(s).mean(), "the mean of f"),
        (
            lambda s: s.diagonal().mean() - (mismatched(s).logsumexp(1) - math.log(3)).mean(),
            "a log for each row",
        ),
        (
            lambda s: s.diagonal().mean() - (mismatched(s.T).logsumexp(1) - math.log(3)).mean(),
            "a log for each column",
        ),
        (lambda s: s.diagonal().mean() - mismatched(s).exp().mean(), "the log around"),
        (lambda s: bounds.infonce(s, direction="image_to_text"), "this is InfoNCE"),
        (dv_with_exp, "use logsumexp"),
        (lambda s: torch.zeros(()), "mean f_ii - log"),
        (lambda s: s, "one number"),
    ],
)
def test_dv_that_is_wrong(answer: Callable[[Tensor], Any], words: str) -> None:
    verdict = check.exercise_2_1(answer)
    assert verdict.status == "not yet"
    assert words in verdict.words


# 2.2


@pytest.mark.parametrize("answer", [(1, 1 / math.e), (1.0, math.exp(-1)), [1, 0.368]])
def test_the_shift_of_nwj(answer: Any) -> None:
    assert check.exercise_2_2(answer).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((0, 0), "NWJ has a = e"),
        ((-1, 0.3679), "the sign"),
        ((math.e, 1), "log a = 1"),
        ((2, 0.3679), "not best at 2"),
        ((1, 0), "unlike DV"),
        ((1, 1), "is 1/e, not 0"),
        ((1, 1 - 1 / math.e), "Without the shift"),
        ((1, -1 / math.e), "above 0"),
        ((1, 0.5), "is not I - 0.5"),
        ((1,), "two numbers"),
        ((1, "a third"), "one number"),
        (1.0, "two numbers"),
    ],
)
def test_shifts_that_are_wrong(answer: Any, words: str) -> None:
    verdict = check.exercise_2_2(answer)
    assert verdict.status == "not yet"
    assert words in verdict.words


# 2.3


def rows(scores: Tensor) -> Tensor:
    return math.log(len(scores)) + (scores.diagonal() - scores.logsumexp(1)).mean()


def by_cross_entropy(scores: Tensor) -> Tensor:
    target = torch.arange(len(scores))
    return math.log(len(scores)) - torch.nn.functional.cross_entropy(scores, target)


def left_out(scores: Tensor, log_count: float) -> Tensor:
    return log_count + (scores.diagonal() - mismatched(scores).logsumexp(1)).mean()


def by_softmax(scores: Tensor) -> Tensor:
    shares = scores.exp() / scores.exp().sum(dim=1, keepdim=True)
    return math.log(len(scores)) + shares.diagonal().log().mean()


@pytest.mark.parametrize("answer", [rows, by_cross_entropy])
def test_infonce_that_is_right(answer: Callable[[Tensor], Tensor]) -> None:
    assert check.exercise_2_3(answer).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda s: rows(s) - math.log(4), "log K is missing"),
        (lambda s: rows(s) + math.log(3 / 4), "log (K - 1) in place"),
        (lambda s: math.log(4) + (s.diagonal() - s.logsumexp(1)).sum(), "the rows are added"),
        (lambda s: rows(s.T), "these are the columns"),
        (bounds.infonce, "both directions"),
        (lambda s: left_out(s, math.log(3)), "so is the guarantee"),
        (lambda s: left_out(s, math.log(4)), "so is the guarantee"),
        (lambda s: left_out(s, 0.0), "log K is missing"),
        (lambda s: -rows(s), "the sign"),
        (lambda s: math.log(4) - rows(s), "this is the cross-entropy"),
        (lambda s: rows(s) - math.log(4) + math.log2(4), "bits"),
        (
            lambda s: s.diagonal().mean() - s.flatten().logsumexp(0) + math.log(16),
            "each row has its own",
        ),
        (bounds.dv, "this is DV"),
        (by_softmax, "use logsumexp"),
        (lambda s: torch.zeros(()), "log K + mean"),
    ],
)
def test_infonce_that_is_wrong(answer: Callable[[Tensor], Any], words: str) -> None:
    verdict = check.exercise_2_3(answer)
    assert verdict.status == "not yet"
    assert words in verdict.words
