"""Where pairs of image and report come from: MIMIC-CXR(-JPG), OpenI, or a plain CSV.

And images with labels alone: NIH-14 and CheXpert, where all reports are "". All give one table,
one row an image, so that nothing after this module knows the source. What is missing is never
dropped in silence: it stands in `Pairs.rejected`, with the reason.
Taught in 13_preparing_mimic_cxr.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import pandas as pd

from localmi.data.sources.csv_pairs import CSV_NAME, CSV_REQUIRED, read_csv
from localmi.data.sources.labelled import (
    CHEXPERT_TABLES,
    has_chexpert,
    has_nih,
    read_chexpert,
    read_nih,
)
from localmi.data.sources.mimic import METADATA, is_mimic, needed_file, read_mimic
from localmi.data.sources.openi import has_openi, read_openi
from localmi.data.sources.records import add_records
from localmi.data.splits import Leaks, resolve_leaks, split_patients
from localmi.data.tables import (
    PAIR_COLUMNS,
    REJECTED_COLUMNS,
    advice,
    counted,
    examples,
)
from localmi.errors import ConfigError, DataError, check_name
from localmi.names import FRONTAL_VIEWS, Source

LOOKED_FOR = {  # in this order
    "mimic": f"{METADATA} (the MIMIC-CXR-JPG layout)",
    "openi": "NLMCXR_reports.tgz, ecgen-radiology/ or indiana_reports.csv (OpenI's reports)",
    "csv": f"{CSV_NAME} (columns {', '.join(CSV_REQUIRED)})",
    "nih": "Data_Entry_2017.csv (NIH-14)",
    "chexpert": f"{' or '.join(CHEXPERT_TABLES)} (CheXpert)",
}
IMAGES_ALONE = {"nih": read_nih, "chexpert": read_chexpert}  # sources without reports
OPENI_NOTE = (
    "OpenI names no patients: each report counts as a patient of its own, so that a person with "
    "two reports may be in two splits."
)


@dataclass(frozen=True)
class Pairs:
    """Images and their reports.

    table: one row an image: image_id, study_id, patient_id (str), image (absolute path, str),
        report (str), view (str, "" if unknown), split ("train", "validate", "test"), then labels.
    rejected: image_id, study_id, reason: what the source names and cannot be used.
    name: of the data, for records of a run.
    left_out: what was not asked for, with the number of its images: "view LATERAL" -> 3.
    notes: what a reader should know, a sentence each.
    record_columns: of the table: what MIMIC-IV says, see `records.add_records`.
    reports: "optional": images without a report are kept; a cache of them serves classifiers.
    """

    table: pd.DataFrame
    rejected: pd.DataFrame
    name: str
    left_out: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    record_columns: tuple[str, ...] = ()
    reports: Literal["needed", "optional"] = "needed"


def read_pairs(
    data_dir: Path | str,
    source: Source = "auto",
    *,
    reports_dir: Path | str | None = None,
    records_dir: Path | str | None = None,
    views: Sequence[str] = FRONTAL_VIEWS,
    fractions: Sequence[float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    leaks: Leaks = "refuse",
    progress: bool = False,
) -> Pairs:
    """The pairs of MIMIC-CXR(-JPG), of OpenI, or of a CSV file; the images of NIH-14, CheXpert.

    Args:
        data_dir: the folder that holds `mimic-cxr-2.0.0-metadata.csv.gz`, the folder that holds
            OpenI's reports and images, a folder that holds `pairs.csv`, or a CSV file. A CSV has
            the columns image (path, relative to the CSV), report and patient_id, and may have
            image_id, study_id, view, split and labels. NIH-14 and CheXpert: see `labelled`.
        source: "auto" decides by what is there.
        reports_dir: not for a CSV: where the reports are, if not in `data_dir`: of MIMIC
            `mimic-cxr-reports.zip` or a tree, of OpenI the archive or its folder.
        records_dir: MIMIC only: the folder of MIMIC-IV, whose records are added to each image.
        views: not for a CSV: kept view positions. Others stand in `left_out`, not in `rejected`.
        fractions, seed: of `split_patients`, where the source names no splits.
        leaks: what to do with a patient in two splits: "refuse" is an error, "reject" moves all
            images of the patient to `rejected`.
        progress: MIMIC only: show a bar while reports are read.

    Raises:
        DataError: nothing readable there, a file or column is missing, ids occur twice, all is
            rejected.
        StudyLeakError: a patient, study or image is in two splits.
        ConfigError: an unknown source or policy, `reports_dir` for a CSV, or `records_dir` for
            other data than MIMIC-CXR.

    Taught in 13_preparing_mimic_cxr.
    """
    check_name("source", source, get_args(Source))
    check_name("value of leaks", leaks, get_args(Leaks))
    data_dir = Path(data_dir).expanduser().resolve()
    reports_dir = Path(reports_dir).expanduser().resolve() if reports_dir else None
    left_out: dict[str, int] = {}
    notes: tuple[str, ...] = ()
    record_columns: tuple[str, ...] = ()
    found = _source(data_dir, source, reports_dir)
    if records_dir and found != "mimic":
        raise ConfigError(
            f"{data_dir} holds no MIMIC-CXR ({METADATA}), and MIMIC-IV's records are of its "
            "patients alone: leave out records_dir (prepare: --records)."
        )
    if found == "mimic":
        table, rejected, left_out, notes = read_mimic(
            data_dir, reports_dir=reports_dir, views=views, leaks=leaks, progress=progress
        )
    elif found == "openi":
        table, rejected, left_out = read_openi(data_dir, views, reports_dir)
        notes = (OPENI_NOTE,)
        if "no image file" in set(rejected["reason"]):
            notes += (f"Images were looked for below {data_dir.name}, by the ids in the reports.",)
    elif found in IMAGES_ALONE:
        table, rejected, left_out, notes = IMAGES_ALONE[found](data_dir, views, fractions, seed)
    else:
        table, rejected, notes = read_csv(data_dir / CSV_NAME if data_dir.is_dir() else data_dir)
    if table.empty:
        said = " ".join([reasons(rejected), *notes])
        what = "image" if found in IMAGES_ALONE else "pair of image and report"
        raise DataError(f"No usable {what} in {data_dir}. {said}")
    if "split" not in table:
        table = split_patients(table, fractions, seed)
    table, rejected = resolve_leaks(table, rejected, leaks)
    labels = [column for column in table if column not in PAIR_COLUMNS]
    table = table[PAIR_COLUMNS + labels].reset_index(drop=True)
    if records_dir:
        table, record_columns, more = add_records(
            table, needed_file(data_dir, METADATA), records_dir
        )
        notes += more
    rejected = rejected[REJECTED_COLUMNS].reset_index(drop=True)
    return Pairs(
        table,
        rejected,
        _name(data_dir),
        left_out,
        notes,
        record_columns,
        "optional" if found in IMAGES_ALONE else "needed",
    )


def reasons(rejected: pd.DataFrame) -> str:
    """How many were rejected, why, which, and what to do: a sentence for a log or an error."""
    if rejected.empty:
        return "Nothing was rejected."
    parts = []
    for reason, group in rejected.groupby("reason", sort=False):
        shown = examples(group["image_id"])
        parts.append(f"{len(group):,} for '{reason}' ({shown}): {advice(str(reason))}")
    return f"Rejected {counted(len(rejected), 'image')}: {'; '.join(parts)}."


def _name(data_dir: Path) -> str:
    """Of a folder, or of a CSV in it; a version, as in mimic-cxr-jpg/2.1.0, does not do alone."""
    if data_dir.name == CSV_NAME:
        return data_dir.parent.name
    if data_dir.is_file():
        return data_dir.stem
    is_version = re.fullmatch(r"[\d.]+", data_dir.name)
    return f"{data_dir.parent.name}-{data_dir.name}" if is_version else data_dir.name


def _source(data_dir: Path, source: str, reports_dir: Path | None) -> str:
    """Which source is there, of the one or the ones asked for."""
    if not data_dir.exists():
        raise DataError(f"{data_dir} does not exist. Set data_dir to your data.")
    there = {
        "mimic": data_dir.is_dir() and is_mimic(data_dir),
        "openi": data_dir.is_dir() and has_openi(reports_dir or data_dir),
        "csv": data_dir.is_file() or (data_dir / CSV_NAME).is_file(),
        "nih": data_dir.is_dir() and has_nih(data_dir),
        "chexpert": data_dir.is_dir() and has_chexpert(data_dir),
    }
    wanted = [name for name in LOOKED_FOR if source in ("auto", name)]
    if found := [name for name in wanted if there[name]]:
        if found[0] == "csv" and reports_dir is not None:
            raise ConfigError("A CSV holds its reports itself: leave out reports_dir.")
        if found[0] in IMAGES_ALONE and reports_dir is not None:
            raise ConfigError(f"{LOOKED_FOR[found[0]]} has no reports: leave out reports_dir.")
        return found[0]
    looked_for = " or ".join(LOOKED_FOR[name] for name in wanted)
    raise DataError(f"No data in {data_dir}: looked for {looked_for}. Set data_dir or source.")
