"""The shape every notebook has, checked: `python -m localmi lint notebooks`.

What is asked of a notebook, and why, stands in CONTRIBUTING.md.
"""

import ast
import html
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nbformat

from localmi.errors import DataError
from localmi.notebook.parameters import read_notebook
from localmi.privacy.record_ids import record_ids
from localmi.privacy.rules import MIMIC_ID

CARD = ("You will be able to", "Before this", "Reading time", "Run time", "Memory", "Data")
SET_UP_LINES = 10
MIN_EXERCISES = 2
QUESTIONS = 6  # of a quiz
MAX_LINES = 20
MAGICS = ("%matplotlib inline",)  # a bad magic passes nbval silently, a shell line never fails
NUMBER = r"[-−]?\d[\d,]*(?:\.\d+)?"
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/<])/(?:[\w.-]+/)+[\w.-]+|\b[A-Z]:\\[\w.-]+")

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
    """Quiz, key points, references with a DOI, and the result record as the last code cell."""
    quizzed, key_points = page.heading("Quiz"), page.heading("Key points")
    references = page.heading("References")
    if key_points is None:
        yield None, "there is no heading `## Key points`"
    if references is None:
        yield None, "there is no heading `## References`"
    elif "doi.org/" not in page.cells[references].source:
        yield references, "the references name no DOI (a link to doi.org)"
    records = [number for number, cell in page.code() if "record" in tags(cell)]
    if not records or records != [page.code()[-1][0]]:
        yield None, "the last code cell, and no other, must be tagged `record`"
    ends = (quizzed, key_points, references, *records[-1:])
    places = [place for place in ends if place is not None]
    if places != sorted(places):
        yield None, "the order at the end is: quiz, key points, references, result record"


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
        (number, name, "solution" in tags(cell), output_text(cell))
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


def quiz(page: Page) -> Iterator[Remark]:
    """Six questions, each with one right answer and wrong ones, all folded and explained."""
    number = page.heading("Quiz")
    if number is None:
        yield None, "there is no heading `## Quiz`"
        return
    questions = page.cells[number].source.split("**Question ")[1:]
    if len(questions) != QUESTIONS:
        yield number, f"{len(questions)} questions in the quiz; {QUESTIONS} are asked for"
    answer = r"<details><summary>[^<]+</summary>\n\n\*\*(Right|No)\.\*\* \S[^<]*\n\n</details>"
    for place, question in enumerate(questions, start=1):
        verdicts = re.findall(answer, question)
        folded = question.count("<details>") == len(verdicts) >= 3
        if not folded or verdicts.count("Right") != 1:
            yield (
                number,
                f"question {place} of the quiz: at least three folded answers, one **Right.** and "
                "the others **No.**, each with its reason",
            )


def prose_numbers(page: Page) -> Iterator[Remark]:
    """A number in bold, `**1.84 nats**`, is a result: it must stand in a stored output."""
    outputs = " ".join(output_text(cell) for _, cell in page.code())
    found = {plain_number(word) for word in re.findall(NUMBER, outputs)}
    for number, cell in page.text():
        for result in re.findall(rf"\*\*(?:≈ ?)?({NUMBER})[^*\n]*\*\*", cell.source):
            if plain_number(result) not in found:
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
        for words in cell_problems(cell, tags(cell)):
            yield number, words


def cell_problems(cell: nbformat.NotebookNode, tags: Sequence[str]) -> Iterator[str]:
    """What is wrong with one cell, in words."""
    if cell.cell_type == "code":
        yield from _code(cell.source, max_lines=None if "parameters" in tags else MAX_LINES)
        yield from _figures(cell)
        if "parameters" in tags:
            yield from _parameters(cell.source)
    yield from _private(f"{cell.source}\n{output_text(cell)}")


def _code(source: str, max_lines: int | None = MAX_LINES) -> Iterator[str]:
    """Short, plain Python; a list of parameters may be as long as it must."""
    lines = source.splitlines()
    if max_lines is not None and len(lines) > max_lines:
        yield f"{len(lines)} lines; a code cell has at most {max_lines}"
    plain = "\n".join("pass" if line.strip() in MAGICS else line for line in lines)
    try:
        ast.parse(plain)
    except SyntaxError as error:
        line = (error.text or "").strip()
        yield f"not plain Python (shell lines and most magics are not allowed): {line!r}"
    if "get_ipython(" in source or re.search(r"\bos\.system\(", source):
        yield "get_ipython() and os.system() are not allowed"
    if any(re.search(r";\s*(#.*)?$", line) for line in lines):
        yield "a `;` at the end of a line: it does not suppress output under nbval"


def _parameters(source: str) -> Iterator[str]:
    """What papermill's regular expression can read, each with a comment on its first line."""
    try:
        statements = ast.parse(source).body
    except SyntaxError:
        return  # which is said already
    lines = source.splitlines()
    for statement in statements:
        line = lines[statement.lineno - 1]
        whole = "\n".join(lines[statement.lineno - 1 : statement.end_lineno])
        if whole.count("=") != 1 or "|" in whole or "Literal" in whole:
            yield f"papermill cannot read this parameter (one `=`, no `|`, no Literal): {line!r}"
        elif not re.fullmatch(r"\w+(: [\w\[\], ]+)? = .+  # .+", line):
            yield f"a parameter is `name = value  # comment`, comment on its first line: {line!r}"


def _figures(cell: nbformat.NotebookNode) -> Iterator[str]:
    """Alt text on every figure."""
    for output in cell.outputs:
        data, metadata = output.get("data", {}), output.get("metadata", {})
        for kind in ("image/png", "image/jpeg"):
            if kind in data and not metadata.get(kind, {}).get("alt", "").strip():
                yield 'a figure without alt text: end the cell with show(figure, alt="...")'
        if "image/svg+xml" in data:
            yield "an SVG figure: its text differs at every execution; use PNG"
        if re.search(r"<img(?![^>]*\balt=)", _text(data.get("text/html", ""))):
            yield "an <img> without alt text"


def _private(text: str) -> Iterator[str]:
    """Nothing of a machine or of MIMIC."""
    for found in sorted({m[0][:2] for m in (*MIMIC_ID.finditer(text), *record_ids(text))}):
        yield f"{found}... may be an id of MIMIC (a count is written with commas)"
    for found in sorted(set(ABSOLUTE_PATH.findall(text))):
        yield f"{found} looks like a path of one machine"


def output_text(cell: nbformat.NotebookNode) -> str:
    """All that a cell's stored outputs say."""
    words = []
    for output in cell.get("outputs", []):
        words.append(_text(output.get("text", "")))
        for kind, content in output.get("data", {}).items():
            if kind == "text/html":
                words.append(html.unescape(re.sub(r"<[^>]*>", " ", _text(content))))
            elif kind.startswith("text/"):
                words.append(_text(content))
    return "\n".join(words)


def _text(content: str | list[str]) -> str:
    return content if isinstance(content, str) else "".join(content)


def plain_number(word: str) -> str:
    """A number as written, without sign and thousands separators: "−1,024.0" is "1024.0"."""
    return word.lstrip("-−").replace(",", "")


RULES: tuple[Callable[[Page], Iterator[Remark]], ...] = (
    opening,
    ending,
    stored_outputs,
    exercises,
    quiz,
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


def lint_folder(folder: Path) -> list[Problem]:
    """Everything wrong with the notebooks of a folder.

    Raises:
        DataError: there is no such folder, or a notebook cannot be read.
    """
    if not folder.is_dir():
        raise DataError(f"There is no folder {folder}.")
    return [problem for path in sorted(folder.glob("*.ipynb")) for problem in lint_notebook(path)]
