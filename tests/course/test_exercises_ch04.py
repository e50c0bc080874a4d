"""Exercises of chapter 4: a stub fails, a solution passes, wrong answers are told why."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from localmi.course import check
from localmi.course.exercises.ch04 import Array
from localmi.mi.bounds import dv, infonce
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


def from_the_integral(r: int) -> float:
    u = (np.arange(100_000) + 0.5) / 100_000
    log_density = math.log(r) + (r - 1) * np.log(u)
    return float((np.exp(log_density) * log_density).mean())


@pytest.mark.parametrize(
    "answer",
    [
        lambda r: math.log(r) - (r - 1) / r,
        lambda r: np.array([np.log(r) + 1 / r - 1]),
        lambda r: torch.tensor(float(r)).log() - 1 + 1 / r,
        from_the_integral,
        math.log,  # of any independent regions
        lambda r: np.log([r]),
    ],
)
def test_nothings_that_are_right(answer: Callable[[int], float]) -> None:
    assert check.exercise_4_2(answer).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (math.log2, "bits"),
        (lambda r: -math.log(r), "sign"),
        (lambda r: math.log(16), "nothing to choose"),
        (lambda r: math.log(r) - (r == 2) / 2, "R = 2"),
        (lambda r: math.log(r) - 1, "limit for many regions"),
        (lambda r: math.log2(r) - (r - 1) / r / math.log(2), "bits"),
        (lambda r: (r - 1) / r - math.log(r), "sign"),
        (lambda r: math.log(r) - 1 / r + (r == 1), "multiplied by R - 1"),
        (lambda r: math.log(r) + (r - 1) / r, "subtracted"),
        (lambda r: r - 1 - math.log(r), "averaged over the best region"),
        (lambda r: (r - 1) / r, "log R is missing"),
        (lambda r: 1.77, "it gives"),
        (lambda r: math.log(r) - 15 / 16, "nothing to choose"),
    ],
)
def test_nothings_that_are_wrong(answer: Callable[[int], float], words: str) -> None:
    verdict = check.exercise_4_2(answer)
    assert verdict.status == "not yet"
    assert words in verdict.words


# 4.3


def matched(f: Tensor) -> Tensor:
    return f.diagonal().mean()


def others(f: Tensor) -> Tensor:
    """Scores without the diagonal, which is -inf."""
    return f.masked_fill(torch.eye(len(f), dtype=torch.bool), -math.inf)


def by_exp(f: Tensor) -> Tensor:
    return matched(f) - f.exp().sum(dim=1).log().mean() + math.log(len(f))


def by_softmax(f: Tensor) -> float:
    return float(f.log_softmax(dim=1).diagonal().mean() + math.log(len(f)))


def by_loops(f: Tensor, shift: float = 1.0) -> float:
    rows: list[list[float]] = f.tolist()
    total = 0.0
    for i, row in enumerate(rows):
        top = shift * max(row)
        total += row[i] - top - math.log(sum(math.exp(one - top) for one in row))
    return total / len(rows) + math.log(len(rows))


def in_numpy(f: Tensor) -> Any:
    table = f.numpy()
    return np.diag(table).mean() - np.logaddexp.reduce(table, axis=1).mean() + np.log(len(table))


@pytest.mark.parametrize(
    "answer",
    [
        lambda f: infonce(f, direction="image_to_text"),
        by_softmax,
        by_loops,
        in_numpy,
        lambda f: np.array([in_numpy(f)]),
    ],
)
def test_repairs_that_are_right(answer: Callable[[Tensor], Any]) -> None:
    assert check.exercise_4_3(answer).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda f: by_softmax(f) - math.log(len(f)), "log K is forgotten"),
        (lambda f: by_softmax(f) - 2 * math.log(len(f)), "added, not subtracted"),
        (lambda f: by_softmax(f) + math.log(len(f) - 1), "not log K(K - 1)"),
        (lambda f: by_softmax(f) + math.log(1 - 1 / len(f)), "not log(K - 1)"),
        (lambda f: infonce(f, direction="text_to_image"), "over columns"),
        (lambda f: matched(f) - others(f).flatten().logsumexp(0), "the published loss itself"),
        (dv, "this is DV"),
        (lambda f: matched(f) - others(f).flatten().logsumexp(0) + math.log(len(f)),
         "one sum over all mismatched pairs"),
        (lambda f: matched(f) - f.flatten().logsumexp(0) + 2 * math.log(len(f)),
         "one sum over all pairs"),
        (lambda f: matched(f) - f.flatten().logsumexp(0) + math.log(len(f)),
         "one sum over all pairs"),
        (lambda f: matched(f) - others(f).logsumexp(1).mean() + math.log(len(f)), "left out"),
        (lambda f: matched(f) - others(f).logsumexp(1).mean() + math.log(len(f) - 1), "left out"),
        (lambda f: matched(f) - others(f).logsumexp(1).mean(), "and log K is forgotten"),
        (lambda f: -by_softmax(f), "sign"),
        (lambda f: by_softmax(f) * len(f), "take the mean"),
        (by_exp, "use logsumexp"),
        (lambda f: by_loops(f, shift=0.0), "OverflowError"),
        (lambda f: by_softmax(f) + math.log(5 / len(f)), "a perfect critic gets log K"),
        (lambda f: f.diagonal() - f.logsumexp(1) + math.log(len(f)), "one number"),
        (infonce, "log sum_j"),
    ],
)  # fmt: skip
def test_repairs_that_are_wrong(answer: Callable[[Tensor], Any], words: str) -> None:
    verdict = check.exercise_4_3(answer)
    assert verdict.status == "not yet"
    assert words in verdict.words


ANSWERS = {
    "exercise_4_1": [information("z2", "h", ("z1",)), gap_by_loops, gap_in_torch, gap_in_place],
    "exercise_4_2": [math.log, from_the_integral],
    "exercise_4_3": [by_softmax],
}
SQUARE = {"exercise_4_3"}  # scores [K, K]
