"""The words of a text, each as one vector: what LIMITR lets the regions of an image look at.

A BERT cuts rare words into pieces ("effusions" -> "effusion", "##s"); the vector of a word is the
sum over its pieces, and over the last four layers. Source: Dawidowicz et al. 2023, LIMITR,
https://arxiv.org/abs/2303.11755. Taught in 11_limitr.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from localmi.errors import ConfigError
from localmi.model.text import TextEncoder, Tokens

LAST_LAYERS = 4
CONTINUES = "##"  # how a piece begins that goes on with the word before it


@dataclass(frozen=True)
class Words:
    """The words of B texts, filled up to the longest: vectors [B, L, E], mask [B, L] bool.

    [CLS] is the first of them, as in the public system; [SEP] is none.
    """

    vectors: Tensor
    mask: Tensor


class WordEncoder(TextEncoder):
    """A text encoder that also gives the words one by one.

    Args: as `TextEncoder`.

    Raises:
        ConfigError: as `TextEncoder`; or its word pieces do not say where a word begins.
    """

    continues: Tensor  # [vocabulary] bool, whether this piece goes on with the word before it

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        pieces = self.tokenizer.convert_ids_to_tokens(list(range(len(self.tokenizer))))
        goes_on = torch.tensor([str(piece).startswith(CONTINUES) for piece in pieces])
        if not goes_on.any():
            raise ConfigError(
                f"The tokenizer of the text encoder has no piece with {CONTINUES!r} before it, so "
                "its words cannot be told. Name a BERT with word pieces."
            )
        self.register_buffer("continues", goes_on, persistent=False)

    def word_of(self, tokens: Tokens) -> Tensor:
        """Which word each piece belongs to, [B, T]: 0 is [CLS]; -1 where there is none."""
        ids = tokens.input_ids
        there = tokens.attention_mask.bool() & (ids != self.tokenizer.sep_token_id)
        number = (~self.continues[ids]).cumsum(dim=1) - 1
        return number.masked_fill(~there, -1)

    def words(self, tokens: Tokens) -> Words:
        """All words of the texts."""
        found = self.bert(
            input_ids=tokens.input_ids,
            attention_mask=tokens.attention_mask,
            output_hidden_states=True,
        )
        hidden = torch.stack(found.hidden_states[-LAST_LAYERS:]).sum(dim=0)  # [B, T, E]
        return joined(hidden, self.word_of(tokens))


def joined(pieces: Tensor, word_of: Tensor) -> Words:
    """The sum of the pieces of each word: [B, T, E] and [B, T] -> words."""
    number = word_of.amax(dim=1) + 1  # words of each text
    most = int(number.max())
    place = word_of.masked_fill(word_of < 0, most)  # past all words: is dropped
    target = pieces.new_zeros(len(pieces), most + 1, pieces.shape[-1])
    summed = target.scatter_add(1, place[..., None].expand_as(pieces), pieces)
    mask = torch.arange(most, device=number.device) < number[:, None]
    return Words(summed[:, :most], mask)
