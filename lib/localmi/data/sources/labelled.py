"""Images with labels and without reports, to test image encoders on: NIH-14 and CheXpert.

Both by the tables they come with. Their labels get the names of CheXpert's findings, which are
those of MIMIC-CXR too; a finding that a source says nothing of is blank in all its images.
Taught in 13_preparing_mimic_cxr.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from localmi.data.labels import FINDINGS, STATES, check_labels
from localmi.data.sources.mimic import are_files, of_views
from localmi.data.splits import split_patients
from localmi.data.tables import (
    are,
    check_unique,
    counted,
    examples,
    keep_rows,
    read_table,
    where_looked,
)
from localmi.errors import DataError

NIH_TABLES = "Data_Entry_2017*.csv"  # Data_Entry_2017_v2020.csv is the newer one
NIH_TEST, NIH_IMAGES = "test_list.txt", "images*"
NIH_COLUMNS = ["Image Index", "Finding Labels", "Patient ID", "View Position"]
# label -> finding of the same meaning: a label that is absent must say that the finding is
NIH_FINDINGS = {
    "Atelectasis": "Atelectasis",
    "Cardiomegaly": "Cardiomegaly",
    "Consolidation": "Consolidation",
    "Edema": "Edema",
    "Effusion": "Pleural Effusion",
    "Mass": "Lung Lesion",
    "Nodule": "Lung Lesion",
    "No Finding": "No Finding",
    "Pneumonia": "Pneumonia",
    "Pneumothorax": "Pneumothorax",
}
NIH_OTHER = ("Emphysema", "Fibrosis", "Hernia", "Infiltration", "Pleural_Thickening")
CHEXPERT_TRAIN, CHEXPERT_VALID = CHEXPERT_TABLES = ("train.csv", "valid.csv")
CHEXPERT_COLUMNS = ["Path", "Frontal/Lateral", "AP/PA"]
LATERAL = "LATERAL"  # CheXpert does not say which side


class Labelled(NamedTuple):
    """What is found; see `pairs.Pairs`. Without official test images the table has no split."""

    table: pd.DataFrame
    rejected: pd.DataFrame
    left_out: dict[str, int]
    notes: tuple[str, ...]


# NIH-14


def has_nih(folder: Path) -> bool:
    """Whether a folder holds the table of NIH-14."""
    return any(folder.glob(NIH_TABLES))


def read_nih(
    data_dir: Path, views: Sequence[str], fractions: Sequence[float], seed: int
) -> Labelled:
    """ChestX-ray14 of the NIH: 112,120 frontal images of 30,805 patients, labelled by rules.

    Each image is a study. Labels are 1 or 0, for a list of all labels stands beside each image.
    Atelectasis, Cardiomegaly, Consolidation, Edema, Pneumonia, Pneumothorax and No Finding (0
    where something is found) keep their names; Effusion is Pleural Effusion; Lung Lesion is Mass
    or Nodule. Left out, and counted in a note, are Emphysema, Fibrosis and Hernia, which CheXpert
    does not have, and Infiltration and Pleural_Thickening, which are part of Lung Opacity and
    Pleural Other: without them there may be another part. So Enlarged Cardiomediastinum, Fracture,
    Lung Opacity, Pleural Other and Support Devices are blank.

    Args:
        data_dir: holds `Data_Entry_2017.csv` (or `..._v2020.csv`), images in folders that begin
            with "images", at any depth, and perhaps `test_list.txt`: the images in it are the
            test split, the patients of all others are split into train and validate.
        views: kept view positions; NIH-14 has AP and PA.
        fractions, seed: of `split_patients`.

    Raises:
        DataError: a table cannot be used, an image stands twice, a label is unknown.

    Source: Wang et al. 2017, https://doi.org/10.1109/CVPR.2017.369.
    """
    path = max(data_dir.glob(NIH_TABLES))
    rows = read_table(path, NIH_COLUMNS, NIH_COLUMNS, only=True)
    check_unique(rows, "Image Index", path)
    labels, left = _nih_labels(rows["Finding Labels"], path)
    files = {file.name: str(file) for file in _nih_files(data_dir)}
    table = pd.DataFrame(
        {
            "image_id": rows["Image Index"],
            "study_id": rows["Image Index"],
            "patient_id": rows["Patient ID"],
            "image": rows["Image Index"].map(files),
            "report": "",
            "view": rows["View Position"],
        }
    )
    _refuse_nameless(table, path)
    table, rejected, left_out = of_views(table.join(labels), pd.DataFrame(), views)
    there = table["image"].notna()
    notes = [left]
    if not there.all():
        first = data_dir / "images" / str(table.loc[~there, "image_id"].iloc[0])
        notes.append(where_looked(first, data_dir, int((~there).sum()), " or in images_001, ..."))
    table, rejected = keep_rows(table, there, "no image file", rejected)
    table, said = _nih_split(table, data_dir / NIH_TEST, fractions, seed)
    return Labelled(table, rejected, left_out, (*notes, said))


def _nih_files(data_dir: Path) -> Iterator[Path]:
    folders = sorted(folder for folder in data_dir.glob(NIH_IMAGES) if folder.is_dir())
    for folder in folders:
        yield from sorted(folder.rglob("*.png"))


def _nih_labels(lists: pd.Series, path: Path) -> tuple[pd.DataFrame, str]:
    """All findings, [n, 14]; and a note of the labels that are left out."""
    found = lists.str.get_dummies("|").astype(bool)
    unknown = sorted({*found} - {*NIH_FINDINGS, *NIH_OTHER, ""})
    if unknown:
        raise DataError(
            f"{path} has Finding Labels that NIH-14 does not have: {', '.join(unknown)}. Labels "
            f"are {', '.join([*NIH_FINDINGS, *NIH_OTHER])}, parted by a bar."
        )
    blank = lists == ""
    labels = pd.DataFrame(np.nan, lists.index, list(FINDINGS))
    for finding in dict.fromkeys(NIH_FINDINGS.values()):
        names = [name for name, own in NIH_FINDINGS.items() if own == finding and name in found]
        labels[finding] = found[names].any(axis=1).astype(float).mask(blank)
    counts = [f"{name} ({found[name].sum():,})" for name in NIH_OTHER if name in found]
    silent = ", ".join(finding for finding in FINDINGS if finding not in NIH_FINDINGS.values())
    return labels, (
        f"Labels that are none of CheXpert's findings, left out: {', '.join(counts) or 'none'}. "
        f"Findings that NIH-14 says nothing of, blank: {silent}."
    )


def _nih_split(
    table: pd.DataFrame, path: Path, fractions: Sequence[float], seed: int
) -> tuple[pd.DataFrame, str]:
    if not path.is_file():
        return table, f"No {path.name}: patients are split by their ids."
    listed = set(path.read_text(encoding="utf-8").split())
    missing = sorted(listed - set(table["image_id"]))
    if len(missing) == len(listed):
        raise DataError(
            f"{path} names no image that is used, so there would be no test split: "
            f"{examples(pd.Series(missing)) or 'it is empty'}. Names are those of Image Index, "
            f"such as {table['image_id'].iloc[0]}, one a line; download it anew, or remove it."
        )
    table = _split(table, table["image_id"].isin(listed), fractions, seed)
    said = f"The test split is that of {path.name}; the other patients are split by their ids."
    if missing:
        said += (
            f" {counted(len(missing), 'name')} of {len(listed):,} in it {are(len(missing))} not "
            f"among the images that are used ({examples(pd.Series(missing))})."
        )
    return table, said


# CheXpert


def has_chexpert(folder: Path) -> bool:
    """Whether a folder holds a table of CheXpert, and not somebody's own train.csv."""
    for path in (folder / name for name in CHEXPERT_TABLES):
        if path.is_file():
            with open(path, encoding="utf-8", errors="replace") as file:
                return "frontal/lateral" in file.readline().casefold()
    return False


