"""Views of an image: random crops of a whole batch at once, on the device that the batch is on."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from localmi.errors import ConfigError, DataError

RATIO = (3 / 4, 4 / 3)  # of the sides of a crop, as torchvision's RandomResizedCrop draws it


@dataclass(frozen=True)
class Crops:
    """Two large crops of each image, the target's and the anchor's, and some small ones.

    full, focal: sides of the crops in pixels, after resizing.
    num_focal: small crops an image.
    full_scale, focal_scale: what a crop has of the image's area, uniform; the ratio of its sides
        is log-uniform from 3/4 to 4/3, and none is longer than the image's.
    flip: the share of crops that are mirrored; none by default, for a heart has a side.

    Source: Assran et al. 2022, https://arxiv.org/abs/2204.07141, App. C, without colours.

    Raises:
        ConfigError: a share outside of 0 to 1, or sides below 1.
    """

    full: int
    focal: int
    num_focal: int
    full_scale: tuple[float, float] = (0.3, 1.0)
    focal_scale: tuple[float, float] = (0.05, 0.3)
    flip: float = 0.0

    def __post_init__(self) -> None:
        for name in ("full_scale", "focal_scale"):
            low, high = getattr(self, name)
            if not 0 < low <= high <= 1:
                raise ConfigError(
                    f"{name}={(low, high)}: a crop takes shares of the area, above 0, at most 1, "
                    "the smaller one first."
                )
        if min(self.full, self.focal) < 1 or self.num_focal < 0 or not 0 <= self.flip <= 1:
            raise ConfigError(f"Crops that cannot be made: {self}.")

    def __call__(
        self, images: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The views of images [B, C, S, S], normalised.

        Returns:
            target, anchor [B, C, full, full]; focal [num_focal * B, C, focal, focal], all images
            of a view after the other.

        Raises:
            DataError: pixels that are not floats: not normalised yet.
        """
        if not images.is_floating_point():
            raise DataError(
                f"Pixels of type {images.dtype} cannot be resized: `normalise` them first."
            )
        target, anchor = (self._crop(images, self.full, self.full_scale, generator) for _ in "ab")
        focal = [
            self._crop(images, self.focal, self.focal_scale, generator)
            for _ in range(self.num_focal)
        ]
        none = images.new_empty(0, images.shape[1], self.focal, self.focal)
        return target, anchor, torch.cat(focal or [none])

    def _crop(
        self, images: Tensor, side: int, scale: tuple[float, float], generator: torch.Generator
    ) -> Tensor:
        """One crop of each image: [B, C, side, side]."""
        drawn = torch.rand(5, len(images), generator=generator)
        area = scale[0] + (scale[1] - scale[0]) * drawn[0]
        low, high = torch.tensor(RATIO).log()
        ratio = (low + (high - low) * drawn[1]).exp()
        extent = torch.stack([(area * ratio).sqrt(), (area / ratio).sqrt()], dim=1).clamp(max=1)
        centre = (1 - extent) * (2 * drawn[2:4].T - 1)  # [B, 2], x and y; the image is -1 to 1
        mirrored = torch.where(drawn[4] < self.flip, -1.0, 1.0)
        affine = torch.zeros(len(images), 2, 3)
        affine[:, 0, 0], affine[:, 1, 1] = extent[:, 0] * mirrored, extent[:, 1]
        affine[:, :, 2] = centre
        shape = [*images.shape[:2], side, side]
        grid = functional.affine_grid(affine.to(images), shape, align_corners=False)
        return functional.grid_sample(
            images, grid, mode="bilinear", padding_mode="border", align_corners=False
        )
