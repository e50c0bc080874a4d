"""Image encoders: an image becomes local feature vectors, one a region, and one global vector.

`resnet256_6_2_1` is the paper's network (Liao et al. 2021, Sec. 4): blocks 1-5 give the local
features, block 6 the global one. Any torchvision ResNet or ViT can stand in its place.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import get_model, list_models
from torchvision.models.feature_extraction import create_feature_extractor

from localmi.errors import ConfigError

STAGE_WIDTHS = (8, 16, 32, 64, 128, 192)
POOLED_SIDE = 2  # block 6 is pooled to 2 x 2 x 192 = 768


class Backbone(nn.Module):
    """What an image encoder is made of: a network with a local block and a pooled vector."""

    def early(self, images: Tensor) -> Tensor:
        """What is computed before the image may be cut into cells: [B, c, h', w']."""
        return images

    def late(self, features: Tensor) -> Tensor:
        """The rest of the local block, from what `early` gives: [B, C, h, w]."""
        raise NotImplementedError

    def pooled(self, images: Tensor) -> Tensor:
        """Global feature of images [B, 1, H, W]: [B, P]."""
        raise NotImplementedError


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al. 2016)."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width_out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width_out)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width_out)
        self.downsample: nn.Sequential | None = None
        if stride != 1:
            shortcut = nn.Conv2d(width_in, width_out, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(width_out))

    def forward(self, x: Tensor) -> Tensor:
        out = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        out = self.bn2(self.conv2(out))
        shortcut = x if self.downsample is None else self.downsample(x)
        return functional.relu(out + shortcut, inplace=True)


class ResNet256(Backbone):
    """`resnet256_6_2_1`: six stages of two blocks, made for 1 x 256 x 256 radiographs.

    Stage 5 is 128 x 8 x 8 and stage 6 192 x 4 x 4, pooled to 768. State-dict names (`conv1`,
    `bn1`, `layer1` ... `layer6`, `fc1`) are those of the published checkpoints; 1,945,033
    parameters at `num_classes=1`. Smaller images work too: block 6 is pooled to
    2 x 2 whatever its size.

    Taught in 06_encoders.
    """

    def __init__(
        self, num_classes: int = 1, *, local_stage: int = 5, cells_after: int = 0
    ) -> None:
        super().__init__()
        self.local_stage = local_stage
        self.cells_after = cells_after
        self.conv1 = nn.Conv2d(1, STAGE_WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(STAGE_WIDTHS[0])
        width_in = STAGE_WIDTHS[0]
        for stage, width in enumerate(STAGE_WIDTHS, start=1):
            blocks = nn.Sequential(BasicBlock(width_in, width, 2), BasicBlock(width, width, 1))
            self.add_module(f"layer{stage}", blocks)
            width_in = width
        self.fc1 = nn.Linear(STAGE_WIDTHS[-1] * POOLED_SIDE**2, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def stage(self, images: Tensor, last: int) -> Tensor:
        """Feature block after stage `last` (0..6): [B, width, H / 2**last, W / 2**last]."""
        return self._stages(functional.relu(self.bn1(self.conv1(images)), inplace=True), 1, last)

    def _stages(self, x: Tensor, first: int, last: int) -> Tensor:
        for number in range(first, last + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return x

    def early(self, images: Tensor) -> Tensor:
        """Blocks up to `cells_after`; 0 is none of them."""
        return self.stage(images, self.cells_after) if self.cells_after else images

    def late(self, features: Tensor) -> Tensor:
        """The rest of the local block: [B, 128, 8, 8] of an image of 256 x 256."""
        if not self.cells_after:
            return self.stage(features, self.local_stage)
        return self._stages(features, self.cells_after + 1, self.local_stage)

    def pooled(self, images: Tensor) -> Tensor:
        """Global feature z^I, [B, 768]."""
        return functional.adaptive_avg_pool2d(self.stage(images, 6), POOLED_SIDE).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores [B, num_classes] of images [B, 1, H, W]."""
        scores: Tensor = self.fc1(self.pooled(images))
        return scores


