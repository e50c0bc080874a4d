"""Label policies by hand, the counts they make, and the table beside the paper's."""

import numpy as np
import pandas as pd
import pytest

from localmi.data.labels import (
    FINDINGS,
    PATHOLOGY9,
    POLICIES,
    TABLE_1,
    Policy,
    beside_table_1,
    class_counts,
    count_report,
    label_targets,
)
from localmi.errors import ConfigError, DataError
from localmi.phantom.labels import CHEXPERT_COLUMNS

BLANK = np.nan


def study_table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "split": ["train", "train", "train", "validate", "test", "test"],
            "official_split": ["train", "train", "train", "validate", "train", "test"],
            "view": ["AP", "PA", "PA", "AP", "AP", ""],
            "Edema": [1.0, -1.0, BLANK, 0.0, 1.0, 0.0],
            "No Finding": [BLANK, BLANK, 1.0, BLANK, BLANK, BLANK],
            "edema_severity": [3.0, BLANK, BLANK, 0.0, BLANK, BLANK],
            "edema_severity_expert": [3.0, 1.0, BLANK, BLANK, BLANK, BLANK],
            "edema_severity_consensus": [BLANK, BLANK, BLANK, BLANK, 2.0, BLANK],
            "finding": list("abcdef"),
        }
    )


@pytest.mark.parametrize(
    ("policy", "targets", "mask"),
    [
        ("explicit", [1, 0, 0, 0], [1, 1, 0, 0]),
        ("zeros", [1, 0, 0, 0], [1, 1, 1, 0]),
        ("ones", [1, 0, 1, 0], [1, 1, 1, 0]),
        ("explicit_blank_zero", [1, 0, 0, 0], [1, 1, 0, 1]),
        ("zeros_blank_zero", [1, 0, 0, 0], [1, 1, 1, 1]),
        ("ones_blank_zero", [1, 0, 1, 0], [1, 1, 1, 1]),
    ],
)
def test_policies(policy: Policy, targets: list[int], mask: list[int]) -> None:
    values = [[1.0], [0.0], [-1.0], [BLANK]]
    found, counts = label_targets(values, policy)
    assert found.dtype == np.float32
    assert counts.dtype == np.bool_
    assert found.ravel().tolist() == targets
    assert counts.ravel().astype(int).tolist() == mask
    assert found.shape == counts.shape == (4, 1)


def test_all_policies_are_tested_and_the_first_is_the_default() -> None:
    assert len(POLICIES) == 6
    default, first = label_targets([-1.0, 1.0]), label_targets([-1.0, 1.0], POLICIES[0])
    np.testing.assert_array_equal(default, first)


@pytest.mark.parametrize("values", [[0.5], [2.0], [np.inf], ["yes"]])
def test_other_codes_are_refused(values: list[object]) -> None:
    with pytest.raises(DataError, match=r"A label is .*Labels are 1 \(present\)"):
        label_targets(values)  # type: ignore[arg-type]
    with pytest.raises(
        ConfigError, match="Unknown label policy 'u-ones'; known are explicit, zeros"
    ):
        label_targets([1.0], "u-ones")  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["yes", 2.0])
def test_the_column_of_another_code_is_named(wrong: object) -> None:
    table = pd.DataFrame({"Edema": [1.0, np.nan], "Fracture": [wrong, 0.0], "Nodule": ["1", None]})
    with pytest.raises(DataError, match="A label of Fracture is "):
        label_targets(table)


def test_findings_are_those_of_the_files() -> None:
    assert len(FINDINGS) == 14
    assert FINDINGS == CHEXPERT_COLUMNS  # of the synthetic study's files
    assert len(PATHOLOGY9) == 9
    assert set(PATHOLOGY9) < set(FINDINGS)
    assert "Edema Severity" not in PATHOLOGY9


def test_counts_add_up() -> None:
    table = study_table()
    for policy in POLICIES:
        counts = class_counts(table, policy)
        assert counts["finding"].unique().tolist() == ["Edema", "No Finding"]
        sums = counts.groupby("finding")[["positive", "negative", "ignored"]].sum().sum(axis=1)
        assert sums.tolist() == [len(table), len(table)]
    explicit = class_counts(table).set_index(["split", "view", "finding"])
    assert explicit.index.get_level_values("split").unique().tolist() == [
        "train",
        "validate",
        "test",
    ]
    assert explicit.loc[("train", "PA", "Edema")].tolist() == [0, 0, 2]
    assert explicit.loc[("test", "AP", "Edema")].tolist() == [1, 0, 0]
    no_finding = class_counts(table, "explicit_blank_zero").query("finding == 'No Finding'")
    assert no_finding["negative"].sum() == 5


def test_beside_table_1() -> None:
    beside = beside_table_1(study_table())
    assert list(beside.index) == list(TABLE_1)
    edema, severity = beside.loc["Edema"], beside.loc["Edema Severity"]
    assert edema["train, paper"] == 56_203
    assert edema["train, explicit"] == 1
    assert edema["train, zeros or ones"] == 2
    assert edema["test, paper"] == 373
    assert edema["test, explicit"] == 1  # a moved patient is not of the official test split
    assert severity["train, explicit"] == 2
    assert severity["test, explicit"] == 1
    assert beside.loc["Pneumonia"].isna()[["train, explicit", "test, paper"]].all()
    assert (
        beside_table_1(study_table().drop(columns="official_split")).loc["Edema", "test, explicit"]
        == 2
    )


def test_report_in_words() -> None:
    report = count_report(study_table())
    for policy in POLICIES:
        assert f'by the policy "{policy}"' in report
    blocks = {block.split("\n")[0]: block.split("\n")[1:] for block in report.split("\n\n")}
    assert [line.split() for line in blocks["Images with edema_severity_expert"]] == [
        ["train", "validate", "test"],
        ["level", "1", "1", "0", "0"],
        ["level", "3", "1", "0", "0"],
    ]
    assert "1 / 0" in report
    assert "test unknown" in report
    assert "beside the paper's Table 1" in report
    assert "finding" not in report  # a column of the user's


def test_report_leaves_out_what_is_not_coded_so() -> None:
    table = study_table().assign(Edema=[0.5] * 6, edema_severity=list("abcdef"))
    report = count_report(table)
    assert "No Finding" in report
    assert "Images with edema_severity\n" not in report
    bare = count_report(table[["split", "view"]])
    assert bare.splitlines()[0] == "Images"
    assert "policy" not in bare
    assert "Table 1" not in bare


def test_table_1_is_the_papers() -> None:
    """By the sums of its columns: a slip in one number shows."""
    train, test = zip(*TABLE_1.values(), strict=True)
    assert sum(train) == 520_779
    assert [number for number in test if number] == [286, 404, 95, 373, 318]
