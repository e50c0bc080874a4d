"""A plain CSV of images and reports: anybody's data. Taught in 13_preparing_mimic_cxr."""

import os
import re
from decimal import Decimal, InvalidOperation
from pathlib import Path

import pandas as pd

from localmi.data.labels import EXPERT_PREFIX, FINDINGS, SEVERITIES
from localmi.data.splits import split_names
from localmi.data.tables import (
    MAX_EXAMPLES,
    NULLS,
    check_unique,
    counted,
    examples,
    is_missing,
    keep_rows,
    read_table,
    where_looked,
)
from localmi.errors import DataError

CSV_NAME = "pairs.csv"
CSV_REQUIRED = ["image", "report", "patient_id"]
CSV_TEXT = ["image", "report", "patient_id", "study_id", "image_id", "view", "split"]
LABELS = (*FINDINGS, *SEVERITIES, *(EXPERT_PREFIX + name for name in FINDINGS))


def read_csv(path: Path) -> tuple[pd.DataFrame, pd.DataFrame, tuple[str, ...]]:
    """The pairs that a CSV file names, with its own splits if it has some; rejected; notes.

    A row without study_id belongs to the study of its patient's equal reports, as where there is
    no such column. Of a study with two patients or reports all rows are rejected.

    Raises:
        DataError: not readable, a column or cell is missing, images occur twice, a split is
            unknown.
    """
    table = read_table(path, CSV_REQUIRED, CSV_TEXT, LABELS)
    notes = [_note_lines(table, path)]
    nameless = table.index[_blank(table["image"]) | _blank(table["patient_id"])]
    if len(nameless):
        lines = ", ".join(str(index + 2) for index in nameless[:MAX_EXAMPLES])
        raise DataError(
            f"{path} has {counted(len(nameless), 'row')} without image or patient_id (row "
            f"{lines}). Fill them in: without patients, no split can be trusted."
        )
    if "image_id" not in table:
        table = table.assign(image_id=table["image"])
    check_unique(table, "image_id", path)
    for column in ("patient_id", "study_id"):
        if column in table:
            table[column], note = _one_spelling(table[column])
            notes.append(note)
    table, note = _with_studies(table)
    notes.append(note)
    if "split" in table:
        table = table.assign(split=split_names(table["split"], path))
    if "view" not in table:
        table = table.assign(view="")
    images = [os.path.normpath(path.parent / image) for image in table["image"]]
    table = table.assign(image=images)
    there = pd.Series([os.path.isfile(image) for image in images], table.index, dtype=bool)
    if not there.all():
        first = Path(table.loc[~there, "image"].iloc[0])
        notes.append(where_looked(first, path.parent, int((~there).sum())))
    table, rejected = keep_rows(table, there, "no image file", pd.DataFrame())
    said = ~table["report"].map(is_missing).astype(bool)  # of no rows, too
    table, rejected = keep_rows(table, said, "empty report", rejected)
    for column, noun in (("patient_id", "patients"), ("report", "reports")):
        one = table.groupby("study_id")[column].transform("nunique") <= 1
        table, rejected = keep_rows(table, one, f"its study has several {noun}", rejected)
    return table, rejected, tuple(filter(None, notes))


def _blank(ids: pd.Series) -> pd.Series:
    """Ids that are none: "", "nan", "<NA>", but not "7"."""
    return ids.map(lambda text: is_missing(text, NULLS) and not re.search(r"\d", text)).astype(
        bool
    )


def _note_lines(table: pd.DataFrame, path: Path) -> str:
    """A quotation mark that is not closed swallows the rows below it, up to the next one."""
    more = sum(table[name].str.count("\n") for name in CSV_TEXT if name in table)
    if not isinstance(more, pd.Series) or not more.any():
        return ""
    row = int(more.argmax())
    lines, rows = counted(len(table) + int(more.sum()), "line"), counted(len(table), "row")
    return (
        f"{path.name} has {lines} below its header, but {rows}: the longest, of {more.max() + 1} "
        f"lines, is row {row + 2} ({table['image'].iloc[row]}). If that is not meant, a quotation "
        "mark is not closed there, and the rows below it are lost: close it."
    )


def _one_spelling(ids: pd.Series) -> tuple[pd.Series, str]:
    """101 and 101.0 are one: a column with blanks turns into such numbers on the way."""
    whole = ids.str.replace(r"^(\d+)\.0+$", r"\1", regex=True)
    twice = (whole != ids) & whole.isin(ids)
    merged = ids.mask(twice, whole)
    spelled = merged.groupby(merged.map(_meaning)).unique()
    several = spelled[spelled.map(len) > 1].map(" and ".join)
    said = []
    if twice.any():
        shown = examples(ids[twice].drop_duplicates())
        said.append(f"{ids.name} with and without a final .0 ({shown}) count as one.")
    if len(several):
        said.append(
            f"{ids.name} that differ by zeros, case or marks alone ({examples(several)}) count as "
            "several: write each in one way if they are one."
        )
    return merged, " ".join(said)


def _meaning(text: str) -> str:
    """What ids share that a person would take for one: 007 and 7, 1E+05 and 100000, P1 and p1."""
    word = re.sub(r"^\W+|\W+$", "", text.casefold())
    try:
        return str(Decimal(word.replace(",", ".")).normalize())
    except InvalidOperation:
        return word


def _with_studies(table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Where no study is named, equal reports of one patient are one study."""
    number = table.groupby("patient_id")["report"].transform(lambda texts: pd.factorize(texts)[0])
    own = table["patient_id"] + "/" + number.astype(str)
    if "study_id" not in table:
        return table.assign(study_id=own), ""
    blank = _blank(table["study_id"])
    note = (
        f"{counted(int(blank.sum()), 'row')} without study_id: equal reports of a patient are one."
    )
    return table.assign(study_id=table["study_id"].mask(blank, own)), note * bool(blank.any())
