"""What a run depends on: one frozen object a method, checked at the door."""

import inspect
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from localmi.errors import ConfigError


class Configuration(BaseModel):
    """The base of every configuration; each field has a default, a type, and its range.

    A notebook names its own in its parameters cell, so that a headless run checks all names and
    values before anything starts: see `localmi.notebook.parameters`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)

    FORMER: ClassVar[frozenset[str]] = frozenset()  # fields of earlier versions, without effect

    @classmethod
    def checked(cls, **parameters: Any) -> Self:
        """The configuration with these fields, the others at their defaults.

        Raises:
            ConfigError: an unknown name, a wrong type or value; each on a line of its own.
        """
        try:
            return cls(**parameters)
        except ValidationError as error:
            raise in_words(error) from error

    @classmethod
    def of_record(cls, recorded: Mapping[str, Any]) -> Self:
        """From what `as_record` gave, now or in an earlier version.

        Raises:
            ConfigError: as `checked`.
        """
        return cls.checked(
            **{name: value for name, value in recorded.items() if name not in cls.FORMER}
        )

    def check(self) -> None:
        """What takes more than a look at the values, before any data are read.

        Raises:
            ConfigError: what is described cannot be built.
        """

    @classmethod
    def comments(cls) -> dict[str, str]:
        """What the source says behind each field."""
        own = (base for base in reversed(cls.__mro__) if issubclass(base, Configuration))
        lines = "\n".join(map(inspect.getsource, own)).splitlines()
        found = (re.match(r"    (\w+): .*?#\s*(.*)", line) for line in lines)
        return {match[1]: match[2] for match in found if match and match[1] in cls.model_fields}

    def as_record(self) -> dict[str, Any]:
        """Every field, as JSON can hold it."""
        return self.model_dump(mode="json")


def in_words(error: ValidationError) -> ConfigError:
    """Each wrong parameter on a line of its own."""
    lines = [
        f"  {'.'.join(map(str, issue['loc'])) or 'parameters'}: {issue['msg']}"
        + ("" if issue["type"] == "value_error" else f" (found {issue['input']!r})")
        for issue in error.errors()
    ]
    return ConfigError("Parameters that cannot be used:\n" + "\n".join(lines))


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What two sets of parameters do not share, a line each by name: "steps: 5 then, 6 now"."""
    return [
        f"{name}: {then.get(name)!r} then, {now.get(name)!r} now"
        for name in sorted(then.keys() | now.keys())
        if then.get(name) != now.get(name)
    ]
