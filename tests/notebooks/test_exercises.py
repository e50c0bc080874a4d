"""Both directions of every exercise: a stub does not pass its check, the solution does.

The solutions are the notebooks' own, taken from their stored outputs: nbval proves these current.
"""

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from places import NOTEBOOKS

from localmi.course import exercises
from localmi.course.check import Verdict
from localmi.notebook.lint import output_text

NOTEBOOKS = sorted(NOTEBOOKS.glob("*.ipynb"))
CHAPTERS = sorted(Path(exercises.__path__[0]).glob("ch*.py"))


def checks() -> dict[str, Callable[..., Verdict]]:
    found = {}
    for chapter in CHAPTERS:
        module = importlib.import_module(f"localmi.course.exercises.{chapter.stem}")
        for name in vars(module):
            if re.fullmatch(r"exercise_\d+_\d+", name):
                assert name.startswith(f"exercise_{int(chapter.stem[2:])}_"), chapter
                found[name] = getattr(module, name)
    return found


CHECKS = checks()


def stub(*arguments: Any, **keywords: Any) -> Any: ...


def raising(*arguments: Any, **keywords: Any) -> Any:
    raise ValueError("not so")


@pytest.mark.parametrize("name", CHECKS)
def test_a_stub_does_not_pass(name: str) -> None:
    for answer in (stub, ..., None, NotImplemented):
        assert CHECKS[name](answer).status == "not tried yet"


@pytest.mark.parametrize("name", CHECKS)
def test_nonsense_does_not_pass_nor_raise(name: str) -> None:
    for answer in (raising, lambda *a, **k: "word", lambda *a, **k: 12345.0, object()):
        verdict = CHECKS[name](answer)
        assert not verdict.passed
        assert verdict.words


def outputs_by_exercise() -> dict[str, list[tuple[bool, str]]]:
    """exercise -> (is a solution, what was printed), over all notebooks."""
    found: dict[str, list[tuple[bool, str]]] = {}
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            for name in re.findall(r"check\.(exercise_\d+_\d+)\(", cell.source):
                solved = "solution" in cell.metadata.get("tags", [])
                found.setdefault(name, []).append((solved, output_text(cell)))
    return found


OUTPUTS = outputs_by_exercise()


def test_checks_and_notebooks_name_the_same_exercises() -> None:
    assert sorted(CHECKS) == sorted(OUTPUTS)


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_solution_passes_and_the_stub_does_not(name: str) -> None:
    assert {solved for solved, _ in OUTPUTS[name]} == {False, True}
    number = name.removeprefix("exercise_").replace("_", ".")
    for solved, output in OUTPUTS[name]:
        assert f"exercise {number}: {'right' if solved else 'not tried yet'}" in output
