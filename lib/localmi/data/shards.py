"""Images as rows of uint8 files: written shard by shard, read through memory maps.

Taught in 05_radiographs_and_reports.
"""

import hashlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from localmi.data.images import SquareImage, read_image
from localmi.errors import DataError

BOX = ["box_left", "box_top", "box_width", "box_height"]
STORED = ["shard", "row", "source_height", "source_width", *BOX, "sha256", "reason"]


class ImageRows:
    """The images of a cache, read from disk when asked for: `rows[3]`, `rows[[3, 5]]`, `rows[:9]`.

    An integer gives uint8 [S, S]; whatever else indexes an array gives uint8 [n, S, S].

    Args:
        folder: of the shards.
        shard, row: [images] the number of each image's shard, and its row there.

    Raises:
        IndexError: no such image.
        ValueError, OSError: a shard is missing, damaged, or of another length.
    """

    def __init__(self, folder: Path, shard: np.ndarray, row: np.ndarray) -> None:
        self._shard, self._row = shard, row
        self._pixels = {}
        for number, count in zip(*np.unique(shard, return_counts=True), strict=True):
            file = shard_file(folder, number)
            self._pixels[number] = np.load(file, mmap_mode="r")
            if len(self._pixels[number]) != count:
                raise ValueError(f"{file.name} has not the {count} rows of the manifest")

    def __len__(self) -> int:
        return len(self._row)

    def __getitem__(self, index: Any) -> np.ndarray:
        shard, row = self._shard[index], self._row[index]
        if np.ndim(row) == 0:
            return np.array(self._pixels[shard][row])
        images = np.empty((len(row), *self._pixels[self._shard[0]].shape[1:]), np.uint8)
        for number in np.unique(shard):
            here = shard == number
            images[here] = self._pixels[number][row[here]]
        return images


def shard_file(folder: Path, number: int) -> Path:
    """The file of a shard."""
    return folder / f"shard-{number:05d}.npy"


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
    """
    tables = []
    with (
        tqdm(total=len(images), desc="images", unit="image", disable=not progress) as bar,
        ThreadPoolExecutor(workers) as pool,
    ):
        for number, start in enumerate(range(0, len(images), shard_rows)):
            done = folder / f"shard-{number:05d}.parquet"
            paths = images[start : start + shard_rows]
            if not done.is_file():
                read = pool.map(partial(_read, size=size), paths)
                _write_shard(number, _counted(read, bar), len(paths), size, done)
            else:
                bar.update(len(paths))
            tables.append(pd.read_parquet(done))
    return pd.concat(tables, ignore_index=True)


def _read(path: str, size: int) -> tuple[SquareImage | None, str]:
    """(image, sha256 of its pixels) or (None, why it cannot be used)."""
    try:
        image = read_image(path, size)
    except DataError as error:
        return None, str(error)
    return image, hashlib.sha256(image.pixels.tobytes()).hexdigest()


def _counted(results: Iterator[Any], bar: tqdm) -> Iterator[Any]:
    for result in results:
        bar.update()
        yield result


def _write_shard(
    number: int,
    results: Iterator[tuple[SquareImage | None, str]],
    count: int,
    size: int,
    done: Path,
) -> None:
    """Writes the pixels, then their table: where the table stands, the shard is complete."""
    pixels = np.empty((count, size, size), np.uint8)
    records: list[tuple[int | str, ...]] = []
    row = 0
    for image, text in results:
        if image is None:
            records.append((number, -1, 0, 0, 0, 0, 0, 0, "", text))
            continue
        pixels[row] = image.pixels
        records.append(
            (number, row, image.source_height, image.source_width, *image.box, text, "")
        )
        row += 1
    np.save(shard_file(done.parent, number), pixels[:row])
    unfinished = done.with_suffix(".tmp")
    pd.DataFrame(records, columns=STORED).to_parquet(unfinished)
    unfinished.replace(done)
