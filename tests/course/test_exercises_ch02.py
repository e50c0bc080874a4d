"""Exercises of chapter 2: right answers pass in any way, wrong ones are told why."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from answers import refused

from localmi.course import check

# 2.1

ONE_ROW = [[0, 10, 10], [0, 0, 0], [0, 0, 0]]
NEXT = [[0, 0, 9], [9, 0, 0], [0, 9, 0]]  # where cleo looks: scores[i, i - 1]
WITNESSES: dict[str, Any] = {
    "anna": (10 * torch.eye(4), -1),
    "ben": (ONE_ROW, 1),
    "cleo": (np.where(np.array(NEXT) == 9, 0, 9 * (1 - np.eye(3))), 0),
}


@pytest.mark.parametrize(
    ("name", "pair", "words"),
    [
        ("anna", (10 * torch.eye(4), 1), "off by -8.61 nats, against your direction"),
        ("anna", (10 * torch.eye(4), 0), "too large by log K/(K - 1) at most"),
        ("anna", (torch.zeros(4, 4), -1), "off by 0.00 nats only"),
        ("ben", (ONE_ROW, 0), "Jensen"),
        ("ben", (ONE_ROW, -1), "against your direction"),
        ("cleo", (WITNESSES["cleo"][0], 1), "So both ways"),
        ("cleo", (100 * np.array(NEXT), 0), "off by -0.69 nats only"),
        ("cleo", (WITNESSES["cleo"][0], 2), "the direction is +1, -1 or 0"),
        ("cleo", (WITNESSES["cleo"][0], "up"), "cleo: the direction is a number, no text"),
        ("ben", (torch.zeros(3, 4), 1), "scores are [K, K], of two pairs or more: [3, 4]"),
        ("ben", ([[1.0]], 1), "scores are [K, K], of two pairs or more: [1, 1]"),
        ("ben", ([[1.0, math.inf], [0.0, 0.0]], 1), "scores must be finite"),
        ("ben", (3.0, 1), "ben: the table comes first"),
        ("ben", ONE_ROW, "a table and a direction are asked for"),
        ("ben", 1, "a table and a direction are asked for"),
    ],
)
def test_witnesses_that_are_none(name: str, pair: Any, words: str) -> None:
    refused("exercise_2_1", WITNESSES | {name: pair}, words)


def test_all_three_are_asked_for() -> None:
    refused("exercise_2_1", {"anna": WITNESSES["anna"]}, "keys anna, ben, cleo")
    stub = WITNESSES | {"cleo": (..., ...)}
    refused("exercise_2_1", stub, "still open: cleo")
    stubs = dict.fromkeys(WITNESSES, (..., ...))
    assert check.exercise_2_1(stubs).status == "not tried yet"


# 2.2


SHIFT = (1, 1 / math.e)


@pytest.mark.parametrize("answer", [(..., ...), (1, ...), [..., 1]])
def test_a_pair_that_is_not_filled_in_is_not_tried(answer: Any) -> None:
    assert check.exercise_2_2(answer).status == "not tried yet"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((0, 0), "NWJ has a = e"),
        ((-1, 0.3679), "the sign"),
        ((math.e, 1), "log a = 1"),
        ((2, 0.3679), "not best at 2"),
        ((1, 0), "unlike DV"),
        ((1, 1), "is 1/e, not 0"),
        ((1, 1 - 1 / math.e), "Without the shift"),
        ((1, -1 / math.e), "above 0"),
        ((1, 0.5), "is not I - 0.5"),
        ((1,), "two numbers"),
        ((1, "a third"), "two numbers"),
        ((1, [0.3, 0.4]), "two numbers"),
        (np.eye(2), "two numbers"),
        (1.0, "two numbers"),
    ],
)
def test_shifts_that_are_wrong(answer: Any, words: str) -> None:
    refused("exercise_2_2", answer, words)


# 2.3

PAIRS = {2: 16, 3: 64, 4: 256, 5: 1024, 10: 2**17}


@pytest.mark.parametrize(
    ("nats", "pairs", "words"),
    [
        (2, 8, "2 nats: 8 pairs lose 0.74"),
        (3, 16, "3 nats: 16 pairs lose more than 0.55 (and the cap is 2.77)"),
        (4, 512, "4 nats: fewer pairs lose less"),
        (4, 64, "4 nats: 64 pairs lose more than 0.55"),
        (5, 1000, "5 nats: a power of two is asked for, found 1000"),
        (5, 1, "a power of two"),
        (5, "many", "one number is asked for"),
        (10, 22_026, "too few; by which factor"),
        (10, 16 * 4**8 * 4, "more than are needed"),
    ],
)
def test_pairs_that_are_not_the_fewest(nats: int, pairs: Any, words: str) -> None:
    refused("exercise_2_3", PAIRS | {nats: pairs}, words)


def test_five_numbers_of_pairs_are_asked_for() -> None:
    refused("exercise_2_3", {2: 16}, "keys 2, 3, 4, 5, 10")


def told() -> dict[int, int]:
    return PAIRS


ANSWERS: dict[str, list[Any]] = {
    "exercise_2_1": [WITNESSES, lambda: WITNESSES],
    "exercise_2_2": [
        SHIFT,
        list(SHIFT),
        [1, 0.368],
        np.array(SHIFT),
        torch.tensor(SHIFT),
        torch.tensor([SHIFT], requires_grad=True),
        tuple(torch.tensor(SHIFT, dtype=torch.bfloat16)),
        lambda: SHIFT,
        lambda: np.array(SHIFT),
    ],
    "exercise_2_3": [PAIRS, told, PAIRS | {10: 250_000}],
}
