"""Labels of findings: what a blank and an uncertain one count as, and how many there are of each.

The CheXpert labeller says of each finding 1 (present), 0 (absent), -1 (uncertain), or nothing
(blank: not mentioned). A policy makes targets of that. Taught in 05_radiographs_and_reports.
"""

from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from localmi.data.splits import SPLITS, check_leaks
from localmi.data.tables import counted, examples
from localmi.errors import DataError, StudyLeakError, check_name
from localmi.names import Policy

FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Enlarged Cardiomediastinum",
    "Fracture",
    "Lung Lesion",
    "Lung Opacity",
    "No Finding",  # 1 or blank, never 0
    "Pleural Effusion",
    "Pleural Other",
    "Pneumonia",
    "Pneumothorax",
    "Support Devices",
)
EXPERT_PREFIX = "expert_"  # of the columns that radiologists have labelled
SEVERITIES = ("edema_severity", "edema_severity_expert", "edema_severity_consensus")
STATES, GRADES = (-1.0, 0.0, 1.0), (0.0, 1.0, 2.0, 3.0)
CODES = "Labels are 1 (present), 0 (absent), -1 (uncertain), or blank."

POLICIES: tuple[Policy, ...] = get_args(Policy)

# The paper's Table 1 (Liao et al. 2021, https://doi.org/10.1007/978-3-030-87196-3_26): images
# (training, test). None: the public text of the table that the course is made from has no test
# counts for the last five columns.
TABLE_1: dict[str, tuple[int, int | None]] = {
    "Support Devices": (76_492, 286),
    "Cardiomegaly": (65_129, 404),
    "Consolidation": (20_074, 95),
    "Edema": (56_203, 373),
    "Lung Opacity": (58_105, 318),
    "Pleural Effusion": (86_871, None),
    "Pneumonia": (43_951, None),
    "Pneumothorax": (56_472, None),
    "Atelectasis": (50_416, None),
    "Edema Severity": (7_066, None),
}
PATHOLOGY9 = tuple(TABLE_1)[:9]  # the findings of the paper's Pathology9 task, in its order


