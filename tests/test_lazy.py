"""What the packages offer by short names: all of it is there, and none of it costs anything."""

import importlib
import pkgutil
import subprocess
import sys

import pytest

from localmi.lazy import exports

PACKAGES = ("course", "data", "phantom", "mi", "model", "train", "evaluate", "downstream")


@pytest.mark.parametrize("name", PACKAGES)
def test_every_name_can_be_imported(name: str) -> None:
    package = importlib.import_module(f"localmi.{name}")
    assert package.__all__
    for exported in package.__all__:
        assert getattr(package, exported) is not None
    found: dict[str, object] = {}
    exec(f"from localmi.{name} import *", found)
    assert set(package.__all__) <= found.keys()


@pytest.mark.parametrize("name", PACKAGES)
def test_tab_completes(name: str) -> None:
    package = importlib.import_module(f"localmi.{name}")
    assert set(package.__all__) <= set(dir(package))
    assert len(package.__all__) == len(set(package.__all__))


@pytest.mark.parametrize("name", PACKAGES)
def test_no_name_hides_a_module(name: str) -> None:
    """`localmi.x.y` would be one thing before the module y is imported and another after."""
    package = importlib.import_module(f"localmi.{name}")
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert modules & set(package.__all__) == ({"check"} if name == "course" else set())


def test_the_checks_of_the_course_are_a_module_in_themselves() -> None:
    course = importlib.import_module("localmi.course")
    assert course.check is importlib.import_module("localmi.course.check")


@pytest.mark.parametrize("name", PACKAGES)
def test_an_unknown_name_is_no_attribute(name: str) -> None:
    package = importlib.import_module(f"localmi.{name}")
    with pytest.raises(AttributeError, match=f"module 'localmi.{name}' has no attribute 'nonsens"):
        _ = package.nonsense
    with pytest.raises(ImportError, match="cannot import name 'nonsense'"):
        exec(f"from localmi.{name} import nonsense")


def test_names_are_found_where_they_are_listed() -> None:
    get, listed, names = exports("localmi", {"errors": "DataError ConfigError", "files": ""})
    assert names == listed() == ["ConfigError", "DataError", "files"]
    assert get("DataError") is importlib.import_module("localmi.errors").DataError
    assert get("files") is importlib.import_module("localmi.files")
    with pytest.raises(AttributeError, match="module 'localmi' has no attribute 'errors'"):
        get("errors")


def imported(statement: str) -> set[str]:
    """The modules a fresh interpreter has after this statement."""
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_a_package_costs_nothing_until_it_is_used() -> None:
    modules = imported("import " + ", ".join(f"localmi.{name}" for name in PACKAGES))
    assert not modules & {"torch", "numpy", "pandas", "scipy", "matplotlib", "transformers"}
    assert {f"localmi.{name}" for name in PACKAGES} <= modules


def test_a_configuration_does_not_wait_for_torch() -> None:
    modules = imported("from localmi.train import TrainConfig")
    assert "localmi.train.config" in modules
    assert "torch" not in modules
