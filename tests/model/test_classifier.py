import pytest
import torch
from torch import Tensor

from localmi.model.backbone import Backbone
from localmi.model.cells import to_cells
from localmi.model.classifier import Classifier
from localmi.model.image import ResNet256, build_backbone, build_image_encoder


def images(size: int = 64, number: int = 3) -> Tensor:
    return torch.randn(number, 1, size, size, generator=torch.Generator().manual_seed(0))


def with_statistics(network: Backbone) -> Backbone:
    """Running statistics that are not those of a new network."""
    network.train()
    with torch.no_grad():
        network.pooled(images())
    return network


def test_it_is_the_papers_network() -> None:
    network, paper = Classifier(ResNet256(9), frozen_blocks=5), with_statistics(ResNet256(9))
    network.backbone.load_state_dict(paper.state_dict())  # strict: the same names
    network.eval(), paper.eval()
    assert torch.equal(network(images()), paper(images()))


@pytest.mark.parametrize("blocks", range(7))
def test_frozen_features_and_the_rest_are_the_whole(blocks: int) -> None:
    network = Classifier(ResNet256(4), frozen_blocks=blocks)
    paper = with_statistics(ResNet256(4))
    network.backbone.load_state_dict(paper.state_dict())
    network.eval(), paper.eval()
    features = network.frozen_features(images())
    assert features.shape[2] == 64 >> blocks
    assert torch.equal(network.trained_scores(features), paper(images()))


@pytest.mark.parametrize(
    ("name", "blocks"),
    [*(("resnet18", blocks) for blocks in (1, 3, 4)), *(("vit_b_16", n) for n in (1, 2, 3))],
)
def test_of_another_network_too(small_vit, name: str, blocks: int) -> None:
    backbone = with_statistics(build_backbone(name, image_size=64, num_classes=4))
    network = Classifier(backbone, frozen_blocks=blocks)
    network.eval()
    whole = backbone.fc1(backbone.pooled(images()))
    assert whole.shape == (3, 4)
    features = network.frozen_features(images())
    assert not features.requires_grad
    assert torch.equal(network.trained_scores(features), whole)
    assert torch.equal(network(images()), whole)
    assert torch.equal(network.block(images(), blocks), features)


@pytest.mark.parametrize(
    ("name", "frozen", "moving"),
    [
        ("resnet256_6_2_1", 5, {"layer6", "fc1"}),
        ("resnet18", 3, {"features.layer4", "fc1"}),
        ("vit_b_16", 2, {"features.encoder.layers.encoder_layer_2", "features.encoder.ln", "fc1"}),
    ],
)
def test_frozen_blocks_and_their_statistics_do_not_move(
    small_vit, name: str, frozen: int, moving: set[str]
) -> None:
    backbone = build_backbone(name, image_size=64, num_classes=4)
    network = Classifier(backbone, frozen_blocks=frozen)
    torch.nn.init.normal_(backbone.fc1.bias)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    optimiser = torch.optim.Adam([part for part in network.parameters() if part.requires_grad])
    network.train()
    network(images()).square().sum().backward()
    optimiser.step()
    moved = {key for key, value in backbone.state_dict().items() if not before[key].equal(value)}
    assert all(any(key.startswith(f"{part}.") for part in moving) for key in moved)
    assert all(any(key.startswith(f"{part}.") for key in moved) for part in moving)
    for key, weight in backbone.named_parameters():
        assert (weight.grad is None) == backbone.holds(key, frozen), key
    for key, part in backbone.named_modules():
        if backbone.holds(key, frozen):
            assert not part.training, key
    assert all(backbone.get_submodule(part).training for part in moving)


def test_the_statistics_of_what_is_trained_move() -> None:
    network = Classifier(ResNet256(4), frozen_blocks=5)
    before = {name: value.clone() for name, value in network.backbone.named_buffers()}
    network.train()
    network(images())
    after = dict(network.backbone.named_buffers())
    moved = {name for name, value in before.items() if not after[name].equal(value)}
    assert "layer6.0.bn1.running_mean" in moved
    assert {name.split(".")[0] for name in moved} == {"layer6"}


def test_without_frozen_blocks_everything_moves() -> None:
    network = Classifier(ResNet256(4))
    network.train()
    network(images()).square().sum().backward()
    assert all(part.grad is not None for part in network.parameters())
    assert all(part.training for part in network.modules())
    assert network.frozen_features(images()).equal(images())


def test_what_is_not_named_stays_as_it_is() -> None:
    network, other = Classifier(ResNet256(9)), with_statistics(ResNet256(1))
    before = {name: value.clone() for name, value in network.backbone.state_dict().items()}
    loaded = {name: value for name, value in other.state_dict().items() if "layer3" in name}
    network.load_blocks(loaded)
    for name, value in network.backbone.state_dict().items():
        assert torch.equal(value, loaded.get(name, before[name]))


@pytest.mark.parametrize("cells_after", [0, 2])
def test_blocks_see_the_cells_they_were_pretrained_on(cells_after: int) -> None:
    encoder = build_image_encoder(
        image_size=128, context="region", cells_after=cells_after, local_block=4
    )
    encoder.regions(images(128))  # moves the statistics
    network = Classifier(ResNet256(9, local_block=4), grid=4, cells_after=cells_after)
    weights = encoder.backbone.state_dict()
    network.load_blocks({name: weights[name] for name in weights if "fc1" not in name})
    encoder.eval(), network.eval()
    block = network.block(images(128), 4)  # [B, 64, 8, 8]
    regions = to_cells(block, 4).flatten(1).unflatten(0, (-1, 16))
    torch.testing.assert_close(regions, encoder.regions(images(128)), rtol=1e-5, atol=1e-6)
    assert network(images(128)).shape == (3, 9)
    whole = Classifier(ResNet256(9))
    whole.load_state_dict(network.state_dict())
    assert not torch.allclose(whole.eval().block(images(128), 4), block, atol=1e-2)


@pytest.mark.parametrize("frozen", range(1, 7))
def test_cells_do_not_depend_on_what_is_frozen(frozen: int) -> None:
    """The cut into cells lies among the frozen blocks, among the trained ones, or between."""
    cut = {"grid": 4, "cells_after": 2}
    all_trained = Classifier(ResNet256(9, local_block=4), **cut)
    network = Classifier(ResNet256(9, local_block=4), frozen_blocks=frozen, **cut)
    network.load_state_dict(all_trained.state_dict())
    network.eval(), all_trained.eval()
    torch.testing.assert_close(network(images(128)), all_trained(images(128)))
