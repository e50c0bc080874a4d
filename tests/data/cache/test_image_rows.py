"""Images while they are read: shards that go, come back, or are cut short in mid-run."""

import errno
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from localmi import files
from localmi.data.cache import image_rows
from localmi.data.cache.cache import open_cache
from localmi.data.cache.image_rows import ImageRows
from localmi.data.cache.shards import shard_file
from localmi.errors import DataError

ROWS = 5  # of each of two shards
EVERY = np.arange(2 * ROWS)


@pytest.fixture
def pixels() -> np.ndarray:
    """[10, 16, 16]."""
    return np.random.default_rng(0).integers(0, 256, (2 * ROWS, 16, 16), np.uint8)


@pytest.fixture
def rows(tmp_path: Path, pixels: np.ndarray) -> ImageRows:
    """These images in two shards."""
    for number, part in enumerate(np.split(pixels, 2)):
        np.save(shard_file(tmp_path, number), part)
    return ImageRows(tmp_path, *np.divmod(EVERY, ROWS))


@pytest.fixture
def while_waiting(monkeypatch) -> Callable[[Callable[[], object]], list[float]]:
    """Has something happen in the second wait; gives what was waited."""

    def put(happens: Callable[[], object]) -> list[float]:
        waits: list[float] = []

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 2:
                happens()

        monkeypatch.setattr(files.time, "sleep", sleep)
        return waits

    return put


def elsewhere(rows: ImageRows) -> ImageRows:
    """What a new worker process has: no file is open."""
    sent: ImageRows = pickle.loads(pickle.dumps(rows))
    return sent


@pytest.mark.parametrize("preadv", [True, False])
def test_rows_are_read_as_an_array_gives_them(
    rows: ImageRows, pixels: np.ndarray, monkeypatch, preadv: bool
) -> None:
    """On Windows too, which lacks the one call."""
    monkeypatch.setattr(image_rows, "PREADV", preadv and image_rows.PREADV)
    for index in (3, np.int64(7), -1, [8, 1, 1], slice(2, 9, 3), EVERY % 2 == 0, [], EVERY[::-1]):
        np.testing.assert_array_equal(rows[index], pixels[index], strict=True)
        np.testing.assert_array_equal(elsewhere(rows)[index], pixels[index], strict=True)
    assert len(elsewhere(rows)) == len(pixels)
    with pytest.raises(IndexError):
        rows[10]


def test_the_process_that_reads_a_shard_goes_on_where_it_is_deleted(
    rows: ImageRows, pixels: np.ndarray, tmp_path: Path, capsys
) -> None:
    shard_file(tmp_path, 1).unlink()
    np.testing.assert_array_equal(rows[EVERY], pixels)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("fault", ["deleted", "folder away", "cut", "no header", "empty"])
def test_a_shard_that_comes_back_is_read(
    rows: ImageRows, pixels: np.ndarray, tmp_path: Path, while_waiting, capsys, fault: str
) -> None:
    file, away = shard_file(tmp_path, 1), tmp_path.with_name(f"{tmp_path.name} away")
    whole = file.read_bytes()
    if fault == "deleted":
        file.unlink()
    elif fault == "folder away":
        tmp_path.rename(away)
    else:
        file.write_bytes({"cut": whole[:-300], "no header": whole[:20], "empty": b""}[fault])
    waits = while_waiting(
        lambda: away.rename(tmp_path) if fault == "folder away" else file.write_bytes(whole)
    )
    reader = rows if fault in ("cut", "empty") else elsewhere(rows)
    np.testing.assert_array_equal(reader[EVERY], pixels)
    assert len(waits) == 2
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 2
    missing = shard_file(tmp_path, 0 if fault == "folder away" else 1)
    assert all(str(missing) in line and "Images could not be read" in line for line in said)


@pytest.mark.parametrize("fault", ["deleted", "cut", "other rows", "floats"])
def test_a_shard_that_does_not_come_back_is_named(
    rows: ImageRows, tmp_path: Path, fault: str
) -> None:
    file = shard_file(tmp_path, 1)
    if fault == "deleted":
        file.unlink()
    elif fault == "cut":
        os.truncate(file, file.stat().st_size - 300)
    else:
        np.save(file, np.zeros((2, 16, 16), np.uint8 if fault == "other rows" else float))
    reader = rows if fault == "cut" else elsewhere(rows)
    with pytest.raises(DataError) as caught:
        reader[EVERY]
    said = str(caught.value)
    assert str(file) in said
    assert "put the file back" in said
    assert "goes on with --resume" in said
    assert len(reader[[0, 4]]) == 2  # the other shard is there


