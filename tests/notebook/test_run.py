import errno
import io
import itertools
import json
import os
import re
import signal
import sys
import threading
import time
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import nbformat
import pytest
import yaml
from click.testing import Result
from filelock import FileLock, Timeout
from nbclient import NotebookClient
from papermill import engines
from typer.testing import CliRunner

from localmi.__main__ import REFUSED, app
from localmi.errors import ConfigError
from localmi.notebook import prepare, private_run, run
from localmi.notebook.open_run import Tee
from localmi.notebook.plan import plan_run
from localmi.notebook.render import KERNEL_CONFIG
from localmi.privacy.scan import scan_files
from localmi.train.config import TrainConfig

CHECKS = """print("steps", steps, "flag", flag)
assert steps < 100, "too many"
"""
BODY = f"""from localmi.record import Result, record_metrics
from localmi.statistics import Interval
{CHECKS}
nan = float("nan")
metrics = {{
    "local_mi_nats": Result(Interval(1.25, 1.1, 1.4), "test", {{"truth": 2.5}}),
    "one_patient": Result(Interval(2.0, nan, nan), "test", {{}}),
}}
found = record_metrics(metrics, data={{"name": "made"}}, run_dir=run_dir)"""
TRAINS = """
further: dict = {"max_tokens": 32}  # other fields of localmi.train.config.TrainConfig"""


