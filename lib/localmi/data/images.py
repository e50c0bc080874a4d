"""One radiograph from a file to a square of 8-bit grey. Taught in 13_preparing_mimic_cxr."""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from pydicom import Dataset, config, dcmread
from pydicom.misc import is_dicom
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from localmi.errors import DataError, machine_failed

MIN_SIDE = 2  # pixels
config.settings.reading_validation_mode = config.IGNORE  # its warnings quote the header
GREY = ("MONOCHROME1", "MONOCHROME2")  # DICOM: the lowest value is white, is black


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
    orientation is ignored: radiographs do not carry a trustworthy one. DICOM is read as it would
    be displayed: modality and VOI transforms (DICOM PS3.3 C.11), MONOCHROME1 inverted. Its
    histogram is left as it is; the JPEGs of MIMIC-CXR-JPG come equalised.

    Raises:
        DataError: no file, not an image, truncated, less than 2 pixels high or wide; DICOM of
            several frames or in colour.
        OSError: the disk or the machine failed while reading, which tells nothing of the image.
    """
    try:
        grey, (width, height) = _read_grey(path, size)
    except FileNotFoundError as error:
        raise DataError("no image file") from error
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and machine_failed(error):
            raise OSError(error.errno, error.strerror, str(path)) from error
        # strerror is without the path: reasons are kept, and a path tells of the machine
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"unreadable image: {reason}") from error
    fitted = _fitted(width, height, size)
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
            width, height = image.size
            fitted = _fitted(width, height, size)
            image.draft("L", fitted)  # JPEG: decode at half size or less where that is enough
            return _to_grey(image), (width, height)
    except UnidentifiedImageError as error:
        if not is_dicom(path):
            raise DataError("not an image") from error
    grey = Image.fromarray(_read_dicom(path))
    return grey, grey.size


def _fitted(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height once the long side is `size`."""
    if min(width, height) < MIN_SIDE:
        raise DataError(f"image of {width} x {height} pixels")
    scale = size / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _to_grey(image: Image.Image) -> Image.Image:
    """Mode "L", 8 bit; `Image.convert` alone would clip 16-bit values to white."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;"):
        return image.convert("L")
    return Image.fromarray(_scaled(np.asarray(image, dtype=np.float64)))


def _scaled(values: np.ndarray) -> np.ndarray:
    """Lowest to 0, highest to 255, as uint8."""
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("pixels that are not finite numbers")
    return np.round((values - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)


def _read_dicom(path: Path | str) -> np.ndarray:
    """[H, W] uint8. The transforms are computed once per grey value, not once per pixel."""
    try:
        data = dcmread(path)
        frames, photometric = (
            data.get("NumberOfFrames") or 1,
            data.get("PhotometricInterpretation"),
        )
        if int(frames) != 1:
            raise DataError(f"DICOM of {frames} frames, one is expected")
        if photometric not in GREY:
            raise DataError(f"DICOM that is not {' or '.join(GREY)}")
        stored = _stored_values(data)
        low = int(stored.min())
        values = np.arange(low, int(stored.max()) + 1)
        shown = np.asarray(apply_voi_lut(_whole(apply_modality_lut(values, data)), data))
        grey = _scaled(shown.astype(np.float64))
    except (DataError, OSError, MemoryError):
        raise
    except Exception as error:  # on damaged files pydicom raises whatever it likes
        # without its words: they may quote the header, which tells of the patient
        raise DataError(f"unreadable DICOM ({type(error).__name__})") from error
    return (255 - grey if photometric == GREY[0] else grey)[stored.astype(np.int32) - low]


def _stored_values(data: Dataset) -> np.ndarray:
    """[H, W] integers."""
    syntax = data.file_meta.TransferSyntaxUID
    try:
        return data.pixel_array
    except (NotImplementedError, RuntimeError) as error:
        if not syntax.is_compressed:
            raise
        raise DataError(f"DICOM compressed as {syntax.name}, which cannot be decoded") from error


def _whole(values: np.ndarray) -> np.ndarray:
    """Rescaled values as integers where they are whole: what a VOI table is indexed with."""
    rounded = np.round(values)
    return rounded.astype(np.int64) if np.array_equal(rounded, values) else values
