"""An estimate beside its null, and carried on to infinitely many samples."""

import math
from functools import partial
from typing import Any

import numpy as np
import pytest

from localmi.errors import ConfigError, DataError
from localmi.mi import extrapolate, gaussian_mi, histogram_mi, ksg, permutation_null
from localmi.mi.distributions import staircase

counted = partial(histogram_mi, bins=12)


def pairs(nats: float, number: int, seed: int = 0) -> tuple[Any, Any]:
    return staircase(mi=nats, dim=1).sample(number, seed)


@pytest.mark.parametrize("estimator", [counted, ksg, gaussian_mi])
def test_what_is_there_is_told_from_nothing(estimator: Any) -> None:
    found = permutation_null(*pairs(0.5, 400), estimator, permutations=19)
    assert found.p_value == 1 / 20
    assert found.shuffled.shape == (19,)
    assert found.value > found.shuffled.max()


def test_the_value_of_a_histogram_is_no_evidence_and_its_null_says_so() -> None:
    x, y = np.random.default_rng(2).standard_normal((2, 200, 1))
    found = permutation_null(x, y, partial(histogram_mi, bins=40), permutations=39)
    assert found.value > 1
    assert found.shuffled.mean() == pytest.approx(found.value, abs=0.1)
    assert found.p_value > 0.05


def test_p_values_of_independent_pairs_are_spread_evenly() -> None:
    rng = np.random.default_rng(5)
    drawn = rng.standard_normal((200, 2, 40, 1))
    p = [permutation_null(x, y, gaussian_mi, permutations=9).p_value for x, y in drawn]
    values, counts = np.unique(np.round(p, 1), return_counts=True)
    assert values == pytest.approx(np.arange(1, 11) / 10)
    assert counts.min() > 7  # of 20 expected, standard deviation 4.2


def test_orders_follow_the_seed() -> None:
    one, again, other = (
        permutation_null(*pairs(0.1, 60), ksg, permutations=5, seed=seed) for seed in (1, 1, 2)
    )
    assert np.array_equal(one.shuffled, again.shuffled)
    assert not np.array_equal(one.shuffled, other.shuffled)


def test_a_bias_of_one_over_n_is_taken_off() -> None:
    found = extrapolate(*pairs(0.0, 1000, seed=3), counted, repeats=20)
    assert abs(found.value) < found.means[-1] / 4
    assert found.sizes.tolist() == [400, 550, 700, 850, 1000]
    assert np.all(np.diff(found.means) < 0)


def test_a_line_is_carried_on_exactly() -> None:
    x = np.arange(50.0)[:, None]
    found = extrapolate(x, x, lambda x, y: 2 + 3 / len(x), shares=(0.2, 1), repeats=2)
    assert found.value == pytest.approx(2)
    assert found.sizes.tolist() == [10, 50]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shares": (1.0,)}, "take two or more"),
        ({"shares": (0.5, 0.5)}, "take two or more"),
        ({"shares": (0.5, 1.5)}, "at most 1"),
        ({"shares": (0.0, 1.0)}, "above 0"),
        ({"repeats": 0}, "repeats is 0"),
    ],
)
def test_what_cannot_be_extrapolated(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        extrapolate(*pairs(0.5, 50), ksg, **change)


@pytest.mark.parametrize("ask", [permutation_null, extrapolate])
def test_bad_samples_and_bad_estimators(ask: Any) -> None:
    x, y = pairs(0.5, 50)
    with pytest.raises(DataError, match="The estimator says nan of "):
        ask(x, y, lambda x, y: math.nan)
    with pytest.raises(DataError):
        ask(x, y[:40], ksg)
    with pytest.raises(ConfigError, match="permutations is 0"):
        permutation_null(x, y, ksg, permutations=0)
