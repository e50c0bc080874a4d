"""How much of a training step goes to memory that is given back to the system and mapped again.

    python benchmarks/freed_memory.py                              about 4 minutes on one core

One step of an image-only classifier (notebook 08): `resnet256_6_2_1` on 32 images of 128 pixels,
forward, backward and Adam, on one thread. Each way in processes of its own that take turns, for
what is set holds for the rest of a process; the median over all their steps. What counts is the
ratio. Memory: the highest resident memory of a process. The losses must be the same. Linux only.
"""

import argparse
import json
import multiprocessing
import platform
import resource
import statistics
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from timing import timed
from torch.nn import functional

from localmi.model.image import ResNet256
from localmi.train.device import keep_freed_memory

BATCH, SIZE, CLASSES = 32, 128, 9
WARM_UP = 5  # steps that are not timed
WAYS = {"given back": False, "kept": True}


class Measured(NamedTuple):
    """Steps of one process."""

    seconds: list[float]  # of each
    faults: float  # pages mapped in a step
    mebibytes: float
    loss: float  # at the end


def measure(kept: bool, steps: int) -> Measured:
    """Trains on random images for some steps."""
    if kept:
        keep_freed_memory()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = ResNet256(CLASSES)
    optimiser = torch.optim.AdamW(network.parameters(), lr=5e-4, fused=True)
    images = torch.randn(BATCH, 1, SIZE, SIZE)
    targets = (torch.rand(BATCH, CLASSES) > 0.5).float()
    seconds: list[float] = []
    faults = 0
    for step in range(WARM_UP + steps):
        if step == WARM_UP:
            faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        with timed(seconds):
            loss = functional.binary_cross_entropy_with_logits(network(images), targets)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
    used = resource.getrusage(resource.RUSAGE_SELF)
    mapped = (used.ru_minflt - faults) / steps
    return Measured(seconds[WARM_UP:], mapped, used.ru_maxrss / 1024, loss.item())


def main() -> None:
    """Measures both ways in turn and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=40, help="of each process")
    parser.add_argument("--repeats", type=int, default=5, help="processes of each way")
    parser.add_argument("--out", type=Path, help="JSON file for the numbers")
    asked = parser.parse_args()
    found: dict[str, list[Measured]] = {way: [] for way in WAYS}
    for _ in range(asked.repeats):
        for way, kept in WAYS.items():
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                found[way].append(pool.submit(measure, kept, asked.steps).result())
    if len({run.loss for runs in found.values() for run in runs}) > 1:
        raise SystemExit("The ways do not compute the same.")
    rows = {
        way: {
            "seconds": statistics.median(second for run in runs for second in run.seconds),
            "faults": statistics.median(run.faults for run in runs),
            "mebibytes": statistics.median(run.mebibytes for run in runs),
        }
        for way, runs in found.items()
    }
    print(f"{platform.machine()}, torch {torch.__version__}, one thread")
    for way, row in rows.items():
        ratio = row["seconds"] / rows["given back"]["seconds"]
        print(
            f"{way:>10}: {row['seconds']:.3f} s a step, {ratio:.2f} of the first; "
            f"{row['faults']:.0f} pages mapped a step; {row['mebibytes']:.0f} MiB at most"
        )
    if asked.out:
        asked.out.write_text(json.dumps(rows, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
