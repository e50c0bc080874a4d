"""An image cut into the cells of a grid, and put together again."""

from torch import Tensor


def to_cells(x: Tensor, grid: int) -> Tensor:
    """[B, c, H, W] -> its cells as images of their own, row by row: [B * grid**2, c, h, w].

    In memory the channels come last: BatchNorm of many small images is faster so.
    """
    height, width = x.shape[-2] // grid, x.shape[-1] // grid
    cells = x.unflatten(3, (grid, width)).unflatten(2, (grid, height))
    return cells.permute(0, 2, 4, 3, 5, 1).flatten(0, 2).permute(0, 3, 1, 2)


def from_cells(cells: Tensor, grid: int) -> Tensor:
    """The inverse of `to_cells`."""
    x = cells.unflatten(0, (-1, grid, grid)).permute(0, 3, 1, 4, 2, 5)
    return x.flatten(4, 5).flatten(2, 3)
