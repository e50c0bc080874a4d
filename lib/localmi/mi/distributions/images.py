"""Small images with known mutual information, and reports of them.

An image has side x side regions. Each region has a finding, one of a few directions of stripes,
independent of the others. A sentence about the region names its finding, sometimes a wrong one.
Phase, contrast and noise vary from region to region and say nothing; the noise is bounded, so
that the finding can always be read off (`GridImages.read`) and the information is exactly that of
the findings. The phase hides them from every linear method.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from localmi.errors import ConfigError
from localmi.mi.distributions.base import Array, Task
from localmi.mi.distributions.worlds import DiscreteWorld, noisy_copy

PIXELS = 8  # of a region's side
CONTRAST = (0.8, 1.2)
NOISE = 0.15  # uniform in ±NOISE; below CONTRAST[0] / 4 no noise can hide or feign a finding
# Periods of the stripes over a region, down and across: no two are the same wave or its mirror.
STRIPES = ((0, 2), (2, 0), (2, 2), (2, -2), (0, 1), (1, 0), (1, 1), (1, -1))


class ImageReports(NamedTuple):
    """Images, what they show, and one sentence about each region."""

    images: Tensor  # [n, 1, H, W] float32
    findings: Tensor  # [n, R] int64
    sentences: Tensor  # [n, R] int64, the finding that sentence m names for region m


@dataclass(frozen=True)
class GridImages:
    """How images and reports are made.

    Args:
        side: regions per side, R = side^2.
        states: different findings, 2 to 8.
        flip: how often a sentence names another finding than the image shows.

    Raises:
        ConfigError: no region, other numbers of findings, or flip outside [0, 1].

    Taught in 04_local_mutual_information.
    """

    side: int = 2
    states: int = 4
    flip: float = 0.1

    def __post_init__(self) -> None:
        if self.side < 1 or not 2 <= self.states <= len(STRIPES) or not 0 <= self.flip <= 1:
            raise ConfigError(
                f"Images need side >= 1, 2 to {len(STRIPES)} states and 0 <= flip <= 1; found "
                f"{self.side}, {self.states}, {self.flip}."
            )

    @property
    def regions(self) -> int:
        """R, numbered row by row."""
        return self.side**2

    @cached_property
    def finding_and_sentence(self) -> DiscreteWorld:
        """The world of one region: its finding H and the sentence S about it."""
        return DiscreteWorld(("H", "S"), noisy_copy(self.states, self.flip) / self.states)

    @property
    def local_mi(self) -> float:
        """I(region; its sentence) = I(H; S), nats; R times that is I(image; report)."""
        return self.finding_and_sentence.mi("H", "S")

    def sample(self, number: int, seed: int) -> ImageReports:
        """Images with their findings and reports; the same seed gives those of the tasks.

        Raises:
            ConfigError: fewer than one image asked for.
        """
        if number < 1:
            raise ConfigError(f"Ask for at least one image, found {number}.")
        generator = np.random.default_rng(seed)
        findings, sentences = self.draw_states(number, generator)
        height = self.side * PIXELS
        images = self.join(self.paint(findings, generator)).reshape(number, 1, height, height)
        return ImageReports(
            torch.from_numpy(images).float(),
            torch.from_numpy(findings),
            torch.from_numpy(sentences),
        )

    def report_task(self) -> "GridTask":
        """Global: a whole image and its whole report, R times the local information."""
        whole = tuple(range(self.regions))
        return GridTask.of(self, "report", seen=whole, told=whole, as_image=False)

    def region_task(self, region: int = 0) -> "GridTask":
        """Local: one region of the image and the sentence about it.

        With the same seed it is that part of the samples of `report_task`.

        Raises:
            ConfigError: no such region.
        """
        self._check_region(region)
        return GridTask.of(self, f"region-{region}", (region,), (region,), as_image=False)

    def pair_task(self, shown: int) -> "GridTask":
        """Two images of one patient; the second shows the first `shown` regions, noise elsewhere.

        I = shown x local_mi: from independence (0) to all regions (Song and Ermon 2020, Sec. 5.2,
        where rows of a digit are masked).

        Raises:
            ConfigError: more regions than there are, or fewer than 0.
        """
        if shown:
            self._check_region(shown - 1)
        whole = tuple(range(self.regions))
        return GridTask.of(self, f"pair-{shown}", whole, whole[:shown], as_image=True)

    def draw_states(
        self, number: int, generator: np.random.Generator
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Findings and what sentences say of them, [number, R] each."""
        table = self.finding_and_sentence.table
        flat = generator.choice(table.size, size=(number, self.regions), p=table.ravel())
        findings, sentences = np.unravel_index(flat, table.shape)
        return findings, sentences

    def paint(self, findings: NDArray[np.intp], generator: np.random.Generator) -> Array:
        """[n, R] -> [n, R, PIXELS, PIXELS]: stripes of any phase and contrast, and noise."""
        phase = generator.uniform(0, 2 * math.pi, (*findings.shape, 1, 1))
        contrast = generator.uniform(*CONTRAST, phase.shape)
        noise = generator.uniform(-NOISE, NOISE, (*findings.shape, PIXELS, PIXELS))
        return contrast * np.cos(_angles()[findings] + phase) + noise

    def read(self, regions: Array) -> NDArray[np.intp]:
        """The findings, without error: [..., PIXELS, PIXELS] -> [...], the strongest wave."""
        waves = np.exp(1j * _angles()[: self.states])
        strength = np.abs(np.einsum("...hw,shw->...s", regions, waves))
        findings: NDArray[np.intp] = strength.argmax(axis=-1)
        return findings

    def join(self, regions: Array) -> Array:
        """[n, R, PIXELS, PIXELS] -> [n, H W], the pixels row by row."""
        grid = regions.reshape(-1, self.side, self.side, PIXELS, PIXELS)
        return grid.transpose(0, 1, 3, 2, 4).reshape(len(regions), -1)

    def cut(self, images: Array) -> Array:
        """The way back: [n, H W] -> [n, R, PIXELS, PIXELS]."""
        grid = images.reshape(-1, self.side, PIXELS, self.side, PIXELS)
        return grid.transpose(0, 1, 3, 2, 4).reshape(-1, self.regions, PIXELS, PIXELS)

    def _check_region(self, region: int) -> None:
        if not 0 <= region < self.regions:
            raise ConfigError(f"There are {self.regions} regions, from 0; found {region}.")


