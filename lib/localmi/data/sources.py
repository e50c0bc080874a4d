"""Where pairs of image and report come from: the MIMIC-CXR-JPG layout, or a plain CSV.

Both give one table, one row an image, so that nothing after this module knows the source. What is
missing is never dropped in silence: it stands in `Pairs.rejected`, with the reason.
Taught in 05_radiographs_and_reports.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pandas as pd

from localmi.data.splits import SPLITS, check_leaks, split_patients
from localmi.data.tables import (
    MAX_EXAMPLES,
    PAIR_COLUMNS,
    REJECTED_COLUMNS,
    check_unique,
    examples,
    read_table,
    take,
)
from localmi.errors import ConfigError, DataError

Source = Literal["auto", "mimic", "openi", "csv"]
MIMIC_IDS = ["dicom_id", "study_id", "subject_id"]
CSV_REQUIRED = ["image", "report", "patient_id"]
CSV_TEXT = ["image", "report", "patient_id", "study_id", "image_id", "view", "split"]
CSV_NAME = "pairs.csv"
SPLIT_NAMES = {"val": "validate", "valid": "validate", "validation": "validate"}


@dataclass(frozen=True)
class Pairs:
    """Images and their reports.

    table: one row an image: image_id, study_id, patient_id (str), image (absolute path, str),
        report (str), view (str, "" if unknown), split ("train", "validate", "test"), then labels.
    rejected: image_id, study_id, reason: what the source names and cannot be used.
    name: of the data, for records of a run.
    left_out: what was not asked for, with the number of its images: "view LATERAL" -> 3.
    notes: what a reader should know, a sentence each.
    """

    table: pd.DataFrame
    rejected: pd.DataFrame
    name: str
    left_out: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_pairs(
    data_dir: Path | str,
    source: Source = "auto",
    *,
    reports_dir: Path | str | None = None,
    views: Sequence[str] = ("AP", "PA"),
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    leaks: Literal["refuse", "reject"] = "refuse",
    progress: bool = False,
) -> Pairs:
    """The pairs of a folder in MIMIC-CXR-JPG layout, or of a CSV file.

    Args:
        data_dir: the folder that holds `mimic-cxr-2.0.0-metadata.csv.gz`, a folder that holds
            `pairs.csv`, or a CSV file. A CSV has the columns image (path, relative to the CSV),
            report and patient_id, and may have image_id, study_id, view, split and labels.
        source: "auto" decides by what is there.
        reports_dir: MIMIC only: the root of the reports, where they lie apart from the images.
        views: MIMIC only: kept view positions. Others are left out, and not counted as rejected.
        fractions, seed: of `split_patients`, where the source names no splits.
        leaks: what to do with a patient in two splits: "refuse" is an error, "reject" moves all
            images of the patient to `rejected`.
        progress: show a bar while reports are read.

    Raises:
        DataError: nothing readable there, a column is missing, ids occur twice, all is rejected.
        StudyLeakError: a patient, study or image is in two splits.

    Taught in 05_radiographs_and_reports.
    """
    data_dir = Path(data_dir).expanduser().resolve()
    if _source(data_dir, source) == "mimic":
        table, rejected = _read_mimic(data_dir, reports_dir, views)
        name = data_dir.name
    else:
        path = data_dir / CSV_NAME if data_dir.is_dir() else data_dir
        table, rejected = _read_csv(path)
        name = path.parent.name if path.name == CSV_NAME else path.stem
    if table.empty:
        raise DataError(f"No usable pair of image and report in {data_dir}. {reasons(rejected)}")
    if "split" not in table:
        table = split_patients(table, fractions, seed)
    check_leaks(table)
    labels = [column for column in table if column not in PAIR_COLUMNS]
    table = table[PAIR_COLUMNS + labels].reset_index(drop=True)
    return Pairs(table, rejected[REJECTED_COLUMNS].reset_index(drop=True), name)


def reasons(rejected: pd.DataFrame) -> str:
    """How many were rejected and why, with examples: a sentence for a log or an error."""
    if rejected.empty:
        return "Nothing was rejected."
    parts = []
    for reason, group in rejected.groupby("reason", sort=False):
        parts.append(f"{len(group)} for '{reason}' ({examples(group['image_id'])})")
    return f"Rejected {len(rejected)} images: {'; '.join(parts)}."


def _source(data_dir: Path, source: str) -> str:
    if source not in ("auto", "mimic", "csv"):
        raise ConfigError(f'source must be "auto", "mimic" or "csv", found {source!r}.')
    if not data_dir.exists():
        raise DataError(f"{data_dir} does not exist. Set data_dir to your data.")
    has_mimic = data_dir.is_dir() and _mimic_file(data_dir, "metadata") is not None
    has_csv = data_dir.is_file() or (data_dir / CSV_NAME).is_file()
    if source in ("auto", "mimic") and has_mimic:
        return "mimic"
    if source in ("auto", "csv") and has_csv:
        return "csv"
    looked_for = {
        "mimic": "mimic-cxr-2.0.0-metadata.csv.gz (the MIMIC-CXR-JPG layout)",
        "csv": f"{CSV_NAME} (columns {', '.join(CSV_REQUIRED)})",
    }
    wanted = " or ".join(looked_for.values()) if source == "auto" else looked_for[source]
    raise DataError(f"No data in {data_dir}: looked for {wanted}. Set data_dir or source.")


# MIMIC-CXR-JPG


def _mimic_file(data_dir: Path, kind: str) -> Path | None:
    """The newest `mimic-cxr-2.x.x-<kind>.csv.gz` or `.csv`; None if there is none."""
    found = sorted(data_dir.glob(f"mimic-cxr-2.*-{kind}.csv*"))
    return found[-1] if found else None


def _read_mimic(
    data_dir: Path, reports_dir: Path | str | None, views: Sequence[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    metadata_path = _mimic_file(data_dir, "metadata")
    split_path = _mimic_file(data_dir, "split")
    assert metadata_path is not None  # `_source` has seen it
    if split_path is None:
        raise DataError(f"{data_dir} lacks mimic-cxr-2.0.0-split.csv.gz. Download it as well.")
    table = read_table(metadata_path, [*MIMIC_IDS, "ViewPosition"], [*MIMIC_IDS, "ViewPosition"])
    split = read_table(split_path, ["dicom_id", "split"], ["dicom_id", "split"])
    check_unique(table, "dicom_id", metadata_path)
    check_unique(split, "dicom_id", split_path)
    table = table[table["ViewPosition"].isin(views)][[*MIMIC_IDS, "ViewPosition"]]
    if table.empty:
        raise DataError(f"{metadata_path} has no image with ViewPosition {' or '.join(views)}.")
    _check_path_parts(table, metadata_path)
    table = table.merge(split[["dicom_id", "split"]], on="dicom_id", how="left")
    table = _with_chexpert(table, data_dir)
    table = table.rename(
        columns={"dicom_id": "image_id", "subject_id": "patient_id", "ViewPosition": "view"}
    )
    table, rejected = take(
        table, table["split"].notna(), f"no row in {split_path.name}", pd.DataFrame()
    )
    table = table.assign(split=_split_names(table["split"], split_path))
    return _with_mimic_files(table, rejected, data_dir, reports_dir)


def _check_path_parts(table: pd.DataFrame, path: Path) -> None:
    """Ids become parts of paths: only digits, and for the image no separators."""
    for column, pattern in zip(MIMIC_IDS, (r"[\w-]+", r"\d+", r"\d{2,}"), strict=True):
        wrong = table.loc[~table[column].str.fullmatch(pattern), column]
        if len(wrong):
            raise DataError(
                f"{path} has {len(wrong)} unusable values of {column}: {examples(wrong)}."
            )


def _with_chexpert(table: pd.DataFrame, data_dir: Path) -> pd.DataFrame:
    """Joins the 14 labels of each study, where the file is present."""
    path = _mimic_file(data_dir, "chexpert")
    if path is None:
        return table
    labels = read_table(path, ["study_id"], ["study_id", "subject_id"])
    check_unique(labels, "study_id", path)
    labels = labels.drop(columns="subject_id", errors="ignore")
    return table.merge(labels, on="study_id", how="left")


def _with_mimic_files(
    table: pd.DataFrame, rejected: pd.DataFrame, data_dir: Path, reports_dir: Path | str | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    patient = "p" + table["patient_id"].str[:2] + "/p" + table["patient_id"]
    study = patient + "/s" + table["study_id"]
    images = [str(data_dir / "files" / part) for part in study + "/" + table["image_id"] + ".jpg"]
    table = table.assign(image=images, study_path=study + ".txt")
    table, rejected = take(
        table, table["image"].map(lambda path: Path(path).is_file()), "no image file", rejected
    )
    roots = [Path(reports_dir).expanduser().resolve() if reports_dir else data_dir]
    roots.insert(0, roots[0] / "files")
    reports = {part: _read_report(roots, part) for part in table["study_path"].unique()}
    table = table.assign(report=table["study_path"].map(reports)).drop(columns="study_path")
    table, rejected = take(table, table["report"].notna(), "no report file", rejected)
    return take(table, table["report"].str.strip() != "", "empty report", rejected)


def _read_report(roots: Sequence[Path], part: str) -> str | None:
    for root in roots:
        if (root / part).is_file():
            return (root / part).read_text(encoding="utf-8", errors="replace")
    return None


# plain CSV


def _read_csv(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    table = read_table(path, CSV_REQUIRED, CSV_TEXT)
    nameless = table.index[(table["image"] == "") | (table["patient_id"] == "")]
    if len(nameless):
        lines = ", ".join(str(index + 2) for index in nameless[:MAX_EXAMPLES])
        raise DataError(
            f"{path} has {len(nameless)} rows without image or patient_id (row {lines}). "
            "Fill them in: without patients, no split can be trusted."
        )
    if "image_id" not in table:
        table = table.assign(image_id=table["image"])
    check_unique(table, "image_id", path)
    table = _with_studies(table, path)
    if "split" in table:
        table = table.assign(split=_split_names(table["split"], path))
    if "view" not in table:
        table = table.assign(view="")
    table = table.assign(image=[str((path.parent / image).resolve()) for image in table["image"]])
    table, rejected = take(
        table,
        table["image"].map(lambda image: Path(image).is_file()),
        "no image file",
        pd.DataFrame(),
    )
    return take(table, table["report"] != "", "empty report", rejected)


def _with_studies(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Checks the studies; where none are named, equal reports of one patient are one study."""
    if "study_id" not in table:
        reports = table.groupby("patient_id")["report"]
        number = reports.transform(lambda texts: pd.factorize(texts)[0])
        return table.assign(study_id=table["patient_id"] + "/" + number.astype(str))
    for column in ("report", "patient_id"):
        counts = table.groupby("study_id")[column].nunique()
        several = counts[counts > 1].index.to_series()
        if len(several):
            raise DataError(
                f"{path} has {len(several)} studies with more than one {column}: "
                f"{examples(several)}. A study has one patient and one report."
            )
    return table


def _split_names(split: pd.Series, path: Path) -> pd.Series:
    names = split.str.lower().replace(SPLIT_NAMES)
    wrong = split[~names.isin(SPLITS)].drop_duplicates()
    if len(wrong):
        raise DataError(
            f"{path} has the split {examples(wrong.map(repr))}; use {', '.join(SPLITS)}, or "
            "leave out the column and patients are split by their ids."
        )
    return names
