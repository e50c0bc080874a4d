"""Is a cache still what was written? Every image against its sha256, every table against its own.

Taught in 13_preparing_mimic_cxr.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from localmi.data.cache.cache import MANIFEST, SENTENCES, known_plan
from localmi.data.cache.folder import META
from localmi.data.cache.image_rows import READING, Shard
from localmi.data.cache.shards import shard_file
from localmi.data.cache.tables import data_hash
from localmi.data.tables import counted, examples
from localmi.errors import DataError
from localmi.files import file_hash

MEND = "Prepare the study again into the same folder after deleting it, or put back a copy."


def verify_cache(folder: Path | str, *, progress: bool = False) -> list[str]:
    """What is damaged in a cache, a sentence each; nothing if it is whole. Reads every image.

    Raises:
        DataError: there is no cache, its `meta.json` cannot be read, or another version wrote it.

    Taught in 13_preparing_mimic_cxr.
    """
    folder = Path(folder).expanduser().resolve()
    plan = known_plan(folder)
    meta = json.loads((folder / META).read_text(encoding="utf-8"))
    if not isinstance(meta.get("files"), dict) or "data_hash" not in meta:
        raise DataError(f"{folder / META} is damaged: it lists no files. {MEND}")
    damaged = _tables(folder, meta["files"])
    try:
        manifest = pd.read_parquet(folder / MANIFEST)
        sentences = pd.read_parquet(folder / SENTENCES)
        if data_hash(manifest, sentences, plan) != meta["data_hash"]:
            damaged.append(f"{META}: its data_hash is not that of the tables.")
        return damaged + _images(folder, manifest, progress)
    except (OSError, ValueError, KeyError) as error:
        return damaged or [f"The tables cannot be read: {error}"]


def _tables(folder: Path, hashes: dict[str, str]) -> list[str]:
    damaged = []
    for name, known in hashes.items():
        if not (folder / name).is_file():
            damaged.append(f"{name}: missing.")
        elif file_hash(folder / name) != known:
            damaged.append(f"{name}: not what was written.")
    return damaged


def _images(folder: Path, manifest: pd.DataFrame, progress: bool) -> list[str]:
    damaged = []
    with tqdm(total=len(manifest), desc="images", unit="image", disable=not progress) as bar:
        for number, rows in manifest.groupby("shard"):
            file = shard_file(folder, int(str(number)))
            try:
                wrong = _wrong_rows(Shard(file), rows)
            except READING as error:
                damaged.append(f"{file.name}, of {counted(len(rows), 'image')}: {_short(error)}")
            else:
                if len(wrong):
                    damaged.append(
                        f"{file.name}: not what was written, {len(wrong)} of "
                        f"{counted(len(rows), 'image')}: {examples(wrong)}"
                    )
            bar.update(len(rows))
    return damaged


def _short(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def _wrong_rows(shard: Shard, rows: pd.DataFrame) -> pd.Series:
    """image_id of the rows whose pixels have another hash, or are not there."""
    pixels = np.empty(shard.shape[1:], np.uint8)
    good = [
        row < len(shard) and hashlib.sha256(shard.read(row, pixels).data).hexdigest() == known
        for row, known in zip(rows["row"], rows["sha256"], strict=True)
    ]
    return rows.loc[~np.array(good), "image_id"]
