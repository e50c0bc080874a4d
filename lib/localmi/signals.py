"""SIGTERM and Ctrl-C: what asks a run to stop."""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

ASKS = (signal.SIGTERM, signal.SIGINT)


def in_main_thread() -> bool:
    """Where alone Python takes signals."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def handled_by(
    handle: Callable[[int, FrameType | None], None],
) -> Iterator[Mapping[int, Any]]:
    """Within it `handle` takes these signals; gives the handlers of before, which then are back.

    Outside the main thread nothing changes.
    """
    before: dict[int, Any] = {}
    if in_main_thread():
        before = {each: signal.signal(each, handle) for each in ASKS}
    try:
        yield before
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
