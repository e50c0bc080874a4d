"""Three tests an estimator can fail without a truth at hand (Song and Ermon 2020, Sec. 5.2).

Independence: I = 0 where x and y have nothing in common. Data processing: what is computed from
y adds nothing, a ratio of 1. Additivity: two independent pairs hold twice as much, a ratio of 2.
Here the truth is at hand as well. Taught in 03_neural_estimators.
"""

from dataclasses import dataclass

import numpy as np

from localmi.errors import ConfigError
from localmi.mi.distributions.base import Array, Task


@dataclass(frozen=True, eq=False)
class ProcessedTask(Task):
    """x twice, and y with some of its own coordinates again: I([x, x]; [y, h(y)]) = I(x; y)."""

    base: Task

    @property
    def true_mi(self) -> float:
        return self.base.true_mi

    def draw(self, number: int, generator: np.random.Generator) -> tuple[Array, Array]:
        x, y = self.base.draw(number, generator)
        return np.hstack([x, x]), np.hstack([y, y[:, : self.dim_y - self.base.dim_y]])

    def score(self, x: Array, y: Array) -> Array:
        return self.base.score(x[:, : self.base.dim_x], y[:, : self.base.dim_y])


@dataclass(frozen=True, eq=False)
class StackedTask(Task):
    """Independent draws side by side: I([x1, x2]; [y1, y2]) = 2 I(x; y)."""

    base: Task
    copies: int

    @property
    def true_mi(self) -> float:
        return self.copies * self.base.true_mi

    def draw(self, number: int, generator: np.random.Generator) -> tuple[Array, Array]:
        x, y = self.base.draw(self.copies * number, generator)
        return x.reshape(number, -1), y.reshape(number, -1)

    def score(self, x: Array, y: Array) -> Array:
        parts = zip(*(np.split(side, self.copies, axis=1) for side in (x, y)), strict=True)
        scores: Array = np.sum([self.base.score(*part) for part in parts], axis=0)
        return scores


def processed(base: Task, kept: int) -> ProcessedTask:
    """For data processing: y is joined by h(y), its first `kept` coordinates; x is doubled.

    Of an image, pixels row by row, h(y) is its upper part.

    Raises:
        ConfigError: kept is not one of 1 to dim_y.
    """
    if not 1 <= kept <= base.dim_y:
        raise ConfigError(f"{base.name}: kept must be in 1 to {base.dim_y}, found {kept}.")
    name, label = f"processed-{kept}-{base.name}", f"Processed @ {base.label}"
    return ProcessedTask(name, label, 2 * base.dim_x, base.dim_y + kept, base)


def stacked(base: Task, copies: int = 2) -> StackedTask:
    """For additivity: `copies` independent pairs as one.

    Raises:
        ConfigError: fewer than one copy.
    """
    if copies < 1:
        raise ConfigError(f"{base.name}: stack at least one copy, found {copies}.")
    name, label = f"stacked-{copies}-{base.name}", f"{copies} times @ {base.label}"
    return StackedTask(name, label, copies * base.dim_x, copies * base.dim_y, base, copies)