@pytest.fixture
def make(
    write_notebook: Any, good_cells: Any, monkeypatch: Any, tmp_path: Path
) -> Callable[..., Path]:
    """Writes a notebook with this body, and further parameters; the working folder is another."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    def write(body: str, parameters: str = "") -> Path:
        good_cells["parameters"][0].source += parameters
        good_cells["body"][1].source = body
        parts = {name: good_cells[name] for name in ("title", "parameters", "body")}
        path: Path = write_notebook(parts, counts=False)
        return path

    return write


@pytest.fixture
def notebook(make: Callable[..., Path]) -> Path:
    return make(BODY)


def call(*words: object) -> Result:
    """The command; in `output` what it says, on stdout and stderr."""
    return CliRunner().invoke(app, ["run", *map(str, words)])


def record_of(out: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((out / "results.json").read_text())
    return record


def test_runs_are_numbered_where_the_command_is_given(notebook: Path) -> None:
    first = plan_run(notebook)
    assert first.run_dir == Path.cwd() / "runs" / "05_small-001"
    first.run_dir.mkdir(parents=True)
    assert plan_run(notebook).run_dir.name == "05_small-002"


def test_two_runs_that_start_together_have_two_folders(notebook: Path) -> None:
    first, second = plan_run(notebook), plan_run(notebook)
    assert first.run_dir == second.run_dir  # neither has made it yet
    taken = [run._take_folder(plan).run_dir.name for plan in (first, second)]
    assert taken == ["05_small-001", "05_small-002"]


def test_a_named_folder_that_was_just_taken_is_not_shared(notebook: Path, tmp_path: Path) -> None:
    plan = plan_run(notebook, out=tmp_path / "mine")
    (tmp_path / "mine").mkdir()
    with pytest.raises(FileExistsError, match="mine"):
        run._take_folder(plan)


def test_nothing_is_written_when_a_run_is_refused(notebook: Path) -> None:
    for words in (["-p", "stesp", "3"], ["-p", "steps", "x"], ["-p", "run_dir", "x"]):
        refused = call(notebook, *words)
        assert refused.exit_code == REFUSED
        assert refused.stderr.startswith("ConfigError: ")
    assert list(Path.cwd().iterdir()) == []


def test_a_run_folder_that_cannot_be_made_is_refused(notebook: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be made: Not a directory. Give --out"):
        run._take_folder(plan_run(notebook, out=tmp_path / "file" / "run"))


def test_resume_is_no_parameter_of_the_command(notebook: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="resume is set by the runner: use --resume"):
        plan_run(notebook, out=tmp_path / "run", from_command={"resume": "true"})


def test_an_existing_run_folder_is_refused(notebook: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exists.*--resume"):
        plan_run(notebook, out=tmp_path)


def test_resume_takes_up_the_parameters_of_the_run(notebook: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "parameters.yaml").write_text("steps: 9\nflag: true\n")
    plan = plan_run(notebook, out=out, resume=True, from_command={"flag": "true"})
    assert plan.changed == {"steps": 9, "flag": True}


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-p", "steps", "70"), "steps: 9 then, 70 now"),
        (("-f", "more.yaml"), "steps: 9 then, 3500 now"),
        (("-f", "more.yaml", "-p", "steps", "9"), "flag: False then, True now"),
    ],
)
def test_resume_with_other_parameters_writes_nothing(
    notebook: Path, tmp_path: Path, words: tuple[str, ...], said: str, finished: bool
) -> None:
    """The same command without them is then what it was before: it goes on, or says it is done."""
    Path("more.yaml").write_text("steps: 3500\nflag: true\n")
    (out := tmp_path / "run").mkdir()
    (out / "parameters.yaml").write_text("steps: 9\n")
    if finished:
        (out / "results.json").write_text("{}")
    before = contents(out)
    refused = call(notebook, "--resume", "--out", out, *words)
    assert refused.exit_code == REFUSED
    assert said in refused.output
    assert "leave -f and -p out" in refused.output
    assert contents(out) == before
    assert plan_run(notebook, out=out, resume=True).values["steps"] == 9


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_finished_run_says_so(notebook: Path, tmp_path: Path) -> None:
    (out := tmp_path / "run").mkdir()
    (out / "parameters.yaml").write_text("steps: 9\n")
    (out / "results.json").write_text("{}")
    before = contents(out)
    said = call(notebook, "--resume", "--out", out)
    assert said.exit_code == run.DONE
    assert f"Finished before: {out}" in said.output
    assert contents(out) == before


def test_a_run_goes_on_where_its_data_have_moved_to(notebook: Path, tmp_path: Path) -> None:
    for name in ("run", "new"):
        (tmp_path / name).mkdir()
    (tmp_path / "run" / "parameters.yaml").write_text(f"data_dir: {tmp_path / 'old'}\n")
    moved = {"data_dir": str(tmp_path / "new")}
    plan = plan_run(notebook, out=tmp_path / "run", resume=True, from_command=moved)
    assert plan.values["data_dir"] == moved["data_dir"]


def test_a_precision_that_a_machine_chose_may_be_named(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    """What the checkpoint asks for on a machine that would choose another."""
    notebook, out = make(BODY, TRAINS), tmp_path / "run"
    out.mkdir()
    (out / "parameters.yaml").write_text("steps: 9\n")
    named = {"from_command": {"precision": "bfloat16"}}
    plan = plan_run(notebook, out=out, resume=True, **named)
    assert plan.values["further"]["precision"] == "bfloat16"
    (out / "parameters.yaml").write_text("steps: 9\nprecision: float32\n")
    with pytest.raises(ConfigError, match="precision: 'float32' then, 'bfloat16' now"):
        plan_run(notebook, out=out, resume=True, **named)


@pytest.mark.parametrize("damage", [b"", b"half a checkpoint"])
def test_resume_from_a_damaged_checkpoint_is_refused_at_the_door(
    make: Callable[..., Path], tmp_path: Path, damage: bytes
) -> None:
    notebook = make(BODY, "\nresume = False  # go on from the checkpoint in run_dir")
    (out := tmp_path / "run").mkdir()
    (out / "parameters.yaml").write_text("steps: 9\n")
    (out / "checkpoint.pt").write_bytes(damage)
    with pytest.raises(ConfigError, match="damaged"):
        plan_run(notebook, out=out, resume=True)
    (out / "checkpoint.pt").unlink()  # as the message advises
    assert plan_run(notebook, out=out, resume=True).values["resume"] is False


def test_of_two_processes_at_one_run_one_is_refused(notebook: Path, tmp_path: Path) -> None:
    (out := tmp_path / "run").mkdir()
    (out / "parameters.yaml").write_text("steps: 9\n")
    with FileLock(tmp_path / ".run.lock"):
        refused = call(notebook, "--resume", "--out", out)
    assert refused.exit_code == REFUSED
    assert "Another process" in refused.output
    assert list(contents(out)) == ["parameters.yaml"]


def test_a_run_holds_its_folder(
    notebook: Path, executes: Callable[..., None], tmp_path: Path
) -> None:
    """While it executes, nobody else can take the lock."""

    def locked(out: Path) -> None:
        with pytest.raises(Timeout):
            FileLock(out.with_name(f".{out.name}.lock")).acquire(timeout=0)

    executes(locked)
    assert run.execute_plan(plan_run(notebook, out=tmp_path / "out")) == run.DONE


def test_resume_tells_the_notebook_whether_there_is_a_checkpoint(
    make: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = make(BODY, "\nresume = False  # go on from the checkpoint in run_dir")
    out = tmp_path / "run"
    out.mkdir()
    (out / "parameters.yaml").write_text("steps: 9\nresume: true\n")
    plan = plan_run(notebook, out=out, resume=True)
    assert plan.values["resume"] is False
    monkeypatch.setattr(run, "execute_with_outputs", lambda *_, **__: "")
    run.execute_plan(plan)
    assert "no checkpoint yet: it begins anew" in (out / "run.log").read_text()
    with zipfile.ZipFile(out / "checkpoint.pt", "w"):
        pass
    plan = plan_run(notebook, out=out, resume=True)
    assert plan.changed == {"steps": 9, "resume": True}
    assert plan_run(notebook).values["resume"] is False


def test_a_resume_says_which_checkpoint_is_damaged_and_where_it_goes_on(
    make: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runner itself, for what the notebook says is not shown on credentialed data."""
    notebook = make(BODY, "\nresume = False  # go on from the checkpoint in run_dir")
    (out := tmp_path / "run").mkdir()
    (out / "parameters.yaml").write_text("steps: 9\n")
    with zipfile.ZipFile(out / "checkpoint-000500.pt", "w"):
        pass
    (out / "checkpoint.pt").write_bytes(b"half")
    monkeypatch.setattr(run, "execute_with_outputs", lambda *_, **__: "")
    run.execute_plan(plan_run(notebook, out=out, resume=True))
    said = (out / "run.log").read_text().splitlines()
    assert said[1] == (
        "Damaged: checkpoint.pt. The run goes on from the checkpoint before, of step 500: "
        "checkpoint-000500.pt."
    )
    assert (out / "checkpoint.pt").read_bytes() == b"half"


