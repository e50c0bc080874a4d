"""Exercises of chapter 4: a stub fails, a solution passes, wrong answers are told why."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from localmi.course import check
from localmi.course.exercises.ch04 import Array, readers
from localmi.mi.distributions import DiscreteWorld


def stub(*_: Any) -> Any: ...


@pytest.mark.parametrize("name", ["exercise_4_1", "exercise_4_2", "exercise_4_3"])
def test_a_stub_is_not_tried(name: str) -> None:
    assert getattr(check, name)(stub).status == "not tried yet"


# 4.1


def information(a: str, b: str, given: tuple[str, ...] = ()) -> Callable[[Array], float]:
    """I(a; b | given) of the table [h, z1, z2], by the library."""
    return lambda p: DiscreteWorld(("h", "z1", "z2"), p).conditional_mi(a, b, given)


def gap_by_loops(p: Array) -> float:
    value = 0.0
    for h, z1, z2 in np.ndindex(p.shape):
        if p[h, z1, z2] > 0:
            chance = p[h, z1].sum() * p[:, z1, z2].sum()
            value += p[h, z1, z2] * math.log(p[h, z1, z2] * p[:, z1].sum() / chance)
    return value


def gap_without_zeros(p: Array) -> float:
    """Right where every case can occur, nan elsewhere."""
    whole, first = p.reshape(len(p), -1), p.sum(axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return sum(
            sign * float((q * np.log(q / np.outer(q.sum(axis=1), q.sum(axis=0)))).sum())
            for sign, q in ((1, whole), (-1, first))
        )


def gap_in_torch(p: Array) -> Tensor:
    def entropy(q: Tensor) -> Tensor:
        return -torch.special.xlogy(q, q).sum()

    q = torch.from_numpy(p)
    return entropy(q.sum(2)) + entropy(q.sum(0)) - entropy(q) - entropy(q.sum((0, 2)))


def gap_in_place(p: Array) -> Array:
    value = gap_by_loops(p)
    p *= 0
    return np.array([value])


@pytest.mark.parametrize(
    "answer", [gap_by_loops, gap_in_torch, gap_in_place, information("z2", "h", ("z1",))]
)
def test_gaps_that_are_right(answer: Callable[[Array], float]) -> None:
    shapes = []

    def seen(p: Array) -> float:
        shapes.append(p.shape)
        return answer(p)

    assert check.exercise_4_1(seen).passed
    assert max(len(set(shape)) for shape in shapes) == 3, "one table whose sides all differ"


def gap_with_wrong_sides(p: Array) -> float:
    """Sums over as many cases of H as there are of Z2: right where these are equally many."""
    return gap_by_loops(p[: p.shape[2], :, : p.shape[0]])


def gap_with_margins_unmasked(p: Array) -> float:
    with np.errstate(all="ignore"):
        parts = [p.sum(axis=2), p.sum(axis=0), p.sum(axis=(0, 2))]
        h_z1, z1_z2, z1 = (-float((q * np.log(q)).sum()) for q in parts)
        return h_z1 + z1_z2 - z1 + float((p[p > 0] * np.log(p[p > 0])).sum())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (information("z2", "h"), "without the condition"),
        (information("z1", "h"), "what the region knows itself"),
        (information("z1", "h", ("z2",)), "roles of z1 and z2"),
        (information("z1", "z2", ("h",)), "the condition is z1, not H"),
        (information("z1", "h", ("z1", "z2")), "z contains z1"),
        (lambda p: information("h", "z1")(p) + gap_by_loops(p), "take off I(z1; H)"),
        (lambda p: gap_by_loops(p) / math.log(2), "bits"),
        (lambda p: -gap_by_loops(p), "sign"),
        (gap_without_zeros, "0 log 0"),
        (gap_with_wrong_sides, "it gives"),
        (gap_with_margins_unmasked, "0 log 0"),
        (lambda p: 0.123, "it gives"),
        (lambda p: p, "one number"),
    ],
)
def test_gaps_that_are_wrong(answer: Callable[[Array], Any], words: str) -> None:
    verdict = check.exercise_4_1(answer)
    assert verdict.status == "not yet"
    assert words in verdict.words


# 4.2


def looks(wrong: float) -> Array:
    """Two independent looks at one finding."""
    return np.array(
        [
            [
                [0.5 * np.prod([wrong if z != h else 1 - wrong for z in (a, b)]) for b in (0, 1)]
                for a in (0, 1)
            ]
            for h in (0, 1)
        ]
    )


def both_needed(wrong: float) -> Array:
    """A finding that takes two independent causes."""
    table = np.empty((2, 2, 2))
    for h, a, b in np.ndindex(2, 2, 2):
        table[h, a, b] = (1 - wrong if h == (a and b) else wrong) / 4
    return table


MORE, LESS = looks(0.1), both_needed(0.02)
COPIES, PARITY = looks(0.0), np.zeros((2, 2, 2))
for h, a in np.ndindex(2, 2):
    PARITY[h, a, h ^ a] = 1 / 4


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((LESS, LESS), "more: the regions tell 0.17"),
        ((MORE, MORE), "less: the regions tell 0.368 and 0.368"),
        ((COPIES, LESS), "more: both together leave 0.000 nats"),
        ((MORE, PARITY), "less: a region tells 0.000 nats only"),
        ((looks(0.35), LESS), "more: a region tells 0.046 nats only"),
        ((looks(0.3), LESS), "together 0.152; what do they have in common"),
        ((MORE, 2 * LESS), "less: the sum is 2, not 1"),
        ((MORE, -LESS), "less: a probability is below 0"),
        ((LESS, MORE), "more: the regions tell"),
        ((LESS, MORE), "this is the other kind, (more, less) are asked for"),
        ((MORE[0], LESS), "more: the table is [H, Z1, Z2], yours has the shape [2, 2]"),
        ((MORE, "less"), "an array or tensor of numbers"),
        (MORE[:1], "two tables are asked for"),
        ((MORE, LESS, LESS), "two tables are asked for"),
    ],
)
def test_worlds_that_are_not_as_asked(answer: Any, words: str) -> None:
    verdict = check.exercise_4_2(answer)
    assert verdict.status == "not yet"
    assert words in verdict.words


# 4.3

WHO = {"A": "b3", "B": "b1", "C": "b4", "D": "b2"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"A": "b4"}, "A is not b4: let all regions of a matched pair"),
        ({"C": "b3"}, "C is not b3: let all regions"),
        ({"B": "b2"}, "B is not b2: let the score of a region be the same"),
        ({"D": "b1"}, "D is not b1: let the score"),
        ({"A": "b1"}, "A is not b1: two of the four find nats in pure noise"),
        ({"D": "b4"}, "D is not b4: two of the four"),
        ({"D": "max"}, "D: one of b1 to b4 is asked for, found 'max'"),
        ({"E": "b1"}, "keys A, B, C, D"),
    ],
)
def test_readers_that_are_taken_for_others(change: dict[str, str], words: str) -> None:
    verdict = check.exercise_4_3(WHO | change)
    assert verdict.status == "not yet"
    assert words in verdict.words


def test_what_the_hints_say_tells_the_readers_apart() -> None:
    torch.manual_seed(0)
    noise, of_regions = torch.randn(64, 16, 64), torch.randn(64, 16, 1).expand(-1, -1, 64)
    one_region = torch.full((64, 16, 64), -5.0)
    one_region[:, 0] = 5.0
    one_region[range(64), :, range(64)] = 5.0
    found = {
        WHO[name]: [float(reader(f)) for f in (noise, of_regions, one_region)]
        for name, reader in readers.items()
    }
    assert min(found["b1"][0], found["b2"][0]) > 1 > 0 > max(found["b3"][0], found["b4"][0])
    assert found["b1"][1] > 1
    assert found["b2"][1] == pytest.approx(0, abs=0.3)
    assert found["b3"][2] == pytest.approx(0, abs=1e-5)
    assert found["b4"][2] > 2


ANSWERS = {
    "exercise_4_1": [information("z2", "h", ("z1",)), gap_by_loops, gap_in_torch, gap_in_place],
    "exercise_4_2": [(MORE, LESS), lambda: [MORE.tolist(), torch.from_numpy(LESS)]],
    "exercise_4_3": [WHO, lambda: WHO],
}
