"""Names that are chosen from a fixed set: an unknown one is refused wherever it can be given."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import is_dataclass
from types import ModuleType
from typing import Any, Literal, get_args, get_origin, get_type_hints
from unittest.mock import MagicMock

import pytest

import localmi
from localmi.data.batches import SplitData
from localmi.errors import ConfigError
from localmi.mi import build_critic, estimate

WORDS = "nonsense"
IN_TIME = {"read_mimic"}  # `read_pairs`, which alone calls it, has looked at the door
MORE: list[tuple[Callable[..., Any], str, Any]] = [  # of wider types
    (SplitData, "kinds", ("content", WORDS)),
    (build_critic, "name", WORDS),
    (estimate, "method", WORDS),
]


def modules() -> Iterator[ModuleType]:
    for found in pkgutil.walk_packages(localmi.__path__, "localmi."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def public(module: ModuleType) -> Iterator[Callable[..., Any]]:
    """Functions, methods, and classes that are no mere records of a module."""
    for name, thing in vars(module).items():
        if name.startswith("_") or getattr(thing, "__module__", "") != module.__name__:
            continue
        if inspect.isfunction(thing):
            yield thing
        if inspect.isclass(thing):
            begin = thing.__init__
            ours = getattr(begin, "__module__", "").startswith("localmi")  # or torch's
            if not is_dataclass(thing) and inspect.isfunction(begin) and ours:
                yield thing
            for inner, method in vars(thing).items():
                function = getattr(method, "__func__", method)
                if not inner.startswith("_") and inspect.isfunction(function):
                    yield function


def choices(function: Callable[..., Any]) -> dict[str, Any]:
    """The parameters that take one of some names, and the first of them."""
    typed = function.__init__ if inspect.isclass(function) else function
    try:
        hints = get_type_hints(typed)
    except NameError:  # a type that is imported for type checkers only
        return {}
    hints.pop("return", None)
    return {
        name: get_args(one)[0]
        for name, hint in hints.items()
        for one in (hint, *get_args(hint))
        if get_origin(one) is Literal
    }


def wrong(function: Callable[..., Any], name: str) -> Any:
    """An unknown name; a list of it, where several are taken."""
    typed = function.__init__ if inspect.isclass(function) else function
    return [WORDS] if get_origin(get_type_hints(typed)[name]) is Sequence else WORDS


CASES = [
    (function, name, wrong(function, name))
    for module in modules()
    for function in public(module)
    for name in choices(function)
    if function.__name__ not in IN_TIME
] + MORE


def test_the_choices_of_the_library_are_found() -> None:
    found = {(function.__name__, name) for function, name, _ in CASES}
    assert found >= {
        ("held_out_bound", "bound"),
        ("retrieval", "direction"),
        ("SplitData", "split"),
        ("SplitData", "unit"),
        ("build_image_encoder", "context"),
        ("compare", "metric"),
        ("choose_dtype", "precision"),
        ("estimator", "name"),
    }


@pytest.mark.parametrize(
    ("function", "name", "value"), CASES, ids=lambda one: getattr(one, "__qualname__", str(one))
)
def test_an_unknown_name_is_refused_at_the_door(
    function: Callable[..., Any], name: str, value: Any
) -> None:
    """Whatever the other arguments are: the known names are said, and nothing was begun."""
    needed = [
        one.name
        for one in inspect.signature(function).parameters.values()
        if one.default is one.empty
    ]
    arguments = dict.fromkeys(needed, MagicMock()) | {
        one: known for one, known in choices(function).items() if one in needed
    }
    with pytest.raises(ConfigError, match=rf"Unknown [a-z ]+ '{WORDS}'; known are \w+, \w+"):
        for _ in function(**arguments | {name: value}):
            pass
