"""Augmentation of a whole batch at once, on the device the batch is on."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from localmi.errors import DataError


@dataclass(frozen=True)
class Augmentation:
    """Random rotation, translation and crop; no flips, for a heart has a side.

    rotation: degrees, at most. translation: share of the side, at most. crop: smallest side of the
    random crop, as a share; the crop is resized to the full side. The paper (Sec. 4) names the
    three, and no numbers: these are ours.
    """

    rotation: float = 20.0
    translation: float = 0.1
    crop: float = 0.9

    def __call__(
        self,
        images: Tensor,
        generator: torch.Generator,
        *,
        among: int | None = None,
        first: int = 0,
    ) -> Tensor:
        """Images [B, C, H, W], normalised -> the same shape, each moved in its own way.

        Args:
            among, first: the images are `first`, `first + 1`, ... of so many: they are moved as if
                all were here.

        Raises:
            DataError: pixels that are not floats: not normalised yet.
        """
        if not images.is_floating_point():
            raise DataError(
                f"Pixels of type {images.dtype} cannot be moved: `normalise` them first."
            )

        def uniform(low: float, high: float) -> Tensor:
            drawn = torch.rand(among or len(images), generator=generator)
            drawn = drawn[first : first + len(images)]
            return (low + (high - low) * drawn).to(images)

        angle = torch.deg2rad(uniform(-self.rotation, self.rotation))
        scale = uniform(self.crop, 1.0)
        shift = torch.stack([uniform(-2.0, 2.0), uniform(-2.0, 2.0)], -1) * self.translation
        rows = torch.stack(
            [
                torch.stack([angle.cos(), -angle.sin()], -1),
                torch.stack([angle.sin(), angle.cos()], -1),
            ],
            -2,
        )  # [B, 2, 2]
        affine = torch.cat([rows * scale[:, None, None], shift[:, :, None]], -1)  # [B, 2, 3]
        grid = affine_grid(affine, images.shape[2], images.shape[3])
        return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def affine_grid(affine: Tensor, height: int, width: int) -> Tensor:
    """Where each pixel comes from by affine maps [B, 2, 3]: [B, H, W, 2].

    As `functional.affine_grid` with one product for the batch, not one an image.
    """
    still = torch.eye(2, 3).to(affine)[None]
    places = functional.affine_grid(still, [1, 1, height, width], align_corners=False)
    moved = affine[:, :, :2] @ places.flatten(0, 2).T + affine[:, :, 2:]  # [B, 2, H * W]
    return moved.unflatten(2, (height, width)).permute(0, 2, 3, 1)
