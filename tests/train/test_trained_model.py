from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from localmi.__main__ import app
from localmi.data.batches import SplitData
from localmi.downstream.pretrained_encoder import load_image_encoder
from localmi.errors import CheckpointError, ConfigError
from localmi.record import METRICS, RESULTS
from localmi.train.checkpoint import load_checkpoint, save_checkpoint
from localmi.train.checkpoint_files import CHECKPOINT, kept_before
from localmi.train.pretraining import Pretraining
from localmi.train.trained_model import (
    TrainedModel,
    export_networks,
    export_run,
    load_trained_model,
    read_config,
)

Build = Callable[..., Pretraining]


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.pt"


@pytest.fixture
def slim(tmp_path: Path) -> Path:
    return tmp_path / "slim.pt"


def trained(build: Build, path: Path, **changes: Any) -> Pretraining:
    """A run of two steps, saved."""
    run = build(**changes)
    list(run.run(until=2))
    run.save(path)
    return run


def scores(run: Pretraining, data: SplitData) -> tuple[Tensor, Tensor]:
    return run.region_scores(data.images(np.arange(len(data))), run.encode_texts(data.texts))


KINDS: list[dict[str, Any]] = [
    {},
    {"region_context": "region", "cells_after": 1, "seed": 3},
    {"objective": "global", "bound": "mine"},
    {"text_learning_rate": 1e-3},
    {"region_select": "attention", "sentences": "several"},
    {"image_encoder": "resnet18", "grid": 2, "critic": "separable"},
]


@pytest.mark.parametrize("changes", KINDS, ids=[next(iter(kind), "local") for kind in KINDS])
def test_scores_are_those_of_the_run_to_the_bit(
    build, tiny_cache, whole, slim, changes: dict[str, Any]
) -> None:
    run = trained(build, whole, **changes)
    export_networks(whole, slim)
    assert slim.stat().st_size < 0.7 * whole.stat().st_size
    data = SplitData(tiny_cache, "test", unit=run.train_data.unit)
    wanted = scores(run, data)
    for path in (whole, slim):
        found = load_trained_model(path, tiny_cache)
        assert (found.same_data, found.training.step) == (True, 2)
        for own, other in zip(scores(found.training, data), wanted, strict=True):
            assert torch.equal(own, other)
    assert read_config(slim) == read_config(whole) == run.config


@pytest.mark.parametrize("bound", ["mine", "tuba"])
def test_it_is_measured_as_the_run_was(build, tiny_cache, whole, slim, bound: str) -> None:
    """TUBA's log a is of the training batches: a model without it would be given another value."""
    run = trained(build, whole, bound=bound)
    export_networks(whole, slim)
    data = SplitData(tiny_cache, "test")
    expected = run.evaluate(data, batch_size=4, rounds=3)
    for path in (whole, slim):
        found = load_trained_model(path, tiny_cache).training.evaluate(
            data, batch_size=4, rounds=3
        )
        assert found.held_out == expected.held_out
        assert found.shuffled == expected.shuffled


def test_of_an_export_the_blocks_are_those_of_the_checkpoint(build, whole, slim) -> None:
    trained(build, whole)
    export_networks(whole, slim)
    first, second = load_image_encoder(whole), load_image_encoder(slim)
    assert str(first) == str(second)
    assert first.weights.keys() == second.weights.keys()
    assert all(torch.equal(first.weights[name], second.weights[name]) for name in first.weights)
    state = load_checkpoint(slim)
    assert not any("optimiser" in name for name in state)
    assert not any("layer5" in name or "fc1" in name for name in state["image_encoder"])


def test_an_export_of_an_export_is_the_same(build, whole, slim, tmp_path: Path) -> None:
    trained(build, whole)
    export_networks(whole, slim)
    export_networks(slim, tmp_path / "again.pt")
    assert (tmp_path / "again.pt").read_bytes() == slim.read_bytes()


def test_whatever_precision_it_was_trained_in_it_is_read_in_float32(
    build, tiny_cache, whole, slim
) -> None:
    trained(build, whole, precision="bfloat16")
    assert read_config(whole).precision == "bfloat16"
    export_networks(whole, slim)
    assert load_checkpoint(slim)["computed_in"] == {"device": "cpu", "precision": "bfloat16"}
    found = load_trained_model(whole, tiny_cache).training
    assert found.dtype == torch.float32


def test_other_data_are_said_to_be_others(build, make_cache, whole) -> None:
    trained(build, whole)
    other = make_cache(*[(name, [f"{name}."]) for name in "abcdef"], image_size=64)
    assert not load_trained_model(whole, other).same_data


@pytest.mark.parametrize("objective", ["local", "global"])
def test_maps_are_the_scores_of_each_texts_own_image(build, tiny_cache, objective: str) -> None:
    run = build(objective=objective, region_context="region")
    data = SplitData(tiny_cache, "train", unit=run.train_data.unit)
    image, text = np.divmod(np.arange(40), len(data.texts))
    texts = [data.texts[number] for number in text]
    trained = TrainedModel(run, same_data=True)
    found, every = trained.maps(data.images(image), texts), trained.scores(data, data.texts)
    for maps, each, wanted in zip(found, every, scores(run, data), strict=True):
        np.testing.assert_allclose(each, wanted, rtol=1e-5, atol=1e-5)
        grid = 4 if objective == "local" else 1
        assert maps.shape == (40, grid, grid)
        for row in range(40):
            alone = wanted[image[row], :, text[row]].reshape(grid, grid)
            np.testing.assert_allclose(maps[row], alone, rtol=1e-5, atol=1e-5)


# --- What is refused --------------------------------------------------------------------------


