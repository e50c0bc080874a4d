"""Features of many texts are kept beside the data, for this text encoder and no other."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from localmi.model.text import WORTH_KEEPING, TextEncoder
from localmi.train.text_features import FEATURES, TextFeatures

MANY = [f"Nodule of {number} mm." for number in range(WORTH_KEEPING)]


@pytest.fixture
def features(tiny_bert: Callable[..., str], tmp_path: Path) -> Callable[..., TextFeatures]:
    """A new process's, on the same data and text encoder."""

    def make(
        pooling: str = "mean",
        frozen: bool = True,
        dtype: torch.dtype = torch.float32,
        **of_encoder: float,
    ) -> TextFeatures:
        encoder = TextEncoder(tiny_bert(**of_encoder), pooling=pooling)
        return TextFeatures(encoder, frozen=frozen, cache=tmp_path, dtype=dtype)

    return make


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / FEATURES).glob("*"))


def alone(features: TextFeatures, texts: list[str]) -> Tensor:
    with torch.no_grad():
        return torch.cat([features._encoder(features._encoder.tokenize([one])) for one in texts])


def test_many_texts_are_encoded_once_for_all_runs(features, tmp_path, monkeypatch) -> None:
    first = features()(MANY)
    second = features()
    torch.testing.assert_close(first[:5], alone(second, MANY[:5]), rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(TextEncoder, "forward", lambda *_: pytest.fail("encoded again"))
    assert torch.equal(second(MANY + MANY[::-1]), torch.cat([first, first.flip(0)]))
    assert len(files(tmp_path)) == 1


def test_few_texts_and_an_encoder_that_is_trained_leave_no_file(features, tmp_path) -> None:
    features()(MANY[1:])
    features(frozen=False)(MANY)
    assert files(tmp_path) == []


def test_another_encoder_does_not_get_these_features(features, tmp_path) -> None:
    first = features()(MANY)
    assert not torch.equal(features(pooling="cls")(MANY), first)
    changed = features()
    with torch.no_grad():
        next(changed._encoder.parameters()).mul_(2)
    assert not torch.equal(changed(MANY), first)
    assert len(files(tmp_path)) == 3


def test_another_precision_does_not_get_these_features(features, tmp_path) -> None:
    first = features()(MANY)
    assert not torch.equal(features(dtype=torch.bfloat16)(MANY), first)
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize("damage", ["cut", "empty"])
def test_damaged_features_are_computed_anew(features, tmp_path, damage) -> None:
    first = features()(MANY)
    (file,) = files(tmp_path)
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2 if damage == "cut" else 0])
    assert torch.equal(features()(MANY), first)
    assert file.read_bytes() == whole
