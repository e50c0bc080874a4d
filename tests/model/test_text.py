from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import (
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    MPNetConfig,
    MPNetModel,
    RobertaConfig,
    RobertaModel,
)

from localmi.errors import ConfigError
from localmi.model import text
from localmi.model.text import WORTH_KEEPING, TextEncoder, TokenTable

TEXTS = ["No pleural effusion.", "Large left pleural effusion with a meniscus.", "Clear lungs."]


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder().eval()


def test_the_packaged_encoder_needs_no_network(encoder: TextEncoder) -> None:
    with torch.no_grad():
        assert encoder(encoder.tokenize(TEXTS)).shape == (3, 384)
    assert encoder.dim == 384


def test_the_cls_vector_and_the_mean_over_word_pieces(encoder: TextEncoder) -> None:
    tokens = encoder.tokenize(TEXTS)
    mean = TextEncoder(pooling="mean").eval()
    with torch.no_grad():
        hidden = encoder.bert(tokens.input_ids, attention_mask=tokens.attention_mask)[0]
        torch.testing.assert_close(encoder(tokens), hidden[:, 0])
        for number, length in enumerate(tokens.attention_mask.sum(1)):
            expected = hidden[number, :length].mean(0)
            torch.testing.assert_close(mean(tokens)[number], expected, rtol=1e-4, atol=1e-5)


def test_padding_does_not_change_a_feature(encoder: TextEncoder) -> None:
    table = TokenTable(encoder, TEXTS)
    alone = table.select(torch.tensor([2]))
    tokens = encoder.tokenize(TEXTS)
    assert alone.input_ids.shape[1] < tokens.input_ids.shape[1]
    with torch.no_grad():
        together = encoder(tokens)[2]
        torch.testing.assert_close(encoder(alone)[0], together, rtol=1e-4, atol=1e-5)


def test_a_table_holds_what_the_tokenizer_gives(encoder: TextEncoder) -> None:
    texts = [*TEXTS, "", "effusion " * 500]
    table = TokenTable(encoder, texts)
    for index in ([0], [3], [1, 0, 2, 1], [4, 3]):
        found = table.select(torch.tensor(index))
        expected = encoder.tokenize([texts[number] for number in index])
        for name, value in vars(expected).items():
            assert torch.equal(getattr(found, name), value)
            assert getattr(found, name).dtype == torch.int64


MANY = [f"Nodule of {number} mm." for number in range(WORTH_KEEPING)]


def tokens_of(table: TokenTable) -> Tensor:
    return table.select(torch.arange(len(MANY))).input_ids


