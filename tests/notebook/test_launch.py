"""Several processes: the torchrun line, whose record it is, and what becomes of a run that is
stopped, or whose processes die or hang."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock
from typer.testing import CliRunner

from localmi.__main__ import REFUSED, app
from localmi.data.cache.cache import Cache
from localmi.errors import ConfigError
from localmi.notebook import launch
from localmi.notebook.launch import RANKS, follow, torchrun_words
from localmi.notebook.plan import PARAMETERS_FILE
from localmi.notebook.run import DONE, FAILED, STOPPED
from localmi.ranks import LAUNCHER
from localmi.record import METRICS, RESULTS, MetricsLog
from localmi.train.checkpoint import load_checkpoint
from localmi.train.checkpoint_files import CHECKPOINT

TRAINS = """
from pathlib import Path
from localmi.data.batches import SplitData
from localmi.data.cache.cache import open_cache
from localmi.record import record_metrics
from localmi.train.config import TrainConfig
from localmi.train.loop import fit
from localmi.train.pretraining import Pretraining

fields = {{"image_size": 64, "local_stage": 4, "critic_hidden": (16, 8), "batch_size": 4}}
fields |= {{"text_encoder": {bert!r}, "text_learning_rate": 0, "evaluate_every": 20}}
cache = open_cache({cache!r})
training = Pretraining(TrainConfig.checked(steps=steps, device="cpu", **fields), cache)
fit(training, SplitData(cache, "validate"), run_dir=Path(run_dir), resume=resume)
found = record_metrics({{}}, data={{"name": "made"}}, run_dir=run_dir)"""


@pytest.fixture
def notebook(
    write_notebook: Any, good_cells: Any, tiny_cache: Cache, tiny_bert: Callable[..., str]
) -> Path:
    """Trains on the tiny study."""
    good_cells["parameters"][0].source += "\nresume = False  # go on"
    good_cells["body"][1].source = TRAINS.format(cache=str(tiny_cache.folder), bert=tiny_bert())
    parts = {name: good_cells[name] for name in ("title", "parameters", "body")}
    path: Path = write_notebook(parts, counts=False)
    return path


class Launched:
    """A run on two processes."""

    def __init__(self, notebook: Path, out: Path, *words: str) -> None:
        self.out = out
        self.said = out.with_suffix(".said")  # a pipe that nobody reads would stop all of it
        command = [sys.executable, "-m", "localmi", "launch", str(notebook), "--out", str(out)]
        with self.said.open("a") as said:
            self.process = subprocess.Popen(
                [*command, "--nproc", "2", *words],
                stdout=said,
                stderr=subprocess.STDOUT,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )

    def step(self) -> int:
        """The last one that was logged."""
        if not (self.out / METRICS).is_file():
            return 0
        steps, _ = MetricsLog.read(self.out).column("training")
        return steps[-1] if steps else 0

    def wait_for_step(self, step: int) -> None:
        deadline = time.monotonic() + 200
        while self.step() < step:
            assert self.process.poll() is None, self.said.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def tree(self) -> list[psutil.Process]:
        found: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        return found

    def kernel(self, rank: int) -> psutil.Process:
        (found,) = (
            process
            for process in self.tree()
            if any("ipykernel" in word for word in process.cmdline())
            and process.environ()["RANK"] == str(rank)
        )
        return found

    def ended(self) -> tuple[int, str]:
        """Exit code and words; nothing that it has started is left."""
        tree = self.tree()
        self.process.wait(timeout=120)
        _, left = psutil.wait_procs(tree, timeout=10)
        assert left == []
        return self.process.returncode, self.said.read_text()


@pytest.fixture
def start(notebook: Path, tmp_path: Path) -> Iterator[Callable[..., Launched]]:
    """Starts the notebook on two processes, in `tmp_path / "run"`."""
    started: list[Launched] = []

    def begin(*words: str) -> Launched:
        started.append(Launched(notebook, tmp_path / "run", *words))
        return started[-1]

    yield begin
    for each in started:
        if each.process.poll() is None:
            for process in [*each.tree(), each.process]:
                process.kill()


# --- The line, and what is refused --------------------------------------------------------------


def test_the_torchrun_line() -> None:
    here = torchrun_words(processes=8, restarts=2)
    assert here[1:] == [
        *("-m", "torch.distributed.run", "--nproc-per-node=8", "--standalone"),
        *("--max-restarts=2", "-m", "localmi", "run"),
    ]
    several = torchrun_words(processes=4, nodes=2, meet_at="node1:29500", name="mine")
    assert several[3:7] == [
        *("--nproc-per-node=4", "--nnodes=2", "--rdzv-backend=c10d"),
        "--rdzv-endpoint=node1:29500",
    ]
    assert "--rdzv-id=mine" in several


@pytest.mark.parametrize("wrong", [{"processes": 0}, {"nodes": 0}, {"restarts": -1}])
def test_impossible_numbers_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="at least one process on one node"):
        torchrun_words(**{"processes": 1, **wrong})


def test_several_nodes_need_a_place_to_meet_and_one_folder(notebook: Path) -> None:
    with pytest.raises(ConfigError, match="--nnodes 2 needs --rendezvous HOST:PORT"):
        torchrun_words(processes=1, nodes=2)
    words = ["launch", str(notebook), "--nnodes", "2", "--rendezvous", "a:1"]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == REFUSED
    assert "Several nodes need --out FOLDER" in refused.output


def test_parameters_are_refused_before_anything_starts(notebook: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["launch", str(notebook), "--out", str(out), "-p", "stepz", "3"]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == REFUSED
    assert "stepz" in refused.output
    assert "torch.distributed.run" not in refused.output
    out.mkdir()
    (out / PARAMETERS_FILE).write_text("steps: 5\n")
    other = CliRunner().invoke(app, [*words[:4], "-p", "steps", "7"])
    assert other.exit_code == REFUSED
    assert "steps" in other.output


def test_a_folder_of_something_else_is_refused_before_anything_starts(
    notebook: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    refused = CliRunner().invoke(app, ["launch", str(notebook), "--out", str(tmp_path / "mine")])
    assert refused.exit_code == REFUSED
    assert "holds no run" in refused.output


def test_a_further_rank_that_fails_leaves_nothing_where_no_run_has_begun(
    notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its notebook would be taken for something else by the same command."""
    monkeypatch.setattr(launch, "execute_notebook", lambda plan, executed, *_: ("ill", False))
    out = tmp_path / "run"
    given = {"from_file": {}, "from_command": {}, "allow_outputs": False}
    assert follow(notebook, out=out, **given) == FAILED
    assert not out.exists()
    out.mkdir()
    (out / PARAMETERS_FILE).write_text("steps: 5\n")
    assert follow(notebook, out=out, **given) == FAILED
    assert [path.name for path in (out / RANKS).iterdir()] == ["rank0.log"]


