"""A notebook's parameters: read from its `parameters` cell, and checked before anything runs.

papermill takes unknown names with a warning and passes `-p flag false` as a true string. Here the
default's type decides what a value must be. Where the notebook has a configuration, the choices
and ranges of that one hold, and each of its fields can be set: the cell holds those that the
chapter is about, and a dictionary for the rest, whose comment names the configuration:

    steps = 40  # gradient steps
    further: dict = {"cells_after": 2}  # other fields of localmi.train.config.TrainConfig

Elsewhere a comment may say the range, "at least 1" or "above 0", of each number of its parameter.
"""

import ast
import difflib
import importlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import nbformat
from pydantic import TypeAdapter, ValidationError

from localmi.configuration import Configuration
from localmi.errors import ConfigError, DataError
from localmi.notebook.parameter_files import YAMLError, parse_yaml

# What an annotation in a parameters cell may be made of.
TYPES: Mapping[str, Any] = {kind.__name__: kind for kind in (bool, int, float, str, list, dict)}
WORDS = {"true": True, "false": False}
RANGE = re.compile(r"\b(at least|above) (\d+(?:\.\d+)?)")  # in a comment
QUOTED = re.compile(r'"(\w*)"')  # in a comment: a word with a meaning of its own
WHOLE = 2**63  # numpy and torch count up to here
PATHS = {  # parameters that name one
    "init": "a checkpoint",
    "compare": "the folder of a run",
    "boxes": "a file of boxes",
}
FURTHER = "further"  # the parameter that holds the other fields of a notebook's configuration
CHOICES = re.compile(r"(?:^|: )((?:\w+, )*\w+ or \w+)(?:$|;)")  # "tuned, frozen or probe"
CONFIGURATION = re.compile(r"\b([a-z_]\w*(?:\.[a-z_]\w*)+)\.([A-Z]\w*)\b")  # module and class


@dataclass(frozen=True)
class Parameter:
    """One line of a notebook's `parameters` cell: `name: type = default  # comment`."""

    name: str
    type: Any  # what pydantic checks against; Any where the default is None
    default: Any
    comment: str
    exact: bool = True  # no conversion but int to float; a configuration's own fields convert

    @property
    def type_name(self) -> str:
        """The type as a person reads it: "int", "list[int]", "local or global", "any"."""
        if self.type is Any:
            return "any"
        if get_origin(self.type) is tuple:
            return "list"
        choices = get_args(self.type)
        if choices and all(isinstance(choice, str) for choice in choices):
            return " or ".join(choices)
        return self.type.__name__ if isinstance(self.type, type) else str(self.type)


def read_notebook(path: Path) -> nbformat.NotebookNode:
    """Reads a notebook; raises DataError with the way out where that cannot be done."""
    if not path.is_file():
        beside = map(str, path.parent.glob("*.ipynb"))
        alike = difflib.get_close_matches(f"{path}.ipynb", list(beside), n=1)
        raise DataError(
            f"There is no notebook {path}. {f'Did you mean {alike[0]}? ' if alike else ''}"
            "The course is in notebooks/ of its repository: start there, or give the whole path."
        )
    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:
        raise DataError(f"{path} is not a notebook that can be read: {error}") from error


@dataclass(frozen=True)
class Parameters:
    """What a notebook can be run with.

    cell: the parameters of its cell by name, in order. configuration: the class whose fields it
    sets, or None. where: name of the notebook, for errors.
    """

    cell: Mapping[str, Parameter]
    configuration: type[Configuration] | None
    where: str

    @property
    def own(self) -> set[str]:
        """The parameters of the cell that no configuration checks."""
        fields = self.configuration.model_fields if self.configuration else {}
        return {name for name in self.cell if name not in fields}

    @property
    def further(self) -> dict[str, Parameter]:
        """The configuration's fields that are not in the cell, with the notebook's defaults."""
        if self.configuration is None:
            return {}
        own, comments = self.cell[FURTHER].default, self.configuration.comments()
        return {
            name: Parameter(
                name,
                field.annotation,
                own.get(name, field.default),
                comments.get(name, ""),
                exact=False,
            )
            for name, field in self.configuration.model_fields.items()
            if name not in self.cell
        }


