"""The 40 tasks against the benchmark's table, and each true MI found again by its own samples."""

import csv
import math

import numpy as np
import pytest
import torch
from places import SHARED
from scipy.integrate import quad
from scipy.stats import kstest, multivariate_t, norm

from localmi.errors import ConfigError
from localmi.mi.distributions.tasks import TASKS, AdditiveUniformTask, StudentTask, task

REFERENCE = SHARED / "data" / "known-mi-tasks.csv"


@pytest.mark.skipif(not REFERENCE.exists(), reason="the benchmark's table is not here")
def test_tasks_are_those_of_the_benchmark() -> None:
    rows = list(csv.DictReader(REFERENCE.open()))
    assert [row["name"] for row in rows] == list(TASKS)
    for row in rows:
        found = TASKS[row["name"]]
        assert found.name == row["name"]
        assert found.label == row["label"]
        assert (found.dim_x, found.dim_y) == (int(row["dim_x"]), int(row["dim_y"]))
        assert found.true_mi == pytest.approx(float(row["true_mi_nats"]), abs=1e-4)


def test_there_are_forty() -> None:
    assert len(TASKS) == 40


@pytest.mark.parametrize("name", TASKS)
def test_samples_and_optimal_critic_give_the_true_information(name: str) -> None:
    """The mean log-ratio of matched pairs is I, and E[ratio] of mismatched ones is 1.

    The second is what a wrong constant or a transform that is not undone would break.
    """
    number, known = 20_000, task(name)
    x, y = known.sample(number, seed=1)
    assert x.shape == (number, known.dim_x)
    assert y.shape == (number, known.dim_y)
    assert x.dtype == y.dtype == torch.float32
    assert x.isfinite().all()
    assert y.isfinite().all()
    matched = known.paired_log_ratio(x, y)
    error = matched.std().item() / math.sqrt(number)
    assert matched.mean().item() == pytest.approx(known.true_mi, abs=4 * error)
    assert error < 0.012
    ratio = known.paired_log_ratio(x, y.roll(1, dims=0)).exp()
    assert ratio.mean().item() == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("name", ["1v1-normal-0.75", "wiggly-1v1-normal-0.75", "1v1-additive-0.1"])
def test_same_seed_same_samples(name: str) -> None:
    first, second, other = (task(name).sample(50, seed) for seed in (3, 3, 4))
    assert torch.equal(first.x, second.x)
    assert torch.equal(first.y, second.y)
    assert not torch.equal(first.x, other.x)


def test_paired_is_the_diagonal_also_over_several_blocks() -> None:
    for name in ("multinormal-dense-3-3-0.5", "asinh-student-identity-3-3-2"):
        known = task(name)
        x, y = known.sample(300, seed=0)
        torch.testing.assert_close(known.paired_log_ratio(x, y), known.log_ratio(x, y).diagonal())


def test_rows_of_the_optimal_critic_are_x() -> None:
    known = task("swissroll_x-normal_cdf-1v1-normal-0.75")  # 2 × 1: sides cannot be swapped
    x, y = known.sample(5, seed=0)
    scores = known.log_ratio(x[:3], y)
    assert scores.shape == (3, 5)
    torch.testing.assert_close(scores[2, 4], known.log_ratio(x[2:3], y[4:5])[0, 0])


# --- closed forms, by a second route ------------------------------------------------------------


@pytest.mark.parametrize("noise", [0.05, 0.1, 0.5, 0.75, 3.0])
def test_additive_uniform_by_quadrature(noise: float) -> None:
    """I = E over (x, y) of -log of the length of x that can lie under y."""

    def length(y: float) -> float:
        return min(y + noise, 1) - max(y - noise, 0)

    def integrand(y: float) -> float:  # y has density length / (2 noise)
        return -length(y) / (2 * noise) * math.log(length(y))

    corners = [noise, 1 - noise]
    value, _ = quad(integrand, -noise, 1 + noise, points=corners, epsabs=1e-10, limit=200)
    assert AdditiveUniformTask("", "", 1, 1, noise).true_mi == pytest.approx(value, abs=1e-7)


