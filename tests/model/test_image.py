import copy
import re
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models import resnet18
from torchvision.models.feature_extraction import create_feature_extractor

from localmi.errors import ConfigError
from localmi.model import torchvision_backbones
from localmi.model.backbone import Backbone
from localmi.model.cells import from_cells, to_cells
from localmi.model.image import (
    PAPERS,
    ResNet256,
    build_backbone,
    build_image_encoder,
    known_encoders,
)


def test_the_papers_network_has_its_parameters_and_names() -> None:
    network = ResNet256(num_classes=1)
    assert sum(parameter.numel() for parameter in network.parameters()) == 1_945_033
    names = {name.split(".")[0] for name in network.state_dict()}
    assert names == {"conv1", "bn1", "fc1", *(f"layer{stage}" for stage in range(1, 7))}
    inside = {name for name in network.state_dict() if name.startswith("layer1.0")}
    assert {"layer1.0.conv1.weight", "layer1.0.bn2.running_var"} <= inside
    assert {"layer1.0.downsample.0.weight", "layer1.0.downsample.1.bias"} <= inside
    assert not any("downsample" in name for name in network.state_dict() if ".1.down" in name)


def test_shapes_of_the_blocks_and_of_the_two_features() -> None:
    network = ResNet256()
    images = torch.randn(2, 1, 256, 256)
    assert network.blocks(images, 1, 5).shape == (2, 128, 8, 8)
    assert network.blocks(images, 1, 6).shape == (2, 192, 4, 4)
    assert network.pooled(images).shape == (2, 768)
    assert network(images).shape == (2, 1)


def test_sixteen_regions_hold_the_numbers_of_the_local_block() -> None:
    encoder = build_image_encoder(image_size=256).eval()
    images = torch.randn(2, 1, 256, 256)
    block = encoder.backbone.blocks(images, 1, 5)
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


def regions_that_differ(some: Tensor, others: Tensor) -> list[int]:
    """Of one image, [1, N, D]: those that rounding alone, in all layers, does not explain."""
    rounding = 128 * torch.finfo(some.dtype).eps * some.abs().max()
    return ((some - others).abs().amax(dim=(0, 2)) > rounding).nonzero().flatten().tolist()


@pytest.mark.parametrize("context", ["image", "region"])
def test_a_region_of_its_own_context_sees_nothing_else(context: str) -> None:
    encoder = build_image_encoder(image_size=128, context=context).eval()
    images = torch.randn(1, 1, 128, 128)
    changed = images.clone()
    changed[:, :, :32, 96:] = 0  # the top right cell, region 3
    moved = regions_that_differ(encoder.regions(images), encoder.regions(changed))
    if context == "region":
        assert moved == [3]
    else:
        assert len(moved) > 1


def test_cells_of_a_region_context_are_the_cells_of_the_image() -> None:
    encoder = build_image_encoder(image_size=128, context="region").eval()
    torch.nn.init.normal_(encoder.place)
    images = torch.randn(2, 1, 128, 128)
    regions = encoder.regions(images)
    for number in range(16):
        row, column = divmod(number, 4)
        cell = images[:, :, 32 * row : 32 * row + 32, 32 * column : 32 * column + 32]
        alone = encoder.backbone.blocks(cell, 1, 5).flatten(1) + encoder.place[number]
        torch.testing.assert_close(regions[:, number], alone, rtol=1e-4, atol=1e-5)


def test_cells_cut_after_two_blocks_see_a_little_beyond_their_border() -> None:
    encoder = build_image_encoder(image_size=256, context="region", cells_after=2).eval()
    images = torch.randn(1, 1, 256, 256)
    near, far = images.clone(), images.clone()
    near[:, :, :64, 68:80] = 0  # within 22 pixels of region 0
    far[:, :, :64, 90:128] = 0  # further away
    unchanged = encoder.regions(images)
    assert 0 in regions_that_differ(encoder.regions(near), unchanged)
    assert 0 not in regions_that_differ(encoder.regions(far), unchanged)


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


