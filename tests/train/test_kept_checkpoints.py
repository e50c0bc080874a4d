"""Which checkpoints stay beside the newest, and which one a run goes on from."""

import errno
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from localmi import files
from localmi.errors import CheckpointError
from localmi.train.checkpoint import (
    load_checkpoint,
    load_last_whole,
    read_state,
    save_checkpoint,
)
from localmi.train.checkpoint_files import by_age, kept_before


def state_of(step: int) -> dict[str, Any]:
    """A small checkpoint that tells its step twice."""
    weights = torch.full((30, 30), float(step))
    return {"config": {}, "data_hash": "", "step": step, "critic": {"weight": weights}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "checkpoint.pt"


@pytest.fixture
def saved(path: Path) -> Callable[..., Path]:
    """Saves these steps, one after the other."""
    path.parent.mkdir()

    def save(*steps: int, keep: int = 2) -> Path:
        for step in steps:
            save_checkpoint(state_of(step), path, keep=keep)
        return path

    return save


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


def assert_is(state: dict[str, Any], step: int) -> None:
    assert state["step"] == step
    assert torch.equal(state["critic"]["weight"], state_of(step)["critic"]["weight"])


# --- What is kept -----------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_last_are_kept_by_their_step(saved, keep: int) -> None:
    steps = [500, 1000, 1500, 1_000_000, 12_000_000]
    path = saved(*steps, keep=keep)
    before = steps[-keep:-1]
    assert names(path) == [*(f"checkpoint-{step:06d}.pt" for step in before), path.name]
    assert list(kept_before(path)) == before[::-1]
    for file, step in zip(by_age(path), steps[::-1], strict=False):
        assert_is(load_checkpoint(file), step)


def test_the_one_before_is_not_copied(saved) -> None:
    path = saved(1)
    node = path.stat().st_ino
    assert kept_before(saved(2))[1].stat().st_ino == node


def test_a_disk_without_links(saved, monkeypatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    path = saved(1, 2, 3)
    assert names(path) == ["checkpoint-000002.pt", "checkpoint.pt"]
    assert_is(load_checkpoint(path), 3)
    assert_is(load_checkpoint(kept_before(path)[2]), 2)


def test_files_of_other_names_stay(saved) -> None:
    path = saved(1)
    others = ["checkpoint-best.pt", "checkpoint-12.pt", "checkpoint-000009.pt.txt", "a.pt"]
    for name in [*others, "other-000001.pt", "my checkpoint-000001.pt"]:
        (path.parent / name).touch()
    before = set(names(path))
    saved(2, 3)
    assert set(names(path)) == before | {"checkpoint-000002.pt"}


def test_nothing_goes_where_the_newest_cannot_be_opened(saved, monkeypatch) -> None:
    """A disk that loses what it has taken."""
    path = saved(1, 2)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", lambda _, file: file.write(b"half"))
        saved(3)
    assert names(path) == ["checkpoint-000001.pt", "checkpoint-000002.pt", "checkpoint.pt"]
    assert_is(load_last_whole(path)[0], 2)
    saved(4)
    assert names(path) == ["checkpoint-000002.pt", "checkpoint.pt"]


def test_of_a_run_that_begins_anew_in_the_folder_nothing_later_stays(saved) -> None:
    path = saved(5, 6, 1)
    assert names(path) == [path.name]
    saved(2, 2)
    assert names(path) == ["checkpoint-000001.pt", path.name]


# --- Damage -----------------------------------------------------------------------------------


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 255
    path.write_bytes(data)


def a_weight(path: Path) -> int:
    """Where in a file a weight stands."""
    weights = read_state(path)["critic"]["weight"].numpy().tobytes()
    return path.read_bytes().index(weights) + 1000


DAMAGE: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: os.truncate(path, path.stat().st_size - 30),
    "half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "flipped": lambda path: flip(path, a_weight(path)),
    "empty": lambda path: os.truncate(path, 0),
}


def damage(path: Path, how: str) -> bytes:
    """Damages this file alone; what it then holds."""
    DAMAGE[how](path)
    return path.read_bytes()


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_newest_one_falls_back_and_says_so(saved, capsys, how: str) -> None:
    path = saved(500, 1000)
    left = damage(path, how)
    state, found = load_last_whole(path)
    assert_is(state, 500)
    assert found.name == "checkpoint-000500.pt"
    said = capsys.readouterr().out
    assert said == (
        "Damaged: checkpoint.pt. The run goes on from the checkpoint before, of step 500: "
        "checkpoint-000500.pt.\n"
    )
    assert path.read_bytes() == left  # to look does not change it


def test_a_whole_newest_one_is_not_spoken_of(saved, capsys) -> None:
    path = saved(1, 2)
    assert load_last_whole(path)[0]["step"] == 2
    assert capsys.readouterr().out == ""


def test_a_kill_that_left_only_the_one_before(saved, capsys) -> None:
    path = saved(1, 2)
    path.unlink()
    assert_is(load_last_whole(path)[0], 1)
    assert "There is no checkpoint.pt. The run goes on" in capsys.readouterr().out


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_one_goes_only_when_a_good_one_stands(saved, monkeypatch, how: str) -> None:
    """And it is not kept in the place of the one that the run fell back to."""
    path = saved(500, 1000)
    left = damage(path, how)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(CheckpointError):
            saved(700)
    assert path.read_bytes() == left
    saved(1500)
    assert names(path) == ["checkpoint-000500.pt", path.name]
    assert_is(load_checkpoint(path), 1500)


@pytest.mark.parametrize(("one", "other"), [("half", "flipped"), ("empty", "truncated")])
def test_two_damaged(saved, capsys, one: str, other: str) -> None:
    path = saved(1, 2, 3, keep=3)
    damage(path, one)
    damage(kept_before(path)[2], other)
    assert_is(load_last_whole(path)[0], 1)
    assert "Damaged: checkpoint.pt, checkpoint-000002.pt. " in capsys.readouterr().out
    damage(kept_before(path)[1], one)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt cannot be read.*damaged"):
        load_last_whole(path)


def test_a_flipped_byte_anywhere_never_stops_a_run(saved) -> None:
    """It goes on from one of the two, and every weight is right."""
    path = saved(1, 2)
    whole = path.read_bytes()
    drawn = random.Random(0).sample(range(len(whole)), 250)
    fell_back = 0
    for place in [*drawn, *range(60), *range(len(whole) - 60, len(whole))]:
        flip(path, place)
        state, found = load_last_whole(path)
        assert_is(state, 2 if found == path else 1)
        fell_back += found != path
        path.write_bytes(whole)
    assert fell_back > 250


def test_readers_refuse_a_damaged_one_and_name_the_one_before(saved) -> None:
    path = saved(1, 2)
    damage(path, "flipped")
    with pytest.raises(CheckpointError) as caught:
        read_state(path)
    assert "cannot be read (ValueError): it is damaged" in str(caught.value)
    assert f"The one before it is whole: {kept_before(path)[1]}." in str(caught.value)
    path.unlink()
    with pytest.raises(CheckpointError, match="No checkpoint.*before it is whole.*000001"):
        read_state(path)
    damage(kept_before(path)[1], "half")
    with pytest.raises(CheckpointError) as caught:
        read_state(path)
    assert "whole" not in str(caught.value)


# --- Patience ---------------------------------------------------------------------------------


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has such a disk")
@pytest.mark.parametrize("size", [1, 300_000])
def test_a_disk_that_is_full_for_a_while(saved, capsys, size: int) -> None:
    """The first try writes to a device that is always full; then that is gone."""
    path = saved(1)
    path.with_name("checkpoint.pt.tmp").symlink_to("/dev/full")
    state = state_of(2) | {"weight": torch.ones(size)}
    save_checkpoint(state, path)
    assert torch.equal(load_checkpoint(path)["weight"], state["weight"])
    assert capsys.readouterr().out == (
        "checkpoint.pt could not be written: [Errno 28] No space left on device. "
        "Another try in 0 s.\n"
    )
    assert names(path) == ["checkpoint-000001.pt", path.name]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("tries", [1, 2, 3])
def test_what_may_pass_is_tried_again(saved, monkeypatch, capsys, code: int, tries: int) -> None:
    path, fsync, left = saved(1), os.fsync, [tries]

    def fails(file: int) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(code, os.strerror(code))
        fsync(file)

    monkeypatch.setattr(os, "fsync", fails)
    if tries > len(files.WAITS):
        with pytest.raises(CheckpointError, match="could not be written.*before it is untouched"):
            saved(2)
        assert_is(load_checkpoint(path), 1)
    else:
        assert_is(load_checkpoint(saved(2)), 2)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == min(tries, len(files.WAITS))
    assert all(os.strerror(code) in line for line in said)


def test_what_will_not_pass_is_not_tried_again(saved, monkeypatch, capsys) -> None:
    path = saved(1)

    def forbidden(*_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "fsync", forbidden)
    with pytest.raises(CheckpointError, match="Permission denied"):
        saved(2)
    assert capsys.readouterr().out == ""
    assert_is(load_checkpoint(path), 1)


# --- Kills ------------------------------------------------------------------------------------

# One process imports torch; each of its children saves, is killed, and is looked after.
AT_RANDOM = """
import os, random, signal, sys, time
from pathlib import Path
import torch
from localmi.train.checkpoint import load_last_whole, save_checkpoint
from localmi.train.checkpoint_files import by_age, is_whole

path, kills = Path(sys.argv[1]), int(sys.argv[2])
draw = random.Random(0)
last = 0  # the last save that a killed process has finished
for kill in range(kills):
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        step = load_last_whole(path)[0]["step"] if by_age(path) else 0
        while True:
            step += 1
            state = {"config": {}, "data_hash": "", "step": step, "w": torch.full((99, 99), step)}
            save_checkpoint(state, path)
            os.write(write, b"%09d" % step)
    os.close(write)
    said = os.read(read, 9)  # it is under way
    time.sleep(draw.uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while more := os.read(read, 9):
        said = more
    os.close(read)
    assert int(said) > last
    last = int(said)
    state, found = load_last_whole(path)
    assert found == path and last <= state["step"] <= last + 1, (found, last, state["step"])
    assert bool((state["w"] == state["step"]).all())
    assert len(by_age(path)) <= 3 and all(map(is_whole, by_age(path)))
print("killed", kills)
"""
EVERYWHERE = """
import os, signal, sys
from pathlib import Path
import torch
from localmi.train.checkpoint import load_last_whole, save_checkpoint
from localmi.train.checkpoint_files import kept_before

CALLS = {"open", "os.link", "os.rename", "os.remove", "os.scandir", "os.listdir"}
path = Path(sys.argv[1])
if "without links" in sys.argv:

    def refuse(*_):
        raise PermissionError

    os.link = refuse
save = lambda step: save_checkpoint({"config": {}, "data_hash": "", "step": step}, path)
for step in (1, 2, 3):
    save(step)
for last in range(1000):
    child = os.fork()
    if child == 0:
        left = last

        def hook(event, _):
            global left
            if event in CALLS:
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1

        sys.addaudithook(hook)
        save(step + 1)
        left = -1
        os._exit(0)
    killed = os.waitpid(child, 0)[1] != 0
    found, _ = load_last_whole(path)
    assert step <= found["step"] <= step + 1, (last, step, found["step"])
    if not killed:
        assert list(kept_before(path)) == [step] and found["step"] == step + 1
        break
    step = found["step"]
print("killed", last)
"""


def killed(program: str, path: Path, *words: str) -> int:
    """How often a child of this program was killed."""
    path.parent.mkdir()
    found = subprocess.run(
        [sys.executable, "-c", program, str(path), *words], capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    return int(found.stdout.split()[-1])


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="not on Windows")


@needs_fork
@pytest.mark.slow
def test_kills_at_random_moments_cost_one_save_at_most(path: Path) -> None:
    assert killed(AT_RANDOM, path, "40") == 40


@needs_fork
@pytest.mark.slow
@pytest.mark.parametrize("disk", ["with links", "without links"])
def test_a_kill_before_each_call_of_the_system(path: Path, disk: str) -> None:
    assert killed(EVERYWHERE, path, disk) >= 6
