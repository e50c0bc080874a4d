from pathlib import Path

import pandas as pd
import pytest

from localmi.data.splits import check_leaks, resolve_leaks, split_names, split_patients
from localmi.data.tables import REJECTED_COLUMNS
from localmi.errors import ConfigError, DataError, StudyLeakError


def test_split_by_patient() -> None:
    table = pd.DataFrame({"patient_id": [str(row // 3) for row in range(300)]})
    split = split_patients(table, seed=1)
    check_leaks(split)
    assert split.drop_duplicates()["split"].value_counts().to_dict() == {
        "train": 80,
        "validate": 10,
        "test": 10,
    }
    shuffled = split_patients(table.sample(frac=1, random_state=0), seed=1).sort_index()
    pd.testing.assert_frame_equal(shuffled, split)
    assert (split_patients(table, seed=2)["split"] != split["split"]).any()


@pytest.mark.parametrize(("patients", "splits"), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3), (7, 3)])
def test_no_split_is_empty_where_there_are_patients(patients: int, splits: int) -> None:
    table = pd.DataFrame({"patient_id": [str(number) for number in range(patients)]})
    assert split_patients(table)["split"].nunique() == splits


def test_the_sizes_of_splits_are_rounded_to_the_nearest() -> None:
    """Of 17 patients the shares end at 13.6 and 15.3."""
    table = pd.DataFrame({"patient_id": [str(number) for number in range(17)]})
    found = split_patients(table)["split"].value_counts()
    assert found.to_dict() == {"train": 14, "test": 2, "validate": 1}


def test_a_fraction_of_zero_stays_empty() -> None:
    table = pd.DataFrame({"patient_id": list("abcdef")})
    assert set(split_patients(table, (0.5, 0.5, 0))["split"]) == {"train", "validate"}


@pytest.mark.parametrize("fractions", [(0.8, 0.2), (0.5, 0.1, 0.1), (1.5, -0.5, 0.0)])
def test_fractions_must_sum_to_one(fractions: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="sum to 1"):
        split_patients(pd.DataFrame({"patient_id": ["1"]}), fractions)


def test_leaks_stop_and_name_examples() -> None:
    table = pd.DataFrame(
        {
            "patient_id": [f"9000000{row % 7}" for row in range(14)],
            "study_id": [f"800000{row}" for row in range(14)],
            "image_id": [str(row) for row in range(14)],
            "split": ["train"] * 7 + ["test"] * 7,
        }
    )
    with pytest.raises(StudyLeakError) as caught:
        check_leaks(table)
    message = str(caught.value)
    assert "7 patients in train and test: 90000000, 90000001" in message
    assert message.count("9000000") == 5
    assert ", ..." in message
    assert "studies" not in message


def test_identical_pixels_in_two_splits_are_a_leak() -> None:
    table = pd.DataFrame(
        {
            "patient_id": list("abc"),
            "image_id": ["x", "y", "z"],
            "sha256": ["1", "2", "1"],
            "split": ["train", "train", "test"],
        }
    )
    with pytest.raises(StudyLeakError, match=r"1 image with identical pixels.*: x = z"):
        check_leaks(table)
    check_leaks(table.assign(split="train"))


def test_rejecting_moves_all_images_of_the_patient() -> None:
    table = pd.DataFrame(
        {
            "patient_id": list("aabb"),
            "study_id": list("wxyz"),
            "image_id": list("1234"),
            "split": ["train", "test", "test", "test"],
        }
    )
    earlier = pd.DataFrame([["0", "v", "no image file"]], columns=REJECTED_COLUMNS)
    left, rejected = resolve_leaks(table, earlier, "reject")
    assert left["image_id"].tolist() == ["3", "4"]
    assert rejected["image_id"].tolist() == ["0", "1", "2"]
    with pytest.raises(StudyLeakError, match='1 patient in train and test: a.*"reject"'):
        resolve_leaks(table, earlier, "refuse")
    with pytest.raises(
        StudyLeakError, match="1 study in train and"
    ):  # of two patients: nobody to reject
        resolve_leaks(table.assign(study_id="s", patient_id=list("abcd")), earlier, "reject")
    with pytest.raises(ConfigError, match="Unknown value of leaks 'warn'"):
        resolve_leaks(table, earlier, "warn")  # type: ignore[arg-type]


def test_names_of_splits() -> None:
    names = split_names(pd.Series(["Train", "val", "validation", "test"]), Path("x.csv"))
    assert names.tolist() == ["train", "validate", "validate", "test"]
    with pytest.raises(DataError, match=r"x.csv has the split 'dev'; use train, validate, test"):
        split_names(pd.Series(["train", "dev"]), Path("x.csv"))
