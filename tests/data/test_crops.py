"""Views: what of an image a crop has, and that each image has its own."""

import math

import pytest
import torch
from torch import Tensor

from localmi.data.crops import Crops
from localmi.errors import ConfigError, DataError


def places(images: int, size: int = 40) -> Tensor:
    """Images whose two channels are their own coordinates, -1 to 1: [B, 2, S, S]."""
    line = (torch.arange(size) + 0.5) * 2 / size - 1
    x, y = torch.meshgrid(line, line, indexing="xy")
    return torch.stack([x, y]).expand(images, -1, -1, -1)


def extent(crop: Tensor) -> Tensor:
    """Width and height of the crops as shares of the image, [B, 2]; from their corners."""
    side = crop.shape[-1]
    width = (crop[:, 0, :, -1] - crop[:, 0, :, 0]).mean(dim=1) * side / (side - 1) / 2
    height = (crop[:, 1, -1] - crop[:, 1, 0]).mean(dim=1) * side / (side - 1) / 2
    return torch.stack([width, height], dim=1)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_areas_and_ratios_are_those_that_are_asked_for() -> None:
    crops = Crops(full=24, focal=12, num_focal=3, full_scale=(0.3, 0.6), focal_scale=(0.1, 0.2))
    target, anchor, focal = crops(places(300), generator())
    assert target.shape == anchor.shape == (300, 2, 24, 24)
    assert focal.shape == (900, 2, 12, 12)
    for crop, (low, high) in ((target, (0.3, 0.6)), (anchor, (0.3, 0.6)), (focal, (0.1, 0.2))):
        sides = extent(crop)
        area, ratio = sides.prod(dim=1), sides[:, 0] / sides[:, 1]
        inside = sides.max(dim=1).values < 0.97  # a side of 1 is cut off by the border
        assert (area[inside] > low - 0.02).all()
        assert (area < high + 0.02).all()
        assert (ratio > 3 / 4 - 0.05).all()
        assert (ratio < 4 / 3 + 0.07).all()
        assert area.mean().item() == pytest.approx((low + high) / 2, abs=0.02)
        assert ratio.log().mean().item() == pytest.approx(0, abs=0.03)


def test_a_crop_lies_within_the_image_and_anywhere_in_it() -> None:
    _, _, focal = Crops(full=24, focal=12, num_focal=1, focal_scale=(0.1, 0.1))(
        places(500), generator()
    )
    assert focal.abs().max() <= 1
    centre = focal.mean(dim=(2, 3))
    assert centre.mean(dim=0).abs().max() < 0.08
    assert centre.abs().max() > 0.55


def test_views_of_an_image_differ_and_the_seed_decides_them() -> None:
    crops = Crops(full=16, focal=8, num_focal=2)
    one, again = crops(places(3), generator()), crops(places(3), generator())
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one[0], one[1])
    assert not torch.equal(one[2][:3], one[2][3:])
    assert not torch.equal(one[0][0], one[0][1])


def test_nothing_is_mirrored_unless_it_is_asked_for() -> None:
    images = places(400)
    for flip, share in ((0.0, 0), (0.5, 0.5), (1.0, 1)):
        target, _, _ = Crops(full=16, focal=8, num_focal=0, flip=flip)(images, generator())
        mirrored = (extent(target)[:, 0] < 0).float().mean().item()
        assert mirrored == pytest.approx(share, abs=4 * math.sqrt(0.25 / 400) * (flip == 0.5))


def test_the_whole_image_is_itself() -> None:
    images = torch.rand(2, 1, 16, 16)
    exact = Crops(full=16, focal=8, num_focal=0, full_scale=(1.0, 1.0))
    target, _, focal = exact(images, generator())
    assert focal.shape == (0, 1, 8, 8)
    assert (target - images).abs().mean() < 0.2  # one side is whole, the other may be shorter


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"full_scale": (0.0, 1.0)}, r"full_scale=\(0.0, 1.0\)"),
        ({"focal_scale": (0.3, 0.2)}, r"focal_scale=\(0.3, 0.2\)"),
        ({"focal_scale": (0.3, 1.2)}, r"focal_scale=\(0.3, 1.2\)"),
        ({"focal": 0}, "cannot be made"),
        ({"flip": 1.5}, "cannot be made"),
    ],
)
def test_crops_that_cannot_be_are_refused(changes: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Crops(**({"full": 16, "focal": 8, "num_focal": 1} | changes))


def test_pixels_are_normalised_first() -> None:
    with pytest.raises(DataError, match="normalise"):
        Crops(16, 8, 0)(torch.zeros(1, 1, 16, 16, dtype=torch.uint8), generator())
