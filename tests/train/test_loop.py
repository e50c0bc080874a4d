"""The loop around the step: what it logs, when it looks, what it keeps, how it goes on."""

import json
import math
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

from localmi import signals
from localmi.data.batches import SplitData
from localmi.data.cache.cache import Cache
from localmi.errors import CheckpointError, NotFiniteError, StoppedError, TrainingError
from localmi.evaluate.held_out import HeldOutBound, SplitResult
from localmi.processes import ALONE, Processes
from localmi.record import METRICS, MetricsLog
from localmi.statistics import Interval
from localmi.train.checkpoint import Write, load_checkpoint
from localmi.train.checkpoint_files import CHECKPOINT, kept_before
from localmi.train.config import TrainConfig
from localmi.train.loop import NOT_FINITE, fit
from localmi.train.pretraining import Pretraining

LOOKS = ("held_out", "low", "high", "cap", "shuffled")


@pytest.fixture
def validate(tiny_cache: Cache) -> SplitData:
    return SplitData(tiny_cache, "validate")


@dataclass
class Counted:
    """The least that can be fitted: its bound is its step, and it notes what is asked of it."""

    config: TrainConfig
    step: int = 0
    processes: Processes = ALONE
    looked: list[int] = field(default_factory=list)
    saved: list[tuple[int, Path]] = field(default_factory=list)
    loaded: list[Path] = field(default_factory=list)

    def run(self) -> Iterator[tuple[int, float]]:
        while self.step < self.config.steps:
            self.step += 1
            yield self.step - 1, float(self.step)

    def evaluate(self, data: SplitData) -> SplitResult:
        self.looked.append(self.step)
        own, control = (
            HeldOutBound(Interval(value, value - 1, value + 1), cap=9.0, batch_size=4, rounds=1)
            for value in (10.0 * self.step, 0.5)
        )
        return SplitResult(own, control, scores=None)  # type: ignore[arg-type]

    def save(self, path: Path, write: object = None) -> None:
        self.saved.append((self.step, path))

    def load(self, path: Path) -> None:
        self.loaded.append(path)
        self.step = 4


def counted(**changes: int) -> Counted:
    return Counted(TrainConfig.checked(**changes))


# --- Looks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "every", "looks"),
    [(5, 2, [2, 4, 5]), (6, 3, [3, 6]), (4, 100, [4]), (3, 1, [1, 2, 3])],
)
def test_a_look_every_so_many_steps_and_at_the_last(
    validate, run_dir: Path, steps: int, every: int, looks: list[int]
) -> None:
    run = counted(steps=steps, evaluate_every=every)
    log = fit(run, validate, run_dir=run_dir)
    assert log.column("training") == ([*range(1, steps + 1)], [*map(float, range(1, steps + 1))])
    for name in LOOKS:
        assert log.column(name)[0] == looks
    assert run.looked == looks
    assert run.saved == [(step, run_dir / CHECKPOINT) for step in looks]
    assert run.loaded == []


def test_each_column_has_its_number(validate) -> None:
    log = fit(counted(steps=2, evaluate_every=2), validate)
    found = {name: log.column(name)[1] for name in LOOKS}
    assert found == {"held_out": [20], "low": [19], "high": [21], "cap": [9], "shuffled": [0.5]}
    assert {name for row in log.rows for name in row} == {"step", "training", *LOOKS}


@dataclass
class Skipping(Counted):
    """Every batch but the third of three is skipped; or every one."""

    every: int = 3

    def run(self) -> Iterator[tuple[int, float]]:
        for step, nats in super().run():
            yield step, nats if (step + 1) % self.every == 0 else math.nan


def test_skipped_batches_are_counted_and_have_no_bound(validate, run_dir: Path) -> None:
    log = fit(Skipping(TrainConfig(steps=7)), validate, run_dir=run_dir)
    assert log.column("skipped") == ([1, 2, 4, 5, 7], [1] * 5)
    assert log.column("training") == ([3, 6], [3.0, 6.0])
    assert "null" not in (run_dir / METRICS).read_text()
    assert MetricsLog.read(run_dir).rows == log.rows
    with pytest.raises(TrainingError, match="None of the 7 batches.*larger batch_size"):
        fit(Skipping(TrainConfig(steps=7), every=8), validate)


