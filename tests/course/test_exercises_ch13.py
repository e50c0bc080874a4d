"""Exercises of chapter 13: a stub fails, every right answer passes, wrong ones are told why."""

import hashlib
import random
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from answers import refused, stub

from localmi.course import check
from localmi.data.splits import SPLITS, split_patients


@pytest.mark.parametrize("name", ["exercise_13_1", "exercise_13_2"])
def test_a_stub_is_not_tried(name: str) -> None:
    assert getattr(check, name)(stub).status == "not tried yet"


# 13.1


def cut(place: float) -> str:
    return "train" if place < 0.8 else "validate" if place < 0.9 else "test"


def place(text: str) -> float:
    return int(hashlib.sha256(text.encode()).hexdigest(), 16) / 2**256


def my_split(table: pd.DataFrame) -> pd.Series:
    return table["patient_id"].map(lambda patient: cut(place(patient)))


def with_new_column(table: pd.DataFrame) -> pd.DataFrame:
    table["split"] = my_split(table)
    return table


def by_group(table: pd.DataFrame) -> pd.Series:
    split_of = {patient: cut(place(patient)) for patient in set(table["patient_id"])}
    return table["patient_id"].map(split_of)


def by_pandas_hash(table: pd.DataFrame) -> np.ndarray:
    places = pd.util.hash_pandas_object(table["patient_id"], index=False) / 2**64
    return np.select([places < 0.8, places < 0.9], SPLITS[:2], SPLITS[2])


@pytest.mark.parametrize(
    "answer",
    [
        my_split,
        with_new_column,
        by_group,
        by_pandas_hash,
        lambda table: list(my_split(table)),
        lambda table: tuple(my_split(table)),
        lambda table: my_split(table).to_numpy(),
        lambda table: my_split(table).array,
        lambda table: pd.Index(my_split(table)),
        lambda table: pd.Categorical(my_split(table)),
        lambda table: [cut(place(f"seed 5/{patient}")) for patient in table["patient_id"]],
        lambda table: [cut(random.Random(patient).random()) for patient in table["patient_id"]],
        lambda table: [cut(zlib.crc32(p.encode()) % 10 / 10) for p in table["patient_id"]],
    ],
)
def test_splits_that_are_right(answer: Callable[[pd.DataFrame], Any]) -> None:
    verdict = check.exercise_13_1(answer)
    assert verdict.passed, verdict


def by(column: str) -> Callable[[pd.DataFrame], Any]:
    return lambda table: [cut(place(text)) for text in table[column]]


def drawn_anew(table: pd.DataFrame) -> pd.Series:
    split_of = {patient: cut(random.random()) for patient in table["patient_id"].unique()}
    return table["patient_id"].map(split_of)


def drawn_in_order_of_id(table: pd.DataFrame) -> pd.Series:
    patients = sorted(set(table["patient_id"]))
    places = np.random.default_rng(0).random(len(patients))
    return table["patient_id"].map(dict(zip(patients, map(cut, places), strict=True)))


def drawn_in_order_of_rows(table: pd.DataFrame) -> pd.Series:
    patients = table["patient_id"].unique()
    places = np.random.default_rng(0).random(len(patients))
    return table["patient_id"].map(dict(zip(patients, map(cut, places), strict=True)))


def drawn_in_order_of_a_set(table: pd.DataFrame) -> pd.Series:
    patients = list(set(table["patient_id"]))
    places = np.random.default_rng(0).random(len(patients))
    return table["patient_id"].map(dict(zip(patients, map(cut, places), strict=True)))


def by_rank_of_hash(table: pd.DataFrame) -> pd.Series:
    rank = table["patient_id"].map(place).rank(method="dense")
    return (rank / (rank.max() + 1)).map(cut)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (by("image_id"), "the patient must decide"),
        (by("study_id"), "the patient must decide"),
        (lambda table: [cut(random.random()) for _ in range(len(table))], "more than one split"),
        (lambda table: [cut(n / len(table)) for n in range(len(table))], "more than one split"),
        (drawn_anew, "when called again"),
        (lambda table: ["train"] * len(table), "1.00, 0.00, 0.00"),
        (lambda table: my_split(table).replace("validate", "test"), "0.00, 0.2"),
        (lambda table: [cut(hash(p) % 1000 / 1000) for p in table["patient_id"]], "next start"),
        (drawn_in_order_of_a_set, "next start"),
        (drawn_in_order_of_rows, "in another order"),
        (drawn_in_order_of_id, "600 patients are added"),
        (by_rank_of_hash, "600 patients are added"),
        (split_patients, "600 patients are added"),
        (lambda table: my_split(table).unique(), "one for each row"),
        (lambda table: my_split(table.drop_duplicates("patient_id")), "one for each row"),
        (lambda table: my_split(table).replace("validate", "val"), "not val"),
        (lambda table: my_split(table) == "train", "not False, True"),
        (lambda table: table, "a word for each row"),
        (lambda table: "train", "a word for each row"),
        (lambda table: [cut(int(patient) % 10 / 10) for patient in table["patient_id"]], "raised"),
    ],
)
def test_splits_that_are_wrong(answer: Callable[[pd.DataFrame], Any], words: str) -> None:
    refused("exercise_13_1", answer, words)


