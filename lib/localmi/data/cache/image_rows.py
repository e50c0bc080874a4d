"""The images of a cache, read row by row from its shards.

Taught in 13_preparing_mimic_cxr.
"""

import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from localmi.data.cache.shards import shard_file
from localmi.data.tables import counted
from localmi.errors import DataError
from localmi.files import patiently

PREADV = hasattr(os, "preadv")  # not on Windows
READING = (OSError, ValueError, EOFError)  # what a file that is away or damaged raises


class Shard:
    """A file of rows, open to be read: uint8 [rows, S, S].

    By reads, not through a memory map: there a file that is cut short, or a disk that fails, ends
    the whole process by a signal. It takes about as long.

    Raises:
        ValueError, OSError: missing, damaged, shorter than it says, or something else.
    """

    def __init__(self, path: Path) -> None:
        rows = np.load(path, mmap_mode="r")  # looks at the header, and at the size of the file
        if rows.dtype != np.uint8 or rows.ndim != 3 or not rows.flags.c_contiguous:
            raise ValueError(f"{path.name} holds no uint8 [rows, S, S]")
        self.path, self.shape = path, rows.shape
        self._start = rows.offset
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def __len__(self) -> int:
        return int(self.shape[0])

    def read(self, row: int, out: np.ndarray) -> np.ndarray:
        """One row into `out`, uint8 [S, S]; any thread or process may read at the same time.

        Raises:
            OSError: the file has become shorter, or the disk failed.
        """
        start = self._start + row * out.nbytes
        if PREADV:
            found = os.preadv(self._file, [out.data], start)
        else:
            pixels = np.fromfile(self.path, np.uint8, out.size, offset=start)
            out.reshape(-1)[: pixels.size] = pixels
            found = pixels.size
        if found < out.nbytes:
            raise OSError(errno.EIO, "shorter than it was", str(self.path))
        return out


class ImageRows:
    """The images of a cache, read from disk when asked for: `rows[3]`, `rows[[3, 5]]`, `rows[:9]`.

    An integer gives uint8 [S, S]; whatever else indexes an array gives uint8 [n, S, S]. A shard
    that cannot be read is tried again, patiently. Another process gets no open files, and opens a
    shard when it first reads from it.

    Args:
        folder: of the shards.
        shard, row: [images] the number of each image's shard, and its row there.

    Raises:
        IndexError: no such image.
        DataError: while reading: a shard is missing, damaged, or cannot be reached.
        ValueError, OSError: the same at the start, at once.
    """

    def __init__(self, folder: Path, shard: np.ndarray, row: np.ndarray) -> None:
        self._folder, self._shard, self._row = folder, shard, row
        self._rows = pd.Series(row).groupby(shard).max() + 1  # by shard, at least
        self._open: dict[int, Shard] = {}
        for number in self._rows.index:
            self._size = self._opened(number).shape[1:]

    def _opened(self, number: int) -> Shard:
        if number not in self._open:
            shard, rows = Shard(shard_file(self._folder, number)), int(self._rows[number])
            if len(shard) < rows:
                raise ValueError(
                    f"{shard.path.name} has not the {counted(rows, 'row')} of the manifest"
                )
            self._open[number] = shard
        return self._open[number]

    def __len__(self) -> int:
        return len(self._row)

    def __getitem__(self, index: Any) -> np.ndarray:
        shard, row = self._shard[index], self._row[index]
        images = np.empty((np.size(row), *self._size), np.uint8)
        places = [part.ravel().tolist() for part in (shard, row)]
        try:
            patiently(
                lambda: self._fill(images, *places),
                "Images could not be read",
                may_pass=lambda error: isinstance(error, OSError),
            )
        except OSError as error:
            raise DataError(
                f"Images cannot be read any more: {error}. See that its folder can be reached, "
                "and put the file back (localmi verify says what else is damaged); then a run "
                "goes on with --resume."
            ) from error
        return images if np.ndim(row) else images[0]

    def _fill(self, images: np.ndarray, shards: list[int], rows: list[int]) -> None:
        """Raises OSError: names the file; the next try opens it anew."""
        for image, number, row in zip(images, shards, rows, strict=True):
            try:
                self._opened(number).read(row, image)
            except READING as error:
                self._open.pop(number, None)
                code = getattr(error, "errno", None) or errno.EIO
                what = getattr(error, "strerror", None) or str(error)
                raise OSError(code, what, str(shard_file(self._folder, number))) from error

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_open": {}}
