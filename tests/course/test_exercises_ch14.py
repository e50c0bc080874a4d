"""Exercises of chapter 14: a stub fails, every right answer passes, wrong ones are told why."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from answers import refused, stub

from localmi.course import check


@pytest.mark.parametrize("name", ["exercise_14_1", "exercise_14_2", "exercise_14_3"])
def test_a_stub_is_not_tried(name: str) -> None:
    assert getattr(check, name)(stub).status == "not tried yet"


# 14.1


def batch_of(seed: int, step: int, images: int, batch_size: int) -> np.ndarray:
    epoch, place = divmod(step, images // batch_size)
    order = np.random.default_rng([seed, epoch]).permutation(images)
    return order[place * batch_size : (place + 1) * batch_size]


def my_rows(
    seed: int, step: int, images: int, batch_size: int, rank: int, ranks: int
) -> np.ndarray:
    return np.array_split(batch_of(seed, step, images, batch_size), ranks)[rank]


def in_turn(
    seed: int, step: int, images: int, batch_size: int, rank: int, ranks: int
) -> list[int]:
    return batch_of(seed, step, images, batch_size)[rank::ranks].tolist()


def by_torch(
    seed: int, step: int, images: int, batch_size: int, rank: int, ranks: int
) -> torch.Tensor:
    epoch, place = divmod(step, images // batch_size)
    generator = torch.Generator().manual_seed(1000 * seed + epoch)
    batch = torch.randperm(images, generator=generator).split(batch_size)[place]
    return batch.tensor_split(ranks)[rank]


@pytest.mark.parametrize(
    "answer",
    [
        my_rows,
        in_turn,
        by_torch,
        lambda *these: tuple(my_rows(*these)),
        lambda *these: iter(my_rows(*these)),
        lambda *these: set(in_turn(*these)),
        lambda *these: my_rows(*these)[::-1],
        lambda *these: my_rows(*these[:4], these[5] - 1 - these[4], these[5]),  # from behind
    ],
)
def test_rows_that_are_right(answer: Callable[..., Any]) -> None:
    verdict = check.exercise_14_1(answer)
    assert verdict.passed, verdict


def each_shuffles_for_itself(seed, step, images, batch_size, rank, ranks):  # type: ignore
    return my_rows(seed + rank, step, images, batch_size, rank, ranks)


def each_has_a_whole_batch(seed, step, images, batch_size, rank, ranks):  # type: ignore
    return batch_of(seed, step, images, batch_size)


def by_how_many_there_are(seed, step, images, batch_size, rank, ranks):  # type: ignore
    return my_rows(seed + ranks, step, images, batch_size, rank, ranks)


def drawn_each_step(seed, step, images, batch_size, rank, ranks):  # type: ignore
    order = np.random.default_rng([seed, step]).permutation(images)
    return np.array_split(order[:batch_size], ranks)[rank]


def one_order_for_ever(seed, step, images, batch_size, rank, ranks):  # type: ignore
    return my_rows(seed, step % (images // batch_size), images, batch_size, rank, ranks)


def not_shuffled(seed, step, images, batch_size, rank, ranks):  # type: ignore
    start = (step % (images // batch_size)) * batch_size + step // (images // batch_size)
    return np.array_split(np.arange(start, start + batch_size), ranks)[rank]


def with_the_rest(seed, step, images, batch_size, rank, ranks):  # type: ignore
    epoch, place = divmod(step, -(-images // batch_size))
    order = np.random.default_rng([seed, epoch]).permutation(images)
    return np.array_split(order[place * batch_size : (place + 1) * batch_size], ranks)[rank]


def the_last_has_the_rest(seed, step, images, batch_size, rank, ranks):  # type: ignore
    batch, own = batch_of(seed, step, images, batch_size), batch_size // ranks
    return batch[rank * own :] if rank == ranks - 1 else batch[rank * own : (rank + 1) * own]


def the_rest_is_lost(seed, step, images, batch_size, rank, ranks):  # type: ignore
    own = batch_size // ranks
    return batch_of(seed, step, images, batch_size)[rank * own : (rank + 1) * own]


class GoesOn:
    """A generator that was seeded once: what comes depends on what was asked before."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.order = np.empty(0, int)

    def __call__(self, seed, step, images, batch_size, rank, ranks):  # type: ignore
        if step % (images // batch_size) == 0 and rank == 0:
            self.order = self.rng.permutation(images)
        place = step % (images // batch_size)
        batch = self.order[place * batch_size : (place + 1) * batch_size]
        return np.array_split(batch, ranks)[rank]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (each_shuffles_for_itself, "all must shuffle alike"),
        (each_has_a_whole_batch, "take the same image"),
        (by_how_many_there_are, "all must shuffle alike"),
        (drawn_each_step, "images come twice"),
        (one_order_for_ever, "the order of the first"),
        (not_shuffled, "neighbours"),
        (with_the_rest, "an epoch has 4 steps"),
        (the_last_has_the_rest, "have [2, 2, 2, 2, 4]"),
        (the_rest_is_lost, "together have 10 images"),
        (GoesOn(), "what was asked before"),
        (lambda seed, *these: my_rows(0, *these), "use the seed"),
        (lambda *these: my_rows(*these)[:-1], "one process alone has 11 images"),
        (lambda *these: my_rows(*these) + 1, "numbers 0 to 52"),
        (lambda *these: my_rows(*these) / 1, "whole numbers"),
        (lambda *these: len(my_rows(*these)), "numbers of images are asked for"),
        (lambda *these: "0, 1", "numbers of images are asked for"),
        (lambda *these: my_rows(*these[:4], these[4] + 1, these[5]), "IndexError"),
        (lambda *these: np.resize(my_rows(*these), 12), "take the same image"),
    ],
)
def test_rows_that_are_wrong(answer: Callable[..., Any], words: str) -> None:
    refused("exercise_14_1", answer, words)


