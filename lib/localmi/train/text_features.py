"""Features of texts: of many, without gradient, and of a training step's, with it."""

import functools
import hashlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from localmi.files import kept_array, kept_rows
from localmi.model.text import WORTH_KEEPING, TextEncoder, TokenTable, padded, words_key
from localmi.train.config import TrainConfig
from localmi.train.device import autocast

TOKENS, FEATURES, LAYERS = "tokens", "text_features", "text_layers"  # folders in a cache's
AT_ONCE = 128  # texts


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
        self.encoder, self.dtype = encoder, dtype
        self.cache = cache
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
        return TokenTable(self.encoder, texts, self.cache / TOKENS)

    def _kept(self, texts: list[str]) -> Tensor:
        """What `_encode` gives, [T, E] float32, from a file where there are many."""
        if len(texts) < WORTH_KEEPING:
            return self._encode(texts).float()
        features = kept_array(
            self.cache / FEATURES / f"{self._key(texts)}.npy",
            lambda found: (
                (found.shape, found.dtype) == ((len(texts), self.encoder.dim), np.float32)
            ),
            lambda: self._encode(texts).float().cpu().numpy(),
        )
        return torch.from_numpy(np.array(features)).to(device_of(self.encoder))

    def _key(self, texts: list[str]) -> str:
        """A hash of everything that features depend on."""
        about = f"{self.encoder.pooling} {self.dtype}"
        return features_key(self.encoder, texts, self.encoder.state_dict(), about)

    @torch.no_grad()
    def _encode(self, texts: list[str]) -> Tensor:
        self.encoder.eval()
        table, device = self.tokens(texts), device_of(self.encoder)
        # Padding rounds otherwise: what is encoded once for all runs stays in the order given.
        order = table.by_length() if self._known is None else torch.arange(len(texts))
        with autocast(device, self.dtype):
            found = [
                self.encoder(table.select(index).to(device)) for index in order.split(AT_ONCE)
            ]
        return torch.cat(found)[order.argsort().to(device)]


class TrainingTexts:
    """z^R of some of the training texts, [M, E], as a step needs it: with gradient and dropout.

    With `text_once`, texts of a step that are the same are encoded once. They then have the same
    dropout, and without dropout nothing changes. What the frozen layers give is kept on disk for
    each text, in a folder beside the word pieces, so that a step begins above them; where that
    takes more than `text_keep_gigabytes`, or more than is free, a step computes it. It takes
    texts x word pieces x E numbers: 600,000 sentences of 30 word pieces, a BERT of 768: 28 GB in
    float16. A run in bfloat16 keeps float16, of the same size and finer, since what a layer of a
    BERT gives is normalised; a run in float32 keeps float32.

    Args:
        features: of the run.
        texts: all training texts.
        table: their word pieces.
        config: of the run.
    """

    def __init__(
        self, features: TextFeatures, texts: list[str], table: TokenTable, *, config: TrainConfig
    ) -> None:
        self._encoder, self._dtype = features.encoder, features.dtype
        self._folder = features.cache / LAYERS
        self._texts, self._table = texts, table
        self._once, self._gigabytes = config.text_once, config.text_keep_gigabytes

    def __call__(self, text: Tensor) -> Tensor:
        """Features of the texts of these numbers: [M] -> [M, E], in the precision around it."""
        numbers = text.tolist()
        row = {number: row for row, number in enumerate(dict.fromkeys(numbers))}
        once = self._once and len(row) < len(text)
        index = torch.tensor(list(row)) if once else text
        device = device_of(self._encoder)
        lower = self._lower(index)
        found: Tensor = self._encoder(
            self._table.select(index).to(device),
            None if lower is None else lower.to(device).float(),
        )
        return found[[row[number] for number in numbers]] if once else found

    def _lower(self, index: Tensor) -> Tensor | None:
        """What the frozen layers gave for these texts, [M, T, E]; None where it is not kept."""
        if self.kept is None:
            return None
        rows, starts = self.kept
        found, _ = padded(rows, starts[index.numpy()], self._table.lengths[index.numpy()])
        return torch.from_numpy(found)

    @functools.cached_property
    def kept(self) -> tuple[np.ndarray, np.ndarray] | None:
        """What the frozen layers give, [word pieces, E], and where each text begins, [texts]."""
        encoder, lengths = self._encoder, self._table.lengths
        dtype = np.dtype(np.float32 if self._dtype == torch.float32 else np.float16)
        shape = int(lengths.sum()), encoder.dim
        size = dtype.itemsize * math.prod(shape)
        if encoder.frozen_layers == 0 or size > 1e9 * self._gigabytes:
            return None
        about = f"{encoder.frozen_layers} {self._dtype}"
        path = (
            self._folder
            / f"{features_key(encoder, self._texts, encoder.frozen_weights(), about)}.npy"
        )
        rows = kept_rows(path, shape, dtype, self._parts)
        if rows is None:
            return None
        order = self._table.by_length().numpy()
        starts = np.empty(len(lengths), np.int64)
        starts[order] = lengths[order].cumsum(dtype=np.int64) - lengths[order]
        return rows, starts

    def _parts(self) -> Iterator[np.ndarray]:
        """The rows of `kept`, of some texts at a time, the short ones first."""
        device = device_of(self._encoder)
        with autocast(device, self._dtype):
            for index in self._table.by_length().split(AT_ONCE):
                tokens = self._table.select(index).to(device)
                lower = self._encoder.lower(tokens)[tokens.attention_mask.bool()]
                yield lower.float().cpu().numpy()


def device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def features_key(
    encoder: TextEncoder, texts: list[str], weights: Mapping[str, Tensor], about: str
) -> str:
    """A hash of texts, weights, and everything else that numbers computed from them depend on."""
    where = f"{about} {device_of(encoder).type} {torch.__version__}"
    key = hashlib.sha256((words_key(encoder, texts) + where).encode())
    for name, values in weights.items():
        key.update(name.encode() + values.float().cpu().numpy().tobytes())
    return key.hexdigest()
