"""Checks of the exercises of 06_encoders."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from localmi.course.check import exercise, expect, expect_close

Layers = Sequence[tuple[int, int]]  # (kernel, stride) of each convolution, from the pixels on


@exercise
def exercise_6_1(my_regions: Callable[[Tensor, int], Tensor]) -> None:
    """A block of features [B, C, h, w] cut into grid x grid regions, [B, N, D], none lost."""
    block = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).reshape(2, 3, 4, 4)
    found = my_regions(block, 2)
    expect(isinstance(found, Tensor), f"a tensor is asked for, found {found!r}")
    shape = list(found.shape)
    expect(
        shape != [2, 4, 3],
        "3 numbers a region: the 2 x 2 cells were pooled, and three of four numbers are lost",
    )
    expect(shape != [2, 12, 4], "[B, D, N]: swap the last two, a region is a row")
    expect(shape == [2, 4, 12], f"[2, 3, 4, 4] in a grid of 2 gives [2, 4, 12], yours is {shape}")
    corners = [(row, column) for row in (0, 2) for column in (0, 2)]
    wanted = torch.stack([block[:, :, r : r + 2, c : c + 2].flatten(1) for r, c in corners], dim=1)
    found, wanted = found.sort(dim=2).values, wanted.sort(dim=2).values  # any order inside
    expect(
        not torch.equal(found, block.reshape(2, 4, 12)),
        "a plain reshape tears places apart: region 0 must be block[:, :, :2, :2] and no other",
    )
    expect(
        not torch.equal(found, wanted[:, [0, 2, 1, 3]]),
        "the regions come column by column: go row by row from the top left",
    )
    expect_close(found, wanted, "region 0 holds block[:, :, :2, :2], region 1 what is right of it")


@exercise
def exercise_6_2(my_receptive_field: Callable[[Layers], int]) -> None:
    """Side, in pixels, of what one number after these convolutions depends on."""
    expect(my_receptive_field([(3, 1)]) == 3, "one 3 x 3 convolution sees 3 pixels")
    two = my_receptive_field([(3, 1), (3, 1)])
    expect(two not in (6, 9), f"two 3 x 3 convolutions see 5 pixels, not {two}: they overlap")
    expect(two == 5, f"two 3 x 3 convolutions see 5 pixels: each adds k - 1; yours says {two}")
    strided = my_receptive_field([(3, 2), (3, 1)])
    expect(
        strided != 5, "after a stride of 2, neighbours lie 2 pixels apart: 3 + 2 * 2, not 3 + 2"
    )
    expect(strided != 9, "a stride moves the layers after it apart, not its own: 3 + 2 * 2")
    expect(strided == 7, f"(3, 2) then (3, 1) sees 7 pixels, yours says {strided}")
    point = my_receptive_field([(1, 2), (3, 1)])
    expect(point == 5, f"a 1 x 1 convolution of stride 2, then 3 x 3: 5 pixels, not {point}")
    stage_five = [(3, 1)] + [(3, 2), (3, 1), (3, 1), (3, 1)] * 5
    found = my_receptive_field(stage_five)
    expect(found == 437, f"stage 5 of resnet256_6_2_1 sees 437 pixels, yours says {found}")


@exercise
def exercise_6_3(my_mean: Callable[[Tensor, Tensor], Tensor]) -> None:
    """The mean over the word pieces of each sentence, [B, E], padding left out."""
    hidden = torch.tensor([[[1.0, 2.0], [3.0, 6.0]], [[5.0, 7.0], [90.0, 90.0]]])  # [B, T, E]
    mask = torch.tensor([[1, 1], [1, 0]])  # the second sentence has one piece
    found = my_mean(hidden, mask)
    expect(isinstance(found, Tensor), f"a tensor is asked for, found {found!r}")
    expect(
        list(found.shape) == [2, 2],
        f"one vector a sentence, [B, E] = [2, 2]; yours is {list(found.shape)}",
    )
    for mistake, words in (
        (hidden.mean(1), "padding is counted: the vector of a sentence then depends on how long "
         "the other sentences of its batch are"),
        ((hidden * mask[..., None]).mean(1), "divide by the number of pieces of the sentence, not "
         "by T"),
        ((hidden * mask[..., None]).sum(1), "this is the sum: divide by the number of pieces"),
        (hidden[:, 0], "this is the first piece, [CLS]"),
    ):  # fmt: skip
        expect(not torch.allclose(found.float(), mistake), words)
    expect_close(found, [[2.0, 4.0], [5.0, 7.0]], "the mean over the pieces the mask marks")
