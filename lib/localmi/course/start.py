"""The first lines of every notebook: seeds, threads, the style of figures."""

import os
import random
from dataclasses import dataclass

import numpy as np
import torch

from localmi.course import plots
from localmi.train.device import keep_freed_memory


@dataclass(frozen=True)
class SetUp:
    """What `set_up` did. Shows nothing that differs between machines."""

    seed: int
    device: str  # "cuda" or "cpu"
    threads: int

    def __repr__(self) -> str:
        return f"ready, seed {self.seed}"


def set_up(seed: int = 0, threads: int | None = None) -> SetUp:
    """The start of every notebook: seeds, threads, the style of figures.

    Args:
        seed: for Python, NumPy and torch; each section sets its own again.
        threads: of torch on the CPU; None leaves what the machine has. Floats are equal only at
            one thread count, and the stored outputs were made with one (OMP_NUM_THREADS=1).
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    keep_freed_memory()  # a tenth of a chapter's time
    if threads is not None:
        torch.set_num_threads(threads)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # it takes no more
    torch.manual_seed(seed)
    plots.use_style()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return SetUp(seed=seed, device=device, threads=torch.get_num_threads())