def test_word_pieces_are_kept_on_disk(encoder: TextEncoder, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "tokens"
    TokenTable(encoder, TEXTS, folder)
    assert not folder.exists()  # a few texts are not worth a file
    first = tokens_of(TokenTable(encoder, MANY, folder))
    assert torch.equal(first, tokens_of(TokenTable(encoder, MANY)))
    monkeypatch.setattr(text, "_word_pieces", lambda *_: pytest.fail("tokenised again"))
    again = TokenTable(encoder, MANY, folder)
    assert isinstance(again._pieces, np.memmap)
    assert torch.equal(tokens_of(again), first)
    assert [path.suffix for path in folder.iterdir()] == [".npy"]


def test_other_texts_or_another_tokenizer_get_a_file_of_their_own(tmp_path: Path) -> None:
    encoder, shorter = TextEncoder().eval(), TextEncoder(max_tokens=8)
    TokenTable(encoder, MANY, tmp_path)
    encoder.tokenize(["Something between."])  # changes the tokenizer's state, not its words
    TokenTable(encoder, MANY, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    TokenTable(encoder, [*MANY, "One more."], tmp_path)
    TokenTable(encoder, MANY[::-1], tmp_path)
    TokenTable(shorter, MANY, tmp_path)
    encoder.tokenizer.add_tokens(["nodule"])
    TokenTable(encoder, MANY, tmp_path)
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_a_damaged_file_is_written_anew(encoder: TextEncoder, tmp_path: Path, damage: str) -> None:
    expected = tokens_of(TokenTable(encoder, MANY, tmp_path))
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    if damage == "other":
        np.save(file, np.zeros(WORTH_KEEPING + 5, np.int32))
    else:
        file.write_bytes(whole[: len(whole) // 2 if damage == "cut" else 0])
    assert torch.equal(tokens_of(TokenTable(encoder, MANY, tmp_path)), expected)
    assert file.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("error", [PermissionError(13, "no right"), OSError(28, "disk full")])
def test_without_a_place_on_disk_the_table_is_in_memory(
    encoder: TextEncoder, tmp_path: Path, monkeypatch, error: OSError
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(np, "save", fail)
    expected = tokens_of(TokenTable(encoder, MANY))
    assert torch.equal(tokens_of(TokenTable(encoder, MANY, tmp_path)), expected)
    assert list(tmp_path.iterdir()) == []
    nowhere = tmp_path / "no" / "tokens"
    assert torch.equal(tokens_of(TokenTable(encoder, MANY, nowhere)), expected)
    assert not nowhere.parent.exists()


def test_texts_that_lose_their_end_are_counted(tmp_path: Path) -> None:
    """8 word pieces: six words between [CLS] and [SEP]."""
    encoder = TextEncoder(max_tokens=8)
    whole, longer = "no no no no no no", "no no no no no no no"
    for folder, many in ((None, 1), (tmp_path, 1000)):
        table = TokenTable(encoder, [whole, longer, whole, longer, longer] * many, folder)
        assert table.cut == 3 * many
        again = TokenTable(encoder, [whole, longer, whole, longer, longer] * many, folder)
        assert again.cut == 3 * many
        assert again.select(torch.tensor([1])).input_ids.shape == (1, 8)
    assert TokenTable(TextEncoder(max_tokens=9), [whole, longer]).cut == 0


def test_a_report_of_ten_thousand_words_is_cut_at_max_tokens() -> None:
    encoder = TextEncoder(max_tokens=32)
    assert encoder.tokenize(["effusion " * 10_000]).input_ids.shape == (1, 32)


def test_missing_folder_and_unknown_pooling(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json.*minilm"):
        TextEncoder(str(tmp_path / "no_bert"))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="could not be loaded"):
        TextEncoder(str(tmp_path))
    with pytest.raises(ConfigError, match="Unknown text pooling 'max'; known are cls, mean"):
        TextEncoder(pooling="max")


# --- Attention --------------------------------------------------------------------------------

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
FUSED = [
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.CUDNN_ATTENTION,
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_is_one_fused_kernel(device: str, dtype: torch.dtype, monkeypatch) -> None:
    """Of padded texts too: where no such kernel takes them, torch refuses here."""
    encoder = TextEncoder().to(device).eval()
    assert encoder.bert.config._attn_implementation == "sdpa"
    calls: list[int] = []
    attend = nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        nn.functional,
        "scaled_dot_product_attention",
        lambda *tensors, **options: calls.append(1) or attend(*tensors, **options),
    )
    tokens = encoder.tokenize(TEXTS).to(torch.device(device))
    assert not tokens.attention_mask.all()
    with torch.autocast(device, dtype, enabled=dtype != torch.float32), sdpa_kernel(FUSED):
        encoder(tokens).sum().backward()
    assert len(calls) == 6


# --- Frozen layers ----------------------------------------------------------------------------


def gradients(encoder: TextEncoder) -> dict[str, Tensor]:
    """Of a loss on `TEXTS` that weighs each number otherwise, with the same draws of dropout."""
    torch.manual_seed(0)
    encoder.zero_grad()
    found = encoder(encoder.tokenize(TEXTS))
    (found * torch.linspace(-1, 2, found.numel()).view_as(found)).sum().backward()
    return {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}


def test_what_is_above_frozen_layers_has_the_gradient_it_had(tiny_bert) -> None:
    plain, frozen = (
        TextEncoder(tiny_bert(dropout=0.0, layers=3), frozen_layers=n).train() for n in (0, 2)
    )
    expected, found = gradients(plain), gradients(frozen)
    kept = {name for name in expected if name.startswith("bert.encoder.layer.2.")}
    assert found.keys() == kept
    for name in kept:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-6)


def test_frozen_layers_have_no_dropout_in_training(tiny_bert) -> None:
    encoder = TextEncoder(tiny_bert(dropout=0.5, layers=3), frozen_layers=2)
    nn.ModuleList([encoder]).train()  # as a part of what is trained
    tokens = encoder.tokenize(TEXTS)
    assert torch.equal(encoder.lower(tokens), encoder.lower(tokens))
    assert not torch.equal(encoder(tokens), encoder(tokens))
    inner = encoder.bert.encoder.layer
    assert [layer.output.dropout.training for layer in inner] == [False, False, True]
    assert not encoder.bert.embeddings.dropout.training
    encoder.eval()
    assert torch.equal(encoder(tokens), encoder(tokens))


SMALL = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
SMALL |= {"intermediate_size": 32, "initializer_range": 0.5}
OTHERS: dict[str, Callable[[int], nn.Module]] = {
    "roberta": lambda words: RobertaModel(
        RobertaConfig(vocab_size=words, pad_token_id=0, **SMALL)
    ),
    "electra": lambda words: ElectraModel(
        ElectraConfig(vocab_size=words, embedding_size=16, **SMALL)
    ),
    "electra, projected": lambda words: ElectraModel(
        ElectraConfig(vocab_size=words, embedding_size=8, **SMALL)
    ),
    "mpnet": lambda words: MPNetModel(MPNetConfig(vocab_size=words, pad_token_id=0, **SMALL)),
    "distilbert": lambda words: DistilBertModel(
        DistilBertConfig(vocab_size=words, dim=16, n_layers=3, n_heads=2, hidden_dim=32)
    ),
}


@pytest.fixture
def other_bert(encoder: TextEncoder, tmp_path: Path) -> Callable[[str], str]:
    def make(kind: str) -> str:
        encoder.tokenizer.save_pretrained(tmp_path)
        torch.manual_seed(0)
        OTHERS[kind](len(encoder.tokenizer)).save_pretrained(tmp_path)
        return str(tmp_path)

    return make


@pytest.mark.parametrize("kind", ["roberta", "electra"])
def test_layers_of_other_berts_are_frozen_alike(other_bert, kind: str) -> None:
    found = TextEncoder(other_bert(kind), frozen_layers=2, max_tokens=32).eval()
    tokens = found.tokenize(TEXTS)
    torch.testing.assert_close(found(tokens, found.lower(tokens)), found(tokens))
    assert all(
        "layer.2." in name or "pooler" in name
        for name, p in found.named_parameters()
        if p.requires_grad
    )


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("distilbert", "DistilBertModel, has no list of layers `encoder.layer`.*name a BERT"),
        ("mpnet", "MPNetModel, is not the same when its layers are applied one by one"),
        ("electra, projected", "ElectraModel, is not the same when its layers are applied"),
    ],
)
def test_what_does_not_split_is_refused(other_bert, kind: str, words: str) -> None:
    folder = other_bert(kind)
    TextEncoder(folder, max_tokens=32)
    with pytest.raises(ConfigError, match=f"text_frozen_layers=2: the text encoder, an? {words}"):
        TextEncoder(folder, frozen_layers=2, max_tokens=32)


def test_all_layers_frozen_is_said_otherwise(tiny_bert) -> None:
    TextEncoder(tiny_bert(layers=3), frozen_layers=2)
    with pytest.raises(
        ConfigError, match="layers=3, but .* has 3 layers. Use 2 or less; text_learning_rate=0"
    ):
        TextEncoder(tiny_bert(layers=3), frozen_layers=3)


# --- Layers computed again --------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [0, 1])
def test_layers_computed_again_give_the_same_gradient(tiny_bert, frozen: int) -> None:
    """Bit for bit, with dropout too."""
    folder = tiny_bert(dropout=0.3, layers=3)
    plain, again = (
        TextEncoder(folder, frozen_layers=frozen, checkpointing=value).train()
        for value in (False, True)
    )
    computed = {name: [] for name in ("plain", "again")}
    for name, encoder in zip(computed, (plain, again), strict=True):
        for number, layer in enumerate(encoder.bert.encoder.layer):
            layer.intermediate.register_forward_pre_hook(
                lambda *_, found=computed[name], number=number: found.append(number)
            )
    expected, found = gradients(plain), gradients(again)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.equal(found[name], gradient), name
    assert sorted(computed["plain"]) == [0, 1, 2]
    assert sorted(computed["again"]) == sorted([0, 1, 2, *range(frozen, 3)])
    again.eval()
    gradients(again)
    assert len(computed["again"]) == 3 + (3 - frozen) + 3, "no need to compute twice in a look"


def test_an_encoder_that_cannot_compute_its_layers_again(tiny_bert, monkeypatch) -> None:
    monkeypatch.setattr(BertModel, "supports_gradient_checkpointing", False)
    with pytest.raises(ConfigError, match="text_checkpointing=True, but .*BertModel, cannot"):
        TextEncoder(tiny_bert(), checkpointing=True)
