import functools
import sys
import types
from typing import Any

import numpy as np
import pytest
import torch

from localmi.course import check
from localmi.course.check import exercise, expect, expect_close


@exercise
def exercise_9_1(double: Any) -> None:
    expect(double(2) == 4, "twice 2 is 4")
    expect_close(double(torch.ones(2)), [2.0, 2.0], "each number is doubled")


def raising(value: Any) -> Any:
    raise ZeroDivisionError("by zero")


def stub(value: Any) -> Any: ...


def not_implemented(value: Any) -> Any:
    raise NotImplementedError


STUBS = [..., None, NotImplemented, stub, lambda x: ..., lambda x: (..., 1), lambda x: ... + x]


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
        (3, "TypeError: 'int' object is not callable"),
    ],
)
def test_a_wrong_answer_is_told_in_words(answer: Any, words: str) -> None:
    verdict = exercise_9_1(answer)
    assert verdict.status == "not yet"
    assert words in verdict.words
    assert not verdict.passed


def test_a_long_answer_is_shown_in_short() -> None:
    with pytest.raises(check.WrongError, match=r"it gives \[0. 0. 0. 0.\] \.\.\.,"):
        expect_close(np.zeros((3, 3)), np.ones((3, 3)), "all ones")


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
