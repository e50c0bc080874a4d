"""Torchvision's ResNets and ViTs in the place of the paper's network."""

import contextlib
import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torchvision.models import VisionTransformer, get_model

from localmi.model.backbone import Backbone
from localmi.model.convolution import Convolution
from localmi.model.sizes import check_patches

# Smaller ViTs than torchvision's: layers, heads, width. The last two are DeiT's (Touvron et al.
# 2021); "micro" is for the CPUs of a course.
SMALL_VITS = {
    "vit_micro_16": (6, 3, 96),
    "vit_tiny_16": (12, 3, 192),
    "vit_small_16": (12, 6, 384),
}
PATCH = 16  # pixels a side, of the small ones


class TorchvisionResNet(Backbone):
    """A ResNet of torchvision: `layer1` ... `layer4` are its blocks, regions come from block 3."""

    num_blocks, local_block = 4, 3

    def __init__(self, name: str, *, weights: str | None = None, num_classes: int = 0) -> None:
        super().__init__()
        self.features = get_model(name, weights=weights)
        self.pooled_dim = self.features.fc.in_features
        self.features.fc = nn.Identity()
        for module in self.features.modules():
            if isinstance(module, nn.Conv2d):
                module.__class__ = Convolution  # the same weights, each with its own gradient
        self.fc1 = nn.Linear(self.pooled_dim, num_classes) if num_classes else None

    def stem(self, x: Tensor) -> Tensor:
        net = self.features
        return net.maxpool(net.relu(net.bn1(net.conv1(x.expand(-1, 3, -1, -1)))))

    def steps(self, block: int) -> list[Callable[[Tensor], Tensor]]:
        return [self.features.get_submodule(f"layer{block}")]

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
    """A ViT of torchvision: its layers are the blocks, the last patch tokens the regions.

    The weights have torchvision's names, those of `SMALL_VITS` too, so checkpoints of both load.
    """

    def __init__(
        self, name: str, *, image_size: int, weights: str | None = None, num_classes: int = 0
    ) -> None:
        super().__init__()
        self.features = (
            _small_vit(name, image_size)
            if name in SMALL_VITS
            else get_model(name, weights=weights, image_size=image_size)
        )
        self.features.heads = nn.Identity()
        self.num_blocks = self.local_block = len(self.features.encoder.layers)
        self.pooled_dim = self.features.hidden_dim
        self.patch = self.features.patch_size
        self.fc1 = nn.Linear(self.pooled_dim, num_classes) if num_classes else None

    def stem(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Tokens [B, 1 + patches, P], [CLS] first; or those patches alone, see `tokens`."""
        net, encoder = self.features, self.features.encoder
        pixels = functional.unfold(x, self.patch, stride=self.patch).transpose(1, 2)
        grey = net.conv_proj.weight.sum(dim=1).flatten(1)  # [P, pixels]: of three equal channels
        shape = (x.shape[-2] // self.patch, x.shape[-1] // self.patch)
        place = _places(encoder.pos_embedding, shape)
        patches = functional.linear(pixels, grey, net.conv_proj.bias) + place[:, 1:]
        if keep is not None:
            patches = patches.take_along_dim(keep.to(patches.device)[..., None], dim=1)
        first = (net.class_token + place[:, :1]).expand(len(patches), -1, -1)
        return encoder.dropout(torch.cat([first, patches], dim=1))

    def tokens(self, images: Tensor, keep: Tensor | None = None) -> Tensor:
        """What the last block gives, normalised, of some patches of images of any whole size.

        Places are learnt at the network's own size, and interpolated (bicubic) at others.

        Args:
            images: [B, 1, H, W], H and W multiples of the patch.
            keep: [B, k] int64, the patches that are looked at, row by row from the top left;
                None: all of them.

        Returns:
            [B, 1 + k, P], [CLS] first, then the patches in the order of `keep`.

        Raises:
            ConfigError: images that do not consist of whole patches.
        """
        for side in images.shape[-2:]:
            check_patches(side, "this ViT", patch=self.patch)
        x = self.stem(images, keep)
        for block in range(1, self.num_blocks + 1):
            for step in self.steps(block):
                x = step(x)
        return x

    def steps(self, block: int) -> list[Callable[[Tensor], Tensor]]:
        """Tokens, normalised after the last block."""
        encoder = self.features.encoder
        layer = functools.partial(with_attention, encoder.layers[block - 1])
        return [layer] + [encoder.ln] * (block == self.num_blocks)

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


def with_attention(layer: nn.Module, tokens: Tensor) -> Tensor:
    """What a layer with attention gives. On a CPU attention is multiplied out: the backward pass
    of the fused one takes most of a step of a small ViT in bfloat16 (torch 2.14)."""
    multiplied_out = sdpa_kernel(SDPBackend.MATH)
    with multiplied_out if tokens.device.type == "cpu" else contextlib.nullcontext():
        found: Tensor = layer(tokens)
    return found


def _small_vit(name: str, image_size: int) -> VisionTransformer:
    layers, heads, width = SMALL_VITS[name]
    return VisionTransformer(
        image_size=image_size,
        patch_size=PATCH,
        num_layers=layers,
        num_heads=heads,
        hidden_dim=width,
        mlp_dim=4 * width,
        num_classes=1,
    )


def _places(embedding: Tensor, shape: tuple[int, int]) -> Tensor:
    """The vectors of [CLS] and of the places of a grid of h x w, [1, 1 + h * w, P], from those of
    a square one."""
    side = int((embedding.shape[1] - 1) ** 0.5)
    if tuple(shape) == (side, side):
        return embedding
    grid = embedding[:, 1:].transpose(1, 2).unflatten(-1, (side, side))
    there = functional.interpolate(grid, size=shape, mode="bicubic", align_corners=False)
    return torch.cat([embedding[:, :1], there.flatten(2).transpose(1, 2)], dim=1)
