"""Checks of the exercises of 02_variational_bounds."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from localmi.course.check import (
    exercise,
    expect,
    expect_close,
    expect_finite,
    expect_number,
    expect_numbers,
)
from localmi.mi import bounds

Bound = Callable[[Tensor], Tensor]

# scores[i, j] = f(x_i, y_j), not symmetric, so that rows and columns can be told apart.
SCORES = torch.tensor(
    [[2.0, 0.5, -1.0, 0.0], [0.0, 1.0, 0.5, -2.0], [1.5, -0.5, 3.0, 1.0], [-1.0, 2.0, 0.0, 0.5]]
)
K = len(SCORES)
MATCHED = SCORES.diagonal()
MISMATCHED = SCORES[~torch.eye(K, dtype=torch.bool)].reshape(K, K - 1)  # row by row
MORE = (torch.arange(25.0) * 7 % 11 - 5).reshape(5, 5)  # a batch of another size


@exercise
def exercise_2_1(my_dv: Bound) -> None:
    """Donsker-Varadhan: mean f_ii - log of the mean of e^f over all mismatched pairs."""
    found = expect_number(my_dv(SCORES))
    mean, log_sum = MATCHED.mean(), MISMATCHED.flatten().logsumexp(0)
    everything = SCORES.flatten().logsumexp(0)
    count = math.log(K * (K - 1))
    for mistake, words in (
        (mean - (everything - math.log(K * K)), "the diagonal is left in the denominator: a "
         "matched pair is no sample of p(x) p(y), and with it the value cannot exceed log K"),
        (mean - (everything - count), "the diagonal is left in the sum, though not in the count"),
        (mean - (log_sum - math.log(K * K)), "the sum has K (K - 1) pairs, the mean divides by K "
         "squared: log K (K - 1) is asked"),
        (mean - (log_sum - math.log(K)), "log K in place of log K (K - 1): there are K (K - 1) "
         "mismatched pairs"),
        (mean - (log_sum - math.log(K - 1)), "log (K - 1) in place of log K (K - 1): that counts "
         "one row only"),
        (mean - log_sum, "the log of the sum: take log K (K - 1) off for the log of the mean"),
        (MATCHED.sum() - (log_sum - count), "the matched pairs are added: take their mean"),
        (log_sum - count - mean, "the sign: matched less mismatched"),
        (mean - MISMATCHED.mean(), "the mean of f over mismatched pairs: log E e^f is asked"),
        (mean - (MISMATCHED.logsumexp(1) - math.log(K - 1)).mean(), "a log for each row, then "
         "their mean: DV has one log, outside of everything"),
        (mean - (_columns().logsumexp(0) - math.log(K - 1)).mean(), "a log for each column, then "
         "their mean: DV has one log, outside of everything"),
        (mean - MISMATCHED.exp().mean(), "the log around the mean of e^f is missing"),
        (bounds.infonce(SCORES, direction="image_to_text"), "this is InfoNCE"),
    ):  # fmt: skip
        expect(not _same(found, mistake), words)
    expect_close(found, bounds.dv(SCORES), "mean f_ii - log E e^f over mismatched pairs")
    _expect_any_batch(my_dv, bounds.dv)


@exercise
def exercise_2_2(my_answer: Any) -> None:
    """(shift that makes the log-ratio the best critic of NWJ, nats lost without the shift).

    Two numbers in any form (tuple, list, array, tensor), or a function that returns them.
    """
    my_answer = my_answer() if callable(my_answer) else my_answer
    shift, loss = expect_numbers(my_answer, 2, "two numbers are asked for, (shift, loss)")
    expect(
        not _same(shift, 0), "shift 0 is best for a = 1. NWJ has a = e: where does c - e^(c - 1) "
        "have its maximum?"
    )  # fmt: skip
    expect(not _same(shift, -1), "the sign: E e^(f - 1) must be 1, so f is above the log-ratio")
    expect(not _same(shift, math.e), "a = e means log a = 1: the shift is the logarithm")
    expect(
        _same(shift, 1), f"with f = log-ratio + c, NWJ is I + c - e^(c - 1): not best at {shift}"
    )
    expect(not _same(loss, 0), "NWJ, unlike DV, does change when a constant is added to f")
    expect(not _same(loss, 1), "the second term changes as well: E e^(f - 1) is 1/e, not 0")
    expect(
        not _same(loss, 1 - 1 / math.e),
        "this compares E e^(f - 1) with 1. Without the shift NWJ is I - E e^(f - 1), where "
        "E e^f = 1",
    )
    expect(not _same(loss, -1 / math.e), "a loss is asked for: a number above 0")
    expect(abs(loss - 1 / math.e) < 5e-3, f"I + c - e^(c - 1) at c = 0 is not I - {loss:g}")


@exercise
def exercise_2_3(my_infonce: Bound) -> None:
    """InfoNCE along rows: which of these K texts belongs to image i?"""
    found = expect_number(my_infonce(SCORES))
    terms = MATCHED - SCORES.logsumexp(1)
    without = MATCHED - MISMATCHED.logsumexp(1)
    for mistake, words in (
        (terms.mean(), "log K is missing: without it this is minus a cross-entropy, at most 0"),
        (terms.mean() + math.log(K - 1), "log (K - 1) in place of log K: the matched text is one "
         "of the K choices"),
        (terms.sum() + math.log(K), "the rows are added: take their mean"),
        (bounds.infonce(SCORES, direction="text_to_image"), "these are the columns, which image "
         "belongs to a text: rows are asked, scores[i] holds all texts for image i"),
        (bounds.infonce(SCORES, direction="symmetric"), "this is the mean over both directions: "
         "rows only are asked"),
        (without.mean() + math.log(K - 1), "the matched pair is left out of the sum: the cap is "
         "gone, and so is the guarantee, this is no bound"),
        (without.mean() + math.log(K), "the matched pair is left out of the sum: the cap is gone, "
         "and so is the guarantee, this is no bound"),
        (without.mean(), "the matched pair is left out of the sum, and log K is missing"),
        (-terms.mean() - math.log(K), "the sign: this is the loss, the bound is minus that"),
        (-terms.mean(), "this is the cross-entropy: the bound is log K minus that"),
        (terms.mean() + math.log(K) / math.log(2), "log K in bits, the rest in nats"),
        (MATCHED.mean() - SCORES.flatten().logsumexp(0) + 2 * math.log(K), "one log over the "
         "whole table: each row has its own"),
        (bounds.dv(SCORES), "this is DV"),
    ):  # fmt: skip
        expect(not _same(found, mistake), words)
    infonce = partial(bounds.infonce, direction="image_to_text")
    expect_close(found, infonce(SCORES), "log K + mean of f_ii - log sum_j e^f_ij")
    _expect_any_batch(my_infonce, infonce)


def _columns() -> Tensor:
    """[K - 1, K] the mismatched scores of each column."""
    transposed = SCORES.T[~torch.eye(K, dtype=torch.bool)].reshape(K, K - 1)
    return transposed.T


def _same(found: float, mistake: float | Tensor) -> bool:
    return math.isclose(found, float(mistake), rel_tol=1e-5, abs_tol=1e-5)


def _expect_any_batch(my_bound: Bound, bound: Bound) -> None:
    """Another number of pairs, and scores of some thousands, as a critic gives that runs away."""
    words = "right for 4 pairs; for 5, K is len(scores) and no constant"
    expect_close(expect_number(my_bound(MORE)), bound(MORE), words)
    words = "right, but scores of 3,000 give {}: e^89 is too large for float32, use logsumexp"
    large = 1000 * SCORES
    found = expect_finite(my_bound, large, words=words)
    expect_close(found, bound(large), "with scores of some thousands", tolerance=1e-4)
