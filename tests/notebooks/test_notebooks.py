"""What is stored in notebooks/ and data/example; `make test` also executes it all under nbval."""

import csv
import gzip
import re
from pathlib import Path

import jupytext
import nbformat
import pytest
from places import ROOT

from localmi.notebook import lint, render
from localmi.privacy.record_ids import RECORD_ID
from localmi.privacy.rules import MIMIC_ID

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EXAMPLE = ROOT / "data" / "example"

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])


@each_notebook
def test_lint(path: Path) -> None:
    assert [str(problem) for problem in lint.lint_notebook(path)] == []


@each_notebook
def test_the_text_pair_is_in_step(path: Path) -> None:
    stored = nbformat.read(path, as_version=4)
    text = jupytext.read(render.text_path(path), fmt="py:percent")
    assert [
        (cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in text.cells
    ] == [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in stored.cells], (
        "make render brings them in step"
    )


def test_each_text_has_its_notebook() -> None:
    assert render.all_notebooks(ROOT / "notebooks") == NOTEBOOKS


def test_numbers_are_unique() -> None:
    numbers = [path.stem.partition("_")[0] for path in NOTEBOOKS]
    assert len(set(numbers)) == len(numbers)


@pytest.fixture
def template(tmp_path: Path) -> Path:
    """The template of CONTRIBUTING.md as a notebook."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    block = text.partition("### Template")[2].split("```")[1].removeprefix("python\n")
    (tmp_path / "README.md").touch()
    (tmp_path / "notebooks").mkdir()
    path = tmp_path / "notebooks" / "05_title.ipynb"
    nbformat.write(jupytext.reads(block, fmt="py:percent"), path)
    return path


def test_the_authors_template_has_the_shape_that_is_asked_for(template: Path) -> None:
    left = [problem.words for problem in lint.lint_notebook(template)]
    to_come = "make render|stored output should|^1 questions in the quiz"
    assert [words for words in left if not re.search(to_come, words)] == []


@pytest.mark.slow
def test_the_authors_template_runs(template: Path) -> None:
    notebook = nbformat.read(template, as_version=4)
    for cell in notebook.cells:  # its exercises have no checks
        cell.source = re.sub(r"^check\.exercise.*$", "", cell.source, flags=re.MULTILINE)
    render.execute(notebook, template.parent)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [output.output_type for output in outputs][:2] == ["execute_result", "stream"]
    assert outputs[2].metadata["image/png"]["alt"].startswith("The share is the same")


def test_ids_of_the_example_study_lie_outside_mimics_ranges() -> None:
    tables = sorted(EXAMPLE.rglob("*.csv*"))
    if not tables:
        pytest.skip("there is no data/example yet")
    for table in tables:
        open_table = gzip.open if table.suffix == ".gz" else open
        with open_table(table, "rt", encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                for column in ("subject_id", "study_id"):
                    assert not MIMIC_ID.search(row.get(column) or ""), (table.name, row)
                for column in ("hadm_id", "stay_id"):
                    assert not RECORD_ID.search(row.get(column) or ""), (table.name, row)


def test_files_of_the_example_study_lie_outside_mimics_ranges() -> None:
    for path in EXAMPLE.rglob("*"):
        for part in path.relative_to(EXAMPLE).parts:
            assert not MIMIC_ID.search(Path(part).stem), path
        if path.suffix == ".txt":
            assert not MIMIC_ID.search(path.read_text(encoding="utf-8")), path


def test_the_scan_finds_an_id() -> None:
    for text in (
        "p1" + "0000032",
        "s5" + "0414267",
        "5" + "0414267",
        "subject 1" + "9999999."[:-1],
    ):
        assert MIMIC_ID.search(text)
    for text in ("p90000412", "80000010", "11,689,512", "0.15041426", "1" + "50414267"):
        assert not re.search(MIMIC_ID, text)
