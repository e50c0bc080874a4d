"""SIGTERM and Ctrl-C of a headless run, passed on to the notebook's kernel: it saves, and stops.

A kernel is in a session of its own, which the terminal's Ctrl-C does not reach.
"""

import asyncio
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import psutil

from localmi.ranks import one_of_several
from localmi.signals import ASKS, handled_by, in_main_thread

# Seconds that one of several processes has to save: another one may be dead, and it wait. With
# `ranks.PATIENCE`, which the others have with one that hangs, less than a minute.
GRACE = 24
PR_SET_PDEATHSIG = 1  # of prctl.h


@contextmanager
def passed_on(say: Callable[[str], object]) -> Iterator[Callable[[], bool]]:
    """While a notebook is executed; gives whether it was asked to stop.

    A second signal, or, of one of several processes, `GRACE` seconds, end the kernel.
    """
    asked = over = False

    def ask() -> None:
        if not over and not end_kernels(signal.SIGTERM):  # it has not started yet
            _later(0.1, ask)

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            end_kernels(signal.SIGKILL)
            return
        asked = True
        say("Asked to stop: at the end of the step it saves. (Once more, later, ends it at once.)")
        ask()
        if one_of_several():
            _later(GRACE, end_kernels, signal.SIGKILL)

    with handled_by(handle):
        try:
            yield lambda: asked
        finally:
            over = True


def _later(seconds: float, do: Callable[..., object], *given: object) -> None:
    timer = threading.Timer(seconds, do, given)
    timer.daemon = True
    timer.start()


def own_handlers() -> Callable[[], None]:
    """Puts this moment's handlers back when called, in an event loop: nbclient sets others, which
    end the kernel at once."""
    ours = {each: signal.getsignal(each) for each in ASKS}

    def put_back() -> None:
        if in_main_thread():
            for each, handler in ours.items():
                asyncio.get_running_loop().remove_signal_handler(each)
                signal.signal(each, handler)

    return put_back


def end_kernels(number: signal.Signals) -> int:
    """Sends a signal to the kernels that this process has started; how many there were."""
    sent = 0
    for child in psutil.Process().children():
        try:
            if any("ipykernel" in word for word in child.cmdline()):
                child.send_signal(number)
                sent += 1
        except psutil.Error:  # it has ended by itself
            continue
    return sent


def ends_with_its_parent(launcher: str | None = None) -> None:
    """This process is asked to stop when the one that has started it ends, however that ends.

    Args:
        launcher: number of the process that has started its parent, where that is known: if it
            has not started what is the parent now, the parent has ended before this call.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if launcher and psutil.Process(os.getppid()).ppid() != int(launcher):
        os.kill(os.getpid(), signal.SIGTERM)
