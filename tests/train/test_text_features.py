"""Features of texts: what is kept is of this text encoder and no other; a step's are the same."""

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from localmi.model.text import WORTH_KEEPING, TextEncoder, Tokens, TokenTable
from localmi.train.config import TrainConfig
from localmi.train.device import autocast
from localmi.train.text_features import AT_ONCE, FEATURES, LAYERS, TextFeatures, TrainingTexts

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
        return torch.cat([features.encoder(features.encoder.tokenize([one])) for one in texts])


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
        next(changed.encoder.parameters()).mul_(2)
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


# --- In which order ---------------------------------------------------------------------------

MIXED = ["No effusion. " * (number * 7 % 5) + f"Nodule of {number} mm." for number in range(300)]


def seen(features: TextFeatures, monkeypatch: pytest.MonkeyPatch) -> list[Tokens]:
    """What the encoder is given from now on."""
    given: list[Tokens] = []
    forward = features.encoder.forward
    monkeypatch.setattr(
        features.encoder, "forward", lambda tokens: given.append(tokens) or forward(tokens)
    )
    return given


def test_an_encoder_that_is_trained_sees_texts_by_length(features, monkeypatch) -> None:
    """Less padding at each look; the features are in the order of the texts."""
    looked = features(frozen=False)
    given = seen(looked, monkeypatch)
    found = looked(MIXED)
    assert found.shape == (len(MIXED), 16)
    torch.testing.assert_close(found, alone(looked, MIXED), rtol=1e-4, atol=1e-5)
    batches = given[: -(-len(MIXED) // AT_ONCE)]  # those behind are of `alone`
    lengths = [int(length) for tokens in batches for length in tokens.attention_mask.sum(1)]
    assert lengths == sorted(lengths)
    assert len(lengths) == len(MIXED)


def test_one_that_is_frozen_rounds_as_ever(features) -> None:
    """Bit for bit what it gave in the order of the texts: runs that used it keep their numbers."""
    frozen = features()
    table = TokenTable(frozen.encoder, MIXED)
    with torch.no_grad():
        parts = [
            frozen.encoder(table.select(index))
            for index in torch.arange(len(MIXED)).split(AT_ONCE)
        ]
    assert torch.equal(frozen(MIXED), torch.cat(parts))


# --- In a training step -----------------------------------------------------------------------

SOME = ["No pleural effusion.", "Large left effusion with a meniscus.", "Clear.", "No nodule."]
REPEATED = torch.tensor([2, 0, 2, 1, 0, 2])


@pytest.fixture
def training_texts(tiny_bert: Callable[..., str], tmp_path: Path) -> Callable[..., TrainingTexts]:
    """A new process's: BERT of three layers, the texts `SOME`."""

    def make(
        *,
        dropout: float = 0.0,
        dtype: torch.dtype = torch.float32,
        pooling: str = "mean",
        **changes: object,
    ) -> TrainingTexts:
        folder = tiny_bert(dropout=dropout, layers=3)
        config = TrainConfig.checked(text_encoder=folder, text_pooling=pooling, **changes)
        encoder = config.new_text_encoder().train()
        features = TextFeatures(encoder, frozen=False, cache=tmp_path, dtype=dtype)
        return TrainingTexts(features, SOME, features.tokens(SOME), config=config)

    return make


def passed(texts: TrainingTexts, text: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Features of these texts, and the gradient of a loss that weighs each number otherwise."""
    torch.manual_seed(4)
    with autocast(torch.device("cpu"), texts._dtype):
        found = texts(text)
    texts._encoder.zero_grad()
    (found.float() * torch.linspace(-1, 2, found.numel()).view_as(found)).sum().backward()
    named = texts._encoder.named_parameters()
    return found.detach(), {name: p.grad.clone() for name, p in named if p.grad is not None}


def assert_near(found: tuple, expected: tuple, *, rtol: float, atol: float) -> None:
    torch.testing.assert_close(found[0], expected[0], rtol=rtol, atol=atol)
    assert found[1].keys() == expected[1].keys()
    for name, gradient in expected[1].items():
        far = (found[1][name] - gradient).norm()
        assert far <= rtol * gradient.norm() + atol, name


def layers_files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / LAYERS).glob("*"))


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_texts_encoded_once_have_the_features_and_the_gradient_of_each(
    training_texts, pooling: str, monkeypatch
) -> None:
    each, once = (training_texts(pooling=pooling, text_once=value) for value in (False, True))
    rows: list[int] = []
    forward = once._encoder.forward
    monkeypatch.setattr(
        once._encoder,
        "forward",
        lambda tokens, lower: rows.append(len(tokens.input_ids)) or forward(tokens, lower),
    )
    assert_near(passed(once, REPEATED), passed(each, REPEATED), rtol=1e-5, atol=1e-5)
    assert rows == [3]


def test_texts_encoded_once_share_their_dropout(training_texts) -> None:
    each, once = (training_texts(dropout=0.5, text_once=value) for value in (False, True))
    found = passed(once, REPEATED)[0]
    assert torch.equal(found[[0, 1]], found[[2, 4]])
    assert not torch.equal(found[0], found[1])
    assert not torch.equal(*passed(each, REPEATED)[0][[0, 2]])


def test_where_no_text_repeats_nothing_changes(training_texts) -> None:
    """Not even a draw of the dropout."""
    text = torch.tensor([3, 0, 2])
    each, once = (training_texts(dropout=0.5, text_once=value) for value in (False, True))
    assert_near(passed(once, text), passed(each, text), rtol=0, atol=0)


def test_a_share_of_the_texts_gives_its_share_of_the_features(training_texts) -> None:
    for changes in ({}, {"text_frozen_layers": 2}):
        texts = training_texts(**changes)
        whole = passed(texts, REPEATED)[0]
        for share in (REPEATED[:2], REPEATED[2:], REPEATED[5:]):
            found = passed(texts, share)[0]
            expected = whole[[REPEATED.tolist().index(number) for number in share.tolist()]]
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


NEAR = {torch.float32: {"rtol": 1e-4, "atol": 1e-5}, torch.bfloat16: {"rtol": 0.05, "atol": 0.02}}


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("layers", [1, 2])
def test_from_kept_layers_a_step_is_as_from_the_first(
    training_texts, tmp_path, dtype: torch.dtype, dropout: float, layers: int
) -> None:
    """Also with dropout: above the frozen layers it draws the same."""
    kept, computed = (
        training_texts(
            dropout=dropout, dtype=dtype, text_frozen_layers=layers, text_keep_gigabytes=size
        )
        for size in (1, 0)
    )
    expected = passed(computed, REPEATED)
    assert layers_files(tmp_path) == []
    assert_near(passed(kept, REPEATED), expected, **NEAR[dtype])
    assert len(layers_files(tmp_path)) == 1
    frozen = {f"bert.encoder.layer.{number}." for number in range(layers)} | {"bert.embeddings."}
    trained = {name.split("attention")[0] for name in expected[1]}
    assert not any(name.startswith(part) for part in frozen for name in trained)
    assert any(name.startswith(f"bert.encoder.layer.{layers}.") for name in trained)


def test_kept_layers_are_mapped_and_computed_once_for_all_runs(
    training_texts, tmp_path, monkeypatch
) -> None:
    first = passed(training_texts(text_frozen_layers=2), REPEATED)
    again = training_texts(text_frozen_layers=2)
    monkeypatch.setattr(TextEncoder, "lower", lambda *_: pytest.fail("computed again"))
    assert_near(passed(again, REPEATED), first, rtol=0, atol=0)
    rows, _ = again.kept
    assert isinstance(rows, np.memmap)
    assert (rows.shape, rows.dtype) == ((int(again._table.lengths.sum()), 16), np.float32)


def test_other_layers_weights_or_precision_get_a_file_of_their_own(
    training_texts, tmp_path
) -> None:
    found = [passed(training_texts(text_frozen_layers=n), REPEATED)[0] for n in (1, 2)]
    passed(training_texts(text_frozen_layers=1, pooling="cls"), REPEATED)  # the same layers
    assert len(layers_files(tmp_path)) == 2
    half = training_texts(text_frozen_layers=1, dtype=torch.bfloat16)
    passed(half, REPEATED)
    assert half.kept[0].dtype == np.float16
    changed = training_texts(text_frozen_layers=1)
    with torch.no_grad():
        changed._encoder.bert.embeddings.word_embeddings.weight.mul_(2)
    assert not torch.allclose(passed(changed, REPEATED)[0], found[0])
    above = training_texts(text_frozen_layers=1)
    with torch.no_grad():
        above._encoder.bert.encoder.layer[1].output.dense.weight.mul_(2)
    passed(above, REPEATED)
    assert len(layers_files(tmp_path)) == 4


@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_damaged_layers_are_computed_anew(training_texts, tmp_path, damage: str) -> None:
    first = passed(training_texts(text_frozen_layers=2), REPEATED)
    (file,) = layers_files(tmp_path)
    whole = file.read_bytes()
    if damage == "other":
        np.save(file, np.zeros((3, 16), np.float32))
    else:
        file.write_bytes(whole[: len(whole) // 2 if damage == "cut" else 0])
    assert_near(passed(training_texts(text_frozen_layers=2), REPEATED), first, rtol=0, atol=0)
    assert file.read_bytes() == whole


def test_layers_that_take_too_much_are_not_kept(training_texts, tmp_path) -> None:
    pieces = int(training_texts()._table.lengths.sum())
    size = pieces * 16 * 4 / 1e9  # GB
    expected = passed(training_texts(text_frozen_layers=2), REPEATED)
    for limit, kept in ((size, True), (0.99 * size, False)):
        texts = training_texts(text_frozen_layers=2, text_keep_gigabytes=limit)
        assert (texts.kept is not None) is kept
        assert_near(passed(texts, REPEATED), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fault", ["no room", "no right", "full while writing"])
def test_without_a_place_on_disk_a_step_computes_the_layers(
    training_texts, tmp_path, monkeypatch, fault: str
) -> None:
    if fault == "no room":
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    elif fault == "no right":
        (tmp_path / LAYERS).write_text("a file where the folder should be")
    else:

        def full(texts: TrainingTexts):
            yield np.zeros((2, 16), np.float32)
            raise OSError(28, "disk full")

        monkeypatch.setattr(TrainingTexts, "_parts", full)
    texts = training_texts(text_frozen_layers=2)
    found = passed(texts, REPEATED)
    assert texts.kept is None
    assert layers_files(tmp_path) == []
    not_kept = training_texts(text_frozen_layers=2, text_keep_gigabytes=0)
    assert_near(found, passed(not_kept, REPEATED), rtol=0, atol=0)


def test_a_copy_of_the_encoder_is_frozen_too(training_texts) -> None:
    texts = training_texts(text_frozen_layers=2, dropout=0.5)
    copied = copy.deepcopy(texts._encoder).train()
    with torch.no_grad():
        next(copied.parameters()).zero_()  # of the copy alone
    tokens = copied.tokenize(SOME)
    assert not torch.allclose(copied.lower(tokens), texts._encoder.lower(tokens))
    assert torch.equal(copied.lower(tokens), copied.lower(tokens))
