"""Handouts: no solution is in them, and they run from the first cell to the last."""

import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from places import NOTEBOOKS, ROOT

from localmi.notebook.lint import output_text
from localmi.notebook.render import KERNEL_CONFIG

CHAPTERS = sorted(path.name for path in NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


@pytest.fixture(autouse=True)
def _beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "site"))


@pytest.fixture(scope="module")
def handouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("student")
    command = [sys.executable, str(ROOT / "site" / "student.py"), "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    return out


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_handout_has_every_stub_and_no_solution(name: str, handouts: Path) -> None:
    whole = nbformat.read(NOTEBOOKS / name, as_version=4)
    handed = nbformat.read(handouts / name, as_version=4)
    nbformat.validate(handed)
    solutions = [c.source for c in whole.cells if "solution" in c.metadata.get("tags", [])]
    sources = [cell.source for cell in handed.cells]
    assert solutions
    assert not set(solutions) & set(sources)
    others = [c.source for c in whole.cells if "solution" not in c.metadata.get("tags", [])]
    assert [source for source in sources if "until_solved(" not in source] == others
    assert not any(cell.get("outputs") for cell in handed.cells)


def test_pictures_that_are_linked_go_along(handouts: Path) -> None:
    for path in handouts.glob("*.ipynb"):
        text = "".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
        for picture in re.findall(r"\]\((\w+\.png)\)", text):
            assert (handouts / picture).is_file()


def test_what_later_cells_need_is_packed() -> None:
    cells: list[Any] = [
        nbformat.v4.new_code_cell("def my_a(x): ...\ncheck.exercise_1_1(my_a)"),
        nbformat.v4.new_code_cell(
            "def my_a(x):\n    return x\n\ndef helper(x): ...\ncheck.exercise_1_1(my_a)",
            metadata={"tags": ["solution"]},
        ),
        nbformat.v4.new_code_cell("def my_b(x):\n    return x", metadata={"tags": ["solution"]}),
        nbformat.v4.new_code_cell("print(my_a(1), helper)"),
    ]
    make = runpy.run_path(str(ROOT / "site" / "student.py"))
    notebook = make["without_solutions"](nbformat.v4.new_notebook(cells=cells))
    sources = [cell.source for cell in notebook.cells]
    assert len(sources) == 3
    assert 'until_solved("my_a", check.exercise_1_1, "' in sources[1]


def test_with_an_address_the_first_cell_installs_the_course() -> None:
    make = runpy.run_path(str(ROOT / "site" / "student.py"))
    cells = [nbformat.v4.new_code_cell("1 + 1")]
    notebook = make["without_solutions"](
        nbformat.v4.new_notebook(cells=cells), "https://x.org/c@9f"
    )
    first, *others = [cell.source for cell in notebook.cells]
    assert "restart the session" in first  # what is installed anew is not imported yet
    assert others == [
        "%pip install --quiet --editable git+https://x.org/c@9f#egg=localmi",
        "1 + 1",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["01_mutual_information.ipynb", "10_the_papers_tables.ipynb"])
def test_a_handout_runs_to_its_end(name: str, handouts: Path) -> None:
    notebook = nbformat.read(handouts / name, as_version=4)
    NotebookClient(notebook, timeout=None, kernel_name="python3", config=KERNEL_CONFIG).execute()
    said = "".join(output_text(cell) for cell in notebook.cells)
    assert "not tried yet" in said
    assert not re.search(r"exercise \d+\.\d+: right", said)