def test_resume_needs_a_run_folder(notebook: Path, tmp_path: Path) -> None:
    for out in (None, tmp_path / "none", tmp_path):
        with pytest.raises(ConfigError, match="--resume needs --out"):
            plan_run(notebook, out=out, resume=True)


@pytest.mark.parametrize("content", ["- a\n- b\n", "a: [", "1: 2\n"])
def test_a_bad_parameter_file_is_refused(notebook: Path, tmp_path: Path, content: str) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(content)
    for wrong in (file, tmp_path / "none.yaml"):
        refused = call(notebook, "-f", wrong)
        assert refused.exit_code == REFUSED
        assert refused.stderr.startswith("ConfigError: The parameter file ")


def test_help_prints_the_table(notebook: Path) -> None:
    for words in (["--help", notebook], [notebook, "--help"]):
        shown = call(*words)
        assert shown.exit_code == run.DONE
        rows = [row.split() for row in shown.stdout.splitlines()]
        assert ["steps", "int", "2", "how", "many", "steps"] in rows
    assert call("--help").exit_code == run.DONE
    assert call().exit_code == REFUSED
    for shown in (call("--help"), call()):
        assert "Execute a notebook without opening it" in shown.stdout


@pytest.fixture
def planned(monkeypatch: pytest.MonkeyPatch) -> list[run.Plan]:
    """The plans that would be executed, instead of their execution."""
    plans: list[run.Plan] = []
    monkeypatch.setattr(run, "execute_plan", lambda plan: plans.append(plan) or run.DONE)
    return plans


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["-p", "steps", "7"], "steps", 7),
        (["-p", "steps=7"], "steps", 7),
        (["-p", "shift", "-7"], "shift", -7),
        (["-p", "shift=-7"], "shift", -7),
        (["-p", "name", "a=b"], "name", "a=b"),
        (["-p", "name=a=b"], "name", "a=b"),
        (["-p", "name", "-p"], "name", "-p"),
        (["-p", "name", ""], "name", ""),
        (["-p", "name="], "name", ""),
        (["-p", "name", "two words"], "name", "two words"),
        (["-p", "shifts", "[-1, 2]"], "shifts", [-1, 2]),
    ],
)
def test_a_parameter_is_set_by_name_and_value(
    make: Callable[..., Path],
    planned: list[run.Plan],
    words: list[str],
    name: str,
    value: object,
) -> None:
    """As papermill does, or with a sign between them; whatever the value begins with."""
    signed = "\nshift = -1  # pixels\nshifts: list[int] = [-1]  # pixels"
    notebook = make(BODY, signed)
    one_more = [notebook, *words, "-p", "flag", "true"]
    for asked in ([notebook, *words], [*words, notebook], one_more):
        done = call(*asked)
        assert done.exit_code == run.DONE, done.output
        assert planned[-1].values[name] == value
    assert planned[-1].values["flag"] is True
    assert [plan.values["flag"] for plan in planned[:2]] == [False, False]


def test_a_parameter_without_a_value_is_refused(notebook: Path, planned: list[run.Plan]) -> None:
    refused = call(notebook, "-p", "steps")
    assert refused.exit_code == REFUSED
    assert refused.stderr.startswith("ConfigError: -p steps has no value")
    assert call(notebook, "-p").exit_code == REFUSED
    assert planned == []


def test_the_command_line_goes_over_the_file_of_the_command(
    notebook: Path, planned: list[run.Plan], tmp_path: Path
) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("steps: 5\nflag: true\n")
    assert call(notebook, "-f", file, "-p", "steps", "6").exit_code == run.DONE
    assert (planned[0].values["steps"], planned[0].values["flag"]) == (6, True)


def test_a_field_of_the_configuration_is_set_by_its_name(
    make: Callable[..., Path], planned: list[run.Plan]
) -> None:
    notebook = make(BODY, TRAINS)
    assert call(notebook, "-p", "warm_up", "0.5", "-p", "steps", "9").exit_code == run.DONE
    assert planned[0].changed == {"steps": 9, "further": {"max_tokens": 32, "warm_up": 0.5}}
    shown = call(notebook, "--help").stdout
    assert "\nFurther fields of localmi.train.config.TrainConfig:\n" in shown