@dataclass(frozen=True, eq=False)
class GridTask(Task):
    """Regions of an image as pixels, and sentences (one-hot) or a second image.

    Args:
        grid: how both are made.
        seen: the regions in x, of the whole image or one alone.
        told: the regions that y speaks of, or shows.
        as_image: y is an image; otherwise one one-hot vector for each sentence.
    """

    grid: GridImages
    seen: tuple[int, ...]
    told: tuple[int, ...]
    as_image: bool

    @classmethod
    def of(
        cls,
        grid: GridImages,
        name: str,
        seen: tuple[int, ...],
        told: tuple[int, ...],
        as_image: bool,
    ) -> "GridTask":
        """The task with its dimensions."""
        whole = grid.regions * PIXELS**2
        dim_y = whole if as_image else len(told) * grid.states
        label = f"Images {grid.side} × {grid.side} ({name})"
        name = f"images-{grid.side}-{grid.states}-{grid.flip:g}-{name}"
        return cls(name, label, len(seen) * PIXELS**2, dim_y, grid, seen, told, as_image)

    @property
    def true_mi(self) -> float:
        return len(self.told) * self.grid.local_mi

    def draw(self, number: int, generator: np.random.Generator) -> tuple[Array, Array]:
        grid = self.grid
        findings, sentences = grid.draw_states(number, generator)
        regions = grid.paint(findings, generator)
        whole = len(self.seen) == grid.regions
        x = grid.join(regions) if whole else regions[:, self.seen].reshape(number, -1)
        if not self.as_image:
            return x, np.eye(grid.states)[sentences[:, self.told]].reshape(number, -1)
        second = grid.paint(sentences, generator)
        blank = [region for region in range(grid.regions) if region not in self.told]
        second[:, blank] = generator.uniform(-NOISE, NOISE, second[:, blank].shape)
        return x, grid.join(second)

    def score(self, x: Array, y: Array) -> Array:
        """Sum over the regions that both speak of: regions are independent of each other."""
        grid, ratio = self.grid, self.grid.finding_and_sentence.log_ratio("H", "S")
        whole = len(self.seen) == grid.regions
        regions = grid.cut(x) if whole else x.reshape(len(x), -1, PIXELS, PIXELS)
        shown = grid.read(regions)
        if self.as_image:
            told = grid.read(grid.cut(y)[:, list(self.told)])
        else:
            told = y.reshape(len(y), -1, grid.states).argmax(axis=2)
        scores = np.zeros((len(x), len(y)))
        for column, region in enumerate(self.told):
            scores += ratio[shown[:, [self.seen.index(region)]], told[:, column]]
        return scores


def _angles() -> Array:
    """[STRIPES, PIXELS, PIXELS], where each wave is in its period at each pixel."""
    place = 2 * math.pi * np.arange(PIXELS) / PIXELS
    down, across = np.array(STRIPES).T[:, :, None, None]
    angles: Array = down * place[:, None] + across * place
    return angles
