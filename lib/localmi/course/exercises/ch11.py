"""Checks of the exercises of 11_limitr."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from localmi.course.check import (
    exercise,
    expect,
    expect_array,
    expect_close,
    expect_finite,
    expect_number,
)
from localmi.evaluate.retrieval import random_ranks
from localmi.model.limitr import attend
from localmi.model.words import joined


@exercise
def exercise_11_1(my_words: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Words [L, E] from pieces [T, E] and word_of [T]: the sum over the pieces of each word."""
    torch.manual_seed(0)
    for word_of, width in (([0, 1, 2, 2, 2, 3, 3, -1, -1], 6), ([0, 1, 1, 2, -1], 2)):
        pieces, number = torch.randn(len(word_of), width), torch.tensor(word_of)
        wanted = joined(pieces[None], number[None]).vectors[0]  # [L, E]
        found = expect_array(my_words(pieces, number))
        expect(
            len(found) != len(pieces),
            "that is a vector for each piece; pieces of one word have one vector",
        )
        expect(
            len(found) != len(wanted) + 1,
            "that is one word too many: -1 is no word (an index of -1 adds to the last row)",
        )
        expect_array(found, *wanted.shape)
        pieces_of = torch.bincount(number[number >= 0])[:, None]
        first = torch.stack([pieces[number == word][0] for word in range(len(wanted))])
        last = torch.stack([pieces[number == word][-1] for word in range(len(wanted))])
        spilt = wanted.clone()
        spilt[-1] += pieces[number < 0].sum(dim=0)
        for mistake, words in (
            (wanted / pieces_of, "that is the mean over the pieces of a word: add them"),
            (spilt, "what belongs to no word (-1) was added to the last one"),
            (first, "that is the first piece of each word: add all of them"),
            (last, "that is the last piece of each word: `words[word_of] += pieces` keeps one of "
             "those that have the same index; `index_add` adds them all"),
        ):  # fmt: skip
            expect(not torch.allclose(torch.as_tensor(found).double(), mistake.double()), words)
        expect_close(found, wanted, f"{len(word_of)} pieces, {len(wanted)} words")


@exercise
def exercise_11_2(my_reading: Callable[[Tensor, Tensor], tuple[Tensor, float]]) -> None:
    """From s [L, N] and there [L] bool: beta [N, L], and the most that a word can have of it."""
    torch.manual_seed(0)
    for there, number in (([True] * 3 + [False] * 2, 6), ([True] * 4 + [False] * 3, 3)):
        s, is_word = 2 * torch.randn(len(there), number), torch.tensor(there)
        weights, most = _two(my_reading(s, is_word))
        wanted = _read(s, is_word)
        weights = expect_array(weights)
        expect(
            weights.shape != s.shape or s.shape == wanted.shape,
            "the shape is that of s, [L, N]; asked for is a row for each region, [N, L]",
        )
        expect_array(weights, *wanted.shape)
        for mistake, words in _misread(s, is_word):
            expect(not torch.allclose(torch.as_tensor(weights).double(), mistake.double()), words)
        expect_close(weights, wanted, f"{sum(there)} words and {number} regions")
        _check_cap(expect_number(most), wanted, sum(there), len(there), number)


def _two(value: Any) -> tuple[Any, Any]:
    is_pair = isinstance(value, tuple | list) and len(value) == 2
    expect(is_pair, "two things are asked for: the weights [N, L], and the most that one can be")
    return value[0], value[1]


def _read(s: Tensor, there: Tensor) -> Tensor:
    """The weights of the library: the regions look, at words that are there."""
    looks = torch.ones(s.shape[1], dtype=torch.bool)
    words = torch.zeros(len(s), 1)
    return attend(s.T, words, looks, there)[1]


