import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from localmi.data.augment import Augmentation, affine_grid
from localmi.errors import DataError

SIDE = 64
CENTRE = (SIDE - 1) / 2
STILL = Augmentation(rotation=0, translation=0, crop=1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blob(x: float, y: float) -> Tensor:
    """[H, W], bright around a place given in pixels from the centre: x to the right, y down."""
    at = torch.arange(SIDE) - CENTRE
    return torch.exp(-((at[None, :] - x) ** 2 + (at[:, None] - y) ** 2) / 8)


def places(images: Tensor) -> Tensor:
    """[..., 2]: where the brightness of [..., H, W] lies, (x, y) in pixels from the centre."""
    at = torch.arange(SIDE) - CENTRE
    total = images.sum((-1, -2))
    x = (images.sum(-2) * at).sum(-1) / total
    y = (images.sum(-1) * at).sum(-1) / total
    return torch.stack([x, y], -1)


def moved(augmentation: Augmentation, *dots: tuple[float, float], count: int = 200) -> Tensor:
    """Where `count` random augmentations put these dots: [count, dots, 2]."""
    image = torch.stack([blob(*dot) for dot in dots])  # a dot a channel: all move alike
    return places(augmentation(image.expand(count, -1, -1, -1), generator()))


def test_without_settings_nothing_moves() -> None:
    images = torch.randn(3, 1, SIDE, SIDE, generator=generator())
    torch.testing.assert_close(STILL(images, generator()), images, rtol=0, atol=1e-4)


def test_translation_stays_within_its_share_and_uses_it() -> None:
    shift = moved(Augmentation(rotation=0, translation=0.1, crop=1), (5, -3))[:, 0]
    shift = shift - torch.tensor([5.0, -3.0])
    bound = 0.1 * SIDE
    assert shift.abs().max() <= bound + 0.05
    assert (shift.max(dim=0).values > 0.9 * bound).all()
    assert (shift.min(dim=0).values < -0.9 * bound).all()
    assert abs(torch.corrcoef(shift.T)[0, 1]) < 0.25  # the axes move on their own


def test_rotation_stays_within_its_degrees_and_uses_them() -> None:
    x, y = moved(Augmentation(rotation=20, translation=0, crop=1), (18, 0))[:, 0].T
    torch.testing.assert_close(torch.hypot(x, y), torch.full_like(x, 18), rtol=0, atol=0.1)
    angle = torch.rad2deg(torch.atan2(y, x))
    assert angle.abs().max() <= 20.3
    assert angle.max() > 18
    assert angle.min() < -18


def test_a_crop_enlarges_by_at_most_its_share() -> None:
    place = moved(Augmentation(rotation=0, translation=0, crop=0.8), (-16, 8))[:, 0]
    grown = place / torch.tensor([-16.0, 8.0])
    torch.testing.assert_close(grown[:, 0], grown[:, 1], rtol=0, atol=0.02)
    assert grown.min() > 0.99
    assert grown.max() < 1 / 0.8 + 0.01
    assert grown.min() < 1.03
    assert grown.max() > 1.2


def test_left_stays_left_and_nothing_is_mirrored() -> None:
    left, above, below = moved(Augmentation(), (-20, 0), (0, -10), (0, 10)).unbind(1)
    assert (left[:, 0] < -5).all()
    down, out = below - above, left - above
    turn = down[:, 0] * out[:, 1] - down[:, 1] * out[:, 0]
    assert (turn > 0).all()  # as before: (0, 20) x (-20, 10) > 0; a flip changes the sign


def test_each_image_moves_in_its_own_way() -> None:
    place = moved(Augmentation(), (10, 0), count=8)[:, 0]
    assert torch.pdist(place).min() > 0.01


def test_the_generator_decides_and_nothing_else() -> None:
    images = torch.randn(2, 1, SIDE, SIDE, generator=generator())
    state = torch.get_rng_state()
    once = Augmentation()(images, generator(1))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(Augmentation()(images, generator(1)), once)
    assert not torch.equal(Augmentation()(images, generator(2)), once)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_type_stay(dtype: torch.dtype) -> None:
    images = torch.randn(3, 2, 20, 20, dtype=dtype)
    before = images.clone()
    out = Augmentation()(images, generator())
    assert out.shape == images.shape
    assert out.dtype == dtype
    assert torch.equal(images, before)  # the batch itself is left alone


def test_what_comes_in_from_outside_is_like_the_border() -> None:
    images = torch.full((4, 1, SIDE, SIDE), 3.0)
    out = Augmentation(rotation=45, translation=0.3)(images, generator())
    torch.testing.assert_close(out, images)
    assert math.isclose(out.min().item(), 3, abs_tol=1e-5)


def test_pixels_that_are_not_normalised() -> None:
    with pytest.raises(DataError, match="torch.uint8 cannot be moved: `normalise` them first"):
        Augmentation()(torch.zeros(2, 1, 8, 8, dtype=torch.uint8), generator())


@pytest.mark.parametrize("size", [(4, 4), (5, 8), (1, 1)])
def test_the_places_are_those_of_torch(size: tuple[int, int]) -> None:
    affine = torch.randn(3, 2, 3, generator=generator())
    expected = functional.affine_grid(affine, [3, 1, *size], align_corners=False)
    torch.testing.assert_close(affine_grid(affine, *size), expected, rtol=1e-5, atol=1e-6)
