"""The cache: images decoded once into rows of files, reports split once into sentences.

A cache folder holds `shard-NNNNN.npy` (uint8 [rows, S, S]), `manifest.parquet`,
`sentences.parquet`, `rejected.parquet`, `report.json` and `.txt`, and what `folder` says.
Taught in 13_preparing_mimic_cxr.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from localmi.data import dicom as dicom_code
from localmi.data import images as images_code
from localmi.data import reports as reports_code
from localmi.data.cache import folder as cache_folder
from localmi.data.cache import report as cache_report
from localmi.data.cache import shards as shards_code
from localmi.data.cache.folder import META, explained, read_plan
from localmi.data.cache.image_rows import ImageRows
from localmi.data.cache.shards import write_shards
from localmi.data.cache.tables import (
    OWN_COLUMNS,
    data_hash,
    make_manifest,
    make_sentences,
    records_hash,
)
from localmi.data.sources.pairs import Pairs, reasons
from localmi.data.splits import Leaks, check_leaks
from localmi.data.tables import keep_rows
from localmi.errors import ConfigError, DataError, StudyLeakError, check_name, machine_failed
from localmi.files import file_hash, write_table

FORMAT = 2  # raised when older caches cannot be read any more
MANIFEST, SENTENCES, REJECTED = "manifest.parquet", "sentences.parquet", "rejected.parquet"
IMAGES_CODE = (images_code, dicom_code, shards_code)  # whose change makes new shards
CODE = (*IMAGES_CODE, reports_code)  # whose change makes a new cache
STAT_THREADS = 16  # a network disk answers many questions at once


@dataclass(frozen=True)
class Cache:
    """A prepared study: what training and evaluation read.

    folder: where it lies. name: of the data. image_size: S, side of the images in pixels.
    manifest: one row an image, in the order of `images`: image_id, study_id, patient_id, split,
        view, index_in_cache, shard, row, source_height, source_width, box_left, box_top,
        box_width, box_height (pixels: the image's content in the padded square), sha256 (of the
        pixels), then labels; last, where it was prepared with records, position and the columns of
        `records.join`.
    sentences: study_id, index (0, 1, ... in each study), section, text, kind.
    rejected: image_id, study_id, reason.
    data_hash: sha256 over manifest, sentences and settings; the same on any machine.
    images: by position (`index_in_cache`), uint8 [S, S]; see `ImageRows`.
    records_hash: sha256 over position and records, which are not in `data_hash`; "" without.
    """

    folder: Path
    name: str
    image_size: int
    manifest: pd.DataFrame
    sentences: pd.DataFrame
    rejected: pd.DataFrame
    data_hash: str
    images: ImageRows
    records_hash: str = ""

    def check_image_size(self, image_size: int) -> None:
        """Nothing if the images have this size.

        Raises:
            ConfigError: they have another one.
        """
        if image_size != self.image_size:
            raise ConfigError(
                f"image_size={image_size}, but the images of {self.name} were prepared at "
                f"{self.image_size}. Use that size, or prepare the data anew."
            )

    def describe(self) -> dict[str, Any]:
        """For the record of a run: name, hashes, and studies in each split."""
        studies = self.manifest.groupby("split")["study_id"].nunique()
        known = {"name": self.name, "sha256": self.data_hash, "studies": studies.to_dict()}
        return known | ({"records_sha256": self.records_hash} if self.records_hash else {})


def build_cache(
    pairs: Pairs,
    folder: Path | str,
    *,
    image_size: int = 256,
    use: Sequence[str] = ("findings", "impression"),
    leaks: Leaks = "refuse",
    shard_rows: int = 4096,
    workers: int = 1,
    wait: bool = True,
    progress: bool = False,
) -> Cache:
    """Prepares the pairs in `folder`; opens what is there if it was made from the same input.

    The same input: the same table, sizes and times of the image files, settings and code. A cache
    of other input is replaced once the new one is complete; where only reports or labels changed,
    no image is decoded again. A cache at another size, or of other views, is not: it is what
    somebody asked for. A killed build leaves no half cache, and goes on where it stopped.
    Of two processes one builds, the other waits (`<folder>.lock`).

    Args:
        pairs: from `read_pairs`.
        folder: of the cache: new, empty, or a cache.
        image_size: S, side of the square images in pixels.
        use: sections of a report whose sentences count; see `reports.body_sections`.
        leaks: what to do with identical pixels in two splits: "refuse" is an error, "reject"
            keeps those in test, or else in validate, and rejects the others.
        shard_rows: images a file.
        workers: threads that decode images.
        wait: for another process that prepares this cache; without, that is an error.
        progress: show bars.

    Raises:
        DataError: `folder` holds something else, a cache of another size or other views, or one
            with records where `pairs` has none; the
            disk is too small or read-only, no image is usable, or another process is at work.
        StudyLeakError: images with identical pixels are in two splits.
        ConfigError: a setting is impossible.

    Taught in 13_preparing_mimic_cxr.
    """
    _check_settings(leaks, image_size=image_size, shard_rows=shard_rows, workers=workers)
    folder = Path(folder).expanduser().resolve()
    table = _sorted_table(pairs)
    plan = {
        "format": FORMAT,
        "name": pairs.name,
        "image_size": image_size,
        "use": list(use),
        "leaks": leaks,
        "shard_rows": shard_rows,
        "views": sorted(table["view"].unique()),
        "fingerprint": _fingerprint(table, pairs),
    }
    if pairs.record_columns:
        plan["records"] = list(pairs.record_columns)
    if pairs.reports != "needed":
        plan["reports"] = pairs.reports
    if read_plan(folder, META) == plan:
        return open_cache(folder)
    with explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder, wait):
            cache_folder.check_place(folder)
            there = read_plan(folder, META)
            if there != plan:
                _refuse_another(folder, there or {}, plan)
                if read_plan(cache_folder.partial_folder(folder), META) != plan:
                    _fill(folder, pairs, table, plan, workers, progress)
                cache_folder.publish(folder)
    return open_cache(folder)


def _refuse_another(folder: Path, there: dict[str, Any], plan: dict[str, Any]) -> None:
    """Raises DataError where the whole cache that is there is of another size or other views, or
    has records that the new one would not have."""
    for name, what in (("image_size", "image_size"), ("views", "the views")):
        if there.get(name, plan[name]) != plan[name]:
            raise DataError(
                f"The cache in {folder} has {what} {there[name]}, asked for is {plan[name]}. Its "
                "images would be lost: name another folder, or delete this one."
            )
    if "records" in there and "records" not in plan:
        raise DataError(
            f"The cache in {folder} has the patients' records, and none are asked for. They would "
            "be lost: name the records as well (records_dir; prepare: --records), another folder, "
            "or delete this one."
        )


def _check_settings(leaks: str, **positive: int) -> None:
    check_name("value of leaks", leaks, get_args(Leaks))
    for name, value in positive.items():
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"{name} must be a positive whole number, found {value!r}.")


def _locked(folder: Path, wait: bool) -> AbstractContextManager[Any]:
    """One process builds; the others wait, or are told so."""
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        return lock.acquire(timeout=-1 if wait else 0)
    except Timeout as error:
        raise DataError(
            f"Another process is preparing the cache in {folder}. Wait until it has ended; the "
            "same call then opens what it has made, or goes on where it stopped."
        ) from error


def open_cache(folder: Path | str) -> Cache:
    """Opens a cache that `build_cache` has written. Fast: no image is read.

    Raises:
        DataError: no cache there, written in another format, damaged, or cannot be reached.
    """
    folder = Path(folder).expanduser().resolve()
    plan = known_plan(folder)
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
            rejected=pd.read_parquet(folder / REJECTED),
            data_hash=meta["data_hash"],
            images=images,
            records_hash=meta.get("records_hash", ""),
        )
    except (OSError, ValueError, KeyError, EOFError) as error:
        if machine_failed(error):
            raise DataError(
                f"The cache in {folder} cannot be reached: {error}. Nothing says that it is "
                "damaged: see that its disk is there, then try again."
            ) from error
        raise DataError(
            f"The cache in {folder} is damaged: {error}. Put back a copy of what is missing, or "
            "delete the folder and build it again."
        ) from error


def known_plan(folder: Path) -> dict[str, Any]:
    """What was built in a folder.

    Raises:
        DataError: no cache there, or written in another format.
    """
    plan = read_plan(folder, META)
    if plan is None:
        raise DataError(f"{folder} holds no cache ({META} is missing). Use build_cache first.")
    if plan["format"] != FORMAT:
        raise DataError(
            f"The cache in {folder} has format {plan['format']}, this version reads {FORMAT}. "
            "Delete the folder and build it again."
        )
    return plan


def _sorted_table(pairs: Pairs) -> pd.DataFrame:
    """The pairs in the order of the cache, with the size and time of each image file."""
    table = pairs.table.sort_values("image_id", ignore_index=True)
    if taken := sorted(OWN_COLUMNS & set(table)):
        raise DataError(
            f"The labels {', '.join(taken)} are names of the cache's own. Rename them."
        )
    parts = np.array_split(table["image"].to_numpy(), STAT_THREADS)
    with ThreadPoolExecutor(STAT_THREADS) as pool:
        stats = np.concatenate(list(pool.map(_stats, parts)))
    return table.assign(_bytes=stats[:, 0], _time=stats[:, 1])


def _stats(paths: Sequence[str]) -> np.ndarray:
    """[paths, 2] int64: bytes and time of each file, -1 where there is none."""
    found = np.full((len(paths), 2), -1, np.int64)
    for number, path in enumerate(paths):
        try:
            stat = os.stat(path)
        except OSError:
            continue
        found[number] = stat.st_size, stat.st_mtime_ns
    return found


def _fingerprint(table: pd.DataFrame, pairs: Pairs) -> str:
    """Whether anything changed since a cache was made, without opening an image."""
    said = json.dumps([list(table.columns), pairs.left_out, pairs.notes])
    return _hash_of((table, pairs.rejected), CODE, said)


def _hash_of(tables: Sequence[pd.DataFrame], code: Sequence[Any], said: str) -> str:
    digest = hashlib.sha256(said.encode())
    for table in tables:
        digest.update(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes())
    for module in code:
        digest.update(Path(module.__file__ or "").read_bytes())
    return digest.hexdigest()


def _fill(
    folder: Path,
    pairs: Pairs,
    table: pd.DataFrame,
    plan: dict[str, Any],
    workers: int,
    progress: bool,
) -> None:
    """Writes all files of a cache, the shards first: they are what a second call keeps."""
    sentences = make_sentences(table, plan["use"], progress=progress)
    rejected = pairs.rejected
    if pairs.reports == "needed":
        has_text = table["study_id"].isin(sentences["study_id"])
        reason = f"no sentence in {' or '.join(plan['use'])}"
        table, rejected = keep_rows(table, has_text, reason, rejected)
    if table.empty:
        raise DataError(f"No report of {pairs.name} can be used. {reasons(rejected)}")
    size, shard_rows = plan["image_size"], plan["shard_rows"]
    files = _hash_of([table[["image", "_bytes", "_time"]]], IMAGES_CODE, "")
    work = cache_folder.start_work(
        folder,
        {"format": FORMAT, "image_size": size, "shard_rows": shard_rows, "images": files},
        num_bytes=len(table) * size**2,
    )
    stored = write_shards(
        table["image"].tolist(),
        work,
        size=size,
        shard_rows=shard_rows,
        workers=workers,
        progress=progress,
    )
    table = table.drop(columns=["_bytes", "_time"]).reset_index(drop=True)
    manifest, rejected = make_manifest(table, stored, rejected, plan["leaks"])
    if manifest.empty:
        raise DataError(f"No image of {pairs.name} can be used. {reasons(rejected)}")
    _refuse_copies(manifest)
    sentences = sentences[sentences["study_id"].isin(manifest["study_id"])]
    tables = {MANIFEST: manifest, SENTENCES: sentences, REJECTED: rejected}
    for name, content in tables.items():
        write_table(content, work / name)
    known_hash = data_hash(manifest, sentences, plan)
    report = cache_report.make_report(pairs, manifest, sentences, rejected, plan, known_hash)
    cache_report.write_report(report, work)
    hashes = {name: file_hash(work / name) for name in (*tables, *cache_report.FILES)}
    meta = {"plan": plan, "data_hash": known_hash, "files": hashes}
    if pairs.record_columns:
        meta["records_hash"] = records_hash(manifest, plan)
    cache_folder.finish_work(work, meta)


def _refuse_copies(manifest: pd.DataFrame) -> None:
    try:
        check_leaks(manifest)
    except StudyLeakError as error:
        raise StudyLeakError(
            f'{error} Or set leaks to "reject" (prepare: --leaks reject): of identical images '
            "only those in test, or else in validate, are kept; none is decoded again."
        ) from error
