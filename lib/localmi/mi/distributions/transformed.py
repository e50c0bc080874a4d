"""A task seen through maps that can be undone."""

from dataclasses import dataclass

import numpy as np

from localmi.mi.distributions.base import Array, Task
from localmi.mi.distributions.transforms import IDENTITY, Transform


@dataclass(frozen=True, eq=False)
class TransformedTask(Task):
    """f(X) and g(Y) for injective f, g: I(f(X); g(Y)) = I(X; Y), nothing is lost or gained.

    Taught in 01_mutual_information.
    """

    base: Task
    of_x: Transform
    of_y: Transform

    @classmethod
    def of(
        cls,
        base: Task,
        name: str,
        label: str,
        of_x: Transform = IDENTITY,
        of_y: Transform = IDENTITY,
    ) -> "TransformedTask":
        """The task with the dimensions that the transforms give."""
        dim_x, dim_y = base.dim_x + of_x.more_dims, base.dim_y + of_y.more_dims
        return cls(name, label, dim_x, dim_y, base, of_x, of_y)

    @property
    def true_mi(self) -> float:
        return self.base.true_mi

    def draw(self, number: int, generator: np.random.Generator) -> tuple[Array, Array]:
        x, y = self.base.draw(number, generator)
        return self.of_x.forward(x), self.of_y.forward(y)

    def score(self, x: Array, y: Array) -> Array:
        return self.base.score(self.of_x.inverse(x), self.of_y.inverse(y))

    def score_pairs(self, x: Array, y: Array) -> Array:
        """Undoes the transforms once, not for every block."""
        return self.base.score_pairs(self.of_x.inverse(x), self.of_y.inverse(y))
