"""Checkpoints that a thread writes while the steps go on: of the step that was saved, and whole
before anybody says so."""

import errno
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from identical import assert_identical

from localmi.data.batches import SplitData
from localmi.data.cache.cache import Cache
from localmi.errors import CheckpointError, NotFiniteError, StoppedError
from localmi.processes import Processes
from localmi.record import MetricsLog
from localmi.train.checkpoint import load_checkpoint
from localmi.train.checkpoint_files import CHECKPOINT, is_whole, kept_before
from localmi.train.checkpoint_writer import on_host
from localmi.train.loop import fit
from localmi.train.pretraining import Pretraining

FULL = OSError(errno.ENOSPC, "No space left on device")
SAVE = torch.save


@pytest.fixture
def validate(tiny_cache: Cache) -> SplitData:
    return SplitData(tiny_cache, "validate")


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], Any]], None]:
    """Calls something once so many steps are done, before the loop hears of it."""
    run = Pretraining.run

    def register(step: int, call: Callable[[], Any]) -> None:
        def calling(self: Pretraining) -> Iterator[tuple[int, float]]:
            for found in run(self):
                if self.step == step:
                    call()
                yield found

        monkeypatch.setattr(Pretraining, "run", calling)

    return register


def fails(*_: Any) -> None:
    raise FULL


def slowly(state: Any, file: Any) -> None:
    time.sleep(0.3)
    SAVE(state, file)


# --- The steps go on --------------------------------------------------------------------------


def test_the_steps_go_on_and_the_checkpoint_is_of_the_step_that_was_saved(
    build, validate, tmp_path: Path, monkeypatch, at_step
) -> None:
    changes = {"steps": 4, "evaluate_every": 2, "text_learning_rate": 1e-3, "bound": "mine"}
    expected = build(**changes)
    list(expected.run(until=2))
    expected.save(tmp_path / "expected.pt")
    go_on = threading.Event()
    at_step(3, go_on.set)  # where the loop waited for the file, nothing would ever set it

    def after_the_next_step(state: Any, file: Any) -> None:
        assert go_on.wait(60)
        SAVE(state, file)

    run = build(**changes)
    monkeypatch.setattr(torch, "save", after_the_next_step)
    fit(run, validate, run_dir=tmp_path)
    newest = tmp_path / CHECKPOINT
    assert_identical(
        load_checkpoint(tmp_path / "expected.pt"), load_checkpoint(kept_before(newest)[2])
    )
    monkeypatch.undo()
    run.save(tmp_path / "last.pt")
    assert_identical(load_checkpoint(tmp_path / "last.pt"), load_checkpoint(newest))


def test_one_is_written_at_a_time(build, validate, run_dir: Path, monkeypatch) -> None:
    under_way: list[int] = []

    def save(state: Any, file: Any) -> None:
        under_way.append(state["step"])
        slowly(state, file)
        assert under_way == [state["step"]]
        under_way.clear()

    monkeypatch.setattr(torch, "save", save)
    fit(build(steps=4, evaluate_every=1), validate, run_dir=run_dir)
    assert load_checkpoint(run_dir / CHECKPOINT)["step"] == 4
    assert list(kept_before(run_dir / CHECKPOINT)) == [3]


def test_outside_of_it_a_checkpoint_stands_when_save_returns(build, run_dir, monkeypatch) -> None:
    monkeypatch.setattr(torch, "save", slowly)
    build().save(run_dir / CHECKPOINT)
    assert is_whole(run_dir / CHECKPOINT)


def test_a_copy_has_memory_of_its_own_and_the_same_numbers() -> None:
    weights = torch.arange(6.0).reshape(2, 3).T.requires_grad_()
    network = torch.nn.BatchNorm1d(3).state_dict()
    state = {"a": [weights, (1, None)], "b": {"c": "d"}, "net": network}
    copied = on_host(state)
    assert_identical(state, copied)
    assert isinstance(copied["net"], OrderedDict)
    assert copied["net"]._metadata == network._metadata
    with torch.no_grad():
        weights.fill_(9)
        network["weight"].fill_(9)
    assert copied["a"][0].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert copied["net"]["weight"].tolist() == [1, 1, 1]
    assert not copied["a"][0].requires_grad


# --- The end waits ----------------------------------------------------------------------------


def test_the_last_one_is_whole_when_the_run_ends(build, validate, run_dir, monkeypatch) -> None:
    monkeypatch.setattr(torch, "save", slowly)
    fit(build(steps=2, evaluate_every=2), validate, run_dir=run_dir)
    assert load_checkpoint(run_dir / CHECKPOINT)["step"] == 2


