"""The quadratic critic against the densities of scipy."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

from localmi.errors import ConfigError
from localmi.mi.distributions import GaussianTask, staircase
from localmi.mi.quadratic import QuadraticCritic

DIM_X, DIM_Y = 3, 2


def covariance(seed: int = 0) -> np.ndarray:
    root = np.random.default_rng(seed).standard_normal((DIM_X + DIM_Y, DIM_X + DIM_Y))
    return root @ root.T + np.eye(DIM_X + DIM_Y)


def points(seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4, DIM_X, generator=generator, dtype=torch.float64)
    return x, torch.randn(5, DIM_Y, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("mean", [np.zeros(5), np.array([1.0, -2.0, 0.5, 3.0, -1.0])])
def test_oracle_is_the_log_ratio_of_the_densities(mean: np.ndarray) -> None:
    joint = covariance()
    critic = QuadraticCritic.of_gaussian(
        torch.from_numpy(joint), DIM_X, torch.from_numpy(mean)
    ).double()
    x, y = points()
    of_x = multivariate_normal(mean[:DIM_X], joint[:DIM_X, :DIM_X])
    of_y = multivariate_normal(mean[DIM_X:], joint[DIM_X:, DIM_X:])
    both = multivariate_normal(mean, joint)
    scores = critic(x, y)
    assert scores.shape == (4, 5)
    for i in range(4):
        for j in range(5):
            pair = np.concatenate([x[i], y[j]])
            expected = both.logpdf(pair) - of_x.logpdf(x[i]) - of_y.logpdf(y[j])
            assert scores[i, j].item() == pytest.approx(expected, abs=1e-5)
    torch.testing.assert_close(critic.paired(x, y[:4]), scores.diagonal())


def test_oracle_is_the_optimal_critic_of_the_staircase() -> None:
    task = staircase(4.0)
    assert isinstance(task, GaussianTask)
    x, y = task.sample(32, seed=0)
    critic = QuadraticCritic.of_gaussian(torch.from_numpy(task.covariance), task.dim_x)
    torch.testing.assert_close(critic(x, y), task.log_ratio(x, y), rtol=1e-4, atol=1e-4)


def test_it_begins_at_zero_and_every_part_can_learn() -> None:
    critic = QuadraticCritic(DIM_X, DIM_Y).double()
    x, y = points()
    scores = critic(x, y)
    assert not scores.any()
    (scores * torch.arange(20.0).reshape(4, 5)).sum().backward()
    for parameter in critic.parameters():
        assert parameter.grad is not None
        assert parameter.grad.count_nonzero() == parameter.numel()


@pytest.mark.parametrize(
    ("matrix", "dim_x"),
    [
        (torch.ones(4, 4), 2),  # singular
        (torch.eye(4)[:3], 2),  # not square
        (-torch.eye(4), 2),
    ],
)
def test_what_is_no_covariance_is_refused(matrix: Tensor, dim_x: int) -> None:
    with pytest.raises(ConfigError, match="positive definite"):
        QuadraticCritic.of_gaussian(matrix, dim_x)


@pytest.mark.parametrize("dim_x", [0, 4])
def test_both_sides_need_a_dimension(dim_x: int) -> None:
    with pytest.raises(ConfigError, match="both sides"):
        QuadraticCritic.of_gaussian(torch.eye(4), dim_x)
