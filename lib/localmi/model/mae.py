"""A masked autoencoder: the baseline that paints what was hidden. Taught in 12_records.

Source: He et al. 2022, https://arxiv.org/abs/2111.06377: the encoder sees the patches that are
left, a small decoder all places, and the loss is of the hidden ones, each patch with its own mean
and spread taken out.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from localmi.errors import ConfigError
from localmi.model.msn import kept_patches
from localmi.model.siamese import Step, ViewsOfImage
from localmi.model.torchvision_backbones import TorchvisionViT, with_attention

DECODER_LAYERS = 2
FLAT = 1e-6  # added to the variance of a patch


class Mae(nn.Module):
    """Args:
    encoder: that is trained. image_size: of the views, in pixels.
    mask: share of the patches that are hidden.
    """

    def __init__(self, encoder: TorchvisionViT, *, image_size: int, mask: float = 0.75) -> None:
        super().__init__()
        dim, patch = encoder.pooled_dim, encoder.patch
        self.encoder, self.mask = encoder, mask
        self.patches = (image_size // patch) ** 2
        if self.patches - round(mask * self.patches) in (0, self.patches):
            raise ConfigError(
                f"mask={mask} of {self.patches} patches hides all or none: nothing to be painted. "
                "MAE's own is 0.75."
            )
        self.hidden = nn.Parameter(torch.zeros(dim))
        self.place = nn.Parameter(torch.randn(1 + self.patches, dim) * 0.02)
        heads = encoder.features.encoder.layers[0].num_heads
        layer = nn.TransformerEncoderLayer(
            dim, heads, 4 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.decoder = nn.TransformerEncoder(layer, DECODER_LAYERS, enable_nested_tensor=False)
        self.paint = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, patch**2))

    @property
    def learnt(self) -> TorchvisionViT:
        """The image encoder that is used afterwards."""
        return self.encoder

    def loss(self, views: ViewsOfImage, record: Tensor | None, generator: torch.Generator) -> Step:
        """The mean squared error of a batch, and the share of the variance that is painted."""
        if record is not None:
            raise ConfigError("MAE reads no record.")
        error, spread = (one.mean() for one in self._errors(views.target, views.target, generator))
        return Step(error, 1 - error.detach() / spread)

    def shares(self, seen: Tensor, wanted: Tensor, generator: torch.Generator) -> Tensor:
        """The share of the variance of the hidden patches of each image `wanted` that is painted
        from those that are left of `seen`, the same images or, as a control, others.

        [B, 1, H, W] -> [B]; NaN where nothing varies. A painter of means alone has 0.
        """
        error, spread = self._errors(seen, wanted, generator)
        return 1 - error / spread.where(spread > FLAT, torch.nan)

    def _errors(
        self, seen: Tensor, wanted: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The mean squared error of the hidden patches of each image, and their mean square."""
        keep = kept_patches(len(seen), self.patches, self.mask, generator)
        assert keep is not None
        painted = self._painted(self.encoder.tokens(seen, keep), keep.to(seen.device))
        pixels = _patches(wanted, self.encoder.patch)
        spread = pixels.var(dim=-1, keepdim=True) + FLAT
        truth = (pixels - pixels.mean(dim=-1, keepdim=True)) / spread.sqrt()
        hidden = torch.ones(truth.shape[:2], dtype=torch.bool, device=truth.device)
        hidden.scatter_(1, keep.to(seen.device), value=False)
        error, spread = (
            (each.square().mean(dim=-1) * hidden).sum(dim=1) / hidden.sum(dim=1)
            for each in (painted.float() - truth, truth)
        )
        return error, spread

    def _painted(self, tokens: Tensor, keep: Tensor) -> Tensor:
        """All patches [B, patches, p * p] from the tokens of those that are left."""
        every = self.hidden.to(tokens).expand(len(tokens), self.patches, -1)
        every = every.scatter(1, keep[..., None].expand_as(tokens[:, 1:]), tokens[:, 1:])
        placed = torch.cat([tokens[:, :1], every], dim=1) + self.place
        decoded = with_attention(self.decoder, placed)
        painted: Tensor = self.paint(decoded[:, 1:])
        return painted

    def after_step(self, momentum: float) -> None:
        """There is no average."""


def _patches(images: Tensor, patch: int) -> Tensor:
    """Images [B, 1, H, W] as patches [B, h * w, patch * patch], row by row."""
    return functional.unfold(images, patch, stride=patch).transpose(1, 2)
