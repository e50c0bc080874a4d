"""The 40 tasks of 'Beyond Normal' (Czyz et al. 2023): as many shapes, and their true MI.

`TASKS` holds them by the names of the benchmark; `task` finds one. All of them can be sampled
without the benchmark's own package, and each has its optimal critic.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType

import numpy as np
from scipy.special import digamma, gammaln

from localmi.errors import ConfigError
from localmi.mi.distributions.base import Array, Task
from localmi.mi.distributions.gaussian import GaussianTask, paired_covariance
from localmi.mi.distributions.transformed import TransformedTask
from localmi.mi.distributions.transforms import (
    ASINH,
    HALF_CUBE,
    NORMAL_CDF,
    SWISS_ROLL,
    Transform,
    mixture_of_normals,
    spiral,
    sum_of_sines,
)

CORRELATION = 0.75  # of the tasks of one dimension
WIGGLY_X = sum_of_sines(((0.4, 1.0, 0.0), (0.2, 1.7, 1.0), (0.03, 3.3, -2.5)))
WIGGLY_Y = sum_of_sines(((-0.4, 0.4, 0.0), (0.17, 1.3, 3.5), (0.02, 4.3, -2.5)))
ROUNDING = 1e-6  # of x, y in float32, where a density ends at a sharp edge


@dataclass(frozen=True, eq=False)
class StudentTask(Task):
    """(x, y) = N(0, identity) / sqrt(chi^2_dof / dof): no correlation, but a common scale.

    I = h(x) + h(y) - h(x, y), each the entropy of a multivariate t
    (Arellano-Valle et al. 2013, Eq. 7).

    Raises:
        ConfigError: degrees of freedom that are not above 0.
    """

    dof: float

    def __post_init__(self) -> None:
        if not self.dof > 0:
            raise ConfigError(f"{self.name}: degrees of freedom must be above 0: {self.dof}.")

    @property
    def true_mi(self) -> float:
        together = self._entropy(self.dim_x + self.dim_y)
        return self._entropy(self.dim_x) + self._entropy(self.dim_y) - together

    def draw(self, number: int, generator: np.random.Generator) -> tuple[Array, Array]:
        normal = generator.standard_normal((number, self.dim_x + self.dim_y))
        points = normal / np.sqrt(generator.chisquare(self.dof, (number, 1)) / self.dof)
        return points[:, : self.dim_x], points[:, self.dim_x :]

    def score(self, x: Array, y: Array) -> Array:
        of_x, of_y = (np.square(points).sum(axis=1) / self.dof for points in (x, y))
        alone_x = self._log_density(self.dim_x, of_x)[:, None]
        alone_y = self._log_density(self.dim_y, of_y)
        return self._log_density(self.dim_x + self.dim_y, of_x[:, None] + of_y) - alone_x - alone_y

    def _log_constant(self, dim: int) -> float:
        half = self.dof / 2
        return float(gammaln(half + dim / 2) - gammaln(half)) - dim / 2 * math.log(
            self.dof * math.pi
        )

    def _log_density(self, dim: int, squares: Array) -> Array:
        """At points whose squared norm over dof is `squares`."""
        return self._log_constant(dim) - (self.dof + dim) / 2 * np.log1p(squares)

    def _entropy(self, dim: int) -> float:
        half = (self.dof + dim) / 2
        return half * float(digamma(half) - digamma(self.dof / 2)) - self._log_constant(dim)


@dataclass(frozen=True, eq=False)
class AdditiveUniformTask(Task):
    """x ~ U(0, 1), y = x + U(-noise, noise).

    I = h(y) - h(y | x): noise - log 2 noise up to noise = 1/2, and 1 / (4 noise) above.

    Raises:
        ConfigError: noise that is not above 0.
    """

    noise: float

    def __post_init__(self) -> None:
        if not self.noise > 0:
            raise ConfigError(f"{self.name}: the noise must be above 0, found {self.noise}.")

    @property
    def true_mi(self) -> float:
        if self.noise <= 0.5:
            return self.noise - math.log(2 * self.noise)
        return 1 / (4 * self.noise)

    def draw(self, number: int, generator: np.random.Generator) -> tuple[Array, Array]:
        x = generator.uniform(0, 1, (number, 1))
        return x, x + generator.uniform(-self.noise, self.noise, (number, 1))

    def score(self, x: Array, y: Array) -> Array:
        """p(y | x) is 1 / (2 noise) near x; p(y) is that times the x in (0, 1) near y."""
        near_y = np.minimum(y + self.noise, 1) - np.maximum(y - self.noise, 0)
        possible = np.abs(x - y.T) <= self.noise + ROUNDING
        return np.where(possible, -np.log(np.maximum(near_y.T, ROUNDING)), -np.inf)


def task(name: str) -> Task:
    """One of the 40 tasks by its name.

    Raises:
        ConfigError: unknown name; names the nearest.

    Taught in 03_neural_estimators.
    """
    if name in TASKS:
        return TASKS[name]
    near = get_close_matches(name, TASKS, n=3) or list(TASKS)[:3]
    raise ConfigError(
        f"Unknown task {name!r}; near it are {', '.join(near)}. TASKS holds all {len(TASKS)}."
    )


def _normal() -> GaussianTask:
    covariance = paired_covariance(1, CORRELATION)
    return GaussianTask(f"1v1-normal-{CORRELATION}", "Bivariate normal 1 × 1", 1, 1, covariance)


def _dense(dim: int) -> GaussianTask:
    """The same correlation of .5 between any two of all the coordinates."""
    covariance = np.full((2 * dim, 2 * dim), 0.5) + np.eye(2 * dim) / 2
    label = f"Multinormal {dim} × {dim} (dense)"
    return GaussianTask(f"multinormal-dense-{dim}-{dim}-0.5", label, dim, dim, covariance)


def _two_pairs(dim: int) -> GaussianTask:
    """Two pairs (x_i, y_i) correlated by .8, nothing else."""
    label = f"Multinormal {dim} × {dim} (2-pair)"
    covariance = paired_covariance(dim, 0.8, pairs=2)
    return GaussianTask(f"multinormal-sparse-{dim}-{dim}-2-2.0", label, dim, dim, covariance)


def _student(dim: int, dof: int) -> StudentTask:
    label = f"Student-t {dim} × {dim} (dof={dof})"
    return StudentTask(f"student-identity-{dim}-{dim}-{dof}", label, dim, dim, dof)


def _additive(noise: float) -> AdditiveUniformTask:
    label = f"Uniform 1 × 1 (additive noise={noise})"
    return AdditiveUniformTask(f"1v1-additive-{noise}", label, 1, 1, noise)


def _mapped(
    base: Task, name: str, label: str, of_x: Transform, of_y: Transform | None = None
) -> TransformedTask:
    """`base` through the same map of x and y, or through two, under both names."""
    whole = f"{label} @ {base.label}"
    return TransformedTask.of(base, f"{name}-{base.name}", whole, of_x, of_y or of_x)


def _uniform(base: Task) -> TransformedTask:
    return _mapped(base, "normal_cdf", "Normal CDF", NORMAL_CDF)


def _half_cube(base: Task) -> TransformedTask:
    return _mapped(base, "half_cube", "Half-cube", HALF_CUBE)


def _asinh(base: Task) -> TransformedTask:
    return _mapped(base, "asinh", "Asinh", ASINH)


def _spiral(base: Task) -> TransformedTask:
    of_x, of_y = spiral(base.dim_x, (0, 1)), spiral(base.dim_y, (1, 2))
    return _mapped(base, "spiral", "Spiral", of_x, of_y)


def _bimodal(base: Task) -> TransformedTask:
    of_x = mixture_of_normals((0.3, 0.7), (0.0, 5.0))
    of_y = mixture_of_normals((0.5, 0.5), (-1.0, 3.0))
    return TransformedTask.of(base, f"1v1-bimodal-{CORRELATION}", "Bimodal 1 × 1", of_x, of_y)


def _swiss_roll(base: Task) -> TransformedTask:
    name = f"swissroll_x-{base.name}"
    return TransformedTask.of(base, name, "Swiss roll 2 × 1", of_x=SWISS_ROLL)


def _all_tasks() -> Iterator[Task]:
    """In the order of the benchmark."""
    normal, pairs = _normal(), [_two_pairs(dim) for dim in (3, 5, 25)]
    yield from (normal, _uniform(normal), _additive(0.1), _additive(0.75), _bimodal(normal))
    yield _mapped(normal, "wiggly", "Wiggly", WIGGLY_X, WIGGLY_Y)
    yield from (_half_cube(normal), _student(1, 1), _asinh(_student(1, 1)))
    yield _swiss_roll(_uniform(normal))
    yield from (_dense(dim) for dim in (2, 3, 5, 25, 50))
    yield from (_two_pairs(2), *pairs)
    yield from (_student(*of) for of in ((2, 1), (2, 2), (3, 2), (3, 3), (5, 2), (5, 3)))
    yield from map(_uniform, pairs)
    yield from map(_half_cube, pairs)
    yield from map(_spiral, pairs)
    yield from map(_spiral, map(_uniform, pairs))
    yield from (_asinh(_student(*of)) for of in ((2, 1), (3, 2), (5, 2)))


TASKS: Mapping[str, Task] = MappingProxyType({one.name: one for one in _all_tasks()})
