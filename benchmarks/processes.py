"""Training on several processes against one: images a second, and what a step waits for.

    python benchmarks/processes.py [--processes 2] [--statistics own]

The main job. One process with one thread, and N with one thread each, take turns as whole programs
that time their own steps but for the first ones. The batch is the same for both; BatchNorm has the
statistics of all processes, or each its own.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time

import torch
from loading import SMALL

from localmi.study import load_study
from localmi.train import Pretraining, TrainConfig

WARM_UP = 5  # steps


def one_process(steps: int, statistics_of: str) -> None:
    """Prints the seconds of a step, of the middle one."""
    config = TrainConfig.checked(**SMALL, steps=3500, batch_statistics=statistics_of)
    training = Pretraining(config, load_study(image_size=config.image_size))
    took = []
    for _ in range(WARM_UP + steps):
        start = time.perf_counter()
        training.train_step()
        took.append(time.perf_counter() - start)
    if training.processes.rank == 0:
        print(statistics.median(took[WARM_UP:]))


def seconds_a_step(processes: int, steps: int, statistics_of: str) -> float:
    """Of so many processes with one thread each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    one = {"OMP_NUM_THREADS": "1", "WORLD_SIZE": str(processes)}
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)} if processes > 1 else {}
    started = [
        subprocess.Popen(
            [
                sys.executable,
                __file__,
                "--one",
                f"--steps={steps}",
                f"--statistics={statistics_of}",
            ],
            env=os.environ | one | where | {"RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    said = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit("A process has failed.")
    return float(said[0].strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--statistics", choices=["all", "own"], default="all")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        torch.set_num_threads(1)
        one_process(asked.steps, asked.statistics)
        return
    counts = (1, asked.processes)
    took: dict[int, list[float]] = {count: [] for count in counts}
    for _ in range(asked.repeats):
        for count in counts:
            took[count].append(seconds_a_step(count, asked.steps, asked.statistics))
    ratios = [one / many for one, many in zip(*took.values(), strict=True)]
    found = {
        f"images_a_second_{count}": round(SMALL["batch_size"] / statistics.median(took[count]), 1)
        for count in counts
    }
    print(json.dumps(found | {"ratio": statistics.median(ratios), "ratios": ratios}, indent=1))


if __name__ == "__main__":
    main()
