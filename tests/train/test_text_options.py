"""The text encoder's options in whole runs: what they leave alone, step by step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from localmi.errors import ConfigError
from localmi.train.checkpoint import load_checkpoint, save_checkpoint
from localmi.train.config import TrainConfig
from localmi.train.optimisers import text_parameter_groups
from localmi.train.pretraining import Pretraining
from localmi.train.trained_model import load_trained_model

Run = Callable[..., Pretraining]
FROZEN = {"text_frozen_layers": 2}


@pytest.fixture
def run(build: Callable[..., Pretraining], tiny_bert: Callable[..., str]) -> Run:
    """A run that trains a BERT of three layers on the tiny study, with changes."""

    def make(dropout: float = 0.0, **changes: Any) -> Pretraining:
        folder = tiny_bert(dropout=dropout, layers=3)
        fixed = {"text_encoder": folder, "text_learning_rate": 1e-3, "text_weight_decay": 0.5}
        return build(**(fixed | {"sentences": "all", "augment": False} | changes))

    return make


def stepped(pretraining: Pretraining) -> tuple[float, dict[str, Tensor]]:
    """The bound of the third step, and the gradients of all networks in it."""
    *_, (_, nats) = pretraining.run(until=3)
    named = pretraining.alignment.named_parameters()
    return nats, {name: p.grad for name, p in named if p.grad is not None}


@pytest.mark.parametrize(
    ("changes", "plain", "dropout"),
    [
        ({"text_once": True}, {"text_once": False}, 0.0),
        ({"text_checkpointing": True}, {}, 0.3),
        (FROZEN, FROZEN | {"text_keep_gigabytes": 0}, 0.3),
        (FROZEN | {"text_checkpointing": True}, FROZEN, 0.3),
    ],
    ids=["once", "checkpointing", "kept", "both"],
)
def test_a_step_is_the_plain_one(run, changes: dict, plain: dict, dropout: float) -> None:
    """To 1e-4 of the bound and of each gradient, after two steps that were so too."""
    nats, gradients = stepped(run(dropout, **plain))
    found, found_gradients = stepped(run(dropout, **changes))
    assert found == pytest.approx(nats, abs=1e-4)
    assert found_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(found_gradients[name], gradient, rtol=1e-3, atol=1e-4)


def test_frozen_layers_stay_and_those_above_them_learn(run) -> None:
    """Weight decay does not move them either."""
    pretraining = run(0.3, **FROZEN)
    before = {
        name: value.clone()
        for name, value in pretraining.alignment.text_encoder.named_parameters()
    }
    list(pretraining.run())
    for name, value in pretraining.alignment.text_encoder.named_parameters():
        learns = name.startswith("bert.encoder.layer.2.")
        assert torch.equal(value, before[name]) is not learns or "pooler" in name, name


def test_half_and_half_is_the_whole_with_frozen_layers(run, tmp_path: Path) -> None:
    whole, first, second = (run(0.3, **FROZEN) for _ in range(3))
    expected = list(whole.run())
    list(first.run(until=3))
    first.save(tmp_path / "half.pt")
    second.load(tmp_path / "half.pt")
    assert list(second.run()) == expected[3:]
    for name, value in whole.alignment.state_dict().items():
        assert torch.equal(second.alignment.state_dict()[name], value), name


def test_a_checkpoint_of_before_there_were_these_options_goes_on(run, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    first = run()
    list(first.run(until=3))
    first.save(path)
    state = load_checkpoint(path)
    for name in ("text_frozen_layers", "text_keep_gigabytes", "text_checkpointing", "text_once"):
        del state["config"][name]
    del state["config"]["image_checkpointing"]
    save_checkpoint(state, path)
    second = run()
    second.load(path)
    assert list(second.run()) == list(first.run())


def test_the_optimiser_holds_the_same_parameters_in_the_same_order(run) -> None:
    names = []
    for changes in ({}, FROZEN):
        encoder = run(**changes).alignment.text_encoder
        of = {id(value): name for name, value in encoder.named_parameters()}
        groups = text_parameter_groups(encoder, 0.1)
        names.append([[of[id(value)] for value in group["params"]] for group in groups])
    assert names[0] == names[1]


def test_a_trained_model_with_frozen_layers_is_read(run, tiny_cache, tmp_path: Path) -> None:
    pretraining = run(0.3, **FROZEN)
    list(pretraining.run())
    pretraining.save(tmp_path / "checkpoint.pt")
    read = load_trained_model(tmp_path / "checkpoint.pt", tiny_cache).training
    texts = pretraining.train_data.texts[:5]
    torch.testing.assert_close(read.encode_texts(texts), pretraining.encode_texts(texts))


def test_layers_that_are_not_there_are_refused_at_the_door(configure, tiny_bert) -> None:
    configure(text_encoder=tiny_bert(layers=3), text_frozen_layers=2).check()
    for config in (
        configure(text_encoder=tiny_bert(layers=3), text_frozen_layers=3),
        TrainConfig.checked(text_frozen_layers=6),  # the packaged one has six
    ):
        with pytest.raises(ConfigError, match=r"text_frozen_layers=\d, but .* has \d layers"):
            config.check()
