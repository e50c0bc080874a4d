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
    assert {"07_main", "07_mimic", "07_paper"} <= {path.stem for path in FILES}


def test_the_papers_own_and_ours_differ_in_what_they_say() -> None:
    files = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in FILES}
    ours, papers = files["07_mimic"], files["07_paper"]
    differ = {name for name in ours.keys() | papers.keys() if ours.get(name) != papers.get(name)}
    of_the_soft_maximum = {"temperature", "temperature_end"}
    assert differ == {"region_select", "direction", "same_text_is_mismatch"} | of_the_soft_maximum
    assert papers["region_select"] == "per_pair_max"
    assert papers["direction"] == "image_to_text"
