import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from localmi.errors import ConfigError, DataError
from localmi.evaluate.calibration import reliability


def ece_by_loop(targets: np.ndarray, probabilities: np.ndarray, bins: int) -> float:
    total = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = (probabilities > low) & (probabilities <= high)
        if number == 0:
            inside |= probabilities == 0
        if inside.any():
            gap = abs(targets[inside].mean() - probabilities[inside].mean())
            total += inside.mean() * gap
    return total


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 8))
def test_bins_equal_scikit_learn_and_ece_the_loop(seed: int, bins: int) -> None:
    rng = np.random.default_rng(seed)
    probabilities = rng.integers(1, 100, size=40) / 101  # on no border
    targets = rng.integers(2, size=40)
    found = reliability(targets, probabilities, np.arange(40), bins=bins, resamples=2)
    observed, predicted = calibration_curve(targets, probabilities, n_bins=bins)
    filled = found.count > 0
    shares = np.array([one.value for one in found.observed])
    assert shares[filled] == pytest.approx(observed, abs=1e-9)
    assert found.predicted[filled] == pytest.approx(predicted, abs=1e-9)
    assert np.isnan(shares[~filled]).all()
    assert found.count.sum() == 40
    wanted = ece_by_loop(targets, probabilities, bins)
    assert found.ece.value == pytest.approx(wanted, abs=1e-9)


def test_what_is_calibrated_is_not_worse_than_it_must_be() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.random(2000)
    targets = rng.random(2000) < probabilities
    found = reliability(targets, probabilities, np.arange(2000), resamples=200)
    assert 0.5 < found.ece.value / found.ece_if_calibrated < 2
    assert found.ece.low < found.ece.value < found.ece.high
    sure = reliability(targets, probabilities > 0.5, np.arange(2000), resamples=200)
    assert sure.ece.value == pytest.approx(0.25, abs=0.03)
    assert sure.ece_if_calibrated == 0


def test_seeds_share_the_bins() -> None:
    targets, patients = np.array([0, 1, 1, 0]), np.arange(4)
    both = np.array([[0.1, 0.9, 0.8, 0.4], [0.3, 0.6, 0.9, 0.2]])
    found = reliability(targets, both, patients, bins=2, resamples=10)
    assert found.count.tolist() == [4, 4]
    assert [one.value for one in found.observed] == [0, 1]
    alone = [reliability(targets, one, patients, bins=2, resamples=10).ece.value for one in both]
    assert found.ece.value == pytest.approx(np.mean(alone))


def test_ignored_labels_and_none_at_all() -> None:
    targets, probabilities = np.array([0, 1, 1]), np.array([0.2, 0.7, 0.9])
    mask = np.array([True, True, False])
    found = reliability(targets, probabilities, np.arange(3), mask, bins=1, resamples=10)
    assert found.count.tolist() == [2]
    assert found.predicted[0] == pytest.approx(0.45)
    none = reliability(targets, probabilities, np.arange(3), np.zeros(3, bool))
    assert none.note == "no labelled image"
    assert np.isnan(none.ece.value)


def test_logits_columns_and_no_bin() -> None:
    targets = np.array([0, 1])
    with pytest.raises(DataError, match="not the logits"):
        reliability(targets, np.array([-1.0, 2.0]), np.arange(2))
    with pytest.raises(DataError, match="one at a time"):
        reliability(np.zeros((2, 2)), np.zeros((2, 2)), np.arange(2))
    with pytest.raises(ConfigError, match="bins=0"):
        reliability(targets, targets, np.arange(2), bins=0)


def test_a_probability_on_the_border_of_two_bins_counts_in_the_lower_one() -> None:
    found = reliability(
        [0, 1, 1, 0, 1], [0, 0.25, 0.5, 0.75, 1], np.arange(5), bins=4, resamples=2
    )
    assert found.count.tolist() == [2, 1, 1, 1]
