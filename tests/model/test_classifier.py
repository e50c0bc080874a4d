import pytest
import torch
from torch import Tensor

from localmi.model.classifier import Classifier, from_cells, parts_of, to_cells
from localmi.model.image import ResNet256, build_image_encoder


def images(size: int = 64, number: int = 3) -> Tensor:
    return torch.randn(number, 1, size, size, generator=torch.Generator().manual_seed(0))


def with_statistics(network: ResNet256) -> ResNet256:
    """Running statistics that are not those of a new network."""
    network.train()
    with torch.no_grad():
        network(images())
    return network


def test_it_is_the_papers_network() -> None:
    network, paper = Classifier(9, frozen_blocks=5), with_statistics(ResNet256(9))
    network.load_state_dict(paper.state_dict())  # strict: the same names
    network.eval(), paper.eval()
    assert torch.equal(network(images()), paper(images()))


@pytest.mark.parametrize("blocks", range(7))
def test_frozen_features_and_the_rest_are_the_whole(blocks: int) -> None:
    network, paper = Classifier(4, frozen_blocks=blocks), with_statistics(ResNet256(4))
    network.load_state_dict(paper.state_dict())
    network.eval(), paper.eval()
    features = network.frozen_features(images())
    assert features.shape[2] == 64 >> blocks
    assert torch.equal(network.trained_scores(features), paper(images()))


def test_frozen_blocks_and_their_statistics_do_not_move() -> None:
    network = Classifier(4, frozen_blocks=5)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimiser = torch.optim.Adam([part for part in network.parameters() if part.requires_grad])
    network.train()
    network(images()).square().sum().backward()
    optimiser.step()
    moved = {name for name, value in network.state_dict().items() if not before[name].equal(value)}
    assert {name.split(".")[0] for name in moved} == {"layer6", "fc1"}
    assert "layer6.0.bn1.running_mean" in moved
    assert all(part.grad is None for part in network.layer5.parameters())
    assert network.layer6.training
    assert not network.bn1.training
    assert not any(module.training for module in network.layer5.modules())


def test_without_frozen_blocks_everything_moves() -> None:
    network = Classifier(4)
    network.train()
    network(images()).square().sum().backward()
    assert all(part.grad is not None for part in network.parameters())
    assert parts_of(0) == []


def test_cells_and_back() -> None:
    x = images(size=8)
    cells = to_cells(x, 4)
    assert cells.shape == (3 * 16, 1, 2, 2)
    assert torch.equal(cells[16 + 4 * 1 + 2], x[1, :, 2:4, 4:6])
    assert torch.equal(from_cells(cells, 4), x)


@pytest.mark.parametrize("cells_after", [0, 2])
def test_blocks_see_the_cells_they_were_pretrained_on(cells_after: int) -> None:
    encoder = build_image_encoder(
        image_size=128, context="region", cells_after=cells_after, local_stage=4
    )
    encoder.regions(images(128))  # moves the statistics
    network = Classifier(9, grid=4, cells_after=cells_after, local_stage=4)
    network.load_blocks(
        encoder.backbone.state_dict()
        | {"fc1.weight": network.fc1.weight}
        | {"fc1.bias": network.fc1.bias}
    )
    encoder.eval(), network.eval()
    block = network.stage(images(128), 4)  # [B, 64, 8, 8]
    regions = to_cells(block, 4).flatten(1).unflatten(0, (-1, 16))
    torch.testing.assert_close(regions, encoder.regions(images(128)), rtol=1e-5, atol=1e-6)
    assert network(images(128)).shape == (3, 9)
    whole = Classifier(9)
    whole.load_state_dict(network.state_dict())
    assert not torch.allclose(whole.eval().stage(images(128), 4), block, atol=1e-2)
