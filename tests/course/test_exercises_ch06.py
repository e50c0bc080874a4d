"""Exercises of chapter 6: a stub fails, a solution passes, wrong answers are told why."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from localmi.course import check
from localmi.course.exercises.ch06 import Layers


def stub(*_: Any) -> Any: ...


@pytest.mark.parametrize("name", ["exercise_6_1", "exercise_6_2", "exercise_6_3"])
def test_a_stub_is_not_tried(name: str) -> None:
    assert getattr(check, name)(stub).status == "not tried yet"


# 6.1


def by_reshape(block: Tensor, grid: int) -> Tensor:
    size = block.shape[-1] // grid
    cells = block.unflatten(3, (grid, size)).unflatten(2, (grid, size))  # [B, C, g, s, g, s]
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def by_unshuffle(block: Tensor, grid: int) -> Tensor:
    return functional.pixel_unshuffle(block, block.shape[-1] // grid).flatten(2).transpose(1, 2)


def by_a_loop(block: Tensor, grid: int) -> Tensor:
    height, width = (side // grid for side in block.shape[2:])
    return torch.stack(
        [
            block[:, :, row : row + height, column : column + width].flatten(1)
            for row in range(0, height * grid, height)
            for column in range(0, width * grid, width)
        ],
        dim=1,
    )


def of_any_sides(block: Tensor, grid: int) -> Tensor:
    cells = block.unflatten(3, (grid, -1)).unflatten(2, (grid, -1))
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def by_numpy(block: Tensor, grid: int) -> np.ndarray:
    rows = np.split(block.numpy(), grid, axis=2)
    cells = [cell for row in rows for cell in np.split(row, grid, axis=3)]
    return np.stack([cell.reshape(len(cell), -1) for cell in cells], axis=1)


def grid_for_side(block: Tensor, grid: int) -> Tensor:
    return functional.pixel_unshuffle(block, grid).flatten(2).transpose(1, 2)


def width_for_height(block: Tensor, grid: int) -> Tensor:
    """Right for square blocks alone, and says nothing where it is wrong."""
    wide = block[..., : block.shape[2]]
    return by_a_loop(wide, grid)


RIGHT = [by_unshuffle, by_reshape, by_a_loop, of_any_sides, by_numpy]


@pytest.mark.parametrize("answer", [*RIGHT, lambda block, grid: by_numpy(block, grid).tolist()])
def test_regions_that_are_right(answer: Callable[[Tensor, int], Tensor]) -> None:
    assert check.exercise_6_1(answer).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda b, g: functional.avg_pool2d(b, 3).flatten(2).transpose(1, 2), "pooled"),
        (lambda b, g: by_unshuffle(b, g).transpose(1, 2), "a region is a row"),
        (lambda b, g: b.flatten(1), "gives [2, 4, 27]"),
        (lambda b, g: b.reshape(2, 4, -1), "plain reshape"),
        (lambda b, g: by_unshuffle(b.transpose(2, 3), g), "column by column"),
        (lambda b, g: b.flatten(2).transpose(1, 2).reshape(2, 4, -1), "region 0 holds"),
        (lambda b, g: [[0.0]], "gives [2, 4, 27]"),
        (lambda b, g: b.shape, "gives [2, 4, 27]"),
        (lambda b, g: {"regions": b}, "an array or tensor"),
        (grid_for_side, "regions of 2 x 2 cells"),
        (lambda b, g: by_a_loop(b, 2), "gives [3, 9, 18]"),
        (width_for_height, "h is not w"),
    ],
)
def test_regions_that_are_wrong(answer: Callable[[Tensor, int], Any], words: str) -> None:
    verdict = check.exercise_6_1(answer)
    assert verdict.status == "not yet"
    assert words in verdict.words


# 6.2


def receptive_field(layers: Layers) -> int:
    field, apart = 1, 1
    for kernel, stride in layers:
        field += (kernel - 1) * apart
        apart *= stride
    return field


def without_strides(layers: Layers) -> int:
    return 1 + sum(kernel - 1 for kernel, _ in layers)


def stride_too_early(layers: Layers) -> int:
    field, apart = 1, 1
    for kernel, stride in layers:
        apart *= stride
        field += (kernel - 1) * apart
    return field


def test_the_receptive_field() -> None:
    assert check.exercise_6_2(receptive_field).passed
    assert check.exercise_6_2(lambda layers: float(receptive_field(layers))).passed
    assert check.exercise_6_2(lambda layers: torch.tensor(receptive_field(layers))).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda layers: 2, "sees 3 pixels"),
        (lambda layers: 3 * len(layers), "they overlap"),
        (lambda layers: 3 ** len(layers), "they overlap"),
        (lambda layers: 4 * len(layers) - 1, "each adds k - 1"),
        (without_strides, "lie 2 pixels apart"),
        (stride_too_early, "not its own"),
        (lambda layers: min(receptive_field(layers), 256), "437"),
        (lambda layers: receptive_field([(k, min(s, 2)) for k, s in layers]), "22 pixels"),
        (lambda layers: receptive_field([(min(k, 3), s) for k, s in layers]), "22 pixels"),
    ],
)
def test_receptive_fields_that_are_wrong(answer: Callable[[Layers], int], words: str) -> None:
    verdict = check.exercise_6_2(answer)
    assert verdict.status == "not yet"
    assert words in verdict.words


# 6.3


def masked_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def mean_by_a_loop(hidden: Tensor, mask: Tensor) -> Tensor:
    return torch.stack(
        [own[counts].mean(dim=0) for own, counts in zip(hidden, mask.bool(), strict=True)]
    )


def mean_by_numpy(hidden: Tensor, mask: Tensor) -> np.ndarray:
    every = np.broadcast_to(mask.numpy()[..., None], hidden.shape)
    return np.average(hidden.numpy(), axis=1, weights=every)


@pytest.mark.parametrize("answer", [masked_mean, mean_by_a_loop, mean_by_numpy])
def test_the_mean_over_word_pieces(answer: Callable[[Tensor, Tensor], Any]) -> None:
    assert check.exercise_6_3(answer).passed
    assert check.exercise_6_3(lambda hidden, mask: list(answer(hidden, mask))).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda hidden, mask: hidden.mean(1), "padding is counted"),
        (lambda hidden, mask: (hidden * mask[..., None]).mean(1), "not by T"),
        (lambda hidden, mask: (hidden * mask[..., None]).sum(1), "this is the sum"),
        (lambda hidden, mask: hidden[:, 0], "[CLS]"),
        (lambda hidden, mask: hidden.mean(2), "one vector a sentence"),
        (lambda hidden, mask: hidden, "one vector a sentence"),
        (lambda hidden, mask: torch.zeros(2, 4), "the mean over the pieces"),
    ],
)
def test_means_that_are_wrong(answer: Callable[[Tensor, Tensor], Tensor], words: str) -> None:
    verdict = check.exercise_6_3(answer)
    assert verdict.status == "not yet"
    assert words in verdict.words


# Tried in many forms and sizes by test_exercises.py: the right answers, and what is square.
ANSWERS = {
    "exercise_6_1": [of_any_sides, by_unshuffle, by_reshape, by_a_loop, by_numpy],
    "exercise_6_2": [receptive_field],
    "exercise_6_3": [masked_mean, mean_by_a_loop, mean_by_numpy],
}
