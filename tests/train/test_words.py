"""The words of many texts: as the encoder gives them, kept where it is not trained."""

from pathlib import Path

import pytest
import torch

from localmi.model.words import WordEncoder
from localmi.train.words import WORDS, WordTable

TEXTS = ["Mild cardiomegaly, unchanged.", "Clear.", "No pneumothorax or pleural effusions.", "Ok"]


@pytest.fixture
def encoder(tiny_bert, monkeypatch: pytest.MonkeyPatch) -> WordEncoder:
    monkeypatch.setattr("localmi.train.words.WORTH_KEEPING", 4)
    return WordEncoder(tiny_bert(layers=4), max_tokens=16)


def table(encoder: WordEncoder, folder: Path, *, keep: bool = True) -> WordTable:
    return WordTable(encoder, TEXTS, folder, keep=keep, dtype=torch.float32)


@pytest.mark.parametrize("keep", [True, False])
def test_words_are_the_encoders_without_dropout(
    encoder: WordEncoder, tmp_path: Path, keep: bool
) -> None:
    encoder.train()
    found = table(encoder, tmp_path, keep=keep).select(torch.tensor([2, 1, 2]))
    assert encoder.training
    with torch.no_grad():
        whole = encoder.eval().words(encoder.tokenize([TEXTS[2], TEXTS[1], TEXTS[2]]))
    assert torch.equal(found.mask, whole.mask)
    torch.testing.assert_close(found.vectors, whole.vectors, rtol=2e-3, atol=2e-3)  # of float16
    assert found.vectors[~found.mask].eq(0).all()


def test_they_are_kept_for_the_runs_to_come(
    encoder: WordEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = table(encoder, tmp_path).select(torch.arange(4))
    assert len(list((tmp_path / WORDS).iterdir())) == 1
    monkeypatch.setattr(encoder, "words", None)  # nobody asks it again
    again = table(encoder, tmp_path).select(torch.arange(4))
    assert torch.equal(first.vectors, again.vectors)


def test_other_weights_have_other_words(encoder: WordEncoder, tmp_path: Path) -> None:
    first = table(encoder, tmp_path).select(torch.arange(4))
    with torch.no_grad():
        next(encoder.bert.parameters()).mul_(2)
    second = table(encoder, tmp_path).select(torch.arange(4))
    assert not torch.equal(first.vectors, second.vectors)
    assert len(list((tmp_path / WORDS).iterdir())) == 2


def test_an_encoder_in_training_keeps_nothing_nor_do_few_texts(
    encoder: WordEncoder, tmp_path: Path
) -> None:
    table(encoder, tmp_path, keep=False)
    WordTable(encoder, TEXTS[:3], tmp_path, keep=True, dtype=torch.float32)
    assert not (tmp_path / WORDS).exists()
