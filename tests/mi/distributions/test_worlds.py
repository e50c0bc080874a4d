"""Enumerated worlds: identities of information, and the claims of the paper's Section 3."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from localmi.errors import ConfigError
from localmi.mi.distributions.worlds import (
    MOST_ENTRIES,
    DiscreteWorld,
    from_one_hot,
    noisy_copy,
    one_hot,
    paper_world,
)
from localmi.mi.samples.baselines import histogram_mi

LOG_2 = math.log(2)
INDEPENDENT = np.full((2, 2), 0.25)  # H1 and H2
DEPENDENT = np.array([[0.4, 0.1], [0.1, 0.4]])
EQUAL = np.diag([0.5, 0.5])  # H1 = H2 = H


def random_world(*states: int, seed: int = 0) -> DiscreteWorld:
    table = np.random.default_rng(seed).gamma(0.5, size=states)
    return DiscreteWorld(tuple("ABCDEFG"[: len(states)]), table / table.sum())


def radiographs(hidden: np.ndarray, **options: object) -> DiscreteWorld:
    """Two states, image and report each wrong in one of ten, and in one of five."""
    return paper_world(hidden, noisy_copy(2, 0.1), noisy_copy(2, 0.2), **options)  # type: ignore[arg-type]


def two_scanners() -> np.ndarray:
    """p(z | vi, h): the second scanner shows the opposite of the first."""
    return np.stack([noisy_copy(2, 0.1), noisy_copy(2, 0.9)])


# --- enumeration ------------------------------------------------------------------------------


def test_conditional_information_equals_the_loop() -> None:
    """I(A; B | C) = sum p(abc) log p(abc) p(c) / p(ac) p(bc), case by case."""
    world = random_world(2, 3, 4)
    p, value = world.table, 0.0
    for a, b, c in product(range(2), range(3), range(4)):
        joint = p[a, b, c]
        value += joint * math.log(joint * p[:, :, c].sum() / (p[a, :, c].sum() * p[:, b, c].sum()))
    assert world.conditional_mi("A", "B", given="C") == pytest.approx(value, abs=1e-12)


def test_known_values() -> None:
    coin = DiscreteWorld(("X", "Y"), np.diag([0.25, 0.75]))
    entropy = -0.25 * math.log(0.25) - 0.75 * math.log(0.75)
    assert coin.entropy("X") == pytest.approx(entropy)
    assert coin.entropy(("X", "Y")) == pytest.approx(entropy)
    assert coin.mi("X", "Y") == pytest.approx(entropy)
    assert coin.mi("X", "X") == pytest.approx(entropy)
    assert coin.conditional_mi("X", "Y", given="Y") == pytest.approx(0)


def test_exclusive_or_is_known_only_together() -> None:
    table = np.zeros((2, 2, 2))
    for x, y in product(range(2), repeat=2):
        table[x, y, x ^ y] = 0.25
    world = DiscreteWorld(("X", "Y", "Z"), table)
    assert world.mi("X", "Z") == pytest.approx(0, abs=1e-12)
    assert world.mi(("X", "Y"), "Z") == pytest.approx(LOG_2)
    assert world.conditional_mi("X", "Z", given="Y") == pytest.approx(LOG_2)


@pytest.mark.parametrize("seed", range(5))
def test_identities(seed: int) -> None:
    world = random_world(2, 3, 2, 3, seed=seed)
    whole = world.mi(("A", "B"), ("C", "D"))
    chain = world.mi("A", ("C", "D")) + world.conditional_mi("B", ("D", "C"), given="A")
    assert whole == pytest.approx(chain, abs=1e-12)
    assert whole == pytest.approx(world.mi(("D", "C"), ("B", "A")), abs=1e-12)
    assert whole >= world.mi("A", "C") >= 0
    assert world.mi("A", "B") <= min(world.entropy("A"), world.entropy("B"))
    ratio, joint = world.log_ratio("B", "D"), world.marginal("B", "D")
    assert (joint * ratio).sum() == pytest.approx(world.mi("B", "D"), abs=1e-12)
    apart = np.outer(world.marginal("B"), world.marginal("D"))
    assert (apart * np.exp(ratio)).sum() == pytest.approx(1)


def test_marginals_come_in_the_order_asked_for() -> None:
    world = random_world(2, 3, 4)
    np.testing.assert_allclose(world.marginal("C", "A"), world.table.sum(axis=1).T)


def test_samples_have_the_probabilities() -> None:
    world = random_world(2, 3)
    states = world.sample(50_000, seed=0)
    assert states.shape == (50_000, 2)
    counts = np.zeros((2, 3))
    np.add.at(counts, tuple(states.numpy().T), 1)
    np.testing.assert_allclose(counts / 50_000, world.table, atol=0.01)
    assert torch.equal(world.sample(5, seed=1), world.sample(5, seed=1))


def test_a_world_is_a_task_with_its_optimal_critic() -> None:
    world = random_world(3, 2, 4)
    known = world.task(("C", "A"), "B")
    assert (known.dim_x, known.dim_y) == (7, 2)
    assert known.true_mi == pytest.approx(world.mi(("A", "C"), "B"), abs=1e-12)
    x, y = known.sample(20_000, seed=0)
    assert (x.sum(dim=1) == 2).all()  # two variables
    assert (y.sum(dim=1) == 1).all()
    matched = known.paired_log_ratio(x, y)
    assert matched.mean().item() == pytest.approx(known.true_mi, abs=0.03)
    ratio = known.paired_log_ratio(x, y.roll(1, dims=0)).exp()
    assert ratio.mean().item() == pytest.approx(1, abs=0.05)
    counted = histogram_mi(x @ torch.tensor([0, 1, 2, 3, 0, 4.0, 8]), y[:, 1], bins=12)
    assert counted == pytest.approx(known.true_mi, abs=0.02)


def test_what_cannot_occur_has_no_ratio() -> None:
    world = DiscreteWorld(("X", "Y"), np.diag([0.5, 0.5, 0.0]))
    ratio = world.log_ratio("X", "Y")
    assert ratio[0, 0] == pytest.approx(LOG_2)
    assert ratio[0, 1] == ratio[2, 2] == -np.inf


def test_one_hot_leads_back() -> None:
    index = np.arange(24)
    coded = one_hot(index, (2, 3, 4))
    assert coded.shape == (24, 9)
    np.testing.assert_array_equal(from_one_hot(coded, (2, 3, 4)), index)


# --- the paper's Section 3 ----------------------------------------------------------------------


def test_paper_world_equals_the_loop() -> None:
    """The joint probability from Fig. 3, case by case, with all parts and any order."""
    generator = np.random.default_rng(0)

    def channel(*shape: int) -> np.ndarray:
        table = generator.random(shape)
        return table / table.sum(axis=-1, keepdims=True)

    hidden, image, text = channel(4).reshape(2, 2), channel(3, 2, 2), channel(2, 2, 3)
    acquisition, reader = channel(3), channel(2)
    world = paper_world(hidden, image, text, acquisition=acquisition, reader=reader, shuffled=True)
    assert world.names == ("H1", "H2", "VI", "VR", "Z1", "Z2", "S1", "S2", "M")
    for case in np.ndindex(world.table.shape):
        h, (vi, vr), z, s, m = case[:2], case[2:4], case[4:6], case[6:8], case[8]
        about = h if m == 0 else h[::-1]
        expected = hidden[h] * acquisition[vi] * reader[vr] / 2
        for n in range(2):
            expected *= image[vi, h[n], z[n]] * text[vr, about[n], s[n]]
        assert world.table[case] == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("hidden", [INDEPENDENT, DEPENDENT, EQUAL])
@pytest.mark.parametrize("scanners", [False, True])
def test_equations_6_and_7(hidden: np.ndarray, scanners: bool) -> None:
    image = two_scanners() if scanners else noisy_copy(2, 0.1)
    world = paper_world(hidden, image, noisy_copy(2, 0.2))
    whole, local = world.mi(("Z1", "Z2"), "H1"), world.mi("Z1", "H1")
    rest = world.conditional_mi("Z2", "H1", given="Z1")
    assert whole == pytest.approx(local + rest, abs=1e-12)  # Eq. 6
    assert whole >= local - 1e-12  # Eq. 7
    # As printed, I(zn; Hn | z), the second term would be 0: z holds zn.
    assert world.conditional_mi("Z1", "H1", given=("Z1", "Z2")) == pytest.approx(0, abs=1e-12)


def test_equality_where_the_rest_of_the_image_adds_nothing() -> None:
    """H1 - Z1 - Z2 is a Markov chain: other regions of other findings, the same scanner."""
    world = radiographs(INDEPENDENT)
    assert world.conditional_mi("Z2", "H1", given="Z1") == pytest.approx(0, abs=1e-12)
    assert world.mi(("Z1", "Z2"), "H1") == pytest.approx(world.mi("Z1", "H1"), abs=1e-12)
    # Also for findings that depend on each other, where a region shows its own without fail.
    sure = paper_world(DEPENDENT, noisy_copy(2, 0.0), noisy_copy(2, 0.2))
    assert sure.mi("Z2", "H1") > 0.1
    assert sure.conditional_mi("Z2", "H1", given="Z1") == pytest.approx(0, abs=1e-12)


def test_the_rest_of_the_image_adds_something_otherwise() -> None:
    world = radiographs(DEPENDENT)
    assert world.conditional_mi("Z2", "H1", given="Z1") > 0.01
    # A known finding elsewhere tells which scanner it was, although it says nothing of H1.
    known_h2 = np.array([[0.5, 0.0], [0.5, 0.0]])
    scanned = paper_world(known_h2, two_scanners(), noisy_copy(2, 0.2))
    assert scanned.mi("Z2", "H1") == pytest.approx(0, abs=1e-12)
    assert scanned.mi("Z1", "H1") == pytest.approx(0, abs=1e-12)
    assert scanned.conditional_mi("Z2", "H1", given="Z1") > 0.2


def test_the_sum_of_local_information_can_exceed_the_global() -> None:
    """H1 = H2 = H, Zn = H: 2 H(H) > H(H)."""
    sure = noisy_copy(2, 0.0)
    world = paper_world(EQUAL, sure, sure)
    for one, other, both in (("Z", "H", ("H1", "H2")), ("Z", "S", ("S1", "S2"))):
        local = sum(world.mi(f"{one}{n}", f"{other}{n}") for n in (1, 2))
        assert local == pytest.approx(2 * LOG_2)
        assert world.mi(("Z1", "Z2"), both) == pytest.approx(LOG_2)


def test_the_sum_of_local_information_is_the_global_for_independent_findings() -> None:
    world = radiographs(INDEPENDENT)
    local = sum(world.mi(f"Z{n}", f"S{n}") for n in (1, 2))
    assert world.mi(("Z1", "Z2"), ("S1", "S2")) == pytest.approx(local, abs=1e-12)
    flip = 0.1 * 0.8 + 0.9 * 0.2
    closed = LOG_2 + flip * math.log(flip) + (1 - flip) * math.log(1 - flip)
    assert local == pytest.approx(2 * closed, abs=1e-12)


def test_a_region_and_its_sentence_know_of_each_other_only_by_the_finding() -> None:
    world = paper_world(DEPENDENT, two_scanners(), noisy_copy(2, 0.2))
    assert world.conditional_mi("Z1", "S1", given="H1") == pytest.approx(0, abs=1e-12)
    assert world.mi("Z1", "S1") <= min(world.mi("Z1", "H1"), world.mi("S1", "H1")) + 1e-12


def test_sentences_in_any_order_hide_their_region() -> None:
    fixed, shuffled = radiographs(INDEPENDENT), radiographs(INDEPENDENT, shuffled=True)
    assert "M" not in fixed.names
    assert shuffled.mi("Z1", "S1") < fixed.mi("Z1", "S1") / 2
    assert shuffled.mi("Z1", "S1") == pytest.approx(shuffled.mi("Z1", "S2"), abs=1e-12)
    told = shuffled.conditional_mi(("Z1", "Z2"), ("S1", "S2"), given="M")
    assert told == pytest.approx(fixed.mi(("Z1", "Z2"), ("S1", "S2")), abs=1e-12)


# --- bad input ----------------------------------------------------------------------------------


def test_what_is_no_world_is_refused() -> None:
    with pytest.raises(ConfigError, match="one name for each of its 2 variables.*found X"):
        DiscreteWorld(("X",), INDEPENDENT)
    with pytest.raises(ConfigError, match="all different; found X, X"):
        DiscreteWorld(("X", "X"), INDEPENDENT)
    with pytest.raises(ConfigError, match="found a sum of 2.0"):
        DiscreteWorld(("X", "Y"), 2 * INDEPENDENT)
    with pytest.raises(ConfigError, match="not negative"):
        DiscreteWorld(("X",), np.array([1.5, -0.5]))


def test_unknown_variables_are_named() -> None:
    world = random_world(2, 2)
    with pytest.raises(ConfigError, match="no variable Q, R; known: A, B"):
        world.mi("A", ("R", "Q"))
    with pytest.raises(ConfigError, match="no variable Q"):
        world.task("A", "Q")


def test_impossible_parts_are_refused() -> None:
    sure = noisy_copy(2, 0.0)
    with pytest.raises(ConfigError, match=r"image must be \[1, 2, states\].*found \(1, 3, 3\)"):
        paper_world(INDEPENDENT, noisy_copy(3, 0.1), sure)
    with pytest.raises(ConfigError, match="the same states on each axis"):
        paper_world(np.full((2, 3), 1 / 6), sure, sure)
    with pytest.raises(ConfigError, match="Probabilities of text"):
        paper_world(INDEPENDENT, sure, 2 * sure)
    with pytest.raises(ConfigError, match="Probabilities of hidden"):
        paper_world(2 * INDEPENDENT, sure, sure)
    with pytest.raises(ConfigError, match="what image also depends on"):
        paper_world(INDEPENDENT, sure, sure, acquisition=np.array([0.5]))
    with pytest.raises(ConfigError, match=f"16,777,216 cases, more than the {MOST_ENTRIES:,}"):
        paper_world(np.full((2,) * 8, 2.0**-8), sure, sure)
    with pytest.raises(ConfigError, match="two states and 0 <= flip <= 1: 1, 0"):
        noisy_copy(1, 0.0)