def parameters_of(notebook: nbformat.NotebookNode, where: str) -> Parameters:
    """The parameters of a notebook.

    Raises:
        ConfigError: not exactly one cell tagged `parameters`, a line in it that is not
            `name = literal  # comment`, or a configuration that is not there.
    """
    cells = [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and "parameters" in cell.metadata.get("tags", [])
    ]
    if len(cells) != 1:
        raise ConfigError(f"{where} has {len(cells)} cells tagged `parameters`; it needs one.")
    try:
        statements = ast.parse(cells[0].source).body
    except SyntaxError as error:
        raise ConfigError(f"The parameters cell of {where} is not Python: {error}") from error
    lines = cells[0].source.splitlines()
    found = [_parameter(statement, lines, where) for statement in statements]
    cell = {parameter.name: parameter for parameter in found}
    return Parameters(cell, _configuration(cell.get(FURTHER), where), where)


def _parameter(statement: ast.stmt, lines: list[str], where: str) -> Parameter:
    line = lines[statement.lineno - 1]
    target: ast.expr | None = None
    annotation: ast.expr | None = None
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        target = statement.targets[0]
    elif isinstance(statement, ast.AnnAssign):
        target, annotation = statement.target, statement.annotation
    value = getattr(statement, "value", None)
    if not isinstance(target, ast.Name) or value is None:
        raise ConfigError(
            f"The parameters cell of {where} may hold only `name = value  # comment`: {line!r}"
        )
    try:
        default = ast.literal_eval(value)
        kind = _type_of(default) if annotation is None else _type_from(annotation)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"Parameter {target.id} of {where}: the default must be a plain value and its type "
            f"made of {', '.join(TYPES)}: {line!r}"
        ) from error
    one_line = statement.end_lineno == statement.lineno
    after = line.encode()[statement.end_col_offset :].decode() if one_line else line  # in bytes
    return Parameter(target.id, kind, default, after.partition("#")[2].strip())


def _type_of(default: Any) -> Any:
    return Any if default is None else type(default)


def _type_from(annotation: ast.expr) -> Any:
    if isinstance(annotation, ast.Subscript):
        inside = annotation.slice
        parts = inside.elts if isinstance(inside, ast.Tuple) else [inside]
        arguments = tuple(_type_from(part) for part in parts)
        return _type_from(annotation.value)[arguments if len(arguments) > 1 else arguments[0]]
    if isinstance(annotation, ast.Name):
        return TYPES[annotation.id]
    raise ValueError(ast.unparse(annotation))


def _configuration(further: Parameter | None, where: str) -> type[Configuration] | None:
    """The class that the comment of `further` names."""
    if further is None:
        return None
    named = CONFIGURATION.search(further.comment)
    try:
        found = getattr(importlib.import_module(named[1]), named[2]) if named else None
    except (ImportError, AttributeError):
        found = None
    if not (isinstance(found, type) and issubclass(found, Configuration)):
        raise ConfigError(
            f"The comment of {FURTHER} in {where} must name the configuration whose fields it "
            f"holds, as localmi.train.config.TrainConfig: {further.comment!r}"
        )
    return found


