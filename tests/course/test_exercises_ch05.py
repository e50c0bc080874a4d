"""Exercises of chapter 5: a stub fails, a solution passes, wrong answers are told why."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from localmi.course import check
from localmi.data.labels import label_targets
from localmi.data.reports import split_sentences
from localmi.mi.scores import may_mismatch


def stub(*_: Any) -> Any: ...


@pytest.mark.parametrize("name", [f"exercise_5_{number}" for number in (1, 2, 3, 4)])
def test_a_stub_is_not_tried(name: str) -> None:
    assert getattr(check, name)(stub).status == "not tried yet"


# 5.1


def my_split(text: str) -> list[str]:
    pieces = re.split(r"(?<=\.)\s+", " ".join(text.split()))
    return [piece for piece in pieces if re.search("[A-Za-z]", piece)]


def test_splitters_that_are_right() -> None:
    assert check.exercise_5_1(my_split).passed
    assert check.exercise_5_1(split_sentences).passed
    assert check.exercise_5_1(
        lambda text: [sentence.rstrip(".") for sentence in my_split(text)]
    ).passed
    assert check.exercise_5_1(lambda text: (sentence for sentence in my_split(text))).passed
    assert check.exercise_5_1(lambda text: np.array(my_split(text))).passed


def without_numbers(text: str) -> list[str]:
    """Every number with a period behind it, and no decimal, is taken for a list's."""
    return my_split(re.sub(r"\d+\.(?!\d)", "", text))


def without_words_of_digits(text: str) -> list[str]:
    """A sentence that ends in a number loses it, and its end."""
    return my_split(re.sub(r"\b\d+\.\s", "", text))


def numbers_of_one_digit(text: str) -> list[str]:
    pieces = re.split(r"(?<=\.)\s+", " ".join(text.split()))
    return [piece for piece in pieces if not re.fullmatch(r"\d\.", piece)]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda text: [text], "are two sentences"),
        (lambda text: text, "a list of strings"),
        (lambda text: [p for p in text.split(".") if p.strip()], "ends no sentence"),
        (
            lambda text: [p for p in re.sub(r"[0-9]+\.", "", text).split(".") if p.strip()],
            "no longer 2.5 cm",
        ),
        (lambda text: [p for p in re.split(r"\n|(?<=\.)\s+", text) if p.strip()], "a line's end"),
        (lambda text: re.split(r"(?<=\.)\s+", " ".join(text.split())), "a list's number"),
        (
            lambda text: re.split(r"(?<=[a-z]\.)\s+", " ".join(text.split())),
            "two sentences without numbers",
        ),
        (without_numbers, "12 is no number of a list"),
        (without_words_of_digits, "'Fracture of rib 12. No effusion.' are two"),
        (numbers_of_one_digit, "a list's number is no sentence"),
        (lambda text: {"sentences": 2}.values(), "a list of strings"),
    ],
)
def test_splitters_that_are_wrong(answer: Callable[[str], Any], words: str) -> None:
    verdict = check.exercise_5_1(answer)
    assert verdict.status == "not yet"
    assert words in verdict.words


# 5.2


def h(p: float) -> float:
    return -sum(q * math.log(q) for q in (p, 1 - p) if q > 0)


def my_mi(p: float, error: float) -> float:
    return h(p * (1 - error) + (1 - p) * error) - h(error)


def by_python_s_own(p: float, error: float) -> float:
    """Wrong without noise: log 0 raises."""
    said = p * (1 - error) + (1 - p) * error
    parts = (1 - said, error, said, 1 - error)
    x, y, z, w = (one * math.log(one) for one in parts)
    return y + w - x - z


def test_the_mi_of_a_finding() -> None:
    assert check.exercise_5_2(my_mi).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda p, e: my_mi(p, e) / math.log(2), "bits"),
        (lambda p, e: h(p * (1 - e) + (1 - p) * e), "what the noise adds"),
        (lambda p, e: h(p) - h(e), "how often it is said"),
        (lambda p, e: -my_mi(p, e), "sign"),
        (lambda p, e: my_mi(p, e) if e else math.nan, "0 log 0"),
        (by_python_s_own, "0 log 0"),
        (lambda p, e: 1.0, "p = .3, e = .1"),
    ],
)
def test_mi_that_is_wrong(answer: Callable[[float, float], float], words: str) -> None:
    verdict = check.exercise_5_2(answer)
    assert verdict.status == "not yet"
    assert words in verdict.words


# 5.3