def read_chexpert(
    data_dir: Path, views: Sequence[str], fractions: Sequence[float], seed: int
) -> Labelled:
    """CheXpert of Stanford: 223,414 images of `train.csv`, 234 of `valid.csv`; full size or small.

    The 14 findings are MIMIC-CXR's, as are their values: 1, 0, -1 (uncertain), blank; those of
    valid.csv, 1 and 0, are radiologists'. So valid.csv is the test split, alone as well, and the
    patients of train.csv are split into train and validate; without valid.csv into all three.

    Args:
        data_dir: holds the tables, and `train/` and `valid/` with the images: the folder that the
            column Path begins with, whatever it is called now.
        views: kept view positions: AP, PA and what else stands in AP/PA; LATERAL for all laterals.
        fractions, seed: of `split_patients`.

    Raises:
        DataError: a table cannot be used, an image stands twice, a label is none of the above.

    Source: Irvin et al. 2019, https://doi.org/10.1609/aaai.v33i01.3301590.
    """
    paths = [path for path in (data_dir / name for name in CHEXPERT_TABLES) if path.is_file()]
    table = pd.concat([_chexpert_rows(path) for path in paths], ignore_index=True)
    check_unique(table, "image_id", data_dir)
    table, rejected, left_out = of_views(table, pd.DataFrame(), views)
    table = table.assign(image=f"{data_dir}{os.sep}" + table["image_id"])
    there = are_files(table["image"])
    notes = []
    if not there.all():
        first = Path(table.loc[~there, "image"].iloc[0])
        notes.append(where_looked(first, data_dir, int((~there).sum())))
    table, rejected = keep_rows(table, there, "no image file", rejected)
    names = [path.name for path in paths]
    if names == [CHEXPERT_VALID]:
        table = table.assign(split="test")
        notes.append(f"There is {CHEXPERT_VALID} alone: all of it is the test split.")
    elif CHEXPERT_VALID in names:
        table = _split(table, table["image_id"].str.startswith("valid/"), fractions, seed)
        notes.append("The test split is valid.csv; the patients of train.csv are split by ids.")
    else:
        notes.append(f"There is {names[0]} alone: its patients are split by their ids.")
    return Labelled(table, rejected, left_out, tuple(notes))


