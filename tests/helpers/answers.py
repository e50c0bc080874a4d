"""What the tests of exercises share: the stub, and an answer that is told why it is wrong."""

from collections.abc import Callable
from typing import Any

from localmi.course import check


def stub(*_: Any) -> Any: ...


def refused(name: str, answer: Callable[..., Any], words: str) -> None:
    verdict = getattr(check, name)(answer)
    assert verdict.status == "not yet"
    assert words in verdict.words
