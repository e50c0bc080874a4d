"""Chapter 12 on a grid of one's own, which has fewer variants and seeds than the stored one."""

import ast
import contextlib
import json
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from places import NOTEBOOKS

from localmi.notebook.collect import ENDING
from localmi.record import RESULTS
from localmi.study import example_results

DEFINED = ast.Import, ast.ImportFrom, ast.FunctionDef
ASSIGNED = ast.Assign, ast.AnnAssign


def keep(variants: list[str], folder: Path) -> None:
    """What a grid of these variants, one seed each, would have left."""
    source = example_results() / "records"
    stored = json.loads((source / RESULTS).read_text())
    stored["runs"] = {name: {"0": stored["runs"][name]["0"]} for name in variants}
    (folder / RESULTS).write_text(json.dumps(stored))
    for path in source.glob(f"*{ENDING}"):
        rows = pd.read_csv(path)
        kept = rows[rows["variant"].isin(variants) & (rows["seed"] == 0)]
        kept.to_csv(folder / path.name, index=False)


def define(source: str, names: dict) -> None:
    """What a cell imports, defines and sets, without what it computes."""
    for node in ast.parse(source).body:
        calls = any(isinstance(part, ast.Call) for part in ast.walk(node))
        if isinstance(node, DEFINED) or (isinstance(node, ASSIGNED) and not calls):
            with contextlib.suppress(NameError):  # set from what was computed
                exec(ast.unparse(node), names)


@pytest.mark.slow
@pytest.mark.parametrize("variants", [["none", "stay"], ["none", "wide"]])
def test_a_grid_that_leaves_controls_out_is_read(
    variants: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(variants, tmp_path)
    names: dict = {}
    section = ""
    for cell in nbformat.read(NOTEBOOKS / "12_records.ipynb", as_version=4).cells:
        if cell.cell_type == "markdown":
            section = next((x for x in cell.source.splitlines()[::-1] if x[:3] == "## "), section)
        elif section.startswith("## 8") or "MOVED" in cell.source:
            exec(cell.source, names)
        elif section < "## 8":
            define(cell.source, names)
            names["grid_dir"] = str(tmp_path)
    assert set(names["variants"]) == set(variants)
    assert "another patient's stay instead" not in capsys.readouterr().out
    assert names["tests"], "what is there is compared"
