"""LIMITR between encoders and losses: regions, words and whole vectors become three scores.

    regions of each view, words  -> D dimensions, normalised, regions with their place
      -> `limitr.LimitrScores`: S^txt, S^img [B, M], in (0, 1)
    whole image (mean of its views), whole text (mean of its words) -> their cosine [B, M]

Each score times 10 is the logit of an InfoNCE loss. The layer norms are ours: products of raw
features, as published, have the scale that the encoders happen to give. Taught in 11_limitr.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from localmi.mi.critics import widened
from localmi.model.limitr import (
    LimitrScores,
    blank,
    internal_loss,
    masked_mean,
    positions,
    products,
)
from localmi.model.words import Words
from localmi.names import Attention, WordPooling

PARTS = ("by_text", "by_image", "whole")


@dataclass(frozen=True)
class View:
    """What an image encoder says of B images: regions [B, N, R], whole [B, P]; and whether there
    is such an image, [B] bool: where not, the numbers mean nothing."""

    regions: Tensor
    whole: Tensor
    there: Tensor

    def detach(self) -> "View":
        return View(self.regions.detach(), self.whole.detach(), self.there)

    def take(self, image: Tensor) -> "View":
        """Of these images, by number; one may be taken several times."""
        return View(self.regions[image], self.whole[image], self.there[image])


class LimitrHead(nn.Module):
    """All that LIMITR learns beside its encoders.

    Args:
        region_dim, whole_dim: R and P of the image encoders.
        word_dim: E of the text encoder.
        views: 1 (frontal) or 2 (and lateral), each with its own layers.
        grid: regions a side of a view.
        dim: D.
        place: regions know where they are in their view.
        attention, pooling, dropout, chunk: as `LimitrScores`.
    """

    place: Tensor  # [N, D]

    def __init__(
        self,
        region_dim: int,
        whole_dim: int,
        word_dim: int,
        *,
        views: int,
        grid: int,
        dim: int = 128,
        place: bool = True,
        attention: Attention = "double",
        pooling: WordPooling = "attention",
        dropout: float = 0.4,
        chunk: int = 8,
    ) -> None:
        super().__init__()
        self.regions = nn.ModuleList(_normalised(region_dim, dim) for _ in range(views))
        self.words = _normalised(word_dim, dim)
        self.images = nn.ModuleList(nn.Linear(whole_dim, dim) for _ in range(views))
        self.texts = nn.Linear(word_dim, dim)
        self.scores = LimitrScores(
            dim, attention=attention, pooling=pooling, dropout=dropout, chunk=chunk
        )
        self.register_buffer("place", positions(grid, dim) * float(place), persistent=False)

    def forward(
        self, views: Sequence[View], words: Words, *, local: bool = True, whole: bool = True
    ) -> dict[str, Tensor]:
        """Scores of B images and M texts, by the names of `PARTS`: [B, M] each.

        Args:
            local, whole: which of them are computed.
        """
        found: dict[str, Tensor] = {}
        if local:
            pair = self.scores(*self.local_features(views), *self.word_features(words))
            found["by_text"], found["by_image"] = pair
        if whole:
            found["whole"] = self.cosines(views, words)
        return found

    def local_features(self, views: Sequence[View]) -> tuple[Tensor, Tensor]:
        """Regions of all views side by side [B, V N, D], and which are there [B, V N]."""
        layers = zip(self.regions, views, strict=True)
        regions = [layer(view.regions) + self.place for layer, view in layers]
        masks = [view.there[:, None].expand(view.regions.shape[:2]) for view in views]
        return torch.cat(regions, dim=1), torch.cat(masks, dim=1)

    def word_features(self, words: Words) -> tuple[Tensor, Tensor]:
        """Words [M, L, D], and which are there."""
        return self.words(words.vectors), words.mask

    def cosines(self, views: Sequence[View], words: Words) -> Tensor:
        """Of whole images and whole texts, [B, M]."""
        layers = zip(self.images, views, strict=True)
        each = torch.stack([layer(view.whole) for layer, view in layers], dim=1)  # [B, V, D]
        there = torch.stack([view.there for view in views], dim=1)
        images = masked_mean(blank(each, there), there)
        texts = self.texts(masked_mean(words.vectors, words.mask))
        units = (functional.normalize(widened(some), dim=-1) for some in (images, texts))
        return products(*units)

    def internal_loss(self, views: Sequence[View], words: Words) -> Tensor:
        """Of the matched pairs of B images and B texts; see `limitr.internal_loss`."""
        return internal_loss(self.scores, *self.local_features(views), *self.word_features(words))


def _normalised(dim_in: int, dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim_in, dim), nn.LayerNorm(dim))
