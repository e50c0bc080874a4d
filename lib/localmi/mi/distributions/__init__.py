"""Distributions whose mutual information is known: what an estimator is measured on."""

from localmi.mi.distributions.base import PairedSamples, Task
from localmi.mi.distributions.consistency import processed, stacked
from localmi.mi.distributions.gaussian import GaussianTask, mcallester_stratos, staircase
from localmi.mi.distributions.images import GridImages
from localmi.mi.distributions.tasks import TASKS, task
from localmi.mi.distributions.worlds import DiscreteWorld, noisy_copy, paper_world

__all__ = [
    "TASKS",
    "DiscreteWorld",
    "GaussianTask",
    "GridImages",
    "PairedSamples",
    "Task",
    "mcallester_stratos",
    "noisy_copy",
    "paper_world",
    "processed",
    "stacked",
    "staircase",
    "task",
]
