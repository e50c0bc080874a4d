"""Features of many texts, without gradient."""

from pathlib import Path

import torch
from torch import Tensor

from localmi.model.text import TextEncoder, TokenTable
from localmi.train.networks import autocast

TOKENS = "tokens"  # folder of word pieces in a cache's


class TextFeatures:
    """Encodes texts as a trained model does: no dropout, no gradient, in the run's precision.

    Args:
        encoder: on its device.
        frozen: it stays as it is, so each text is encoded once.
        cache: folder of the prepared data, where word pieces are kept.
        dtype: of the run.
    """

    def __init__(
        self, encoder: TextEncoder, *, frozen: bool, cache: Path, dtype: torch.dtype
    ) -> None:
        self._encoder, self._dtype = encoder, dtype
        self._folder = cache / TOKENS
        self._known: dict[str, Tensor] | None = {} if frozen else None

    def __call__(self, texts: list[str]) -> Tensor:
        """Features of these texts, [T, E]."""
        if self._known is None:
            return self._encode(texts)
        if new := [text for text in dict.fromkeys(texts) if text not in self._known]:
            self._known.update(zip(new, self._encode(new), strict=True))
        return torch.stack([self._known[text] for text in texts])

    def tokens(self, texts: list[str]) -> TokenTable:
        """The word pieces of these texts."""
        return TokenTable(self._encoder, texts, self._folder)

    @torch.no_grad()
    def _encode(self, texts: list[str], at_once: int = 128) -> Tensor:
        self._encoder.eval()
        table, device = self.tokens(texts), next(self._encoder.parameters()).device
        features = []
        with autocast(device, self._dtype):
            for index in torch.arange(len(texts)).split(at_once):
                features.append(self._encoder(table.select(index).to(device)))
        return torch.cat(features)
