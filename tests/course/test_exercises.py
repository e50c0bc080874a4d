"""Of all exercises: right answers pass in whatever form, and no size is taken for granted.

The file of a chapter, test_exercises_chNN.py, lists its answers:

    ANSWERS = {"exercise_1_1": [by_entropies, by_loop, in_torch], ...}  # all must pass
    SQUARE = {"exercise_2_1"}  # whose tables have equal sides by their meaning, as scores [K, K]

The first answer of each is also tried in other forms, and made wrong by taking sizes for granted.
"""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from answers import stub

from localmi.course import check

Answer = Callable[..., Any]

FILES = sorted(Path(__file__).parent.glob("test_exercises_ch*.py"))
LISTS = [runpy.run_path(str(path)) for path in FILES]
ANSWERS = {name: answers for lists in LISTS for name, answers in lists["ANSWERS"].items()}
SQUARE = {name for lists in LISTS for name in lists.get("SQUARE", ())}
FUNCTIONS = {name: answers[0] for name, answers in ANSWERS.items() if callable(answers[0])}
FORMS = {
    "float": float,
    "array": np.asarray,
    "array of one": np.atleast_1d,
    "list of one": lambda value: [float(value)],
    "tensor": torch.as_tensor,
    "tensor with gradient": lambda value: torch.tensor(float(value), requires_grad=True),
}


def passes(name: str, answer: Any) -> bool:
    verdict = getattr(check, name)(answer)
    print(verdict)  # for a test that fails
    return bool(verdict.passed)


@pytest.mark.parametrize("lists", LISTS, ids=lambda lists: Path(lists["__file__"]).stem)
def test_a_chapter_lists_all_its_exercises(lists: dict[str, Any]) -> None:
    chapter = int(Path(lists["__file__"]).stem[-2:])
    known = {name for name in dir(check) if name.startswith(f"exercise_{chapter}_")}
    assert set(lists["ANSWERS"]) == known


@pytest.mark.parametrize(
    ("name", "answer"), [(name, answer) for name, answers in ANSWERS.items() for answer in answers]
)
def test_a_right_answer_passes(name: str, answer: Any) -> None:
    assert passes(name, answer)


@pytest.mark.parametrize("name", sorted(dir(check)))
def test_a_stub_is_not_tried_and_a_forgotten_return_is_told(name: str) -> None:
    def forgets(*arguments: Any) -> None:
        print(arguments)

    assert getattr(check, name)(stub).status == "not tried yet"
    assert "`return` is missing" in getattr(check, name)(forgets).words


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_number_may_come_in_any_form(name: str, form: str) -> None:
    def formed(*arguments: Any) -> Any:
        value = FUNCTIONS[name](*arguments)
        if isinstance(value, torch.Tensor) and value.ndim == 0 and not value.requires_grad:
            value = value.item()
        return FORMS[form](value) if isinstance(value, float | np.floating) else value

    assert passes(name, formed)


def shape_of(value: Any) -> tuple[int, ...]:
    return tuple(getattr(value, "shape", ()))


def looped(value: Any, shape: tuple[int, ...]) -> Any:
    """What a loop over these lengths sees of an array."""
    if not shape:
        return value
    if any(has < wanted for has, wanted in zip(value.shape, shape, strict=True)):
        raise IndexError(f"{shape} of {value.shape}")
    return value[tuple(map(slice, shape))]


def of_one_size(answer: Answer) -> Answer:
    """Wrong: every array is taken to be as large as in the first call."""
    first: list[Any] = []

    def wrong(*arguments: Any) -> Any:
        first[:] = first or [shape_of(one) for one in arguments]
        return answer(*map(looped, arguments, first))

    return wrong


def of_equal_sides(answer: Answer) -> Answer:
    """Wrong: every axis of an array is taken to be as long as its first."""

    def wrong(*arguments: Any) -> Any:
        shapes = [shape_of(one) for one in arguments]
        return answer(*map(looped, arguments, [shape[:1] * len(shape) for shape in shapes]))

    return wrong


# What has one size or value in all calls by its meaning: (argument, axis).
FIXED = {
    "exercise_7_2": {(3, 1), (4, 1)},  # of pixels and of a sentence, as its networks take them
    "exercise_8_3": {(0, 1)},  # four grades
    "exercise_13_1": {(0, 1)},  # three columns
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_side_and_every_number_differs_between_two_calls(name: str) -> None:
    seen: dict[tuple[int, int], set[float]] = {}

    def watched(*arguments: Any) -> Any:
        for place, one in enumerate(arguments):
            numbers = [one] if isinstance(one, int | float) else shape_of(one)
            numbers = [float(one)] if shape_of(one) == () and hasattr(one, "ndim") else numbers
            for axis, number in enumerate(numbers):
                seen.setdefault((place, axis), set()).add(number)
        return FUNCTIONS[name](*arguments)

    assert passes(name, watched)
    assert {place for place, found in seen.items() if len(found) == 1} == FIXED.get(name, set())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_size_is_taken_for_granted(name: str) -> None:
    answer, axes = FUNCTIONS[name], [0]

    def watched(*arguments: Any) -> Any:
        axes.extend(len(shape_of(one)) for one in arguments)
        return answer(*arguments)

    assert passes(name, watched)
    if name in SQUARE:
        assert not passes(name, of_one_size(answer))
    elif max(axes) > 1:
        assert not passes(name, of_equal_sides(answer))
