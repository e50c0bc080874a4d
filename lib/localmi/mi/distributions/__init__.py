"""Distributions whose mutual information is known: what an estimator is measured on."""

from localmi.mi.distributions.base import Pairs, Task
from localmi.mi.distributions.gaussian import GaussianTask, mcallester_stratos, staircase
from localmi.mi.distributions.tasks import TASKS, task

__all__ = [
    "TASKS",
    "GaussianTask",
    "Pairs",
    "Task",
    "mcallester_stratos",
    "staircase",
    "task",
]
