"""Files that stand under their own name only once they are whole, and hashes of them."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:  # what only names these does not wait for them
    import numpy as np
    import pandas as pd

REPOSITORY = Path(__file__).resolve().parents[2]  # localmi is installed editable
ASIDE = ".tmp"  # ends the name of a file that is being written


@contextmanager
def whole_file(path: Path, *, shared: bool = False) -> Iterator[BinaryIO]:
    """A file to write to, that takes its name once it is whole and on the disk.

    Until then what stood there before stays; where writing fails, nothing is left aside.

    Args:
        path: of the file; its folder exists.
        shared: several processes may write it at once, each aside under a name of its own.
    """
    aside = path.with_name(f"{path.name}{f'.{os.getpid()}' if shared else ''}{ASIDE}")
    try:
        with open(aside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
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
    """A text file, in one step."""
    with whole_file(path) as file:
        file.write(text.encode())


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


def file_hash(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
