"""Layout of memory and compilation of the image encoder: the same step, the same checkpoints.

What they gain on a GPU is measured by benchmarks/gpu_check.py.
"""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from localmi.data.batches import SplitData
from localmi.data.cache.cache import Cache
from localmi.errors import ConfigError
from localmi.train import pretraining, scoring
from localmi.train.checkpoint import load_checkpoint
from localmi.train.pretraining import Pretraining
from localmi.train.trained_model import load_trained_model

# How far a step may be: nats, and the length of the gradient's difference as a share. A ReLU that
# flips by rounding makes some thousandths of a gradient in float32, next to nothing in float64.
TOLERANCES = {torch.float32: (1e-6, 1e-2), torch.float64: (1e-12, 1e-9)}
CHANGES: dict[str, dict[str, Any]] = {
    "local": {},
    "global": {"objective": "global"},
    "cells": {"region_context": "region", "cells_after": 2},
    "torchvision": {"image_encoder": "resnet18"},
}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of torch.compile but the generated code, which takes a minute."""
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="aot_eager"))
    torch.compiler.reset()


@pytest.fixture
def exact(build, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Pretraining]:
    """As `build`, in float64."""
    normalise = pretraining.normalise
    for module in (pretraining, scoring):
        monkeypatch.setattr(module, "normalise", lambda images: normalise(images).double())

    def make(**changes: Any) -> Pretraining:
        training: Pretraining = build(**changes)
        training.alignment.double()
        training.control.double()
        assert training.frozen_texts is not None
        training.frozen_texts = training.frozen_texts.double()
        return training

    return make


def gradient(training: Pretraining) -> Tensor:
    weights = training.alignment.image_encoder.parameters()
    return torch.cat([one.grad.flatten() for one in weights if one.grad is not None])


def assert_same_step(one: Pretraining, other: Pretraining) -> None:
    """Before it the weights are the same."""
    nats, share = TOLERANCES[next(one.alignment.image_encoder.parameters()).dtype]
    assert one.train_step() == pytest.approx(other.train_step(), abs=nats)
    apart = (gradient(one) - gradient(other)).norm() / gradient(one).norm()
    assert 0 <= float(apart) < share


def is_pixels(training: Pretraining) -> bool:
    """Whether the channels of the weights come last in memory."""
    weights = [one for one in training.alignment.image_encoder.parameters() if one.ndim == 4]
    wide = [one for one in weights if min(one.shape[1:]) > 1]  # others have both layouts at once
    found = {one.is_contiguous(memory_format=torch.channels_last) for one in wide}
    (only,) = found
    return only


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_a_step_with_channels_last_is_the_same(exact, changes: dict[str, Any]) -> None:
    plain, other = exact(**changes), exact(channels_last=True, **changes)
    assert (is_pixels(plain), is_pixels(other)) == (False, True)
    assert_same_step(plain, other)
    assert is_pixels(other)


@pytest.mark.slow
@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_a_compiled_step_is_the_same(exact, quick, changes: dict[str, Any]) -> None:
    counts = torch._dynamo.utils.counters
    counts.clear()
    assert_same_step(exact(**changes), exact(compile=True, **changes))
    assert counts["stats"]["unique_graphs"] > 0  # something was compiled


def test_what_is_computed_again_is_not_compiled(configure) -> None:
    with pytest.raises(ConfigError, match="compile does not take image_checkpointing"):
        configure(compile=True, image_checkpointing=True)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_step_of_generated_code_is_the_same(build) -> None:
    """With the layout too: together they once crashed in a convolution of 1 x 1 with a stride."""
    torch.compiler.reset()
    assert_same_step(build(), build(compile=True, channels_last=True))


@pytest.mark.parametrize(
    "option", ["channels_last", pytest.param("compile", marks=pytest.mark.slow)]
)
def test_checkpoints_know_nothing_of_it(
    build, quick, tiny_cache: Cache, run_dir: Path, option: str
) -> None:
    """The same names, and a run goes on to the same numbers; any machine reads it."""
    plain, (whole, first, second) = build(), (build(**{option: True}) for _ in range(3))
    names = list(plain.alignment.state_dict())
    expected = list(whole.run())
    found = list(first.run(until=3))
    first.save(run_dir / "checkpoint.pt")
    assert list(first.alignment.state_dict()) == names
    assert list(load_checkpoint(run_dir / "checkpoint.pt")["image_encoder"]) == list(
        plain.alignment.image_encoder.state_dict()
    )
    second.load(run_dir / "checkpoint.pt")
    assert found + list(second.run()) == expected
    read = load_trained_model(run_dir / "checkpoint.pt", tiny_cache).training
    assert not getattr(read.config, option)


@pytest.mark.slow
def test_a_compiled_network_is_measured_as_the_plain_one(build, quick, tiny_cache: Cache) -> None:
    """A look has batches of another size, and statistics that stay."""
    plain, other = build(), build(compile=True)
    data = SplitData(tiny_cache, "validate")
    for _ in range(2):
        one, two = (each.evaluate(data).scores.scores for each in (plain, other))
        assert torch.allclose(one, two, atol=1e-5)
        assert_same_step(plain, other)
        other.alignment.load_state_dict(plain.alignment.state_dict())
