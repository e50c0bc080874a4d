import threading
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from places import NOTEBOOKS

from localmi.notebook import once, run


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

    def execute_plan(plan: run.Plan) -> int:
        plan.run_dir.mkdir(parents=True, exist_ok=plan.resume)
        (plan.run_dir / "parameters.yaml").write_text(
            "".join(f"{name}: {value!r}\n" for name, value in plan.values.items())
        )
        plans.append(plan)
        return run.DONE

    monkeypatch.setattr(run, "execute_plan", execute_plan)
    return plans


def call(notebook: Path, out: Path, *words: str) -> int:
    return run.main([str(notebook), "--once", "--out", str(out), "-p", "steps", "9", *words])


def test_a_run_happens_once(
    notebook: Path, tmp_path: Path, executed: list[run.Plan], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs" / "mine"
    assert call(notebook, out) == run.DONE
    (out / "results.json").write_text("{}")
    assert call(notebook, out) == run.DONE
    assert len(executed) == 1
    assert f"Finished before: {out}" in capsys.readouterr().out
    assert [path.name for path in out.parent.iterdir() if path.name[0] != "."] == ["mine"]


def test_a_killed_run_goes_on(notebook: Path, tmp_path: Path, executed: list[run.Plan]) -> None:
    """From its checkpoint, where there is one."""
    for _ in range(2):
        assert call(notebook, tmp_path / "run") == run.DONE
    (tmp_path / "run" / "checkpoint.pt").touch()
    for _ in range(2):  # parameters.yaml now says resume: true
        assert call(notebook, tmp_path / "run") == run.DONE
    assert [plan.resume for plan in executed] == [False, True, True, True]
    assert [plan.values["resume"] for plan in executed] == [False, False, True, True]
    assert {plan.values["steps"] for plan in executed} == {9}


def test_a_run_is_begun_with_all_its_parameters_or_not_at_all(
    notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill while they are written leaves an empty folder, which is taken again."""
    whole = Path.write_text

    def cut_off(path: Path, text: str, **options: Any) -> int:
        whole(path, text[:5], **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", cut_off)
        with pytest.raises(KeyboardInterrupt):
            call(notebook, tmp_path / "run")
    assert (tmp_path / "run").is_dir()
    assert call(notebook, tmp_path / "run") == run.DONE
    assert run.read_yaml(tmp_path / "run" / "parameters.yaml")["steps"] == 9


def test_an_empty_folder_is_taken(
    notebook: Path, tmp_path: Path, executed: list[run.Plan]
) -> None:
    (tmp_path / "run").mkdir()
    assert call(notebook, tmp_path / "run") == run.DONE
    assert not executed[0].resume


def test_a_folder_of_something_else_is_refused(
    notebook: Path,
    tmp_path: Path,
    executed: list[run.Plan],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").touch()
    assert call(notebook, tmp_path / "run") == run.REFUSED
    assert "exists" in capsys.readouterr().err
    assert executed == []


def test_other_parameters_are_refused(
    notebook: Path,
    tmp_path: Path,
    executed: list[run.Plan],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Finished or not: what is there stays."""
    assert call(notebook, tmp_path / "run") == run.DONE
    assert call(notebook, tmp_path / "run", "-p", "flag", "true") == run.REFUSED
    assert "flag: False then, True now" in capsys.readouterr().err
    (tmp_path / "run" / "results.json").write_text("{}")
    assert call(notebook, tmp_path / "run", "-p", "flag", "true") == run.REFUSED
    assert len(executed) == 1


def test_it_needs_a_folder(notebook: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main([str(notebook), "--once"]) == run.REFUSED
    assert "--once needs --out" in capsys.readouterr().err


def test_the_second_of_two_waits_and_finds_the_run_finished(
    notebook: Path,
    tmp_path: Path,
    executed: list[run.Plan],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    assert call(notebook, out) == run.DONE
    held, waits = FileLock(tmp_path / ".run.lock"), threading.Event()
    held.acquire()
    monkeypatch.setattr("builtins.print", lambda *words, **_: waits.set())
    second = threading.Thread(target=call, args=(notebook, out))
    second.start()
    assert waits.wait(10)
    (out / "results.json").write_text("{}")
    held.release()
    second.join(10)
    assert not second.is_alive()
    assert len(executed) == 1


def test_the_name_of_the_checkpoint_is_the_notebooks() -> None:
    text = NOTEBOOKS / "text" / "07_train_local_mi.py"
    source = text.read_text(encoding="utf-8")
    assert f'"{once.CHECKPOINT}"' in source
    assert f"\n{once.RESUME} = False" in source