def test_cells_and_back() -> None:
    x = torch.randn(3, 1, 8, 8)
    cells = to_cells(x, 4)
    assert cells.shape == (3 * 16, 1, 2, 2)
    assert torch.equal(cells[16 + 4 * 1 + 2], x[1, :, 2:4, 4:6])
    assert torch.equal(from_cells(cells, 4), x)


# --- Numbered blocks --------------------------------------------------------------------------

KINDS = [PAPERS, "resnet18", "vit_b_16"]


def network_of(name: str) -> Backbone:
    """With statistics that are not those of a new network."""
    backbone = build_backbone(name, image_size=64, num_classes=2)
    with torch.no_grad():
        backbone.pooled(torch.randn(4, 1, 64, 64))
    return backbone.eval()


@pytest.mark.parametrize("name", KINDS)
def test_blocks_in_two_parts_are_the_whole(small_vit, name: str) -> None:
    network, images = network_of(name), torch.randn(2, 1, 64, 64)
    last = network.num_blocks
    whole = network.blocks(images, 1, last)
    assert torch.equal(network.blocks(images, 1, 0), network.stem(images))
    for block in range(1, last):
        part = network.blocks(images, 1, block)
        assert not (part.shape == whole.shape and torch.equal(part, whole))
        assert torch.equal(network.blocks(part, block + 1, last), whole)
    assert torch.equal(network.blocks(whole, last + 1, last), whole)  # none is left
    assert torch.equal(network.pool(whole), network.pooled(images))
    assert network.pooled(images).shape == (2, network.pooled_dim)


