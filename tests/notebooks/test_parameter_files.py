"""Every stored set of parameters fits its notebook."""

from pathlib import Path

import pytest
import yaml
from places import NOTEBOOKS

from localmi.notebook.parameters import parameters_of, read_notebook, resolve

FILES = sorted((NOTEBOOKS / "parameters").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_parameter_file_fits_its_notebook(path: Path) -> None:
    (notebook,) = NOTEBOOKS.glob(f"{path.stem[:2]}_*.ipynb")
    known = parameters_of(read_notebook(notebook), notebook.name)
    values = resolve(known, yaml.safe_load(path.read_text(encoding="utf-8")), {})
    assert values.keys() == known.cell.keys()


def test_there_are_parameter_files() -> None:
    assert {"07_main", "07_paper"} <= {path.stem for path in FILES}
