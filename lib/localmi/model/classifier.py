"""The downstream classifier: the blocks of a network and `fc1`, the first of them frozen or not.

Liao et al. 2021, Sec. 4: every variant has the same network; they differ in how it starts and in
what is trained. Taught in 08_downstream_tasks.
"""

from collections.abc import Iterator, Mapping
from typing import Self

import torch
from torch import Tensor, nn

from localmi.model.backbone import Backbone


class Classifier(nn.Module):
    """A backbone whose first blocks can be frozen.

    Frozen blocks get no gradient, and their BatchNorm statistics stay as they were pretrained,
    also in training mode.

    Args:
        backbone: a network with `fc1`.
        frozen_blocks: 0 ... the number of its blocks; with any, its stem is frozen too.
        grid: cells a side that blocks `cells_after` + 1 ... `local_block` see one at a time, as an
            encoder with region_context="region" was pretrained; 1: they see the whole image.
        cells_after: see `Backbone.run`; of no effect with grid 1.

    Taught in 08_downstream_tasks.
    """

    def __init__(
        self, backbone: Backbone, *, frozen_blocks: int = 0, grid: int = 1, cells_after: int = 0
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.frozen_blocks = frozen_blocks
        self.grid, self.cells_after = grid, cells_after
        for name, weights in backbone.named_parameters():
            weights.requires_grad_(not backbone.holds(name, frozen_blocks))
        self.train()

    def _frozen(self) -> Iterator[nn.Module]:
        parts = self.backbone.named_modules()
        return (part for name, part in parts if self.backbone.holds(name, self.frozen_blocks))

    def train(self, mode: bool = True) -> Self:
        """Training mode for what is trained."""
        super().train(mode)
        for part in self._frozen():
            part.eval()
        return self

    def load_blocks(self, weights: Mapping[str, Tensor]) -> None:
        """Takes these weights by the backbone's names; what they do not name stays as it is."""
        self.backbone.load_state_dict(dict(weights), strict=False)

    def block(self, images: Tensor, last: int) -> Tensor:
        """What block `last` makes of images [B, 1, H, W]."""
        return self._run(images, 1, last)

    def _run(self, x: Tensor, first: int, last: int) -> Tensor:
        return self.backbone.run(x, first, last, grid=self.grid, cells_after=self.cells_after)

    def frozen_features(self, images: Tensor) -> Tensor:
        """What the frozen blocks make of images [B, 1, H, W]; the images where none is frozen.

        Block 5 of an image of 256 x 256 is [B, 128, 8, 8]. It never changes while the rest is
        trained, so it may be computed once.
        """
        if not self.frozen_blocks:
            return images
        with torch.no_grad():
            return self.block(images, self.frozen_blocks)

    def trained_scores(self, features: Tensor) -> Tensor:
        """Class scores [B, C] from what `frozen_features` gives."""
        assert self.backbone.fc1 is not None, "a classifier's backbone has fc1"
        last = self._run(features, self.frozen_blocks + 1, self.backbone.num_blocks)
        scores: Tensor = self.backbone.fc1(self.backbone.pool(last))
        return scores

    def forward(self, images: Tensor) -> Tensor:
        """Class scores [B, C] of images [B, 1, H, W], before sigmoid or softmax."""
        return self.trained_scores(self.frozen_features(images))
