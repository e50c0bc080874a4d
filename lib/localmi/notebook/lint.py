"""The shape every notebook has, checked: `python -m localmi lint notebooks`.

What is asked of a notebook, and why, stands in CONTRIBUTING.md. The rules of one cell (code,
parameters, figures, what must not be stored) are in `lint_cells`.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat

from localmi.errors import DataError
from localmi.notebook import lint_cells
from localmi.notebook.parameters import read_notebook

CARD = ("You will be able to", "Before this", "Reading time", "Run time", "Memory", "Data")
SET_UP_LINES = 10
MIN_EXERCISES = 2

Remark = tuple[int | None, str]  # (cell number from 0 or None for the notebook, words)


@dataclass(frozen=True)
class Problem:
    """What is wrong in which cell of which notebook (cells count from 0, text included)."""

    notebook: str
    cell: int | None
    words: str

    def __str__(self) -> str:
        where = self.notebook if self.cell is None else f"{self.notebook}, cell {self.cell}"
        return f"{where}: {self.words}"


@dataclass(frozen=True)
class Page:
    """A notebook with its place."""

    path: Path
    cells: Sequence[nbformat.NotebookNode]

    def code(self) -> list[tuple[int, nbformat.NotebookNode]]:
        """(number, cell) of code cells that are not empty."""
        return [
            (number, cell)
            for number, cell in enumerate(self.cells)
            if cell.cell_type == "code" and cell.source.strip()
        ]

    def text(self) -> list[tuple[int, nbformat.NotebookNode]]:
        """(number, cell) of Markdown cells."""
        return [
            (number, cell)
            for number, cell in enumerate(self.cells)
            if cell.cell_type == "markdown"
        ]

    def heading(self, words: str) -> int | None:
        """Number of the cell that holds the heading `## words`."""
        for number, cell in self.text():
            if re.search(rf"^##+ {words}\s*$", cell.source, flags=re.MULTILINE):
                return number
        return None


def tags(cell: nbformat.NotebookNode) -> list[str]:
    """A cell's tags."""
    return list(cell.metadata.get("tags", []))


def opening(page: Page) -> Iterator[Remark]:
    """Title, card, set-up cell, parameters cell: in this order."""
    code = page.code()
    first_code = code[0][0] if code else len(page.cells)
    if not page.cells or not re.match(r"# \S", page.cells[0].source):
        yield 0, "the first cell must be Markdown and start with the title, `# ...`"
    card = "\n".join(cell.source for number, cell in page.text() if number < first_code)
    missing = [label for label in CARD if f"**{label}" not in card]
    if missing:
        wanted = ", ".join(f"**{label}**" for label in missing)
        yield None, f"the card before the set-up cell lacks {wanted}"
    if not code or "setup" not in tags(code[0][1]) or "set_up(" not in code[0][1].source:
        yield first_code, "the first code cell must be tagged `setup` and call set_up()"
    elif len(code[0][1].source.splitlines()) > SET_UP_LINES:
        yield first_code, f"the set-up cell has more than {SET_UP_LINES} lines"
    tagged = [number for number, cell in code if "parameters" in tags(cell)]
    if len(tagged) != 1 or len(code) < 2 or tagged[0] != code[1][0]:
        yield None, "the second code cell, and no other, must be tagged `parameters`"


def ending(page: Page) -> Iterator[Remark]:
    """Key points, references with a DOI, and the result record as the last code cell."""
    key_points, references = page.heading("Key points"), page.heading("References")
    if key_points is None:
        yield None, "there is no heading `## Key points`"
    if references is None:
        yield None, "there is no heading `## References`"
    elif "doi.org/" not in page.cells[references].source:
        yield references, "the references name no DOI (a link to doi.org)"
    records = [number for number, cell in page.code() if "record" in tags(cell)]
    if not records or records != [page.code()[-1][0]]:
        yield None, "the last code cell, and no other, must be tagged `record`"
    places = [place for place in (key_points, references, *records[-1:]) if place is not None]
    if places != sorted(places):
        yield None, "the order at the end is: key points, references, result record"