def test_asked_to_stop_it_says_so_when_the_checkpoint_is_whole(
    build, validate, run_dir: Path, monkeypatch
) -> None:
    monkeypatch.setattr(torch, "save", slowly)
    monkeypatch.setattr(Processes, "any", lambda *_: True)
    with pytest.raises(StoppedError, match="step 1 of 6, and saved"):
        fit(build(steps=6), validate, run_dir=run_dir)
    assert load_checkpoint(run_dir / CHECKPOINT)["step"] == 1


def test_a_run_that_fails_ends_when_the_checkpoint_is_whole(
    build, validate, run_dir: Path, monkeypatch, at_step
) -> None:
    run = build(steps=6, evaluate_every=2)

    def spoil() -> None:
        with torch.no_grad():
            run.alignment.critic.mlp[0].weight[0, 0] = torch.nan

    at_step(3, spoil)
    monkeypatch.setattr(torch, "save", slowly)
    with pytest.raises(NotFiniteError, match="step 3"):
        fit(run, validate, run_dir=run_dir)
    assert load_checkpoint(run_dir / CHECKPOINT)["step"] == 2


def test_the_others_go_on_after_the_run_when_the_last_one_is_whole(
    build, validate, run_dir: Path, monkeypatch
) -> None:
    """What comes then they compute together, and nobody may be late for long."""
    monkeypatch.setattr(torch, "save", slowly)
    met: list[tuple[str, bool]] = []
    there, training = (run_dir / CHECKPOINT).is_file, build(steps=1)
    monkeypatch.setattr(Processes, "meet", lambda _, what: met.append((what, there())))
    fit(training, validate, run_dir=run_dir)
    assert met == [("the checkpoint of step 1", False), ("the last checkpoint", True)]


# --- What goes wrong --------------------------------------------------------------------------


def test_a_full_disk_ends_the_run_at_the_next_step_that_knows(
    build, validate, run_dir: Path, monkeypatch, at_step
) -> None:
    failed = threading.Event()

    def save(*_: Any) -> None:
        if threading.current_thread() is threading.main_thread():
            raise AssertionError("not beside the training")
        failed.set()
        raise PermissionError("read-only")

    at_step(3, lambda: failed.wait(60) and time.sleep(0.2))
    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(CheckpointError, match="could not be written: read-only. There was none"):
        fit(build(steps=1000, evaluate_every=2), validate, run_dir=run_dir)
    assert MetricsLog.read(run_dir).column("training")[0] == [1, 2]


@pytest.mark.parametrize("asked", [False, True])
def test_a_full_disk_at_the_end(build, validate, run_dir: Path, monkeypatch, asked: bool) -> None:
    """Neither does the run end as if it had been kept, nor does it say that it was."""
    monkeypatch.setattr(torch, "save", fails)
    monkeypatch.setattr(Processes, "any", lambda *_: asked)
    with pytest.raises(CheckpointError, match="No space left.*Free some disk space"):
        fit(build(steps=2), validate, run_dir=run_dir)


def test_a_disk_that_is_full_for_a_while_costs_nothing(
    build, validate, run_dir: Path, monkeypatch, capsys
) -> None:
    tries: list[int] = []

    def save(state: Any, file: Any) -> None:
        tries.append(state["step"])
        if len(tries) < 3:
            raise FULL
        SAVE(state, file)

    monkeypatch.setattr(torch, "save", save)
    fit(build(steps=2, evaluate_every=2), validate, run_dir=run_dir)
    assert tries == [2, 2, 2]
    assert load_checkpoint(run_dir / CHECKPOINT)["step"] == 2
    assert "No space left on device. Another try" in capsys.readouterr().out


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from localmi.processes import ALONE
from localmi.train.checkpoint_writer import beside_training

path, save = Path(sys.argv[1]), torch.save


def half(state, file):
    save(state, file)
    if state["step"] == 3:
        file.truncate(file.tell() // 2)
        os.kill(os.getpid(), signal.SIGKILL)


torch.save = half
with beside_training(ALONE) as writer:
    for step in (1, 2, 3):
        state = {"config": {}, "data_hash": "", "step": step, "w": torch.full((99, 99), step)}
        writer.save_checkpoint(state, path)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_kill_within_the_thread_leaves_the_ones_before(run_dir: Path) -> None:
    path = run_dir / CHECKPOINT
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert killed.returncode == -9
    assert load_checkpoint(path)["step"] == 2
    assert load_checkpoint(kept_before(path)[1])["step"] == 1
