"""Image encoders: an image becomes local feature vectors, one a region, and one global vector.

`resnet256_6_2_1` is the paper's network (Liao et al. 2021, Sec. 4): blocks 1-5 give the local
features, block 6 the global one. Any torchvision ResNet or ViT can stand in its place.
"""

import functools
from typing import get_args

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import get_model, list_models

from localmi.errors import ConfigError, check_name
from localmi.model.cells import from_cells, to_cells
from localmi.model.convolution import Convolution
from localmi.model.sizes import check_grid, check_patches
from localmi.names import RegionContext

PAPERS = "resnet256_6_2_1"
STAGE_WIDTHS = (8, 16, 32, 64, 128, 192)
POOLED_SIDE = 2  # block 6 is pooled to 2 x 2 x 192 = 768


class Backbone(nn.Module):
    """What image encoders and classifiers are made of: a network of numbered blocks.

    Attributes:
        num_blocks: L; block 1 begins with the image, whatever stem comes first belongs to it.
        local_block: the block whose output gives the regions.
        pooled_dim: P, length of the pooled vector.
        fc1: class scores from the pooled vector; None where no classes were asked for.
    """

    num_blocks: int
    local_block: int
    pooled_dim: int
    fc1: nn.Linear | None

    def blocks(self, x: Tensor, first: int, last: int) -> Tensor:
        """Blocks `first` ... `last` of images [B, 1, H, W] (first = 1), or of what block
        `first` - 1 gave."""
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

    def blocks(self, x: Tensor, first: int, last: int) -> Tensor:
        """[B, width, H / 2**last, W / 2**last]."""
        if first == 1:
            x = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        for number in range(first, last + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return x

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


class TorchvisionResNet(Backbone):
    """A ResNet of torchvision: `layer1` ... `layer4` are its blocks, regions come from block 3."""

    num_blocks, local_block = 4, 3

    def __init__(self, name: str, *, weights: str | None = None, num_classes: int = 0) -> None:
        super().__init__()
        self.features = get_model(name, weights=weights)
        self.pooled_dim = self.features.fc.in_features
        self.features.fc = nn.Identity()
        self.fc1 = nn.Linear(self.pooled_dim, num_classes) if num_classes else None

    def blocks(self, x: Tensor, first: int, last: int) -> Tensor:
        net = self.features
        if first == 1:
            x = net.maxpool(net.relu(net.bn1(net.conv1(x.expand(-1, 3, -1, -1)))))
        for number in range(first, last + 1):
            x = net.get_submodule(f"layer{number}")(x)
        return x

    def stride(self, block: int) -> int:
        return 2 ** (block + 1) if block else 1  # the stem has two strides of 2

    def pool(self, features: Tensor) -> Tensor:
        """The mean over the map."""
        pooled: Tensor = self.features.avgpool(features).flatten(1)
        return pooled

    def parts(self, blocks: int) -> list[str]:
        layers = [f"layer{number + 1}" for number in range(blocks)]
        return [f"features.{part}" for part in ("conv1", "bn1", *layers)]


class TorchvisionViT(Backbone):
    """A ViT of torchvision: its layers are the blocks, the last patch tokens the regions."""

    def __init__(
        self, name: str, *, image_size: int, weights: str | None = None, num_classes: int = 0
    ) -> None:
        super().__init__()
        self.features = get_model(name, weights=weights, image_size=image_size)
        self.features.heads = nn.Identity()
        self.num_blocks = self.local_block = len(self.features.encoder.layers)
        self.pooled_dim = self.features.hidden_dim
        self.fc1 = nn.Linear(self.pooled_dim, num_classes) if num_classes else None

    def blocks(self, x: Tensor, first: int, last: int) -> Tensor:
        """Tokens [B, 1 + patches, P], [CLS] first; after the last block normalised."""
        net, encoder = self.features, self.features.encoder
        if first == 1:
            patches = net._process_input(x.expand(-1, 3, -1, -1))
            x = torch.cat([net.class_token.expand(len(patches), -1, -1), patches], dim=1)
            x = encoder.dropout(x + encoder.pos_embedding)
        for layer in list(encoder.layers)[first - 1 : last]:
            x = layer(x)
        return encoder.ln(x) if first <= last == self.num_blocks else x

    def stride(self, block: int) -> int:
        return int(self.features.patch_size) if block else 1

    def local_map(self, features: Tensor) -> Tensor:
        """The patch tokens where they lie in the image, [B, P, h, w]."""
        patches = features[:, 1:].transpose(1, 2)
        side = int(patches.shape[-1] ** 0.5)
        return patches.unflatten(-1, (side, side))

    def pool(self, features: Tensor) -> Tensor:
        """[CLS]."""
        return features[:, 0]

    def parts(self, blocks: int) -> list[str]:
        layers = [f"layers.{layer}" for layer, _ in self.features.encoder.layers.named_children()]
        last = ["ln"] if blocks == self.num_blocks else []
        stem = [f"features.{part}" for part in ("conv_proj", "class_token")]
        inside = ["pos_embedding", *layers[:blocks], *last]
        return stem + [f"features.encoder.{part}" for part in inside]


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
        block = self._local_block(images)
        folded = functional.pixel_unshuffle(block, block.shape[-1] // self.grid)
        regions = folded.flatten(2).transpose(1, 2)
        return regions.contiguous() + self.place if self.context == "region" else regions

    def pooled(self, images: Tensor) -> Tensor:
        """Global feature z^I of images [B, 1, H, W]: [B, P]."""
        return self.backbone.pooled(images)


@functools.cache
def known_encoders() -> tuple[str, ...]:
    """The names of image encoders: the paper's, then torchvision's ResNets and ViTs."""
    return (PAPERS, *(name for name in list_models() if name.startswith(("resnet", "vit_"))))


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
        weights: torchvision's name of pretrained weights.

    Raises:
        ConfigError: unknown name, or a size that a ViT cannot cut into its patches.
    """
    if name not in known_encoders():
        papers, *others = known_encoders()
        raise ConfigError(
            f"image_encoder={name!r} is not known. Use {papers!r} (the paper's) or one of "
            f"torchvision's: {', '.join(others)}."
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
) -> ImageEncoder:
    """An image encoder by name; see `build_backbone`.

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
    return ImageEncoder(
        backbone, image_size=image_size, grid=grid, context=context, cells_after=cells_after
    )
