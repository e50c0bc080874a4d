"""Transforms: the way back, the known values of the recipes, and what cannot be undone."""

import math

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import norm

from localmi.errors import ConfigError
from localmi.mi.distributions import transforms
from localmi.mi.distributions.tasks import WIGGLY_X, WIGGLY_Y
from localmi.mi.distributions.transforms import Transform

ALL = {
    "identity": transforms.IDENTITY,
    "cube": transforms.CUBE,
    "half_cube": transforms.HALF_CUBE,
    "asinh": transforms.ASINH,
    "normal_cdf": transforms.NORMAL_CDF,
    "wiggly_x": WIGGLY_X,
    "wiggly_y": WIGGLY_Y,
    "mixture": transforms.mixture_of_normals((0.3, 0.7), (0.0, 5.0)),
    "spiral": transforms.spiral(3, (1, 2)),
}


def points(dim: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2000, dim)) * 1.2


@pytest.mark.parametrize("name", ALL)
def test_the_inverse_leads_back(name: str) -> None:
    before = points(3)
    kept = before.copy()
    after = ALL[name].forward(before)
    assert after.shape == before.shape
    np.testing.assert_allclose(ALL[name].inverse(after), before, atol=1e-6)
    np.testing.assert_array_equal(before, kept)


def test_the_swiss_roll_leads_back() -> None:
    before = ndtr(points(1))
    after = transforms.SWISS_ROLL.forward(before)
    assert after.shape == (2000, 1 + transforms.SWISS_ROLL.more_dims)
    np.testing.assert_allclose(transforms.SWISS_ROLL.inverse(after), before, atol=1e-12)


def at(transform: Transform, *point: float) -> list[float]:
    return transform.forward(np.array([point]))[0].tolist()


def test_known_values() -> None:
    assert at(transforms.HALF_CUBE, -4.0, 9.0) == pytest.approx([-8, 27])
    assert at(transforms.CUBE, -2.0) == pytest.approx([-8])
    x = 0.7
    wiggle = x + 0.4 * math.sin(x) + 0.2 * math.sin(1.7 * x + 1) + 0.03 * math.sin(3.3 * x - 2.5)
    assert at(WIGGLY_X, x) == pytest.approx([wiggle])
    t = 1.5 * math.pi * (1 + 2 * 0.25)
    roll = [t * math.cos(t) / 21, t * math.sin(t) / 21]
    assert at(transforms.SWISS_ROLL, 0.25) == pytest.approx(roll)


def test_the_spiral_turns_by_the_squared_norm_over_the_dimension() -> None:
    length = math.sqrt(3 * math.pi / 2)  # a quarter turn in 3 dimensions
    quarter = at(transforms.spiral(3, (0, 1)), length, 0.0, 0.0)
    assert quarter == pytest.approx([0, -length, 0], abs=1e-12)
    assert at(transforms.spiral(3, (1, 2)), length, 0.0, 0.0) == pytest.approx([length, 0, 0])


def test_the_mixture_has_its_quantiles_also_far_out() -> None:
    mixture = transforms.mixture_of_normals((0.5, 0.5), (-1.0, 3.0))
    for x in (-8.0, -1.0, 1.0, 3.0, 10.0):
        tail = min(
            0.5 * norm.cdf(x + 1) + 0.5 * norm.cdf(x - 3),
            0.5 * norm.sf(x + 1) + 0.5 * norm.sf(x - 3),
        )
        normal = norm.ppf(tail) if x <= 1 else norm.isf(tail)
        assert at(mixture, normal) == pytest.approx([x], abs=1e-6)


def test_a_cdf_that_float32_rounds_to_1_stays_finite() -> None:
    assert np.isfinite(transforms.NORMAL_CDF.inverse(np.array([[0.0, 1.0]]))).all()


def test_what_cannot_be_undone_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not always increase"):
        transforms.sum_of_sines(((0.5, 2.0, 0.0), (0.1, 1.0, 0.0)))
    with pytest.raises(ConfigError, match=r"two of the 3 coordinates, found \(1, 3\)"):
        transforms.spiral(3, (1, 3))
    with pytest.raises(ConfigError, match="two of the 3 coordinates"):
        transforms.spiral(3, (1, 1))
    with pytest.raises(ConfigError, match="Weights of a mixture"):
        transforms.mixture_of_normals((0.5, 0.6), (0.0, 1.0))


def test_what_float32_rounds_up_to_one_has_the_quantile_where_that_begins() -> None:
    edge = transforms.NORMAL_CDF.inverse(np.array([[0.0, 1.0]]))[0, 1]
    assert np.float32(ndtr(edge + 0.01)) == 1 > np.float32(ndtr(edge - 0.01))
