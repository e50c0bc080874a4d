"""The downstream classifier: the paper's six blocks and `fc1`, the first of them frozen or not.

Liao et al. 2021, Sec. 4: every variant has the same network; they differ in how it starts and in
what is trained. Taught in 08_downstream_tasks.
"""

from collections.abc import Iterator, Mapping
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from localmi.model.image import POOLED_SIDE, STAGE_WIDTHS, ResNet256

NUM_BLOCKS = len(STAGE_WIDTHS)
STEM = ("conv1", "bn1")


def parts_of(blocks: int) -> list[str]:
    """Names of the parts that make the first `blocks` blocks: the stem belongs to block 1."""
    return [*STEM, *(f"layer{number}" for number in range(1, blocks + 1))] if blocks else []


class Classifier(ResNet256):
    """`ResNet256` whose first blocks can be frozen; state-dict names are the same.

    Frozen blocks get no gradient, and their BatchNorm statistics stay as they were pretrained,
    also in training mode.

    Args:
        num_classes: C, outputs of `fc1`.
        frozen_blocks: 0..6; with any, `conv1` and `bn1` are frozen too.
        grid: cells a side that blocks `cells_after` + 1 ... `local_stage` see one at a time, as an
            encoder with region_context="region" was pretrained; 1: they see the whole image.
        cells_after, local_stage: as in `ResNet256`; of no effect with grid 1.

    Taught in 08_downstream_tasks.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        frozen_blocks: int = 0,
        grid: int = 1,
        cells_after: int = 0,
        local_stage: int = 5,
    ) -> None:
        super().__init__(num_classes, local_stage=local_stage, cells_after=cells_after)
        self.grid = grid
        self.frozen_blocks = frozen_blocks
        for part in self._frozen():
            part.requires_grad_(False)
        self.train()

    def _frozen(self) -> Iterator[nn.Module]:
        return (self.get_submodule(name) for name in parts_of(self.frozen_blocks))

    def train(self, mode: bool = True) -> Self:
        """Training mode for what is trained."""
        super().train(mode)
        for part in self._frozen():
            part.eval()
        return self

    def load_blocks(self, weights: Mapping[str, Tensor]) -> None:
        """Takes these weights by their names; what they do not name stays as it is."""
        self.load_state_dict(dict(weights), strict=False)

    def stage(self, images: Tensor, last: int) -> Tensor:
        """Feature block after stage `last` (0..6): [B, width, H / 2**last, W / 2**last]."""
        by_cells = self.grid > 1 and self.cells_after == 0
        x = to_cells(images, self.grid) if by_cells else images
        x = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        return self._stages(from_cells(x, self.grid) if by_cells else x, 1, last)

    def _stages(self, x: Tensor, first: int, last: int) -> Tensor:
        for number in range(first, last + 1):
            block = self.get_submodule(f"layer{number}")
            if self.grid > 1 and self.cells_after < number <= self.local_stage:
                x = from_cells(block(to_cells(x, self.grid)), self.grid)
            else:
                x = block(x)
        return x

    def frozen_features(self, images: Tensor) -> Tensor:
        """What the frozen blocks make of images [B, 1, H, W]; the images where none is frozen.

        Block 5 of an image of 256 x 256 is [B, 128, 8, 8]. It never changes while the rest is
        trained, so it may be computed once.
        """
        if not self.frozen_blocks:
            return images
        with torch.no_grad():
            return self.stage(images, self.frozen_blocks)

    def trained_scores(self, features: Tensor) -> Tensor:
        """Class scores [B, C] from what `frozen_features` gives."""
        first = self.frozen_blocks + 1
        block = self._stages(features, first, 6) if first > 1 else self.stage(features, 6)
        scores: Tensor = self.fc1(functional.adaptive_avg_pool2d(block, POOLED_SIDE).flatten(1))
        return scores

    def forward(self, images: Tensor) -> Tensor:
        """Class scores [B, C] of images [B, 1, H, W], before sigmoid or softmax."""
        return self.trained_scores(self.frozen_features(images))


def to_cells(x: Tensor, grid: int) -> Tensor:
    """[B, c, H, W] -> its cells as images of their own, row by row: [B * grid**2, c, h, w]."""
    height, width = x.shape[-2] // grid, x.shape[-1] // grid
    cells = x.unflatten(3, (grid, width)).unflatten(2, (grid, height))
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def from_cells(cells: Tensor, grid: int) -> Tensor:
    """The inverse of `to_cells`."""
    x = cells.unflatten(0, (-1, grid, grid)).permute(0, 3, 1, 4, 2, 5)
    return x.flatten(4, 5).flatten(2, 3)
