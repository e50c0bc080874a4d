"""A notebook run on credentialed data: its outputs reach neither disk nor screen.

What is stored is the notebook as it was executed, without outputs, written before the first cell
starts. `run` decides when; `--allow-outputs` turns it off. Taught in 13_preparing_mimic_cxr.
"""

import copy
import json
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from localmi.files import write_text
from localmi.notebook.prepare import with_parameters
from localmi.notebook.render import KERNEL_CONFIG
from localmi.notebook.stopping import own_handlers
from localmi.privacy.record_ids import NAME_OF_IDS, RECORD_ID
from localmi.privacy.rules import ID_COLUMN, MIMIC_ID, masked
from localmi.record import MEASURED, MODEL_CARD, RESULTS

NOT_STORED = """**The outputs of this run are not stored.** Its data has ids of MIMIC-CXR, which is
credentialed: no text, pixel or id of it may be passed on. Metrics stand in `metrics.jsonl` and
`results.json`. Numbers in the text are those of the course's own run.
To see the outputs, run it with `--allow-outputs`, in a place where the data
itself may lie, and never commit that notebook."""
STORED = """**Do not pass this notebook on.** It was run with `--allow-outputs` on data that has
ids of MIMIC-CXR: what it shows may hold text, pixels or ids of that data, which is credentialed.
It may lie where the data itself may lie, and in no repository."""


def execute_without_outputs(
    notebook: Path, executed: Path, parameters: Mapping[str, Any], say: Callable[[str], object]
) -> str:
    """Executes a notebook and stores it, at no time with an output of any cell.

    Args:
        notebook: to execute; stays as it is.
        executed: where it is stored, before the first cell and again at the end.
        parameters: put in after its parameters cell.
        say: takes a line for each cell that starts.

    Returns:
        "", or what failed: the number of the cell and the type of the error, no more, for its
        message may hold an id or a text.
    """
    stored = with_parameters(notebook, parameters, note=NOT_STORED)
    nbformat.write(stored, executed)
    live, began = copy.deepcopy(stored), time.monotonic()
    total = sum(cell.cell_type == "code" and bool(cell.source.strip()) for cell in live.cells)
    at = 0

    def starts(cell: nbformat.NotebookNode, cell_index: int) -> None:
        nonlocal at
        at += 1
        stored.cells[cell_index].execution_count = at
        if at == 1:
            keep_own_handlers()
        say(f"cell [{at}] of {total}, after {time.monotonic() - began:.0f} s")

    keep_own_handlers = own_handlers()
    client = NotebookClient(
        live, timeout=None, kernel_name="python3", config=KERNEL_CONFIG, on_cell_execute=starts
    )
    try:  # what the kernel's process itself writes, past the notebook, goes nowhere
        client.execute(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        failed = ""
    except CellExecutionError as error:
        failed = f"cell [{at}]: {error.ename if error.ename.isidentifier() else 'an error'}"
    except Exception as error:  # the kernel died, or could not start
        failed = f"cell [{at}]: {type(error).__name__}"
    if failed:
        stored.cells[0].source += f"\n\nIt failed in {failed}."
    nbformat.write(stored, executed)
    return failed


def mask_records(run_dir: Path) -> list[Path]:
    """Masks the ids in the records of a run; those that had some."""
    records = (run_dir / name for name in (RESULTS, MEASURED, MODEL_CARD))
    return [record for record in records if record.is_file() and mask_ids(record)]


def mask_ids(record: Path) -> bool:
    """Puts [id] for each id in a JSON file, or in a text, where it has any; whether it had."""
    text = record.read_text(encoding="utf-8")
    try:
        found = json.loads(text)
        without = (
            text
            if without_ids(found) == found
            else json.dumps(without_ids(found), indent=1) + "\n"
        )
    except ValueError:  # a text, or not JSON after all
        without = masked(text)
    if without == text:
        return False
    write_text(without, record)
    return True


def without_ids(value: Any, name: str = "") -> Any:
    """A part of a record; a whole number is an id where its name says so, else a count."""
    if isinstance(value, dict):
        return {masked(key): without_ids(part, key) for key, part in value.items()}
    if isinstance(value, list):
        return [without_ids(part, name) for part in value]
    if isinstance(value, int) and ID_COLUMN.search(name):
        return "[id]" if MIMIC_ID.fullmatch(str(value)) else value
    if isinstance(value, int) and NAME_OF_IDS.search(name):
        return "[id]" if RECORD_ID.fullmatch(str(value)) else value
    return masked(value) if isinstance(value, str) else value
