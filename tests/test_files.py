"""Files are whole or not there, whatever happens while they are written."""

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from places import ROOT

from localmi import errors, files
from localmi.files import (
    ASIDE,
    REPOSITORY,
    append_text,
    file_hash,
    kept_array,
    kept_rows,
    patiently,
    whole_file,
    write_json,
    write_table,
    write_text,
)

REAL_WAITS = files.WAITS  # no test waits: see conftest


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_repository_is_this_one() -> None:
    assert REPOSITORY == ROOT


# --- whole_file ---------------------------------------------------------------------------------


def test_a_file_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(TypeError), whole_file(path) as file:
        file.writelines([b"half", None])  # type: ignore[list-item]
    assert path.read_text() == "old"
    with whole_file(path) as file:
        file.write(b"new")
    assert path.read_text() == "new"


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_what_fails_leaves_nothing_aside(
    tmp_path: Path, shared: bool, error: type[BaseException]
) -> None:
    def write() -> None:
        with whole_file(tmp_path / "file", shared=shared) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        write()
    assert names(tmp_path) == []


@pytest.mark.parametrize("operation", ["fsync", "replace"])
def test_a_full_disk_leaves_nothing_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    (tmp_path / "file").write_text("old")
    monkeypatch.setattr(os, operation, fail)
    with pytest.raises(OSError, match="disk full"), whole_file(tmp_path / "file") as file:
        file.write(b"new")
    assert names(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "none" / "file"):
        pass
    assert names(tmp_path) == []


def test_while_it_is_written_it_lies_aside(tmp_path: Path) -> None:
    with whole_file(tmp_path / "file.json"):
        assert names(tmp_path) == [f"file.json{ASIDE}"]
    assert names(tmp_path) == ["file.json"]


def test_two_processes_write_a_shared_file_aside_under_names_of_their_own(
    tmp_path: Path,
) -> None:
    """Even where both have one number, as in containers of two machines."""
    path = tmp_path / "file"
    with whole_file(path, shared=True) as first:
        first.write(b"first")
        with whole_file(path, shared=True) as second:
            second.write(b"second")
            assert len(names(tmp_path)) == 2
            assert all(name.endswith(ASIDE) for name in names(tmp_path))
        assert path.read_text() == "second"
    assert path.read_text() == "first"
    assert names(tmp_path) == ["file"]


# --- Text, JSON, tables, hashes -----------------------------------------------------------------


def test_text_and_json_are_written_as_they_are_read(tmp_path: Path) -> None:
    write_text("π\r\n", tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_bytes() == "π\r\n".encode()
    write_json({"a": [1, None]}, tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, None]}
    assert (tmp_path / "a.json").read_text().endswith("}\n")


def test_json_knows_no_number_that_is_not_finite(tmp_path: Path) -> None:
    write_json({"a": 1}, tmp_path / "a.json")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json({"a": float("nan")}, tmp_path / "a.json")
    assert names(tmp_path) == ["a.json"]
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}


def test_a_table_comes_back_without_its_index(tmp_path: Path) -> None:
    table = pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=[5, 7])
    write_table(table, tmp_path / "a.parquet")
    again = pd.read_parquet(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(again, table.reset_index(drop=True))
    assert names(tmp_path) == ["a.parquet"]


def test_the_hash_of_a_file_is_that_of_its_content(tmp_path: Path) -> None:
    content = os.urandom(300_000)  # more than is read at once
    (tmp_path / "file").write_bytes(content)
    assert file_hash(tmp_path / "file") == hashlib.sha256(content).hexdigest()


# --- Patience -----------------------------------------------------------------------------------


class Away:
    """Fails so many times."""

    def __init__(self, times: int, error: Exception) -> None:
        self.times, self.error, self.tries = times, error, 0

    def __call__(self) -> str:
        self.tries += 1
        if self.tries <= self.times:
            raise self.error
        return "here"


def full_disk() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


def test_what_fails_is_tried_again_for_about_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(files.time, "sleep", waits.append)
    monkeypatch.setattr(files, "WAITS", REAL_WAITS)
    assert patiently(Away(len(REAL_WAITS), full_disk()), "Not written") == "here"
    assert waits == sorted(waits)
    assert 50 < sum(waits) < 70
    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"Not written: [Errno 28] No space left on device. Another try in {wait} s."
        for wait in waits
    ]
    always = Away(99, full_disk())
    with pytest.raises(OSError, match="No space left"):
        patiently(always, "Not written")
    assert always.tries == len(REAL_WAITS) + 1


@pytest.mark.parametrize(
    "error",
    [PermissionError(errno.EACCES, "no"), FileNotFoundError(errno.ENOENT, "no"), ValueError()],
)
def test_other_errors_are_raised_at_once(error: Exception) -> None:
    work = Away(1, error)
    with pytest.raises(type(error)):
        patiently(work, "")
    assert work.tries == 1
    work = Away(1, error)
    assert patiently(work, "", may_pass=lambda found: found is error) == "here"
    with pytest.raises(KeyboardInterrupt):
        patiently(Away(1, KeyboardInterrupt()), "", may_pass=lambda _: True)  # type: ignore[arg-type]


