"""Checks of the exercises of 04_local_mutual_information."""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from localmi.course.check import exercise, expect, expect_close, expect_finite, expect_number
from localmi.mi.distributions import DiscreteWorld

Array = NDArray[np.float64]


@exercise
def exercise_4_1(my_gap: Callable[[Array], float]) -> None:
    """What the rest of the image adds, I(z2; H | z1), from p[h, z1, z2]."""
    xor = np.zeros((2, 3, 2))  # h = z1 xor z2: known only together
    for z1, z2 in np.ndindex(2, 2):
        xor[z1 ^ z2, z1, z2] = 1 / 6
    xor[0, 2] = 1 / 6  # and 0 where z1 = 2
    p = np.arange(1, 61, dtype=float).reshape(3, 4, 5) ** 2  # all that could be mixed up differs
    p /= p.sum()
    found = expect_number(my_gap(p.copy()))
    world = DiscreteWorld(("h", "z1", "z2"), p)
    wanted = world.conditional_mi("z2", "h", given="z1")
    for mistake, words in (
        (wanted / math.log(2), "these are bits: use the natural logarithm"),
        (-wanted, "the sign is wrong: H(h, z1) + H(z1, z2) - H(h, z1, z2) - H(z1)"),
        (world.mi("z2", "h"), "this is I(z2; H), without the condition: what z2 adds to z1 can be "
         "more or less than what it knows alone"),
        (world.mi(("z1", "z2"), "h"), "this is I(z; H), all that the image knows: take off "
         "I(z1; H)"),
        (world.mi("z1", "h"), "this is I(z1; H), what the region knows itself: subtract it from "
         "I(z; H)"),
        (world.conditional_mi("z1", "h", given="z2"), "the roles of z1 and z2 are swapped: z1 is "
         "the condition"),
        (world.conditional_mi("z1", "z2", given="h"), "this is I(z1; z2 | H): the condition is "
         "z1, not H"),
        (0.0, "this is 0, as I(z1; H | z) is: z contains z1. Asked for is the rest of the image, "
         "I(z2; H | z1)"),
    ):  # fmt: skip
        expect(not math.isclose(found, mistake, rel_tol=1e-4, abs_tol=1e-9), words)
    expect_close(found, wanted, "I(z2; H | z1) of p proportional to 1, 4, 9, ..., 3600")
    pure = expect_finite(
        my_gap, xor, words="where a case cannot occur it is {}: 0 log 0 counts as 0"
    )
    words = "H = z1 xor z2 two times in three: the rest of the image adds 2/3 log 2"
    expect_close(pure, math.log(2) * 2 / 3, words)


@exercise
def exercise_4_2(my_nothing: Callable[[int], float]) -> None:
    """The most that b1 reports for R independent regions, in nats: drawn alike, or of any kind."""
    one, found = expect_number(my_nothing(1)), expect_number(my_nothing(16))
    expect(
        not math.isclose(one, -1, abs_tol=1e-6),
        "log R - 1 is the limit for many regions: for R = 1 there is no choice, and 0 nats",
    )
    alike = not math.isclose(found, math.log(16), rel_tol=1e-4)  # if not, log R is right
    wanted = math.log(16) - alike * 15 / 16
    for mistake, words in (
        (wanted / math.log(2), "these are bits: use the natural logarithm"),
        (math.log2(16), "these are bits: use the natural logarithm"),
        (-math.log(16), "the sign is wrong: KL(best || any) is not negative"),
        (-wanted, "the sign is wrong: KL(best || any) is not negative"),
        (math.log(16) - 1 / 16, "E[log u] of the best is -1/R, and it is multiplied by R - 1"),
        (math.log(16) + 15 / 16, "log u is negative: (R - 1)/R is subtracted"),
        (15 / 16 - math.log(16) / 16, "this is KL(any || best) or the like: average the log "
         "ratio over the best region"),
        (15 - math.log(16), "this is KL(any || best): the log ratio must be averaged over the "
         "best region, whose density is R u^(R - 1)"),
        (15 / 16, "this is the mean of -f over the best region: log R is missing"),
    ):  # fmt: skip
        expect(not math.isclose(found, mistake, rel_tol=1e-4), words)
    expect_close(found, wanted, "R = 16", tolerance=1e-4)
    expect_close(one, 0.0, "one region: nothing to choose", tolerance=1e-4)
    expect_close(expect_number(my_nothing(2)), math.log(2) - alike / 2, "R = 2", tolerance=1e-4)


@exercise
def exercise_4_3(my_repair: Callable[[Tensor], Tensor]) -> None:
    """InfoNCE with the matched pair in each row's sum, plus log K."""
    K = 5
    f = torch.linspace(-2, 3, K * K, dtype=torch.float64).sin().reshape(K, K) * 2
    f[0, 3] += 1.5  # rows and columns differ
    found = expect_number(my_repair(f.clone()))
    off = ~torch.eye(K, dtype=torch.bool)
    matched, rows = f.diagonal().mean(), f.logsumexp(dim=1)
    others = f.masked_fill(~off, -math.inf)
    log_others, log_all = others.logsumexp(dim=1).mean(), f[off].logsumexp(dim=0)
    wanted = matched - rows.mean() + math.log(K)
    forgotten = "log K is forgotten: without it a critic that knows nothing gets -log K, not 0"
    for mistake, words in (
        (matched - rows.mean(), forgotten),
        (matched - rows.mean() - math.log(K), "log K is added, not subtracted"),
        (matched - rows.mean() + math.log(K * (K - 1)), "each row chooses among K texts: log K, "
         "not log K(K - 1)"),
        (matched - rows.mean() + math.log(K - 1), "the matched text is one of the K: log K, not "
         "log(K - 1)"),
        (matched - f.logsumexp(dim=0).mean() + math.log(K), "these are sums over columns (which "
         "image belongs to text j?): each image asks, so sum over the texts of its row"),
        (matched - log_all, "this is the published loss itself: it has one sum over all "
         "mismatched pairs, InfoNCE one for each row, with the matched pair in it"),
        (matched - log_all + math.log(K * (K - 1)), "this is DV: one sum over all mismatched "
         "pairs; InfoNCE has a sum for each row, with the matched pair in it"),
        (matched - log_all + math.log(K), "one sum over all mismatched pairs: InfoNCE has a sum "
         "for each row, with the matched pair in it"),
        (matched - f.flatten().logsumexp(dim=0) + math.log(K), "one sum over all pairs: InfoNCE "
         "has a sum for each row"),
        (matched - f.flatten().logsumexp(dim=0) + math.log(K * K), "one sum over all pairs: "
         "InfoNCE has a sum for each row"),
        (matched - log_others + math.log(K), "the matched pair is left out of the sum: without it "
         "the value may exceed log K and is no bound"),
        (matched - log_others + math.log(K - 1), "the matched pair is left out of the sum: "
         "without it the value may exceed log K and is no bound"),
        (matched - log_others, "the matched pair is left out of the sum, and log K is forgotten"),
        (-wanted, "the sign is wrong: this is the loss; asked for is the bound, in nats"),
        (wanted * K, "this is the sum over the images: take the mean"),
    ):  # fmt: skip
        expect(not math.isclose(found, float(mistake), rel_tol=1e-5), words)
    expect_close(found, wanted, "the mean of f_ii - log sum_j exp f_ij, plus log K")
    words = "scores of 1000 overflow exp, it gives {}: use logsumexp"
    large = expect_finite(my_repair, 1e3 * torch.eye(4), words=words)
    expect_close(large, math.log(4), "a perfect critic gets log K")
