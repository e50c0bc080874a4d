"""Checks of the exercises of 03_neural_estimators."""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from localmi.course.check import exercise, expect, expect_close, expect_number
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
def exercise_3_1(my_surrogate: Callable[[Tensor, Tensor], Tensor]) -> None:
    """MINE's surrogate: its gradient is that of DV, with the moving average below the bar."""
    log_average = torch.tensor(0.7, dtype=torch.float64)
    found = _gradient(my_surrogate, SCORES, log_average)
    for wrong_one, words in (
        (-1 / K, "the sign: matched scores must rise, so mean f_ii counts positive"),
        (1, "this is a sum over the matched pairs: take their mean"),
        (0, "the matched scores do not count: their mean is the first term"),
    ):
        expect(not torch.allclose(found.diagonal(), torch.full_like(found[0], wrong_one)), words)
    ratio = SCORES.exp() / log_average.exp()
    off = found.masked_fill(MATCHED, 0)
    pairs = K * (K - 1)
    expect(
        torch.allclose(found.diagonal(), torch.full_like(found[0], 1 / K)),
        "a matched score has a gradient of 1/K and no more: leave the diagonal out of E_O",
    )
    log_mean = SCORES[~MATCHED].logsumexp(0) - math.log(pairs)
    for mistake, words in (
        ((SCORES - log_mean).exp() / pairs, "this is the gradient of DV: a log of the batch's own "
         "mean is still there, and its bias with it; divide e^f by the average instead"),
        (SCORES.exp() / pairs, "E_O[e^f grad f] is not divided by the average"),
        (ratio / K**2, "there are K (K - 1) mismatched pairs, not K^2"),
        (ratio, "this is a sum over the mismatched pairs: take their mean"),
        (SCORES.exp() / log_average / pairs, "what is given is the log of the average"),
    ):  # fmt: skip
        wrong = -mistake.masked_fill(MATCHED, 0)
        expect(not torch.allclose(off, wrong), words)
    expect(not torch.allclose(off, ratio.masked_fill(MATCHED, 0) / pairs), "mismatched "
           "scores must fall: E_O[e^f] / average is taken off")  # fmt: skip
    expect_close(off, -ratio.masked_fill(MATCHED, 0) / pairs, "the gradient of mismatched scores")
    right = -(FIVE + log_average).exp() / 20
    right.fill_diagonal_(1 / 5)
    expect_close(_gradient(my_surrogate, FIVE, -log_average), right, HARD_CODED)


def _gradient(my_surrogate: Callable[..., Tensor], table: Tensor, log_average: Tensor) -> Tensor:
    """[K, K] of the answer, which may change the scores that it is given."""
    scores = table.clone().requires_grad_()
    value = my_surrogate(scores.clone(), log_average.clone())
    expect(
        isinstance(value, Tensor) and value.numel() == 1 and value.requires_grad,
        "a scalar that carries a gradient is asked for: no .item(), no .detach() of the scores",
    )
    (found,) = torch.autograd.grad(value.sum(), scores)
    return found


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
        (smile(SCORES, clip=math.inf), "nothing is clipped: this is DV"),
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