def test_the_second_of_two_starts_no_process_before_the_first_has_ended(
    notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, waits, started = FileLock(tmp_path / ".run.lock"), threading.Event(), threading.Event()
    held.acquire()
    monkeypatch.setattr("builtins.print", lambda *words, **_: waits.set())
    monkeypatch.setattr(launch.subprocess, "Popen", lambda *words, **_: started.set())
    monkeypatch.setattr(launch, "_wait_for", lambda started: (DONE, False))
    torchrun = {"processes": 2, "nodes": 1, "meet_at": "", "restarts": 0}
    given = {"asked": {}, "out": tmp_path / "run", "patience": 5, **torchrun}
    second = threading.Thread(target=launch.launch, args=(notebook, []), kwargs=given)
    second.start()
    assert waits.wait(10)
    assert not started.wait(0.5)
    held.release()
    assert started.wait(10)
    second.join(10)


@pytest.mark.skipif(sys.platform != "linux", reason="where a job has some of the cores")
def test_processes_share_the_cores_of_the_job(
    notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environments: list[dict[str, str]] = []
    monkeypatch.setattr(launch.subprocess, "Popen", lambda *_, env, **__: environments.append(env))
    monkeypatch.setattr(launch, "_wait_for", lambda started: (DONE, False))
    monkeypatch.setattr(os, "sched_getaffinity", lambda number: set(range(6)))
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    monkeypatch.delenv("OMP_NUM_THREADS")
    torchrun = {"processes": 2, "nodes": 1, "meet_at": "", "restarts": 0}
    launch.launch(notebook, [], asked={}, out=tmp_path / "run", patience=5, **torchrun)
    assert environments[0]["OMP_NUM_THREADS"] == "3"


def test_a_further_rank_needs_the_folder_of_the_first(notebook: Path) -> None:
    with pytest.raises(ConfigError, match="Under torchrun a run needs --once and --out"):
        follow(notebook, from_file={}, from_command={}, out=None, allow_outputs=False)


# --- Whole runs ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_processes_make_one_run(start, tmp_path: Path) -> None:
    code, words = start("-p", "steps", "20").ended()
    assert code == DONE, words
    assert "--nproc-per-node=2" in words
    out = tmp_path / "run"
    assert json.loads((out / RESULTS).read_text())["notebook"] == "05_small"
    assert MetricsLog.read(out).column("training")[0] == list(range(1, 21))  # one of them logs
    assert not (out / RANKS).exists()
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".rank")] == []


