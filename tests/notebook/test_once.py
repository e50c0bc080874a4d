"""`--once`: each run of a sweep happens once, however often it is called, or killed."""

import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from filelock import FileLock
from places import NOTEBOOKS
from typer.testing import CliRunner

from localmi.__main__ import REFUSED, app
from localmi.notebook import run
from localmi.notebook.parameter_files import read_yaml


@pytest.fixture
def notebook(write_notebook: Any, good_cells: Any) -> Path:
    good_cells["parameters"][0].source += "\nresume = False  # go on from the checkpoint"
    parts = {name: good_cells[name] for name in ("title", "parameters", "body")}
    path: Path = write_notebook(parts, counts=False)
    return path


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[run.Plan]:
    """The plans that would be executed, instead of their execution."""
    plans: list[run.Plan] = []

    def execute(plan: run.Plan) -> tuple[str, bool]:
        (plan.run_dir / "parameters.yaml").write_text(yaml.safe_dump(dict(plan.values)))
        plans.append(plan)
        return "", False

    monkeypatch.setattr(run, "_execute", execute)
    return plans


class Killed(BaseException):
    """Nothing catches it, and nothing happens on the disk after it."""


def command(*words: object) -> Result:
    return CliRunner().invoke(app, ["run", *map(str, words)])


def call(notebook: Path, out: Path, *words: str) -> int:
    return command(notebook, "--once", "--out", out, "-p", "steps", "9", *words).exit_code


def refusal(notebook: Path, out: Path, *words: str) -> str:
    """What the command says that refuses this."""
    refused = command(notebook, "--once", "--out", out, "-p", "steps", "9", *words)
    assert refused.exit_code == REFUSED
    return refused.stderr


def test_a_run_happens_once(notebook: Path, tmp_path: Path, executed: list[run.Plan]) -> None:
    out = tmp_path / "runs" / "mine"
    assert call(notebook, out) == run.DONE
    (out / "results.json").write_text("{}")
    again = command(notebook, "--once", "--out", out, "-p", "steps", "9")
    assert again.exit_code == run.DONE
    assert len(executed) == 1
    assert f"Finished before: {out}" in again.stdout
    assert [path.name for path in out.parent.iterdir() if path.name[0] != "."] == ["mine"]


def test_a_killed_run_goes_on(notebook: Path, tmp_path: Path, executed: list[run.Plan]) -> None:
    """From its checkpoint, where there is one."""
    for _ in range(2):
        assert call(notebook, tmp_path / "run") == run.DONE
    with zipfile.ZipFile(tmp_path / "run" / "checkpoint.pt", "w"):
        pass
    for _ in range(2):  # parameters.yaml now says resume: true
        assert call(notebook, tmp_path / "run") == run.DONE
    assert [plan.resume for plan in executed] == [False, True, True, True]
    assert [plan.values["resume"] for plan in executed] == [False, False, True, True]
    assert {plan.values["steps"] for plan in executed} == {9}


@pytest.mark.parametrize("cut_off_by", [KeyboardInterrupt, Killed])
def test_a_run_is_begun_with_all_its_parameters_or_not_at_all(
    notebook: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cut_off_by: type[BaseException],
) -> None:
    """Ctrl-C while they are written leaves an empty folder, a kill a file aside: taken again."""
    out = tmp_path / "run"

    with monkeypatch.context() as patched:

        def cut_off(*_: object, **__: object) -> None:
            if cut_off_by is Killed:
                patched.setattr(Path, "unlink", cut_off)
            raise cut_off_by

        patched.setattr("os.replace", cut_off)
        with pytest.raises(cut_off_by):
            run.run_once(notebook, out=out, from_command={"steps": "9"})
    left = {KeyboardInterrupt: [], Killed: ["parameters.yaml.tmp"]}
    assert [path.name for path in out.iterdir()] == left[cut_off_by]
    assert call(notebook, out) == run.DONE
    assert read_yaml(out / "parameters.yaml")["steps"] == 9
    assert list(out.glob("*.tmp")) == []


def test_an_empty_folder_is_taken(
    notebook: Path, tmp_path: Path, executed: list[run.Plan]
) -> None:
    (tmp_path / "run").mkdir()
    assert call(notebook, tmp_path / "run") == run.DONE
    assert not executed[0].resume


