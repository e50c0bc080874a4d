"""Gaussians against scipy's densities, closed forms and what the optimal critic reaches."""

import csv
import math

import numpy as np
import pytest
import torch
from places import SHARED
from scipy.stats import multivariate_normal

from localmi.errors import ConfigError
from localmi.mi.bounds import dv, infonce
from localmi.mi.distributions.gaussian import GaussianTask, mcallester_stratos, staircase

OPTIMAL = SHARED / "data" / "optimal-critic-gauss20.csv"


def any_covariance(dim: int, seed: int = 0) -> np.ndarray:
    root = np.random.default_rng(seed).standard_normal((dim, dim))
    return root @ root.T + 0.1 * np.eye(dim)


def test_log_ratio_against_scipy() -> None:
    covariance = any_covariance(5)
    known = GaussianTask("any", "", 2, 3, covariance)
    x, y = known.sample(6, seed=0)
    both, of_x, of_y = (
        multivariate_normal(cov=block)
        for block in (covariance, covariance[:2, :2], covariance[2:, 2:])
    )
    scores = known.log_ratio(x, y)
    for i in range(6):
        for j in range(6):
            expected = both.logpdf(torch.cat([x[i], y[j]])) - of_x.logpdf(x[i]) - of_y.logpdf(y[j])
            assert scores[i, j].item() == pytest.approx(expected, rel=1e-4, abs=1e-4)
    entropies = of_x.entropy() + of_y.entropy() - both.entropy()
    assert known.true_mi == pytest.approx(entropies, abs=1e-10)


def test_samples_have_the_covariance() -> None:
    covariance = any_covariance(4)
    points = torch.hstack(GaussianTask("any", "", 3, 1, covariance).sample(100_000, seed=0))
    np.testing.assert_allclose(np.cov(points.T), covariance, atol=0.05 * covariance.max())


@pytest.mark.parametrize("cubic", [False, True])
@pytest.mark.parametrize("mi", [0.0, 2.0, 10.0])
def test_each_step_has_its_information(mi: float, cubic: bool) -> None:
    known = staircase(mi, cubic=cubic)
    assert known.true_mi == pytest.approx(mi, abs=1e-9)
    x, y = known.sample(4000, seed=0)
    assert (known.dim_x, known.dim_y) == (x.shape[1], y.shape[1]) == (20, 20)
    matched = known.paired_log_ratio(x, y)
    error = matched.std().item() / math.sqrt(4000)
    assert matched.mean().item() == pytest.approx(mi, abs=4 * error + 1e-5)


def test_the_cube_is_the_cube() -> None:
    plain, cubic = staircase(4.0, dim=3), staircase(4.0, dim=3, cubic=True)
    (x, y), (cubic_x, cubic_y) = plain.sample(20, seed=0), cubic.sample(20, seed=0)
    assert torch.equal(x, cubic_x)
    torch.testing.assert_close(cubic_y, y**3)
    torch.testing.assert_close(
        cubic.log_ratio(cubic_x, cubic_y), plain.log_ratio(x, y), rtol=1e-4, atol=1e-4
    )
    assert plain.name != cubic.name


def test_independent_coordinates_know_nothing() -> None:
    known = staircase(0.0, dim=2)
    x, y = known.sample(10, seed=0)
    torch.testing.assert_close(known.log_ratio(x, y), torch.zeros(10, 10))


@pytest.mark.skipif(not OPTIMAL.exists(), reason="the table of optimal critics is not here")
@pytest.mark.parametrize("mi", [2, 6, 10])
@pytest.mark.parametrize("cubic", [False, True])
def test_bounds_at_the_optimal_critic(mi: int, cubic: bool) -> None:
    rows = {
        row["bound"]: float(row["mean"])
        for row in csv.DictReader(OPTIMAL.open())
        if row["batch"] == "64" and float(row["true_mi"]) == mi
    }
    known, batches = staircase(mi, cubic=cubic), 300
    scores = [known.log_ratio(*known.sample(64, seed)) for seed in range(batches)]
    found = torch.stack([infonce(one, None, "image_to_text") for one in scores])
    assert found.mean().item() == pytest.approx(rows["InfoNCE"], abs=0.04)
    found = torch.stack([dv(one) for one in scores])
    assert found.mean().item() == pytest.approx(
        rows["DV"], abs=4 * found.std().item() / math.sqrt(batches) + 0.02
    )


def test_more_information_than_samples_can_vouch_for() -> None:
    known = mcallester_stratos()
    assert known.true_mi == pytest.approx(-64 * math.log(1 - 0.25))
    assert known.true_mi == pytest.approx(18.41, abs=0.005)
    scores = known.log_ratio(*known.sample(128, seed=0))
    assert infonce(scores).item() == pytest.approx(math.log(128), abs=0.02)
    assert infonce(scores) <= math.log(128)


@pytest.mark.parametrize(
    ("covariance", "message"),
    [
        (np.eye(4), r"is \[3, 3\].*found \[4, 4\]"),
        (np.array([[1, 0.5, 0], [0, 1, 0], [0, 0, 1]]), "not symmetric"),
        (np.ones((3, 3)), "not positive definite"),
    ],
)
def test_what_is_no_covariance_is_refused(covariance: np.ndarray, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GaussianTask("bad", "", 1, 2, covariance)


def test_impossible_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match="mi >= 0 and dim >= 1, found -1"):
        staircase(-1.0)
    with pytest.raises(ConfigError, match="mi >= 0 and dim >= 1"):
        staircase(math.nan)
    with pytest.raises(ConfigError, match="mi >= 0 and dim >= 1"):
        staircase(1.0, dim=0)
    with pytest.raises(ConfigError, match=r"in \(-1, 1\), found 128, 1.0"):
        mcallester_stratos(correlation=1.0)
