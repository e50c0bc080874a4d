"""Checkpoints written beside the training: the steps go on while a thread writes a copy.

The copy is of the step that was saved, in the memory of the host, where it takes as much as a
checkpoint: at the paper's sizes 1.3 GB.
"""

import copy
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from localmi.processes import Processes
from localmi.train.checkpoint import save_checkpoint


class Writer:
    """Writes one checkpoint at a time, by the one thread of `pool`.

    What goes wrong there is raised by whatever comes next: a step, a checkpoint, or the end.
    """

    def __init__(self, pool: Executor, processes: Processes) -> None:
        self._pool, self._processes = pool, processes
        self._under_way: Future[None] | None = None

    def save_checkpoint(self, state: dict[str, Any], path: Path) -> None:
        """Copies `state` and returns; first waits for the one before."""
        self._wait()
        self._under_way = self._pool.submit(save_checkpoint, on_host(state), path)

    def check(self) -> None:
        """Raises what has gone wrong; waits for nothing."""
        if self._under_way is not None and self._under_way.done():
            self._wait()

    def finish(self) -> None:
        """Waits until all is written, as every process does."""
        self._wait()
        self._processes.meet("the last checkpoint")

    def _wait(self) -> None:
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()


@contextmanager
def beside_training(processes: Processes) -> Iterator[Writer]:
    """Gives a writer; at the end all is written."""
    with ThreadPoolExecutor(1, "checkpoint") as pool:  # waits for its thread, whatever was raised
        writer = Writer(pool, processes)
        yield writer
        writer.finish()


def on_host(state: Any) -> Any:
    """A copy of nested tensors and plain values that no later step changes."""
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        copied = copy.copy(state)  # with what torch notes beside the weights
        copied.update((name, on_host(value)) for name, value in state.items())
        return copied
    if isinstance(state, list | tuple):
        return type(state)(map(on_host, state))
    return state
