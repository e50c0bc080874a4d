from pathlib import Path

import numpy as np
import pytest
import torch
from labelled_study import labelled_cache

from localmi.downstream.config import DownstreamConfig
from localmi.downstream.network import build_classifier, class_weights, origin, task_loss
from localmi.downstream.pretrained_encoder import PretrainedEncoder, load_image_encoder
from localmi.errors import ConfigError
from localmi.model.classifier import Classifier
from localmi.model.image import PAPERS, ResNet256, build_backbone
from localmi.model.torchvision_backbones import TorchvisionResNet


@pytest.fixture
def encoder(tmp_path: Path) -> PretrainedEncoder:
    """All six blocks, other than those of seed 0."""
    torch.manual_seed(7)
    torch.save(ResNet256(1).state_dict(), tmp_path / "model.pt")
    return load_image_encoder(tmp_path / "model.pt")


def config(**changes) -> DownstreamConfig:
    return DownstreamConfig(**({"init": "model.pt", "image_size": 64} | changes))


def test_what_is_not_pretrained_starts_anew_by_the_seed(encoder: PretrainedEncoder) -> None:
    weights = {name: value for name, value in encoder.weights.items() if "layer6" not in name}
    five = PretrainedEncoder(weights, blocks=5)
    tuned = build_classifier(config(), five).backbone.state_dict()
    again = build_classifier(config(), five).backbone.state_dict()
    other = build_classifier(config(seed=1), five).backbone.state_dict()
    alone = build_classifier(DownstreamConfig(), None).backbone.state_dict()
    for name, value in tuned.items():
        assert torch.equal(value, again[name])
        if name in weights:
            assert torch.equal(value, weights[name])
            assert torch.equal(value, other[name])
        elif value.ndim > 1:  # what is drawn
            assert not torch.equal(value, encoder.weights.get(name, torch.zeros(())))
            assert not torch.equal(value, other[name])
            assert torch.equal(value, alone[name])


@pytest.mark.parametrize(
    ("changes", "blocks", "frozen"),
    [
        ({"mode": "tuned"}, 6, 0),
        ({"mode": "frozen"}, 6, 5),
        ({"mode": "frozen"}, 4, 4),  # never a block that was not pretrained
        ({"mode": "frozen", "frozen_blocks": 3}, 4, 3),
        ({"mode": "frozen", "frozen_blocks": 9}, 6, 5),  # never the last one
        ({"mode": "probe"}, 6, 6),
        ({"mode": "probe"}, 4, 4),
    ],
)
def test_what_is_frozen(encoder, changes: dict, blocks: int, frozen: int) -> None:
    network = build_classifier(config(**changes), PretrainedEncoder(encoder.weights, blocks))
    assert network.frozen_blocks == frozen


def test_cells_where_it_was_pretrained_on_them(encoder: PretrainedEncoder) -> None:
    on_cells = PretrainedEncoder(encoder.weights, 4, grid=4, cells_after=2, local_block=4)
    network = build_classifier(config(region_context="region"), on_cells)
    assert (network.grid, network.cells_after, network.backbone.local_block) == (4, 2, 4)
    assert build_classifier(config(), on_cells).grid == 1
    with pytest.raises(ConfigError, match="pretrained on whole images.*Use 'image'"):
        build_classifier(config(region_context="region"), encoder)
    with pytest.raises(ConfigError, match="cells that 40 pixels cannot be cut into"):
        build_classifier(config(region_context="region", image_size=40), on_cells)


def test_what_it_started_from_in_words(encoder: PretrainedEncoder) -> None:
    cache, network = labelled_cache(8), Classifier(ResNet256(4), frozen_blocks=5)
    assert (
        origin(None, Classifier(ResNet256(4)), cache)
        == "image-only: all blocks and fc1 start anew"
    )
    words = origin(encoder, network, cache)
    assert "blocks 1 to 6 are loaded; fc1 starts anew; blocks 1 to 5 are frozen" in words
    assert "pretrained on other data" in words
    same = PretrainedEncoder(encoder.weights, 6, data_hash=cache.data_hash)
    assert "other data" not in origin(same, network, cache)


def of_resnet18(blocks: int) -> PretrainedEncoder:
    torch.manual_seed(7)
    weights = build_backbone("resnet18", image_size=64).state_dict()
    return PretrainedEncoder(weights, blocks, architecture="resnet18", local_block=3)


