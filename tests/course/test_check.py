import functools
import math
import sys
import types
from typing import Any

import numpy as np
import pytest
import torch

from localmi.course import check
from localmi.course.check import exercise, expect, expect_close, expect_finite, expect_numbers


@exercise
def exercise_9_1(double: Any) -> None:
    expect(double(2) == 4, "twice 2 is 4")
    expect_close(double(torch.ones(2)), [2.0, 2.0], "each number is doubled")


def raising(value: Any) -> Any:
    raise ZeroDivisionError("by zero")


def stub(value: Any) -> Any: ...


def not_implemented(value: Any) -> Any:
    raise NotImplementedError


def with_docstring(value: Any) -> Any:
    """Twice the value."""


def passes_by(value: Any) -> Any:
    pass


def with_words_only(value: Any) -> Any:
    """Twice the value."""
    ...


STUBS = [..., None, NotImplemented, stub, lambda x: ..., lambda x: (..., 1), lambda x: ... + x]
STUBS += [[...], with_docstring, passes_by, with_words_only, lambda x: None, lambda x: np.exp(...)]


@pytest.mark.parametrize("answer", [*STUBS, not_implemented, functools.partial(stub)])
def test_a_stub_is_not_tried_yet(answer: Any) -> None:
    verdict = exercise_9_1(answer)
    assert repr(verdict) == "exercise 9.1: not tried yet"
    assert not verdict.passed


def test_no_answer_at_all_is_not_tried_yet() -> None:
    assert exercise_9_1().status == "not tried yet"


def test_the_solution_is_right() -> None:
    verdict = exercise_9_1(lambda x: 2 * x)
    assert repr(verdict) == "exercise 9.1: right"
    assert verdict.passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x: x + x + 1, "twice 2 is 4"),
        (lambda x: x * x, "each number is doubled: it gives [1. 1.], it should give [2. 2.]"),
        (lambda x: 4, "the shape is [], it should be [2]"),
        (lambda x: "four", "twice 2 is 4"),
        (raising, "your function raised ZeroDivisionError: by zero"),
        (lambda: 4, "your function raised TypeError"),
        (3, "hand in the function itself, without calling it"),
        (lambda x: -torch.tensor([True]), "your function raised NotImplementedError"),
        (lambda x: print(x), "your function returned None: a `return` is missing"),
        (functools.partial(lambda y, x: print(x), 1), "a `return` is missing"),
        (lambda x: (print(x), 1), "your function returned (None, 1): None is no answer"),
        (lambda x: [print(x)] * 99, "returned [None, None, None, None, None, None, ...]"),
        (lambda x: np.zeros(2)[..., ...], "your function raised IndexError"),
    ],
)
def test_a_wrong_answer_is_told_in_words(answer: Any, words: str) -> None:
    verdict = exercise_9_1(answer)
    assert verdict.status == "not yet"
    assert words in verdict.words
    assert not verdict.passed


def assigns(value: Any) -> Any:
    doubled = 2 * value  # noqa: F841


def returns_at_times(value: Any) -> Any:
    if value > 2:
        return 2 * value


class Printer:
    def __call__(self, value: Any) -> Any:
        print(value)


@pytest.mark.parametrize("answer", [assigns, returns_at_times, Printer().__call__, Printer()])
def test_a_forgotten_return_is_no_stub(answer: Any) -> None:
    verdict = exercise_9_1(answer)
    assert verdict.words == "your function returned None: a `return` is missing"


@pytest.mark.parametrize(
    "answer",
    [np.vectorize(lambda x: 2 * x), functools.cache(lambda x: 2 * x), lambda x: (2 * x).tolist()
     if isinstance(x, torch.Tensor) else 2 * x, functools.partial(np.multiply, 2)],
)  # fmt: skip
def test_any_callable_and_any_form_is_taken(answer: Any) -> None:
    assert exercise_9_1(answer).passed


def test_what_an_answer_does_in_place_stays_with_it() -> None:
    table, scores = np.ones(2), torch.ones(2)

    @exercise
    def exercise_9_9(halve: Any) -> None:
        for given in (table, scores):
            expect_close(halve(given), [0.5, 0.5], "a half of each")

    def halve(value: Any) -> Any:
        value /= 2
        return value

    assert [exercise_9_9(halve).status for _ in range(2)] == ["right", "right"]
    assert table.tolist() == scores.tolist() == [1.0, 1.0]