@pytest.mark.slow
def test_asked_to_stop_it_saves_and_goes_on(start) -> None:
    run = start("-p", "steps", "100000")
    run.wait_for_step(5)
    run.process.send_signal(signal.SIGTERM)
    code, words = run.ended()
    assert code == DONE, words
    assert "Stopped as asked, and saved (a traceback is torchrun's). Go on:" in words
    assert "Resume by" not in words  # that would go on with one process
    assert (run.out / STOPPED).is_file()
    saved = run.step()
    assert saved < 20  # there was no look yet
    again = start("-p", "steps", "100000")
    again.wait_for_step(saved + 2)
    steps, _ = MetricsLog.read(run.out).column("training")
    assert steps == list(range(1, len(steps) + 1))
    for process in [again.process, *again.tree()]:  # as a cluster does
        process.send_signal(signal.SIGTERM)
    code, words = again.ended()
    assert code == DONE, words
    assert load_checkpoint(run.out / CHECKPOINT)["step"] == run.step() > saved


@pytest.mark.slow
def test_a_process_that_dies_ends_the_run_or_begins_it_again(start) -> None:
    run = start("-p", "steps", "100000", "--max-restarts", "1")
    run.wait_for_step(21)  # one checkpoint
    run.kernel(1).kill()
    run.wait_for_step(50)
    began = time.monotonic()
    run.kernel(0).kill()
    code, words = run.ended()
    assert time.monotonic() - began < 60
    assert code == FAILED
    assert "Rank 1: Failed" in words
    assert "The run has ended before its end" in words
    steps, _ = MetricsLog.read(run.out).column("training")
    assert steps == list(range(1, len(steps) + 1))


@pytest.mark.slow
def test_a_process_that_hangs_ends_the_run(start) -> None:
    run = start("-p", "steps", "100000", "--patience", "5")
    run.wait_for_step(5)
    began = time.monotonic()
    run.kernel(1).suspend()
    code, words = run.ended()
    assert code == FAILED
    assert 4 < time.monotonic() - began < 60
    assert "Failed in cell" in words


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["launcher", "torchrun"])
def test_without_its_launcher_or_torchrun_a_run_saves_and_ends(start, victim: str) -> None:
    run = start("-p", "steps", "100000")
    run.wait_for_step(5)
    tree = run.tree()
    (torchrun,) = psutil.Process(run.process.pid).children()
    (run.process if victim == "launcher" else torchrun).kill()
    _, left = psutil.wait_procs(tree, timeout=50)
    assert left == []
    assert (run.out / CHECKPOINT).is_file()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux tells of a parent's end")
def test_a_process_whose_torchrun_had_ended_before_it_listened_ends(tmp_path: Path) -> None:
    code = "from localmi.notebook.stopping import ends_with_its_parent as e; e({})"
    for launcher, returned in (
        (f"'{os.getppid()}'", 0),
        (f"'{2**22}'", -signal.SIGTERM),
        ("", 0),
    ):
        # a launcher that runs within another's run is not asked for that one
        environment = os.environ | {LAUNCHER: "1"}
        done = subprocess.run([sys.executable, "-c", code.format(launcher)], env=environment)
        assert done.returncode == returned
