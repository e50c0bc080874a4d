"""One radiograph from a file to a square of 8-bit grey. Taught in 13_preparing_mimic_cxr."""

import errno
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile

from localmi.data.dicom import MIN_GREYS, dicom_start, read_dicom, scaled
from localmi.errors import DataError, machine_failed

MIN_SIDE = 2  # pixels
LUMINANCE = (0.299, 0.587, 0.114)  # of red, green, blue (ITU-R 601, as Pillow's)
BITS_PER_SAMPLE, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0  # of TIFF
SAMPLE_FORMAT, SIGNED = 339, 2


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
    orientation is ignored: radiographs do not carry a trustworthy one (of TIFF it is part of the
    format, and heeded). DICOM is read as it would be displayed: see `dicom.read_dicom`. Its
    histogram is left as it is; the JPEGs of MIMIC-CXR-JPG come equalised.

    Raises:
        DataError: no file, not an image, truncated, less than 2 pixels high or wide, fewer than
            `MIN_GREYS` grey values; several pages or frames; DICOM in colour; TIFF of 16 bits a
            colour.
        OSError: the disk or the machine failed while reading, which tells nothing of the image.
    """
    try:
        grey, (width, height) = _read_grey(path, size)
    except FileNotFoundError as error:
        raise DataError("no image file") from error
    except MemoryError as error:
        raise OSError(errno.ENOMEM, "too little memory for the image", str(path)) from error
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and machine_failed(error):
            raise OSError(error.errno, error.strerror, str(path)) from error
        # strerror is without the path: reasons are kept, and a path tells of the machine
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"unreadable image: {reason}") from error
    fitted = _fitted(width, height, size)
    _check_greys(grey)
    if grey.size != fitted:
        grey = grey.resize(fitted, Image.Resampling.BICUBIC)
    left, top = (size - fitted[0]) // 2, (size - fitted[1]) // 2
    pixels = np.zeros((size, size), np.uint8)
    pixels[top : top + fitted[1], left : left + fitted[0]] = np.asarray(grey)
    return SquareImage(pixels, height, width, (left, top, *fitted))


def _read_grey(path: Path | str, size: int) -> tuple[Image.Image, tuple[int, int]]:
    """The image in mode "L", at its own size or smaller, and its own (width, height)."""
    try:
        with Image.open(path) as image:
            _check_whole(image, path)
            width, height = image.size
            fitted = _fitted(width, height, size)
            image.draft("L", fitted)  # JPEG: decode at half size or less where that is enough
            return _to_grey(image), (width, height)
    except UnidentifiedImageError as error:
        start = dicom_start(path)
        if start is None:
            raise DataError("not an image") from error
    grey = Image.fromarray(read_dicom(path, start))
    return grey, grey.size


def _check_whole(image: Image.Image, path: Path | str) -> None:
    """One picture, and of a PNG the bytes that were written: damage may look like a picture."""
    thumbnails = image.format == "MPO"  # a JPEG that carries some
    frames = 1 if thumbnails else getattr(image, "n_frames", 1)
    if frames != 1:
        raise DataError(f"image of {frames} pages or frames, one is expected")
    if isinstance(image, PngImageFile):
        with Image.open(path) as again:  # it cannot be read after it was verified
            again.verify()


def _check_greys(grey: Image.Image) -> None:
    """All but black, all but white, or cut to a few bits on the way: no picture to learn from."""
    greys = sum(count > 0 for count in grey.histogram())
    if greys < MIN_GREYS:
        values = "one grey value" if greys == 1 else f"{greys} grey values, fewer than {MIN_GREYS}"
        raise DataError(f"image of {values}")


def _fitted(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height once the long side is `size`."""
    if min(width, height) < MIN_SIDE:
        raise DataError(f"image of {width} x {height} pixels")
    scale = size / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _to_grey(image: Image.Image) -> Image.Image:
    """Mode "L", 8 bit; `Image.convert` alone would clip 16-bit values to white."""
    tags = getattr(image, "tag_v2", {})
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        values = np.asarray(image)
        if image.mode == "I" and tags and SIGNED not in tags.get(SAMPLE_FORMAT, ()):
            values = values.astype(np.uint32)  # Pillow reads the upper half as below 0
        grey = scaled(values)
        return Image.fromarray(255 - grey if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else grey)
    if max(tags.get(BITS_PER_SAMPLE, (8,))) > 8:  # Pillow keeps the upper 8, often all 0
        raise DataError("TIFF in colour of more than 8 bits")
    if SIGNED in tags.get(SAMPLE_FORMAT, ()):  # Pillow reads those below 0 as the brightest
        raise DataError("TIFF of 8 bits with a sign")
    if isinstance(image, PngImageFile) and str(image.tile[0].args).endswith(";16B"):
        return _deep_png(image)
    return image.convert("L")


def _deep_png(image: PngImageFile) -> Image.Image:
    """A PNG of 16 bits a sample, in colour or with transparency, which Pillow cuts to 8 bits.

    It is told to unpack the lower bytes for once; grey and transparency are four bytes a pixel.
    """
    raw = str(image.tile[0].args)  # how the file's bytes are unpacked
    other = "RGBA" if raw == "LA;16B" else raw.replace(";16B", ";16L")
    with Image.open(image.filename) as again:
        again.tile = [again.tile[0]._replace(args=other)]
        lower = np.asarray(again, dtype=np.float64)
    if other == "RGBA":
        return Image.fromarray(scaled(256 * lower[..., 0] + lower[..., 1]))
    samples = 256 * np.asarray(image, dtype=np.float64) + lower
    return Image.fromarray(scaled(samples[..., : len(LUMINANCE)] @ LUMINANCE))