@pytest.mark.parametrize(
    ("kind", "words", "said"),
    [
        ("train.config.TrainConfig", ["-p", "steps", "0"], "steps: .*greater than or equal to 1"),
        ("train.config.TrainConfig", ["-p", "bond", "dv"], "no parameter bond. Did you mean bou"),
        ("downstream.config.DownstreamConfig", ["-p", "mode", "nonsense"], "tuned or frozen or"),
    ],
)
def test_what_the_configuration_does_not_allow_is_refused_before_anything_runs(
    make: Callable[..., Path], kind: str, words: list[str], said: str
) -> None:
    parameters = f"\nfurther: dict = {{}}  # other fields of localmi.{kind}"
    if "downstream" in kind:
        parameters += "\nimage_size = 32  # pixels a side, too few for TrainConfig"
    refused = call(make(BODY, parameters), *words)
    assert refused.exit_code == REFUSED
    assert refused.stderr.startswith("ConfigError: ")
    assert re.search(said, refused.stderr)
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.slow
def test_a_run_leaves_everything_in_its_folder(notebook: Path, tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("steps: 5\n")
    first = call(notebook, "-f", file, "-p", "flag", "true")
    assert first.exit_code == run.DONE
    out = Path.cwd() / "runs" / "05_small-001"
    assert yaml.safe_load((out / "parameters.yaml").read_text())["steps"] == 5
    assert record_of(out)["metrics"]
    executed = nbformat.read(out / "05_small.ipynb", as_version=4)
    note, *_, injected = executed.cells[:4]
    assert "steps = 5" in note.source
    assert "injected-parameters" in injected.metadata.tags
    assert executed.metadata.papermill.input_path.endswith("05_small.ipynb")  # not the whole again
    printed = first.stdout
    assert "steps 5 flag True" in printed
    assert "local_mi_nats: 1.25 [1.1, 1.4]" in printed
    assert "one_patient: 2 [?, ?]" in printed
    assert "steps 5 flag True" in (out / "run.log").read_text()
    assert "injected" not in notebook.read_text()  # the course's own file is as it was
    again = call(notebook, "--out", out, "--resume")
    assert again.exit_code == run.DONE
    assert again.stdout == f"Finished before: {out}\n"  # and not executed again


@pytest.mark.slow
def test_the_record_says_what_ran_with_which_parameters_and_how_long(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    """The notebook gives what it found; the rest, the configuration in full, is the runner's."""
    out = tmp_path / "out"
    done = call(make(BODY, TRAINS), "--out", out, "-p", "warm_up", "0.5", "-p", "steps", "9")
    assert done.exit_code == run.DONE, done.output
    record = record_of(out)
    assert record["notebook"] == "05_small"
    config = TrainConfig.checked(steps=9, max_tokens=32, warm_up=0.5).as_record()
    others = {"rate": 5e-4, "name": "concat", "flag": False, "seeds": [0, 1], "data_dir": ""}
    assert record["parameters"] == {**config, **others}
    assert record["seconds"] > 0
    assert record["data"] == {"name": "made"}
    assert record["metrics"]["local_mi_nats"]["truth"] == 2.5
    assert record["environment"]["threads"] >= 1
    assert not (out / "measured.json").exists()


@pytest.mark.slow
def test_a_notebook_that_records_nothing_has_a_record_without_metrics(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    assert call(make(CHECKS), "--out", tmp_path / "out").exit_code == run.DONE
    record = record_of(tmp_path / "out")
    assert (record["data"], record["metrics"], record["environment"]) == ({}, {}, {})
    assert (record["notebook"], record["parameters"]["steps"]) == ("05_small", 2)


@pytest.mark.slow
def test_a_notebook_of_an_editor_runs_in_our_own_kernel(
    write_notebook: Any, good_cells: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a language, beside a foreign kernel named python3; and it says what is other."""
    kernel = tmp_path / "jupyter" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    argv = ["false", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Python 3", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    good_cells["parameters"][0].source += "\nseed = 0  # of everything random"
    parts = {name: good_cells[name] for name in ("title", "setup", "parameters", "body")}
    path = write_notebook(parts, counts=False)
    stored = nbformat.read(path, as_version=4)
    stored.metadata.clear()
    nbformat.write(stored, path)
    done = call(path, "--out", tmp_path / "out", "-p", "seed", "7")
    assert done.exit_code == run.DONE, done.output
    assert "ready, seed 7" in (tmp_path / "out" / path.name).read_text()
    top = nbformat.read(tmp_path / "out" / path.name, as_version=4).cells[0].source
    assert "seed = 7" in top
    assert "those of\nthe defaults" in top
    assert call(path, "--out", tmp_path / "plain").exit_code == run.DONE
    top = nbformat.read(tmp_path / "plain" / path.name, as_version=4).cells[0].source
    assert top == good_cells["title"][0].source


@pytest.mark.slow
def test_a_failing_notebook_is_named_and_kept(notebook: Path) -> None:
    failed = call(notebook, "-p", "steps", "100")
    assert failed.exit_code == run.FAILED
    assert "Failed in cell [3]: AssertionError: too many" in failed.stdout
    assert not (Path.cwd() / "runs/05_small-001/results.json").exists()
    executed = nbformat.read(Path.cwd() / "runs/05_small-001/05_small.ipynb", as_version=4)
    assert "steps 100" in str(executed.cells)


FULL_FOR_A_WHILE = """import pathlib, time
full = pathlib.Path(run_dir, "full")
full.touch()
for _ in range(5):
    print("working", flush=True)
    time.sleep(0.2)
full.unlink()"""


@pytest.mark.slow
def test_a_disk_that_is_full_within_a_cell_does_not_end_the_run(
    make: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The notebook is written between cells, however long one takes."""
    clock = itertools.count(step=60)
    written: list[str] = []

    def write(stored: nbformat.NotebookNode, path: str) -> None:
        if (tmp_path / "out" / "full").exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(str(stored.cells[-1].outputs))

    def later(_: object) -> datetime:
        return datetime.fromtimestamp(next(clock), UTC)

    monkeypatch.setattr(engines, "write_ipynb", write)
    monkeypatch.setattr(engines.NotebookExecutionManager, "now", later)
    done = call(make(FULL_FOR_A_WHILE), "--out", tmp_path / "out")
    assert done.exit_code == run.DONE, done.output
    assert done.output.count("working") == written[-1].count("working") == 5


class Disk(io.StringIO):
    """A log that may not be written."""

    error: OSError | None = None

    def write(self, text: str) -> int:
        if self.error:
            raise self.error
        return super().write(text)


def test_a_log_on_a_full_disk_costs_lines_and_not_the_run() -> None:
    log, screen = Disk(), Disk()
    both = Tee(log, screen)
    both.write("1")
    log.error = OSError(errno.ENOSPC, "No space left on device")
    both.write("2")
    log.error = None
    both.write("3")
    both.flush()
    assert (log.getvalue(), screen.getvalue()) == ("13", "123")
    screen.error = BrokenPipeError()
    with pytest.raises(BrokenPipeError):
        both.write("4")


TRAINS_AND_FAILS_ONCE = """from pathlib import Path
from types import SimpleNamespace
import torch
from localmi.processes import ALONE
from localmi.statistics import Interval
from localmi.train.loop import fit

class Training:
    step, config, processes = 0, SimpleNamespace(steps=steps, evaluate_every=2), ALONE
    def run(self):
        print("first step", self.step + 1)
        while self.step < steps:
            self.step += 1
            yield self.step - 1, 0.5
            if self.step == fails_at and not Path(run_dir, "killed").exists():
                Path(run_dir, "killed").touch()
                raise RuntimeError
    def evaluate(self, data):
        found = SimpleNamespace(bound=Interval(0.5, 0.4, 0.6), cap=1.0)
        return SimpleNamespace(held_out=found, shuffled=found)
    def save(self, path, write):
        torch.save({"step": self.step}, path)
    def load(self, path):
        self.step = torch.load(path)["step"]

log = fit(Training(), None, run_dir=Path(run_dir), resume=resume)"""


@pytest.mark.slow
@pytest.mark.parametrize(("fails_at", "first"), [(1, 1), (3, 3)])
def test_a_resumed_run_goes_on_from_its_checkpoint(
    make: Callable[..., Path], tmp_path: Path, fails_at: int, first: int
) -> None:
    """Or from the start, where it had none yet; each step is logged once."""
    further = f"\nresume = False  # go on\nfails_at = {fails_at}  # at this step"
    notebook, out = make(TRAINS_AND_FAILS_ONCE, further), tmp_path / "out"
    assert call(notebook, "--out", out, "-p", "steps", "5").exit_code == run.FAILED
    checkpoint = out / "checkpoint.pt"
    kept = checkpoint.stat().st_mtime_ns if first > 1 else 0
    begun_with = (out / "parameters.yaml").read_bytes()
    went_on = call(notebook, "--resume", "--out", out)
    assert went_on.exit_code == run.DONE, went_on.output
    assert f"first step {first}\n" in went_on.output
    assert checkpoint.stat().st_mtime_ns > kept
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "training" in row] == [1, 2, 3, 4, 5]
    assert (out / "parameters.yaml").read_bytes() == begun_with
    again = call(notebook, "--resume", "--out", out)
    assert (again.exit_code, "Finished before" in again.output) == (run.DONE, True)


# --- What surrounds the execution, without a kernel ---------------------------------------------


@pytest.fixture
def executes(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Path], object]], None]:
    """Puts a function of the run folder in the place of the notebook's execution."""

    def put(does: Callable[[Path], object]) -> None:
        def execute(executed: Path, **_: object) -> str:
            does(executed.parent)
            return ""

        monkeypatch.setattr(run, "execute_with_outputs", execute)

    return put


