from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from localmi.errors import ConfigError, DataError
from localmi.notebook import parameters
from localmi.notebook.parameters import Parameter, parameters_of, resolve


def notebook_with(source: str, copies: int = 1) -> nbformat.NotebookNode:
    cell = {"source": source, "metadata": {"tags": ["parameters"]}}
    return new_notebook(cells=[new_code_cell(**cell) for _ in range(copies)])


@pytest.fixture
def known(good_cells: Any) -> dict[str, Parameter]:
    return parameters_of(new_notebook(cells=good_cells["parameters"]), "05.ipynb")


def test_reads_name_type_default_and_comment(known: dict[str, Parameter]) -> None:
    assert [p.name for p in known.values()][:3] == ["steps", "rate", "name"]
    assert known["rate"] == Parameter("rate", float, 5e-4, "learning rate")
    assert known["seeds"].type_name == "list[int]"


def test_reads_what_papermill_reads(write_notebook: Any, good_cells: Any) -> None:
    path = write_notebook(good_cells)
    found = parameters_of(parameters.read_notebook(path), "05.ipynb")
    theirs = papermill.inspect_notebook(str(path))
    assert list(theirs) == list(found)
    assert {name: each["help"] for name, each in theirs.items()} == {
        name: each.comment for name, each in found.items()
    }


@pytest.mark.parametrize(
    ("name", "word", "value"),
    [
        ("steps", "7", 7),
        ("steps", "-7", -7),
        ("rate", "1e-3", 1e-3),
        ("rate", "1", 1.0),
        ("flag", "false", False),
        ("flag", "True", True),
        ("name", "1", "1"),
        ("seeds", "[3, 4]", [3, 4]),
    ],
)
def test_a_word_becomes_the_value_it_means(
    known: dict[str, Parameter], name: str, word: str, value: object
) -> None:
    found = parameters.check_value(known[name], parameters.parse_text(known[name], word))
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("steps", "7.5"),
        ("steps", "many"),
        ("steps", "true"),
        ("flag", "1"),
        ("flag", "maybe"),
        ("rate", "fast"),
        ("seeds", "3"),
        ("seeds", "[1.5]"),
        ("seeds", "[1,"),
    ],
)
def test_a_wrong_type_is_refused(known: dict[str, Parameter], name: str, word: str) -> None:
    with pytest.raises(ConfigError, match=f"Parameter {name} must be"):
        resolve(known, {}, {name: word}, "05.ipynb")


def test_the_file_may_write_floats_as_yaml_reads_them(known: dict[str, Parameter]) -> None:
    assert resolve(known, {"rate": "1e-3"}, {}, "05.ipynb")["rate"] == 1e-3
    with pytest.raises(ConfigError, match="must be str"):
        resolve(known, {"name": 1}, {}, "05.ipynb")


def test_the_command_line_goes_over_the_file(known: dict[str, Parameter]) -> None:
    assert resolve(known, {"steps": 3}, {"steps": "4"}, "05.ipynb")["steps"] == 4
    assert resolve(known, {"steps": 3}, {}, "05.ipynb")["steps"] == 3


def test_an_unknown_name_is_refused_with_the_closest(known: dict[str, Parameter]) -> None:
    with pytest.raises(ConfigError, match="no parameter stesp. Did you mean steps?"):
        resolve(known, {}, {"stesp": "3"}, "05.ipynb")
    with pytest.raises(ConfigError, match="no parameter zzz. It has: steps, rate"):
        resolve(known, {"zzz": 3}, {}, "05.ipynb")


def test_choices_and_ranges_of_the_configuration_hold() -> None:
    known = parameters_of(notebook_with('steps = 2  # .\nbound = "infonce"  # .'), "05.ipynb")
    with pytest.raises(ConfigError, match="bound.*'cpc'"):
        resolve(known, {}, {"bound": "cpc"}, "05.ipynb")
    with pytest.raises(ConfigError, match="steps: .*greater than or equal to 1"):
        resolve(known, {}, {"steps": "0"}, "05.ipynb")


def test_a_data_folder_must_exist(known: dict[str, Parameter], tmp_path: Path) -> None:
    assert resolve(known, {}, {}, "05.ipynb")["data_dir"] == ""
    assert resolve(known, {}, {"data_dir": str(tmp_path)}, "05.ipynb")["data_dir"] == str(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        resolve(known, {}, {"data_dir": str(tmp_path / "no")}, "05.ipynb")


def test_a_data_folder_is_taken_from_where_the_command_is_given(
    known: dict[str, Parameter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve(known, {}, {"data_dir": "mine"}, "x")["data_dir"] == str(tmp_path / "mine")


@pytest.mark.parametrize(
    "source", ["import os", "a = b = 1", "a = f()", "a: set = {1}", "a, b = 1, 2", "a: int"]
)
def test_a_parameters_cell_holds_only_plain_values(source: str) -> None:
    with pytest.raises(ConfigError, match="05.ipynb"):
        parameters_of(notebook_with(source), "05.ipynb")


def test_exactly_one_parameters_cell() -> None:
    for copies in (0, 2):
        with pytest.raises(ConfigError, match=f"has {copies} cells tagged"):
            parameters_of(notebook_with("a = 1", copies), "05.ipynb")
    with pytest.raises(ConfigError, match="not Python"):
        parameters_of(notebook_with("a = "), "05.ipynb")


def test_a_notebook_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no notebook"):
        parameters.read_notebook(tmp_path / "05.ipynb")
    (tmp_path / "05.ipynb").write_text("{")
    with pytest.raises(DataError, match="not a notebook"):
        parameters.read_notebook(tmp_path / "05.ipynb")


def test_the_table_has_a_line_for_each(known: dict[str, Parameter]) -> None:
    lines = parameters.table(known).splitlines()
    assert len(lines) == len(known) + 1
    assert lines[2].split() == ["rate", "float", "0.0005", "learning", "rate"]
