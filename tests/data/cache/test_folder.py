"""Whatever happens to a build, the next call makes the cache that an undisturbed one makes."""

import errno
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from PIL import Image

from localmi.data.cache import shards
from localmi.data.cache.cache import Cache, build_cache, open_cache
from localmi.data.sources.pairs import Pairs
from localmi.data.tables import REJECTED_COLUMNS
from localmi.errors import ConfigError, DataError, StudyLeakError

OPERATIONS = ("fsync", "link", "mkdir", "rename", "replace", "rmdir", "unlink")


class Killed(BaseException):
    """Nothing catches it, and nothing happens on the disk after it."""


def make_pairs(
    folder: Path, *, seed: int = 0, size: int = 12, count: int = 4, report: str = "Clear."
) -> Pairs:
    """Images of noise, each of its own patient; half in train."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        path = folder / f"{seed}-{number}.png"
        if not path.exists():
            Image.fromarray(rng.integers(0, 256, (size, size), np.uint8)).save(path)
        split = ("train", "train", "validate", "test")[number % 4]
        ids = (f"image-{number}", f"study-{number}", f"patient-{number}")
        rows.append((*ids, str(path), report, "AP", split))
    columns = ["image_id", "study_id", "patient_id", "image", "report", "view", "split"]
    return Pairs(pd.DataFrame(rows, columns=columns), pd.DataFrame(columns=REJECTED_COLUMNS), "x")


def build(pairs: Pairs, folder: Path, *, image_size: int = 12, **settings: Any) -> Cache:
    return build_cache(pairs, folder, image_size=image_size, shard_rows=2, **settings)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@contextmanager
def failing(at: int, error: BaseException) -> Iterator[list[str]]:
    """Raises `error` in place of the operation number `at` on the disk, and of all that follow."""
    done: list[str] = []

    def wrapped(name: str, original: Callable) -> Callable:
        def operation(*arguments: object, **keywords: object) -> object:
            if len(done) >= at:
                raise error
            done.append(name)
            return original(*arguments, **keywords)

        return operation

    with pytest.MonkeyPatch.context() as patch:
        for name in OPERATIONS:
            patch.setattr(os, name, wrapped(name, getattr(os, name)))
        yield done


def count_operations(pairs: Pairs, folder: Path) -> int:
    with failing(10**9, Killed()) as done:
        build(pairs, folder)
    return len(done)


def kill_at(
    numbers: range, tmp_path: Path, pairs: Pairs, *, old: Pairs | None, then: Pairs
) -> None:
    """Of `pairs` killed before each of these operations, then `then`: as if nothing had been."""
    expected = content(build(then, tmp_path / "undisturbed").folder)
    for number in numbers:
        folder = tmp_path / f"cache-{number}"
        known = {build(old, folder).data_hash} if old else set()
        with pytest.raises(Killed), failing(number, Killed()):
            build(pairs, folder)
        if (folder / "meta.json").exists():  # the old cache or the new one, and whole
            known.add(build(pairs, tmp_path / "known").data_hash)
            assert open_cache(folder).data_hash in known
        begun = content(folder) != expected if folder.exists() else True
        assert content(build(then, folder).folder) == expected, number
        assert not (begun and (tmp_path / f"cache-{number}.partial").exists())


def test_a_kill_before_some_operations_on_the_disk(tmp_path: Path) -> None:
    pairs = make_pairs(tmp_path / "in")
    operations = count_operations(pairs, tmp_path / "counted")
    assert operations > 20
    kill_at(range(1, operations, 7), tmp_path, pairs, old=None, then=pairs)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "afterwards"),
    [
        ("nothing", "the same"),
        ("other images", "the same"),
        ("other reports", "the same"),
        ("other reports", "other images"),
    ],
)
def test_a_kill_before_every_operation_on_the_disk(
    tmp_path: Path, before: str, afterwards: str
) -> None:
    pairs, other = make_pairs(tmp_path / "in"), make_pairs(tmp_path / "in", seed=1)
    reports = make_pairs(tmp_path / "in", report="No edema.")
    old = {"nothing": None, "other images": other, "other reports": reports}[before]
    if old:
        build(old, tmp_path / "counted")
    operations = count_operations(pairs, tmp_path / "counted")
    then = pairs if afterwards == "the same" else other
    kill_at(range(operations), tmp_path, pairs, old=old, then=then)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_for_real_at_random_moments(tmp_path: Path) -> None:
    """Seven runs of the command, each killed at a random moment; then one is left to end."""
    pairs = make_pairs(tmp_path / "in", size=500, count=400)
    pairs.table.to_csv(tmp_path / "pairs.csv", index=False)

    def command(out: str) -> list[str]:
        words = [
            "prepare",
            "--data-dir",
            str(tmp_path / "pairs.csv"),
            "--out",
            str(tmp_path / out),
        ]
        return [sys.executable, "-c", SMALL_SHARDS, *words, "--image-size", "200"]

    def tables() -> int:
        return len(list(tmp_path.glob("killed.partial/*.parquet")))

    rng, seen = np.random.default_rng(), set()
    for target in (0, 1, 6, 12, 18, 24, 26):  # of 25 shards and three tables
        with subprocess.Popen(
            command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            while tables() < target and process.poll() is None:
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.05))  # not always right behind a table
            process.kill()
        seen.add(tables())
    for out in ("killed", "undisturbed"):
        subprocess.run(command(out), check=True, capture_output=True)
    assert content(tmp_path / "killed") == content(tmp_path / "undisturbed")
    assert len(seen) > 2  # the kills met the work in different states


SMALL_SHARDS = """
import functools, sys
from localmi.data.cache import prepare as preparation
from localmi.__main__ import app
preparation.build_cache = functools.partial(preparation.build_cache, shard_rows=16)
sys.exit(app())
"""


def test_new_reports_and_labels_decode_no_image_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = make_pairs(tmp_path / "in")
    first = build(pairs, tmp_path / "cache")
    pairs.table["edema"] = [0, 1, 0, 1]
    pairs.table.loc[:, "report"] = "No edema."
    fresh = build(pairs, tmp_path / "fresh")
    monkeypatch.setattr(shards, "read_image", None)
    again = build(pairs, tmp_path / "cache")
    assert again.data_hash != first.data_hash
    assert content(again.folder) == content(fresh.folder)


def test_without_links_images_are_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    pairs = make_pairs(tmp_path / "in")
    build(pairs, tmp_path / "cache")
    pairs.table["edema"] = 1
    monkeypatch.setattr(os, "link", refuse)
    assert build(pairs, tmp_path / "cache").manifest["edema"].tolist() == [1, 1, 1, 1]


def test_copies_are_refused_after_decoding_and_then_rejected_quickly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = make_pairs(tmp_path / "in")
    images = [Path(path) for path in pairs.table["image"]]
    images[0].write_bytes(images[3].read_bytes())  # train = test
    images[1].write_bytes(images[2].read_bytes())  # train = validate
    with pytest.raises(StudyLeakError, match='identical pixels.*image-0 = image-3.*"reject"'):
        build(pairs, tmp_path / "cache")
    monkeypatch.setattr(shards, "read_image", None)  # the shards are there
    cache = build(pairs, tmp_path / "cache", leaks="reject")
    assert cache.manifest["image_id"].tolist() == ["image-2", "image-3"]
    assert cache.manifest["index_in_cache"].tolist() == [0, 1]
    assert cache.rejected.to_numpy().tolist() == [
        ["image-0", "study-0", "the same pixels as an image in test"],
        ["image-1", "study-1", "the same pixels as an image in validate"],
    ]
    for row, number in enumerate((2, 3)):
        np.testing.assert_array_equal(cache.images[row], np.asarray(Image.open(images[number])))
    with pytest.raises(ConfigError, match="Unknown value of leaks .*; known are refuse, reject"):
        build(pairs, tmp_path / "cache", leaks="ignore")


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (errno.ENOSPC, "Make room"),
        (errno.EROFS, "folder of your own"),
        (errno.EIO, "Look after the disk"),
    ],
)
def test_an_error_of_the_disk_stops_and_keeps_what_is_done(
    tmp_path: Path, code: int, advice: str
) -> None:
    pairs = make_pairs(tmp_path / "in")
    expected = content(build(pairs, tmp_path / "undisturbed").folder)
    operations = count_operations(pairs, tmp_path / "counted")
    for number in range(0, operations, 5):
        folder = tmp_path / f"cache-{number}"
        with (
            pytest.raises(DataError, match=f"{os.strerror(code)}.*{advice}.*What is done is kept"),
            failing(number, OSError(code, os.strerror(code))),
        ):
            build(pairs, folder)
        assert content(build(pairs, folder).folder) == expected, number


def test_a_full_disk_in_the_middle_of_a_shard(tmp_path: Path) -> None:
    """For real: this process may write no file of more than 4 kB for a while."""
    resource = pytest.importorskip("resource")
    pairs = make_pairs(tmp_path / "in", size=40)
    expected = content(build(pairs, tmp_path / "undisturbed", image_size=40).folder)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(DataError, match=f"{os.strerror(errno.EFBIG)}.*Make room"):
            build(pairs, tmp_path / "cache", image_size=40)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not (tmp_path / "cache").exists()
    assert content(build(pairs, tmp_path / "cache", image_size=40).folder) == expected


def test_a_failing_disk_of_images_rejects_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs, opened = make_pairs(tmp_path / "in"), Image.open

    def stale(path: str) -> Image.Image:
        if "0-2" in str(path):
            raise OSError(errno.ESTALE, "Stale file handle")
        return opened(path)

    monkeypatch.setattr(Image, "open", stale)
    with pytest.raises(DataError, match=r"Stale file handle: .*0-2\.png.*Look after the disk"):
        build(pairs, tmp_path / "cache")
    monkeypatch.undo()
    assert build(pairs, tmp_path / "cache").rejected.empty


def test_of_two_at_once_the_second_is_told(tmp_path: Path) -> None:
    pairs = make_pairs(tmp_path / "in")
    with (
        FileLock(tmp_path / "cache.lock"),
        pytest.raises(DataError, match="Another process is preparing the cache in .*Wait until"),
    ):
        build(pairs, tmp_path / "cache", wait=False)
    assert len(build(pairs, tmp_path / "cache", wait=False).images) == 4


def test_a_folder_that_cannot_be_renamed_is_refused_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "disk")
    with pytest.raises(DataError, match="disk is where a disk is mounted. Use a folder inside"):
        build(make_pairs(tmp_path / "in"), tmp_path / "disk")


def test_memory_does_not_hold_a_shard(tmp_path: Path) -> None:
    """The pixels of the shard are 16 times what may be allocated."""
    pairs = make_pairs(tmp_path / "in", size=64, count=512)
    tracemalloc.start()
    try:
        table = shards.write_shards(
            pairs.table["image"].tolist(),
            tmp_path,
            size=256,
            shard_rows=512,
            workers=2,
            progress=False,
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert table["row"].tolist() == list(range(512))
    assert peak < 512 * 256**2 / 16 + 1e6


def test_a_streamed_shard_is_what_numpy_writes(tmp_path: Path) -> None:
    cache = build(make_pairs(tmp_path / "in"), tmp_path / "cache")
    np.save(tmp_path / "whole.npy", cache.images[:2])
    streamed = (cache.folder / "shard-00000.npy").read_bytes()
    assert streamed == (tmp_path / "whole.npy").read_bytes()
