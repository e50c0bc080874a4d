"""Features of many texts, without gradient."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from localmi.files import kept_array
from localmi.model.text import WORTH_KEEPING, TextEncoder, TokenTable, words_key
from localmi.train.device import autocast

TOKENS, FEATURES = "tokens", "text_features"  # folders in a cache's


class TextFeatures:
    """Encodes texts as a trained model does: no dropout, no gradient, in the run's precision.

    Args:
        encoder: on its device.
        frozen: it stays as it is, so each text is encoded once, and the features of many texts
            are kept for the runs to come.
        cache: folder of the prepared data, where word pieces and features are kept.
        dtype: of the run.
    """

    def __init__(
        self, encoder: TextEncoder, *, frozen: bool, cache: Path, dtype: torch.dtype
    ) -> None:
        self._encoder, self._dtype = encoder, dtype
        self._cache = cache
        self._known: dict[str, Tensor] | None = {} if frozen else None

    def __call__(self, texts: list[str]) -> Tensor:
        """Features of these texts, [T, E]."""
        if self._known is None:
            return self._encode(texts)
        if new := [text for text in dict.fromkeys(texts) if text not in self._known]:
            self._known.update(zip(new, self._kept(new), strict=True))
        return torch.stack([self._known[text] for text in texts])

    def tokens(self, texts: list[str]) -> TokenTable:
        """The word pieces of these texts."""
        return TokenTable(self._encoder, texts, self._cache / TOKENS)

    def _kept(self, texts: list[str]) -> Tensor:
        """What `_encode` gives, [T, E] float32, from a file where there are many."""
        if len(texts) < WORTH_KEEPING:
            return self._encode(texts).float()
        device = next(self._encoder.parameters()).device
        features = kept_array(
            self._cache / FEATURES / f"{self._key(texts)}.npy",
            lambda found: (
                (found.shape, found.dtype) == ((len(texts), self._encoder.dim), np.float32)
            ),
            lambda: self._encode(texts).float().cpu().numpy(),
        )
        return torch.from_numpy(np.array(features)).to(device)

    def _key(self, texts: list[str]) -> str:
        """A hash of everything that features depend on."""
        device = next(self._encoder.parameters()).device.type
        where = f"{self._encoder.pooling} {self._dtype} {device} {torch.__version__}"
        key = hashlib.sha256((words_key(self._encoder, texts) + where).encode())
        for name, weights in self._encoder.state_dict().items():
            key.update(name.encode() + weights.float().cpu().numpy().tobytes())
        return key.hexdigest()

    @torch.no_grad()
    def _encode(self, texts: list[str], at_once: int = 128) -> Tensor:
        self._encoder.eval()
        table, device = self.tokens(texts), next(self._encoder.parameters()).device
        features = []
        with autocast(device, self._dtype):
            for index in torch.arange(len(texts)).split(at_once):
                features.append(self._encoder(table.select(index).to(device)))
        return torch.cat(features)