def nothing(_: Path) -> None:
    """What a notebook without a record does."""


def test_a_record_of_the_notebooks_own_is_kept(
    notebook: Path, executes: Callable[..., None], tmp_path: Path
) -> None:
    own = '{"metrics": {}, "mine": 1}'
    executes(lambda out: (out / "results.json").write_text(own))
    assert run.execute_plan(plan_run(notebook, out=tmp_path / "out")) == run.DONE
    assert (tmp_path / "out" / "results.json").read_text() == own


def test_without_run_dir_there_is_no_record(
    write_notebook: Any, good_cells: Any, executes: Callable[..., None], tmp_path: Path
) -> None:
    good_cells["parameters"][0].source = "steps = 2  # how many steps"
    executes(nothing)
    plan = plan_run(write_notebook(good_cells), out=tmp_path / "out")
    assert run.execute_plan(plan) == run.DONE
    assert sorted(path.name for path in plan.run_dir.iterdir()) == [
        "05_small.ipynb",
        "parameters.yaml",
        "run.log",
    ]


def test_a_run_that_was_killed_is_finished_when_it_ends(
    notebook: Path, executes: Callable[..., None], tmp_path: Path
) -> None:
    """By --resume as by --once, with the parameters that it began with."""
    out, asked = tmp_path / "out", {"steps": "5"}

    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    executes(killed)
    with pytest.raises(KeyboardInterrupt):
        run.execute_plan(plan_run(notebook, out=out, from_command=asked))
    with pytest.raises(KeyboardInterrupt):
        run.execute_plan(plan_run(notebook, out=out, resume=True))
    reached: list[Path] = []
    executes(reached.append)
    assert run.execute_plan(plan_run(notebook, out=out, resume=True)) == run.DONE
    assert run.run_once(notebook, out=out, from_command=asked) == run.DONE
    assert reached == [out]
    assert record_of(out)["parameters"]["steps"] == 5


