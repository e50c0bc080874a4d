"""Files that stand under their own name only once they are whole, and hashes of them."""

import errno
import hashlib
import json
import math
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from localmi.errors import machine_failed

if TYPE_CHECKING:  # what only names these does not wait for them
    import numpy as np
    import pandas as pd

REPOSITORY = Path(__file__).resolve().parents[2]  # localmi is installed editable
ASIDE = ".tmp"  # ends the name of a file that is being written
WAITS = (1, 2, 4, 8, 16, 30)  # seconds between two tries: a minute in all

T = TypeVar("T")


def patiently(
    work: Callable[[], T], failed: str, *, may_pass: Callable[[Exception], bool] = machine_failed
) -> T:
    """What `work` gives; tried again, after longer and longer waits, where its error may pass.

    Args:
        work: leaves nothing behind where it fails.
        failed: what is said of each try, with the error: "x.json could not be written".
        may_pass: a disk that is full, a folder of the network that is away; other errors are
            raised at once.
    """
    for wait in WAITS:
        try:
            return work()
        except Exception as error:
            if not may_pass(error):
                raise
            with suppress(OSError):  # a log on the same full disk
                print(f"{failed}: {error}. Another try in {wait} s.", flush=True)
        time.sleep(wait)
    return work()


@contextmanager
def whole_file(
    path: Path, *, shared: bool = False, before: Callable[[], None] = lambda: None
) -> Iterator[BinaryIO]:
    """A file to write to, that takes its name once it is whole and on the disk.

    Until then what stood there before stays; where writing fails, nothing is left aside.

    Args:
        path: of the file; its folder exists.
        shared: several processes, of one machine or more, may write it at once, each aside under a
            name of its own.
        before: is called when the file is whole, the last thing before it takes its name.
    """
    aside = path.with_name(f"{path.name}{f'.{uuid.uuid4().hex}' if shared else ''}{ASIDE}")
    try:
        with open(aside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        before()
        os.replace(aside, path)
    except BaseException:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise


def write_table(table: "pd.DataFrame", path: Path) -> None:
    """A table as parquet, in one step."""
    with whole_file(path) as file:
        table.to_parquet(file, index=False)


def write_text(text: str, path: Path) -> None:
    """A text file, in one step; patiently."""

    def write() -> None:
        with whole_file(path) as file:
            file.write(text.encode())

    patiently(write, f"{path.name} could not be written")


def append_text(text: str, path: Path) -> None:
    """Text at the end of a file: all of it, or where that fails nothing; patiently."""
    data = text.encode()

    def write() -> None:
        with path.open("ab", buffering=0) as file:
            whole = file.tell()
            try:
                if file.write(data) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            except OSError:
                with suppress(OSError):
                    file.truncate(whole)
                raise

    patiently(write, f"{path.name} could not be written")


def write_json(content: Any, path: Path) -> None:
    """What JSON can hold, in one step.

    Raises:
        ValueError: a number in it is not finite.
    """
    write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", path)


def kept_array(
    path: Path, fits: Callable[["np.ndarray"], bool], make: Callable[[], "np.ndarray"]
) -> "np.ndarray":
    """The array of a file, which is made and written where it is missing, damaged or does not fit.

    Its folder is created, the folder's own folder is not. Where nothing can be written, the array
    is in memory alone. Several processes may ask for it at once.
    """
    import numpy as np

    with suppress(OSError, ValueError, EOFError):
        found: np.ndarray = np.load(path, mmap_mode="r")
        if fits(found):
            return found
    made = make()
    with suppress(OSError):  # read-only, or the disk is full
        path.parent.mkdir(exist_ok=True)
        with whole_file(path, shared=True) as out:
            np.save(out, made)
    return made


def kept_rows(
    path: Path,
    shape: tuple[int, ...],
    dtype: "np.dtype",
    make: Callable[[], Iterable["np.ndarray"]],
) -> "np.ndarray | None":
    """As `kept_array`, for what is larger than memory: `make` gives it part by part, along its
    first axis, and it is only mapped. None where it cannot be written.
    """
    import numpy as np

    with suppress(OSError, ValueError, EOFError):
        found: np.ndarray = np.load(path, mmap_mode="r")
        if (found.shape, found.dtype) == (shape, dtype):
            return found
    with suppress(OSError):  # read-only, or the disk is full
        path.parent.mkdir(exist_ok=True)
        if shutil.disk_usage(path.parent).free < math.prod(shape) * dtype.itemsize:
            return None
        with whole_file(path, shared=True) as out:
            header = {"shape": shape, "fortran_order": False, "descr": dtype.str}
            np.lib.format.write_array_header_1_0(out, header)
            for part in make():
                out.write(np.ascontiguousarray(part, dtype).data)
        mapped: np.ndarray = np.load(path, mmap_mode="r")
        return mapped
    return None


def file_hash(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
