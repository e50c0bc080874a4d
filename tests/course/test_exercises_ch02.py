"""Exercises of chapter 2: right answers pass in any way, wrong ones are told why."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from answers import refused
from scipy.special import log_softmax, logsumexp
from torch import Tensor

from localmi.course import check
from localmi.mi import bounds


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


def dv_in_numpy(scores: Tensor) -> float:
    table = scores.numpy()
    off = table[~np.eye(len(table), dtype=bool)]
    return np.diag(table).mean() - (logsumexp(off) - np.log(off.size))


def dv_of_tensors_by_numpy(scores: Tensor) -> Any:
    off = scores[~np.eye(len(scores), dtype=bool)]
    return np.trace(scores) / len(scores) - np.logaddexp.reduce(off) + np.log(len(off))


def dv_in_place(scores: Tensor) -> Tensor:
    matched = scores.diagonal().mean()
    scores.fill_diagonal_(-math.inf)
    return matched - scores.flatten().logsumexp(0) + math.log(len(scores) * (len(scores) - 1))


def dv_by_loop(scores: Tensor, stable: bool = True) -> float:
    K, off = len(scores), []
    for i in range(K):
        off += [float(scores[i, j]) for j in range(K) if j != i]
    top = max(off) if stable else 0.0
    log_mean = top + math.log(sum(math.exp(f - top) for f in off) / len(off))
    return sum(float(scores[i, i]) for i in range(K)) / K - log_mean


def for_four(bound: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    """Wrong: K = 4, whatever the batch."""
    return lambda scores: bound(scores[:4, :4])


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
        (lambda s: dv_by_loop(s, stable=False), "use logsumexp"),
        (for_four(dv_by_mask), "K is len(scores)"),
        (
            lambda s: s.diagonal().mean() - mismatched(s).flatten().logsumexp(0) + math.log(12),
            "K is len(scores)",
        ),
        (lambda s: torch.zeros(()), "mean f_ii - log"),
        (lambda s: s, "one number"),
    ],
)
def test_dv_that_is_wrong(answer: Callable[[Tensor], Any], words: str) -> None:
    refused("exercise_2_1", answer, words)


# 2.2


SHIFT = (1, 1 / math.e)


@pytest.mark.parametrize("answer", [(..., ...), (1, ...), [..., 1]])
def test_a_pair_that_is_not_filled_in_is_not_tried(answer: Any) -> None:
    assert check.exercise_2_2(answer).status == "not tried yet"


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
        ((1, "a third"), "two numbers"),
        ((1, [0.3, 0.4]), "two numbers"),
        (np.eye(2), "two numbers"),
        (1.0, "two numbers"),
    ],
)
def test_shifts_that_are_wrong(answer: Any, words: str) -> None:
    refused("exercise_2_2", answer, words)


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


def rows_in_numpy(scores: Tensor) -> float:
    return np.log(len(scores)) + log_softmax(np.asarray(scores), axis=1).diagonal().mean()


def rows_by_loop(scores: Tensor, stable: bool = True) -> float:
    total = 0.0
    for i, row in enumerate(scores.tolist()):
        top = max(row) if stable else 0.0
        total += row[i] - top - math.log(sum(math.exp(f - top) for f in row))
    return math.log(len(scores)) + total / len(scores)


def rows_by_tensors(scores: Tensor) -> Tensor:
    terms = [scores[i, i] - torch.logsumexp(scores[i], dim=0) for i in range(len(scores))]
    return torch.stack(terms).mean() + np.log(len(scores))


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
        (lambda s: rows_by_loop(s, stable=False), "use logsumexp"),
        (for_four(rows), "K is len(scores)"),
        (lambda s: rows(s) - math.log(len(s)) + math.log(4), "K is len(scores)"),
        (lambda s: torch.zeros(()), "log K + mean"),
    ],
)
def test_infonce_that_is_wrong(answer: Callable[[Tensor], Any], words: str) -> None:
    refused("exercise_2_3", answer, words)


ANSWERS = {
    "exercise_2_1": [
        dv_by_mask,
        bounds.dv,
        dv_in_numpy,
        dv_of_tensors_by_numpy,
        dv_in_place,
        dv_by_loop,
    ],
    "exercise_2_2": [
        SHIFT,
        list(SHIFT),
        [1, 0.368],
        np.array(SHIFT),
        torch.tensor(SHIFT),
        torch.tensor([SHIFT], requires_grad=True),
        tuple(torch.tensor(SHIFT, dtype=torch.bfloat16)),
        lambda: SHIFT,
        lambda: np.array(SHIFT),
    ],
    "exercise_2_3": [
        rows,
        by_cross_entropy,
        rows_in_numpy,
        rows_by_loop,
        rows_by_tensors,
    ],
}
SQUARE = {"exercise_2_1", "exercise_2_3"}  # scores [K, K]
