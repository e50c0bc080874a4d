"""Images as rows of uint8 files: written shard by shard, read row by row.

Taught in 13_preparing_mimic_cxr.
"""

import errno
import hashlib
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from localmi.data.images import SquareImage, read_image
from localmi.data.tables import counted
from localmi.errors import DataError
from localmi.files import patiently, whole_file, write_table

BOX = ["box_left", "box_top", "box_width", "box_height"]
PREADV = hasattr(os, "preadv")  # not on Windows
READING = (OSError, ValueError, EOFError)  # what a file that is away or damaged raises
STORED = ["shard", "row", "source_height", "source_width", *BOX, "sha256", "reason"]


class Shard:
    """A file of rows, open to be read: uint8 [rows, S, S].

    By reads, not through a memory map: there a file that is cut short, or a disk that fails, ends
    the whole process by a signal. Where the pages are in memory it is faster, too.

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


def shard_file(folder: Path, number: int) -> Path:
    """The pixels of a shard."""
    return folder / f"shard-{number:05d}.npy"


def shard_table(folder: Path, number: int) -> Path:
    """What is known of the images of a shard; where it stands, the shard is complete."""
    return folder / f"shard-{number:05d}.parquet"


def write_shards(
    images: Sequence[str],
    folder: Path,
    *,
    size: int,
    shard_rows: int,
    workers: int,
    progress: bool,
) -> pd.DataFrame:
    """Decodes images into shards; a shard that an interrupted call has finished is kept.

    Memory does not grow with the number of images but for one row of the table each: pixels go to
    the file as they come, and no more than a few images a worker wait for their turn.

    Args:
        images: paths.
        folder: of the shards.
        size: S, side of the square images in pixels.
        shard_rows: images a shard; unusable ones leave it shorter.
        workers: threads.
        progress: show a bar.

    Returns:
        One row an image: shard, row (-1 if unusable), source_height, source_width, box_left,
        box_top, box_width, box_height, sha256 of the pixels, reason ("" if usable).

    Raises:
        OSError: the disk is full or failed.
    """
    shards = [images[start : start + shard_rows] for start in range(0, len(images), shard_rows)]
    todo = [n for n in range(len(shards)) if not shard_table(folder, n).is_file()]
    paths = [path for number in todo for path in shards[number]]
    with (
        tqdm(
            total=len(images),
            initial=len(images) - len(paths),
            desc="images",
            unit="image",
            disable=not progress,
        ) as bar,
        ThreadPoolExecutor(workers) as pool,
    ):
        results = _read_all(pool, paths, size, ahead=4 * workers, bar=bar)
        for number in todo:
            _write_shard(number, islice(results, len(shards[number])), size, folder)
    tables = [pd.read_parquet(shard_table(folder, number)) for number in range(len(shards))]
    return pd.concat(tables, ignore_index=True)


def _read_all(
    pool: ThreadPoolExecutor, paths: Iterable[str], size: int, ahead: int, bar: tqdm
) -> Iterator[tuple[SquareImage | None, str]]:
    """What `read_or_reason` gives, in order, `ahead` under way: `pool.map` would hold all."""
    waiting: deque[Future[tuple[SquareImage | None, str]]] = deque()
    for path in paths:
        waiting.append(pool.submit(read_or_reason, path, size))
        if len(waiting) > ahead:
            bar.update()
            yield waiting.popleft().result()
    while waiting:
        bar.update()
        yield waiting.popleft().result()


def read_or_reason(path: str, size: int) -> tuple[SquareImage | None, str]:
    """(image, sha256 of its pixels) or (None, why it cannot be used)."""
    try:
        image = read_image(path, size)
    except DataError as error:
        return None, str(error)
    return image, hashlib.sha256(image.pixels.data).hexdigest()


def _write_shard(
    number: int, results: Iterable[tuple[SquareImage | None, str]], size: int, folder: Path
) -> None:
    """Writes the pixels, then their table: where the table stands, the shard is complete."""
    records: list[tuple[int | str, ...]] = []
    row = 0
    with whole_file(shard_file(folder, number)) as file:
        _write_header(file, row, size)
        for image, text in results:
            if image is None:
                records.append((number, -1, 0, 0, 0, 0, 0, 0, "", text))
                continue
            file.write(image.pixels.data)
            source = (image.source_height, image.source_width)
            records.append((number, row, *source, *image.box, text, ""))
            row += 1
        file.seek(0)
        _write_header(file, row, size)
    write_table(pd.DataFrame(records, columns=STORED), shard_table(folder, number))


def _write_header(file: Any, rows: int, size: int) -> None:
    """What `np.save` writes first; of one length, whatever the number of rows."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (rows, size, size)}
    np.lib.format.write_array_header_1_0(file, header)
