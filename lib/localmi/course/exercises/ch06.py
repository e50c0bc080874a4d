"""Checks of the exercises of 06_encoders."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from localmi.course.check import (
    WrongError,
    exercise,
    expect,
    expect_array,
    expect_close,
    expect_number,
)

Layers = Sequence[tuple[int, int]]  # (kernel, stride) of each convolution, from the pixels on


@exercise
def exercise_6_1(my_regions: Callable[[Tensor, int], Tensor]) -> None:
    """A block of features [B, C, h, w] cut into grid x grid regions, [B, N, D], none lost."""
    block = torch.arange(2 * 3 * 6 * 6, dtype=torch.float32).reshape(2, 3, 6, 6)
    found = expect_array(my_regions(block, 2))
    shape = list(found.shape)
    expect(
        shape != [2, 4, 3],
        "3 numbers a region: its 3 x 3 cells were pooled, and eight of nine numbers are lost",
    )
    expect(shape != [2, 27, 4], "[B, D, N]: swap the last two, a region is a row")
    expect(
        shape != [2, 9, 12],
        "these are regions of 2 x 2 cells: a grid of 2 has 2 regions a side, of 6 / 2 = 3 cells",
    )
    expect(shape == [2, 4, 27], f"[2, 3, 6, 6] in a grid of 2 gives [2, 4, 27], yours is {shape}")
    wanted = _cut(block, 2)
    found = np.sort(found, axis=2)  # any order inside a region
    expect(
        not np.array_equal(found, block.reshape(2, 4, 27)),
        "a plain reshape tears places apart: region 0 must be block[:, :, :3, :3] and no other",
    )
    expect(
        not np.array_equal(found, wanted[:, [0, 2, 1, 3]]),
        "the regions come column by column: go row by row from the top left",
    )
    expect_close(found, wanted, "region 0 holds block[:, :, :3, :3], region 1 what is right of it")
    square = torch.arange(3 * 2 * 9 * 9, dtype=torch.float32).reshape(3, 2, 9, 9)
    found = expect_array(my_regions(square, 3))
    shape = list(found.shape)
    expect(
        shape == [3, 9, 18],
        f"[3, 2, 9, 9] in a grid of 3 gives [3, 9, 18], yours is {shape}: is the grid, or the "
        "size of a region, written as a number?",
    )
    found = np.sort(found, axis=2)
    expect_close(found, _cut(square, 3), "of 9 x 9 cells in a grid of 3 a region has 3 x 3")
    wide = torch.arange(3 * 2 * 6 * 15, dtype=torch.float32).reshape(3, 2, 6, 15)
    try:
        found = expect_array(my_regions(wide, 3))
    except WrongError as error:
        if isinstance(error.__cause__, RuntimeError | ValueError):
            return  # made for square blocks, and says so
        raise
    words = "of 6 x 15 cells in a grid of 3 a region has 2 x 5: h is not w"
    expect(found.shape == (3, 9, 20), f"{words}; yours is {list(found.shape)}")
    expect_close(np.sort(found, axis=2), _cut(wide, 3), words)


def _cut(block: Tensor, grid: int) -> np.ndarray:
    """[B, C, h, w] in grid x grid, region by region; numbers in order: [B, N, D]."""
    rows = [row.chunk(grid, dim=3) for row in block.chunk(grid, dim=2)]
    cut = [region.flatten(1) for row in rows for region in row]
    return torch.stack(cut, dim=1).sort(dim=2).values.numpy()


@exercise
def exercise_6_2(my_receptive_field: Callable[[Layers], int]) -> None:
    """Side, in pixels, of what one number after these convolutions depends on."""

    def sees(layers: Layers) -> float:
        return expect_number(my_receptive_field(layers))

    expect(sees([(3, 1)]) == 3, "one 3 x 3 convolution sees 3 pixels")
    two = sees([(3, 1), (3, 1)])
    expect(two not in (6, 9), f"two 3 x 3 convolutions see 5 pixels, not {two:g}: they overlap")
    expect(two == 5, f"two 3 x 3 convolutions see 5 pixels: each adds k - 1; yours says {two:g}")
    strided = sees([(3, 2), (3, 1)])
    expect(
        strided != 5, "after a stride of 2, neighbours lie 2 pixels apart: 3 + 2 * 2, not 3 + 2"
    )
    expect(strided != 9, "a stride moves the layers after it apart, not its own: 3 + 2 * 2")
    expect(strided == 7, f"(3, 2) then (3, 1) sees 7 pixels, yours says {strided:g}")
    point = sees([(1, 2), (3, 1)])
    expect(point == 5, f"a 1 x 1 convolution of stride 2, then 3 x 3: 5 pixels, not {point:g}")
    wide = sees([(7, 3), (2, 1), (5, 4)])
    expect(wide == 22, f"(7, 3), (2, 1), (5, 4) sees 7 + 1 * 3 + 4 * 3 = 22 pixels, not {wide:g}")
    stage_five = [(3, 1)] + [(3, 2), (3, 1), (3, 1), (3, 1)] * 5
    found = sees(stage_five)
    expect(found == 437, f"stage 5 of resnet256_6_2_1 sees 437 pixels, yours says {found:g}")


@exercise
def exercise_6_3(my_mean: Callable[[Tensor, Tensor], Tensor]) -> None:
    """The mean over the word pieces of each sentence, [B, E], padding left out."""
    hidden = torch.arange(2 * 3 * 4, dtype=torch.float32).reshape(2, 3, 4) ** 2  # [B, T, E]
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])  # the second sentence has one piece
    found = expect_array(my_mean(hidden.clone(), mask))
    expect(
        found.shape == (2, 4),
        f"one vector a sentence, [B, E] = [2, 4]; yours is {list(found.shape)}",
    )
    for mistake, words in (
        (hidden.mean(1), "padding is counted: the vector of a sentence then depends on how long "
         "the other sentences of its batch are"),
        ((hidden * mask[..., None]).mean(1), "divide by the number of pieces of the sentence, not "
         "by T"),
        ((hidden * mask[..., None]).sum(1), "this is the sum: divide by the number of pieces"),
        (hidden[:, 0], "this is the first piece, [CLS]"),
    ):  # fmt: skip
        expect(not np.allclose(found, mistake), words)
    wanted = torch.stack([hidden[0].mean(dim=0), hidden[1, 0]])
    expect_close(found, wanted, "the mean over the pieces the mask marks")
    three = torch.arange(3 * 2 * 5, dtype=torch.float32).reshape(3, 2, 5) ** 2
    mask = torch.tensor([[1, 0], [1, 1], [1, 0]])
    wanted = torch.stack([three[0, 0], three[1].mean(dim=0), three[2, 0]])
    expect_close(my_mean(three, mask), wanted, "of three sentences, two pieces and five numbers")
