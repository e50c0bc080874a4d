"""Exercises of chapter 1: right answers pass in any way, wrong ones are told why."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from answers import refused

from localmi.course.exercises.ch01 import Array


def entropy(p: Array) -> float:
    p = p[p > 0]
    return -float((p * np.log(p)).sum())


# 1.1


def by_entropies(table: Array) -> float:
    return entropy(table.sum(axis=1)) + entropy(table.sum(axis=0)) - entropy(table)


def by_ratio(table: Array) -> float:
    of_both = np.outer(table.sum(axis=1), table.sum(axis=0))
    some = table > 0
    return float((table[some] * np.log(table[some] / of_both[some])).sum())


def with_zeros(table: Array) -> float:
    of_both = np.outer(table.sum(axis=1), table.sum(axis=0))
    with np.errstate(divide="ignore", invalid="ignore"):
        return float((table * np.log(table / of_both)).sum())


def log_ratio(table: Array) -> Array:
    return np.log(table / np.outer(table.sum(axis=1), table.sum(axis=0)))


def by_loop(table: Array) -> float:
    total = 0.0
    for x in range(len(table)):
        for y in range(len(table[0])):
            if table[x, y] > 0:
                total += table[x, y] * math.log(table[x, y] / table[x].sum() / table[:, y].sum())
    return total


def by_lists(table: Array) -> float:
    rows = table.tolist()
    columns = [sum(row[y] for row in rows) for y in range(len(rows[0]))]
    return sum(
        p * (math.log(p) - math.log(sum(row)) - math.log(columns[y]))
        for row in rows
        for y, p in enumerate(row)
        if p > 0
    )


def in_torch(table: Array) -> torch.Tensor:
    p = torch.as_tensor(table)
    of_both = p.sum(dim=1, keepdim=True) * p.sum(dim=0)
    return torch.where(p > 0, p * (p / of_both).log(), 0.0).sum()


def in_place(table: Array) -> float:
    of_both = np.outer(table.sum(axis=1), table.sum(axis=0))
    of_both[table == 0] = table[table == 0] = 1e-300
    return float(np.vdot(table, np.log(table / of_both)))


def over_rows_twice(table: Array) -> float:
    both = np.outer(table.sum(axis=1), table.sum(axis=0))
    cells = [(x, y) for x in range(len(table)) for y in range(len(table)) if table[x, y] > 0]
    return float(sum(table[cell] * np.log(table[cell] / both[cell]) for cell in cells))


def margins_unmasked(table: Array) -> float:
    """Wrong where a state never occurs."""
    margins = [table.sum(axis=1), table.sum(axis=0)]
    with np.errstate(all="ignore"):
        return -sum(float((p * np.log(p)).sum()) for p in margins) - entropy(table)


def stops_at_zero(table: Array) -> float:
    """Wrong: leaves a row at its first cell of 0."""
    total = 0.0
    for x, y in np.ndindex(table.shape):
        if (table[x, : y + 1] > 0).all():
            total += table[x, y] * math.log(table[x, y] / table[x].sum() / table[:, y].sum())
    return total


def loop_with_zeros(table: Array) -> float:
    both = np.outer(table.sum(axis=1), table.sum(axis=0))
    return sum(p * math.log(p / q) for p, q in zip(table.flat, both.flat, strict=True))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda p: by_entropies(p) / np.log(2), "bits"),
        (lambda p: -by_entropies(p), "the sign"),
        (lambda p: -(np.outer(p.sum(1), p.sum(0)) * log_ratio(p)).sum(), "not symmetric"),
        (lambda p: log_ratio(p).mean(), "weigh it by p(x, y)"),
        (entropy, "H(X, Y)"),
        (lambda p: entropy(p.sum(1)) + entropy(p.sum(0)), "take H(X, Y) off"),
        (lambda p: entropy(p) - entropy(p.sum(1)), "H(Y | X)"),
        (lambda p: entropy(p) - entropy(p.sum(0)), "H(X | Y)"),
        (with_zeros, "0 log 0"),
        (loop_with_zeros, "0 log 0"),
        (margins_unmasked, "0 log 0"),
        (stops_at_zero, "[0, 0]] has I(X; Y)"),
        (over_rows_twice, "2 states of x and 3 of y"),
        (lambda p: over_rows_twice(p.T), "raised IndexError"),
        (lambda p: 0.0, "has I(X; Y)"),
        (lambda p: p, "one number"),
        (lambda p: "much", "one number"),
    ],
)
def test_information_that_is_wrong(answer: Callable[[Array], Any], words: str) -> None:
    refused("exercise_1_1", answer, words)


# 1.2


def conditional(p: Array) -> float:
    """By the chain rule: I(X; Y | Z) = I(X; Y, Z) - I(X; Z)."""
    return by_entropies(p.reshape(len(p), -1)) - by_entropies(p.sum(axis=1))


def slices(p: Array) -> Array:
    weight = p.sum(axis=(0, 1))
    return np.array([by_entropies(p[:, :, z] / weight[z]) for z in range(p.shape[2])])


def slice_by_slice(p: Array) -> float:
    return float(slices(p) @ p.sum(axis=(0, 1)))


def without_p_of_z(p: Array, sign: int = 1) -> float:
    return slice_by_slice(p) + sign * entropy(p.sum(axis=(0, 1)))


def zeros_in_slices(p: Array) -> float:
    weight = p.sum(axis=(0, 1))
    return sum(weight[z] * with_zeros(p[:, :, z] / weight[z]) for z in range(p.shape[2]))


def by_three_loops(p: Array) -> float:
    of_z, total = p.sum(axis=(0, 1)), 0.0
    for x, y, z in np.ndindex(p.shape):
        if p[x, y, z] > 0:
            ratio = p[x, y, z] * of_z[z] / p[x, :, z].sum() / p[:, y, z].sum()
            total += p[x, y, z] * math.log(ratio)
    return total


def conditional_in_torch(p: Array) -> torch.Tensor:
    both = torch.tensor(p)
    of_x, of_y, of_z = (both.sum(dim=axes, keepdim=True) for axes in (1, 0, (0, 1)))
    return torch.special.xlogy(both, both * of_z / (of_x * of_y)).nan_to_num().sum()


def conditional_margins_unmasked(p: Array) -> float:
    parts = [p.sum(axis=1), p.sum(axis=0), -p.sum(axis=(0, 1))]
    with np.errstate(all="ignore"):
        return -sum(float((q * np.log(abs(q))).sum()) for q in parts) - entropy(p)


def slices_along(axis: int) -> Callable[[Array], float]:
    """Wrong: as many slices as x or y has states."""

    def wrong(p: Array) -> float:
        found = [(p[:, :, z].sum(), p[:, :, z]) for z in range(p.shape[axis])]
        return sum(weight * by_entropies(inside / weight) for weight, inside in found)

    return wrong


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda p: by_entropies(p.sum(axis=2)), "summed out"),
        (lambda p: slices(p).mean(), "every z counts alike"),
        (lambda p: slices(p).sum(), "are added"),
        (without_p_of_z, "H(Z) too much"),
        (lambda p: without_p_of_z(p, -1), "H(Z) too little"),
        (lambda p: by_entropies(p.reshape(len(p), -1)), "the whole"),
        (lambda p: by_entropies(p.swapaxes(0, 1).reshape(p.shape[1], -1)), "take I(Z; Y) off"),
        (lambda p: conditional(p.transpose(1, 2, 0)), "last axis, not x"),
        (lambda p: conditional(p.transpose(0, 2, 1)), "last axis, not y"),
        (lambda p: -conditional(p), "the sign"),
        (slices_along(0), "z of 5"),
        (slices_along(1), "z of 5"),
        (lambda p: conditional(p) / np.log(2), "bits"),
        (zeros_in_slices, "leave them out"),
        (conditional_margins_unmasked, "leave them out"),
        (lambda p: 0.0, "x of 3 states, y of 4, z of 5"),
    ],
)
def test_conditional_information_that_is_wrong(answer: Callable[[Array], Any], words: str) -> None:
    refused("exercise_1_2", answer, words)


# 1.3

CAN: dict[str, Any] = dict.fromkeys("behj", True) | {
    "a": 1.0986, "c": 0.4, "d": 0.3, "f": 4.957, "g": 2.877, "i": 0.4,
}  # fmt: skip


def told() -> dict[str, Any]:
    return dict(CAN)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("a", True, "a cannot be true: nobody tells more"),
        ("a", 1.2, "is another: nobody tells more"),
        ("a", math.log2(3), "a cannot be true, but the nearest"),
        ("b", 0.0, "b can be true: a differential entropy"),
        ("c", True, "c cannot be true: a feature"),
        ("d", 0.5, "is another: both together"),
        ("e", 0.0, "e can be true: parity"),
        ("f", math.log(500), "KSG never exceeds"),
        ("g", 0.1438, "add up"),
        ("h", 0.0, "h can be true: fluctuations"),
        ("i", False, "units cancel; which number can?"),
        ("j", 0.0, "j can be true: I is symmetric"),
        ("d", "none", "one number is asked for"),
    ],
)
def test_sentences_that_are_judged_wrongly(key: str, value: Any, words: str) -> None:
    refused("exercise_1_3", CAN | {key: value}, words)


def test_all_ten_sentences_are_asked_for() -> None:
    refused("exercise_1_3", {"a": True}, "keys a, b, c")
    refused("exercise_1_3", [True] * 10, "keys a, b, c")


ANSWERS = {
    "exercise_1_1": [by_entropies, by_ratio, by_loop, by_lists, in_torch, in_place],
    "exercise_1_2": [conditional, slice_by_slice, by_three_loops, conditional_in_torch],
    "exercise_1_3": [CAN, told],
}
