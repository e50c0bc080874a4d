"""A plain CSV of images and reports: anybody's data. Taught in 13_preparing_mimic_cxr."""

import os
from pathlib import Path

import pandas as pd

from localmi.data.splits import split_names
from localmi.data.tables import MAX_EXAMPLES, check_unique, examples, keep_rows, read_table
from localmi.errors import DataError

CSV_NAME = "pairs.csv"
CSV_REQUIRED = ["image", "report", "patient_id"]
CSV_TEXT = ["image", "report", "patient_id", "study_id", "image_id", "view", "split"]


def read_csv(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The pairs that a CSV file names, with its own splits if it has some; and what is rejected.

    Raises:
        DataError: not readable, a column or cell is missing, ids occur twice, a study has two
            patients or reports, a split is unknown.
    """
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
        table = table.assign(split=split_names(table["split"], path))
    if "view" not in table:
        table = table.assign(view="")
    images = [os.path.normpath(path.parent / image) for image in table["image"]]
    table = table.assign(image=images)
    there = pd.Series([os.path.isfile(image) for image in images], table.index, dtype=bool)
    table, rejected = keep_rows(table, there, "no image file", pd.DataFrame())
    return keep_rows(table, table["report"] != "", "empty report", rejected)


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
