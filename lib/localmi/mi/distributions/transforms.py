"""Maps of x or y that can be undone, and so leave the mutual information as it is.

Each works on rows, [n, d] -> [n, d'], in float64. I(f(X); g(Y)) = I(X; Y) for injective f and g
(Czyz et al. 2023, Theorem 2.1); `inverse` finds the optimal critic of the transformed task.
Taught in 01_mutual_information.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.optimize import elementwise
from scipy.special import ndtr, ndtri

from localmi.errors import ConfigError
from localmi.mi.distributions.base import Array

Map = Callable[[Array], Array]
NEAREST_ONE = 1 - 2.0**-25  # float32 rounds a normal CDF up to 1, whose quantile is infinite
ROLL = 1.5 * np.pi  # the Swiss roll begins at this angle and ends at three times of it


@dataclass(frozen=True)
class Transform:
    """An injective map of the rows of [n, d], and the way back."""

    forward: Map
    inverse: Map
    more_dims: int = 0  # d' - d


def power(exponent: float) -> Transform:
    """sign(x) |x|^exponent for every coordinate: heavier tails above 1, lighter below."""
    return Transform(partial(_power, exponent), partial(_power, 1 / exponent))


def spiral(dim: int, plane: tuple[int, int]) -> Transform:
    """Turns the two coordinates of `plane` by the angle |x|^2 / dim: the norm stays, so does dim.

    Raises:
        ConfigError: the plane is not two different coordinates of x.
    """
    if len({*plane}) != 2 or not all(0 <= axis < dim for axis in plane):
        raise ConfigError(f"A spiral turns two of the {dim} coordinates, found {plane}.")
    return Transform(partial(_turn, plane, 1 / dim), partial(_turn, plane, -1 / dim))


def mixture_of_normals(weights: tuple[float, ...], means: tuple[float, ...]) -> Transform:
    """A standard normal turned into a mixture of N(mean, 1): the mixture's quantile of its CDF.

    Raises:
        ConfigError: not one weight for each mean, or weights that are no distribution.
    """
    if len(weights) != len(means) or min(weights) <= 0 or abs(sum(weights) - 1) > 1e-9:
        raise ConfigError(f"Weights of a mixture sum to 1, one for each mean; found {weights}.")
    to_normal = partial(_mixture_to_normal, weights, means)
    # A point of the mixture lies between the same quantiles of its outermost parts.
    return Transform(partial(_solve, to_normal, min(means), max(means)), to_normal)


def sum_of_sines(terms: tuple[tuple[float, float, float], ...]) -> Transform:
    """x + sum of a sin(w x + b) for terms (a, w, b), for every coordinate.

    Raises:
        ConfigError: the sum does not increase everywhere, so that it cannot be undone.
    """
    if sum(abs(size * speed) for size, speed, _ in terms) >= 1:
        raise ConfigError(f"x plus these sines does not always increase: {terms}.")
    wiggle = partial(_add_sines, terms)
    reach = sum(abs(size) for size, _, _ in terms)
    return Transform(wiggle, partial(_solve, wiggle, -reach, reach))


def _power(exponent: float, x: Array) -> Array:
    return np.sign(x) * np.abs(x) ** exponent


def _turn(plane: tuple[int, int], speed: float, x: Array) -> Array:
    first, second = plane
    angle = speed * np.square(x).sum(axis=1)
    turned = x.copy()
    turned[:, first] = np.cos(angle) * x[:, first] + np.sin(angle) * x[:, second]
    turned[:, second] = np.cos(angle) * x[:, second] - np.sin(angle) * x[:, first]
    return turned


def _mixture_to_normal(weights: tuple[float, ...], means: tuple[float, ...], x: Array) -> Array:
    """The normal quantile of the mixture's CDF, from the tail that does not round to 1."""
    parts = list(zip(weights, means, strict=True))
    below = sum(weight * ndtr(x - mean) for weight, mean in parts)
    above = sum(weight * ndtr(mean - x) for weight, mean in parts)
    quantile: Array = np.where(below < above, ndtri(below), -ndtri(above))
    return quantile


def _add_sines(terms: tuple[tuple[float, float, float], ...], x: Array) -> Array:
    return x + sum(size * np.sin(speed * x + phase) for size, speed, phase in terms)


def _solve(increasing: Map, low: float, high: float, y: Array) -> Array:
    """x with increasing(x) = y, looked for in [y + low, y + high]."""
    bracket = (y + low - 1e-6, y + high + 1e-6)
    root: Array = elementwise.find_root(lambda x, y: increasing(x) - y, bracket, args=(y,)).x
    return root


def _quantile(u: Array) -> Array:
    quantile: Array = ndtri(np.clip(u, 1 - NEAREST_ONE, NEAREST_ONE))
    return quantile


def _roll(u: Array) -> Array:
    angle = ROLL * (1 + 2 * u)
    return np.hstack([angle * np.cos(angle), angle * np.sin(angle)]) / 21


def _unroll(points: Array) -> Array:
    """The radius of a point on the roll is its angle."""
    return (21 * np.linalg.norm(points, axis=1, keepdims=True) / ROLL - 1) / 2


IDENTITY = Transform(np.array, np.array)
CUBE = power(3)
HALF_CUBE = power(1.5)
ASINH = Transform(np.arcsinh, np.sinh)
NORMAL_CDF = Transform(ndtr, _quantile)
SWISS_ROLL = Transform(_roll, _unroll, more_dims=1)  # of [n, 1] in (0, 1)