def _chexpert_rows(path: Path) -> pd.DataFrame:
    """A row an image: ids, view and labels. Path: <folder>/train/patient1/study1/view1_....jpg."""
    rows = read_table(path, [*CHEXPERT_COLUMNS, *FINDINGS], CHEXPERT_COLUMNS, only=True)
    check_labels(rows, FINDINGS, STATES, path)
    parts = rows["Path"].str.extract(r"((?:train|valid)/((patient\d+)/study\d+)/[^/]+)$")
    wrong = rows.loc[parts[0].isna(), "Path"]
    if len(wrong):
        raise DataError(
            f"{path} has {counted(len(wrong), 'Path')} that {are(len(wrong))} not of the form "
            f"<folder>/train/patient00001/study1/view1_frontal.jpg: {examples(wrong)}."
        )
    lateral = rows["Frontal/Lateral"].str.casefold() == "lateral"
    ids = pd.DataFrame({"image_id": parts[0], "study_id": parts[1], "patient_id": parts[2]})
    ids = ids.assign(report="", view=rows["AP/PA"].mask(lateral, LATERAL))
    return ids.join(rows[list(FINDINGS)].astype(float))


# both


def _split(
    table: pd.DataFrame, test: pd.Series, fractions: Sequence[float], seed: int
) -> pd.DataFrame:
    """Test images are given; the patients of the others are in train or validate."""
    others = split_patients(table[~test], _without_test(fractions), seed)
    return table.assign(split=others["split"].reindex(table.index).fillna("test"))


def _without_test(fractions: Sequence[float]) -> tuple[float, ...]:
    if len(fractions) != 3 or not sum(fractions[:2]):
        return tuple(fractions)  # which `split_patients` refuses, or nobody is left for
    train, validate = (part / sum(fractions[:2]) for part in fractions[:2])
    return train, validate, 0.0


def _refuse_nameless(table: pd.DataFrame, path: Path) -> None:
    nameless = int((table[["image_id", "patient_id"]] == "").any(axis=1).sum())
    if nameless:
        raise DataError(
            f"{path} has {counted(nameless, 'row')} without Image Index or Patient ID. Fill them "
            "in: without patients, no split can be trusted."
        )
