"""KSG, correlations and histograms: against loops, known answers, their known failures."""

import math

import numpy as np
import pytest
import torch
from scipy.special import digamma
from torch import Tensor

from localmi.errors import ConfigError, DataError
from localmi.mi.distributions import GaussianTask, staircase, task
from localmi.mi.samples import baselines
from localmi.mi.samples.baselines import gaussian_mi, histogram_mi, ksg


def standardised(points: Tensor) -> np.ndarray:
    array = points.double().numpy()
    return (array - array.mean(0)) / array.std(0)


def ksg_loop(x: Tensor, y: Tensor, neighbours: int) -> float:
    """Kraskov et al. 2004, Eq. 8, point by point."""
    x, y = standardised(x), standardised(y)
    N, total = len(x), 0.0
    for i in range(N):
        to_x = [abs(x[i] - x[j]).max() for j in range(N) if j != i]
        to_y = [abs(y[i] - y[j]).max() for j in range(N) if j != i]
        radius = sorted(map(max, to_x, to_y))[neighbours - 1]
        n_x, n_y = (sum(one < radius for one in to) for to in (to_x, to_y))
        total += digamma(n_x + 1) + digamma(n_y + 1)
    return float(digamma(neighbours) + digamma(N) - total / N)


# --- KSG --------------------------------------------------------------------------------------


