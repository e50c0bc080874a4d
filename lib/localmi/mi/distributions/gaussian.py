"""Gaussians of known mutual information: any covariance, the staircase, a case of very high MI."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import block_diag

from localmi.errors import ConfigError
from localmi.mi.distributions.base import Array, Task
from localmi.mi.distributions.transformed import TransformedTask
from localmi.mi.distributions.transforms import CUBE


@dataclass(frozen=True, eq=False)
class GaussianTask(Task):
    """(x, y) ~ N(0, covariance).

    I = (log det S_x + log det S_y - log det S) / 2 (Cover and Thomas 2006, Sec. 8.5).

    Args:
        covariance: [dim_x + dim_y, dim_x + dim_y], x first.

    Raises:
        ConfigError: no such matrix, or one that is not symmetric and positive definite.

    Taught in 01_mutual_information.
    """

    covariance: Array

    def __post_init__(self) -> None:
        dim = self.dim_x + self.dim_y
        if min(self.dim_x, self.dim_y) < 1 or self.covariance.shape != (dim, dim):
            raise ConfigError(
                f"{self.name}: a covariance of x and y is [{dim}, {dim}] with at least one "
                f"dimension each, found {list(self.covariance.shape)}."
            )
        if not np.allclose(self.covariance, self.covariance.T):
            raise ConfigError(f"{self.name}: the covariance is not symmetric.")
        if np.linalg.eigvalsh(self.covariance)[0] <= 0:
            raise ConfigError(f"{self.name}: the covariance is not positive definite.")

    @cached_property
    def true_mi(self) -> float:
        log_dets = [np.linalg.slogdet(block)[1] for block in (*self._blocks, self.covariance)]
        return float(log_dets[0] + log_dets[1] - log_dets[2]) / 2

    def draw(self, number: int, generator: np.random.Generator) -> tuple[Array, Array]:
        points = generator.standard_normal((number, self.dim_x + self.dim_y)) @ self._root.T
        return points[:, : self.dim_x], points[:, self.dim_x :]

    def score(self, x: Array, y: Array) -> Array:
        """The constant is `true_mi`; the rest is quadratic in x and y."""
        weight, d = self._precision_gain, self.dim_x
        of_x = np.einsum("ni,ij,nj->n", x, weight[:d, :d], x, optimize=True)
        of_y = np.einsum("mi,ij,mj->m", y, weight[d:, d:], y, optimize=True)
        scores: Array = x @ (-weight[:d, d:]) @ y.T
        scores += self.true_mi - of_x[:, None] / 2 - of_y / 2
        return scores

    @property
    def _blocks(self) -> tuple[Array, Array]:
        d = self.dim_x
        return self.covariance[:d, :d], self.covariance[d:, d:]

    @cached_property
    def _root(self) -> Array:
        return np.asarray(np.linalg.cholesky(self.covariance), dtype=np.float64)

    @cached_property
    def _precision_gain(self) -> Array:
        """Inverse covariance of the pair, less those of x alone and of y alone."""
        inverse_x, inverse_y = (np.linalg.inv(block) for block in self._blocks)
        alone: Array = block_diag(inverse_x, inverse_y)
        return np.asarray(np.linalg.inv(self.covariance) - alone, dtype=np.float64)


def paired_covariance(dim: int, correlation: float, pairs: int | None = None) -> Array:
    """Unit variances, and a correlation between x_i and y_i for the first `pairs` i (all)."""
    covariance = np.eye(2 * dim)
    first = np.arange(dim if pairs is None else pairs)
    covariance[first, dim + first] = covariance[dim + first, first] = correlation
    return covariance


def staircase(mi: float, dim: int = 20, *, cubic: bool = False) -> Task:
    """One step of the staircase: y = rho x + sqrt(1 - rho^2) noise in each of `dim` coordinates.

    rho = sqrt(1 - exp(-2 mi / dim)) makes the information mi. Poole et al. 2019, Sec. 5.

    Args:
        mi: nats.
        dim: dimensions of x and of y.
        cubic: y becomes y^3, which leaves the information as it is and is harder to learn.

    Returns:
        A task with its optimal critic, `log_ratio`.

    Raises:
        ConfigError: negative information, or no dimension.

    Taught in 02_variational_bounds.
    """
    if not 0 <= mi < math.inf or dim < 1:
        raise ConfigError(f"A staircase needs mi >= 0 and dim >= 1, found {mi} and {dim}.")
    correlation = math.sqrt(-math.expm1(-2 * mi / dim))
    label = f"Staircase {dim} × {dim}, {mi:g} nats"
    covariance = paired_covariance(dim, correlation)
    base = GaussianTask(f"staircase-{dim}-{mi:g}", label, dim, dim, covariance)
    if not cubic:
        return base
    return TransformedTask.of(base, f"cubic-{base.name}", f"Cubic {label}", of_y=CUBE)


def mcallester_stratos(dim: int = 128, correlation: float = 0.5) -> GaussianTask:
    """Far more information than N samples can vouch for: 18.41 nats at the defaults.

    No lower bound on I that holds with high confidence whatever the distribution, computed from
    N samples, exceeds O(log N) (McAllester and Stratos 2020). InfoNCE keeps to log N by
    construction; DV and NWJ leave it only by errors that grow as e^I. Entropy minus
    cross-entropy (DoE) promises no bound, and can follow.

    Raises:
        ConfigError: no dimension, or a correlation that is not in (-1, 1).

    Taught in 03_neural_estimators.
    """
    if dim < 1 or not abs(correlation) < 1:
        raise ConfigError(
            f"dim must be at least 1 and the correlation in (-1, 1), found {dim}, {correlation}."
        )
    name = f"mcallester-stratos-{dim}-{correlation:g}"
    label = f"Multinormal {dim} × {dim}, ρ = {correlation:g}"
    return GaussianTask(name, label, dim, dim, paired_covariance(dim, correlation))
