"""Images as rows of uint8 files, written shard by shard; `image_rows` reads them.

Taught in 13_preparing_mimic_cxr.
"""

import hashlib
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
from localmi.errors import DataError
from localmi.files import whole_file, write_table

BOX = ["box_left", "box_top", "box_width", "box_height"]
STORED = ["shard", "row", "source_height", "source_width", *BOX, "sha256", "reason"]


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
