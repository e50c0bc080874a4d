"""Image encoders: an image becomes local feature vectors, one a region, and one global vector.

`resnet256_6_2_1` is the paper's network (Liao et al. 2021, Sec. 4): blocks 1-5 give the local
features, block 6 the global one. Any torchvision ResNet or ViT can stand in its place.
"""

import functools
from collections.abc import Callable
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import list_models

from localmi.errors import ConfigError, check_name
from localmi.model.backbone import Backbone
from localmi.model.convolution import Convolution
from localmi.model.sizes import check_grid, check_patches
from localmi.model.torchvision_backbones import SMALL_VITS, TorchvisionResNet, TorchvisionViT
from localmi.names import RegionContext

PAPERS = "resnet256_6_2_1"
STAGE_WIDTHS = (8, 16, 32, 64, 128, 192)
POOLED_SIDE = 2  # block 6 is pooled to 2 x 2 x 192 = 768


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al. 2016)."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = Convolution(width_in, width_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width_out)
        self.conv2 = Convolution(width_out, width_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width_out)
        self.stride = stride
        self.downsample: nn.Sequential | None = None
        if stride != 1:
            shortcut = Convolution(width_in, width_out, 1, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(width_out))

    def forward(self, x: Tensor) -> Tensor:
        out = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        # A convolution of 1 x 1 with this stride is the same, slower (oneDNN may crash in it).
        shortcut = x[:, :, :: self.stride, :: self.stride]
        if self.downsample is not None:
            shortcut = self.downsample(shortcut)
        return functional.relu(out + shortcut, inplace=True)


