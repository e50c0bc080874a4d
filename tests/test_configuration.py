"""One frozen object a method: what is wrong is said by name, what is recorded can be read back."""

import json
from typing import Any, ClassVar, Literal, Self

import pytest
from pydantic import Field, PositiveInt, ValidationError, model_validator

from localmi.configuration import Configuration, differences, in_words
from localmi.downstream.config import DownstreamConfig
from localmi.errors import ConfigError
from localmi.train.config import TrainConfig

OURS = (TrainConfig, DownstreamConfig)


class Made(Configuration):
    """Of no method."""

    FORMER: ClassVar[frozenset[str]] = frozenset({"pace"})

    # Steps
    steps: int = Field(5, ge=1)  # gradient steps
    rate: float = 0.5  # of learning; # is a sign too
    widths: tuple[PositiveInt, ...] = (4, 2)
    kind: Literal["plain", "fine"] = "plain"  # which

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.kind == "fine" and self.steps < 3:
            raise ValueError("kind='fine' needs 3 steps")
        return self


def test_what_is_not_given_is_at_its_default() -> None:
    made = Made.checked(steps=7, widths=[3])
    assert isinstance(made, Made)
    assert (made.steps, made.rate, made.widths, made.kind) == (7, 0.5, (3,), "plain")
    assert Made.checked() == Made()


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"stesp": 5}, "stesp: Extra inputs .*found 5"),
        ({"steps": 0}, "steps: .*greater than or equal to 1 .found 0"),
        ({"steps": "many"}, "steps: .*found 'many'"),
        ({"rate": float("nan")}, "rate: .*finite number"),
        ({"rate": float("inf")}, "rate: .*finite number"),
        ({"widths": [4, 0]}, "widths.1: .*greater than 0"),
        ({"kind": "nice"}, "kind: .*'plain' or 'fine' .found 'nice'"),
        ({"kind": "fine", "steps": 2}, "parameters: .*kind='fine' needs 3 steps$"),
        ({"pace": 1}, "pace: Extra inputs"),
    ],
)
def test_a_wrong_parameter_is_named(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"^Parameters that cannot be used:\n  {words}"):
        Made.checked(**parameters)


def test_all_wrong_parameters_are_named_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Made.checked(steps=0, rat=1, kind="nice")
    lines = str(caught.value).splitlines()
    assert lines[0] == "Parameters that cannot be used:"
    assert {line.split(":")[0] for line in lines[1:]} == {"  steps", "  rat", "  kind"}


def test_words_for_an_error_of_pydantic() -> None:
    with pytest.raises(ValidationError) as caught:
        Made(steps=0)
    error = in_words(caught.value)
    assert isinstance(error, ConfigError)
    assert str(error).startswith("Parameters that cannot be used:\n  steps: ")


def test_nothing_can_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Made().steps = 6  # type: ignore[misc]


def test_a_record_can_be_read_back() -> None:
    made = Made.checked(steps=7, widths=(3, 9))
    record = made.as_record()
    assert record == {"steps": 7, "rate": 0.5, "widths": [3, 9], "kind": "plain"}
    assert json.loads(json.dumps(record)) == record
    assert Made.of_record(record) == made


def test_a_record_of_an_earlier_version_may_hold_what_has_no_effect_now() -> None:
    assert Made.of_record({"steps": 7, "pace": 3}) == Made.checked(steps=7)
    for wrong in ({"steps": 7, "peace": 3}, {"steps": 0, "pace": 3}):
        with pytest.raises(ConfigError, match="cannot be used"):
            Made.of_record(wrong)


@pytest.mark.parametrize("kind", OURS)
def test_our_own_can_be_recorded(kind: type[Configuration]) -> None:
    record = kind().as_record()
    assert record.keys() == kind.model_fields.keys()
    assert kind.of_record(json.loads(json.dumps(record))) == kind()
    assert kind.of_record({**record, **dict.fromkeys(kind.FORMER, 1)}) == kind()
    assert not kind.FORMER & kind.model_fields.keys()


def test_comments_are_what_the_source_says_behind_a_field() -> None:
    comments = Made.comments()
    assert comments == {
        "steps": "gradient steps",
        "rate": "of learning; # is a sign too",
        "kind": "which",
    }


@pytest.mark.parametrize("kind", OURS)
def test_only_fields_have_comments(kind: type[Configuration]) -> None:
    comments = kind.comments()
    assert comments
    assert comments.keys() <= kind.model_fields.keys()


def test_differences_are_named_in_order() -> None:
    then = {"steps": 5, "kind": "plain", "old": 1, "same": [1]}
    now = {"steps": 6, "kind": "plain", "new": False, "same": [1]}
    assert differences(then, now) == [
        "new: None then, False now",
        "old: 1 then, None now",
        "steps: 5 then, 6 now",
    ]
    assert differences(then, dict(then)) == []
