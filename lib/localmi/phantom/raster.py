"""Drawing in patient coordinates: polygons, tapered strokes, smooth noise, depth of a shape.

One coordinate system everywhere: x runs from -1 to 1 over the image's width (the patient's right
is at x < 0), y from -1 to 1 downwards. One unit is about 18 cm, at any image size.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy import ndimage

Array = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]
CM_PER_UNIT = 18.0
OVERSAMPLING = 2  # shapes are drawn at twice the size and averaged: smooth edges


@dataclass(frozen=True)
class Frame:
    """How the patient lies in the image: pixels = rotation, zoom and shift of the coordinates."""

    size: int
    angle: float = 0.0  # radians
    zoom: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)

    @cached_property
    def half(self) -> "Frame":
        """The same view at half the size, for maps without detail."""
        return replace(self, size=self.size // 2)

    @cached_property
    def grid(self) -> tuple[Array, Array]:
        """x and y of every pixel centre, each [H, W] float32."""
        line = (np.arange(self.size, dtype=np.float32) + 0.5) * (2 / self.size) - 1
        column, row = line[None, :] - self.shift[0], line[:, None] - self.shift[1]
        cos, sin = np.cos(self.angle) / self.zoom, np.sin(self.angle) / self.zoom
        x = np.float32(cos) * column + np.float32(sin) * row
        y = np.float32(cos) * row - np.float32(sin) * column
        return x, y

    def to_pixels(self, points: Array, oversampling: int = OVERSAMPLING) -> Array:
        """Points [N, 2] of (x, y) to pixel positions of the (oversampled) image."""
        cos, sin = np.cos(self.angle) * self.zoom, np.sin(self.angle) * self.zoom
        turned = points @ np.array([[cos, sin], [-sin, cos]]) + np.array(self.shift)
        return (turned + 1) * (self.size * oversampling / 2) - 0.5

    def pixels(self, length: float) -> float:
        """A length in units, in pixels of the image."""
        return length * self.zoom * self.size / 2


@dataclass(frozen=True)
class Shape:
    """A polygon to draw: outline [N, 2] in patient coordinates, value 0 to 255."""

    outline: Array
    value: int = 255


def draw(frame: Frame, shapes: Sequence[Shape]) -> Array:
    """[H, W] float32, 0 to 1: the shapes, later ones over earlier ones, with smooth edges."""
    side = frame.size * OVERSAMPLING
    image = Image.new("L", (side, side))
    brush = ImageDraw.Draw(image)
    ends = 2 * np.cumsum([len(shape.outline) for shape in shapes])
    outlines = np.concatenate([shape.outline for shape in shapes])
    numbers = frame.to_pixels(outlines).ravel().tolist()
    for shape, end in zip(shapes, ends.tolist(), strict=True):
        brush.polygon(numbers[end - 2 * len(shape.outline) : end], fill=shape.value)
    return np.asarray(image.reduce(OVERSAMPLING), np.float32) * np.float32(1 / 255)


def strokes(lines: Array, widths: Array | float, values: Array | float) -> list[Shape]:
    """Lines [N, P, 2] thickened to whole widths (units; [N, P] or one), with values [N] or one."""
    along = np.gradient(lines, axis=1)
    along /= np.hypot(along[..., 0], along[..., 1])[..., None] + 1e-9
    taper = np.broadcast_to(widths, lines.shape[:2])[..., None]
    across = along[..., ::-1] * np.array([-0.5, 0.5]) * taper
    outlines = np.concatenate([lines + across, (lines - across)[:, ::-1]], axis=1)
    grey = np.broadcast_to(values, len(lines)).astype(int).tolist()
    return [Shape(outline, value) for outline, value in zip(outlines, grey, strict=True)]


def stroke(line: Array, width: Array | float, value: int = 255) -> Shape:
    """One line [P, 2] thickened; see `strokes`."""
    return strokes(line[None], width, value)[0]


def resize(image: Array, size: int) -> Array:
    """[h, w] float32 to [size, size], bicubic."""
    scaled = Image.fromarray(np.ascontiguousarray(image, np.float32))
    return np.asarray(scaled.resize((size, size), Image.Resampling.BICUBIC))


def smooth_noise(rng: np.random.Generator, size: int, cells: int) -> Array:
    """[size, size] float32 smooth random field, about N(0, 1), with `cells` bumps across."""
    return resize(rng.standard_normal((cells, cells), dtype=np.float32), size)


def blur(image: Array, sigma: float) -> Array:
    """Gaussian blur, sigma in pixels; wide ones at a lower resolution, for speed."""
    size = image.shape[0]
    step = 1
    while sigma / step > 4 and size % (2 * step) == 0 and size // step > 32:
        step *= 2
    if step > 1:
        image = image.reshape(size // step, step, size // step, step).mean(axis=(1, 3))
    image = ndimage.gaussian_filter(image, sigma / step, mode="nearest", truncate=3.0)
    return resize(image, size) if step > 1 else image


def depth(frame: Frame, shape: Array, reach: float) -> Array:
    """How thick a rounded body with this outline is, 0 at its edge to 1 `reach` units inside."""
    coarse = shape.reshape(frame.size // 2, 2, frame.size // 2, 2).mean(axis=(1, 3)) > 0.5
    distance = ndimage.distance_transform_edt(coarse).astype(np.float32)
    inside = np.clip(distance / frame.pixels(reach / 2), 0, 1)
    return np.clip(resize(np.sqrt(1 - (1 - inside) ** 2), frame.size), 0, 1) * shape


def smoothstep(value: Array, low: float, high: float) -> Array:
    """0 below `low`, 1 above `high`, smooth between."""
    scaled = np.clip((value - float(low)) * (1 / float(high - low)), 0, 1)
    return scaled * scaled * (3 - 2 * scaled)


def blob(
    frame: Frame, centre: tuple[float, float], radii: tuple[float, float], angle: float = 0.0
) -> Array:
    """Squared elliptical distance from `centre`, 1 on the ellipse; [H, W]."""
    x, y = frame.grid
    dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    wide, high = float(radii[0]), float(radii[1])
    along, across = (cos * dx + sin * dy) / wide, (cos * dy - sin * dx) / high
    return along * along + across * across
