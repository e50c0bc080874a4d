"""The cache: images decoded once into memory-mapped rows, reports split once into sentences.

A full-size JPEG costs 165 ms to decode and resize, a row of the cache .03 ms. A cache folder holds
`shard-NNNNN.npy` (uint8 [rows, S, S]), `manifest.parquet`, `sentences.parquet` and `meta.json`.
Taught in 05_radiographs_and_reports.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from localmi.data import images as images_code
from localmi.data import reports as reports_code
from localmi.data import sentences as sentences_code
from localmi.data import shards as shards_code
from localmi.data.reports import body_sections, sentence_kind, split_sentences
from localmi.data.shards import STORED, ImageRows, write_shards
from localmi.data.sources import PAIR_COLUMNS, REJECTED_COLUMNS, Pairs, reasons
from localmi.data.splits import check_leaks
from localmi.data.tables import take
from localmi.errors import ConfigError, DataError

FORMAT = 1  # raised when older caches cannot be read any more
META, MANIFEST, SENTENCES, PLAN = "meta.json", "manifest.parquet", "sentences.parquet", "plan.json"
IDS = ["image_id", "study_id", "patient_id", "split", "view"]
STORAGE = ["index_in_cache", "shard", "row"]
PLAN_KEYS = ("format", "name", "image_size", "use", "shard_rows", "fingerprint")
CODE = (images_code, reports_code, sentences_code, shards_code)  # whose change makes a new cache
OWN_COLUMNS = {"index_in_cache", *STORED}
SENTENCE_COLUMNS = ["study_id", "index", "section", "text", "kind"]


@dataclass(frozen=True)
class Cache:
    """A prepared study: what training and evaluation read.

    folder: where it lies. name: of the data. image_size: S, side of the images in pixels.
    manifest: one row an image, in the order of `images`: image_id, study_id, patient_id, split,
        view, index_in_cache, shard, row, source_height, source_width, box_left, box_top,
        box_width, box_height (pixels: the image's content in the padded square), sha256 (of the
        pixels), then labels.
    sentences: study_id, index (0, 1, ... in each study), section, text, kind.
    rejected: image_id, study_id, reason.
    data_hash: sha256 over manifest, sentences and settings; the same on any machine.
    images: by position (`index_in_cache`), uint8 [S, S]; see `ImageRows`.
    """

    folder: Path
    name: str
    image_size: int
    manifest: pd.DataFrame
    sentences: pd.DataFrame
    rejected: pd.DataFrame
    data_hash: str
    images: ImageRows


def build_cache(
    pairs: Pairs,
    folder: Path | str,
    *,
    image_size: int = 256,
    use: Sequence[str] = ("findings", "impression"),
    shard_rows: int = 4096,
    workers: int = 1,
    progress: bool = False,
) -> Cache:
    """Prepares the pairs in `folder`; opens what is there if it was made from the same input.

    The same input: the same table, sizes and times of the image files, settings and code. A cache
    of other input is replaced once the new one is complete. The work goes on in
    `<folder>.partial`: a killed build leaves no half cache, and goes on where it stopped. Of two
    processes one builds, the other waits (`<folder>.lock`).

    Args:
        pairs: from `read_pairs`.
        folder: of the cache: new, empty, or a cache.
        image_size: S, side of the square images in pixels.
        use: sections of a report whose sentences count; see `reports.body_sections`.
        shard_rows: images a file.
        workers: threads that decode images.
        progress: show a bar.

    Raises:
        DataError: `folder` holds something else, the disk is too small, or no image is usable.
        StudyLeakError: images with identical pixels are in two splits.
        ConfigError: a setting is impossible.

    Taught in 05_radiographs_and_reports.
    """
    for name, value in (
        ("image_size", image_size),
        ("shard_rows", shard_rows),
        ("workers", workers),
    ):
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} must be a positive whole number, found {value!r}.")
    folder = Path(folder).expanduser().resolve()
    plan = {
        "format": FORMAT,
        "name": pairs.name,
        "image_size": image_size,
        "use": list(use),
        "shard_rows": shard_rows,
        "fingerprint": _fingerprint(pairs),
    }
    if _read_plan(folder, META) == plan:
        return open_cache(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):  # one process builds, others wait
        if _read_plan(folder, META) != plan:
            work = _work_folder(folder, plan, num_bytes=len(pairs.table) * image_size**2)
            _fill(work, pairs, plan, workers, progress)
            _replace(folder, work)
    return open_cache(folder)


def open_cache(folder: Path | str) -> Cache:
    """Opens a cache that `build_cache` has written. Fast: no image is read.

    Raises:
        DataError: no cache there, written in another format, or damaged.
    """
    folder = Path(folder).expanduser().resolve()
    plan = _read_plan(folder, META)
    if plan is None:
        raise DataError(f"{folder} holds no cache ({META} is missing). Use build_cache first.")
    if plan["format"] != FORMAT:
        raise DataError(
            f"The cache in {folder} has format {plan['format']}, this version reads {FORMAT}. "
            "Delete the folder and build it again."
        )
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        manifest = pd.read_parquet(folder / MANIFEST)
        images = ImageRows(folder, manifest["shard"].to_numpy(), manifest["row"].to_numpy())
        return Cache(
            folder=folder,
            name=plan["name"],
            image_size=plan["image_size"],
            manifest=manifest,
            sentences=pd.read_parquet(folder / SENTENCES),
            rejected=pd.DataFrame(meta["rejected"], columns=REJECTED_COLUMNS),
            data_hash=meta["data_hash"],
            images=images,
        )
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataError(
            f"The cache in {folder} is damaged: {error}. Delete the folder and build it again."
        ) from error


def _fingerprint(pairs: Pairs) -> str:
    """Whether anything changed since a cache was made, without opening an image."""
    table = pairs.table.sort_values("image_id", ignore_index=True)
    stats = [Path(path).stat() if Path(path).is_file() else None for path in table["image"]]
    table["_bytes"] = [stat.st_size if stat else -1 for stat in stats]
    table["_time"] = [stat.st_mtime_ns if stat else -1 for stat in stats]
    digest = hashlib.sha256("/".join(table.columns).encode())
    for part in (table, pairs.rejected):
        digest.update(pd.util.hash_pandas_object(part, index=False).to_numpy().tobytes())
    for module in CODE:
        digest.update(Path(module.__file__ or "").read_bytes())
    return digest.hexdigest()


def _read_plan(folder: Path, name: str) -> dict[str, Any] | None:
    """What was, or is being, built in a folder; None where nothing says so."""
    path = folder / name
    if not path.is_file():
        return None
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))["plan"]
        return {key: plan[key] for key in PLAN_KEYS}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is damaged, or not a cache's ({error!r}). Delete it, or use another folder."
        ) from error


def _work_folder(folder: Path, plan: dict[str, Any], num_bytes: int) -> Path:
    """`<folder>.partial`, with the finished shards of an interrupted build of the same plan."""
    for path, name in ((folder, META), (work := folder.with_name(f"{folder.name}.partial"), PLAN)):
        if path.is_file() or (
            path.is_dir() and any(path.iterdir()) and not (path / name).exists()
        ):
            raise DataError(f"{path} holds something that is no cache. Use another folder.")
    if _read_plan(work, PLAN) != plan:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        (work / PLAN).write_text(json.dumps({"plan": plan}), encoding="utf-8")
    free = shutil.disk_usage(work).free
    if num_bytes > free:
        raise DataError(
            f"The cache in {folder} needs {num_bytes / 1e9:.1f} GB, {free / 1e9:.1f} GB are free. "
            "Use a folder on another disk, or a smaller image_size."
        )
    return work


def _fill(work: Path, pairs: Pairs, plan: dict[str, Any], workers: int, progress: bool) -> None:
    """Writes all files of a cache."""
    table = pairs.table.sort_values("image_id", ignore_index=True)
    if taken := sorted(OWN_COLUMNS & set(table)):
        raise DataError(
            f"The labels {', '.join(taken)} are names of the cache's own. Rename them."
        )
    sentences = _sentences(table, plan["use"])
    has_text = table["study_id"].isin(sentences["study_id"])
    reason = f"no sentence in {' or '.join(plan['use'])}"
    table, rejected = take(table, has_text, reason, pairs.rejected)
    if table.empty:
        raise DataError(f"No report of {pairs.name} can be used. {reasons(rejected)}")
    stored = write_shards(
        table["image"].tolist(),
        work,
        size=plan["image_size"],
        shard_rows=plan["shard_rows"],
        workers=workers,
        progress=progress,
    )
    manifest, unusable = _manifest(table.reset_index(drop=True), stored)
    rejected = pd.concat([rejected, unusable])[REJECTED_COLUMNS]
    if manifest.empty:
        raise DataError(f"No image of {pairs.name} can be used. {reasons(rejected)}")
    check_leaks(manifest)
    sentences = sentences[sentences["study_id"].isin(manifest["study_id"])]
    manifest.to_parquet(work / MANIFEST)
    sentences.to_parquet(work / SENTENCES, index=False)
    meta = {
        "plan": plan,
        "data_hash": _data_hash(manifest, sentences, plan),
        "rejected": rejected.to_numpy().tolist(),
    }
    (work / META).write_text(json.dumps(meta, indent=1), encoding="utf-8")


def _sentences(table: pd.DataFrame, use: Sequence[str]) -> pd.DataFrame:
    """The sentences of each study, once, whatever the number of its images."""
    studies = table.drop_duplicates("study_id").sort_values("study_id")
    records = []
    for study, report in zip(studies["study_id"], studies["report"], strict=True):
        found = [
            (section, sentence)
            for section, text in body_sections(report, use).items()
            for sentence in split_sentences(text)
        ]
        for index, (section, sentence) in enumerate(found):
            records.append((study, index, section, sentence, sentence_kind(sentence)))
    return pd.DataFrame(records, columns=SENTENCE_COLUMNS)


def _manifest(table: pd.DataFrame, stored: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The manifest of the usable images; the others with their reason."""
    labels = [column for column in table if column not in PAIR_COLUMNS]
    whole = pd.concat([table[IDS], stored, table[labels]], axis=1)
    good = whole["reason"] == ""
    manifest = whole[good].drop(columns="reason").reset_index(drop=True)
    manifest.insert(len(IDS), "index_in_cache", np.arange(len(manifest)))
    return manifest, whole.loc[~good, REJECTED_COLUMNS]


def _data_hash(manifest: pd.DataFrame, sentences: pd.DataFrame, plan: dict[str, Any]) -> str:
    """sha256 over what training can see: not over shards, paths, or the order of the input."""
    digest = hashlib.sha256(json.dumps([plan["image_size"], plan["use"]]).encode())
    for table in (manifest.drop(columns=STORAGE), sentences):
        digest.update(table.to_csv(index=False, lineterminator="\n").encode())
    return digest.hexdigest()


def _replace(folder: Path, work: Path) -> None:
    """Puts the finished work in the place of `folder`."""
    if folder.exists():
        shutil.rmtree(folder)
    work.rename(folder)
    for path in [folder / PLAN, *folder.glob("shard-*.parquet")]:
        path.unlink()
