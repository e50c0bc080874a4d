"""Word pieces become words: by hand, by the tokenizer's own account, and whatever is filled up."""

import pytest
import torch

from localmi.errors import ConfigError
from localmi.model.words import WordEncoder, joined

TEXTS = [
    "Mild cardiomegaly, unchanged.",
    "No pneumothorax or pleural effusions.",
    "Clear.",
    "Interstitial prominence; bibasilar atelectases (subsegmental).",
]


@pytest.fixture(scope="module")
def encoder() -> WordEncoder:
    return WordEncoder(max_tokens=32).eval()


def test_words_are_those_of_the_tokenizer(encoder: WordEncoder) -> None:
    encoded = encoder.tokenizer(TEXTS)
    found = encoder.word_of(encoder.tokenize(TEXTS))
    for row, encoding in zip(found, encoded.encodings, strict=True):
        ids = encoding.word_ids  # None: [CLS], [SEP]
        expected = [0] + [word + 1 for word in ids[1:-1]] + [-1]
        assert row[: len(ids)].tolist() == expected
        assert row[len(ids) :].eq(-1).all()
    assert found.amax(dim=1).tolist()[2] == 2  # "clear", "."


def test_a_word_is_the_sum_of_its_pieces_over_four_layers(encoder: WordEncoder) -> None:
    tokens = encoder.tokenize(TEXTS)
    with torch.no_grad():
        words = encoder.words(tokens)
        hidden = encoder.bert(
            input_ids=tokens.input_ids,
            attention_mask=tokens.attention_mask,
            output_hidden_states=True,
        ).hidden_states
    summed = hidden[-1] + hidden[-2] + hidden[-3] + hidden[-4]
    word_of = encoder.word_of(tokens)
    assert words.mask.sum(dim=1).tolist() == (word_of.amax(dim=1) + 1).tolist()
    for text, word in words.mask.nonzero().tolist():
        expected = summed[text][word_of[text] == word].sum(dim=0)
        torch.testing.assert_close(words.vectors[text, word], expected)
    assert words.vectors[~words.mask].eq(0).all()


def test_what_fills_up_is_no_word() -> None:
    pieces = torch.arange(24.0).reshape(2, 4, 3)
    pieces[1, 3] = float("nan")
    words = joined(pieces, torch.tensor([[0, 1, 1, 2], [0, 1, -1, -1]]))
    assert words.mask.tolist() == [[True, True, True], [True, True, False]]
    torch.testing.assert_close(words.vectors[0, 1], pieces[0, 1] + pieces[0, 2])
    assert words.vectors.isfinite().all()
    assert words.vectors[1, 2].eq(0).all()


def test_a_longer_neighbour_changes_no_word(encoder: WordEncoder) -> None:
    """Beyond rounding; which words there are not at all."""
    with torch.no_grad():
        alone = encoder.words(encoder.tokenize(TEXTS[2:3]))
        among = encoder.words(encoder.tokenize(TEXTS))
    length = int(alone.mask.sum())
    assert among.mask[2].sum() == length
    torch.testing.assert_close(among.vectors[2, :length], alone.vectors[0], rtol=1e-4, atol=1e-4)


def test_a_tokenizer_without_word_pieces_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from localmi.model import text

    tokenizer, bert = text.load_bert("minilm", max_tokens=16)
    monkeypatch.setattr(tokenizer, "convert_ids_to_tokens", lambda ids: ["Ġthe"] * len(ids))
    monkeypatch.setattr(text, "load_bert", lambda *_, **__: (tokenizer, bert))
    with pytest.raises(ConfigError, match="no piece with '##' before it"):
        WordEncoder()


def test_gradients_reach_every_piece() -> None:
    pieces = torch.randn(2, 4, 3, requires_grad=True)
    words = joined(pieces, torch.tensor([[0, 1, 1, 2], [0, 1, -1, -1]]))
    words.vectors.sum().backward()
    assert pieces.grad is not None
    assert pieces.grad[..., 0].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
