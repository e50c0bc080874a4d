"""Two nested states, bit for bit."""

from typing import Any

import torch
from torch import Tensor


def flat(state: Any, name: str = "") -> dict[str, Any]:
    """Every tensor and number of a nested state, by its place."""
    if isinstance(state, dict):
        parts = [flat(value, f"{name}.{key}") for key, value in state.items()]
    elif isinstance(state, list | tuple):
        parts = [flat(value, f"{name}.{index}") for index, value in enumerate(state)]
    else:
        return {name: state}
    return {key: value for part in parts for key, value in part.items()}


def assert_identical(one: Any, other: Any) -> None:
    one, other = flat(one), flat(other)
    assert one.keys() == other.keys()
    for name, value in one.items():
        if isinstance(value, Tensor):
            assert torch.equal(value, other[name]), name
        else:
            assert value == other[name], name
