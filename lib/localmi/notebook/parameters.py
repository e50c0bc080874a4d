"""A notebook's parameters: read from its `parameters` cell, and checked before anything runs.

papermill takes unknown names with a warning and passes `-p flag false` as a true string. Here the
default's type decides what a value must be, and where `TrainConfig` has a field of the same name,
its choices and ranges hold as well.
"""

import ast
import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import yaml
from pydantic import TypeAdapter, ValidationError

from localmi.errors import ConfigError, DataError
from localmi.train.config import TrainConfig, checked

# What an annotation in a parameters cell may be made of.
TYPES: Mapping[str, Any] = {kind.__name__: kind for kind in (bool, int, float, str, list, dict)}
WORDS = {"true": True, "false": False}


@dataclass(frozen=True)
class Parameter:
    """One line of a notebook's `parameters` cell: `name: type = default  # comment`."""

    name: str
    type: Any  # what pydantic checks against; Any where the default is None
    default: Any
    comment: str

    @property
    def type_name(self) -> str:
        """The type as a person reads it: "int", "list[int]", "any"."""
        if self.type is Any:
            return "any"
        return self.type.__name__ if isinstance(self.type, type) else str(self.type)


def read_notebook(path: Path) -> nbformat.NotebookNode:
    """Reads a notebook; raises DataError with the way out where that cannot be done."""
    if not path.is_file():
        raise DataError(
            f"There is no notebook {path}. The course is in the folder notebooks/ of its "
            "repository: start there, or give the whole path."
        )
    try:
        notebook: nbformat.NotebookNode = nbformat.read(path, as_version=4)
        return notebook
    except Exception as error:
        raise DataError(f"{path} is not a notebook that can be read: {error}") from error


def parameters_of(notebook: nbformat.NotebookNode, where: str) -> dict[str, Parameter]:
    """The parameters of a notebook by name, in order.

    Raises:
        ConfigError: not exactly one cell tagged `parameters`, or a line in it that is not
            `name = literal  # comment`.
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
    return {parameter.name: parameter for parameter in found}


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
    after = line[statement.end_col_offset :] if statement.end_lineno == statement.lineno else ""
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


def resolve(
    parameters: Mapping[str, Parameter],
    from_file: Mapping[str, Any],
    from_command: Mapping[str, str],
    where: str,
) -> dict[str, Any]:
    """The full set of values: defaults, then the parameter file's, then the command line's.

    Raises:
        ConfigError: an unknown name (with the closest known one), a wrong type, a value that
            `TrainConfig` does not allow.
        DataError: a folder named by a parameter `*_dir` does not exist.
    """
    for name in [*from_file, *from_command]:
        if name not in parameters:
            raise ConfigError(_unknown(name, parameters, where))
    values = {name: parameter.default for name, parameter in parameters.items()}
    for name, value in from_file.items():
        values[name] = check_value(parameters[name], value)
    for name, text in from_command.items():
        values[name] = check_value(parameters[name], parse_text(parameters[name], text))
    checked(**{name: value for name, value in values.items() if name in TrainConfig.model_fields})
    return {name: _existing_folder(name, value) for name, value in values.items()}


def _unknown(name: str, parameters: Mapping[str, Parameter], where: str) -> str:
    close = difflib.get_close_matches(name, parameters, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"{where} has no parameter {name}.{hint} It has: {', '.join(parameters) or 'none'}."


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
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def check_value(parameter: Parameter, value: Any) -> Any:
    """The value, when it has the parameter's type; no silent conversion but int to float."""
    if parameter.type is float and isinstance(value, str):
        value = parse_text(parameter, value)  # YAML reads 5e-4 as a word
    try:
        return TypeAdapter(parameter.type).validate_python(value, strict=True)
    except ValidationError as error:
        raise ConfigError(
            f"Parameter {parameter.name} must be {parameter.type_name}, as its default "
            f"{parameter.default!r} is; it was given {value!r}. ({error.errors()[0]['msg']}.)"
        ) from error


def _existing_folder(name: str, value: Any) -> Any:
    if not name.endswith("_dir") or name == "run_dir" or not value:
        return value  # "" means the notebook's own default
    folder = Path(value).expanduser().resolve()
    if not folder.exists():
        raise DataError(
            f"Parameter {name} names {folder}, which does not exist. Give the folder with the "
            'data, or "" for the example study.'
        )
    return str(folder)


def table(parameters: Mapping[str, Parameter]) -> str:
    """The parameters as a text table: name, type, default, comment."""
    rows = [("name", "type", "default", "meaning")]
    rows += [(p.name, p.type_name, repr(p.default), p.comment) for p in parameters.values()]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[3]])
        for row in rows
    )