@pytest.mark.parametrize(
    ("changes", "blocks", "frozen"),
    [
        ({"mode": "tuned"}, 3, 0),
        ({"mode": "frozen"}, 3, 3),  # of a local run
        ({"mode": "frozen"}, 4, 3),  # of a global one
        ({"mode": "probe"}, 4, 4),
    ],
)
def test_another_network_is_that_of_its_checkpoint(
    changes: dict, blocks: int, frozen: int
) -> None:
    encoder = of_resnet18(blocks)
    network = build_classifier(config(**changes), encoder)
    named = build_classifier(config(image_encoder="resnet18", **changes), encoder)
    assert isinstance(network.backbone, TorchvisionResNet)
    assert network.frozen_blocks == named.frozen_blocks == frozen
    assert network.backbone.fc1.out_features == 9
    one, other = (each.backbone.state_dict() for each in (network, named))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert all(torch.equal(value, one[name]) for name, value in encoder.weights.items())


def test_image_only_can_be_another_network() -> None:
    alone = build_classifier(DownstreamConfig(image_encoder="resnet18", image_size=64), None)
    assert isinstance(alone.backbone, TorchvisionResNet)
    assert (alone.frozen_blocks, alone.grid) == (0, 1)
    papers = DownstreamConfig(image_encoder=PAPERS, image_size=64)
    for one in (papers, DownstreamConfig(image_size=64)):
        assert isinstance(build_classifier(one, None).backbone, ResNet256)
    with pytest.raises(ConfigError, match="image_encoder='resnet512' is not known"):
        build_classifier(DownstreamConfig(image_encoder="resnet512"), None)


def test_another_network_than_that_of_the_checkpoint_is_refused(encoder) -> None:
    with pytest.raises(ConfigError, match=r"image_encoder='resnet18', but model\.pt holds a res"):
        build_classifier(config(image_encoder="resnet18"), encoder)
    with pytest.raises(ConfigError, match=r"='resnet256_6_2_1', but model\.pt holds a resnet18"):
        build_classifier(config(image_encoder=PAPERS), of_resnet18(3))


# --- Loss -------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_of_findings_is_over_the_labels_that_count(weighted: bool) -> None:
    rng = np.random.default_rng(0)
    scores, targets = rng.normal(size=(5, 9)), rng.integers(2, size=(5, 9)).astype(float)
    mask, weights = rng.random((5, 9)) < 0.5, rng.uniform(1, 5, size=9)
    each = []
    for row, column in zip(*mask.nonzero(), strict=True):
        p = 1 / (1 + np.exp(-scores[row, column]))
        own = weights[column] if weighted else 1.0
        each.append(-own * np.log(p) if targets[row, column] else -np.log(1 - p))
    tensors = [torch.from_numpy(array) for array in (scores, targets, mask)]
    given = torch.from_numpy(weights) if weighted else None
    assert task_loss("pathology9", *tensors, given).item() == pytest.approx(np.mean(each))
    scores[~mask] = 100.0  # what is said where nothing counts
    tensors[0] = torch.from_numpy(scores)
    assert task_loss("pathology9", *tensors, given).item() == pytest.approx(np.mean(each))


@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_of_edema_is_the_cross_entropy_of_its_grade(weighted: bool) -> None:
    rng = np.random.default_rng(0)
    scores, grade, weights = rng.normal(size=(5, 4)), rng.integers(4, size=5), rng.random(4)
    each = [
        -(weights[own] if weighted else 1.0) * np.log(np.exp(row[own]) / np.exp(row).sum())
        for row, own in zip(scores, grade, strict=True)
    ]
    targets = torch.from_numpy(np.eye(4)[grade])
    given = torch.from_numpy(weights) if weighted else None
    found = task_loss("edema", torch.from_numpy(scores), targets, targets >= 0, given)
    assert found.item() == pytest.approx(np.mean(each))


def test_class_weights_make_classes_count_the_same() -> None:
    targets = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
    mask = torch.tensor([[True, False, True]] * 4)
    assert class_weights("pathology9", targets, mask).tolist() == [3.0, 1.0, 1.0]
    mask[2:, 0] = False  # one present, one absent, two that do not count
    assert class_weights("pathology9", targets, mask).tolist() == [1.0, 1.0, 1.0]
    grades = torch.eye(4)[[0, 0, 0, 1, 1, 3]]
    weights = class_weights("edema", grades, grades >= 0)
    torch.testing.assert_close(weights, torch.tensor([6 / 9, 1.0, 1.0, 2.0]))
