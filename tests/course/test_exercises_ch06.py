"""Exercises of chapter 6: a stub fails, a solution passes, wrong answers are told why."""

from collections.abc import Callable
from typing import Any

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


@pytest.mark.parametrize("answer", [by_unshuffle, by_reshape])
def test_regions_that_are_right(answer: Callable[[Tensor, int], Tensor]) -> None:
    assert check.exercise_6_1(answer).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda b, g: functional.avg_pool2d(b, 2).flatten(2).transpose(1, 2), "pooled"),
        (lambda b, g: by_unshuffle(b, g).transpose(1, 2), "a region is a row"),
        (lambda b, g: b.flatten(1), "gives [2, 4, 12]"),
        (lambda b, g: b.reshape(2, 4, 12), "plain reshape"),
        (lambda b, g: by_unshuffle(b.transpose(2, 3), g), "column by column"),
        (lambda b, g: b.flatten(2).transpose(1, 2).reshape(2, 4, 12), "region 0 holds"),
        (lambda b, g: [[0.0]], "a tensor"),
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
    ],
)
def test_receptive_fields_that_are_wrong(answer: Callable[[Layers], int], words: str) -> None:
    verdict = check.exercise_6_2(answer)
    assert verdict.status == "not yet"
    assert words in verdict.words


# 6.3


def masked_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)


def test_the_mean_over_word_pieces() -> None:
    assert check.exercise_6_3(masked_mean).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda hidden, mask: hidden.mean(1), "padding is counted"),
        (lambda hidden, mask: (hidden * mask[..., None]).mean(1), "not by T"),
        (lambda hidden, mask: (hidden * mask[..., None]).sum(1), "this is the sum"),
        (lambda hidden, mask: hidden[:, 0], "[CLS]"),
        (lambda hidden, mask: hidden.mean(2), "the mean over the pieces"),
        (lambda hidden, mask: hidden, "one vector a sentence"),
        (lambda hidden, mask: torch.zeros(2, 2), "the mean over the pieces"),
    ],
)
def test_means_that_are_wrong(answer: Callable[[Tensor, Tensor], Tensor], words: str) -> None:
    verdict = check.exercise_6_3(answer)
    assert verdict.status == "not yet"
    assert words in verdict.words
