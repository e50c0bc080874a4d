"""Exercises of chapter 11: a stub fails, a solution passes, wrong answers are told why."""

import math
from collections.abc import Callable
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest
import torch
from answers import refused, stub
from torch import Tensor
from torch.nn import functional

from localmi.course import check

NAMES = ["exercise_11_1", "exercise_11_2", "exercise_11_3", "exercise_11_4", "exercise_11_5"]


@pytest.mark.parametrize("name", NAMES)
def test_a_stub_is_not_tried(name: str) -> None:
    assert getattr(check, name)(stub).status == "not tried yet"


# 11.1


def by_index(pieces: Tensor, word_of: Tensor) -> Tensor:
    there = word_of >= 0
    words = pieces.new_zeros(int(word_of.max()) + 1, pieces.shape[1])
    return words.index_add(0, word_of[there], pieces[there])


def by_a_loop(pieces: Tensor, word_of: Tensor) -> list[list[float]]:
    words = [[0.0] * pieces.shape[1] for _ in range(int(word_of.max()) + 1)]
    for piece, word in zip(pieces.tolist(), word_of.tolist(), strict=True):
        for place, value in enumerate(piece if word >= 0 else ()):
            words[word][place] += value
    return words


def by_numpy(pieces: Tensor, word_of: Tensor) -> np.ndarray:
    number = word_of.numpy()
    words = np.zeros((number.max() + 1, pieces.shape[1]))
    np.add.at(words, number[number >= 0], pieces.numpy()[number >= 0])
    return words


def by_a_matrix(pieces: Tensor, word_of: Tensor) -> Tensor:
    return (word_of == torch.arange(int(word_of.max()) + 1)[:, None]).float() @ pieces


def the_last_of_each(pieces: Tensor, word_of: Tensor) -> Tensor:
    words = pieces.new_zeros(int(word_of.max()) + 1, pieces.shape[1])
    for piece, word in zip(pieces, word_of, strict=True):
        if word >= 0:
            words[word] = piece
    return words


def the_first_of_each(pieces: Tensor, word_of: Tensor) -> Tensor:
    return torch.stack([pieces[word_of == word][0] for word in range(int(word_of.max()) + 1)])


def with_the_separator(pieces: Tensor, word_of: Tensor) -> Tensor:
    number = word_of.clone()
    number[number < 0] = int(word_of.max()) + 1
    return pieces.new_zeros(int(number.max()) + 1, pieces.shape[1]).index_add(0, number, pieces)


def into_the_last(pieces: Tensor, word_of: Tensor) -> Tensor:
    words = by_index(pieces, word_of)
    words[-1] += pieces[word_of < 0].sum(dim=0)
    return words


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda p, w: by_index(p, w) / torch.bincount(w[w >= 0])[:, None], "the mean"),
        (the_first_of_each, "the first piece"),
        (the_last_of_each, "the last piece"),
        (into_the_last, "belongs to no word"),
        (with_the_separator, "one word too many"),
        (lambda p, w: p, "a vector for each piece"),
        (lambda p, w: by_index(p, w).T, "the shape is"),
        (lambda p, w: 2 * by_index(p, w), "9 pieces, 4 words"),
        (lambda p, w: 0.5, "an array or tensor"),
    ],
)
def test_words_that_are_wrong(answer: Callable[..., Any], words: str) -> None:
    refused("exercise_11_1", answer, words)


# 11.2

E4 = math.exp(4)


def cap(there: Tensor) -> float:
    return E4 / (E4 + int(there.sum()) - 1)


def reading(s: Tensor, there: Tensor) -> tuple[Tensor, float]:
    over_regions = s.softmax(dim=1).T  # [N, L]
    weights = (4 * over_regions).masked_fill(~there, -math.inf).softmax(dim=1)
    return weights, cap(there)


def reading_by_loops(s: Tensor, there: Tensor) -> tuple[list[list[float]], float]:
    rows = []
    for n in range(s.shape[1]):
        first = [math.exp(s[w, n]) / sum(map(math.exp, s[w].tolist())) for w in range(len(s))]
        terms = [math.exp(4 * x) if here else 0.0 for x, here in zip(first, there, strict=True)]
        rows.append([term / sum(terms) for term in terms])
    return rows, 1 / (1 + (int(there.sum()) - 1) * math.exp(-4))


def reading_by_numpy(s: Tensor, there: Tensor) -> list[Any]:
    powers = np.exp(s.double().numpy())
    terms = np.exp(4 * powers / powers.sum(axis=1, keepdims=True)).T * there.numpy()
    return [terms / terms.sum(axis=1, keepdims=True), cap(there)]


def weighed_as(
    weights: Callable[[Tensor, Tensor], Tensor],
) -> Callable[[Tensor, Tensor], tuple[Tensor, float]]:
    return lambda s, there: (weights(s, there), cap(there))


def capped_as(most: Callable[[Tensor, Tensor], Any]) -> Callable[[Tensor, Tensor], Any]:
    return lambda s, there: (reading(s, there)[0], most(s, there))


