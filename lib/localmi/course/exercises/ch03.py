"""Checks of the exercises of 03_neural_estimators."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from localmi.course.check import (
    exercise,
    expect,
    expect_close,
    expect_number,
    expect_numbers,
)
from localmi.mi.density_ratio import smile

SCORES = torch.tensor(
    [[3.0, -1.0, 0.5, -2.0], [0.0, 2.5, -1.5, 5.5], [-0.5, 1.5, 6.0, -7.0], [0.2, -0.3, 4.0, 2.0]],
    dtype=torch.float64,
)  # [K, K] of four pairs; a matched score above 5, mismatched ones above 5 and below -5
K = len(SCORES)
MATCHED = torch.eye(K, dtype=torch.bool)
FIVE = 4 * torch.arange(1.0, 26.0, dtype=torch.float64).reshape(5, 5).sin()  # of five pairs
HARD_CODED = "another table, of five pairs: is K taken from the scores?"


@exercise
def exercise_3_1(my_answer: Any) -> None:
    """(theta, nats) where the mean of DV over batches of 4 has its top; or a function of both.

    By 400,000 batches the top is flat from .52 to .58, at .138 nats.
    """
    my_answer = my_answer() if callable(my_answer) else my_answer
    theta, nats = expect_numbers(my_answer, 2, "two numbers are asked for, (theta, nats)")
    top = math.sqrt(2) - 1
    expect(
        abs(theta - top) > 0.02,
        "that is the top of the exact hill. Who follows gradients of batches climbs the mean of DV"
        " over batches: where do they come to rest?",
    )
    expect(
        abs(theta - 0.55) < 0.07,
        f"theta = {theta:g} is not where the mean gradient of batches of 4 is 0: see figure 3.1",
    )
    expect(abs(nats - 0.113) > 0.004, "that is the height of the exact hill: is DV right on a "
           "batch, on average?")  # fmt: skip
    expect(abs(nats - 0.093) > 0.004, "that is the true DV of this critic. What do batches of 4 "
           "say of it, on average?")  # fmt: skip
    expect(nats > 0.113, "the log of a mean over few pairs is too low on average, and DV takes it "
           "off: is the curve above or below the exact hill?")  # fmt: skip
    expect(abs(nats - 0.138) < 0.008, f"of the right side, but not {nats:g} nats: now plot it")


@exercise
def exercise_3_2(my_smile: Callable[[Tensor, float], Tensor]) -> None:
    """SMILE with the mismatched scores, and them only, clipped."""
    clip = 5.0
    found = expect_number(my_smile(SCORES.clone(), clip))
    clipped, matched = SCORES.clamp(-clip, clip), SCORES.diagonal().mean()
    pairs = K * (K - 1)
    right = smile(SCORES, clip=clip)
    log_sum = matched - right + math.log(pairs)  # log sum over O of e^clipped
    for mistake, words in (
        (smile(clipped, clip=clip), "the matched scores were clipped as well: what is reported "
         "then never exceeds 2 tau; clip inside the logarithm only"),
        (smile(SCORES, clip=math.inf), "nothing is clipped before the mean: this is DV"),
        (K * matched - (matched - right), "the mean over the diagonal, not the sum"),
        (matched - (SCORES[~MATCHED].clamp(max=clip).logsumexp(0) - math.log(pairs)), "clip on "
         "both sides, at -tau and at tau"),
        (matched - (clipped.flatten().logsumexp(0) - 2 * math.log(K)), "the diagonal is in the "
         "mean: matched pairs are no draws of p(x) p(y)"),
        (matched - (log_sum - 2 * math.log(K)), "K (K - 1) mismatched pairs, not K^2"),
        (matched - (log_sum - math.log(K)), "log K (K - 1), not log K: all mismatched pairs are "
         "in one sum"),
        (matched - log_sum, "this is a log of a sum: take log K (K - 1) off for the mean"),
        (matched - SCORES[~MATCHED].clamp(-clip, clip).mean(), "log of the mean of e^f, not the "
         "mean of f"),
        (functional.logsigmoid(SCORES.diagonal()).mean()
         + functional.logsigmoid(-SCORES[~MATCHED]).mean(), "this is what is trained, not what is "
         "reported"),
    ):  # fmt: skip
        expect(not math.isclose(found, mistake, abs_tol=1e-6), words)
    expect_close(found, right, "SMILE of four pairs")
    wide = SCORES - 6  # mismatched scores far below -tau
    expect_close(
        expect_number(my_smile(wide.clone(), 1.0)),
        smile(wide, clip=1.0),
        "another table and tau = 1: is it clipped at -tau and at tau, whatever tau?",
    )
    expect_close(expect_number(my_smile(FIVE.clone(), clip)), smile(FIVE, clip=clip), HARD_CODED)


@exercise
def exercise_3_3(my_demi: Callable[[Tensor], Tensor]) -> None:
    """DEMI from a classifier that was trained on all K x K pairs alike."""
    found = expect_number(my_demi(SCORES.clone()))
    matched = SCORES.diagonal().mean()
    for mistake, words in (
        (matched, "the prior odds are forgotten: of K x K pairs only one in K is matched, and the "
         "logits know it"),
        (matched - math.log(K - 1), "the sign: the log prior odds are -log(K - 1), and they are "
         "taken off"),
        (matched + math.log(K), "odds are matched against mismatched, 1 : K - 1; log K is the log "
         "of the share"),
        (matched + math.log(K * (K - 1)), "there are K matched and K (K - 1) mismatched pairs: "
         "the odds are 1 : K - 1"),
        (SCORES.mean() + math.log(K - 1), "the mean over the matched pairs, not over all"),
        (matched - (SCORES[~MATCHED].logsumexp(0) - math.log(K * (K - 1))), "this is DV: right "
         "too, for any shift of the logits; here the plug-in is asked for"),
    ):  # fmt: skip
        expect(not math.isclose(found, mistake, abs_tol=1e-6), words)
    expect_close(found, matched + math.log(K - 1), "mean logit of the matched pairs less log odds")
    wanted = FIVE.diagonal().mean() + math.log(4)
    expect_close(expect_number(my_demi(FIVE.clone())), wanted, HARD_CODED)
