"""Small notebooks for the tests of the course's machinery."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
CARD = "\n".join(
    f"**{label}**: ..."
    for label in (
        "You will be able to",
        "Before this",
        "Reading time",
        "Run time",
        "Memory",
        "Data",
    )
)
PARAMETERS = """steps = 2  # how many steps
rate = 5e-4  # learning rate
name = "concat"  # which critic
flag = False  # a switch
seeds: list[int] = [0, 1]  # one run each
data_dir = ""  # folder of the data
run_dir = ""  # where results are kept"""


def code(source: str, *tags: str, printed: str = "", **metadata: Any) -> nbformat.NotebookNode:
    """A code cell with its tags and what it printed."""
    outputs = [new_output("stream", name="stdout", text=printed)] if printed else []
    return new_code_cell(source, outputs=outputs, metadata={"tags": list(tags), **metadata})


def text(source: str) -> nbformat.NotebookNode:
    """A Markdown cell."""
    return new_markdown_cell(source)


def exercise(number: str) -> list[nbformat.NotebookNode]:
    """Stub with check, then the collapsed solution."""
    call = f"check.exercise_{number.replace('.', '_')}(answer)"
    return [
        code(call, printed=f"exercise {number}: not tried yet"),
        code(
            f"answer = 1\n{call}",
            "solution",
            printed=f"exercise {number}: right",
            jupyter={"source_hidden": True},
        ),
    ]


def question(number: int) -> str:
    """A question of a quiz: one answer right, two wrong."""
    asked = [f"**Question {number}.** Which?\n"]
    for verdict in ("No", "Right", "No"):
        asked.append(f"<details><summary>One</summary>\n\n**{verdict}.** So.\n\n</details>")
    return "\n".join(asked) + "\n"


@pytest.fixture
def good_cells() -> dict[str, list[nbformat.NotebookNode]]:
    """The parts of a notebook without a fault, by name, in order."""
    return {
        "title": [text("# 5 A notebook")],
        "card": [text(CARD)],
        "setup": [code("from localmi.course.start import set_up\nset_up()", "setup")],
        "parameters": [code(PARAMETERS, "parameters")],
        "body": [
            text("## 1 A question\n\nIt gives **1.84 nats**: see [the license](../LICENSE)."),
            code("print(1.84)", printed="1.84"),
        ],
        "exercises": [*exercise("5.1"), *exercise("5.2")],
        "quiz": [text("## Quiz\n\n" + "\n".join(map(question, range(1, 7))))],
        "key points": [text("## Key points\n\n- one")],
        "references": [text("## References\n\n- [Liao 2021](https://doi.org/10.1/x)")],
        "record": [code("record = {}", "record")],
    }


@pytest.fixture
def write_notebook(tmp_path: Path) -> Callable[..., Path]:
    """Writes cells, given as parts, as an executed notebook notebooks/05_small.ipynb."""

    def write(parts: dict[str, list[nbformat.NotebookNode]], counts: bool = True) -> Path:
        folder = tmp_path / "notebooks"
        folder.mkdir(exist_ok=True)
        (tmp_path / "LICENSE").touch()
        cells = [cell for part in parts.values() for cell in part]
        coded = [cell for cell in cells if cell.cell_type == "code"]
        for count, cell in enumerate(coded, start=1):
            cell.execution_count = count if counts else None
        path = folder / "05_small.ipynb"
        nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": KERNEL}), path)
        return path

    return write