def resolve(
    parameters: Parameters, from_file: Mapping[str, Any], from_command: Mapping[str, str]
) -> dict[str, Any]:
    """The values of the cell: defaults, then the parameter file's, then the command line's.

    A field of the configuration is set by its name, wherever it stands: in the cell, or in
    `further`.

    Raises:
        ConfigError: an unknown name (with the closest known one), a wrong type, a value that
            the notebook's configuration does not allow, or what it describes cannot be built.
        DataError: a folder named by a parameter `*_dir` does not exist, or other data named.
        CheckpointError: `init` names no checkpoint of a run.
    """
    known = {**parameters.cell, **parameters.further}
    for name in [*from_file, *from_command]:
        if name not in known:
            raise ConfigError(_unknown(name, known, parameters))
    words = {name: parse_text(known[name], text) for name, text in from_command.items()}
    values = {name: parameter.default for name, parameter in parameters.cell.items()}
    for source in (from_file, words):  # the command line goes over the file, field by field
        given = {name: check_value(known[name], value) for name, value in source.items()}
        for name in given.keys() & parameters.own:
            _check_range(known[name], given[name])
        if FURTHER in values:
            others = {name: value for name, value in given.items() if name not in values}
            given[FURTHER] = {**values[FURTHER], **given.get(FURTHER, {}), **others}
        values |= {name: value for name, value in given.items() if name in values}
    kind = parameters.configuration
    configured = None if kind is None else configure(kind, values)
    values = {name: _existing(parameters.cell[name], value) for name, value in values.items()}
    _read_once(parameters, values)
    if configured is not None:
        configured.check()
    return values


def configure(configuration: type[Configuration], values: Mapping[str, Any]) -> Configuration:
    """The configuration that a notebook makes of its parameters.

    Raises:
        ConfigError: as `Configuration.checked`; a field stands in the cell and in `further`.
    """
    own = {name: value for name, value in values.items() if name in configuration.model_fields}
    if twice := sorted(own.keys() & values.get(FURTHER, {}).keys()):
        raise ConfigError(f"{', '.join(twice)}: in the parameters cell, and in {FURTHER} too.")
    return configuration.checked(**own, **values.get(FURTHER, {}))


def recorded(parameters: Parameters, values: Mapping[str, Any]) -> dict[str, Any]:
    """All parameters as a run had them, by name: every field of its configuration, and others."""
    plain = {name: value for name, value in values.items() if name != FURTHER}
    if parameters.configuration is None:
        return plain
    return {**plain, **configure(parameters.configuration, values).as_record()}


def _unknown(name: str, known: Mapping[str, Parameter], parameters: Parameters) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    names = ", ".join(each for each in known if each != FURTHER) or "none"
    return f"{parameters.where} has no parameter {name}.{hint} It has: {names}."


def parse_text(parameter: Parameter, text: str) -> Any:
    """A command-line word as the value it means: "false" is False where a bool is expected."""
    if parameter.type is str:
        return text
    if parameter.type is bool:
        return WORDS.get(text.lower(), text)
    if parameter.type in (int, float):
        try:
            return parameter.type(text)
        except ValueError:
            return text  # check_value says what is wrong with it
    try:
        return parse_yaml(text)
    except YAMLError:
        return text


def check_value(parameter: Parameter, value: Any) -> Any:
    """The value, when it has the parameter's type; no silent conversion but int to float."""
    if parameter.type is float and isinstance(value, str):
        value = parse_text(parameter, value)  # YAML reads 5e-4 as a word
    try:
        TypeAdapter(parameter.type).validate_python(value, strict=parameter.exact)
    except ValidationError as error:
        raise ConfigError(
            f"Parameter {parameter.name} must be {parameter.type_name}, as its default "
            f"{parameter.default!r} is; it was given {value!r}. ({error.errors()[0]['msg']}.)"
        ) from error
    return float(value) if parameter.type is float else value