class TorchvisionBackbone(Backbone):
    """A torchvision ResNet or ViT: its local block and its pooled vector.

    The local block of a ResNet is `layer3` (the last but one), that of a ViT its patch tokens.
    """

    def __init__(self, name: str, *, image_size: int, weights: str | None = None) -> None:
        super().__init__()
        if name.startswith("resnet"):
            model = get_model(name, weights=weights)
            self.nodes = {"layer3": "local", "flatten": "pooled"}
        else:
            model = get_model(name, weights=weights, image_size=image_size)
            self.nodes = {"encoder.ln": "tokens"}
        self.features = create_feature_extractor(model, return_nodes=self.nodes)

    def _features(self, images: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = self.features(images.expand(-1, 3, -1, -1))
        return found

    def late(self, features: Tensor) -> Tensor:
        """The local block of images or cells [B, 1, H, W]: [B, C, h, w]."""
        found = self._features(features)
        if "local" in found:
            return found["local"]
        patches = found["tokens"][:, 1:].transpose(1, 2)  # [B, C, h * w], without [CLS]
        side = int(patches.shape[-1] ** 0.5)
        return patches.unflatten(-1, (side, side))

    def pooled(self, images: Tensor) -> Tensor:
        """[B, C]."""
        found = self._features(images)
        return found["pooled"] if "pooled" in found else found["tokens"][:, 0]


class ImageEncoder(nn.Module):
    """An image encoder with a grid of regions: what the critic sees of an image.

    Args:
        backbone: gives a local block [B, C, h, w], in two parts, and a pooled vector [B, P].
        image_size: side of the images, in pixels.
        grid: regions a side; N = grid**2 regions, row by row from the top left.
        context: what a region may see. "image": its whole receptive field, which in a deep network
            is the whole image (the paper). "region": its own cell of the grid, and a learned
            vector for its place; a region then cannot know what lies elsewhere. The cells are cut
            between the backbone's two parts: from the pixels, or after early blocks that see a
            little beyond the border.

    Attributes:
        region_dim: D, length of a region's vector.
        pooled_dim: P, length of the global vector.

    Taught in 06_encoders.
    """

    def __init__(
        self, backbone: Backbone, *, image_size: int, grid: int = 4, context: str = "image"
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.grid = grid
        self.context = context
        backbone.eval()  # a probe must not move the running statistics
        with torch.no_grad():
            probe = torch.zeros(1, 1, image_size, image_size)
            self.pooled_dim = int(backbone.pooled(probe).shape[1])
            block = backbone.late(self._cells(backbone.early(probe)))
        backbone.train()
        side = block.shape[-1] * (grid if context == "region" else 1)
        if side % grid:
            raise ConfigError(
                f"grid={grid}: the local block of this encoder is {side} x {side} at image_size="
                f"{image_size}, which {grid} does not divide. Use a divisor of {side}."
            )
        self.region_dim = int(block.shape[1]) * (side // grid) ** 2
        if context == "region":
            self.place = nn.Parameter(torch.zeros(grid**2, self.region_dim))

    def _cells(self, features: Tensor) -> Tensor:
        """The block itself, or with context "region" its cells: [B * N, c, h / grid, w / grid]."""
        if self.context == "image":
            return features
        height, width = features.shape[-2] // self.grid, features.shape[-1] // self.grid
        cells = features.unflatten(3, (self.grid, width)).unflatten(2, (self.grid, height))
        return cells.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)

    def regions(self, images: Tensor) -> Tensor:
        """Local features z^I_n of images [B, 1, H, W]: [B, N, D].

        The block is folded to the grid by `pixel_unshuffle`, which keeps every number: the
        128 x 8 x 8 of stage 5 becomes the paper's 512 x 4 x 4.
        """
        block = self.backbone.late(self._cells(self.backbone.early(images)))
        if self.context == "region":
            return block.flatten(1).unflatten(0, (len(images), -1)) + self.place
        folded = functional.pixel_unshuffle(block, block.shape[-1] // self.grid)
        return folded.flatten(2).transpose(1, 2)

    def pooled(self, images: Tensor) -> Tensor:
        """Global feature z^I of images [B, 1, H, W]: [B, P]."""
        return self.backbone.pooled(images)


def build_image_encoder(
    name: str = "resnet256_6_2_1",
    *,
    image_size: int = 256,
    grid: int = 4,
    context: str = "image",
    cells_after: int = 0,
    local_stage: int = 5,
    weights: str | None = None,
) -> ImageEncoder:
    """An image encoder by name: `resnet256_6_2_1`, or a ResNet or ViT of torchvision.

    Raises:
        ConfigError: unknown name, a grid that does not divide the local block, or `cells_after`
            (the block after which cells are cut) for an encoder that is cut from the pixels.
    """
    if name == "resnet256_6_2_1":
        backbone: Backbone = ResNet256(local_stage=local_stage, cells_after=cells_after)
    elif name in list_models() and name.startswith(("resnet", "vit_")):
        if cells_after:
            raise ConfigError(
                f"cells_after={cells_after} is for resnet256_6_2_1; {name} is cut from the "
                "pixels: use cells_after=0."
            )
        backbone = TorchvisionBackbone(name, image_size=image_size, weights=weights)
    else:
        known = [model for model in list_models() if model.startswith(("resnet", "vit_"))]
        raise ConfigError(
            f"image_encoder={name!r} is not known. Use 'resnet256_6_2_1' (the paper's) or one of "
            f"torchvision's: {', '.join(known)}."
        )
    return ImageEncoder(backbone, image_size=image_size, grid=grid, context=context)