def test_a_run_that_skips_goes_on_to_the_same_numbers(build, make_cache, run_dir: Path) -> None:
    """Most of its reports read the same; the validation patients' all do."""
    studies = [(f"study {n}", ["Normal." if n % 3 else f"Nodule {n}."]) for n in range(12)]
    studies += [(f"later {n}", ["Normal."], 1, "validate") for n in range(4)]
    cache = make_cache(*studies, image_size=64)
    changes = {"batch_size": 2, "same_text_is_mismatch": False, "steps": 12, "evaluate_every": 4}
    looked = SplitData(cache, "validate")
    whole = fit(build(cache, **changes), looked)
    assert 0 < len(whole.column("skipped")[0]) < 12
    assert all(math.isfinite(value) for row in whole.rows for value in row.values())
    half = build(cache, **changes)
    list(half.run(until=4))
    half.save(run_dir / CHECKPOINT)
    log = MetricsLog(run_dir)
    for row in whole.rows[: [row["step"] for row in whole.rows].index(5)]:
        log.write(**row)
    assert fit(build(cache, **changes), looked, run_dir=run_dir, resume=True).rows == whole.rows


def test_the_numbers_are_those_of_the_run(build, validate, run_dir: Path) -> None:
    """Training as without looks; the last look is the model that is left."""
    fitted, alone = (build(steps=5, evaluate_every=2, text_learning_rate=1e-3) for _ in range(2))
    log = fit(fitted, validate, run_dir=run_dir)
    assert log.column("training")[1] == [nats for _, nats in alone.run()]
    found = fitted.evaluate(validate)
    assert log.column("held_out")[1][-1] == found.held_out.bound.value
    assert log.column("low")[1][-1] == found.held_out.bound.low
    assert log.column("high")[1][-1] == found.held_out.bound.high
    assert log.column("cap")[1][-1] == found.held_out.cap
    assert log.column("shuffled")[1][-1] == found.shuffled.bound.value
    assert MetricsLog(run_dir, resume_at=5).rows == log.rows
    before = "checkpoint-000004.pt"
    assert {path.name for path in run_dir.iterdir()} == {METRICS, CHECKPOINT, before}
    assert load_checkpoint(run_dir / before)["step"] == 4
    assert load_checkpoint(run_dir / CHECKPOINT)["step"] == 5