def _misread(s: Tensor, there: Tensor) -> list[tuple[Tensor, str]]:
    """Weights [N, L] that are wrong, and why."""
    hidden = s.T.masked_fill(~there, -math.inf)
    over_regions = s.T.softmax(dim=0)
    blank = (4 * over_regions).masked_fill(~there, 0.0).softmax(dim=1)
    return [
        (hidden.softmax(dim=1), "that is one softmax: take the softmax over the regions first"),
        ((4 * hidden.softmax(dim=1)).masked_fill(~there, -math.inf).softmax(dim=1), "both of your "
         "softmaxes are over the words: the first is over the regions"),
        (over_regions.masked_fill(~there, -math.inf).softmax(dim=1), "the 4 is missing"),
        ((4 * over_regions).softmax(dim=1), "words that only fill up get attention: they are to "
         "get none"),
        (blank, "a score of 0 is no absence: exp(0) = 1 takes its share. Set it to -inf before "
         "the softmax"),
        ((4 * over_regions).softmax(dim=1) * there, "the words that are there must have all of a "
         "region's attention, 1 together: leave out the others before the softmax, not after"),
        (_seen(s, there), "that is the other direction, transposed: how a word looks at regions. "
         "Here the regions look at the words"),
    ]  # fmt: skip


def _seen(s: Tensor, there: Tensor) -> Tensor:
    """How the words look at the regions, [N, L]; 0 where there is no word."""
    over_words = s.masked_fill(~there[:, None], -math.inf).softmax(dim=0)
    return (4 * over_words).softmax(dim=1).T * there


def _check_cap(most: float, weights: Tensor, words: int, places: int, regions: int) -> None:
    top = math.exp(4)
    for mistake, told in (
        (float(weights.max()), "that is the largest of these weights; asked for is the most that "
         "any s could give: the word wins the region from all others, and they win nothing"),
        (top / (top + words), "one of the words is the winner itself: the others are one fewer"),
        (top / (top + places - 1), "count the words that are there, not those that fill up"),
        (top / (top + regions - 1), "a region shares its attention among the words: count these"),
        (1.0, "less than 1: after the first softmax nothing is larger than 1 or smaller than 0, "
         "so the second one sees at most 4 beside 0"),
    ):  # fmt: skip
        expect(not math.isclose(most, mistake, rel_tol=1e-4), told)
    expect_close(most, top / (top + words - 1), f"the most, with {words} words that are there")


