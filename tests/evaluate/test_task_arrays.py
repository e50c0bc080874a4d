import numpy as np
import pytest

from localmi.errors import DataError
from localmi.evaluate.task_arrays import checked_arrays


def test_one_shape_for_all() -> None:
    patients = np.arange(4)
    for targets, scores, wanted in (
        (np.zeros(4), np.zeros(4), (1, 4, 1)),
        (np.zeros(4), np.zeros((3, 4)), (3, 4, 1)),
        (np.zeros((4, 2)), np.zeros((4, 2)), (1, 4, 2)),
        (np.zeros((4, 2)), np.zeros((3, 4, 2)), (3, 4, 2)),
    ):
        found = checked_arrays(targets, scores, patients)
        assert found.scores.shape == wanted
        assert found.targets.shape == found.mask.shape == wanted[1:]


def test_ranks_are_of_the_labelled_images_alone() -> None:
    mask = [True, True, False, True]
    table = checked_arrays([0, 1, 0, 1], [5.0, 7.0, 6.0, 5.0], np.arange(4), mask)
    assert table.ranks()[0, :, 0].tolist() == [1.5, 3, 0, 1.5]
    assert table.labelled(0).tolist() == [0, 1, 3]
    assert table.both_classes() == [0]


def test_each_seed_has_ranks_of_its_own() -> None:
    table = checked_arrays([0, 1, 0], [[5.0, 7.0, 6.0], [0.2, 0.1, 0.3]], np.arange(3))
    assert table.ranks()[:, :, 0].tolist() == [[1, 3, 2], [2, 1, 3]]


@pytest.mark.parametrize(
    ("targets", "scores", "patients", "mask", "message"),
    [
        (np.zeros(3), np.zeros(4), np.arange(3), None, r"scores \(4,\)"),
        (np.zeros(3), np.zeros((2, 2, 3)), np.arange(3), None, "seeds in front"),
        (np.zeros((3, 2)), np.zeros((3, 3)), np.arange(3), None, r"\(3, 3\)"),
        (np.zeros(3), np.zeros(3), np.arange(2), None, r"patients \(2,\)"),
        (np.zeros(3), np.zeros(3), np.arange(3), [True], r"mask \(1,\)"),
        (0.0, 0.0, 0, None, "Targets"),
        ([0, 1, -1], np.zeros(3), np.arange(3), None, "A target is -1"),
        ([0, 1, np.nan], np.zeros(3), np.arange(3), None, "A target is nan"),
        ([0, 1, 0], [0.1, np.nan, np.inf], np.arange(3), None, "2 of 3 scores"),
    ],
)
def test_input_that_does_not_fit(
    targets: np.ndarray,
    scores: np.ndarray,
    patients: np.ndarray,
    mask: list[bool] | None,
    message: str,
) -> None:
    with pytest.raises(DataError, match=message):
        checked_arrays(targets, scores, patients, mask)


def test_a_masked_target_may_be_anything() -> None:
    table = checked_arrays([0, 1, -1], np.zeros(3), np.arange(3), [True, True, False])
    assert table.labelled(0).tolist() == [0, 1]
