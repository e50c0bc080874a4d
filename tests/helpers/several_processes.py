"""Starts a program on several processes, as torchrun would."""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence


def start_processes(program: str, words: Sequence[str], *, size: int) -> list[subprocess.Popen]:
    """One process a rank, with what torchrun puts into its environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(size)}
    return [
        subprocess.Popen(
            [sys.executable, "-c", program, *words],
            env=os.environ | where | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]


def run_processes(program: str, words: Sequence[str], *, size: int) -> list[str]:
    """What each rank has printed; fails with the words of the first that failed."""
    started = start_processes(program, words, size=size)
    told = [process.communicate(timeout=300) for process in started]
    for rank, (process, (_, errors)) in enumerate(zip(started, told, strict=True)):
        assert process.returncode == 0, f"rank {rank}: {errors}"
    return [out for out, _ in told]
