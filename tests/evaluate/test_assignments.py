"""Bounds from assignments: by hand, and against a known information."""

import math

import numpy as np
import pytest

from localmi.evaluate.assignments import HeldOutAssignments


def of_channel(joint: np.ndarray) -> HeldOutAssignments:
    """What a reader says that knows p(k | y) of a joint distribution [K, Y], with n = 1,000."""
    counts = np.rint(joint * 1000).astype(int)
    k, y = (index.repeat(counts.ravel()) for index in np.indices(joint.shape).reshape(2, -1))
    q = np.eye(len(joint))[k]
    told = (counts / counts.sum(axis=0))[k, y]
    return HeldOutAssignments(
        mean=q.mean(axis=0),
        own_entropy=0.0,
        cross_entropy={
            "knows": -np.log(told),
            "guesses": -np.log(q.mean(axis=0))[k],
        },
        patient=np.arange(len(k)),
    )


def test_a_reader_that_knows_reaches_the_information() -> None:
    joint = np.array([[0.4, 0.1], [0.1, 0.4]])
    found = of_channel(joint)
    exact = math.log(2) - (-0.8 * math.log(0.8) - 0.2 * math.log(0.2))
    assert found.entropy == pytest.approx(math.log(2))
    assert found.cap == pytest.approx(math.log(2))
    assert found.ceiling == pytest.approx(math.log(2))
    bound = found.nats("knows")
    assert bound.value == pytest.approx(exact)
    assert bound.low < exact < bound.high
    assert found.nats("guesses").value == pytest.approx(0)
    gain = found.gain("knows", "guesses")
    assert gain.value == pytest.approx(exact)
    assert found.gain("guesses", "knows").value == pytest.approx(-exact)


def test_the_interval_is_of_patients() -> None:
    joint = np.array([[0.4, 0.1], [0.1, 0.4]])
    found = of_channel(joint)
    few = HeldOutAssignments(found.mean, 0.0, found.cross_entropy, patient=np.arange(1000) % 2)
    one = HeldOutAssignments(found.mean, 0.0, found.cross_entropy, patient=np.zeros(1000))
    assert math.isnan(one.nats("knows").low)
    wide, narrow = (some.nats("knows") for some in (few, found))
    assert wide.high - wide.low != pytest.approx(narrow.high - narrow.low)


def test_one_prototype_for_all_has_no_entropy() -> None:
    found = HeldOutAssignments(
        np.array([1.0, 0.0]), 0.0, {"any": np.zeros(3)}, patient=np.arange(3)
    )
    assert found.entropy == 0
    assert found.nats("any").value == 0
