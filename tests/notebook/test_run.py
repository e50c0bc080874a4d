import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml

from localmi.errors import ConfigError
from localmi.notebook import private_run, run
from localmi.privacy.scan import scan_files

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
    first = run.plan_run(notebook)
    assert first.run_dir == Path.cwd() / "runs" / "05_small-001"
    first.run_dir.mkdir(parents=True)
    assert run.plan_run(notebook).run_dir.name == "05_small-002"


def test_two_runs_that_start_together_have_two_folders(notebook: Path) -> None:
    first, second = run.plan_run(notebook), run.plan_run(notebook)
    assert first.run_dir == second.run_dir  # neither has made it yet
    taken = [run._take_folder(plan).run_dir.name for plan in (first, second)]
    assert taken == ["05_small-001", "05_small-002"]


def test_a_named_folder_that_was_just_taken_is_not_shared(notebook: Path, tmp_path: Path) -> None:
    plan = run.plan_run(notebook, out=tmp_path / "mine")
    (tmp_path / "mine").mkdir()
    with pytest.raises(FileExistsError, match="mine"):
        run._take_folder(plan)


def test_nothing_is_written_when_a_run_is_refused(notebook: Path) -> None:
    for words in (["-p", "stesp", "3"], ["-p", "steps", "x"], ["-p", "run_dir", "x"]):
        assert run.main([str(notebook), *words]) == run.REFUSED
    assert list(Path.cwd().iterdir()) == []


def test_an_existing_run_folder_is_refused(notebook: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="exists.*--resume"):
        run.plan_run(notebook, out=tmp_path)


def test_resume_takes_up_the_parameters_of_the_run(notebook: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "parameters.yaml").write_text("steps: 9\nflag: true\n")
    plan = run.plan_run(notebook, out=out, resume=True, from_command={"flag": "false"})
    assert (plan.values["steps"], plan.values["flag"]) == (9, False)
    assert plan.changed == {"steps": 9}


def test_resume_needs_a_run_folder(notebook: Path, tmp_path: Path) -> None:
    for out in (None, tmp_path / "none", tmp_path):
        with pytest.raises(ConfigError, match="--resume needs --out"):
            run.plan_run(notebook, out=out, resume=True)


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
def on_mimic(notebook: Path, tmp_path: Path) -> list[str]:
    """The words that run a notebook, which shows what it must not, on data with MIMIC's ids."""
    stored = nbformat.read(notebook, as_version=4)
    stored.cells[3].source = SHOWS
    stored.cells[3].outputs = [nbformat.v4.new_output("stream", text="of an earlier run")]
    nbformat.write(stored, notebook)
    data = tmp_path / "data"
    data.mkdir()
    (data / "pairs.csv").write_text(f"patient_id,study_id\n{A_PATIENT},{A_STUDY}\n")
    return [str(notebook), "-p", "data_dir", str(data), "--out", str(tmp_path / "out")]


def shown(folder: Path) -> str:
    return "".join(path.read_text() for path in sorted(folder.iterdir()))


def test_data_is_known_by_its_ids(on_mimic: list[str], tmp_path: Path) -> None:
    data = {"data_dir": on_mimic[3]}
    assert run.plan_run(Path(on_mimic[0]), from_command=data).credentialed
    (tmp_path / "data" / "pairs.csv").write_text("patient_id,study_id\n90000032,80414267\n")
    assert not run.plan_run(Path(on_mimic[0]), from_command=data).credentialed
    assert not run.plan_run(Path(on_mimic[0])).credentialed


@pytest.mark.slow
def test_outputs_on_credentialed_data_reach_neither_disk_nor_screen(
    on_mimic: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run.main(on_mimic) == run.DONE
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
    on_mimic: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run.main([*on_mimic, "-p", "steps", "100"]) == run.FAILED
    printed = "".join(capfd.readouterr())
    assert "Failed in cell [3]: AssertionError\n" in printed
    left = shown(tmp_path / "out")
    assert "It failed in cell [3]: AssertionError." in left
    for secret in (*SECRETS, "Traceback"):
        assert secret not in left + printed


@pytest.mark.slow
def test_outputs_on_credentialed_data_are_kept_when_asked_for(
    on_mimic: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main([*on_mimic, "--allow-outputs"]) == run.DONE
    assert "in no repository" in capsys.readouterr().out
    executed = nbformat.read(tmp_path / "out/05_small.ipynb", as_version=4)
    assert "Do not pass this notebook on" in executed.cells[0].source
    assert A_PATIENT in str(executed.cells[5].outputs)
    assert [cell.source for cell in executed.cells].count(executed.cells[3].source) == 1
    assert A_STUDY not in (tmp_path / "out/results.json").read_text()
    found = [finding.words for finding in scan_files([tmp_path / "out/05_small.ipynb"])]
    assert "stored outputs of a run on data of MIMIC-CXR" in found


def test_a_notebook_may_have_the_switch_as_a_parameter(on_mimic: list[str]) -> None:
    stored = nbformat.read(on_mimic[0], as_version=4)
    stored.cells[1].source += "\nallow_outputs = False  # store what the cells show"
    nbformat.write(stored, on_mimic[0])
    for word in ("true", "false"):
        plan = run.plan_run(Path(on_mimic[0]), from_command={"allow_outputs": word})
        assert plan.allow_outputs == (word == "true")


def test_a_record_that_is_no_json_is_masked_as_text(tmp_path: Path) -> None:
    record = tmp_path / "results.json"
    record.write_text(f"{{ {A_STUDY}")
    assert private_run.mask_ids(record)
    assert record.read_text() == "{ [id]"
    record.write_text('{"patients": 3}')
    assert not private_run.mask_ids(record)
