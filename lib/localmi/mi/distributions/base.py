"""What every distribution with known mutual information offers."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from localmi.errors import ConfigError

Array = NDArray[np.float64]
BLOCK = 128  # pairs scored at a time where only the diagonal is wanted


class PairedSamples(NamedTuple):
    """Independent draws of (X, Y): row i of x belongs to row i of y."""

    x: Tensor  # [n, dim_x] float32
    y: Tensor  # [n, dim_y] float32


@dataclass(frozen=True, eq=False)
class Task(ABC):
    """A joint distribution of two vectors whose mutual information is known.

    Everything is computed in float64 and handed out in float32. A subclass says what `true_mi`
    is, draws, and knows log p(x, y) / p(x)p(y): the critic at which every bound is best.

    Args:
        name: how the task is asked for, as "1v1-normal-0.75".
        label: for a figure, as "Bivariate normal 1 × 1".
        dim_x: dimensions of x.
        dim_y: dimensions of y.
    """

    name: str
    label: str
    dim_x: int
    dim_y: int

    @property
    @abstractmethod
    def true_mi(self) -> float:
        """I(X; Y) in nats, computed."""

    def sample(self, number: int, seed: int) -> PairedSamples:
        """Draws of (X, Y); the same seed gives the same draws.

        Raises:
            ConfigError: fewer than one draw asked for.
        """
        if number < 1:
            raise ConfigError(f"{self.name}: ask for at least one sample, found {number}.")
        x, y = self.draw(number, np.random.default_rng(seed))
        return PairedSamples(torch.from_numpy(x).float(), torch.from_numpy(y).float())

    def log_ratio(self, x: Tensor, y: Tensor) -> Tensor:
        """The optimal critic: log p(x_i, y_j) / (p(x_i) p(y_j)) for all pairs.

        Args:
            x: [n, dim_x].
            y: [m, dim_y].

        Returns:
            [n, m] float32, nats; -inf where x_i and y_j cannot occur together.

        Raises:
            ConfigError: other shapes.

        Taught in 02_variational_bounds.
        """
        scores = self.score(self._checked("x", x, self.dim_x), self._checked("y", y, self.dim_y))
        return torch.from_numpy(scores).float()

    def paired_log_ratio(self, x: Tensor, y: Tensor) -> Tensor:
        """The diagonal of `log_ratio`: [n], whose mean over draws tends to `true_mi`.

        Raises:
            ConfigError: other shapes, or not as many x as y.
        """
        if len(x) != len(y):
            raise ConfigError(f"{self.name}: pairs need as many x as y, found {len(x)}, {len(y)}.")
        scores = self.score_pairs(
            self._checked("x", x, self.dim_x), self._checked("y", y, self.dim_y)
        )
        return torch.from_numpy(scores).float()

    @abstractmethod
    def draw(self, number: int, generator: np.random.Generator) -> tuple[Array, Array]:
        """[number, dim_x] and [number, dim_y], float64."""

    @abstractmethod
    def score(self, x: Array, y: Array) -> Array:
        """[n, dim_x], [m, dim_y] -> [n, m]: `log_ratio` in float64."""

    def score_pairs(self, x: Array, y: Array) -> Array:
        """[n, dim_x], [n, dim_y] -> [n]: the diagonal of `score`, in memory linear in n."""
        starts = range(0, len(x), BLOCK)
        blocks = [self.score(x[i : i + BLOCK], y[i : i + BLOCK]) for i in starts]
        return np.concatenate([block.diagonal() for block in blocks])

    def _checked(self, what: str, points: Tensor, dim: int) -> Array:
        """The points in float64, as arrays."""
        if points.ndim != 2 or points.shape[1] != dim:
            raise ConfigError(
                f"{self.name}: {what} must be [n, {dim}], found {list(points.shape)}."
            )
        array: Array = points.detach().cpu().double().numpy()
        return array