# 13.2


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def my_changed(images: np.ndarray, hashes: np.ndarray) -> list[int]:
    found = [sha256(row.tobytes()) for row in images]
    return [number for number in range(len(images)) if found[number] != hashes[number]]


def mask(images: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    return np.array([sha256(row.tobytes()) for row in images]) != hashes


def by_shape(images: np.ndarray, hashes: np.ndarray) -> list[int]:
    """Cuts all bytes at once, by height and width."""
    data, size = images.tobytes(), images.shape[1] * images.shape[2]
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    return [number for number, piece in enumerate(pieces) if sha256(piece) != hashes[number]]


@pytest.mark.parametrize(
    "answer",
    [
        my_changed,
        mask,
        by_shape,
        lambda images, hashes: my_changed(images, hashes)[::-1],
        lambda images, hashes: set(my_changed(images, hashes)),
        lambda images, hashes: tuple(my_changed(images, hashes)),
        lambda images, hashes: np.array(my_changed(images, hashes)),
        lambda images, hashes: pd.Series(my_changed(images, hashes)),
        lambda images, hashes: (number for number in my_changed(images, hashes)),
        lambda images, hashes: list(mask(images, hashes)),
        lambda images, hashes: np.flatnonzero(mask(images, hashes)),
        lambda images, hashes: np.nonzero(mask(images, hashes)),
        lambda images, hashes: np.argwhere(mask(images, hashes)),
        lambda images, hashes: [
            number
            for number, (row, known) in enumerate(zip(images, hashes, strict=True))
            if hashlib.sha256(row).digest() != bytes.fromhex(known)
        ],
    ],
)
def test_changed_rows_that_are_found(answer: Callable[..., Any]) -> None:
    verdict = check.exercise_13_2(answer)
    assert verdict.passed, verdict


def compare(make: Callable[[np.ndarray], Any]) -> Callable[..., list[int]]:
    """Rows of which `make` is not the hash that was stored."""
    return lambda images, hashes: [
        number for number, row in enumerate(images) if make(row) != hashes[number]
    ]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (compare(lambda row: sha256(row.astype(np.float32).tobytes())), "not of floats"),
        (compare(lambda row: sha256((row / 255).tobytes())), "not of floats"),
        (compare(lambda row: sha256(row.astype(int).tobytes())), "not of floats"),
        (compare(lambda row: hashlib.sha256(row.tobytes()).digest()), "hexadecimal"),
        (compare(lambda row: hashlib.md5(row.tobytes()).hexdigest()), "every row"),
        (compare(lambda row: sha256(str(row).encode())), "every row"),
        (compare(lambda row: sha256(row.T.tobytes())), "every row"),
        (compare(lambda row: sha256(row[0].tobytes())), "every row"),
        (lambda images, hashes: np.flatnonzero(~mask(images, hashes)), "still whole"),
        (lambda images, hashes: ~mask(images, hashes), "still whole"),
        (lambda images, hashes: [], "one bit"),
        (lambda images, hashes: my_changed(images, hashes)[:1], "exchanged"),
        (lambda images, hashes: [2, 5], "nothing has changed"),
        (lambda images, hashes: [2, 3, 5], "you report [2, 3, 5]"),
        (
            lambda images, hashes: [
                n for n, row in enumerate(images) if sha256(row.tobytes()) not in hashes
            ],
            "have changed places",
        ),
        (lambda images, hashes: [n + 1 for n in my_changed(images, hashes)], "one bit"),
        (lambda images, hashes: [n + 5 for n in my_changed(images, hashes)], "numbered from 0"),
        (lambda images, hashes: [n for n in my_changed(images, hashes) if n < 3], "exchanged"),
        (lambda images, hashes: hashes[mask(images, hashes)], "whole numbers"),
        (lambda images, hashes: mask(images, hashes)[1:], "an entry for each of the 7 rows"),
        (lambda images, hashes: len(my_changed(images, hashes)), "the numbers of the rows"),
        (lambda images, hashes: "2, 5", "the numbers of the rows"),
        (lambda images, hashes: images[7], "IndexError"),
    ],
)
def test_changed_rows_that_are_missed(answer: Callable[..., Any], words: str) -> None:
    refused("exercise_13_2", answer, words)


def test_seven_rows_are_not_taken_for_granted() -> None:
    """A solution written for the first array of the check only."""

    def answer(images: np.ndarray, hashes: np.ndarray) -> list[int]:
        return my_changed(images.reshape(7, 5, 3), hashes)

    refused("exercise_13_2", answer, "raised ValueError")


ANSWERS = {
    "exercise_13_1": [my_split, by_group, by_pandas_hash],
    "exercise_13_2": [my_changed, mask, by_shape],
}