def test_without_a_folder_nothing_is_written(build, validate, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    saved: list[Path] = []
    monkeypatch.setattr(Pretraining, "save", lambda _, path: saved.append(path))
    log = fit(build(steps=2, evaluate_every=1), validate)
    assert len(log.column("held_out")[0]) == 2
    assert saved == []
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_used_again_begins_a_new_log(validate, run_dir: Path) -> None:
    fit(counted(steps=5), validate, run_dir=run_dir)
    log = fit(counted(steps=2), validate, run_dir=run_dir)
    assert log.column("training")[0] == [1, 2]
    assert MetricsLog(run_dir, resume_at=5).rows == log.rows


# --- Going on ---------------------------------------------------------------------------------


def killed_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the step after this one."""
    run = Pretraining.run

    def stopped(self: Pretraining) -> Iterator[tuple[int, float]]:
        for found in run(self):
            yield found
            if self.step == step:
                raise KeyboardInterrupt

    monkeypatch.setattr(Pretraining, "run", stopped)


def test_a_run_that_was_stopped_goes_on_to_the_same_numbers(
    build, validate, tmp_path: Path, monkeypatch
) -> None:
    changes = {"steps": 7, "evaluate_every": 3, "text_learning_rate": 1e-3}
    folders = whole_dir, half_dir = tmp_path / "whole", tmp_path / "half"
    for folder in folders:
        folder.mkdir()
    whole, first, second = (build(**changes) for _ in range(3))
    expected = fit(whole, validate, run_dir=whole_dir)
    with monkeypatch.context() as patch:
        killed_after(5, patch)
        with pytest.raises(KeyboardInterrupt):
            fit(first, validate, run_dir=half_dir)
    assert MetricsLog(half_dir, resume_at=7).column("training")[0] == [1, 2, 3, 4, 5]
    killed = (half_dir / METRICS).read_text()
    fit(second, validate, run_dir=half_dir, resume=True)
    assert len((half_dir / METRICS).read_text()) > len(killed)
    assert (half_dir / METRICS).read_text() == (whole_dir / METRICS).read_text()
    assert MetricsLog(half_dir, resume_at=7).rows == expected.rows
    for one, other in (
        (whole.alignment.state_dict(), second.alignment.state_dict()),
        (whole.control.state_dict(), second.control.state_dict()),
    ):
        assert all(torch.equal(value, other[name]) for name, value in one.items())
    states = [load_checkpoint(folder / CHECKPOINT) for folder in folders]
    assert [state["step"] for state in states] == [7, 7]


@pytest.mark.parametrize("how", ["truncated", "flipped", "empty"])
def test_from_a_damaged_checkpoint_it_falls_back_to_the_same_numbers(
    build, validate, tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    """The one before is gone on from, and what was logged after it is logged anew."""
    changes = {"steps": 7, "evaluate_every": 3, "text_learning_rate": 1e-3}
    whole_dir, damaged_dir = tmp_path / "whole", tmp_path / "damaged"
    for folder in (whole_dir, damaged_dir):
        folder.mkdir()
        fit(build(**changes), validate, run_dir=folder)
    newest = damaged_dir / CHECKPOINT
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes({"truncated": data[:-99], "flipped": data, "empty": b""}[how])
    left = newest.read_bytes()
    again = build(**changes)
    again.load(newest)
    assert again.step == 6
    assert newest.read_bytes() == left
    log = fit(build(**changes), validate, run_dir=damaged_dir, resume=True)
    assert "Damaged: checkpoint.pt. The run goes on" in capsys.readouterr().out
    assert log.column("training")[0] == [1, 2, 3, 4, 5, 6, 7]
    assert (damaged_dir / METRICS).read_text() == (whole_dir / METRICS).read_text()
    one, other = (load_checkpoint(folder / CHECKPOINT) for folder in (whole_dir, damaged_dir))
    assert all(
        torch.equal(weights, other["critic"][name]) for name, weights in one["critic"].items()
    )
    assert one["step"] == other["step"] == 7
    assert list(kept_before(newest)) == [6]


def test_it_goes_on_where_the_checkpoint_was_written(validate, run_dir: Path) -> None:
    log = MetricsLog(run_dir)
    for step in (3, 4, 5):  # of the last one there is no checkpoint
        log.write(step, training=-1.0)
    run = counted(steps=6, evaluate_every=2)
    found = fit(run, validate, run_dir=run_dir, resume=True)
    assert run.loaded == [run_dir / CHECKPOINT]
    assert found.column("training") == ([3, 4, 5, 6], [-1, -1, 5, 6])
    assert run.looked == [6]


def test_a_finished_run_is_read(build, validate, run_dir: Path) -> None:
    log = fit(build(steps=2, evaluate_every=2), validate, run_dir=run_dir)
    before = (run_dir / CHECKPOINT).read_bytes()
    again = fit(build(steps=2, evaluate_every=2), validate, run_dir=run_dir, resume=True)
    assert again.rows == log.rows
    assert (run_dir / CHECKPOINT).read_bytes() == before


def test_nothing_to_resume_from(build, validate, run_dir: Path) -> None:
    with pytest.raises(CheckpointError, match="No checkpoint.*Start without resuming"):
        fit(build(), validate, run_dir=run_dir, resume=True)
    assert list(run_dir.iterdir()) == []


def test_without_a_folder_there_is_nothing_to_resume_from(
    build, validate, tmp_path: Path, monkeypatch
) -> None:
    """Not even the checkpoint of somebody else that lies where the process was started."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError):
        fit(build(steps=2), validate, resume=True)
    build(steps=2).save(tmp_path / CHECKPOINT)
    with pytest.raises(CheckpointError):
        fit(build(steps=2), validate, resume=True)


def test_the_checkpoint_of_another_run(build, validate, run_dir: Path) -> None:
    fit(build(steps=2), validate, run_dir=run_dir)
    written = (run_dir / METRICS).read_text()
    with pytest.raises(CheckpointError, match="seed: 0 then, 1 now"):
        fit(build(steps=2, seed=1), validate, run_dir=run_dir, resume=True)
    assert (run_dir / METRICS).read_text() == written


def test_a_bound_that_is_no_number_leaves_the_last_checkpoint(
    build, validate, run_dir: Path, monkeypatch
) -> None:
    run = build(steps=6, evaluate_every=2)

    def saved(path: Path, write: Write) -> None:
        Pretraining.save(run, path, write)
        if run.step == 4:
            with torch.no_grad():
                run.alignment.critic.mlp[0].weight[0, 0] = math.nan

    monkeypatch.setattr(run, "save", saved)
    with pytest.raises(TrainingError, match="nan at step 4"):
        fit(run, validate, run_dir=run_dir)
    state = load_checkpoint(run_dir / CHECKPOINT)
    assert state["step"] == 4
    assert all(torch.isfinite(value).all() for value in state["critic"].values())
    assert MetricsLog(run_dir, resume_at=6).column("training")[0] == [1, 2, 3, 4]


# --- Asked to stop, and bounds that are no numbers --------------------------------------------


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """As in a terminal: what is started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@dataclass
class Asked(Counted):
    """Is sent a signal within its third step."""

    sent: signal.Signals = signal.SIGTERM

    def run(self) -> Iterator[tuple[int, float]]:
        for step, nats in super().run():
            if step == 2:
                os.kill(os.getpid(), self.sent)
            yield step, nats


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_ends_the_step_and_saves(
    ctrl_c, validate, run_dir: Path, sent: signal.Signals
) -> None:
    before = signal.getsignal(sent)
    run = Asked(TrainConfig.checked(steps=9, evaluate_every=5), sent=sent)
    with pytest.raises(StoppedError, match="Stopped as asked at step 3 of 9, and saved"):
        fit(run, validate, run_dir=run_dir)
    assert run.saved == [(3, run_dir / CHECKPOINT)]
    assert signal.getsignal(sent) == before


@pytest.mark.parametrize(("steps", "every"), [(9, 1), (9, 3), (3, 9)])
def test_asked_to_stop_at_a_look_it_looks_saves_once_and_stops(
    ctrl_c, validate, run_dir: Path, steps: int, every: int
) -> None:
    run = Asked(TrainConfig.checked(steps=steps, evaluate_every=every))
    with pytest.raises(StoppedError, match=f"at step 3 of {steps}, and saved"):
        fit(run, validate, run_dir=run_dir)
    assert run.looked[-1] == 3
    assert [step for step, _ in run.saved] == run.looked


def test_without_a_folder_ctrl_c_is_what_it_always_is(ctrl_c, validate) -> None:
    run = Asked(TrainConfig.checked(steps=9), sent=signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(run, validate)
    assert run.saved == []


@pytest.mark.parametrize(("seconds", "raised"), [(0, KeyboardInterrupt), (60, StoppedError)])
def test_a_second_signal_is_not_caught_but_where_it_comes_with_the_first(
    ctrl_c, validate, run_dir: Path, monkeypatch, seconds: float, raised: type[BaseException]
) -> None:
    """A cluster sends to all processes, each of which passes it on: they are one request."""

    @dataclass
    class Twice(Asked):
        def run(self) -> Iterator[tuple[int, float]]:
            for step, nats in super().run():
                if step == 2:
                    os.kill(os.getpid(), signal.SIGINT)
                yield step, nats

    monkeypatch.setattr(signals, "TOGETHER", seconds)
    run = Twice(TrainConfig.checked(steps=9), sent=signal.SIGINT)
    with pytest.raises(raised):
        fit(run, validate, run_dir=run_dir)
    assert len(run.saved) == (raised is StoppedError)


def test_a_bound_that_is_no_number_leaves_its_batch(
    build, validate, run_dir: Path, tiny_cache: Cache
) -> None:
    run = build(steps=6, evaluate_every=6)
    list(run.run(until=2))
    with torch.no_grad():
        run.alignment.critic.mlp[0].weight[0, 0] = float("nan")
    rows = run.batches.rows(2)
    with pytest.raises(NotFiniteError, match="nan at step 2"):
        fit(run, validate, run_dir=run_dir)
    left = json.loads((run_dir / NOT_FINITE).read_text())
    images = tiny_cache.manifest.set_index("index_in_cache")["image_id"]
    assert left["step"] == 2
    assert list(images[left["rows_of_the_cache"]]) == list(
        run.train_data.manifest["image_id"].to_numpy()[rows]
    )
