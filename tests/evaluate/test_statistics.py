import numpy as np
import pytest

from localmi.evaluate.statistics import mean_interval


def test_the_mean_weighs_every_value_alike() -> None:
    found = mean_interval(np.array([1.0, 2.0, 6.0]), np.array(["a", "a", "b"]))
    assert found.value == pytest.approx(3.0)
    assert found.low <= found.value <= found.high


def test_the_interval_has_the_width_of_the_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=400)
    found = mean_interval(values, np.arange(400))
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_repeated_values_of_one_patient_do_not_narrow_it() -> None:
    values = np.random.default_rng(0).normal(size=50)
    once = mean_interval(values, np.arange(50))
    ten_times = mean_interval(np.repeat(values, 10), np.repeat(np.arange(50), 10))
    assert ten_times.high - ten_times.low == pytest.approx(once.high - once.low, rel=0.1)


def test_one_patient_has_no_interval_and_no_value_is_an_error() -> None:
    assert np.isnan(mean_interval(np.ones(3), np.zeros(3)).low)
    with pytest.raises(ValueError, match="0 values"):
        mean_interval(np.array([]), np.array([]))
    with pytest.raises(ValueError, match="2 values and 3 groups"):
        mean_interval(np.ones(2), np.ones(3))