def seen(s: Tensor, there: Tensor) -> Tensor:
    over_words = s.masked_fill(~there[:, None], -math.inf).softmax(dim=0)
    return (4 * over_words).softmax(dim=1).T * there


def both_over_words(s: Tensor, there: Tensor) -> Tensor:
    hidden = s.T.masked_fill(~there, -math.inf)
    return (4 * hidden.softmax(dim=1)).masked_fill(~there, -math.inf).softmax(dim=1)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (weighed_as(lambda s, t: reading(s, t)[0].T), "the shape is that of s"),
        (
            weighed_as(lambda s, t: s.T.masked_fill(~t, -math.inf).softmax(dim=1)),
            "that is one softmax",
        ),
        (weighed_as(both_over_words), "both of your softmaxes"),
        (weighed_as(lambda s, t: reading(s.softmax(1).log() / 4, t)[0]), "6 regions"),
        (
            weighed_as(
                lambda s, t: s.softmax(1).T.masked_fill(~t, -math.inf).softmax(dim=1),
            ),
            "the 4 is missing",
        ),
        (weighed_as(lambda s, t: (4 * s.softmax(1).T).softmax(dim=1)), "that only fill up"),
        (
            weighed_as(lambda s, t: (4 * s.softmax(1).T).masked_fill(~t, 0.0).softmax(dim=1)),
            "a score of 0 is no absence",
        ),
        (weighed_as(lambda s, t: (4 * s.softmax(1).T).softmax(dim=1) * t), "1 together"),
        (weighed_as(seen), "the other direction"),
        (weighed_as(lambda s, t: 0.5), "an array or tensor"),
        (capped_as(lambda s, t: reading(s, t)[0].max()), "the largest of these weights"),
        (capped_as(lambda s, t: E4 / (E4 + int(t.sum()))), "one of the words is the winner"),
        (capped_as(lambda s, t: E4 / (E4 + len(t) - 1)), "count the words that are there"),
        (capped_as(lambda s, t: E4 / (E4 + s.shape[1] - 1)), "among the words"),
        (capped_as(lambda s, t: 1.0), "less than 1"),
        (capped_as(lambda s, t: 0.5), "with 3 words"),
        (capped_as(lambda s, t: s), "one number"),
        (lambda s, t: reading(s, t)[0], "two things"),
    ],
)
def test_readings_that_are_wrong(answer: Callable[..., Any], words: str) -> None:
    refused("exercise_11_2", answer, words)


# 11.3


def saf(e: Tensor, a: Tensor, b: Tensor, u: Tensor) -> Tensor:
    whole = (b @ e.mean(dim=0)).tanh()
    weights = ((e @ a.T).tanh() * whole @ u).softmax(dim=0)
    return functional.normalize(weights @ e, dim=0)


def saf_by_loops(e: Tensor, a: Tensor, b: Tensor, u: Tensor) -> Tensor:
    whole = (b @ (sum(e) / len(e))).tanh()
    terms = torch.stack([(u * ((a @ one).tanh() * whole)).sum().exp() for one in e])
    pooled = sum(term * one for term, one in zip(terms, e, strict=True)) / terms.sum()
    return pooled / pooled.norm()


def saf_by_numpy(e: Tensor, a: Tensor, b: Tensor, u: Tensor) -> np.ndarray:
    vectors, single, mean, weigh = (one.double().numpy() for one in (e, a, b, u))
    terms = np.exp(np.tanh(vectors @ single.T) * np.tanh(mean @ vectors.mean(axis=0)) @ weigh)
    pooled = terms @ vectors
    return pooled / np.linalg.norm(pooled)


def weights_of(e: Tensor, a: Tensor, b: Tensor, u: Tensor) -> Tensor:
    return ((e @ a.T).tanh() * (b @ e.mean(dim=0)).tanh() @ u).softmax(dim=0)


def unit(vector: Tensor) -> Tensor:
    return functional.normalize(vector, dim=0)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda e, a, b, u: weights_of(e, a, b, u) @ e, "length 1"),
        (lambda e, a, b, u: unit(e.mean(dim=0)), "that is the mean"),
        (
            lambda e, a, b, u: unit(((e @ a.T).tanh() * (b @ e.mean(dim=0)).tanh() @ u) @ e),
            "the weights add up to 1",
        ),
        (lambda e, a, b, u: saf(e, a.T, b.T, u), "A transposed"),
        (lambda e, a, b, u: saf(e, b, a, u), "A belongs to the single vectors"),
        (
            lambda e, a, b, u: unit(((e @ a.T).tanh() * (e @ b.T).tanh() @ u).softmax(0) @ e),
            "B is applied to the mean",
        ),
        (
            lambda e, a, b, u: unit(
                (((e @ a.T).tanh() + (b @ e.mean(dim=0)).tanh()) @ u).softmax(0) @ e
            ),
            "multiplied",
        ),
        (weights_of, "that is a number for each vector"),
        (lambda e, a, b, u: saf(e, a, b, 2 * u), "5 vectors of 3"),
        (lambda e, a, b, u: 1.0, "an array or tensor"),
    ],
)
def test_poolings_that_are_wrong(answer: Callable[..., Any], words: str) -> None:
    refused("exercise_11_3", answer, words)