def test_what_is_trained_is_handed_on_as_it_is() -> None:
    weight = torch.ones(2, requires_grad=True)

    @exercise
    def exercise_9_9(given: Any) -> None:
        expect(given(weight) is weight, "the weight itself is asked for")

    assert exercise_9_9(lambda value: value).passed


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (lambda x: math.log(x), "ValueError"),
        (lambda x: 1 / x, "ZeroDivisionError (float division by zero)"),
        (lambda x: math.exp(1000 + x), "OverflowError (math range error)"),
        (lambda x: np.float64(-math.inf), "-inf"),
        (lambda x: torch.tensor(math.nan), "nan"),
    ],
)
def test_python_s_arithmetic_errors_count_as_numbers_that_are_not_finite(
    answer: Any, shown: str
) -> None:
    @exercise
    def exercise_9_9(of_zero: Any) -> None:
        expect_finite(of_zero, 0.0, words="of 0 it gives {}: leave it out")

    assert exercise_9_9(answer).words.startswith(f"of 0 it gives {shown}")
    assert exercise_9_9(lambda x: x).passed
    assert "KeyError" in exercise_9_9(lambda x: {}[x]).words


@pytest.mark.parametrize(
    "value",
    [
        (1, 0.5),
        [1, torch.tensor(0.5, requires_grad=True)],
        np.array([1, 0.5]),
        torch.tensor([1, 0.5], requires_grad=True),
        torch.tensor([1, 0.5], dtype=torch.bfloat16),
    ],
)
def test_numbers_come_in_any_form(value: Any) -> None:
    assert expect_numbers(value, 2, "two numbers") == [1.0, 0.5]
    expect_close(value, [1.0, 0.5], "two numbers")


@pytest.mark.parametrize("value", [1.0, [1], "ab", ["a", "b"], [1, [2, 3]], [True, False], {1, 2}])
def test_what_are_no_two_numbers_is_shown(value: Any) -> None:
    with pytest.raises(check.WrongError, match="two numbers are asked for, found"):
        expect_numbers(value, 2, "two numbers are asked for")


@pytest.mark.parametrize("value", [0.5, [0.5], np.full((1, 1), 0.5), torch.tensor([0.5])])
def test_where_one_number_is_wanted_a_list_of_one_is_as_good(value: Any) -> None:
    expect_close(value, 0.5, "a half")
    with pytest.raises(check.WrongError, match=r"it should be \[1, 1, 1\]"):
        expect_close(value, [[[0.5]]], "a half")


def test_words_in_place_of_numbers_are_shown() -> None:
    with pytest.raises(check.WrongError, match=r"all ones: numbers are asked for, found \['one'"):
        expect_close(["one", "one"], np.ones(2), "all ones")


def test_a_long_answer_is_shown_in_short() -> None:
    with pytest.raises(check.WrongError, match=r"it gives \[0. 0. 0. 0.\] \.\.\.,"):
        expect_close(np.zeros((3, 3)), np.ones((3, 3)), "all ones")


def test_what_is_shown_begins_where_it_is_wrong() -> None:
    with pytest.raises(check.WrongError, match=r"ones: from number 7 on it gives \[0 1\], it"):
        expect_close([1] * 7 + [0, 1], np.ones(9), "ones")


def test_what_is_still_open_of_a_dictionary_is_named() -> None:
    with pytest.raises(check.WrongError, match="still open: b, c"):
        check.expect_dictionary({"a": 1, "b": ..., "c": (..., 2)}, "abc")


def test_a_check_is_named_by_chapter_and_number() -> None:
    with pytest.raises(ValueError, match="exercise_<chapter>_<number>"):
        exercise(lambda answer: None)


def test_checks_are_found_in_their_chapter(monkeypatch: pytest.MonkeyPatch) -> None:
    chapter = types.ModuleType("localmi.course.exercises.ch09")
    chapter.exercise_9_1 = exercise_9_1  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, chapter.__name__, chapter)
    assert check.exercise_9_1 is exercise_9_1
    for name in ("exercise_9_2", "exercise_98_1", "exercise"[:-1] + "es"):
        with pytest.raises(AttributeError, match=f"no check {name}"):
            getattr(check, name)


def test_tab_shows_the_checks() -> None:
    assert {"exercise_1_1", "exercise_7_2", "exercise_13_2"} <= set(dir(check))
    for name in dir(check):
        assert callable(getattr(check, name))
