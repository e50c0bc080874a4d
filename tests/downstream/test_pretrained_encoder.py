import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models import resnet18

from localmi.downstream.pretrained_encoder import load_image_encoder
from localmi.errors import CheckpointError
from localmi.model.classifier import Classifier
from localmi.model.image import PAPERS, ResNet256
from localmi.train.checkpoint import load_checkpoint, save_checkpoint
from localmi.train.trained_model import export_networks

State = dict[str, Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.pt"


def network_state() -> State:
    """Of a network whose statistics have moved."""
    torch.manual_seed(0)
    network = ResNet256()
    with torch.no_grad():
        network(torch.randn(2, 1, 64, 64))
    return network.state_dict()


def below(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


# --- Ours -------------------------------------------------------------------------------------


def test_of_a_local_run_the_blocks_up_to_its_regions_are_loaded(build, tiny_cache, path) -> None:
    run = build(region_context="region", cells_after=1, local_stage=4)
    next(run.run(until=1))
    run.save(path)
    found = load_image_encoder(path)
    assert found.blocks == 4
    assert (found.grid, found.cells_after, found.local_block) == (4, 1, 4)
    assert found.data_hash == tiny_cache.data_hash
    assert found.image_size == 64
    assert (found.architecture, found.objective, found.bound) == (PAPERS, "local", "infonce")
    assert found.step == 1
    assert found.not_used == ("place",)
    trained = run.alignment.image_encoder.backbone.state_dict()
    assert set(found.weights) == {
        name for name in trained if not name.startswith(("layer5", "layer6", "fc1"))
    }
    assert all(torch.equal(value, trained[name]) for name, value in found.weights.items())
    assert str(found) == (
        "local infonce, step 1: blocks 1 to 4 are loaded; blocks 5, 6 and fc1 start anew; "
        "not used: place"
    )


def test_of_a_global_run_all_blocks_are_loaded(build, path) -> None:
    build(objective="global", bound="mine").save(path)
    found = load_image_encoder(path)
    assert (found.blocks, found.grid, found.not_used) == (6, 1, ())
    assert (found.objective, found.bound, found.step) == ("global", "mine", 0)
    assert str(found) == "global mine, step 0: blocks 1 to 6 are loaded; fc1 starts anew"


@pytest.mark.parametrize(
    ("architecture", "objective", "blocks", "words"),
    [
        ("resnet18", "local", 3, "blocks 1 to 3 are loaded; blocks 4 and fc1 start anew"),
        ("resnet18", "global", 4, "blocks 1 to 4 are loaded; fc1 starts anew"),
        ("vit_b_16", "local", 3, "blocks 1 to 3 are loaded; fc1 starts anew"),
    ],
)
def test_another_encoder_of_ours_is_loaded(
    build, small_vit, path, tmp_path, architecture: str, objective: str, blocks: int, words: str
) -> None:
    run = build(image_encoder=architecture, objective=objective)
    next(run.run(until=1))
    run.save(path)
    export_networks(path, tmp_path / "export.pt")
    trained = run.alignment.image_encoder.backbone
    weights = trained.state_dict()
    for file in (path, tmp_path / "export.pt"):
        found = load_image_encoder(file)
        assert (found.architecture, found.blocks, found.grid) == (architecture, blocks, 1)
        assert (found.local_block, found.image_size) == (trained.local_block, 64)
        assert str(found) == f"{architecture}, {objective} infonce, step 1: {words}"
        assert set(found.weights) == {name for name in weights if trained.holds(name, blocks)}
        assert all(torch.equal(value, weights[name]) for name, value in found.weights.items())


def test_cells_of_another_encoder(build, path) -> None:
    build(image_encoder="resnet18", region_context="region").save(path)
    found = load_image_encoder(path)
    assert (found.grid, found.cells_after, found.local_block) == (4, 0, 3)
    assert found.not_used == ("place",)


def test_another_encoder_of_ours_that_is_damaged(build, path) -> None:
    build(image_encoder="resnet18").save(path)
    whole = load_checkpoint(path)
    own = "backbone.features."
    weights = whole["image_encoder"]
    less = {name: value for name, value in weights.items() if "layer2.0.conv1" not in name}
    for changed, words in (
        (less, r"does not hold a resnet18\.\n1 missing: features\.layer2\.0\.conv1\.weight\.\n0"),
        (
            weights | {f"{own}layer9.bias": torch.ones(1)},
            r"does not hold a resnet18\.\n0 missing: none\.\n1 unexpected: features\.layer9\.bias",
        ),
        (
            weights | {f"{own}bn1.bias": torch.ones(3)},
            r"other sizes than resnet18:\n  features\.bn1\.bias is \[3\], must be \[64\]",
        ),
        (
            weights | {f"{own}bn1.bias": torch.full((64,), torch.nan)},
            r"not numbers in features\.bn1\.bias",
        ),
        ({}, r"does not hold a resnet18\.\n\d+ missing: features\.conv1\.weight"),
    ):
        save_checkpoint(whole | {"image_encoder": changed}, path)
        with pytest.raises(CheckpointError, match=words):
            load_image_encoder(path)


@pytest.mark.parametrize("config", [{"steps": 1, "critics": 3}, {"steps": "many"}, None])
def test_a_checkpoint_of_another_version_is_refused(build, path, config) -> None:
    build().save(path)
    save_checkpoint(load_checkpoint(path) | {"config": config}, path)
    with pytest.raises(CheckpointError, match="Another version"):
        load_image_encoder(path)


def test_a_checkpoint_of_ours_without_an_encoder_is_refused(build, path) -> None:
    build().save(path)
    state = load_checkpoint(path)
    del state["image_encoder"]
    save_checkpoint(state, path)
    with pytest.raises(CheckpointError, match=r"no network with conv1\.weight"):
        load_image_encoder(path)


# --- Others -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix", ["", "image_model.", "module.", "module.image_model.", "backbone."]
)
def test_a_state_dict_below_any_prefix(path: Path, prefix: str) -> None:
    state = network_state()
    torch.save(below(prefix, state), path)
    found = load_image_encoder(path)
    assert found.blocks == 6
    assert found.data_hash == ""
    classifier = Classifier(ResNet256(9))
    classifier.load_blocks(found.weights)
    classifier.eval()
    network = ResNet256()
    network.load_state_dict(state)
    images = torch.randn(2, 1, 64, 64)
    assert torch.equal(classifier.backbone.pooled(images), network.eval().pooled(images))


def test_the_public_codes_release(path: Path) -> None:
    """Image model, text model and critic in one state dict, saved from DataParallel."""
    state = below("module.image_model.", network_state())
    state |= below("module.text_model.", {"embeddings.weight": torch.zeros(3, 2)})
    state |= below("module.mi_critic.layers.0.", {"weight": torch.zeros(3, 2)})
    torch.save(state, path)
    found = load_image_encoder(path)
    assert found.blocks == 6
    assert found.not_used == ("module.mi_critic", "module.text_model")
    torch.save({name.removeprefix("module."): value for name, value in state.items()}, path)
    found = load_image_encoder(path)
    assert found.not_used == ("mi_critic", "text_model")
    assert str(found).startswith("weights without a record of their training: blocks 1 to 6")


@pytest.mark.parametrize("prefix", ["", "module.", "image_model.", "module.image_model."])
@pytest.mark.parametrize("level", [("state_dict",), ("model",), ("net", "model_state_dict")])
def test_weights_some_levels_down(path: Path, level: tuple[str, ...], prefix: str) -> None:
    """As training scripts keep them, beside their optimiser and epoch."""
    state = network_state()
    inside: State = below(prefix, state)
    for name in reversed(level):
        inside = {name: inside, "epoch": 3}
    moments = {"state": {0: {"exp_avg": torch.zeros(8)}}, "param_groups": [{"lr": 0.1}]}
    torch.save(inside | {"optimizer": moments}, path)
    found = load_image_encoder(path)
    assert found.blocks == 6
    assert all(torch.equal(value, state[name]) for name, value in found.weights.items())
    assert "epoch" in found.not_used
    assert "optimizer" in found.not_used or "optimizer.state" in found.not_used


def test_of_two_networks_in_one_file_both_are_named(path: Path) -> None:
    torch.save({"model": network_state(), "ema": below("module.", network_state())}, path)
    words = r"2 networks.*: model\.conv1\.weight, ema\.module\.conv1\.weight\. Save the state dict"
    with pytest.raises(CheckpointError, match=words):
        load_image_encoder(path)
    torch.save(torch.load(path, weights_only=True)["ema"], path)  # as it says
    assert load_image_encoder(path).blocks == 6


def test_an_encoder_of_five_blocks(path: Path) -> None:
    state = {
        name: value
        for name, value in network_state().items()
        if not name.startswith(("layer6", "fc1"))
    }
    torch.save(below("image_model.", state), path)
    found = load_image_encoder(path)
    assert found.blocks == 5
    assert "blocks 1 to 5 are loaded; blocks 6 and fc1 start anew" in str(found)


def test_older_files(path: Path) -> None:
    """Before zip archives, and before BatchNorm counted its batches; and half precision."""
    state = network_state()
    old = {name: value for name, value in state.items() if "num_batches" not in name}
    torch.save(old, path, _use_new_zipfile_serialization=False)
    assert load_image_encoder(path).blocks == 6
    torch.save({name: value.half() for name, value in old.items()}, path)
    found = load_image_encoder(path)
    assert found.weights["conv1.weight"].dtype == torch.float32
    torch.testing.assert_close(
        found.weights["conv1.weight"], state["conv1.weight"], rtol=1e-2, atol=1e-3
    )


# --- Wrong ones -------------------------------------------------------------------------------


def test_another_network_is_refused_by_its_names(path: Path) -> None:
    torch.save(below("model.", resnet18().state_dict()), path)
    with pytest.raises(CheckpointError) as caught:
        load_image_encoder(path)
    message = str(caught.value)
    assert "does not hold a resnet256_6_2_1" in message
    assert "0 missing" not in message
    assert "layer1.0.downsample.0.weight" in message  # missing
    assert "fc.weight, fc.bias" in message  # unexpected


def without(name: str) -> Callable[[State], State]:
    return lambda state: {key: value for key, value in state.items() if key != name}


def with_value(name: str, value: Any) -> Callable[[State], State]:
    return lambda state: state | {name: value}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("layer3.1.bn2.weight"), r"1 missing: layer3\.1\.bn2\.weight\.\n0 unexpected"),
        (without("bn1.running_var"), r"1 missing: bn1\.running_var"),
        (with_value("layer7.0.weight", torch.ones(1)), r"1 unexpected: layer7\.0\.weight"),
        (without("conv1.weight"), r"no network with conv1\.weight.*\n1 missing: conv1\.weight"),
        (lambda state: state | below("second.", state), r"2 networks that begin with"),
        (lambda _: {}, r"\d+ missing: conv1\.weight, .* and \d+ more\.\n0 unexpected: none"),
        (
            lambda state: {n: v for n, v in state.items() if "layer" not in n},
            r"does not hold a resnet256_6_2_1",
        ),
        (
            with_value("layer2.0.conv1.weight", torch.ones(16, 8, 5, 5)),
            r"layer2\.0\.conv1\.weight is \[16, 8, 5, 5\], must be \[16, 8, 3, 3\]",
        ),
        (with_value("bn1.bias", [1.0]), r"bn1\.bias is list, must be \[8\]"),
        (with_value("bn1.bias", torch.full((8,), torch.nan)), r"not numbers in bn1\.bias"),
    ],
)
def test_wrong_names_sizes_and_values_are_named(path: Path, change, words: str) -> None:
    torch.save(change(network_state()), path)
    with pytest.raises(CheckpointError, match=words):
        load_image_encoder(path)


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def test_no_code_of_a_file_is_run(path: Path) -> None:
    mark = path.parent / "sprung"
    torch.save(network_state() | {"more": Trap(mark)}, path)
    with pytest.raises(CheckpointError, match="more than tensors and plain values"):
        load_image_encoder(path)
    assert not mark.exists()


@pytest.mark.parametrize("content", [torch.zeros(3), [1, 2], {1: torch.zeros(1)}])
def test_something_else(path: Path, content: Tensor | list[int]) -> None:
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"not a state dict. Save model\.state_dict"):
        load_image_encoder(path)


def test_no_file_a_folder_damage_and_a_pickled_model(path: Path) -> None:
    for place in (path, path.parent):
        with pytest.raises(CheckpointError, match="No checkpoint"):
            load_image_encoder(place)
    torch.save(network_state(), path)
    whole = bytearray(path.read_bytes())
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_image_encoder(path)
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_image_encoder(path)
    torch.save(ResNet256(), path)
    with pytest.raises(CheckpointError, match="save the state_dict, not the model itself"):
        load_image_encoder(path)
