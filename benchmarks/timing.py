"""How the benchmarks time and weigh: ways that take turns, a GPU's own clock, peak memory.

Peaks on a CPU: Linux only.
"""

import contextlib
import ctypes
import math
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import torch

Work = Callable[[], object]
MEBIBYTE = 2**20


@contextlib.contextmanager
def timed(
    seconds: list[float], device: str = "cpu", clock: Callable[[], float] = time.perf_counter
) -> Iterator[None]:
    """Appends the seconds of what is done within: by the events of a GPU, or by a clock.

    The first event is met at once, for the GPU has been waited for: what the host takes to launch
    the work is in it.
    """
    if device != "cuda":
        start = clock()
        yield
        seconds.append(clock() - start)
        return
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    first.record()
    yield
    last.record()
    torch.cuda.synchronize()
    seconds.append(first.elapsed_time(last) / 1e3)


def in_turn(
    ways: Mapping[str, Work],
    repeats: int,
    *,
    warm_up: int = 1,
    limit: float = math.inf,
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds of each way, `repeats` times; they take turns, so that all meet the same machine.

    A way that has used `limit` seconds is not timed again, but once at least.
    """
    for _ in range(warm_up):
        for work in ways.values():
            work()
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, work in ways.items():
            if not found[name] or sum(found[name]) <= limit:
                with timed(found[name], device, clock):
                    work()
    return found


def highest_resident() -> int:
    """Highest resident memory of this process since the counter was last set back, bytes.

    (`ru_maxrss` cannot be set back, and a process that was started by a larger one begins with
    the other's.)
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("This system does not tell its highest resident memory (VmHWM).")


Prepare = Callable[..., tuple[Work, Work]]  # what loads all that is loaded late, and the work


def peak_here(prepare: Prepare, args: tuple[Any, ...], device: str, threads: int) -> float:
    """Peak memory of some work in this process, MiB above what was held before it."""
    torch.set_num_threads(threads)
    warm_up, work = prepare(*args)
    warm_up()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        work()
        return (torch.cuda.max_memory_allocated() - held) / MEBIBYTE
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)  # what the warm-up has freed is given back, or the work would take it for nothing
    before = psutil.Process().memory_info().rss
    if highest_resident() > before + 8 * MEBIBYTE:
        Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM back to now
    work()
    return (highest_resident() - before) / MEBIBYTE


def peak_mib(prepare: Prepare, *args: Any, device: str = "cpu", threads: int = 1) -> float:
    """`peak_here`; on a CPU in a process of its own, forked from one that has imported torch."""
    if device == "cuda":
        return peak_here(prepare, args, device, threads)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["localmi.train.pretraining", "sklearn.feature_selection"])
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(peak_here, prepare, args, device, threads).result()
