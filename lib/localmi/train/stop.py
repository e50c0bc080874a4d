"""SIGTERM and Ctrl-C while a run trains: they ask it to save and to stop, at the end of a step."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

ASKS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def noticed() -> Iterator[Callable[[], bool]]:
    """Whether it was asked to stop. A second signal does what it always does, at once.

    Outside the main thread, where Python takes no signals, nothing changes.
    """
    asked = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        signal.signal(number, before[signal.Signals(number)])

    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {each: signal.signal(each, note) for each in ASKS}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
