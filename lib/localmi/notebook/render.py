"""`make render`: execute notebooks, store their outputs, bring the text pairs in step.

The one way in which stored outputs are made: one thread, a fresh kernel, counts 1..n, and no
metadata that changes from run to run.
"""

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from traitlets.config import Config

from localmi import STILL
from localmi.errors import DataError
from localmi.notebook.parameters import read_notebook
from localmi.ranks import one_of_several

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
RENDERED = "rendered"  # in a notebook's metadata: digest of its cells when they were rendered
KERNEL_CONFIG = Config(
    {
        "KernelManager": {"transport_encryption": "auto"},  # as ipykernel advises
        "NotebookClient": {
            "kernel_manager_class": "localmi.notebook.render.OwnKernel",
            "extra_arguments": ["--IPKernelApp.log_level=50"],  # not that it was interrupted
        },
    }
)


class OwnKernel(AsyncKernelManager):
    """Starts this interpreter, whatever other kernel of the name python3 is installed.

    Where several processes start kernels at once, they talk by files: of two that look for free
    ports at the same time, both can find the same one.
    """

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        if one_of_several() and sys.platform != "win32":
            self.sockets = tempfile.TemporaryDirectory(prefix="localmi-")
            self.transport, self.ip = "ipc", f"{self.sockets.name}/kernel"
        self.kernel_spec_manager = KernelSpecManager(kernel_dirs=[])

    async def start_kernel(self, **given: Any) -> Any:  # type: ignore[override]
        """Nobody is there to move a slider: figures are plain."""
        return await super().start_kernel(**{"env": os.environ | {STILL: "1"}, **given})


def text_path(notebook: Path) -> Path:
    """Where the text pair of a notebook lies."""
    return notebook.parent / "text" / f"{notebook.stem}.py"


def all_notebooks(folder: Path) -> list[Path]:
    """The notebooks of a folder, those included that are so far only text."""
    names = {path.stem for path in [*folder.glob("*.ipynb"), *folder.glob("text/*.py")]}
    return [folder / f"{name}.ipynb" for name in sorted(names)]


def take_up_text(notebook: Path) -> nbformat.NotebookNode:
    """The cells to execute: of notebook and text pair the one that was edited.

    Raises:
        DataError: both were edited since they were rendered together, each in its own way.
    """
    text = text_path(notebook)
    if not text.is_file():
        written = text_of(read_notebook(notebook))  # the same cells, whichever way they come
    elif not notebook.is_file():
        written = text.read_text(encoding="utf-8")
    else:
        written = _edited(notebook, text)
    cells: nbformat.NotebookNode = jupytext.reads(written, fmt="py:percent")
    return cells


def _edited(notebook: Path, text: Path) -> str:
    stored = read_notebook(notebook)
    of_notebook = text_of(stored)
    of_text = text_of(jupytext.reads(text.read_text(encoding="utf-8"), fmt="py:percent"))
    then = stored.metadata.get(RENDERED)
    if of_text != of_notebook and then not in (_digest(of_text), _digest(of_notebook)):
        raise DataError(
            f"{notebook} and {text} differ, and both were edited after they had been rendered. "
            "Bring the edits you want to keep into one of them, remove the other, and render."
        )
    return of_notebook if then == _digest(of_text) else of_text


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def execute(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Executes in place. Raises CellExecutionError at the first cell that fails."""
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"  # the same at every rendering
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL})
    client = NotebookClient(
        notebook,
        timeout=None,
        kernel_name="python3",
        record_timing=False,
        config=KERNEL_CONFIG,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    digest = _digest(text_of(notebook))
    notebook.metadata = nbformat.from_dict({"kernelspec": KERNEL, RENDERED: digest})
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = _without_stderr(cell.outputs)
    nbformat.validate(notebook)


def _without_stderr(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """Outputs without progress bars (their timings always differ), printed lines joined."""
    kept: list[nbformat.NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream" and output.name == "stderr":
            continue
        if output.output_type == "stream" and kept and kept[-1].output_type == "stream":
            kept[-1].text += output.text
        else:
            kept.append(output)
    return kept


def write_text_pair(notebook: nbformat.NotebookNode, path: Path) -> None:
    """Writes the py:percent pair of a notebook."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text_of(notebook), encoding="utf-8")


def text_of(notebook: nbformat.NotebookNode) -> str:
    """A notebook's cells as py:percent text; equal for equal cells."""
    bare = nbformat.from_dict({**notebook, "metadata": {"kernelspec": KERNEL}})
    text: str = jupytext.writes(bare, fmt="py:percent")
    return text


def render_notebooks(notebooks: Sequence[Path]) -> int:
    """Executes and stores notebooks, saying what it does; 1 when a notebook failed, else 0.

    Raises:
        DataError: a notebook is missing or cannot be read.
    """
    for path in notebooks:
        began = time.monotonic()
        notebook = take_up_text(path)
        print(f"{path} ... ", end="", flush=True)
        try:
            execute(notebook, path.parent)
        except CellExecutionError as error:
            print(f"failed, nothing was stored\n{error}")
            return 1
        nbformat.write(notebook, path)
        write_text_pair(notebook, text_path(path))
        print(f"{time.monotonic() - began:.0f} s")
    return 0
