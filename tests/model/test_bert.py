"""BERTs as people have them: whole and of any layout, or refused with what is wrong."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

from localmi.errors import ConfigError
from localmi.model import bert
from localmi.model.text import TextEncoder, TokenTable

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*SPECIAL, "no", "effusion", "left", "right", ".", "##s"]
TEXT = ["No effusion left."]
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 438007537\n"
OLD_FIELDS = [  # of bert_config.json
    *("attention_probs_dropout_prob", "hidden_act", "hidden_dropout_prob", "hidden_size"),
    *("initializer_range", "intermediate_size", "max_position_embeddings"),
    *("num_attention_heads", "num_hidden_layers", "type_vocab_size", "vocab_size"),
]


def configuration(**changes: Any) -> BertConfig:
    sizes = {"vocab_size": len(WORDS), "hidden_size": 16, "intermediate_size": 32}
    sizes |= {"num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 32}
    return BertConfig(**(sizes | changes))


@pytest.fixture
def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return BertModel(configuration(initializer_range=0.5)).state_dict()


@pytest.fixture
def save(tmp_path: Path, weights: dict[str, Tensor]) -> Callable[..., Path]:
    """The folder of a BERT, as people have them."""

    def make(
        state: dict[str, Any] | None = None,
        *,
        config: dict[str, Any] | None = None,
        name: str = "config.json",
        words: list[str] | None = WORDS,
        safe: bool = False,
    ) -> Path:
        folder = tmp_path / "bert"
        folder.mkdir()
        known = configuration().to_dict() | {"model_type": "bert"} if config is None else config
        (folder / name).write_text(json.dumps(known))
        if words is not None:
            (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
        if safe:
            save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        else:
            torch.save(weights if state is None else state, folder / "pytorch_model.bin")
        return folder

    return make


def feature(folder: Path | str) -> Tensor:
    encoder = TextEncoder(str(folder), max_tokens=32).eval()
    with torch.no_grad():
        return encoder(encoder.tokenize(TEXT))


@pytest.fixture
def expected(weights: dict[str, Tensor]) -> Tensor:
    """What the weights give, written out: [CLS] no effusion left . [SEP]"""
    network = BertModel(configuration()).eval()
    network.load_state_dict(weights)
    with torch.no_grad():
        return network(torch.tensor([[2, 5, 6, 7, 9, 3]])).last_hidden_state[:, 0]


def as_first_saved(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """As the converter of the first BERTs named them, with the heads of their training."""
    ends = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    state = {"cls.predictions.bias": torch.zeros(len(WORDS))}
    for name, value in weights.items():
        for new, old in ends.items():
            name = name.replace(new, old)
        state[f"bert.{name}"] = value
    return state | {"bert.embeddings.position_ids": torch.arange(32)[None]}


# --- What loads -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bert_config.json", "config.json"])
def test_the_bert_of_the_public_code(save, weights, expected, name: str, monkeypatch) -> None:
    """`bert_config.json`, which says of no model type; and people rename it."""
    old = {field: configuration().to_dict()[field] for field in OLD_FIELDS}
    folder = save(as_first_saved(weights), config=old, name=name)
    assert torch.equal(feature(folder), expected)
    monkeypatch.chdir(folder.parent)
    assert torch.equal(feature("bert"), expected)  # a folder, without ./ too


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_of_half_precision_are_trained_in_full(save, weights, expected, dtype) -> None:
    folder = save({name: value.to(dtype) for name, value in weights.items()})
    encoder = TextEncoder(str(folder), max_tokens=32)
    assert {value.dtype for value in encoder.parameters()} == {torch.float32}
    torch.testing.assert_close(feature(folder), expected, rtol=0.05, atol=0.05)


def test_the_pooler_may_be_missing(save, weights, expected) -> None:
    """The text feature is taken before it."""
    folder = save({name: value for name, value in weights.items() if "pooler" not in name})
    assert torch.equal(feature(folder), expected)


def test_a_list_of_words_without_mask(save, weights, expected) -> None:
    """A tokenizer adds [MASK] behind the last word; no text becomes it."""
    words = ["[unused]" if word == "[MASK]" else word for word in WORDS]
    assert torch.equal(feature(save(words=words)), expected)


# --- What does not load whole -----------------------------------------------------------------


def without(part: str) -> Callable[[dict], dict]:
    return lambda weights: {name: value for name, value in weights.items() if part not in name}


def renamed(old: str, new: str) -> Callable[[dict], dict]:
    return lambda weights: {name.replace(old, new, 1): value for name, value in weights.items()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("layer.1."), r"16 missing: encoder\.layer\.1\..*and 10 more"),
        (without("word_embeddings"), r"1 missing: embeddings\.word_embeddings\.weight"),
        (without("LayerNorm.bias"), r"5 missing: embeddings\.LayerNorm\.bias"),
        (renamed("encoder.", "transformer."), r"32 missing: enc.*not its own: transformer\.layer"),
        (renamed("", "module."), r"37 missing.*not its own: module\.embeddings"),
        (lambda weights: {"state_dict": weights}, r"37 missing.*not its own: state_dict"),
        (lambda weights: {"model": weights}, r"37 missing.*not its own: model"),
        (
            lambda weights: weights | {"encoder.layer.0.output.dense.bias": torch.zeros(9)},
            r"1 of another size: encoder\.layer\.0\.output\.dense\.bias \[9\], not \[16\]",
        ),
        (
            lambda weights: {
                k: v * torch.nan if "key.bias" in k else v for k, v in weights.items()
            },
            r"2 not numbers: encoder\.layer\.0\.attention\.self\.key\.bias",
        ),
        (
            lambda weights: weights | {"encoder.layer.2.output.dense.bias": torch.zeros(16)},
            r"1 more than its configuration has: encoder\.layer\.2\.output\.dense\.bias",
        ),
    ],
)
def test_what_is_not_whole_is_named(save, weights, change, words: str) -> None:
    folder = save(change(weights))
    with pytest.raises(ConfigError, match=rf"(?s)weights do not load whole.*{words}.*Save it"):
        TextEncoder(str(folder), max_tokens=32)


def test_more_layers_than_its_configuration_has(save) -> None:
    folder = save(config=configuration(num_hidden_layers=1).to_dict() | {"model_type": "bert"})
    with pytest.raises(ConfigError, match=r"16 more than its config.*: encoder\.layer\.1\."):
        TextEncoder(str(folder), max_tokens=32)


# --- Files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("keep", [0.0, 0.001, 0.5, 0.99])
def test_weights_that_are_cut_off(save, safe: bool, keep: float) -> None:
    folder = save(safe=safe)
    path = folder / ("model.safetensors" if safe else "pytorch_model.bin")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(ConfigError, match="could not be loaded.*cut off.*Copy the folder again"):
        TextEncoder(str(folder), max_tokens=32)


@pytest.mark.parametrize("name", ["config.json", "vocab.txt", "model.safetensors"])
@pytest.mark.parametrize("content", ["", "{"])
def test_files_of_nothing(save, name: str, content: str) -> None:
    folder = save(safe=True)
    (folder / name).write_text(content)
    with pytest.raises(ConfigError, match="could not be loaded.*cut off.*Copy the folder again"):
        TextEncoder(str(folder), max_tokens=32)


@pytest.mark.parametrize(
    "name", ["config.json", "vocab.txt", "model.safetensors", "pytorch_model.bin"]
)
def test_what_git_keeps_of_a_large_file(save, name: str) -> None:
    folder = save(safe=name == "model.safetensors")
    (folder / name).write_text(POINTER)
    with pytest.raises(ConfigError, match=f"{name} in .* is what git keeps.*git lfs pull"):
        TextEncoder(str(folder), max_tokens=32)


def test_a_pointer_that_nobody_needs_is_no_matter(save, expected) -> None:
    folder = save()
    (folder / "tf_model.h5").write_text(POINTER)
    assert torch.equal(feature(folder), expected)


def test_no_weights_at_all(save) -> None:
    folder = save()
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(ConfigError, match="no file named model.safetensors.*is missing"):
        TextEncoder(str(folder), max_tokens=32)


def test_a_hub_name_without_a_network() -> None:
    with pytest.raises(ConfigError, match="could not be loaded.*Without a network use 'minilm'"):
        TextEncoder("nobody/has-such-a-bert")


# --- Tokenizer and positions ------------------------------------------------------------------


def test_without_a_list_of_words(save) -> None:
    folder = save(words=None)
    with pytest.raises(ConfigError, match=r"no words: each would be \[UNK\]. Put its vocab\.txt"):
        TextEncoder(str(folder), max_tokens=32)


def test_a_tokenizer_of_more_words_than_there_are_weights(save) -> None:
    folder = save(words=[*WORDS, "lung", "lungs"])
    with pytest.raises(
        ConfigError, match=f"has {len(WORDS) + 2} word pieces, its weights know 11"
    ):
        TextEncoder(str(folder), max_tokens=32)


def test_more_positions_than_there_are(save) -> None:
    folder = save()
    with pytest.raises(ConfigError, match="max_tokens=33, but it has 32 pos.*Use max_tokens=32"):
        TextEncoder(str(folder), max_tokens=33)
    encoder = TextEncoder(str(folder), max_tokens=32)
    with torch.no_grad():
        assert encoder(encoder.tokenize(["no " * 100])).isfinite().all()


def test_positions_that_are_counted_from_behind_the_padding() -> None:
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    network = RobertaModel(
        RobertaConfig(vocab_size=9, max_position_embeddings=34, pad_token_id=1, **sizes)
    ).eval()

    class Nine:
        mask_token_id, all_special_ids = 4, (0, 1)

        def get_vocab(self) -> dict[str, int]:
            return {str(number): number for number in range(9)}

    assert bert._unfit(network, Nine(), 32) == ""
    assert "max_tokens=33, but it has 32 positions" in bert._unfit(network, Nine(), 33)
    network(torch.full((1, 32), 5))
    with pytest.raises((IndexError, RuntimeError)):  # as torch has it
        network(torch.full((1, 33), 5))


def test_texts_of_which_the_tokenizer_knows_no_word(save) -> None:
    encoder = TextEncoder(str(save()), max_tokens=32)
    with pytest.raises(ConfigError, match=r"knows no word of these texts: each is \[UNK\]"):
        TokenTable(encoder, ["Kein Erguss", "Lunge frei"])
    assert TokenTable(encoder, ["Kein Erguss", "no effusion", ""]).cut == 0
    assert TokenTable(encoder, [""]).cut == 0