@pytest.mark.parametrize("went_on", [False, True])
def test_a_resume_that_the_checkpoint_refuses_leaves_notebook_and_log_as_they_were(
    notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, went_on: bool
) -> None:
    """But not one that fails later: what it did is kept."""
    out = tmp_path / "out"

    def execute(executed: Path, screen: TextIO, errors: TextIO) -> str:
        errors.write("tried\n")
        executed.write_text(f"{executed.read_text()}\n")
        if went_on:
            (out / "metrics.jsonl").write_text("{}")
        return "Failed in cell [3]: CheckpointError: The data changed\n"

    monkeypatch.setattr(run, "execute_with_outputs", execute)
    assert call(notebook, "--out", out).exit_code == run.FAILED
    (out / "metrics.jsonl").unlink(missing_ok=True)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    again = call(notebook, "--out", out, "--resume")
    assert "The data changed" in again.output
    assert again.exit_code == (run.FAILED if went_on else REFUSED)
    left = {path.name: path.read_bytes() for path in out.iterdir()}
    assert (left == before) is not went_on


# --- Credentialed data --------------------------------------------------------------------------

A_PATIENT, A_STUDY = str(10_000_032), str(50_414_267)  # in MIMIC-CXR's ranges
SHOWS = """import json, os, pathlib, sys
from IPython.display import HTML, display
patient, study = 10_000_032, 50_414_267
print("lungs in tune", study)
print("heart hums", file=sys.stderr)
os.write(1, b"past the notebook")
display(HTML(f"<b>s{study}</b>"))
out = pathlib.Path(run_dir)
found = {"study_id": study, "steps": 12_345_678, f"p{patient}": [f"p{patient}/x"]}
metric = {"value": 1, "interval95": [0, 2]}
(out / "results.json").write_text(json.dumps({"metrics": {"mi": metric}, "data": found}))
(out / "midway.txt").write_text((out / "05_small.ipynb").read_text())
assert steps < 100, f"p{patient}"
f"p{patient}\""""
SECRETS = ("in tune 5", "hums\\n", A_PATIENT, A_STUDY)


@pytest.fixture
def on_mimic(notebook: Path, tmp_path: Path) -> Callable[..., run.Plan]:
    """The plan of a notebook, which shows what it must not, on data with MIMIC's ids."""
    stored = nbformat.read(notebook, as_version=4)
    stored.cells[3].source = SHOWS
    stored.cells[3].outputs = [nbformat.v4.new_output("stream", text="of an earlier run")]
    nbformat.write(stored, notebook)
    data = tmp_path / "data"
    data.mkdir()
    (data / "pairs.csv").write_text(f"patient_id,study_id\n{A_PATIENT},{A_STUDY}\n")

    def plan(allow_outputs: bool = False, **parameters: str) -> run.Plan:
        asked = {"data_dir": str(data), **parameters}
        out = tmp_path / "out"
        return plan_run(notebook, from_command=asked, out=out, allow_outputs=allow_outputs)

    return plan