class ResNet256(Backbone):
    """`resnet256_6_2_1`: six blocks of two residual ones, made for 1 x 256 x 256 radiographs.

    Block 5 is 128 x 8 x 8 and block 6 192 x 4 x 4, pooled to 768. State-dict names (`conv1`,
    `bn1`, `layer1` ... `layer6`, `fc1`) are those of the published checkpoints; 1,945,033
    parameters at `num_classes=1`. Smaller images work too: block 6 is pooled to
    2 x 2 whatever its size.

    Taught in 06_encoders.
    """

    fc1: nn.Linear

    def __init__(self, num_classes: int = 1, *, local_block: int = 5) -> None:
        super().__init__()
        self.num_blocks, self.local_block = len(STAGE_WIDTHS), local_block
        self.pooled_dim = STAGE_WIDTHS[-1] * POOLED_SIDE**2
        self.conv1 = Convolution(1, STAGE_WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(STAGE_WIDTHS[0])
        width_in = STAGE_WIDTHS[0]
        for number, width in enumerate(STAGE_WIDTHS, start=1):
            blocks = nn.Sequential(BasicBlock(width_in, width, 2), BasicBlock(width, width, 1))
            self.add_module(f"layer{number}", blocks)
            width_in = width
        self.fc1 = nn.Linear(self.pooled_dim, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stem(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn1(self.conv1(x)), inplace=True)

    def steps(self, block: int) -> list[Callable[[Tensor], Tensor]]:
        """Block k gives [B, width, H / 2**k, W / 2**k]."""
        return [self.get_submodule(f"layer{block}")]

    def stride(self, block: int) -> int:
        return 2**block

    def pool(self, features: Tensor) -> Tensor:
        """[B, 768]."""
        return functional.adaptive_avg_pool2d(features, POOLED_SIDE).flatten(1)

    def parts(self, blocks: int) -> list[str]:
        return ["conv1", "bn1", *(f"layer{number + 1}" for number in range(blocks))]

    def forward(self, images: Tensor) -> Tensor:
        """Class scores [B, num_classes] of images [B, 1, H, W]."""
        scores: Tensor = self.fc1(self.pooled(images))
        return scores


class ImageEncoder(nn.Module):
    """An image encoder with a grid of regions: what the critic sees of an image.

    Args:
        backbone: the network.
        image_size: side of the images, in pixels.
        grid: regions a side; N = grid**2 regions, row by row from the top left.
        context: what a region may see. "image": its whole receptive field, which in a deep network
            is the whole image (the paper). "region": its own cell of the grid, and a learned
            vector for its place; a region then cannot know what lies elsewhere.
        cells_after: with "region", the block after which the cells are cut; 0: from the pixels.
            The blocks before the cut see beyond a cell's border, block k of resnet256_6_2_1 by
            1 + 7 (2^k - 1) pixels: 22 with cells_after=2.

    Attributes:
        region_dim: D, length of a region's vector.
        pooled_dim: P, length of the global vector.

    Raises:
        ConfigError: unknown context, or a grid that does not cut the images into whole squares of
            pixels.

    Taught in 06_encoders.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        image_size: int,
        grid: int = 4,
        context: RegionContext = "image",
        cells_after: int = 0,
    ) -> None:
        super().__init__()
        check_name("region context", context, get_args(RegionContext))
        self.backbone = backbone
        self.grid = grid
        self.context = context
        self.cells_after = cells_after
        self.pooled_dim = backbone.pooled_dim
        cut = cells_after if context == "region" else backbone.local_block
        check_grid(image_size, grid, block=cut, stride=backbone.stride(cut))
        backbone.eval()  # a probe must not move the running statistics
        with torch.no_grad():
            block = self._local_block(torch.zeros(1, 1, image_size, image_size))
        backbone.train()
        self.region_dim = int(block.shape[1]) * (block.shape[-1] // grid) ** 2
        if context == "region":
            self.place = nn.Parameter(torch.zeros(grid**2, self.region_dim))

    def _local_block(self, images: Tensor) -> Tensor:
        """[B, C, h, w], each cell for itself where a region sees no more."""
        grid = self.grid if self.context == "region" else 1
        last = self.backbone.local_block
        features = self.backbone.run(images, 1, last, grid=grid, cells_after=self.cells_after)
        return self.backbone.local_map(features)

    def regions(self, images: Tensor) -> Tensor:
        """Local features z^I_n of images [B, 1, H, W]: [B, N, D].

        The block is folded to the grid by `pixel_unshuffle`, which keeps every number: the
        128 x 8 x 8 of block 5 becomes 512 x 4 x 4, the shape that the paper names (it does not
        say how it got there).
        """
        return self._fold(self._local_block(images))

    def _fold(self, block: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, N, D]."""
        folded = functional.pixel_unshuffle(block, block.shape[-1] // self.grid)
        regions = folded.flatten(2).transpose(1, 2)
        return regions.contiguous() + self.place if self.context == "region" else regions

    def pooled(self, images: Tensor) -> Tensor:
        """Global feature z^I of images [B, 1, H, W]: [B, P]."""
        return self.backbone.pooled(images)

    def regions_and_pooled(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Both, [B, N, D] and [B, P], in one pass; two where a region sees its cell alone."""
        if self.context == "region":
            return self.regions(images), self.pooled(images)
        network, last = self.backbone, self.backbone.local_block
        block = network.blocks(images, 1, last)
        whole = network.pool(network.blocks(block, last + 1, network.num_blocks))
        return self._fold(network.local_map(block)), whole


@functools.cache
def known_encoders() -> tuple[str, ...]:
    """The names of image encoders: the paper's, torchvision's ResNets and ViTs, smaller ViTs."""
    torchvisions = (name for name in list_models() if name.startswith(("resnet", "vit_")))
    return (PAPERS, *torchvisions, *SMALL_VITS)


def build_backbone(
    name: str = PAPERS,
    *,
    image_size: int = 256,
    local_block: int = 5,
    num_classes: int = 0,
    weights: str | None = None,
) -> Backbone:
    """A network by name: `resnet256_6_2_1`, or a ResNet or ViT of torchvision.

    Args:
        local_block: of the paper's network; torchvision's have their own.
        num_classes: C, outputs of `fc1`; 0: none, or the one that the paper's always has.
        weights: torchvision's name of pretrained weights; of the small ViTs it has none.

    Raises:
        ConfigError: unknown name, weights that there are not, or a size that a ViT cannot cut into
            its patches.
    """
    if name not in known_encoders():
        papers, *others = known_encoders()
        raise ConfigError(
            f"image_encoder={name!r} is not known. Use {papers!r} (the paper's) or one of "
            f"torchvision's: {', '.join(others)}."
        )
    if weights and (name == PAPERS or name in SMALL_VITS):
        raise ConfigError(
            f"weights={weights!r}, but torchvision has none of {name}. Leave weights out."
        )
    if name == PAPERS:
        return ResNet256(num_classes or 1, local_block=local_block)
    if name.startswith("resnet"):
        return TorchvisionResNet(name, weights=weights, num_classes=num_classes)
    check_patches(image_size, name, patch=int(name.split("_")[2]))
    return TorchvisionViT(name, image_size=image_size, weights=weights, num_classes=num_classes)


def build_image_encoder(
    name: str = PAPERS,
    *,
    image_size: int = 256,
    grid: int = 4,
    context: RegionContext = "image",
    cells_after: int = 0,
    local_block: int = 5,
    weights: str | None = None,
    checkpointing: bool = False,
) -> ImageEncoder:
    """An image encoder by name; see `build_backbone`, of `checkpointing` `Backbone`.

    Raises:
        ConfigError: unknown name; a grid that does not cut the images into whole squares; or a
            context or `cells_after` that this encoder has not.
    """
    if name != PAPERS and name in known_encoders():
        vit = name.startswith("vit_")
        use = ["cells_after=0"] * bool(cells_after)
        if use := ["region_context='image'"] * (vit and context == "region") + use:
            how = "takes images of one size, not their cells" if vit else "is cut from the pixels"
            raise ConfigError(f"{name} {how}: use {' and '.join(use)}, or {PAPERS}.")
    backbone = build_backbone(
        name, image_size=image_size, local_block=local_block, weights=weights
    )
    backbone.checkpointing = checkpointing
    return ImageEncoder(
        backbone, image_size=image_size, grid=grid, context=context, cells_after=cells_after
    )
