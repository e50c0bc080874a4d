"""The words of many texts, encoded once where the text encoder stays as it is."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from localmi.files import kept_array
from localmi.model.text import WORTH_KEEPING, TokenTable, padded
from localmi.model.words import WordEncoder, Words
from localmi.train.device import autocast
from localmi.train.text_features import AT_ONCE, TOKENS, device_of, features_key

WORDS = "words"  # folder in that of a cache


class WordTable:
    """The words of some texts, as a trained model gives them: no dropout, no gradient.

    They are held in float16: 1,443 reports of 47 words of 384 take 52 MB.

    Args:
        encoder: on its device.
        texts: whose words; `select` names them by their place.
        cache: folder of the prepared data, where word pieces are kept.
        keep: keeps the words of many texts there too: for an encoder that is not trained.
        dtype: of the run.

    Attributes:
        lengths: words of each text, [CLS] among them, [M] int.
    """

    def __init__(
        self,
        encoder: WordEncoder,
        texts: list[str],
        cache: Path,
        *,
        keep: bool,
        dtype: torch.dtype,
    ) -> None:
        self.device = device_of(encoder)
        tokens = TokenTable(encoder, texts, cache / TOKENS)
        numbers = [
            encoder.word_of(tokens.select(index).to(self.device)).amax(dim=1).cpu() + 1
            for index in torch.arange(len(texts)).split(AT_ONCE)
        ]
        lengths = torch.cat(numbers).numpy()
        self.lengths, self._starts = lengths, lengths.cumsum() - lengths
        shape = int(lengths.sum()), encoder.dim
        if not keep or len(texts) < WORTH_KEEPING:
            self._rows = _encoded(encoder, tokens, len(texts), dtype)
            return
        key = features_key(encoder, texts, encoder.state_dict(), f"words {dtype}")
        self._rows = kept_array(
            cache / WORDS / f"{key}.npy",
            lambda found: (found.shape, found.dtype) == (shape, np.float16),
            lambda: _encoded(encoder, tokens, len(texts), dtype),
        )

    def select(self, text: Tensor) -> Words:
        """The words of these texts, [M] -> M texts, on the encoder's device."""
        index = text.cpu().numpy()
        rows, mask = padded(self._rows, self._starts[index], self.lengths[index])
        vectors = torch.from_numpy(rows.astype(np.float32))
        return Words(vectors.to(self.device), torch.from_numpy(mask).to(self.device))


@torch.no_grad()
def _encoded(
    encoder: WordEncoder, table: TokenTable, texts: int, dtype: torch.dtype
) -> np.ndarray:
    """The words of all texts one after the other, [words, E] float16."""
    was = encoder.training
    encoder.eval()
    found: list[Tensor] = [torch.empty(0)] * texts
    with autocast(device_of(encoder), dtype):
        for index in table.by_length().split(AT_ONCE):
            words = encoder.words(table.select(index).to(device_of(encoder)))
            for text, vectors, mask in zip(index, words.vectors, words.mask, strict=True):
                found[int(text)] = vectors[mask].half().cpu()
    encoder.train(was)
    rows: np.ndarray = torch.cat(found).numpy()
    return rows
