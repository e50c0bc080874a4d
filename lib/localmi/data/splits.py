"""Who is in which split, and the checks that no patient, study or image is in two.

A patient in both training and test lets a model recognise the patient instead of the finding.
Taught in 13_preparing_mimic_cxr.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd

from localmi.data.tables import MAX_EXAMPLES, counted, examples, keep_rows
from localmi.errors import ConfigError, DataError, StudyLeakError, check_name
from localmi.names import Split

Leaks = Literal["refuse", "reject"]
SPLITS: tuple[Split, ...] = get_args(Split)
SPLIT_NAMES = {"val": "validate", "valid": "validate", "validation": "validate"}
LEAK_COLUMNS = {  # column -> what one of its values is called, and what is said of it
    "patient_id": ("patient", ""),
    "study_id": ("study", ""),
    "image_id": ("image id", ""),
    "sha256": ("image", " with identical pixels"),
}


def split_patients(
    table: pd.DataFrame, fractions: Sequence[float] = (0.8, 0.1, 0.1), seed: int = 0
) -> pd.DataFrame:
    """The table with a column `split`: all rows of a patient in one split, by hash of id and seed.

    Independent of the order of the rows. With at least as many patients as splits, none is empty.

    Args:
        table: one row an image, with `patient_id`.
        fractions: of the patients in train, validate and test; they sum to 1.

    Raises:
        ConfigError: fractions are not three numbers in [0, 1] that sum to 1.
    """
    valid = len(fractions) == len(SPLITS) and all(0 <= part <= 1 for part in fractions)
    if not valid or abs(sum(fractions) - 1) > 1e-6:
        raise ConfigError(
            f"fractions must be three numbers (train, validate, test) that sum to 1, found "
            f"{tuple(fractions)}. Use for example (0.8, 0.1, 0.1)."
        )
    patients = sorted(
        set(table["patient_id"]),
        key=lambda patient: hashlib.sha256(f"{seed}/{patient}".encode()).digest(),
    )
    names = np.repeat(SPLITS, _sizes(len(patients), fractions))
    split_of = dict(zip(patients, names.tolist(), strict=True))
    return table.assign(split=table["patient_id"].map(split_of))


def _sizes(num_patients: int, fractions: Sequence[float]) -> list[int]:
    """Patients a split: rounded shares, and one from the largest for a split that got none."""
    ends = np.round(np.cumsum(fractions) * num_patients).astype(int)
    sizes: list[int] = np.diff(ends, prepend=0).tolist()
    for index, fraction in enumerate(fractions):
        largest = int(np.argmax(sizes))
        if fraction > 0 and sizes[index] == 0 and sizes[largest] > 1:
            sizes[largest] -= 1
            sizes[index] += 1
    return sizes


def split_names(split: pd.Series, path: Path) -> pd.Series:
    """The course's names of the splits that a file names.

    Raises:
        DataError: the file `path` has other splits.
    """
    names = split.str.lower().replace(SPLIT_NAMES)
    wrong = split[~names.isin(SPLITS)].drop_duplicates()
    if len(wrong):
        raise DataError(
            f"{path} has the split {examples(wrong.map(repr))}; use {', '.join(SPLITS)}, or "
            "leave out the column and patients are split by their ids."
        )
    return names


def resolve_leaks(
    table: pd.DataFrame, rejected: pd.DataFrame, leaks: Leaks
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Deals with patients in two splits; what is left has no leak.

    Args:
        table: a pair table with splits.
        rejected: image_id, study_id, reason, of what was rejected before.
        leaks: "refuse" is an error, "reject" moves all images of such a patient to `rejected`.

    Raises:
        StudyLeakError: a patient, study or image is in two splits (or, with "reject", a study or
            image of two patients).
        ConfigError: no such policy.
    """
    check_name("value of leaks", leaks, get_args(Leaks))
    if leaks == "reject":
        counts = table.groupby("patient_id")["split"].nunique()
        leaking = table["patient_id"].isin(counts.index[counts > 1])
        table, rejected = keep_rows(table, ~leaking, "its patient is in two splits", rejected)
    try:
        check_leaks(table)
    except StudyLeakError as error:
        if leaks == "reject":
            raise
        way_out = 'Or set leaks to "reject": then their images are left out and listed.'
        raise StudyLeakError(f"{error} {way_out}") from None
    return table, rejected


def check_leaks(table: pd.DataFrame) -> None:
    """Nothing if every patient, study and image is in one split only.

    Args:
        table: a pair table, or a cache's manifest, whose `sha256` tells identical pixels too.

    Raises:
        StudyLeakError: names up to five offenders of each sort, how many, and what to do.
    """
    leaks = []
    for column, (noun, said) in LEAK_COLUMNS.items():
        if column not in table:
            continue
        counts = table.groupby(column)["split"].nunique()
        leaking = counts[counts > 1].index.to_series()
        if len(leaking):
            rows = table[table[column].isin(leaking)]
            splits = " and ".join(name for name in SPLITS if name in set(rows["split"]))
            found = counted(len(leaking), noun) + said
            leaks.append(f"{found} in {splits}: {_offenders(table, column, leaking)}")
    if leaks:
        raise StudyLeakError(
            f"Found in more than one split: {'; '.join(leaks)}. A model could recognise them "
            "instead of the finding. Leave them in one split only, or leave out the column of "
            "splits: then patients are split anew, each into one."
        )


def _offenders(table: pd.DataFrame, column: str, leaking: pd.Series) -> str:
    if column != "sha256":
        return examples(leaking)
    # a hash tells a reader nothing: name the images that share it
    images = table[table[column].isin(leaking)].groupby(column)["image_id"]
    return examples(images.agg(lambda group: " = ".join(group[:MAX_EXAMPLES])))
