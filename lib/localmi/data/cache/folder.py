"""The folder of a cache on disk: whole, unfinished or absent, and never anything else.

A cache is built in `<folder>.partial` and renamed when it is complete, so that a kill at any
moment leaves one of these, and the next call goes on from it:

- no `plan.json`: nothing is there but an empty folder, or an aside file of `plan.json`;
- `plan.json`: an unfinished cache. It says which images at what size; a shard is complete where
  `shard-NNNNN.parquet` stands, for that is written after `shard-NNNNN.npy`;
- `meta.json`: a whole cache, for that is written last. A cache that is to go loses it first.

A file stands under its own name only once it is whole (`files.whole_file`).
Taught in 13_preparing_mimic_cxr.
"""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from localmi.errors import DataError
from localmi.files import ASIDE, write_json

META, PLAN = "meta.json", "plan.json"
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NO_RIGHT = {errno.EACCES, errno.EPERM, errno.EROFS}


def read_plan(folder: Path, name: str) -> dict[str, Any] | None:
    """What was, or is being, built in a folder; None where nothing says so.

    Raises:
        DataError: the file `name` is there, but damaged or of something else.
    """
    path = folder / name
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))["plan"]
        if isinstance(plan["format"], int):
            return dict(plan)
        error: Exception = ValueError("format is not a number")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as reason:
        error = reason
    raise DataError(
        f"{path} is damaged, or not a cache's ({error!r}). Delete it, or use another folder."
    ) from error


def partial_folder(folder: Path) -> Path:
    """Where the cache of `folder` is built."""
    return folder.with_name(f"{folder.name}.partial")


def check_place(folder: Path) -> None:
    """Nothing if a cache may be built in `folder`.

    Raises:
        DataError: it, or its `.partial`, holds something else; or it cannot be renamed.
    """
    if folder.is_mount():
        raise DataError(f"{folder} is where a disk is mounted. Use a folder inside it.")
    for path in (folder, partial_folder(folder)):
        if path.is_file() or (path.is_dir() and _foreign(path)):
            raise DataError(f"{path} holds something that is no cache. Use another folder.")


def _foreign(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir()} - {PLAN + ASIDE}
    return bool(names) and not names & {META, PLAN}


def start_work(folder: Path, plan: dict[str, Any], num_bytes: int) -> Path:
    """`<folder>.partial`, with what is there of the same plan: from a killed call, or linked from
    the cache that is to be replaced, if it has the same images.

    Args:
        folder: of the cache, checked by `check_place`.
        plan: which images at what size.
        num_bytes: that the finished shards will take.

    Raises:
        DataError: the disk is too small.
    """
    work = partial_folder(folder)
    if read_plan(work, PLAN) == plan:
        (work / META).unlink(missing_ok=True)  # a whole cache of the same images, not yet renamed
    else:
        remove(work)
        work.mkdir(parents=True)
        write_json({"plan": plan}, work / PLAN)
    if read_plan(folder, PLAN) == plan:
        _link_shards(folder, work)
    _check_room(folder, work, num_bytes)
    return work


def _link_shards(folder: Path, work: Path) -> None:
    for table in sorted(folder.glob("shard-*.parquet")):
        if not (work / table.name).exists():
            pixels = table.with_suffix(".npy")
            try:
                (work / pixels.name).unlink(missing_ok=True)  # of a shard without its table
                os.link(pixels, work / pixels.name)
                os.link(table, work / table.name)
            except OSError:  # no links on this disk: the images are decoded again
                return


def _check_room(folder: Path, work: Path, num_bytes: int) -> None:
    needed = num_bytes - sum(path.stat().st_size for path in work.glob("shard-*.npy"))
    free = shutil.disk_usage(work).free
    if needed > free:
        raise DataError(
            f"The cache in {folder} needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are "
            "free. Use a folder on another disk, or a smaller image_size."
        )


def finish_work(work: Path, meta: dict[str, Any]) -> None:
    """Makes a whole cache of the work folder: `meta` is the last file."""
    for left in work.glob(f"*{ASIDE}"):
        left.unlink()
    write_json(meta, work / META)


def publish(folder: Path) -> None:
    """Puts the finished work in the place of `folder`."""
    remove(folder)
    os.rename(partial_folder(folder), folder)


def remove(folder: Path) -> None:
    """Removes a cache, whole or not; what says that it is one goes last."""
    if not folder.exists():
        return
    if (folder / META).exists():
        os.replace(folder / META, folder / PLAN)
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != PLAN:
            path.unlink()
    (folder / PLAN).unlink(missing_ok=True)
    folder.rmdir()


@contextmanager
def explained(folder: Path) -> Iterator[None]:
    """Turns the system's errors into one that says what stands and what to do.

    Raises:
        DataError: the disk is full, read-only or failing.
    """
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            advice = "Make room, or use a folder on another disk or a smaller image_size."
        elif error.errno in NO_RIGHT:
            advice = "Set cache_dir (prepare: --out) to a folder of your own."
        else:
            advice = "Look after the disk and the memory of this machine."
        raise DataError(
            f"The cache cannot be written to {folder}: {error}. {advice} What is done is kept: "
            "the same call goes on from there."
        ) from error
