"""The notebooks as they are handed out, without their solutions: `make student`.

What later cells need of a solution stays, packed: they run whether an exercise is solved or not.
With --install they begin by installing the course, for a machine that has nothing (Colab).
"""

import argparse
import ast
import re
import shutil
from pathlib import Path
from typing import Any

import nbformat
from book import HERE, chapters

from localmi.course.handout import pack

FIRST = "Run the next cell, then restart the session (Runtime, Restart), and go on below it."


def without_solutions(notebook: Any, install: str = "") -> Any:
    """A notebook to work in: stubs as they are, no solution, no output.

    Args:
        install: address@revision of the course, installed by the first cell with its example data.
    """
    cells = []
    if install:
        cells = [nbformat.v4.new_markdown_cell(FIRST)]
        line = f"%pip install --quiet --editable git+{install}#egg=localmi"
        cells.append(nbformat.v4.new_code_cell(line))
    for number, cell in enumerate(notebook.cells):
        if "solution" in cell.metadata.get("tags", []):
            cell = _stand_in(cell.source, notebook.cells[number + 1 :])
            if cell is None:
                continue
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        cells.append(cell)
    notebook.cells = cells
    return notebook


def _stand_in(solution: str, later: list[Any]) -> Any:
    """What stands in a solution's place where later cells need its function; None: nothing."""
    functions = [node for node in ast.parse(solution).body if isinstance(node, ast.FunctionDef)]
    made = {one.name for one in functions if one.name.startswith("my_")}  # what is asked for
    for cell in later:
        tags = cell.metadata.get("tags", [])
        if cell.cell_type != "code" or "solution" in tags:
            continue
        names = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Name)]
        for name in made & {node.id for node in names}:
            check = re.search(r"check\.exercise_\d+_\d+", solution)
            assert check is not None
            call = f'until_solved("{name}", {check[0]}, "{pack(solution)}", globals())'
            return nbformat.v4.new_code_cell(
                f"from localmi.course import until_solved\n\n{call}",
                metadata={"jupyter": {"source_hidden": True}},
            )
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE.parent / "build" / "student")
    parser.add_argument("--install", default="", help="address@revision of the course")
    asked = parser.parse_args()
    out = asked.out
    out.mkdir(parents=True, exist_ok=True)
    for path in chapters():
        notebook = without_solutions(nbformat.read(path, as_version=4), asked.install)
        nbformat.write(notebook, out / path.name)
        for picture in path.parent.glob(f"{path.stem[:2]}_*.png"):  # that its text links to
            shutil.copy(picture, out)
    print(f"{len(chapters())} notebooks without solutions: {out}")


if __name__ == "__main__":
    main()
