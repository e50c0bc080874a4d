import os
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest

from localmi.errors import DataError
from localmi.notebook import render


@pytest.fixture
def notebook(write_notebook: Any, good_cells: Any) -> Path:
    parts = {name: good_cells[name] for name in ("title", "parameters", "body")}
    parts["body"][
        1
    ].source = "import sys\nprint(steps)\nprint(rate)\nprint(1, file=sys.stderr)\nname"
    path: Path = write_notebook(parts, counts=False)
    return path


def test_the_text_pair_holds_the_same_cells(notebook: Path) -> None:
    stored = nbformat.read(notebook, as_version=4)
    again = jupytext.reads(render.text_of(stored), fmt="py:percent")
    assert [(c.cell_type, c.source) for c in again.cells] == [
        (c.cell_type, c.source) for c in stored.cells
    ]
    assert again.cells[1].metadata["tags"] == ["parameters"]


def edited(path: Path, before: str, after: str) -> None:
    path.write_text(path.read_text().replace(before, after))


@pytest.mark.slow
def test_the_edited_of_notebook_and_text_is_taken_up(notebook: Path) -> None:
    """Whichever is newer: a checkout gives both any age."""
    text = render.text_path(notebook)
    assert render.render_notebooks([notebook]) == 0
    whole = {path: path.read_bytes() for path in (notebook, text)}
    for path in whole:
        for age in (-100, 100):
            edited(path, "# 5 A notebook", "# 5 Changed")
            os.utime(text, (notebook.stat().st_mtime + age,) * 2)
            assert render.take_up_text(notebook).cells[0].source == "# 5 Changed"
            path.write_bytes(whole[path])
    for path in whole:  # the same edit in both
        edited(path, "# 5 A notebook", "# 5 Changed")
    assert render.take_up_text(notebook).cells[0].source == "# 5 Changed"
    edited(text, "# 5 Changed", "# 5 Changed again")  # and another
    both = {path: path.read_bytes() for path in whole}
    with pytest.raises(DataError, match="both were edited"):
        render.render_notebooks([notebook])
    assert {path: path.read_bytes() for path in whole} == both
    notebook.unlink()
    assert render.take_up_text(notebook).cells[0].source == "# 5 Changed again"
    assert render.all_notebooks(notebook.parent) == [notebook]


def test_a_notebook_that_is_not_there(tmp_path: Path) -> None:
    for take_up in (render.take_up_text, lambda path: render.render_notebooks([path])):
        with pytest.raises(DataError, match="There is no notebook"):
            take_up(tmp_path / "05.ipynb")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_rendering_twice_gives_the_same_file(notebook: Path) -> None:
    assert render.render_notebooks([notebook]) == 0
    first = notebook.read_bytes(), render.text_path(notebook).read_bytes()
    cells = nbformat.read(notebook, as_version=4).cells
    assert [cell.execution_count for cell in cells if cell.cell_type == "code"] == [1, 2]
    printed, value = cells[3].outputs  # one stream, no stderr
    assert printed.text == "2\n0.0005\n"
    assert value.data["text/plain"] == "'concat'"
    assert render.render_notebooks([notebook]) == 0
    assert (notebook.read_bytes(), render.text_path(notebook).read_bytes()) == first


@pytest.mark.slow
def test_a_failing_notebook_stays_as_it_was(notebook: Path) -> None:
    text = notebook.read_text().replace("print(rate)", "raise ValueError")
    notebook.write_text(text)
    assert render.render_notebooks([notebook]) == 1
    assert notebook.read_text() == text


def test_kernels_of_several_processes_have_sockets_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RANK", "1")
    one, other = render.OwnKernel(), render.OwnKernel()
    assert {one.transport, other.transport} == {"ipc"}
    assert one.ip != other.ip
    assert Path(one.ip).is_absolute()
