"""What image encoders and classifiers are made of: networks of numbered blocks."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from localmi.model.cells import from_cells, to_cells
from localmi.model.checkpointing import computed_again


class Backbone(nn.Module):
    """What image encoders and classifiers are made of: a network of numbered blocks.

    Attributes:
        num_blocks: L; block 1 begins with the image, whatever stem comes first belongs to it.
        local_block: the block whose output gives the regions.
        pooled_dim: P, length of the pooled vector.
        fc1: class scores from the pooled vector; None where no classes were asked for.
        checkpointing: what a block computes is computed again for its gradient, to save memory.
    """

    num_blocks: int
    local_block: int
    pooled_dim: int
    fc1: nn.Linear | None
    checkpointing: bool = False

    def blocks(self, x: Tensor, first: int, last: int) -> Tensor:
        """Blocks `first` ... `last` of images [B, 1, H, W] (first = 1; last = 0: the stem alone),
        or of what block `first` - 1 gave."""
        steps: list[Callable[[Tensor], Tensor]] = [self.stem] * (first == 1)
        for number in range(first, last + 1):
            steps += self.steps(number)
        again = self.checkpointing and torch.is_grad_enabled()
        for step in steps:
            x = computed_again(self, step, x) if again else step(x)
        return x

    def stem(self, x: Tensor) -> Tensor:
        """What comes before block 1."""
        raise NotImplementedError

    def steps(self, block: int) -> list[Callable[[Tensor], Tensor]]:
        """What this block does, one after the other."""
        raise NotImplementedError

    def stride(self, block: int) -> int:
        """Pixels from one value of what this block gives to the next; 0 is the image itself."""
        raise NotImplementedError

    def local_map(self, features: Tensor) -> Tensor:
        """What `local_block` gave, as a map [B, C, h, w]."""
        return features

    def pool(self, features: Tensor) -> Tensor:
        """The global vector [B, P] from what the last block gave."""
        raise NotImplementedError

    def parts(self, blocks: int) -> list[str]:
        """The parts that make the first blocks, as names in a state dict begin."""
        raise NotImplementedError

    def holds(self, name: str, blocks: int) -> bool:
        """Whether a name of a part or weight belongs to the first blocks (0: to none)."""
        parts = self.parts(blocks) if blocks else []
        return any(name == part or name.startswith(f"{part}.") for part in parts)

    def pooled(self, images: Tensor) -> Tensor:
        """Global feature z^I of images [B, 1, H, W]: [B, P]."""
        return self.pool(self.blocks(images, 1, self.num_blocks))

    def run(
        self, x: Tensor, first: int, last: int, *, grid: int = 1, cells_after: int = 0
    ) -> Tensor:
        """As `blocks`; those after `cells_after`, up to `local_block`, see the cells of a grid.

        A cell is an image of its own: what lies in another one, a block does not know. With
        grid 1 all blocks see the whole image.
        """
        if grid == 1:
            return self.blocks(x, first, last)
        uncut, cut = min(last, cells_after), min(last, self.local_block)
        if first <= uncut:
            x = self.blocks(x, first, uncut)
        if (start := max(first, uncut + 1)) <= cut:
            x = from_cells(self.blocks(to_cells(x, grid), start, cut), grid)
        return self.blocks(x, max(first, cut + 1), last)