def test_the_policy_zeros() -> None:
    assert check.exercise_5_3(zeros_by_the_library).passed
    assert check.exercise_5_3(lambda values: ((values == 1) * 1, ~np.isnan(values))).passed
    assert check.exercise_5_3(zeros_by_a_loop).passed
    assert check.exercise_5_3(zeros_by_torch).passed
    # a target that does not count may be anything
    assert check.exercise_5_3(lambda values: (np.maximum(values, 0), ~np.isnan(values))).passed


def zeros_by_the_library(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return label_targets(values, "zeros")


def zeros_by_a_loop(values: np.ndarray) -> tuple[list[list[int]], list[list[bool]]]:
    targets = [[int(value == 1) for value in row] for row in values]
    return targets, [[not math.isnan(value) for value in row] for row in values]


def zeros_by_torch(values: np.ndarray) -> tuple[Tensor, Tensor]:
    tensor = torch.from_numpy(values)
    return (tensor == 1).float(), ~tensor.isnan()


def targets_of_ones(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.abs(values), ~np.isnan(values)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda values: label_targets(values, "explicit"), "the policy explicit"),
        (lambda values: label_targets(values, "ones"), "the policy ones"),
        (targets_of_ones, "the policy ones"),
        (lambda values: label_targets(values, "zeros_blank_zero"), "a blank counts"),
        (lambda values: (values == 1, values != np.nan), "a blank counts"),
        (lambda values: (values == 1, np.isnan(values)), "the mask is the wrong way round"),
        (lambda values: (values, ~np.isnan(values)), "still -1"),
        (lambda values: (~np.isnan(values), values == 1), "the other way round"),
        (lambda values: (values == 0, ~np.isnan(values)), "1 where a label is 1"),
        (lambda values: (values == 1, values == -1), "every label that is not blank"),
        (lambda values: values == 1, "two arrays"),
        (lambda values: (values[0] == 1, ~np.isnan(values[0])), "the shape of the values"),
    ],
)
def test_policies_that_are_wrong(answer: Callable[[np.ndarray], Any], words: str) -> None:
    verdict = check.exercise_5_3(answer)
    assert verdict.status == "not yet"
    assert words in verdict.words


# 5.4


def same(values: Tensor) -> Tensor:
    return values[:, None] == values[None, :]


def test_the_mask_of_mismatches() -> None:
    for answer in (by_torch, by_the_library, by_numpy, by_a_loop):
        assert check.exercise_5_4(answer).passed


def by_torch(study: Tensor, text: Tensor) -> Tensor:
    return ~same(study) & ~same(text)


def by_the_library(study: Tensor, text: Tensor) -> Tensor:
    return may_mismatch(study, study, text)


def by_numpy(study: Tensor, text: Tensor) -> np.ndarray:
    pairs = np.not_equal.outer(study.numpy(), study.numpy())
    return pairs & np.not_equal.outer(text.numpy(), text.numpy())


def by_a_loop(study: Tensor, text: Tensor) -> list[list[bool]]:
    pairs = list(zip(study.tolist(), text.tolist(), strict=True))
    return [[mine[0] != other[0] and mine[1] != other[1] for other in pairs] for mine in pairs]


def of_neighbours(study: Tensor, text: Tensor) -> Tensor:
    """Wrong unless the images of a study stand side by side."""
    allowed = ~torch.eye(len(study), dtype=torch.bool)
    for i in range(len(study) - 1):
        allowed[i, i + 1] = allowed[i + 1, i] = study[i] != study[i + 1]
    return allowed & ~same(text)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda study, text: study != text, "every row with every column"),
        (lambda study, text: torch.ones(4, 4), "diagonal"),
        (lambda study, text: ~torch.eye(4, dtype=torch.bool), "one study"),
        (lambda study, text: ~same(study), "read the same"),
        (lambda study, text: same(study) | same(text), "wrong way round: True is to mean"),
        (lambda study, text: (~(same(study) | same(text))).triu(), "half of the pairs is missing"),
        (lambda study, text: ~(same(study) & same(text)), "one study"),
        (lambda study, text: torch.zeros(4, 4), "EITHER"),
        (lambda study, text: [[True]], "every row with every column"),
        (lambda study, text: {"allowed": True}, "an array or tensor"),
        (of_neighbours, "of three pairs"),
    ],
)
def test_masks_that_are_wrong(answer: Callable[[Tensor, Tensor], Any], words: str) -> None:
    verdict = check.exercise_5_4(answer)
    assert verdict.status == "not yet"
    assert words in verdict.words


# Tried in many forms and sizes by test_exercises.py: the right answers, and what is square.
ANSWERS = {
    "exercise_5_1": [my_split, split_sentences],
    "exercise_5_2": [my_mi],
    "exercise_5_3": [zeros_by_torch, zeros_by_a_loop, zeros_by_the_library],
    "exercise_5_4": [by_torch, by_numpy, by_a_loop, by_the_library],
}
