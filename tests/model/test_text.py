from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

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
