"""What stands in the place of a solution in a handout."""

from typing import Any

import pytest

from localmi.course.check import exercise, expect
from localmi.course.handout import pack, until_solved

SOLUTION = "def my_double(x):\n    return two * x\n\nprint('checked')"


@exercise
def exercise_0_1(my_double: Any) -> None:
    expect(my_double(3) == 6, "twice 3 is 6")


def test_the_courses_own_is_used_until_the_answer_is_right(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for answer in (..., lambda x: ..., lambda x: x, None):
        space: dict[str, Any] = {"two": 2, "my_double": answer}
        until_solved("my_double", exercise_0_1, pack(SOLUTION), space)
        assert space["my_double"](5) == 10
        assert "Until your my_double is right" in capsys.readouterr().out


def test_an_answer_that_is_right_stays(capsys: pytest.CaptureFixture[str]) -> None:
    mine = lambda x: x + x  # noqa: E731
    space = {"my_double": mine}
    until_solved("my_double", exercise_0_1, pack(SOLUTION), space)
    assert space == {"my_double": mine}
    assert capsys.readouterr().out == ""


def test_a_name_that_was_deleted_is_there_again() -> None:
    space: dict[str, Any] = {"two": 2}
    until_solved("my_double", exercise_0_1, pack(SOLUTION), space)
    assert space["my_double"](1) == 2


def test_packed_is_not_read_by_accident() -> None:
    assert "return" not in pack(SOLUTION)
    assert '"' not in pack(SOLUTION * 40)
    assert "\\" not in pack(SOLUTION * 40)