def test_a_disk_that_fails_while_reading(
    rows: ImageRows, pixels: np.ndarray, monkeypatch, capsys
) -> None:
    """As a folder of the network does; through a memory map it would be a signal."""
    if not image_rows.PREADV:
        pytest.skip("not on Windows")
    real, left = os.preadv, [2]

    def fails(*call: Any) -> int:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(errno.ESTALE, "Stale file handle")
        return real(*call)

    monkeypatch.setattr(os, "preadv", fails)
    np.testing.assert_array_equal(rows[EVERY], pixels)
    assert capsys.readouterr().out.count("Stale file handle") == 2
    left[0] = 99
    with pytest.raises(DataError, match=r"Stale file handle.*shard-00000\.npy"):
        rows[0]


def test_at_the_start_nobody_waits(rows: ImageRows, tiny_cache, while_waiting, tmp_path) -> None:
    waits = while_waiting(lambda: None)
    shard_file(tmp_path, 1).unlink()
    with pytest.raises(FileNotFoundError):
        ImageRows(tmp_path, *np.divmod(EVERY, ROWS))
    assert waits == []


def test_a_cache_that_is_away_is_not_called_damaged(tiny_cache, monkeypatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(np, "load", fails)
    with pytest.raises(DataError, match="cannot be reached: .*Stale file handle") as caught:
        open_cache(tiny_cache.folder)
    assert "elete" not in str(caught.value)


CUT_SHORT = """
import os, sys
import numpy as np
from localmi import files
from localmi.data.cache.image_rows import ImageRows
from localmi.data.cache.shards import shard_file
from pathlib import Path

files.WAITS = ()
rows = ImageRows(Path(sys.argv[1]), *np.divmod(np.arange(10), 5))
os.truncate(shard_file(Path(sys.argv[1]), 1), 200)
rows[:]
"""
WORKER = """
import sys
import numpy as np
from localmi import files
from localmi.data.batches import SplitData, TrainingBatches
from localmi.data.cache.cache import open_cache
from localmi.data.cache.shards import shard_file
from pathlib import Path

files.WAITS = (0,)  # in a worker too, which reads this file as well
if __name__ == "__main__":
    cache = open_cache(sys.argv[1])
    batches = TrainingBatches(SplitData(cache, "train"), size=3, seed=0)
    shard_file(cache.folder, 0).rename(sys.argv[2])
    list(batches.steps(0, 2, workers=1))
"""


def test_a_shard_that_is_cut_short_ends_no_process_without_a_word(
    rows: ImageRows, tmp_path: Path
) -> None:
    """Through a memory map it is signal 7."""
    ended = subprocess.run(
        [sys.executable, "-c", CUT_SHORT, str(tmp_path)], capture_output=True, text=True
    )
    assert ended.returncode == 1
    assert "shorter than" in ended.stderr
    assert "DataError: Images cannot be read any more" in ended.stderr
    assert "shard-00001.npy" in ended.stderr


@pytest.mark.slow
def test_a_worker_process_names_the_shard_that_is_away(tiny_cache, tmp_path: Path) -> None:
    """It tries again by itself; its error reaches the run as what it is."""
    (tmp_path / "program.py").write_text(WORKER)
    moved = tmp_path / "moved.npy"
    try:
        ended = subprocess.run(
            [sys.executable, tmp_path / "program.py", tiny_cache.folder, moved],
            capture_output=True,
            text=True,
        )
    finally:
        moved.rename(shard_file(tiny_cache.folder, 0))
    assert ended.returncode == 1
    assert "Images could not be read: [Errno 2] No such file" in ended.stdout
    raised = [line for line in ended.stderr.splitlines() if "localmi.errors.DataError" in line]
    assert "Images cannot be read any more: [Errno 2] No such file" in raised[-1]
    assert "shard-00000.npy" in raised[-1]
