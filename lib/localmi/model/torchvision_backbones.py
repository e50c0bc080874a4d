"""Torchvision's ResNets and ViTs in the place of the paper's network."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torchvision.models import get_model

from localmi.model.backbone import Backbone
from localmi.model.convolution import Convolution


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

    def stem(self, x: Tensor) -> Tensor:
        """Tokens [B, 1 + patches, P], [CLS] first."""
        net, encoder = self.features, self.features.encoder
        patches = net._process_input(x.expand(-1, 3, -1, -1))
        x = torch.cat([net.class_token.expand(len(patches), -1, -1), patches], dim=1)
        return encoder.dropout(x + encoder.pos_embedding)

    def steps(self, block: int) -> list[Callable[[Tensor], Tensor]]:
        """Tokens, normalised after the last block."""
        encoder = self.features.encoder
        return [encoder.layers[block - 1]] + [encoder.ln] * (block == self.num_blocks)

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