def passed(network: Backbone, images: Tensor) -> tuple[Tensor, int]:
    """A forward and a backward pass while it trains; numbers that were kept between them."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes() // 4
        return tensor

    torch.manual_seed(1)  # of dropout
    network.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        pooled = network.pooled(images)
    pooled.square().sum().backward()
    return pooled.detach(), sum(kept.values())


@pytest.mark.parametrize("name", KINDS)
def test_blocks_that_are_computed_again_give_the_same_with_less_memory(
    small_vit, name: str
) -> None:
    plain, images = network_of(name), torch.randn(8, 1, 64, 64)
    again = copy.deepcopy(plain)
    again.checkpointing = True
    (expected, kept), (found, kept_again) = (passed(one, images) for one in (plain, again))
    assert torch.equal(found, expected)
    assert kept_again < kept / 2
    for (key, one), other in zip(plain.named_parameters(), again.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None), key
        assert one.grad is None or torch.equal(other.grad, one.grad), key
    for (key, one), other in zip(plain.named_buffers(), again.buffers(), strict=True):
        assert torch.equal(one, other), key  # the running statistics have moved once
    again.eval()
    with torch.no_grad():
        assert torch.equal(again.pooled(images), plain.eval().pooled(images))


def test_blocks_are_computed_again_with_the_statistics_of_several_gpus_too() -> None:
    plain, images = network_of(PAPERS), torch.randn(8, 1, 64, 64)
    again = torch.nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(plain))
    again.checkpointing = True
    (expected, _), (found, _) = (passed(one, images) for one in (plain, again))
    torch.testing.assert_close(found, expected)
    for one, other in zip(plain.buffers(), again.buffers(), strict=True):
        torch.testing.assert_close(other, one)


@pytest.mark.parametrize("name", KINDS)
def test_each_part_belongs_to_the_block_it_changes(small_vit, name: str) -> None:
    network, images = network_of(name), torch.randn(2, 1, 64, 64)
    last = network.num_blocks
    names = list(network.state_dict())
    assert not any(network.holds(one, 0) for one in names)
    outside = {one for one in names if not network.holds(one, last)}
    assert outside == {"fc1.weight", "fc1.bias"}
    for block in range(1, last + 1):
        network.zero_grad()
        network.blocks(images, 1, block).square().sum().backward()
        for one, weight in network.named_parameters():
            assert (weight.grad is not None) == network.holds(one, block), (block, one)


def test_a_block_does_not_hold_those_whose_name_begins_alike(small_vit, monkeypatch) -> None:
    """encoder_layer_1, and encoder_layer_10 to 11."""
    monkeypatch.setattr(
        torchvision_backbones, "get_model", lambda *_, **__: small_vit(num_layers=12)
    )
    network = build_backbone("vit_b_16", image_size=64)
    layer = "features.encoder.layers.encoder_layer_{}.ln_1.weight"
    held = [number for number in range(12) if network.holds(layer.format(number), 2)]
    assert held == [0, 1]
    assert network.holds("features.class_token", 1)
    assert not network.holds("features.encoder.ln.weight", 11)
    assert network.holds("features.encoder.ln.weight", 12)


@pytest.mark.parametrize("cells_after", [0, 2, 4])
def test_blocks_that_see_cells_can_be_run_in_two_parts(cells_after: int) -> None:
    network, images = ResNet256(local_block=4).eval(), torch.randn(2, 1, 64, 64)
    cut = {"grid": 4, "cells_after": cells_after}
    whole = network.run(images, 1, 6, **cut)
    for block in range(1, 6):
        part = network.run(images, 1, block, **cut)
        assert part.shape[2] == 64 >> block
        found = network.run(part, block + 1, 6, **cut)
        torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-5)
    uncut = network.blocks(images, 1, 6)
    assert torch.allclose(whole, uncut, rtol=1e-4, atol=1e-5) == (cells_after == 4)
    assert torch.equal(network.run(images, 1, 6), uncut)


def test_only_the_blocks_of_the_regions_see_cells() -> None:
    """As written: blocks 1 and 2 of the image, 3 and 4 of each cell, 5 and 6 of the image."""
    network, images = ResNet256(local_block=4).eval(), torch.randn(2, 1, 64, 64)
    early = network.blocks(images, 1, 2)
    cells = [
        network.blocks(early[:, :, row : row + 4, column : column + 4], 3, 4)
        for row in range(0, 16, 4)
        for column in range(0, 16, 4)
    ]
    rows = [torch.cat(cells[first : first + 4], dim=3) for first in range(0, 16, 4)]
    expected = network.blocks(torch.cat(rows, dim=2), 5, 6)
    found = network.run(images, 1, 6, grid=4, cells_after=2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


# --- Networks of torchvision ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "regions", "pooled"),
    [("resnet18", (1, 16, 256), (1, 512)), ("vit_b_16", (1, 16, 64), (1, 16))],
)
def test_encoders_of_torchvision(
    small_vit, name: str, regions: tuple[int, ...], pooled: tuple[int, ...]
) -> None:
    encoder = build_image_encoder(name, image_size=64, grid=4)
    images = torch.randn(1, 1, 64, 64)
    encoder.eval()
    assert encoder.regions(images).shape == regions
    assert encoder.pooled(images).shape == pooled
    assert (encoder.region_dim, encoder.pooled_dim) == (regions[2], pooled[1])


def test_a_resnet_gives_what_torchvisions_own_does() -> None:
    network, images = network_of("resnet18"), torch.randn(2, 1, 64, 64)
    theirs = resnet18().eval()
    found = theirs.load_state_dict(
        {name.removeprefix("features."): value for name, value in network.state_dict().items()},
        strict=False,
    )
    assert found.missing_keys == ["fc.weight", "fc.bias"]
    assert found.unexpected_keys == ["fc1.weight", "fc1.bias"]
    nodes = {"layer3": "local", "flatten": "pooled"}
    expected = create_feature_extractor(theirs, nodes)(images.expand(-1, 3, -1, -1))
    block = network.blocks(images, 1, network.local_block)
    assert torch.equal(network.local_map(block), expected["local"])
    assert torch.equal(network.pooled(images), expected["pooled"])


def tokens_of(network: Backbone, images: Tensor) -> Tensor:
    """By torchvision's own encoder, as its `forward` calls it."""
    theirs = network.features
    patches = theirs._process_input(images.expand(-1, 3, -1, -1))
    return theirs.encoder(torch.cat([theirs.class_token.expand(len(images), 1, -1), patches], 1))


