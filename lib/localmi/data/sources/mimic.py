"""MIMIC-CXR and MIMIC-CXR-JPG: their files by official name, joined into one table of pairs.

Images and tables come with one project of PhysioNet, reports with another, severities of edema
with a third. Taught in 13_preparing_mimic_cxr.
"""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from localmi.data.labels import EXPERT_PREFIX, GRADES, SEVERITIES, STATES, check_labels
from localmi.data.sources.mimic_reports import AGAIN, find_reports, read_reports
from localmi.data.splits import Leaks, resolve_leaks, split_names
from localmi.data.tables import (
    check_unique,
    counted,
    examples,
    keep_rows,
    read_table,
    where_looked,
)
from localmi.errors import DataError, machine_failed

IDS = ["dicom_id", "study_id", "subject_id"]
RENAMED = {"dicom_id": "image_id", "subject_id": "patient_id", "ViewPosition": "view"}
METADATA = "mimic-cxr-2.0.0-metadata.csv.gz"
SPLIT = "mimic-cxr-2.0.0-split.csv.gz"
RECORDS = "cxr-record-list.csv.gz"  # of the original MIMIC-CXR, whose images are DICOM files
SEVERITY_FOLDERS = "mimic-cxr-pe-severity*"
JPG_PROJECT = 'PhysioNet\'s "MIMIC-CXR-JPG - chest radiographs with structured labels"'
SEVERITY_PROJECT = 'PhysioNet\'s "Pulmonary edema severity grades based on MIMIC-CXR"'
KNOWN_VIEWS = [  # all values of ViewPosition in version 2.0.0 but blank
    *("AP", "PA", "LATERAL", "LL", "AP AXIAL", "AP LLD", "AP RLD", "PA LLD", "PA RLD"),
    *("LAO", "RAO", "LPO", "XTABLE LATERAL", "SWIMMERS"),
]


@dataclass(frozen=True)
class LabelFile:
    """A table of labels that may be there: official name, project, what its rows are, values."""

    name: str
    project: str
    key: str  # a row is of one study_id, or of one dicom_id
    values: tuple[float, ...]  # besides blank
    prefix: str = ""  # of its columns in the table of pairs
    column: str = ""  # what `edema_severity` is called there


CHEXPERT = LabelFile("mimic-cxr-2.0.0-chexpert.csv.gz", JPG_PROJECT, "study_id", STATES)
EXPERT = LabelFile(
    "mimic-cxr-2.1.0-test-set-labeled.csv",
    f"version 2.1.0 of {JPG_PROJECT}",
    "study_id",
    STATES,
    prefix=EXPERT_PREFIX,
)
REGEX_EDEMA, EXPERT_EDEMA, CONSENSUS_EDEMA = (
    LabelFile(f"{name}_edema_severity.csv", SEVERITY_PROJECT, key, GRADES, column=column)
    for name, key, column in zip(
        ("regex_report", "expert_report", "consensus_image"),
        ("study_id", "study_id", "dicom_id"),
        SEVERITIES,
        strict=True,
    )
)
LABEL_FILES = (CHEXPERT, EXPERT, REGEX_EDEMA, EXPERT_EDEMA, CONSENSUS_EDEMA)


class Mimic(NamedTuple):
    """What `read_mimic` finds; see `pairs.Pairs`."""

    table: pd.DataFrame
    rejected: pd.DataFrame
    left_out: dict[str, int]
    notes: tuple[str, ...]


def is_mimic(data_dir: Path) -> bool:
    """Whether a folder holds a table of MIMIC-CXR or MIMIC-CXR-JPG."""
    return any(data_dir.glob("mimic-cxr-2.*.csv*")) or (data_dir / RECORDS).is_file()


