"""The lint's rules for a single cell; `lint` has those for a whole notebook."""

import ast
import html
import re
from collections.abc import Iterator, Sequence

import nbformat

from localmi.privacy.rules import MIMIC_ID

MAX_LINES = 20
MAGICS = ("%matplotlib inline",)  # a bad magic passes nbval silently, a shell line never fails
NUMBER = r"[-−]?\d[\d,]*(?:\.\d+)?"
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/<])/(?:[\w.-]+/)+[\w.-]+|\b[A-Z]:\\[\w.-]+")


def problems(cell: nbformat.NotebookNode, tags: Sequence[str]) -> Iterator[str]:
    """What is wrong with one cell, in words."""
    if cell.cell_type == "code":
        yield from code(cell.source, max_lines=None if "parameters" in tags else MAX_LINES)
        yield from figures(cell)
        if "parameters" in tags:
            yield from parameters(cell.source)
    yield from private(f"{cell.source}\n{output_text(cell)}")


def code(source: str, max_lines: int | None = MAX_LINES) -> Iterator[str]:
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


def parameters(source: str) -> Iterator[str]:
    """Lines that papermill's regular expression can read, each with a comment."""
    for line in source.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.count("=") != 1 or "|" in line or "Literal" in line:
            yield f"papermill cannot read this parameter (one `=`, no `|`, no Literal): {line!r}"
        elif not re.fullmatch(r"\w+(: [\w\[\], ]+)? = .+  # .+", line):
            yield f"a parameter line is `name = value  # comment`, from column 0: {line!r}"


def figures(cell: nbformat.NotebookNode) -> Iterator[str]:
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


def private(text: str) -> Iterator[str]:
    """Nothing of a machine or of MIMIC-CXR."""
    for found in sorted({found[:2] for found in MIMIC_ID.findall(text)}):
        yield f"{found}... may be an id of MIMIC-CXR (a count is written with commas)"
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


def number(word: str) -> str:
    """A number as written, without sign and thousands separators: "−1,024.0" is "1024.0"."""
    return word.lstrip("-−").replace(",", "")
