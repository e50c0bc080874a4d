"""Checks of the exercises of 13_preparing_mimic_cxr."""

import hashlib
import reprlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from localmi.course.check import exercise, expect

SPLITS, SHARES = ("train", "validate", "test"), (0.8, 0.1, 0.1)
PATIENTS, LATER = 2000, 600
COLUMNS = (list, tuple, np.ndarray, pd.Series, pd.Index, pd.api.extensions.ExtensionArray)
FAR = 0.04  # from a share: more than four standard deviations, at 2,000 patients


class _Text(str):
    """An id as another process sees it: the same text, another `hash()`."""

    __slots__ = ()

    def __hash__(self) -> int:
        return hash(f"another start: {str.__str__(self)}")


@exercise
def exercise_13_1(my_split: Callable[[pd.DataFrame], Any]) -> None:
    """Splits by a hash of the patient's id: table of a row an image -> a word for each row."""
    everybody = _table(PATIENTS + LATER)
    first = everybody[everybody["patient_id"].isin(_ids(PATIENTS))].reset_index(drop=True)
    split = _by_patient(my_split, first)
    again = _by_patient(my_split, first)
    words = "it is split differently when called again: draw nothing, let a hash decide"
    expect(split == again, words)
    _check_shares(split)
    texts = [_Text(patient) for patient in first["patient_id"]]
    restarted = first.assign(patient_id=pd.Series(texts, dtype=object))
    words = (
        "at the next start of Python {}: hash() of a text, and the order of a set, differ from "
        "start to start; hashlib's hashes do not"
    )
    _check_nobody_moves(split, _by_patient(my_split, restarted), words)
    turned = first.sample(frac=1, random_state=0).reset_index(drop=True)
    words = "with the same rows in another order {}: a patient's place in the table must not count"
    _check_nobody_moves(split, _by_patient(my_split, turned), words)
    words = (
        f"when {LATER:,} patients are added {{}}: a split may depend on the patient's own id, not "
        "on the place of the id among the others"
    )
    _check_nobody_moves(split, _by_patient(my_split, everybody), words)


def _ids(number: int) -> list[str]:
    """Ids of any kind: MIMIC-CXR's have digits, OpenI's begin with letters, a CSV's have any.

    Whoever is added later stands, by id, among those who were there.
    """
    kinds = ("9{:07d}", "CXR{}", "patient {}")
    letters = str.maketrans("0123456789", "abcdefghij")
    order = np.random.default_rng(0).permutation(PATIENTS + LATER)[:number]
    ids = [kinds[place % 3].format(place) for place in order.tolist()]
    return [one.translate(letters) if one.startswith("patient") else one for one in ids]


def _table(number: int) -> pd.DataFrame:
    """image_id, study_id, patient_id: one to three studies a patient, one or two images each."""
    rng = np.random.default_rng(1)
    rows = [
        (f"{patient}-{study}-{image}", f"{patient}-{study}", patient)
        for patient in _ids(number)
        for study in range(rng.integers(1, 4))
        for image in range(rng.integers(1, 3))
    ]
    return pd.DataFrame(rows, columns=["image_id", "study_id", "patient_id"], dtype=object)


def _by_patient(my_split: Callable[[pd.DataFrame], Any], table: pd.DataFrame) -> dict[str, str]:
    """patient -> split, where each has one."""
    words = _words(my_split(table.copy()), len(table))
    splits: dict[str, set[str]] = {}
    for patient, word in zip(table["patient_id"], words, strict=True):
        splits.setdefault(str(patient), set()).add(word)
    torn = [patient for patient, names in splits.items() if len(names) > 1]
    shown = [f"{patient!r} is in {' and '.join(sorted(splits[patient]))}" for patient in torn[:1]]
    expect(
        not torn,
        f"{len(torn):,} patients are in more than one split, {''.join(shown)}: the patient must "
        "decide, not the image or the study",
    )
    return {patient: names.pop() for patient, names in splits.items()}