# 14.2


def my_spread(winners: np.ndarray, regions: int) -> float:
    share = np.bincount(winners, minlength=regions) / len(winners)
    share = share[share > 0]
    return float(-(share * np.log(share)).sum() / np.log(regions))


def in_bits(winners: np.ndarray, regions: int) -> float:
    _, counts = np.unique(winners, return_counts=True)
    share = counts / counts.sum()
    return float((share * np.log2(1 / share)).sum() / np.log2(regions))


def by_loop(winners: np.ndarray, regions: int) -> float:
    total = 0.0
    for count in Counter(winners.tolist()).values():
        total -= count / len(winners) * np.log(count / len(winners)) / np.log(regions)
    return total


def by_torch_too(winners: np.ndarray, regions: int) -> torch.Tensor:
    share = torch.bincount(torch.from_numpy(winners), minlength=regions) / len(winners)
    return torch.special.entr(share.double()).sum() / np.log(regions)


@pytest.mark.parametrize("answer", [my_spread, in_bits, by_loop, by_torch_too])
def test_spreads_that_are_right(answer: Callable[..., Any]) -> None:
    verdict = check.exercise_14_2(answer)
    assert verdict.passed, verdict


def without_a_guard(winners: np.ndarray, regions: int) -> float:
    share = np.bincount(winners, minlength=regions) / len(winners)
    with np.errstate(all="ignore"):
        return float(-(share * np.log(share)).sum() / np.log(regions))


def of_those_that_win(winners: np.ndarray, regions: int) -> float:
    _, counts = np.unique(winners, return_counts=True)
    share = counts / counts.sum()
    return float(-(share * np.log(share)).sum() / np.log(max(2, len(share))))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda w, n: my_spread(w, n) * np.log(n), "in nats"),
        (lambda w, n: my_spread(w, n) * np.log2(n), "in bits"),
        (of_those_that_win, "also those that never win"),
        (lambda w, n: 1 - my_spread(w, n), "0 where one wins always"),
        (lambda w, n: -my_spread(w, n), "the sign"),
        (without_a_guard, "it gives nan: a region that never wins adds nothing"),
        (lambda w, n: my_spread(w, 6), "winners"),
        (lambda w, n: 0.0, "winners [7, 2, 2, 7, 2, 9] of 16 regions"),
        (lambda w, n: np.bincount(w, minlength=n) / len(w), "one number"),
        (lambda w, n: "even", "one number"),
        (lambda w, n: w[99], "IndexError"),
    ],
)
def test_spreads_that_are_wrong(answer: Callable[..., Any], words: str) -> None:
    refused("exercise_14_2", answer, words)


# 14.3


def my_pairs(nats: float, room: float) -> int:
    return max(2, 2 ** math.ceil((nats + room) / math.log(2)))


def by_doubling(nats: float, room: float) -> int:
    pairs = 2
    while math.log(pairs) < nats + room:
        pairs *= 2
    return pairs


def by_exp(nats: float, room: float) -> float:
    return float(np.exp2(np.ceil(np.log2(max(2.0, np.exp(nats + room))))))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda nats, room: math.ceil(math.exp(nats + room)), "a power of two"),
        (lambda nats, room: 2 ** math.ceil((nats + room) / math.log(2)), "2 at least; yours is 1"),
        (lambda nats, room: max(2, 2 ** math.ceil(nats + room)), "32 pairs have a cap of 3.47"),
        (lambda nats, room: my_pairs(nats, 0), "64 pairs have a cap of 4.16"),
        (lambda nats, room: 2 * my_pairs(nats, room), "half of them would do"),
        (lambda nats, room: 512, "half of them would do"),
        (lambda nats, room: 0, "a power of two"),
        (lambda nats, room: -8, "a power of two"),
        (lambda nats, room: math.nan, "a power of two"),
        (lambda nats, room: math.inf, "a power of two"),
        (lambda nats, room: [2, 4], "one number"),
    ],
)
def test_pairs_that_are_wrong(answer: Callable[..., Any], words: str) -> None:
    refused("exercise_14_3", answer, words)


ANSWERS = {
    "exercise_14_1": [my_rows, in_turn, by_torch],
    "exercise_14_2": [my_spread, in_bits, by_loop, by_torch_too],
    "exercise_14_3": [my_pairs, by_doubling, by_exp],
}
