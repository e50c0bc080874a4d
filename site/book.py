"""The course as a static book: `make site`. From the stored notebooks; nothing is executed.

The pages of this folder and copies of the notebooks are laid side by side, and Sphinx makes HTML
of them. In a copy solutions and the apparatus of a run are folded; figures have their alt texts.
"""

import argparse
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from docutils.nodes import make_id
from sphinx.cmd.build import build_main

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
FOLDED = {"solution": "Show the solution", "setup": "Show the imports", "record": "Show it"}
EXERCISE = re.compile(r"^### (Exercise (\d+\.\d+).*)$", re.MULTILINE)
LISTED = """# Exercises

Each has a stub to fill in, a check that says in words what is wrong, and a solution, folded. The
check runs in the notebook.
"""


def chapters() -> list[Path]:
    """The notebooks, in their order."""
    return sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


def chapter(notebook: Any) -> Any:
    """A notebook as the book shows it: what is folded, and alt texts where Sphinx reads them."""
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        tags, shown = set(cell.metadata.get("tags", [])), {}
        for tag in tags & FOLDED.keys():
            cell.metadata["tags"] = [*tags, "hide-cell" if tag == "solution" else "hide-input"]
            shown["code_prompt_show"] = FOLDED[tag]
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                kept = output.metadata["image/png"]
                size = {"width": f"{kept['width']}px"} if "width" in kept else {}
                shown["image"] = {"alt": kept["alt"], **size}
        if shown:
            cell.metadata["mystnb"] = shown
    return notebook


def exercises(notebook: Any) -> Iterator[tuple[str, str, str]]:
    """(number, anchor, first sentence of the text) of each exercise of a notebook."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and (found := EXERCISE.search(cell.source)):
            text = cell.source[found.end() :].strip().replace("\n", " ")
            first = re.match(r".*?[.?:!](?= |$)", text)
            yield found[2], make_id(found[1]), first[0] if first else text


def colab(address: str, name: str) -> str:
    """A line that opens a handout on Colab, from the branch `colab`, which site.yml pushes."""
    there = address.replace("github.com", "colab.research.google.com/github", 1)
    page = f"{there}/blob/colab/{name}"
    return (
        f"[Open in Colab]({page}): the first cell installs the course; then restart the session."
    )


def lay_out(folder: Path) -> None:
    """All pages, and what Sphinx needs besides, into a folder."""
    shutil.copytree(HERE / "_static", folder / "_static")
    for page in (*HERE.glob("*.md"), HERE / "conf.py", *(ROOT / "notebooks").glob("*.png")):
        shutil.copy(page, folder)
    shutil.copy(ROOT / "TEACHING.md", folder / "teaching.md")
    explorer = (ROOT / "data/example/results/main_run/explorer.json").read_text(encoding="utf-8")
    (folder / "_static" / "explorer-data.js").write_text(f"window.EXPLORER = {explorer};", "utf-8")
    listed = [LISTED]
    for path in chapters():
        notebook = nbformat.read(path, as_version=4)
        title = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
        listed += [f"\n## {title}\n"]
        listed += [
            f"- [{n}]({path.name}#{anchor}): {text}" for n, anchor, text in exercises(notebook)
        ]
        if address := os.environ.get("REPOSITORY", ""):
            notebook.cells.insert(1, nbformat.v4.new_markdown_cell(colab(address, path.name)))
        nbformat.write(chapter(notebook), folder / path.name)
    (folder / "exercises.md").write_text("\n".join(listed), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        lay_out(Path(folder))
        code = build_main(["-q", "-W", "--keep-going", "-b", "html", folder, str(out)])
    if code == 0:
        print(f"The book: {out / 'index.html'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