def shown(folder: Path) -> str:
    return "".join(path.read_text() for path in sorted(folder.iterdir()))


def test_data_is_known_by_its_ids(on_mimic: Callable[..., run.Plan], tmp_path: Path) -> None:
    assert on_mimic().credentialed
    (tmp_path / "data" / "pairs.csv").write_text("patient_id,study_id\n90000032,80414267\n")
    assert not on_mimic().credentialed
    assert not on_mimic(data_dir="").credentialed


@pytest.mark.slow
def test_outputs_on_credentialed_data_reach_neither_disk_nor_screen(
    on_mimic: Callable[..., run.Plan], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run.execute_plan(on_mimic()) == run.DONE
    printed = capfd.readouterr().out
    left = shown(tmp_path / "out")
    for secret in (*SECRETS, "of an earlier run"):
        assert secret not in left + printed
    assert "past the notebook" not in printed
    assert "neither stored nor printed" in printed
    assert "cell [2] of 3" in printed
    assert "mi: 1 [0, 2]" in printed
    executed = nbformat.read(tmp_path / "out/05_small.ipynb", as_version=4)
    assert "outputs of this run are not stored" in executed.cells[0].source
    coded = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in coded] == [1, 2, 3]
    assert not any(cell.outputs for cell in coded)
    assert str(tmp_path / "data") in coded[1].source
    results = json.loads((tmp_path / "out/results.json").read_text())
    expected = {"study_id": "[id]", "steps": 12345678, "[id]": ["[id]/x"]}
    assert results["data"] == expected
    assert "outputs of this run" in (tmp_path / "out/midway.txt").read_text()
    assert (
        list(scan_files(tmp_path / "out" / name for name in ("05_small.ipynb", "run.log"))) == []
    )