def _words(answer: Any, rows: int) -> list[str]:
    """One name of a split a row, from any kind of column, or from the table that has it."""
    if isinstance(answer, pd.DataFrame) and "split" in answer:
        answer = answer["split"]
    expect(
        isinstance(answer, COLUMNS),
        f"a word for each row is asked for, your function returned {reprlib.repr(answer)}",
    )
    words = [str(word) for word in answer]
    expect(
        len(words) == rows,
        f"the table has {rows:,} rows, you return {len(words):,} words: one for each row, not one "
        "for each patient",
    )
    strange = sorted(set(words) - set(SPLITS))[:3]
    expect(not strange, f"a split is called train, validate or test, not {', '.join(strange)}")
    return words


def _check_shares(split: dict[str, str]) -> None:
    found = [list(split.values()).count(name) / len(split) for name in SPLITS]
    shown = ", ".join(f"{share:.2f}" for share in found)
    expect(
        np.allclose(found, SHARES, rtol=0, atol=FAR),
        f"of {len(split):,} patients the shares in train, validate and test are {shown}; they "
        "should be about 0.80, 0.10, 0.10",
    )


def _check_nobody_moves(split: dict[str, str], later: dict[str, str], words: str) -> None:
    """words: with {} for how many patients have moved."""
    moved = sum(later[patient] != name for patient, name in split.items())
    expect(not moved, words.format(f"{moved:,} of the {len(split):,} patients move"))


@exercise
def exercise_13_2(my_changed: Callable[[np.ndarray, np.ndarray], Any]) -> None:
    """Rows whose pixels are not what was hashed: images [n, H, W], hashes [n] -> row numbers."""
    written = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)  # sides all differ
    hashes = np.array([hashlib.sha256(row.tobytes()).hexdigest() for row in written])
    now = written.copy()
    now[2, 4, 0] ^= 1  # one bit
    now[5, [0, 1], 2] = now[5, [1, 0], 2]  # two pixels exchanged
    found = _numbers(my_changed, now, hashes)
    for wrong, words in (
        (found == set(range(7)), "every row is reported, also those that nobody has touched. The "
         "stored sha256 is of a row's uint8 bytes as they are, not of floats made of them, and is "
         "written in hexadecimal digits"),
        (found == {0, 1, 3, 4, 6}, "these are the rows that are still whole: return the others"),
        (2 not in found, "row 2 has one bit changed, and you do not report it"),
        (5 not in found, "row 5 has two pixels exchanged, and you do not report it: their sum is "
         "the same, the sha256 is not"),
    ):  # fmt: skip
        expect(not wrong, words)
    expect(found == {2, 5}, f"rows 2 and 5 have changed, you report {sorted(found)}")
    found = _numbers(my_changed, written, hashes)
    expect(not found, f"where nothing has changed you report {sorted(found)}")
    expect(
        _numbers(my_changed, written[[0, 4, 2, 3, 1, 5, 6]], hashes) == {1, 4},
        "where rows 1 and 4 have changed places, both are wrong: a row must have the hash stored "
        "for it, not any one of those stored",
    )
    other = np.random.default_rng(1).integers(0, 256, (4, 2, 6), np.uint8)
    found = _numbers(my_changed, other, hashes[:4])
    expect(found == set(range(4)), f"where all 4 rows have changed you report {sorted(found)}")


def _numbers(
    my_changed: Callable[[np.ndarray, np.ndarray], Any], images: np.ndarray, hashes: np.ndarray
) -> set[int]:
    """The rows an answer names: numbers in any order, as a list, set or array, or as a mask."""
    answer = my_changed(images.copy(), hashes.copy())
    several = hasattr(answer, "__iter__") and not isinstance(answer, str | bytes | dict)
    expect(
        several,
        f"the numbers of the rows are asked for, your function returned {reprlib.repr(answer)}",
    )
    array = np.asarray(answer if isinstance(answer, np.ndarray) else list(answer)).ravel()
    if array.dtype == bool:
        expect(
            len(array) == len(images),
            f"a mask has an entry for each of the {len(images)} rows, yours has {len(array)}",
        )
        array = np.flatnonzero(array)
    is_whole = array.size == 0 or array.dtype.kind in "iu"
    expect(
        is_whole,
        f"the numbers of rows are whole numbers, your function returned {reprlib.repr(answer)}",
    )
    outside = sorted(set(array.tolist()) - set(range(len(images))))
    last = len(images) - 1
    expect(not outside, f"rows are numbered from 0 to {last}, you report {outside[:3]}")
    return {int(number) for number in array}
