"""What the tests of exercises share: the stub, and an answer that is told why it is wrong."""

from collections.abc import Callable
from typing import Any

from localmi.course import check


def stub(*_: Any) -> Any: ...


def refused(name: str, answer: Callable[..., Any], words: str) -> None:
    verdict = getattr(check, name)(answer)
    assert verdict.status == "not yet"
    assert words in verdict.words


def sides_differ(name: str, right: Callable[..., Any]) -> bool:
    """Whether a check gives an answer a table whose sides all differ, as no mix-up survives.

    Asked of a right answer, for a wrong one may not get to see it.
    """
    shapes = []

    def recorded(*arguments: Any) -> Any:
        shapes.extend(tuple(getattr(argument, "shape", ())) for argument in arguments)
        return right(*arguments)

    assert getattr(check, name)(recorded).passed
    return any(len(shape) > 1 and len(set(shape)) == len(shape) for shape in shapes)
