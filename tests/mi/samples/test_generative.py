"""BA and DoE against closed forms, and the density they rest on."""

import math

import pytest
import torch
from scipy import integrate

from localmi.errors import ConfigError
from localmi.mi.distributions import mcallester_stratos, task
from localmi.mi.samples.estimate import estimate
from localmi.mi.samples.generative import ConditionalDensity, ba_terms, doe_terms


def test_terms_from_the_formulas() -> None:
    marginal, conditional = torch.tensor([-1.0, -3.0]), torch.tensor([-0.5, -1.0])
    assert doe_terms(marginal, conditional).tolist() == [0.5, 2.0]
    assert ba_terms(conditional, entropy=2.0).tolist() == [1.5, 1.0]


def test_with_the_true_densities_both_find_the_information() -> None:
    """y = x + noise: h(Y) = log(2 pi e 2) / 2, I = log(2) / 2."""
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, 50_000, generator=generator)
    y = x + noise
    conditional = torch.distributions.Normal(x, 1.0).log_prob(y)
    marginal = torch.distributions.Normal(0.0, math.sqrt(2)).log_prob(y)
    truth = math.log(2) / 2
    assert doe_terms(marginal, conditional).mean().item() == pytest.approx(truth, abs=0.01)
    entropy = math.log(2 * math.pi * math.e * 2) / 2
    assert ba_terms(conditional, entropy).mean().item() == pytest.approx(truth, abs=0.01)


def test_density_integrates_to_one_and_depends_on_x() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 100, 1, generator=generator)
    torch.manual_seed(0)
    density = ConditionalDensity(x, y)
    for parameter in density.network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    values = []
    for given in (-1.0, 1.0):

        def at(point: float, given: float = given) -> float:
            with torch.no_grad():
                return float(density(torch.tensor([[given]]), torch.tensor([[point]])).exp())

        assert integrate.quad(at, -20, 20)[0] == pytest.approx(1, abs=1e-4)
        values.append(at(0.3))
    assert values[0] != pytest.approx(values[1], rel=1e-3)


def test_density_starts_as_least_squares() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(20_000, 2, generator=generator)
    mixed = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    y = x @ torch.tensor([[2.0, 0.0], [1.0, -1.0]]) + 3 + torch.randn(x.shape) @ mixed.T
    density = ConditionalDensity(x, y)
    covariance = mixed @ mixed.T
    mean = x[:50] @ torch.tensor([[2.0, 0.0], [1.0, -1.0]]) + 3
    expected = torch.distributions.MultivariateNormal(mean, covariance).log_prob(y[:50])
    found = density(x[:50], y[:50])
    assert (found - expected).mean().abs() < 0.02
    alone = ConditionalDensity(None, y)
    normal = torch.distributions.MultivariateNormal(y.mean(0), torch.cov(y.T))
    assert (alone(None, y[:50]) - normal.log_prob(y[:50])).mean().abs() < 0.02


@pytest.mark.slow
def test_doe_follows_where_no_other_can() -> None:
    """18.41 nats: InfoNCE stays under its cap, entropy minus cross-entropy finds them."""
    world = mcallester_stratos()
    x, y = world.sample(60_000, seed=0)
    found = estimate(x, y, method="doe", steps=0)
    assert found.value == pytest.approx(world.true_mi, abs=0.3)
    assert math.isinf(found.cap)
    capped = estimate(x, y, method="infonce", critic="quadratic", steps=0)
    assert capped.value < capped.cap < 8
    assert capped.at_cap
    assert "At the cap" in capped.notes[0]


def test_ba_in_the_units_of_y() -> None:
    """Scaling y adds log 10 to its entropy and nothing to the information."""
    pairs = task("1v1-normal-0.75").sample(4000, seed=0)
    entropy = math.log(2 * math.pi * math.e) / 2
    for scale in (1.0, 10.0):
        found = estimate(
            pairs.x, scale * pairs.y, method="ba", entropy=entropy + math.log(scale), steps=0
        )
        assert found.value == pytest.approx(0.413, abs=0.06)


def test_a_mixture_is_learned_where_a_gaussian_fails() -> None:
    world = task("1v1-additive-0.75")
    x, y = world.sample(3000, seed=0)
    start = estimate(x, y, method="doe", steps=0)
    learned = estimate(x, y, method="doe", steps=200)
    assert learned.step > 0
    assert abs(learned.value - world.true_mi) < abs(start.value - world.true_mi)


def test_bad_input_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\[K\]"):
        doe_terms(torch.zeros(3, 1), torch.zeros(3))
    with pytest.raises(ConfigError, match=r"\[K\]"):
        doe_terms(torch.zeros(0), torch.zeros(0))
    with pytest.raises(ConfigError, match="found 3 of"):
        doe_terms(torch.zeros(3), torch.zeros(4))
    with pytest.raises(ConfigError, match="finite entropy"):
        ba_terms(torch.zeros(3), math.nan)
