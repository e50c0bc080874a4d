"""Text encoders: a sentence or a report becomes one vector, by any BERT of `transformers`."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self, get_args

import numpy as np
import torch
from torch import Tensor, nn

from localmi.errors import ConfigError, check_name
from localmi.files import kept_array
from localmi.model.bert import PACKAGED, load_bert, split_at, through_layers
from localmi.names import TextPooling

WORTH_KEEPING = 1000  # texts; fewer are done in less time than a file takes
AT_ONCE = 10_000  # texts that are tokenised at once: what a tokenizer returns is large


@dataclass(frozen=True)
class Tokens:
    """Word pieces of B texts, padded to the longest of them."""

    input_ids: Tensor  # [B, T] int64
    attention_mask: Tensor  # [B, T] int64, 1 where there is a word piece

    def to(self, device: torch.device) -> "Tokens":
        return Tokens(self.input_ids.to(device), self.attention_mask.to(device))


class TextEncoder(nn.Module):
    """A BERT whose [CLS] vector (or the mean over its word pieces) is the text feature z^R.

    Args:
        frozen_layers: the embeddings and so many layers stay as they were loaded: they get no
            gradient, and have no dropout.
        checkpointing: in training only what enters a layer is held for the backward pass, which
            computes the rest again, with the same dropout: less memory, the same gradient.

    Raises:
        ConfigError: unknown pooling; there are no such layers to freeze; and as `load_bert`.

    Attributes:
        dim: E, length of the text feature: 768 for BERT-base, 384 for the packaged MiniLM.

    Taught in 06_encoders.
    """

    def __init__(
        self,
        name: str = PACKAGED,
        *,
        pooling: TextPooling = "cls",
        max_tokens: int = 128,
        frozen_layers: int = 0,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check_name("text pooling", pooling, get_args(TextPooling))
        self.tokenizer, self.bert = load_bert(name, max_tokens=max_tokens)
        self.pooling = pooling
        self.max_tokens = max_tokens
        self.dim = int(self.bert.config.hidden_size)
        self.frozen_layers = frozen_layers
        self._frozen: list[nn.Module] = []
        if frozen_layers:
            self._frozen, self._upper = split_at(self.bert, frozen_layers)
        for part in self._frozen:
            part.requires_grad_(False)
        if self._frozen:
            self._check_parts()
        if checkpointing:
            if not self.bert.supports_gradient_checkpointing:
                raise ConfigError(
                    f"text_checkpointing=True, but the text encoder, a {type(self.bert).__name__},"
                    " cannot compute its layers again. Use text_checkpointing=False."
                )
            self.bert.config.use_cache = False  # of decoders; or it warns that it cannot
            self.bert.activation_checkpointing_enable({"use_reentrant": False})

    def _check_parts(self) -> None:
        """Refuses a BERT that does more than send embeddings through its layers, one by one."""
        tokens = self.tokenize(["No effusion.", "Clear"])
        apart = ConfigError(
            f"text_frozen_layers={self.frozen_layers}: the text encoder, a "
            f"{type(self.bert).__name__}, is not the same when its layers are applied one by one. "
            "Use text_frozen_layers=0, or name a BERT."
        )
        with torch.no_grad():
            whole = self(tokens)
            try:
                in_parts = self(tokens, self.lower(tokens))
            except Exception as error:  # each layer that wants more says so in its own way
                raise apart from error
        if not torch.allclose(in_parts, whole, rtol=1e-4, atol=1e-5):
            raise apart

    def train(self, mode: bool = True) -> Self:
        """In training too, what is frozen has no dropout."""
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self

    def tokenize(self, texts: list[str]) -> Tokens:
        """Word pieces of the texts, cut at `max_tokens`."""
        encoded = self.tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        )
        return Tokens(encoded["input_ids"], encoded["attention_mask"])

    def frozen_weights(self) -> dict[str, Tensor]:
        """All that `lower` depends on."""
        return nn.ModuleList(self._frozen).state_dict()

    @torch.no_grad()
    def lower(self, tokens: Tokens) -> Tensor:
        """What the frozen layers give, [B, T, E]."""
        embeddings, *layers = self._frozen
        embedded = embeddings(input_ids=tokens.input_ids)
        return through_layers(self.bert, layers, embedded, tokens.attention_mask)

    def forward(self, tokens: Tokens, lower: Tensor | None = None) -> Tensor:
        """Text features z^R, [B, E]; from what `lower` gives of the tokens, where it is known."""
        mask = tokens.attention_mask
        hidden: Tensor  # [B, T, E]
        if lower is None:
            hidden = self.bert(input_ids=tokens.input_ids, attention_mask=mask).last_hidden_state
        else:
            hidden = through_layers(self.bert, self._upper, lower, mask)
        if self.pooling == "cls":
            return hidden[:, 0]
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(1) / weights.sum(1).clamp(min=torch.finfo(hidden.dtype).tiny)


class TokenTable:
    """The word pieces of many texts, tokenised once; batches are padded only to their longest.

    Args:
        encoder: whose tokenizer and `max_tokens` it is.
        texts: any number.
        folder: keeps the word pieces of many texts, so that the next run only maps the file into
            memory; named by a hash of texts and tokenizer, it never has to be cleared. Where
            nothing can be written (or with None) the table is in memory alone.

    Attributes:
        lengths: word pieces of each text, [texts].
        cut: how many of the texts are longer than `max_tokens` word pieces, and lose their end.
    """

    def __init__(self, encoder: TextEncoder, texts: list[str], folder: Path | None = None) -> None:
        if folder is None or len(texts) < WORTH_KEEPING:
            rows = _word_pieces(encoder, texts)
        else:
            rows = kept_array(
                folder / f"{words_key(encoder, texts)}.npy",
                lambda found: found.ndim == 1 and len(found) == len(texts) + 2 + found[len(texts)],
                lambda: _word_pieces(encoder, texts),
            )
        self._starts, self._pieces = rows[: len(texts) + 1], rows[len(texts) + 1 : -1]
        self.lengths = np.diff(self._starts)
        self.cut = int(rows[-1])
        self._padding = int(encoder.tokenizer.pad_token_id or 0)

    def select(self, index: Tensor) -> Tokens:
        """Tokens of these texts, [M, T] with T the longest of them."""
        text = index.numpy()
        ids, mask = padded(self._pieces, self._starts[text], self.lengths[text], self._padding)
        ids, mask = ids.astype(np.int64), mask.astype(np.int64)
        return Tokens(torch.from_numpy(ids), torch.from_numpy(mask))

    def by_length(self) -> Tensor:
        """The numbers of all texts, [texts], the short ones first."""
        return torch.from_numpy(np.argsort(self.lengths, kind="stable"))


def padded(
    rows: np.ndarray, start: np.ndarray, length: np.ndarray, fill: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """M runs of rows [P, ...], one a text, each filled up to the longest.

    Returns:
        [M, T, ...], and where rows stand in it, [M, T] bool.
    """
    mask = np.arange(length.max()) < length[:, None]  # [M, T]
    at = start[:, None] + np.arange(length.max())
    found = np.full((*mask.shape, *rows.shape[1:]), fill, rows.dtype)
    found[mask] = rows[at[mask]]
    return found, mask


def _word_pieces(encoder: TextEncoder, texts: list[str]) -> np.ndarray:
    """One row of int32: where each text starts, where the last ends, then all word pieces, and at
    the end how many of the texts were cut."""
    pieces: list[np.ndarray] = []
    cut = 0
    for first in range(0, len(texts), AT_ONCE):
        found = encoder.tokenizer(
            texts[first : first + AT_ONCE], truncation=True, max_length=encoder.max_tokens
        )
        pieces += [np.array(text, np.int32) for text in found["input_ids"]]
        cut += sum(bool(text.overflowing) for text in found.encodings or ())
    _check_known(encoder, np.concatenate([np.empty(0, np.int32), *pieces]))
    starts = np.cumsum([0, *map(len, pieces)], dtype=np.int32)
    return np.concatenate([starts, *pieces, np.array([cut], np.int32)])


def _check_known(encoder: TextEncoder, pieces: np.ndarray) -> None:
    """Refuses a tokenizer that knows no word of the texts: to it they all read the same."""
    unknown = encoder.tokenizer.unk_token_id
    words = pieces[~np.isin(pieces, list({*encoder.tokenizer.all_special_ids} - {unknown}))]
    if len(words) and (words == unknown).all():
        raise ConfigError(
            "The tokenizer of the text encoder knows no word of these texts: each is "
            f"{encoder.tokenizer.unk_token}. Name a text_encoder of their language."
        )


def words_key(encoder: TextEncoder, texts: list[str]) -> str:
    """A hash of everything that word pieces depend on."""
    tokenizer = json.loads(encoder.tokenizer.backend_tokenizer.to_str())
    del tokenizer["truncation"], tokenizer["padding"]  # of its last call
    return hashlib.sha256(
        json.dumps([tokenizer, encoder.max_tokens, texts], sort_keys=True).encode()
    ).hexdigest()