def test_a_vit_gives_what_torchvisions_own_does(small_vit) -> None:
    network = network_of("vit_b_16").double()
    images = torch.randn(2, 1, 64, 64, dtype=torch.float64)
    torch.nn.init.normal_(network.features.class_token)
    assert (network.num_blocks, network.local_block, network.pooled_dim) == (3, 3, 16)
    tokens = tokens_of(network, images)
    last = network.blocks(images, 1, 3)
    close = partial(torch.testing.assert_close, rtol=0, atol=1e-12)  # one channel for their three
    close(last, tokens)
    assert torch.equal(network.pool(last), last[:, 0])
    close(network.pooled(images), network.features(images.expand(-1, 3, -1, -1)))
    places = network.local_map(last)
    assert places.shape == (2, 16, 8, 8)
    for row in range(8):
        for column in range(8):
            assert torch.equal(places[:, :, row, column], last[:, 1 + 8 * row + column])
    names = {name for name in small_vit().state_dict() if not name.startswith("heads")}
    own = {name.removeprefix("features.") for name in network.state_dict()}
    assert own == names | {"fc1.weight", "fc1.bias"}


def test_a_region_of_a_resnet_can_be_cut_from_the_pixels() -> None:
    encoder = build_image_encoder("resnet18", image_size=128, context="region").eval()
    images = torch.randn(1, 1, 128, 128)
    changed = images.clone()
    changed[:, :, :32, 96:] = 0  # the top right cell, region 3
    moved = regions_that_differ(encoder.regions(images), encoder.regions(changed))
    assert moved == [3]


def test_a_vit_cannot_see_cells(small_vit) -> None:
    """It is built for images of one size, and its patches are no map that could be cut."""
    with pytest.raises(ConfigError, match="vit_b_16"):
        build_image_encoder("vit_b_16", image_size=64, context="region")


def test_only_where_classes_are_asked_for_there_is_fc1(small_vit) -> None:
    for name in ("resnet18", "vit_b_16"):
        assert build_backbone(name, image_size=64).fc1 is None
        fc1 = build_backbone(name, image_size=64, num_classes=5).fc1
        assert fc1 is not None
        assert fc1.out_features == 5
    assert build_backbone(num_classes=5).fc1.out_features == 5
    assert build_backbone().fc1.out_features == 1  # the published checkpoints have it


@pytest.mark.parametrize("name", [PAPERS, "resnet18"])
def test_a_new_encoder_is_to_be_trained_and_has_seen_no_image(name: str) -> None:
    encoder = build_image_encoder(name, image_size=128)
    assert all(module.training for module in encoder.modules())
    batches = [value for key, value in encoder.state_dict().items() if "batches_tracked" in key]
    assert batches
    assert not any(batches)