# 11.4


def nats(name: str, loss: float, pairs: int) -> float:
    return math.nan if name == "internal" else math.log(pairs) - loss / 2


def nats_by_numpy(name: str, loss: float, pairs: int) -> Any:
    return np.log(pairs) - loss / 2 if name in ("external", "global") else np.nan


def nats_by_torch(name: str, loss: float, pairs: int) -> Tensor:
    return torch.tensor(float(pairs)).log() - loss / 2 + (math.nan if name[0] == "i" else 0)


def but_for(bound: Callable[[float, int], float]) -> Callable[[str, float, int], float]:
    return lambda name, loss, pairs: math.nan if name == "internal" else bound(loss, pairs)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda name, loss, pairs: math.log(pairs) - loss / 2, "compares within one pair"),
        (
            lambda name, loss, pairs: math.nan if name != "external" else nats(name, loss, pairs),
            "the global loss is a symmetric InfoNCE",
        ),
        (lambda name, loss, pairs: math.nan, "the external loss is a symmetric InfoNCE"),
        (but_for(lambda loss, pairs: math.log(pairs) - loss), "halve it"),
        (but_for(lambda loss, pairs: 2 * math.log(pairs) - loss), "take their mean"),
        (but_for(lambda loss, pairs: -loss / 2), "log B is missing"),
        (but_for(lambda loss, pairs: loss / 2 - math.log(pairs)), "the sign is turned"),
        (but_for(lambda loss, pairs: math.log2(pairs) - loss / 2), "the natural logarithm"),
        (but_for(lambda loss, pairs: (math.log(pairs) - loss / 2) / math.log(2)), "bits"),
        (but_for(lambda loss, pairs: math.log(pairs - 1) - loss / 2), "one of the B"),
        (but_for(lambda loss, pairs: 0.1), "of 16 pairs is 2.0"),
        (lambda name, loss, pairs: "much", "one number"),
    ],
)
def test_nats_that_are_wrong(answer: Callable[..., Any], words: str) -> None:
    refused("exercise_11_4", answer, words)


# 11.5


def chance(copies: np.ndarray, right: np.ndarray, k: int) -> float:
    hits, orders = 0, list(permutations(range(len(copies))))
    for order in orders:
        first = next(place for place, text in enumerate(order) if right[text])
        hits += sum(copies[text] for text in order[:first]) < k
    return hits / len(orders)


def chance_by_sets(copies: np.ndarray, right: np.ndarray, k: int) -> float:
    """By the formula: the wrong texts that come first, then a right one."""
    wrong, total = copies[~right], len(copies)
    return sum(
        right.sum() / (total - j) / math.comb(total, j)
        for j in range(len(wrong) + 1)
        for some in combinations(wrong, j)
        if sum(some) < k
    )


def chance_by_lists(copies: np.ndarray, right: np.ndarray, k: int) -> float:
    found = []
    for order in permutations(zip(copies.tolist(), right.tolist(), strict=True)):
        pool = [hit for number, hit in order for _ in range(number)]
        found.append(any(pool[:k]))
    return sum(found) / len(found)


def ones(copies: np.ndarray) -> np.ndarray:
    return np.ones_like(copies)


def apart(copies: np.ndarray, right: np.ndarray, k: int) -> float:
    pool, wrong = int(copies.sum()), int(copies[~right].sum())
    return 1 - math.comb(wrong, k) / math.comb(pool, k)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda c, r, k: k / c.sum(), "that is k / P"),
        (lambda c, r, k: k / len(c), "k of the different texts"),
        (lambda c, r, k: c[r].sum() / c.sum(), "the share of the pool"),
        (lambda c, r, k: chance(ones(c), r, k), "several places together"),
        (apart, "scores of their own"),
        (lambda c, r, k: chance(c, r, k + 1), "ranks begin with 1"),
        (lambda c, r, k: r.mean(), "that is R@1"),
        (lambda c, r, k: 0.77, "copies [3, 1, 2, 1, 4]"),
        (lambda c, r, k: c, "one number"),
    ],
)
def test_chances_that_are_wrong(answer: Callable[..., Any], words: str) -> None:
    refused("exercise_11_5", answer, words)


# Tried in many forms and sizes by test_exercises.py: the right answers.
ANSWERS = {
    "exercise_11_1": [by_index, by_a_loop, by_numpy, by_a_matrix],
    "exercise_11_2": [reading, reading_by_loops, reading_by_numpy],
    "exercise_11_3": [saf, saf_by_loops, saf_by_numpy],
    "exercise_11_4": [nats, nats_by_numpy, nats_by_torch],
    "exercise_11_5": [chance, chance_by_sets, chance_by_lists],
}
