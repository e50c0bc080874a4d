"""SIGTERM and Ctrl-C while a run trains: they ask it to save and to stop, at the end of a step."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from localmi.signals import handled_by


@contextmanager
def noticed() -> Iterator[Callable[[], bool]]:
    """Whether it was asked to stop. A second signal does what it always does, at once."""
    asked = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            signal.signal(number, before[number])
            signal.raise_signal(number)
        asked = True

    with handled_by(note) as before:
        yield lambda: asked
