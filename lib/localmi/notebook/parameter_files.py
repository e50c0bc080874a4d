"""Parameters in YAML: in files, and as words of the command line."""

import re
from pathlib import Path
from typing import Any

import yaml
from yaml import YAMLError
from yaml.constructor import ConstructorError

from localmi.errors import ConfigError

PLAIN_NUMBER = re.compile(
    r"[-+]?(0|[1-9]\d*)?(\.\d*)?([eE][-+]?\d+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)


class PlainLoader(yaml.SafeLoader):
    """Without YAML's surprises: a name given twice, a number that is not what it looks like.

    In YAML 1.1 the value 010 is 8, and 1:30 is 90.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        if twice := {str(name) for name in names if names.count(name) > 1}:
            raise ConstructorError(
                None, None, f"given twice: {', '.join(sorted(twice))}", node.start_mark
            )
        return super().construct_mapping(node, deep)

    def plain_number(self, node: yaml.ScalarNode) -> Any:
        """An int or float that is written as everybody reads it."""
        if not PLAIN_NUMBER.fullmatch(node.value):
            raise ConstructorError(
                None,
                None,
                f"{node.value} is no plain number; of a text: {node.value!r}",
                node.start_mark,
            )
        whole = node.tag == "tag:yaml.org,2002:int"
        return self.construct_yaml_int(node) if whole else self.construct_yaml_float(node)


for _kind in ("int", "float"):
    PlainLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", PlainLoader.plain_number)


def parse_yaml(text: str | bytes) -> Any:
    """What a text means. Raises YAMLError."""
    return yaml.load(text, PlainLoader)


def read_yaml(path: Path) -> dict[str, Any]:
    """A file of parameters, in UTF-8, or UTF-16 as PowerShell writes it.

    Raises:
        ConfigError: it cannot be read, or holds something else.
    """
    try:
        content = parse_yaml(path.read_bytes())
    except (OSError, YAMLError) as error:
        raise ConfigError(
            f"The parameter file {path} cannot be read: {error}\nIt must be a text in UTF-8, of "
            "lines of the form name: value."
        ) from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ConfigError(f"The parameter file {path} must hold lines of the form name: value.")
    return content
