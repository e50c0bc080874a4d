"""A deck of the chapters' own figures and equations: `make slides`. Nothing is executed.

A section of a chapter is a slide with its question and its first equation, and one for each
figure, whose alt text is the speaker's note.
"""

import argparse
import base64
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from book import HERE, chapters
from sphinx.cmd.build import build_main

POINTS = 5  # on a slide
EQUATION = re.compile(r"\$\$.+?\$\$", re.DOTALL)


def slides(notebook: Any, folder: Path, name: str) -> Iterator[str]:
    """Markdown of each slide of a chapter; its figures are written into the folder."""
    title, section, pictures = "", "", 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for part in re.split(r"^(?=#{1,3} )", cell.source, flags=re.MULTILINE):
                heading, _, text = part.partition("\n")
                if heading.startswith("# "):
                    title = heading[2:]
                    yield f"## {title}\n\n" + text.strip().split("\n\n")[0]
                elif heading == "## Key points":
                    points = re.split(r"\n(?=- )", text.strip())
                    for first in range(0, len(points), POINTS):
                        some = "\n".join(points[first : first + POINTS])
                        yield f"### {title.split(':')[0]}: key points\n\n{some}"
                elif re.match(r"## \d", heading):
                    section = heading[3:]
                    if equation := EQUATION.search(text):
                        yield f"### {section}\n\n{equation[0]}"
            continue
        caption = ""
        for output in reversed(cell.outputs):
            caption = output.get("data", {}).get("text/markdown", "") or caption
            if "image/png" not in output.get("data", {}):
                continue
            pictures += 1
            picture = folder / f"{name}-{pictures:02d}.png"
            picture.write_bytes(base64.b64decode(output.data["image/png"]))
            alt = output.metadata["image/png"]["alt"]
            yield (
                f"### {section}\n\n![{alt}]({picture.name})\n\n{caption}\n\n"
                f"```{{revealjs-notes}}\n{alt}\n```"
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE.parent / "build" / "slides")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        deck = ["# Learning from images and text by mutual information"]
        for path in chapters():
            deck += slides(nbformat.read(path, as_version=4), folder, path.stem[:2])
        text = re.sub(r"\[([^]]+)\]\([^)]+\.ipynb\)", r"\1", "\n\n".join(deck))
        (folder / "index.md").write_text(text, encoding="utf-8")
        options = ["-D", "extensions=myst_nb,sphinx-mathjax-offline,sphinx_revealjs"]
        code = build_main(
            [
                "-q",
                "-W",
                "--keep-going",
                "-c",
                str(HERE),
                *options,
                "-b",
                "revealjs",
                name,
                str(out),
            ]
        )
    if code == 0:
        print(f"The slides: {out / 'index.html'}")
    return code


if __name__ == "__main__":
    sys.exit(main())