def test_text_is_written_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.fsync
    away = Away(2, full_disk())
    monkeypatch.setattr(os, "fsync", lambda file: away() and real(file))
    write_json([1], tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == [1]
    assert away.tries == 3
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("part", [0, 3, 8])
@pytest.mark.parametrize("passes", [True, False])
def test_of_text_that_is_added_all_or_nothing_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int, passes: bool
) -> None:
    """The system itself refuses to let the file grow beyond a part of the text."""
    resource = pytest.importorskip("resource")  # not on Windows
    path = tmp_path / "log"
    append_text("first\n", path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def wait(_: float) -> None:
        assert path.read_text() == "first\n"
        if passes:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    monkeypatch.setattr(files.time, "sleep", wait)
    monkeypatch.setattr(errors, "MACHINE", {*errors.MACHINE, errno.EFBIG})  # what a limit gives
    resource.setrlimit(resource.RLIMIT_FSIZE, (6 + part, before[1]))
    try:
        with nullcontext() if passes else pytest.raises(OSError, match=r"File too large|No space"):
            append_text("second π\n", path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text(encoding="utf-8") == "first\n" + "second π\n" * passes


# --- kept_array ---------------------------------------------------------------------------------

Ask = Callable[..., tuple[np.ndarray, bool]]
ARRAY = np.arange(6.0).reshape(2, 3)


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Asks for the array of a file; what comes, and whether it was made."""

    def kept(path: Path = tmp_path / "kept" / "a.npy", rows: int = 2) -> tuple[np.ndarray, bool]:
        made: list[bool] = []

        def make() -> np.ndarray:
            made.append(True)
            return ARRAY

        return kept_array(path, lambda found: found.shape == (rows, 3), make), bool(made)

    return kept


def test_an_array_is_made_once(ask: Ask, tmp_path: Path) -> None:
    for is_made in (True, False, False):
        found, made = ask()
        assert made is is_made
        np.testing.assert_array_equal(found, ARRAY)
    assert names(tmp_path / "kept") == ["a.npy"]


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "other rows"])
def test_an_array_that_is_damaged_or_does_not_fit_is_made_anew(
    ask: Ask, tmp_path: Path, damage: str
) -> None:
    ask()
    file = tmp_path / "kept" / "a.npy"
    whole = file.read_bytes()
    if damage == "other rows":
        np.save(file, ARRAY[:1])
    else:
        file.write_bytes({"cut": whole[:-8], "empty": b"", "text": b"no array"}[damage])
    found, made = ask()
    assert made
    np.testing.assert_array_equal(found, ARRAY)
    assert file.read_bytes() == whole
    assert ask()[1] is False


def test_where_nothing_can_be_written_the_array_is_in_memory_alone(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "a.npy", tmp_path / "none" / "none" / "a.npy"):
        found, made = ask(path)
        assert made
        np.testing.assert_array_equal(found, ARRAY)
    assert names(tmp_path) == ["file"]

    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    assert ask()[1] is True
    assert names(tmp_path / "kept") == []


def test_an_error_of_what_makes_the_array_is_not_hidden(tmp_path: Path) -> None:
    def fail() -> np.ndarray:
        raise OSError("no model")

    with pytest.raises(OSError, match="no model"):
        kept_array(tmp_path / "kept" / "a.npy", lambda _: True, fail)
    assert names(tmp_path) == []


# --- kept_rows ----------------------------------------------------------------------------------


def rows(path: Path, *parts: np.ndarray) -> np.ndarray | None:
    """The rows of a file of float32 [3, 2], made of these parts."""
    return kept_rows(path, (3, 2), np.dtype(np.float32), lambda: iter(parts))


def test_rows_are_written_part_by_part_and_only_mapped(tmp_path: Path) -> None:
    path = tmp_path / "kept" / "a.npy"
    whole = np.arange(6.0).reshape(3, 2)
    found = rows(path, whole[:1], whole[1:])
    assert isinstance(found, np.memmap)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, whole)
    again = rows(path)  # nothing is made
    assert isinstance(again, np.memmap)
    np.testing.assert_array_equal(again, whole)
    np.save(path, whole)  # float64
    np.testing.assert_array_equal(rows(path, whole + 1), whole + 1)
    assert names(path.parent) == ["a.npy"]


def test_rows_that_cannot_be_written_leave_nothing(tmp_path: Path) -> None:
    def full() -> Iterator[np.ndarray]:
        yield np.zeros((1, 2))
        raise OSError(28, "disk full")

    path = tmp_path / "kept" / "a.npy"
    assert kept_rows(path, (3, 2), np.dtype(np.float32), full) is None
    assert names(path.parent) == []
    assert rows(tmp_path / "no" / "kept" / "a.npy", np.zeros((3, 2))) is None