def label_targets(
    values: ArrayLike, policy: Policy = "explicit"
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Targets of a classifier, and which of them count.

    Args:
        values: any shape: 1 present, 0 absent, -1 uncertain, NaN blank.
        policy: "explicit" counts 1 and 0 only (Table 1 of the paper fits this one); "zeros"
            counts -1 as 0 as well, "ones" as 1 (CheXpert's U-Ignore, U-Zeros, U-Ones). Each of
            them ending in "_blank_zero" counts blanks as 0 as well: "No Finding", which is never
            0 in the files, then has negatives.

    Returns:
        targets: float32, 0 or 1; 0 where the mask is False.
        mask: bool, True where the target counts.

    Raises:
        DataError: a value is none of these.
        ConfigError: no such policy.

    Source: Irvin et al. 2019 (CheXpert), https://doi.org/10.1609/aaai.v33i01.3301590.
    Taught in 05_radiographs_and_reports.
    """
    check_name("label policy", policy, POLICIES)
    labels = values
    try:
        values = np.asarray(labels, dtype=np.float64)
    except ValueError as error:
        raise DataError(f"A label{_where(labels)} is no number: {error}. {CODES}") from error
    blank, uncertain = np.isnan(values), values == -1
    wrong = values[~blank & ~np.isin(values, STATES)]
    if wrong.size:
        raise DataError(f"A label{_where(labels)} is {wrong[0]:g}. {CODES}")
    mask = ~blank
    if policy.startswith("explicit"):
        mask &= ~uncertain
    if policy.endswith("blank_zero"):
        mask |= blank
    present = values == 1
    if policy.startswith("ones"):
        present |= uncertain
    return present.astype(np.float32), mask


def _where(labels: ArrayLike) -> str:
    """Of a table: the columns that hold something else than labels."""
    if not isinstance(labels, pd.DataFrame):
        return ""
    return f" of {', '.join(str(name) for name in labels if len(foreign(labels[name], STATES)))}"


def check_test_patients(manifest: pd.DataFrame) -> None:
    """Nothing if no patient of either task's test set is in another split.

    Test patients are those of the test split, of the official one, and all who have an image with
    a radiologist's label or a consensus grade of edema: these labels are for testing alone.

    Raises:
        StudyLeakError: names some of them.
    """
    check_leaks(manifest)
    in_test = manifest["split"] == "test"
    tested = in_test.copy()
    if "official_split" in manifest:
        tested |= manifest["official_split"] == "test"
    for column in [SEVERITIES[2], *(EXPERT_PREFIX + finding for finding in FINDINGS)]:
        if column in manifest:
            tested |= manifest[column].notna()
    leaking = manifest[manifest["patient_id"].isin(manifest.loc[tested, "patient_id"]) & ~in_test]
    if len(leaking):
        patients = leaking["patient_id"].drop_duplicates()
        raise StudyLeakError(
            f"Found {counted(len(patients), 'test patient')} of a downstream task in "
            f"{' and '.join(sorted(leaking['split'].unique()))}: {examples(patients)}. A model "
            "could recognise the patient instead of the finding. Prepare the data again with "
            "all their images in the test split."
        )


def class_counts(table: pd.DataFrame, policy: Policy = "explicit") -> pd.DataFrame:
    """How many images a policy makes positive, negative, or ignores.

    Args:
        table: of pairs, or a cache's manifest: split, view, and CheXpert's findings, or some.

    Returns:
        One row a split, view and finding: split, view, finding, positive, negative, ignored.

    Raises:
        DataError: a label is none of 1, 0, -1, blank.
        ConfigError: no such policy.

    Taught in 05_radiographs_and_reports.
    """
    findings = [name for name in FINDINGS if name in table]
    targets, mask = label_targets(table[findings], policy)
    parts = []
    for split, view in product(SPLITS, sorted(table["view"].unique())):
        rows = ((table["split"] == split) & (table["view"] == view)).to_numpy()
        if not rows.any():
            continue
        positive = (mask[rows] & (targets[rows] == 1)).sum(axis=0)
        labelled = mask[rows].sum(axis=0)
        counts = {
            "positive": positive,
            "negative": labelled - positive,
            "ignored": rows.sum() - labelled,
        }
        parts.append(pd.DataFrame({"split": split, "view": view, "finding": findings} | counts))
    return pd.concat(parts, ignore_index=True)


def beside_table_1(table: pd.DataFrame) -> pd.DataFrame:
    """Labelled images of the paper's nine findings and of edema severity, beside its Table 1.

    Args:
        table: as in `class_counts`. Where it has `official_split`, the findings' test images are
            those of the official test split, without the patients moved there for edema severity.

    Returns:
        One row a finding of `TABLE_1`; the columns "<train or test>, paper", "..., explicit" (1
        and 0 count), "..., zeros or ones" (uncertain too). Edema severity: train is what rules
        or experts graded from reports, test what experts graded from images by consensus.
        <NA>: not known, or no such labels.

    Taught in 05_radiographs_and_reports.
    """
    official = table["official_split"] if "official_split" in table else table["split"]
    train, test = table[table["split"] == "train"], table[official == "test"]
    train_graded, test_graded = _graded(train, SEVERITIES[:2]), _graded(table, SEVERITIES[2:])
    columns = {
        "train, paper": [images[0] for images in TABLE_1.values()],
        "train, explicit": [*_labelled(train, "explicit"), train_graded],
        "train, zeros or ones": [*_labelled(train, "zeros"), train_graded],
        "test, paper": [images[1] for images in TABLE_1.values()],
        "test, explicit": [*_labelled(test, "explicit"), test_graded],
        "test, zeros or ones": [*_labelled(test, "zeros"), test_graded],
    }
    return pd.DataFrame(columns, pd.Index(TABLE_1, name="finding"), dtype="Int64")


def _labelled(rows: pd.DataFrame, policy: Policy) -> list[int | None]:
    """Images whose label counts, one number a finding; None where there is no such column."""
    return [
        int(label_targets(rows[name], policy)[1].sum()) if name in rows else None
        for name in PATHOLOGY9
    ]


def _graded(rows: pd.DataFrame, columns: Sequence[str]) -> int | None:
    """Images with a grade in any of these columns; None without such a column."""
    present = [name for name in columns if name in rows]
    return int(rows[present].notna().any(axis=1).sum()) if present else None


def foreign_labels(table: pd.DataFrame) -> dict[str, pd.Series]:
    """Columns with the name of a finding or severity and values that are none of theirs: these."""
    codes = dict.fromkeys(FINDINGS, STATES) | dict.fromkeys(SEVERITIES, GRADES)
    present = {name: table[name].dropna() for name in codes if name in table}
    found = {name: foreign(values, codes[name]) for name, values in present.items()}
    return {name: values for name, values in found.items() if len(values)}


def foreign(values: pd.Series, codes: Sequence[float]) -> pd.Series:
    """Which of the values are neither blank nor one of the codes."""
    return values[values.notna() & ~pd.to_numeric(values, errors="coerce").isin(codes)]


def check_labels(
    table: pd.DataFrame, names: Iterable[str], codes: Sequence[float], path: Path
) -> None:
    """Raises DataError if a label in the file `path` is neither blank nor one of the codes."""
    for name in names:
        wrong = foreign(table[name], codes)
        if len(wrong):
            allowed = ", ".join(f"{value:g}" for value in codes)
            raise DataError(
                f"{path} has {counted(len(wrong), 'value')} of {name} other than {allowed} or "
                f"blank: {examples(wrong.drop_duplicates())}. Download it anew."
            )


def count_report(table: pd.DataFrame) -> str:
    """Images a split and view; positive and negative ones a finding and policy; Table 1 beside.

    Args:
        table: of pairs, or a cache's manifest. Findings that it has no labels of, or other ones
            than 1, 0, -1, blank, are left out; so are severities other than 0 to 3.

    Taught in 05_radiographs_and_reports.
    """
    view = table["view"].mask(table["view"] == "", "unknown")
    table = table.drop(columns=list(foreign_labels(table))).assign(view=view)
    splits = [name for name in SPLITS if name in set(table["split"])]
    images = table.groupby(["split", "view"]).size().unstack(fill_value=0).loc[splits]
    parts = [_titled("Images", images)]
    if any(name in table for name in FINDINGS):
        parts += [
            _titled(f'Positive / negative images by the policy "{policy}"', _cells(table, policy))
            for policy in POLICIES
        ]
    for name in [name for name in SEVERITIES if name in table]:
        levels = table.groupby([name, "split"]).size().unstack(fill_value=0)
        levels.index = levels.index.map("level {:g}".format)
        parts.append(_titled(f"Images with {name}", levels.reindex(columns=splits, fill_value=0)))
    if any(name in table for name in (*PATHOLOGY9, *SEVERITIES)):
        parts.append(_titled("Labelled images beside the paper's Table 1", beside_table_1(table)))
    return "\n\n".join(parts)


def _cells(table: pd.DataFrame, policy: Policy) -> pd.DataFrame:
    """ "12 / 40" a finding (row), split and view (columns)."""
    counts = class_counts(table, policy)
    pairs = zip(counts["positive"], counts["negative"], strict=True)
    counts["images"] = [f"{positive:,} / {negative:,}" for positive, negative in pairs]
    counts["group"] = counts["split"] + " " + counts["view"]
    wide = counts.pivot(index="finding", columns="group", values="images")
    return wide[counts["group"].unique()]


def _titled(title: str, table: pd.DataFrame) -> str:
    table = table.rename_axis(index=None, columns=None)
    return f"{title}\n{table.to_string(na_rep='-')}"