@pytest.mark.slow
def test_a_failure_on_credentialed_data_says_its_type_and_cell(
    on_mimic: Callable[..., run.Plan], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run.execute_plan(on_mimic(steps="100")) == run.FAILED
    printed = "".join(capfd.readouterr())
    assert "Failed in cell [3]: AssertionError\n" in printed
    left = shown(tmp_path / "out")
    assert "It failed in cell [3]: AssertionError." in left
    for secret in (*SECRETS, "Traceback"):
        assert secret not in left + printed


@pytest.mark.slow
def test_outputs_on_credentialed_data_are_kept_when_asked_for(
    on_mimic: Callable[..., run.Plan], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.execute_plan(on_mimic(allow_outputs=True)) == run.DONE
    assert "in no repository" in capsys.readouterr().out
    executed = nbformat.read(tmp_path / "out/05_small.ipynb", as_version=4)
    assert "Do not pass this notebook on" in executed.cells[0].source
    assert A_PATIENT in str(executed.cells[5].outputs)
    assert [cell.source for cell in executed.cells].count(executed.cells[3].source) == 1
    assert A_STUDY not in (tmp_path / "out/results.json").read_text()
    found = [finding.words for finding in scan_files([tmp_path / "out/05_small.ipynb"])]
    assert "stored outputs of a run on data of MIMIC-CXR" in found


def test_a_notebook_may_have_the_switch_as_a_parameter(notebook: Path) -> None:
    stored = nbformat.read(notebook, as_version=4)
    stored.cells[1].source += "\nallow_outputs = False  # store what the cells show"
    nbformat.write(stored, notebook)
    for word in ("true", "false"):
        plan = plan_run(notebook, from_command={"allow_outputs": word})
        assert plan.allow_outputs == (word == "true")


def test_the_switch_of_the_command_reaches_the_plan(
    notebook: Path, planned: list[run.Plan]
) -> None:
    for words in ([], ["--allow-outputs"]):
        assert call(notebook, *words).exit_code == run.DONE
    assert [plan.allow_outputs for plan in planned] == [False, True]


def test_a_record_that_is_no_json_is_masked_as_text(tmp_path: Path) -> None:
    record = tmp_path / "results.json"
    record.write_text(f"{{ {A_STUDY}")
    assert private_run.mask_ids(record)
    assert record.read_text() == "{ [id]"
    record.write_text('{"patients": 3}')
    assert not private_run.mask_ids(record)


def test_what_was_measured_is_masked_as_the_record_is(tmp_path: Path) -> None:
    """It is left where a notebook failed, or was killed, after it was written."""
    records = [tmp_path / name for name in ("results.json", "measured.json")]
    for record in records:
        record.write_text(json.dumps({"data": {"study_id": int(A_STUDY), "steps": 12_345_678}}))
    assert private_run.mask_records(tmp_path) == records
    for record in records:
        assert json.loads(record.read_text()) == {"data": {"study_id": "[id]", "steps": 12345678}}
    assert private_run.mask_records(tmp_path) == []
    records[0].unlink()
    records[1].write_text(f'{{"of": "{A_STUDY}"}}')
    card = tmp_path / "model_card.md"
    card.write_text(f"- name: {A_STUDY}\n- weights: 12,345,678\n")
    assert private_run.mask_records(tmp_path) == [records[1], card]
    assert card.read_text() == "- name: [id]\n- weights: 12,345,678\n"


def test_ids_of_a_record_are_masked_where_their_name_says_so() -> None:
    found = {"hadm_id": [23_456_789, 7], "stay_id": 34_567_890, "steps": 23_456_789}
    masked = {"hadm_id": ["[id]", 7], "stay_id": "[id]", "steps": 23_456_789}
    assert private_run.without_ids(found) == masked


def test_a_run_says_what_is_other_than_in_the_notebook(
    notebook: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Field by field, wherever a field stands."""
    stored = nbformat.read(notebook, as_version=4)
    comment = "# other fields of localmi.train.config.TrainConfig"
    stored.cells[1].source += f'\nfurther: dict = {{"warm_up": 0.5, "grid": 2}}  {comment}'
    nbformat.write(stored, notebook)
    monkeypatch.setattr(run, "execute_with_outputs", lambda *_, **__: "")
    given = {"steps": "3", "max_tokens": "32", "grid": "2"}
    run.execute_plan(plan_run(notebook, from_command=given))
    said = capsys.readouterr().out
    assert "Parameters other than the defaults: steps = 3, max_tokens = 32\n" in said


def test_bars_of_other_packages_are_text_without_a_warning() -> None:
    """In the kernel of a run, where tqdm.auto looks for widgets."""
    source = "import localmi\nimport tqdm.auto\nprint(tqdm.auto.tqdm.__mro__[1].__module__)"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    client = NotebookClient(notebook, timeout=None, kernel_name="python3", config=KERNEL_CONFIG)
    client.execute()
    printed = [(each["name"], each["text"]) for each in notebook.cells[0].outputs]
    assert printed == [("stdout", "tqdm.std\n")]


# --- Asked to stop ------------------------------------------------------------------------------

WAITS = """import time
from pathlib import Path
from localmi.errors import StoppedError
from localmi.train.stop import noticed
with noticed() as asked:
    Path(run_dir, "ready").touch()
    while not asked():
        time.sleep(0.05)
raise StoppedError("saved")"""


def signalled(ready: Path, *, after: float = 0.0) -> threading.Thread:
    """Sends this process a SIGTERM once that file is there."""

    def send() -> None:
        while not ready.exists():
            time.sleep(0.05)
        time.sleep(after)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


@pytest.mark.slow
@pytest.mark.parametrize("credentialed", [False, True])
def test_asked_to_stop_the_notebook_saves_and_the_run_says_how_to_go_on(
    make: Callable[..., Path], tmp_path: Path, credentialed: bool
) -> None:
    notebook, out, data = make(WAITS), tmp_path / "out", tmp_path / "data"
    data.mkdir()
    patient = A_PATIENT if credentialed else "1"
    (data / "pairs.csv").write_text(f"patient_id,study_id\n{patient},2\n")
    signalled(out / "ready")
    stopped = call(notebook, "--out", out, "-p", "data_dir", data)
    assert stopped.exit_code == run.DONE, stopped.output
    assert (
        f"Resume by: {sys.executable} -m localmi run {notebook} --resume --out {out}"
        in stopped.output
    )
    assert (out / run.STOPPED).is_file()
    assert not (out / "results.json").exists()


@pytest.mark.slow
def test_asked_to_stop_where_nothing_saves_it_says_that_it_failed(
    make: Callable[..., Path], tmp_path: Path
) -> None:
    waits = "import time\nfrom pathlib import Path\nPath(run_dir, 'ready').touch()\ntime.sleep(99)"
    out = tmp_path / "out"
    notebook = make(waits)
    signalled(out / "ready", after=0.5)
    stopped = call(notebook, "--out", out)
    assert stopped.exit_code == run.INTERRUPTED
    assert "Failed" in stopped.output
    assert not (out / run.STOPPED).exists()


@pytest.mark.slow
def test_asked_to_stop_before_the_kernel_starts_it_does_not_go_on(
    make: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs a notebook is imported first, which takes seconds."""
    prepared = prepare.with_parameters

    def asked(*given: Any, **named: Any) -> nbformat.NotebookNode:
        os.kill(os.getpid(), signal.SIGTERM)
        return prepared(*given, **named)

    monkeypatch.setattr(prepare, "with_parameters", asked)
    out = tmp_path / "out"
    stopped = call(make("import time\ntime.sleep(20)"), "--out", out)
    assert stopped.exit_code == run.INTERRUPTED, stopped.output
    assert not (out / "results.json").exists()
