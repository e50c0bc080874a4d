"""SIGTERM and Ctrl-C: what asks a run to stop."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

ASKS = (signal.SIGTERM, signal.SIGINT)
# Seconds after a signal in which others are no second request: a cluster sends to all processes,
# each of which passes it on, and where a parent with several threads ends, each of them sends.
TOGETHER = 2.0


def in_main_thread() -> bool:
    """Where alone Python takes signals."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def handled_by(
    handle: Callable[[int, FrameType | None], None],
) -> Iterator[Mapping[int, Any]]:
    """Within it `handle` takes these signals; gives the handlers of before, which then are back.

    Of those that come `TOGETHER` it takes the first. Outside the main thread nothing changes.
    """
    last = -math.inf

    def first(number: int, frame: FrameType | None) -> None:
        nonlocal last
        if time.monotonic() - last > TOGETHER:
            last = time.monotonic()
            handle(number, frame)

    before: dict[int, Any] = {}
    if in_main_thread():
        before = {each: signal.signal(each, first) for each in ASKS}
    try:
        yield before
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
