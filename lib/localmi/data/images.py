"""One radiograph from a file to a square of 8-bit grey. Taught in 05_radiographs_and_reports."""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from localmi.errors import DataError

MIN_SIDE = 2  # pixels


@dataclass(frozen=True)
class SquareImage:
    """An image fitted into a square, centred, the rest black.

    pixels: [S, S] uint8. source_height, source_width: of the file, in pixels. box: left, top,
    width, height of the image's content in the square: a point x of the file lies at
    left + x * width / source_width.
    """

    pixels: np.ndarray
    source_height: int
    source_width: int
    box: tuple[int, int, int, int]


def read_image(path: Path | str, size: int) -> SquareImage:
    """Reads an image file, makes it grey and 8 bit, and fits its long side to `size`.

    Colour becomes luminance. More than 8 bits are scaled from the image's own lowest and highest
    value to 0..255: 12-bit data in 16-bit files would be all but black otherwise. EXIF
    orientation is ignored: radiographs do not carry a trustworthy one.

    Raises:
        DataError: not an image, truncated, or less than 2 pixels high or wide.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            if min(width, height) < MIN_SIDE:
                raise DataError(f"image of {width} x {height} pixels")
            scale = size / max(width, height)
            fitted = (max(1, round(width * scale)), max(1, round(height * scale)))
            image.draft("L", fitted)  # JPEG: decode at half size or less where that is enough
            grey = _to_grey(image)
    except UnidentifiedImageError as error:
        raise DataError("not an image") from error
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        # strerror is without the path: reasons are kept, and a path tells of the machine
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"unreadable image: {reason}") from error
    if grey.size != fitted:
        grey = grey.resize(fitted, Image.Resampling.BICUBIC)
    left, top = (size - fitted[0]) // 2, (size - fitted[1]) // 2
    pixels = np.zeros((size, size), np.uint8)
    pixels[top : top + fitted[1], left : left + fitted[0]] = np.asarray(grey)
    return SquareImage(pixels, height, width, (left, top, *fitted))


def _to_grey(image: Image.Image) -> Image.Image:
    """Mode "L", 8 bit; `Image.convert` alone would clip 16-bit values to white."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;"):
        return image.convert("L")
    values = np.asarray(image, dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("pixels that are not finite numbers")
    return Image.fromarray(
        np.round((values - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)
    )
