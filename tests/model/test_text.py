from pathlib import Path

import pytest
import torch

from localmi.errors import ConfigError
from localmi.model.text import TextEncoder, TokenTable

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
    assert alone.input_ids.shape[1] < table.tokens.input_ids.shape[1]
    with torch.no_grad():
        together = encoder(table.tokens)[2]
        torch.testing.assert_close(encoder(alone)[0], together, rtol=1e-4, atol=1e-5)


def test_a_report_of_ten_thousand_words_is_cut_at_max_tokens() -> None:
    encoder = TextEncoder(max_tokens=32)
    assert encoder.tokenize(["effusion " * 10_000]).input_ids.shape == (1, 32)


def test_missing_folder_and_unknown_pooling(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json.*minilm"):
        TextEncoder(str(tmp_path / "no_bert"))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="could not be loaded"):
        TextEncoder(str(tmp_path))
    with pytest.raises(ConfigError, match="'cls' or 'mean'"):
        TextEncoder(pooling="max")