# --- Sizes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [128, 224, 320])
@pytest.mark.parametrize("name", [PAPERS, "resnet18", "vit_b_16"])
def test_a_value_of_a_block_stands_for_as_many_pixels_as_its_stride(name: str, size: int) -> None:
    with torch.device("meta"):
        network = build_backbone(name, image_size=size)
        assert network.stride(0) == 1
        for block in range(1, network.num_blocks + 1):
            found = network.blocks(torch.zeros(1, 1, size, size), 1, block)
            if name.startswith("vit"):
                found = network.local_map(found)
            assert found.shape[-1] == -(-size // network.stride(block))  # the last one rounds up


@pytest.mark.parametrize(
    ("size", "grid"), [(96, 3), (224, 4), (224, 7), (240, 5), (320, 4), (320, 5), (384, 4)]
)
def test_a_region_is_its_share_of_the_pixels_at_any_size(size: int, grid: int) -> None:
    encoder = build_image_encoder(image_size=size, grid=grid, context="region").eval()
    images, cell, number = torch.randn(1, 1, size, size), size // grid, grid**2 - 2
    row, column = (cell * place for place in divmod(number, grid))
    changed = images.clone()
    changed[:, :, row : row + cell, column : column + cell] = 0
    moved = (encoder.regions(images) - encoder.regions(changed)).abs().amax(dim=(0, 2)) > 1e-6
    assert moved.nonzero().flatten().tolist() == [number]


REGION = {"context": "region", "cells_after": 2, "local_block": 4}  # as in chapter 7


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image_size": 100, **REGION}, "grid=4: .* 25 x 25 at image_size=100.*divisor of 25"),
        ({"image_size": 100, "grid": 3}, "image_size=100, grid=3.*32 x 32.*image_size=192 or 96"),
        ({"image_size": 70, **REGION}, "image_size=70, grid=4.*image_size=80 or 64"),
        ({"image_size": 300}, "image_size=300, grid=4: .* block 5.*image_size=384 or 256"),
        ({"image_size": 224}, "grid=4.* 7 x 7 .*divisor of 7"),
        ({"image_size": 128, "grid": 5, **REGION}, "grid=5: .* 32 x 32 .*divisor of 32"),
        ({"image_size": 128, "grid": 3, "context": "region"}, "128 x 128 .*divisor of 128"),
        ({"name": "resnet18", "image_size": 250}, "250, grid=4: .*16 x 16.*=256 or 192"),
        ({"name": "resnet18", "image_size": 256, "grid": 5}, "divisor of 16"),
        ({"name": "vit_b_16", "image_size": 100}, "patches of 16 x 16.*image_size=112 or 96"),
        ({"name": "vit_h_14", "image_size": 256}, "patches of 14 x 14.*image_size=266 or 252"),
        ({"name": "vit_b_32", "image_size": 80}, r"patches of 32 x 32.*image_size=96 or 64\."),
        (
            {"name": "vit_b_16", "image_size": 128, **REGION},
            "vit_b_16 .*not their cells: use region_context='image' and cells_after=0, or resnet",
        ),
        ({"name": "resnet18", "image_size": 128, **REGION}, "from the pixels: use cells_after=0,"),
    ],
)
def test_what_an_encoder_does_not_take_is_refused_with_what_it_takes(
    options: dict[str, Any], words: str
) -> None:
    """And whoever follows the words, as often as there are some, gets an encoder."""
    with torch.device("meta"), pytest.raises(ConfigError, match=words) as caught:
        build_image_encoder(**options)
    for advised in followed(options, str(caught.value)):
        for _ in range(3):
            try:
                with torch.device("meta"):
                    encoder = build_image_encoder(**advised)
            except ConfigError as error:
                advised = followed(advised, str(error))[0]
            else:
                break
        assert encoder.grid == advised.get("grid", 4)


def followed(options: dict[str, Any], message: str) -> list[dict[str, Any]]:
    """The options as each of the ways that a message names would have them."""
    advice, ways = message.rpartition("se ")[2], []
    if sizes := re.search(r"image_size=(\d+)(?: or (\d+))?", advice):
        ways += [options | {"image_size": int(size)} for size in sizes.groups() if size]
    if number := re.search(r"divisor of (\d+)", advice):
        side = int(number[1])
        ways += [options | {"grid": grid} for grid in range(1, side + 1) if side % grid == 0]
    if ways:
        return ways
    changes = {"region_context='image'": ("context", "image"), "cells_after=0": ("cells_after", 0)}
    set_to = dict(change for words, change in changes.items() if words in advice)
    assert set_to
    return [options | set_to]


def test_unknown_encoder_and_a_grid_that_does_not_divide() -> None:
    with pytest.raises(ConfigError, match="resnet256_6_2_1"):
        build_image_encoder("resnet512")
    with pytest.raises(ConfigError, match=r"image_encoder='resnet512' is not known.*vit_b_16"):
        build_backbone("resnet512")
    with pytest.raises(ConfigError, match="divisor of 8"):
        build_image_encoder(image_size=256, grid=3)
    with pytest.raises(ConfigError, match="cut from the pixels"):
        build_image_encoder("resnet18", image_size=64, cells_after=2)
    assert known_encoders()[0] == PAPERS


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet256_6_2_1", {"local_block": 4}),
        ("resnet256_6_2_1", {"local_block": 4, "context": "region", "cells_after": 1}),
        ("resnet18", {"grid": 2}),
    ],
)
def test_regions_and_pooled_are_both_to_the_bit(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    encoder = build_image_encoder(name, image_size=64, **options).eval()
    images = torch.randn(2, 1, 64, 64)
    with torch.no_grad():
        regions, pooled = encoder.regions_and_pooled(images)
        assert torch.equal(regions, encoder.regions(images))
        assert torch.equal(pooled, encoder.pooled(images))