def test_additive_uniform_never_has_what_cannot_be() -> None:
    known = AdditiveUniformTask("", "", 1, 1, 0.1)
    scores = known.log_ratio(torch.tensor([[0.2], [0.5]]), torch.tensor([[0.25], [0.59]]))
    assert scores.isinf().tolist() == [[False, True], [True, False]]
    assert scores[1, 1].item() == pytest.approx(-math.log(0.2), abs=1e-5)


@pytest.mark.parametrize(("dim_x", "dim_y", "dof"), [(1, 1, 1), (2, 3, 2), (5, 5, 3)])
def test_student_against_scipy(dim_x: int, dim_y: int, dof: int) -> None:
    both, of_x, of_y = (
        multivariate_t(shape=np.eye(dim), df=dof) for dim in (dim_x + dim_y, dim_x, dim_y)
    )
    known = StudentTask("", "", dim_x, dim_y, dof)
    entropies = of_x.entropy() + of_y.entropy() - both.entropy()
    assert known.true_mi == pytest.approx(float(entropies), abs=1e-9)
    x, y = known.sample(20, seed=0)
    expected = both.logpdf(torch.hstack([x, y])) - of_x.logpdf(x) - of_y.logpdf(y)
    found = known.paired_log_ratio(x, y)
    np.testing.assert_allclose(found, expected.reshape(-1), rtol=1e-4, atol=1e-5)


# --- marginals: what the recipes promise -------------------------------------------------------


def test_marginals_are_those_of_the_recipes() -> None:
    def is_drawn_from(name: str, cdf: object) -> bool:
        return bool(kstest(task(name).sample(5000, seed=2).x[:, 0], cdf).pvalue > 0.01)

    assert is_drawn_from("1v1-normal-0.75", norm.cdf)
    assert is_drawn_from("normal_cdf-1v1-normal-0.75", "uniform")
    assert is_drawn_from("1v1-additive-0.1", "uniform")
    assert is_drawn_from("student-identity-1-1-1", "cauchy")
    assert is_drawn_from("1v1-bimodal-0.75", lambda x: 0.3 * norm.cdf(x) + 0.7 * norm.cdf(x - 5))
    assert not is_drawn_from("1v1-bimodal-0.75", norm.cdf)


def test_correlations_are_those_of_the_recipes() -> None:
    def correlations(name: str) -> np.ndarray:
        return np.corrcoef(torch.hstack(task(name).sample(50_000, seed=0)).T)

    dense = np.full((6, 6), 0.5) + np.eye(6) / 2
    np.testing.assert_allclose(correlations("multinormal-dense-3-3-0.5"), dense, atol=0.02)
    pairs = np.eye(6)
    pairs[[0, 1, 3, 4], [3, 4, 0, 1]] = 0.8
    np.testing.assert_allclose(correlations("multinormal-sparse-3-3-2-2.0"), pairs, atol=0.02)


# --- bad input ----------------------------------------------------------------------------------


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="'1v1-normal'; near it are 1v1-normal-0.75"):
        task("1v1-normal")
    with pytest.raises(ConfigError, match="TASKS holds all 40"):
        task("?")


def test_bad_calls_are_refused() -> None:
    known = task("multinormal-dense-3-3-0.5")
    with pytest.raises(ConfigError, match="at least one sample, found 0"):
        known.sample(0, seed=0)
    with pytest.raises(ConfigError, match=r"x must be \[n, 3\], found \[4, 2\]"):
        known.log_ratio(torch.zeros(4, 2), torch.zeros(4, 3))
    with pytest.raises(ConfigError, match=r"y must be \[n, 3\], found \[3\]"):
        known.log_ratio(torch.zeros(4, 3), torch.zeros(3))
    with pytest.raises(ConfigError, match="as many x as y, found 4, 5"):
        known.paired_log_ratio(torch.zeros(4, 3), torch.zeros(5, 3))
    with pytest.raises(ConfigError, match="noise must be above 0, found 0"):
        AdditiveUniformTask("", "", 1, 1, 0)
    with pytest.raises(ConfigError, match="degrees of freedom"):
        StudentTask("", "", 1, 1, -1)