@pytest.mark.parametrize("neighbours", [1, 3])
@pytest.mark.parametrize("tree_dims", [0, 100])
@pytest.mark.parametrize(
    "name",
    ["1v1-bimodal-0.75", "swissroll_x-normal_cdf-1v1-normal-0.75", "student-identity-3-3-2"],
)
def test_ksg_equals_the_loop(
    name: str, tree_dims: int, neighbours: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By search trees and by the table of all distances."""
    monkeypatch.setattr(baselines, "TREE_DIMS", tree_dims)
    monkeypatch.setattr(baselines, "ROWS", 32)
    x, y = task(name).sample(90, seed=0)
    expected = ksg_loop(x, y, neighbours)
    assert ksg(x, y, neighbours=neighbours) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(
    "name",
    [
        "1v1-normal-0.75",
        "normal_cdf-1v1-normal-0.75",
        "1v1-bimodal-0.75",
        "wiggly-1v1-normal-0.75",
        "half_cube-1v1-normal-0.75",
        "asinh-student-identity-1-1-1",
        "swissroll_x-normal_cdf-1v1-normal-0.75",
    ],
)
def test_ksg_is_right_in_one_dimension(name: str) -> None:
    """The benchmark's N, and a bar of .03 nats; also an independent route to the true MI."""
    assert ksg(*task(name).sample(10_000, seed=0)) == pytest.approx(task(name).true_mi, abs=0.03)


def test_ksg_fails_with_dimension() -> None:
    known = task("multinormal-sparse-25-25-2-2.0")
    assert ksg(*known.sample(1000, seed=0)) < 0.3 * known.true_mi


def test_ksg_finds_nothing_in_independence() -> None:
    x, y = staircase(0.0, dim=2).sample(2000, seed=0)
    assert ksg(x, y) == pytest.approx(0, abs=0.05)


def test_ksg_does_not_depend_on_units_and_takes_any_form() -> None:
    x, y = task("1v1-normal-0.75").sample(500, seed=0)
    value = ksg(x, y)
    assert ksg(1000 * x.double() - 5, y.double() / 1000) == pytest.approx(value, abs=1e-8)
    assert ksg(x[:, 0], y[:, 0]) == value
    assert ksg(x.numpy(), y.double().numpy()) == value
    assert ksg(y, x) == value


def test_some_rounded_values_are_let_through() -> None:
    x, y = task("1v1-normal-0.75").sample(1000, seed=0)
    assert ksg((1000 * x).round(), y) == pytest.approx(ksg(x, y), abs=0.05)


@pytest.mark.parametrize("tree_dims", [0, 100])
def test_copies_are_refused(tree_dims: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "TREE_DIMS", tree_dims)
    x, y = task("1v1-normal-0.75").sample(100, seed=0)
    x[:5], y[:5] = x[0], y[0]
    with pytest.raises(DataError, match=r"5 of 100 pairs .* have 3 exact copies"):
        ksg(x, y)


def test_discrete_values_are_refused() -> None:
    x, y = task("1v1-normal-0.75").sample(100, seed=0)
    with pytest.raises(DataError, match="y has only 2 different ones in 100 samples"):
        ksg(x, (y > 0).int())


def test_impossible_neighbours_are_refused() -> None:
    x, y = task("1v1-normal-0.75").sample(10, seed=0)
    for neighbours in (0, 10):
        with pytest.raises(ConfigError, match=f"found {neighbours} and N = 10"):
            ksg(x, y, neighbours=neighbours)


# --- correlations -----------------------------------------------------------------------------


def test_one_correlation() -> None:
    x, y = task("1v1-normal-0.75").sample(1000, seed=0)
    rho = np.corrcoef(x[:, 0], y[:, 0])[0, 1]
    expected = -math.log(1 - rho**2) / 2
    assert gaussian_mi(x, y, corrected=False) == pytest.approx(expected, abs=1e-6)
    assert gaussian_mi(x, y) == pytest.approx(expected - 1 / 2000, abs=1e-6)


def test_correlations_equal_the_determinants() -> None:
    x, y = task("multinormal-dense-3-3-0.5").sample(500, seed=0)
    sample = GaussianTask("", "", 3, 3, np.cov(torch.hstack([x, y]).double().T))
    assert gaussian_mi(x, y, corrected=False) == pytest.approx(sample.true_mi, abs=1e-8)
    mixed = x @ torch.tensor([[1.0, 2, 0], [0, 1, 5], [0, 0, 1]]) + 7
    assert gaussian_mi(mixed, y) == pytest.approx(gaussian_mi(x, y), abs=1e-5)


def test_the_correction_takes_the_bias_off() -> None:
    known = task("multinormal-dense-50-50-0.5")
    x, y = known.sample(10_000, seed=0)
    assert gaussian_mi(x, y) == pytest.approx(known.true_mi, abs=0.03)
    assert gaussian_mi(x, y, corrected=False) > known.true_mi + 0.09


def test_correlations_see_neither_heavy_tails_nor_what_is_not_linear() -> None:
    """Cauchy: one outlier decides; after asinh nothing linear is left of .432 nats."""
    raw, mild = task("student-identity-2-2-1"), task("asinh-student-identity-2-2-1")
    found = [gaussian_mi(*raw.sample(10_000, seed)) for seed in range(6)]
    assert np.mean(found) > 2 * raw.true_mi
    assert np.ptp(found) > 1
    for seed in range(6):
        assert gaussian_mi(*mild.sample(10_000, seed)) == pytest.approx(0, abs=0.0025)


def test_what_has_no_finite_value_is_refused() -> None:
    x, y = task("multinormal-dense-3-3-0.5").sample(50, seed=0)
    with pytest.raises(DataError, match="A linear combination of x equals one of y"):
        gaussian_mi(x, torch.hstack([y, x[:, :1] + x[:, 1:2]]))
    with pytest.raises(DataError, match="A column of y is a linear combination"):
        gaussian_mi(x, torch.hstack([y, y[:, :1] - 2 * y[:, 1:2]]))
    with pytest.raises(DataError, match="7 samples cannot give the correlations of 6 columns"):
        gaussian_mi(x[:7], y[:7])


# --- histogram --------------------------------------------------------------------------------


def test_histogram_counts() -> None:
    x = torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert histogram_mi(x, x, bins=2) == pytest.approx(math.log(2))
    assert histogram_mi(x, torch.tensor([0.0, 1.0, 0.0, 1.0]), bins=2) == pytest.approx(0)


def test_histogram_errs_down_with_few_bins_and_up_with_many() -> None:
    known = task("1v1-normal-0.75")
    x, y = known.sample(2000, seed=0)
    values = [histogram_mi(x, y, bins=bins) for bins in (2, 15, 100)]
    assert values[0] < known.true_mi - 0.1
    assert values[1] == pytest.approx(known.true_mi, abs=0.1)
    assert values[2] > known.true_mi + 0.5


def test_histograms_of_many_dimensions_are_refused() -> None:
    x, y = task("student-identity-2-2-2").sample(20, seed=0)
    with pytest.raises(DataError, match="one dimension each, found 2 and 1"):
        histogram_mi(x, y[:, 0], bins=3)
    with pytest.raises(ConfigError, match="at least two bins, found 1"):
        histogram_mi(x[:, 0], y[:, 0], bins=1)


# --- bad input of all -------------------------------------------------------------------------


@pytest.mark.parametrize("estimate", [ksg, gaussian_mi, lambda x, y: histogram_mi(x, y, bins=4)])
def test_bad_samples_are_refused(estimate: object) -> None:
    assert callable(estimate)
    x, y = task("1v1-normal-0.75").sample(40, seed=0)
    with pytest.raises(DataError, match="found 40 rows of x and 39 of y"):
        estimate(x, y[:39])
    for bad in (math.nan, math.inf):
        broken = y.clone()
        broken[[7, 9]] = bad
        with pytest.raises(DataError, match="y has NaN .* 2 of .*, the first is row 7"):
            estimate(x, broken)
    with pytest.raises(DataError, match="x is constant in column 0"):
        estimate(torch.full((40, 1), 0.1), y)
    with pytest.raises(DataError, match=r"x must be .* found \(40, 1, 1\)"):
        estimate(x[..., None], y)
    with pytest.raises(DataError, match=r"not empty, found \(0, 1\)"):
        estimate(x[:0], y[:0])
