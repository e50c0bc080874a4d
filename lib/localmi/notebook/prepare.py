"""A notebook made ready to be run: its parameters put in, none of its stored outputs left."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbformat.v4 import new_markdown_cell

from localmi.notebook.parameters import read_notebook
from localmi.notebook.render import KERNEL


def with_parameters(
    notebook: Path, parameters: Mapping[str, Any], note: str = ""
) -> nbformat.NotebookNode:
    """The notebook with its parameters put in, without any output, opened by the note.

    Its kernel is ours: a notebook that an editor saved may name another, or none.
    """
    source = read_notebook(notebook)
    source.metadata["kernelspec"] = KERNEL
    for cell in source.cells:
        if "setup" in cell.metadata.get("tags", []) and "seed" in parameters:
            cell.source = cell.source.replace("set_up()", f"set_up(seed={parameters['seed']!r})")
    made = papermill.execute_notebook(
        source,
        None,
        parameters=dict(parameters),
        kernel_name="python3",
        progress_bar=False,
        prepare_only=True,
    )
    made.metadata.pop("widgets", None)
    made.metadata.papermill["input_path"] = str(notebook)  # it stores the whole source there
    for cell in made.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    if note:
        made.cells.insert(0, new_markdown_cell(note, metadata={"tags": [], "papermill": {}}))
    return made