def test_images_of_another_size(build, make_cache, whole) -> None:
    trained(build, whole)
    other = make_cache(("a", ["A."]), ("b", ["B."]), image_size=32)
    with pytest.raises(ConfigError, match="image_size=64, but the images of made .* at 32"):
        load_trained_model(whole, other)


def without(part: str, name: str) -> Callable[[dict[str, Any]], None]:
    return lambda state: state[part].pop(name)


def put(part: str, name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda state: state[part].__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            without("image_encoder", "backbone.layer4.1.bn2.bias"),
            r"image_encoder of .*\n1 missing: \S*layer4\.1\.bn2\.bias\.\n0 unexpected: none",
        ),
        (without("critic", "mlp.0.bias"), r"critic of .*\n1 missing: mlp\.0\.bias"),
        (put("control", "more", torch.ones(1)), r"control of .*\n.*\n1 unexpected: more"),
        (put("critic", "mlp.0.bias", torch.ones(7)), r"size mismatch for mlp\.0\.bias"),
        (put("critic", "mlp.0.bias", "a word"), r"critic of .* does not fit"),
        (lambda state: state.pop("control"), r"no export of one: without control\."),
        (lambda state: state.pop("step"), r"no export of one: without step\."),
        (lambda state: state["config"].pop("critic_hidden"), r"size mismatch|does not fit"),
        (put("config", "magic", 1), "Another version"),
    ],
)
def test_a_file_that_does_not_fit(
    build, tiny_cache, whole, change: Callable[[dict[str, Any]], Any], words: str
) -> None:
    trained(build, whole)
    state = load_checkpoint(whole)
    change(state)
    torch.save(state, whole)
    with pytest.raises(CheckpointError, match=words):
        load_trained_model(whole, tiny_cache)


def test_a_trained_text_encoder_that_is_lost(build, tiny_cache, whole) -> None:
    trained(build, whole, text_learning_rate=1e-3)
    state = load_checkpoint(whole)
    del state["text_encoder"]
    save_checkpoint(state, whole)
    with pytest.raises(CheckpointError, match=r"text_encoder of .*\n.*and \d+ more"):
        load_trained_model(whole, tiny_cache)


def test_no_file_and_damage(build, tiny_cache, whole, slim) -> None:
    for read in (read_config, lambda path: load_trained_model(path, tiny_cache)):
        with pytest.raises(CheckpointError, match="No checkpoint"):
            read(whole)
    with pytest.raises(CheckpointError, match="No checkpoint"):
        export_networks(whole, slim)
    trained(build, whole)
    whole.write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cannot be read"):
        export_networks(whole, slim)
    assert not slim.exists()


def test_of_a_damaged_one_the_one_before_is_named_and_not_taken(
    build, tiny_cache, whole, slim
) -> None:
    run = build(steps=3)
    for _ in run.run(until=2):
        run.save(whole)
    older = kept_before(whole)[1]
    whole.write_bytes(whole.read_bytes()[:-100])
    for read in (
        lambda path: load_trained_model(path, tiny_cache),
        lambda path: export_networks(path, slim),
        load_image_encoder,
    ):
        with pytest.raises(CheckpointError) as caught:
            read(whole)
        assert f"The one before it is whole: {older}." in str(caught.value)
        read(older)  # as it says


def test_an_export_leaves_the_files_beside_it(build, whole, slim) -> None:
    """Though one is named as a checkpoint that is kept beside another would be."""
    trained(build, whole)
    kept = slim.with_name("slim-000001.pt")
    kept.touch()
    export_networks(whole, slim)
    assert kept.exists()


def test_an_export_replaces_nothing(build, whole, slim) -> None:
    trained(build, whole)
    slim.write_text("mine")
    with pytest.raises(CheckpointError, match="exists and is not replaced"):
        export_networks(whole, slim)
    assert slim.read_text() == "mine"


def test_of_a_run_its_networks_its_curves_and_its_record_are_kept(
    build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir, out = tmp_path / "run", tmp_path / "results" / "local"
    run_dir.mkdir()
    trained(build, run_dir / CHECKPOINT)
    (run_dir / METRICS).write_text('{"step": 1, "training": 0.5}\n')
    with pytest.raises(CheckpointError, match=r"no finished run: without results\.json.*--resume"):
        export_run(run_dir, out)
    assert not out.exists()
    (run_dir / RESULTS).write_text("{}")
    (run_dir / "executed.ipynb").write_text("{}")
    export_run(run_dir, out)
    assert {path.name for path in out.iterdir()} == {"networks.pt", METRICS, RESULTS}
    export_networks(run_dir / CHECKPOINT, tmp_path / "alone.pt")
    assert (out / "networks.pt").read_bytes() == (tmp_path / "alone.pt").read_bytes()
    for name in (METRICS, RESULTS):
        assert (out / name).read_bytes() == (run_dir / name).read_bytes()
    with pytest.raises(CheckpointError, match="exists and is not replaced"):
        export_run(run_dir, out)
    with pytest.raises(SystemExit) as ended:
        app(["export", str(run_dir), str(tmp_path / "by command")])
    assert ended.value.code == 0
    assert "MB of" in capsys.readouterr().out
    assert (tmp_path / "by command" / "networks.pt").is_file()


def test_the_command(build, whole, slim, capsys: pytest.CaptureFixture[str]) -> None:
    trained(build, whole)
    for code, words in ((0, "MB of"), (2, "exists and is not replaced")):
        with pytest.raises(SystemExit) as ended:
            app(["export", str(whole), str(slim)])
        assert ended.value.code == code
        said = capsys.readouterr()
        assert words in (said.err if code else said.out)
    assert slim.is_file()