def _check_range(parameter: Parameter, value: Any) -> None:
    """Refuses what a parameter's default and comment rule out.

    A comment "a, b or c" lists all choices, where the default is one; "at least 1" or "above 0" is
    the range of a number. Without, numbers are finite, above 0 where the default is, and below 0
    only where the default is. A list is empty only where the default is.
    """
    name, default = parameter.name, parameter.default
    found = CHOICES.search(parameter.comment)
    choices = re.split(", | or ", found[1]) if found else []
    if default in choices and value not in choices:
        raise ConfigError(
            f"Parameter {name} must be {found and found[1]}; it was given {value!r}."
        )
    if isinstance(default, list) and default and not value:
        raise ConfigError(f"Parameter {name} is an empty list; give one value at least.")
    each = value if isinstance(value, list) else [value]
    least = min(default, default=None) if isinstance(default, list) else default
    if isinstance(least, int | float) and not isinstance(least, bool):
        _check_numbers(parameter, least, each)


def _check_numbers(parameter: Parameter, least: float, each: Sequence[float]) -> None:
    """By the range of the comment; without one by the sign of the default, the `least` of it."""
    large = [number for number in each if isinstance(number, int) and abs(number) >= WHOLE]
    if large:
        raise ConfigError(
            f"Parameter {parameter.name} must be below 2^63; it was given {large[0]:,}."
        )
    ranges = RANGE.findall(parameter.comment)
    if not ranges and least >= 0:
        ranges = [("above", 0.0) if least else ("at least", 0.0)]
    for words, limit in ranges:
        for number in each:
            inside = number > float(limit) or (words == "at least" and number == float(limit))
            if not (inside and math.isfinite(number)):
                raise ConfigError(
                    f"Parameter {parameter.name} must be {words} {float(limit):g}; it was given "
                    f"{number!r}."
                )


def _names_a_path(parameter: Parameter, value: Any) -> bool:
    """Whether it is one of `PATHS`, and the value no word that the comment quotes."""
    return parameter.name in PATHS and value not in QUOTED.findall(parameter.comment)


def _existing(parameter: Parameter, value: Any) -> Any:
    """The path that a parameter names, absolute, where it exists."""
    name = parameter.name
    if _names_a_path(parameter, value):
        path = Path(value).expanduser()
        if not path.exists():
            others = "".join(f', or "{word}"' for word in QUOTED.findall(parameter.comment))
            advice = f"Give {PATHS[name]}{others}."
            raise DataError(f"Parameter {name} names {value}, which does not exist. {advice}")
        return str(path.resolve())
    if not name.endswith("_dir") or name == "run_dir" or not value:
        return value  # "" means the notebook's own default
    folder = Path(value).expanduser().resolve()
    if name == "cache_dir":  # is made where it is not there
        if folder.is_file():
            raise DataError(f"Parameter cache_dir names {folder}, which is a file: give a folder.")
        return str(folder)
    if not folder.exists():
        raise DataError(
            f"Parameter {name} names {folder}, which does not exist. What it takes: "
            f"{parameter.comment or 'a folder'}."
        )
    return str(folder)


def _read_once(parameters: Parameters, values: Mapping[str, Any]) -> None:
    """Files that a notebook itself will read; a configuration reads its own."""
    own = parameters.own
    named = {name for name in own if _names_a_path(parameters.cell[name], values[name])}
    if "boxes" in named:
        from localmi.evaluate.boxes import read_boxes

        read_boxes(values["boxes"])
    if "init" in named:
        from localmi.train.trained_model import read_config

        read_config(values["init"])


def table(parameters: Parameters) -> str:
    """The parameters as a text table: name, type, default, comment; then the further fields."""
    cell = [each for name, each in parameters.cell.items() if name != FURTHER]
    further = list(parameters.further.values())
    rows = [("name", "type", "default", "meaning")]
    rows += [(p.name, p.type_name, repr(p.default), p.comment) for p in (*cell, *further)]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        "  ".join([*(part.ljust(width) for part, width in zip(row, widths, strict=False)), row[3]])
        for row in rows
    ]
    if further:
        assert parameters.configuration is not None
        kind = parameters.configuration
        lines.insert(1 + len(cell), f"\nFurther fields of {kind.__module__}.{kind.__name__}:")
    return "\n".join(line.rstrip() for line in lines)
