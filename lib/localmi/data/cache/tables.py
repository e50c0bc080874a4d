"""The tables of a cache: sentences, manifest and what was rejected, and the hash over them.

Taught in 13_preparing_mimic_cxr.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from localmi.data.cache.shards import STORED
from localmi.data.reports import body_sections, sentence_kind, split_sentences
from localmi.data.tables import PAIR_COLUMNS, REJECTED_COLUMNS, is_missing

IDS = ["image_id", "study_id", "patient_id", "split", "view"]
STORAGE = ["index_in_cache", "shard", "row"]
OWN_COLUMNS = {"index_in_cache", *STORED}
SENTENCE_COLUMNS = ["study_id", "index", "section", "text", "kind"]


def make_sentences(
    table: pd.DataFrame, use: Sequence[str], *, progress: bool = False
) -> pd.DataFrame:
    """The sentences of each study, once, whatever the number of its images."""
    studies = table.drop_duplicates("study_id").sort_values("study_id")
    records = []
    pairs = zip(studies["study_id"], studies["report"], strict=True)
    for study, report in tqdm(
        pairs, total=len(studies), desc="reports", unit="report", disable=not progress
    ):
        found = [
            (section, sentence)
            for section, text in body_sections(report, use).items()
            if not is_missing(text)
            for sentence in split_sentences(text)
        ]
        for index, (section, sentence) in enumerate(found):
            records.append((study, index, section, sentence, sentence_kind(sentence)))
    return pd.DataFrame(records, columns=SENTENCE_COLUMNS)


def make_manifest(
    table: pd.DataFrame, stored: pd.DataFrame, rejected: pd.DataFrame, leaks: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The manifest of the usable images; and `rejected` with the others."""
    labels = [column for column in table if column not in PAIR_COLUMNS]
    whole = pd.concat([table[IDS], stored, table[labels]], axis=1)
    if leaks == "reject":
        whole = _without_copies(whole)
    good = whole["reason"] == ""
    manifest = whole[good].drop(columns="reason").reset_index(drop=True)
    manifest.insert(len(IDS), "index_in_cache", np.arange(len(manifest)))
    rejected = pd.concat([rejected, whole[~good]])[REJECTED_COLUMNS]
    return manifest, rejected.astype(str).reset_index(drop=True)


def _without_copies(whole: pd.DataFrame) -> pd.DataFrame:
    """Of identical pixels in several splits, only those in test stay, or else in validate."""
    usable = whole[whole["reason"] == ""]
    for kept in ("test", "validate"):
        pixels = usable.loc[usable["split"] == kept, "sha256"]
        copies = usable.index[(usable["split"] != kept) & usable["sha256"].isin(pixels)]
        whole.loc[copies, "reason"] = f"the same pixels as an image in {kept}"
        usable = usable.drop(copies)
    return whole


def data_hash(manifest: pd.DataFrame, sentences: pd.DataFrame, plan: dict[str, Any]) -> str:
    """sha256 over what training can see: not over shards, paths, or the order of the input.

    Nor over the record, which has a hash of its own: a checkpoint belongs to the same images,
    texts, splits and labels, whether somebody has added MIMIC-IV to them or not.
    """
    digest = hashlib.sha256(json.dumps([plan["image_size"], plan["use"]]).encode())
    own = manifest.drop(columns=[*STORAGE, *plan.get("records", [])])
    for table in (own, sentences):
        digest.update(table.to_csv(index=False, lineterminator="\n").encode())
    return digest.hexdigest()


def records_hash(manifest: pd.DataFrame, plan: dict[str, Any]) -> str:
    """sha256 over what is recorded of each image; "" of a cache without records."""
    if "records" not in plan:
        return ""
    table = manifest[["image_id", *plan["records"]]]
    return hashlib.sha256(table.to_csv(index=False, lineterminator="\n").encode()).hexdigest()