def read_mimic(
    data_dir: Path,
    *,
    reports_dir: Path | str | None,
    views: Sequence[str],
    leaks: Leaks,
    progress: bool,
) -> Mimic:
    """The pairs of MIMIC-CXR-JPG 2.0.0 or 2.1.0, or of MIMIC-CXR with the tables of the former.

    An image is `files/pNN/pNN.../s.../<dicom_id>.jpg`, or `.dcm` at the same place. All images of
    a patient with an image in the consensus file of edema severity are test images, as in the
    paper; `official_split` keeps what the split file says.

    Raises:
        DataError: a file is missing or cannot be used; says which, and what it comes with.
        StudyLeakError: a patient is in two splits, and `leaks` is "refuse".
    """
    report_files = find_reports(data_dir, reports_dir)
    table, rejected, left_out = _read_images(data_dir, views)
    table, rejected = resolve_leaks(table, rejected, leaks)
    table, label_notes = _with_labels(table, data_dir)
    table, test_notes = _consensus_to_test(table, data_dir)
    patient = "p" + table["patient_id"].str[:2] + "/p" + table["patient_id"]
    study = patient + "/s" + table["study_id"]
    table, rejected, image_notes = _with_images(table, rejected, data_dir, study)
    parts = study[table.index] + ".txt"
    reports = read_reports(report_files, parts.drop_duplicates(), progress)
    reason = parts.map(reports.failed)
    table, rejected = keep_rows(table, reason.isna(), reason, rejected)
    table = table.assign(report=parts[table.index].map(reports.texts))
    notes = (*image_notes, *reports.notes, *label_notes, *test_notes)
    return Mimic(table, rejected, left_out, notes)


# images, views, splits


def _file(data_dir: Path, name: str) -> Path | None:
    """The newest version of a file, packed or not; None if there is none."""
    pattern = name.replace("2.0.0", "2.*").replace("2.1.0", "2.*").removesuffix(".gz")
    found = [*data_dir.glob(f"{pattern}.gz"), *data_dir.glob(pattern)]
    if not found:
        found = [*data_dir.glob(f"{SEVERITY_FOLDERS}/{name}")]
    return max(found, default=None)


def needed_file(data_dir: Path, name: str) -> Path:
    """The newest version of a file. Raises DataError: there is none; says where to get it."""
    path = _file(data_dir, name)
    if path is None:
        raise DataError(
            f"{data_dir} lacks {name}. Put it there: it comes with {JPG_PROJECT}, and is needed "
            "for the DICOM files of MIMIC-CXR as well."
        )
    return path