@exercise
def exercise_11_3(my_saf: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> None:
    """SAF of vectors [L, D] with A, B [D, D] and u [D]: the pooled vector [D], of length 1."""
    torch.manual_seed(0)
    for number, width in ((5, 3), (4, 6)):
        e = functional.normalize(torch.randn(number, width), dim=1)
        a, b, u = (
            torch.randn(width, width),
            torch.randn(width, width),
            3 * torch.randn(width),
        )
        wanted = _saf(e, a, b, u)
        found = expect_array(my_saf(e, a, b, u))
        expect(
            found.shape != (number,) or number == width,
            "that is a number for each vector, the weights: asked for is their sum",
        )
        expect_array(found, width)
        for mistake, words in _not_saf(e, a, b, u):
            expect(
                not torch.allclose(torch.as_tensor(found).double(), mistake.double(), atol=1e-5),
                words,
            )
        expect_close(found, wanted, f"{number} vectors of {width} numbers")


def _saf(e: Tensor, a: Tensor, b: Tensor, u: Tensor, *, length: bool = True) -> Tensor:
    whole = b @ e.mean(dim=0)
    weights = (((e @ a.T).tanh() * whole.tanh()) @ u).softmax(dim=0)
    pooled = weights @ e
    return functional.normalize(pooled, dim=0) if length else pooled


def _not_saf(e: Tensor, a: Tensor, b: Tensor, u: Tensor) -> list[tuple[Tensor, str]]:
    suits = (e @ a.T).tanh() * (b @ e.mean(dim=0)).tanh()
    added = (e @ a.T).tanh() + (b @ e.mean(dim=0)).tanh()
    own = (e @ a.T).tanh() * (e @ b.T).tanh()
    weighed = functional.normalize((suits @ u) @ e, dim=0)
    return [
        (_saf(e, a, b, u, length=False), "bring the sum to length 1 at the end"),
        (functional.normalize(e.mean(dim=0), dim=0), "that is the mean: every vector weighs the "
         "same"),
        (weighed, "the weights add up to 1: a softmax over the vectors"),
        (_saf(e, a.T, b.T, u), "A e is `e @ A.T` where the e are rows; yours is A transposed"),
        (_saf(e, b, a, u), "A belongs to the single vectors, B to their mean"),
        (functional.normalize((own @ u).softmax(dim=0) @ e, dim=0), "B is applied to the mean of "
         "all vectors, not to each of them"),
        (functional.normalize((added @ u).softmax(dim=0) @ e, dim=0), "the two tanh are multiplied"
         ", not added"),
    ]  # fmt: skip


@exercise
def exercise_11_4(my_nats: Callable[[str, float, int], float]) -> None:
    """The bound in nats that a loss of B pairs stands for; NaN where it stands for none."""
    for loss, pairs in ((2.0, 16), (5.0, 32)):
        wanted = math.log(pairs) - loss / 2
        for name in ("external", "global"):
            found = expect_finite(
                my_nats,
                name,
                loss,
                pairs,
                words=f"the {name} loss is a symmetric InfoNCE: a bound, and yours gives {{}}",
            )
            for mistake, words in (
                (math.log(pairs) - loss, "the loss adds rows and columns, two bounds: halve it"),
                (2 * math.log(pairs) - loss, "that is the sum of two bounds, of rows and of "
                 "columns: take their mean"),
                (-loss / 2, "log B is missing: a critic that knows nothing has a loss of 2 log B, "
                 "and 0 nats"),
                (-wanted, "the sign is turned: a small loss is much information"),
                (wanted / math.log(2), "those are bits: use the natural logarithm"),
                (math.log2(pairs) - loss / 2, "use the natural logarithm"),
                (math.log(pairs - 1) - loss / 2, "the matched text is one of the B: log B"),
            ):  # fmt: skip
                expect(not math.isclose(found, mistake, rel_tol=1e-5), words)
            expect_close(found, wanted, f"the {name} loss of {pairs} pairs is {loss}")
        nothing = my_nats("internal", loss, pairs)
        expect(
            math.isnan(expect_number(nothing)),
            "the internal loss compares within one pair: it falls on shuffled pairs as well, so "
            "no number of nats follows from it. Return math.nan",
        )


@exercise
def exercise_11_5(my_chance: Callable[[np.ndarray, np.ndarray, int], float]) -> None:
    """Chance of R@k for a query: copies [U] and right [U] of the different texts in a pool."""
    for copies, true, k in (
        ([3, 1, 2, 1, 4], [False, True, False, False, True], 3),
        ([1, 2, 3, 1], [False, False, True, False], 2),
        ([5, 1, 1], [False, True, True], 1),
    ):
        number, right = np.array(copies), np.array(true)
        wanted = _chance(number, right, k)
        found = expect_number(my_chance(number, right, k))
        pool, share = number.sum(), right.mean()
        hits, singles = number[right].sum(), np.ones_like(number)
        for mistake, words in (
            (k / pool, "that is k / P: it takes all texts for different, and one for right"),
            (k / len(number), "that is k of the different texts: more than one may be right, and "
             "copies take places"),
            (hits / pool, "that is the share of the pool that is right: copies have one score, so "
             "the order of the different texts is what is drawn"),
            (_chance(singles, right, k), "copies of a wrong text take several places together"),
            (_drawn_apart(pool, hits, k), "that is chance for copies with scores of their own: "
             "here they stand together"),
            (_chance(number, right, k + 1), "ranks begin with 1: a hit has fewer than k places "
             "before it"),
            (share, "that is R@1: for larger k wrong texts may come first"),
        ):  # fmt: skip
            if not math.isclose(mistake, wanted, rel_tol=1e-6):
                expect(not math.isclose(found, mistake, rel_tol=1e-6), words)
        expect_close(found, wanted, f"copies {copies}, right {true}, k = {k}")


def _chance(copies: np.ndarray, right: np.ndarray, k: int) -> float:
    texts = np.repeat(np.arange(len(copies)), copies)
    return float(random_ranks(right[texts][None], texts, k).sum())


def _drawn_apart(pool: int, hits: int, k: int) -> float:
    return 1 - math.comb(pool - hits, k) / math.comb(pool, k)
