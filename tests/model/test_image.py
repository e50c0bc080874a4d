import pytest
import torch

from localmi.errors import ConfigError
from localmi.model.image import ResNet256, build_image_encoder


def test_the_papers_network_has_its_parameters_and_names() -> None:
    network = ResNet256(num_classes=1)
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_945_033
    names = {name.split(".")[0] for name in network.state_dict()}
    assert names == {"conv1", "bn1", "fc1", *(f"layer{stage}" for stage in range(1, 7))}
    inside = {name for name in network.state_dict() if name.startswith("layer1.0")}
    assert {"layer1.0.conv1.weight", "layer1.0.bn2.running_var"} <= inside
    assert {"layer1.0.downsample.0.weight", "layer1.0.downsample.1.bias"} <= inside
    assert not any("downsample" in name for name in network.state_dict() if ".1.down" in name)


def test_shapes_of_the_stages_and_of_the_two_features() -> None:
    network = ResNet256()
    images = torch.randn(2, 1, 256, 256)
    assert network.stage(images, 5).shape == (2, 128, 8, 8)
    assert network.stage(images, 6).shape == (2, 192, 4, 4)
    assert network.pooled(images).shape == (2, 768)
    assert network(images).shape == (2, 1)


def test_sixteen_regions_hold_the_numbers_of_the_local_block() -> None:
    encoder = build_image_encoder(image_size=256).eval()
    images = torch.randn(2, 1, 256, 256)
    block = encoder.backbone.stage(images, 5)
    regions = encoder.regions(images)
    assert regions.shape == (2, 16, 512)
    for row in range(4):
        for column in range(4):
            cell = block[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert torch.equal(regions[:, 4 * row + column], cell.flatten(1))


def test_the_grid_can_be_as_fine_as_the_block() -> None:
    encoder = build_image_encoder(image_size=256, grid=8)
    assert encoder.regions(torch.randn(1, 1, 256, 256)).shape == (1, 64, 128)
    assert encoder.region_dim == 128


@pytest.mark.parametrize("context", ["image", "region"])
def test_a_region_of_its_own_context_sees_nothing_else(context: str) -> None:
    encoder = build_image_encoder(image_size=128, context=context).eval()
    images = torch.randn(1, 1, 128, 128)
    changed = images.clone()
    changed[:, :, :32, 96:] = 0  # the top right cell, region 3
    moved = (encoder.regions(images) - encoder.regions(changed)).abs().amax(dim=(0, 2)) > 1e-6
    if context == "region":
        assert moved.nonzero().flatten().tolist() == [3]
    else:
        assert moved.sum() > 1


def test_cells_of_a_region_context_are_the_cells_of_the_image() -> None:
    encoder = build_image_encoder(image_size=128, context="region").eval()
    torch.nn.init.normal_(encoder.place)
    images = torch.randn(2, 1, 128, 128)
    regions = encoder.regions(images)
    for number in range(16):
        row, column = divmod(number, 4)
        cell = images[:, :, 32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
        alone = encoder.backbone.stage(cell, 5).flatten(1) + encoder.place[number]
        torch.testing.assert_close(regions[:, number], alone, rtol=1e-4, atol=1e-5)


def test_cells_cut_after_two_blocks_see_a_little_beyond_their_border() -> None:
    encoder = build_image_encoder(image_size=256, context="region", cells_after=2).eval()
    images = torch.randn(1, 1, 256, 256)
    near, far = images.clone(), images.clone()
    near[:, :, :64, 68:80] = 0  # within 22 pixels of region 0
    far[:, :, :64, 90:128] = 0  # further away
    unchanged = encoder.regions(images)[:, 0]
    assert not torch.allclose(encoder.regions(near)[:, 0], unchanged, atol=1e-6)
    assert torch.allclose(encoder.regions(far)[:, 0], unchanged, atol=1e-6)


def test_with_the_whole_image_as_context_it_does_not_matter_where_cells_would_be_cut() -> None:
    cut = build_image_encoder(image_size=128, cells_after=2).eval()
    plain = build_image_encoder(image_size=128).eval()
    plain.load_state_dict(cut.state_dict())
    images = torch.randn(1, 1, 128, 128)
    assert torch.equal(cut.regions(images), plain.regions(images))


def test_building_an_encoder_leaves_the_running_statistics_alone() -> None:
    encoder = build_image_encoder(image_size=128)
    assert torch.equal(encoder.backbone.bn1.running_mean, torch.zeros(8))
    assert encoder.training


@pytest.mark.parametrize(
    ("name", "image_size", "grid", "regions", "pooled"),
    [("resnet18", 64, 4, (1, 16, 256), (1, 512)), ("vit_b_16", 64, 4, (1, 16, 768), (1, 768))],
)
def test_encoders_of_torchvision(
    name: str,
    image_size: int,
    grid: int,
    regions: tuple[int, ...],
    pooled: tuple[int, ...],
) -> None:
    encoder = build_image_encoder(name, image_size=image_size, grid=grid)
    images = torch.randn(1, 1, image_size, image_size)
    encoder.eval()
    assert encoder.regions(images).shape == regions
    assert encoder.pooled(images).shape == pooled


def test_unknown_encoder_and_a_grid_that_does_not_divide() -> None:
    with pytest.raises(ConfigError, match="resnet256_6_2_1"):
        build_image_encoder("resnet512")
    with pytest.raises(ConfigError, match="divisor of 8"):
        build_image_encoder(image_size=256, grid=3)
    with pytest.raises(ConfigError, match="cut from the pixels"):
        build_image_encoder("resnet18", image_size=64, cells_after=2)
