import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml

from localmi.course import run
from localmi.errors import ConfigError

BODY = """import json, pathlib
print("steps", steps, "flag", flag)
assert steps < 100, "too many"
if run_dir:
    found = {"local_mi_nats": {"value": 1.25, "interval95": [1.1, 1.4]}}
    found = {"metrics": {**found, "one_patient": {"value": 2, "interval95": [None, None]}}}
    pathlib.Path(run_dir, "results.json").write_text(json.dumps(found))"""


@pytest.fixture
def notebook(write_notebook: Any, good_cells: Any, monkeypatch: Any, tmp_path: Path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    good_cells["body"][1].source = BODY
    parts = {name: good_cells[name] for name in ("title", "parameters", "body")}
    path: Path = write_notebook(parts, counts=False)
    return path


def test_runs_are_numbered_where_the_command_is_given(notebook: Path) -> None:
    first = run.prepare(notebook)
    assert first.run_dir == Path.cwd() / "runs" / "05_small-001"
    first.run_dir.mkdir(parents=True)
    assert run.prepare(notebook).run_dir.name == "05_small-002"


def test_two_runs_that_start_together_have_two_folders(notebook: Path) -> None:
    first, second = run.prepare(notebook), run.prepare(notebook)
    assert first.run_dir == second.run_dir  # neither has made it yet
    taken = [run._take_folder(plan).run_dir.name for plan in (first, second)]
    assert taken == ["05_small-001", "05_small-002"]


def test_a_named_folder_that_was_just_taken_is_not_shared(notebook: Path, tmp_path: Path) -> None:
    plan = run.prepare(notebook, out=tmp_path / "mine")
    (tmp_path / "mine").mkdir()
    with pytest.raises(FileExistsError, match="mine"):
        run._take_folder(plan)


def test_nothing_is_written_when_a_run_is_refused(notebook: Path) -> None:
    for words in (["-p", "stesp", "3"], ["-p", "steps", "x"], ["-p", "run_dir", "x"]):
        assert run.main([str(notebook), *words]) == run.REFUSED
    assert list(Path.cwd().iterdir()) == []


def test_an_existing_run_folder_is_refused(notebook: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exists.*--resume"):
        run.prepare(notebook, out=tmp_path)


def test_resume_takes_up_the_parameters_of_the_run(notebook: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "parameters.yaml").write_text("steps: 9\nflag: true\n")
    plan = run.prepare(notebook, out=out, resume=True, from_command={"flag": "false"})
    assert (plan.values["steps"], plan.values["flag"]) == (9, False)
    assert plan.changed == {"steps": 9}


def test_resume_needs_a_run_folder(notebook: Path, tmp_path: Path) -> None:
    for out in (None, tmp_path / "none", tmp_path):
        with pytest.raises(ConfigError, match="--resume needs --out"):
            run.prepare(notebook, out=out, resume=True)


@pytest.mark.parametrize("content", ["- a\n- b\n", "a: [", "1: 2\n"])
def test_a_bad_parameter_file_is_refused(notebook: Path, tmp_path: Path, content: str) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(content)
    assert run.main([str(notebook), "-f", str(file)]) == run.REFUSED
    assert run.main([str(notebook), "-f", str(tmp_path / "none.yaml")]) == run.REFUSED


def test_help_prints_the_table(notebook: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["--help", str(notebook)], [str(notebook), "--help"]):
        assert run.main(words) == run.DONE
        rows = [row.split() for row in capsys.readouterr().out.splitlines()]
        assert ["steps", "int", "2", "how", "many", "steps"] in rows
    assert run.main(["--help"]) == run.DONE
    assert run.main([]) == run.REFUSED


@pytest.mark.slow
def test_a_run_leaves_everything_in_its_folder(
    notebook: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("steps: 5\n")
    words = [str(notebook), "-f", str(file), "-p", "flag", "true"]
    assert run.main(words) == run.DONE
    out = Path.cwd() / "runs" / "05_small-001"
    assert yaml.safe_load((out / "parameters.yaml").read_text())["steps"] == 5
    assert json.loads((out / "results.json").read_text())["metrics"]
    executed = nbformat.read(out / "05_small.ipynb", as_version=4)
    assert "injected-parameters" in executed.cells[2].metadata.tags
    printed = capsys.readouterr().out
    assert "steps 5 flag True" in printed
    assert "local_mi_nats: 1.25 [1.1, 1.4]" in printed
    assert "one_patient: 2 [?, ?]" in printed
    assert "steps 5 flag True" in (out / "run.log").read_text()
    assert "injected" not in notebook.read_text()  # the course's own file is as it was
    assert run.main([str(notebook), "--out", str(out), "--resume"]) == run.DONE
    assert capsys.readouterr().out.count("steps 5 flag True") == 1


@pytest.mark.slow
def test_a_failing_notebook_is_named_and_kept(
    notebook: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main([str(notebook), "-p", "steps", "100"]) == run.FAILED
    printed = capsys.readouterr().out
    assert "Failed in cell [3]: AssertionError: too many" in printed
    executed = nbformat.read(Path.cwd() / "runs/05_small-001/05_small.ipynb", as_version=4)
    assert "steps 100" in str(executed.cells)