def _read_images(
    data_dir: Path, views: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:
    """image_id, study_id, patient_id, view, split of the wanted images; rejected; left out."""
    path, split_path = needed_file(data_dir, METADATA), needed_file(data_dir, SPLIT)
    table = _read_ids(path, "ViewPosition")
    if unheard := sorted({*views} - {*KNOWN_VIEWS, "", *table["view"]}):
        raise DataError(
            f"{path} has no image with ViewPosition {' or '.join(unheard)}."
            f" Views are {', '.join(KNOWN_VIEWS)}."
        )
    split = _read_ids(split_path, "split").assign(
        split=lambda rows: split_names(rows["split"], split_path)
    )
    unseen = ~split["image_id"].isin(table["image_id"])
    _, rejected = keep_rows(split, ~unseen, f"no row in {path.name}", pd.DataFrame())
    table = table.merge(split[["image_id", "split"]], on="image_id", how="left")
    table, rejected, left_out = of_views(table, rejected, views)
    if table.empty:
        raise DataError(f"{path} has no image with ViewPosition {' or '.join(views)}.")
    table, rejected = keep_rows(
        table, table["split"].notna(), f"no row in {split_path.name}", rejected
    )
    return table, rejected, left_out


def _read_ids(path: Path, column: str) -> pd.DataFrame:
    """A row an image: its ids and `column`. Ids become parts of paths, and are checked for it."""
    columns = [*IDS, column]
    table = read_table(path, columns, columns)[columns]
    check_unique(table, "dicom_id", path)
    for name, pattern in zip(IDS, (r"[\w-]+", r"\d+", r"\d{2,}"), strict=True):
        wrong = table.loc[~table[name].str.fullmatch(pattern), name]
        if len(wrong):
            raise DataError(
                f"{path} has {counted(len(wrong), 'unusable value')} of {name}: {examples(wrong)}."
            )
    return table.rename(columns=RENAMED)


def of_views(
    table: pd.DataFrame, rejected: pd.DataFrame, views: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:
    """Wanted views; a view that is blank or unheard of is rejected, the others are left out."""
    view = table["view"]
    wanted = view.isin(views)
    other = table[~wanted & view.isin(KNOWN_VIEWS)]
    counts = other["view"].value_counts().sort_index()
    left_out = {f"view {name}": int(count) for name, count in counts.items()}
    table = table.drop(other.index)
    reason = ("unknown view " + table["view"]).mask(table["view"] == "", "no view is given")
    table, rejected = keep_rows(table, table["view"].isin(views), reason, rejected)
    return table, rejected, left_out


# labels


def _with_labels(table: pd.DataFrame, data_dir: Path) -> tuple[pd.DataFrame, list[str]]:
    """Joins the label files that are there; notes what is not."""
    notes = []
    absent: dict[str, list[str]] = {}
    for file in LABEL_FILES:
        path = _file(data_dir, file.name)
        if path is None:
            absent.setdefault(file.project, []).append(file.name)
            continue
        labels = _read_labels(path, file)
        key = RENAMED.get(file.key, file.key)
        if file is CHEXPERT:
            missing = table.loc[~table[key].isin(labels[key]), key].nunique()
            if missing:
                notes.append(
                    f"{counted(missing, 'study', 'have')} no row in {path.name}: these labels "
                    "are blank."
                )
        table = table.merge(labels, on=key, how="left")
    for project, names in absent.items():
        notes.append(f"No {', '.join(names)}: without these labels. They come with {project}.")
    return table, notes


def _read_labels(path: Path, file: LabelFile) -> pd.DataFrame:
    """The key, named as in the table of pairs, and the labels, checked, under their new names."""
    labels = read_table(path, [file.key, *(["edema_severity"] if file.column else [])], IDS)
    labels = labels.drop(columns=[name for name in IDS if name != file.key], errors="ignore")
    labels = labels.drop_duplicates()
    check_unique(labels, file.key, path)
    check_labels(labels, labels.columns.drop(file.key), file.values, path)
    names = {name: file.column or file.prefix + _finding(str(name)) for name in labels}
    return labels.rename(columns=names | {file.key: RENAMED.get(file.key, file.key)})


def _finding(column: str) -> str:
    """The radiologists' file has another name for one of CheXpert's findings."""
    return "Lung Opacity" if column == "Airspace Opacity" else column


def _consensus_to_test(table: pd.DataFrame, data_dir: Path) -> tuple[pd.DataFrame, list[str]]:
    """Adds `official_split`, and makes all images of the consensus file's patients test images."""
    table = table.assign(official_split=table["split"])
    path = _file(data_dir, CONSENSUS_EDEMA.name)
    if path is None:
        return table, []
    patients = read_table(path, ["subject_id"], ["subject_id"])["subject_id"]
    moved = table["patient_id"].isin(patients) & (table["split"] != "test")
    if not moved.any():
        return table, []
    note = (
        f"Moved to the test split: {counted(int(moved.sum()), 'image')} of "
        f"{counted(table.loc[moved, 'patient_id'].nunique(), 'patient')}, for the patients of "
        f"{path.name} are test patients of edema severity. "
        "official_split keeps what the split file says."
    )
    return table.assign(split=table["split"].mask(moved, "test")), [note]


# image files


def _with_images(
    table: pd.DataFrame, rejected: pd.DataFrame, data_dir: Path, study: pd.Series
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """`image`: the .jpg of the JPG set, else the .dcm of the original; what is not there."""
    stem = f"{data_dir / 'files'}{os.sep}" + study + "/" + table["image_id"]
    image = stem + ".jpg"
    there = are_files(image)
    dicom = stem[~there] + ".dcm"
    image.loc[dicom.index] = dicom
    there.loc[dicom.index] = are_files(dicom)
    missing = stem[~there]
    notes = []
    if len(missing):
        first = Path(f"{missing.iloc[0]}.jpg")
        notes.append(where_looked(first, data_dir, len(missing), " or .dcm"))
    table, rejected = keep_rows(table.assign(image=image), there, "no image file", rejected)
    return table, rejected, notes


def are_files(paths: pd.Series) -> pd.Series:
    """Which of the paths are files: bool. Raises DataError: the disk does not answer."""
    return pd.Series([_is_file(path) for path in paths], paths.index, dtype=bool)


def _is_file(path: str) -> bool:
    """As `os.path.isfile`, which also says no where a disk does not answer."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError as error:
        if machine_failed(error):
            raise DataError(f"{path} cannot be reached: {error.strerror}. {AGAIN}") from error
        return False