def test_a_folder_of_something_else_is_refused(
    notebook: Path, tmp_path: Path, executed: list[run.Plan]
) -> None:
    (tmp_path / "run").mkdir()
    for name in ("half.tmp", "thesis.tex"):  # the first alone would be of a killed run
        (tmp_path / "run" / name).touch()
    assert "exists" in refusal(notebook, tmp_path / "run")
    assert len(list((tmp_path / "run").iterdir())) == 2
    assert executed == []


def test_other_parameters_are_refused(
    notebook: Path, tmp_path: Path, executed: list[run.Plan]
) -> None:
    """Finished or not: what is there stays."""
    assert call(notebook, tmp_path / "run") == run.DONE
    said = refusal(notebook, tmp_path / "run", "-p", "flag", "true")
    assert "flag: False then, True now" in said
    assert "steps:" not in said
    (tmp_path / "run" / "results.json").write_text("{}")
    assert "flag" in refusal(notebook, tmp_path / "run", "-p", "flag", "true")
    assert len(executed) == 1


def test_fields_of_the_configuration_are_compared_by_name(
    write_notebook: Any, good_cells: Any, tmp_path: Path, executed: list[run.Plan]
) -> None:
    cell = good_cells["parameters"][0]
    cell.source += "\nfurther: dict = {}  # other fields of localmi.train.config.TrainConfig"
    notebook, out = write_notebook(good_cells), tmp_path / "run"
    tokens = ("-p", "max_tokens", "32")
    assert call(notebook, out, *tokens) == run.DONE
    assert call(notebook, out, "-p", "further", "{max_tokens: 32}") == run.DONE
    assert "max_tokens: 32 then, 64 now" in refusal(notebook, out)
    assert "warm_up: 0.1 then, 0.5 now" in refusal(notebook, out, *tokens, "-p", "warm_up", "0.5")
    assert call(notebook, out, *tokens, "-p", "warm_up", "0.1") == run.DONE  # the default
    assert [plan.resume for plan in executed] == [False, True, True]


def test_it_needs_a_folder(notebook: Path) -> None:
    refused = command(notebook, "--once")
    assert refused.exit_code == REFUSED
    assert "--once needs --out" in refused.stderr


def test_the_second_of_two_waits_and_finds_the_run_finished(
    notebook: Path,
    tmp_path: Path,
    executed: list[run.Plan],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "run"
    assert call(notebook, out) == run.DONE
    held, waits = FileLock(tmp_path / ".run.lock"), threading.Event()
    held.acquire()
    monkeypatch.setattr("builtins.print", lambda *words, **_: waits.set())
    asked = {"out": out, "from_command": {"steps": "9"}}
    second = threading.Thread(target=run.run_once, args=(notebook,), kwargs=asked)
    second.start()
    assert waits.wait(10)
    (out / "results.json").write_text("{}")
    held.release()
    second.join(10)
    assert not second.is_alive()
    assert len(executed) == 1


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "missing"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    notebook: Path, tmp_path: Path, executed: list[run.Plan], damage: str
) -> None:
    """A sweep goes on by itself, as long as one of them is whole."""
    out = tmp_path / "run"
    assert call(notebook, out) == run.DONE
    newest, older = out / "checkpoint.pt", out / "checkpoint-000500.pt"
    for path in (newest, older):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("weights", bytes(1000))
    data = bytearray(newest.read_bytes())
    data[500] ^= 1
    newest.write_bytes({"truncated": data[:-9], "flipped": data}.get(damage, b""))
    if damage == "missing":
        newest.unlink()
    assert call(notebook, out) == run.DONE
    assert executed[-1].values["resume"] is True
    assert executed[-1].checkpoint == older
    older.write_bytes(b"")
    said = refusal(notebook, out)
    assert f"Every checkpoint in {out} is damaged: " in said
    assert "checkpoint-000500.pt" in said
    assert len(executed) == 2
    for path in (newest, older):  # as it advises
        path.unlink(missing_ok=True)
    assert call(notebook, out) == run.DONE
    assert executed[-1].values["resume"] is False


def test_the_checkpoint_is_the_one_that_the_notebooks_loop_writes() -> None:
    text = NOTEBOOKS / "text" / "07_train_local_mi.py"
    source = text.read_text(encoding="utf-8")
    assert f"\n{run.RESUME} = False" in source
    assert f"{run.RESUME}={run.RESUME})" in source  # handed on to `fit`