def stored_outputs(page: Page) -> Iterator[Remark]:
    """Executed top to bottom, without an error: otherwise nbval checks nothing."""
    for wanted, (number, cell) in enumerate(page.code(), start=1):
        if cell.execution_count != wanted:
            yield number, f"execution count {cell.execution_count}, not {wanted}: make render"
        if any(output.output_type == "error" for output in cell.outputs):
            yield number, "a stored error; show errors with try/except"
        if "raises-exception" in tags(cell):
            yield number, "tagged raises-exception, which papermill ends with: use try/except"


def exercises(page: Page) -> Iterator[Remark]:
    """Each exercise: a check that says "not tried yet", later a solution that says "right"."""
    calls = [
        (number, name, "solution" in tags(cell), lint_cells.output_text(cell))
        for number, cell in page.code()
        for name in re.findall(r"check\.(exercise_\d+_\d+)\(", cell.source)
    ]
    names = sorted({name for _, name, _, _ in calls})
    if len(names) < MIN_EXERCISES:
        yield None, f"{len(names)} exercises; at least {MIN_EXERCISES} are asked for"
    for name in names:
        shown = name.removeprefix("exercise_").replace("_", ".")
        stubs = [call for call in calls if call[1] == name and not call[2]]
        solutions = [call for call in calls if call[1] == name and call[2]]
        if not stubs or not solutions or stubs[0][0] > solutions[0][0]:
            yield None, f"{name} needs a check cell and, after it, a cell tagged `solution`"
        for number, _, solved, output in stubs + solutions:
            wanted = f"exercise {shown}: " + ("right" if solved else "not tried yet")
            if wanted not in output:
                yield number, f"the stored output should say {wanted!r}"
    for number, cell in page.code():
        if "solution" in tags(cell) and not cell.metadata.get("jupyter", {}).get("source_hidden"):
            yield number, 'a solution is collapsed: metadata jupyter={"source_hidden": true}'


def prose_numbers(page: Page) -> Iterator[Remark]:
    """A number in bold, `**1.84 nats**`, is a result: it must stand in a stored output."""
    outputs = " ".join(lint_cells.output_text(cell) for _, cell in page.code())
    found = {lint_cells.number(word) for word in re.findall(lint_cells.NUMBER, outputs)}
    for number, cell in page.text():
        for result in re.findall(rf"\*\*(?:≈ ?)?({lint_cells.NUMBER})[^*\n]*\*\*", cell.source):
            if lint_cells.number(result) not in found:
                yield number, f"the result **{result}** is in no stored output of this notebook"


def links(page: Page) -> Iterator[Remark]:
    """Links to files of the repository lead somewhere; pictures have alt text."""
    for number, cell in page.text():
        source = re.sub(r"```.*?```|`[^`]*`|\$\$?[^$]*\$\$?", "", cell.source, flags=re.DOTALL)
        for picture, words, target in re.findall(r"(!?)\[([^\]]*)\]\(([^)\s]+)[^)]*\)", source):
            if picture and not words.strip():
                yield number, f"the picture {target} has no alt text"
            file = target.partition("#")[0]
            if re.match(r"[a-z]+:", target) or not file:
                continue
            if not (page.path.parent / file).exists():
                yield number, f"the link to {target} leads nowhere"


def cells(page: Page) -> Iterator[Remark]:
    """The rules of single cells."""
    for number, cell in enumerate(page.cells):
        for words in lint_cells.problems(cell, tags(cell)):
            yield number, words


RULES: tuple[Callable[[Page], Iterator[Remark]], ...] = (
    opening,
    ending,
    stored_outputs,
    exercises,
    prose_numbers,
    links,
    cells,
)


def lint_notebook(path: Path) -> list[Problem]:
    """Everything wrong with one notebook.

    Raises:
        DataError: it cannot be read.
    """
    page = Page(path, read_notebook(path).cells)
    return [Problem(path.name, cell, words) for rule in RULES for cell, words in rule(page)]


def main(folder: Path) -> int:
    """Prints a folder's problems. Exit code 0: none, 1: some, 2: there is no such folder."""
    if not folder.is_dir():
        print(f"There is no folder {folder}.")
        return 2
    notebooks = sorted(folder.glob("*.ipynb"))
    try:
        problems = [problem for path in notebooks for problem in lint_notebook(path)]
    except DataError as error:
        print(error)
        return 1
    for problem in problems:
        print(problem)
    print(f"{len(notebooks)} notebooks, {len(problems)} problems")
    return int(bool(problems))
