"""A radiograph in DICOM as it would be displayed: PS3.3 C.11. Taught in 13_preparing_mimic_cxr."""

import logging
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from pydicom import Dataset, FileMetaDataset, config, dcmread
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from localmi.errors import DataError

MIN_GREYS = 32  # of a radiograph; with fewer something went wrong on the way
GREY = ("MONOCHROME1", "MONOCHROME2")  # the lowest value is white, is black
PREFIX = b"DICM"  # behind a preamble of 128 bytes
FIRST_GROUPS = (
    b"\x02\x00",
    b"\x08\x00",
    b"\x00\x08",
)  # of the first element
TABLES = ("ModalityLUTSequence", "VOILUTSequence")
# whose empty value means that they are not there
OPTIONAL = (
    *("RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth", "VOILUTFunction"),
    *("PixelPaddingValue", "PixelPaddingRangeLimit", *TABLES),
)
VOI_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
DECODERS = "`pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg` reads most such files"
# its warnings quote the header, which tells of the patient
config.settings.reading_validation_mode = config.IGNORE
logging.getLogger("pydicom").setLevel(logging.CRITICAL)
warnings.filterwarnings("ignore", module="pydicom")


def dicom_start(path: Path | str) -> int | None:
    """Where to read a DICOM file from: 0, or the first element if the preamble is damaged.

    None for anything else. Old archives write neither preamble nor prefix, some cut one of them.
    """
    with open(path, "rb") as file:
        head = file.read(140)
    if head[128:132] == PREFIX:
        return 0
    for offset in (0, 4, 128):  # nothing before it, the prefix alone, the preamble alone
        if head[offset : offset + 2] in FIRST_GROUPS and (offset != 4 or head[:4] == PREFIX):
            return offset
    return None


def read_dicom(path: Path | str, start: int) -> np.ndarray:
    """[H, W] uint8, black to white: the lowest shown value 0, the highest 255.

    Modality and VOI transforms are computed once per grey value where that is less than once per
    pixel. An attribute that is there and empty counts as absent. Of several windows the first
    counts that leaves at least `MIN_GREYS` grey values: one beside the values would make all
    black; without such a one lowest and highest value count. Padding is black, and no value.

    Args:
        start: from `dicom_start`.

    Raises:
        DataError: several frames, colour, compressed in a way that nothing here decodes, damaged.
    """
    try:
        data = _dataset(path, start)
        frames, photometric = (
            data.get("NumberOfFrames") or 1,
            data.get("PhotometricInterpretation"),
        )
        if int(frames) != 1:
            raise DataError(f"DICOM of {frames} frames, one is expected")
        if photometric not in GREY:
            raise DataError(f"DICOM that is not {' or '.join(GREY)}")
        stored = _stored_values(data)
        if stored.ndim != 2:
            raise DataError(f"DICOM whose values are {' x '.join(map(str, stored.shape))}")
        _without_empty(data)
        grey = _shown(stored, _padding(stored, data), data)
    except (DataError, OSError, MemoryError):
        raise
    except Exception as error:  # on damaged files pydicom raises whatever it likes
        # without its words: they may quote the header, which tells of the patient
        raise DataError(f"unreadable DICOM ({type(error).__name__})") from error
    return grey


def _dataset(path: Path | str, start: int) -> Dataset:
    """The elements; without file meta, the transfer syntax is the one in which they were read."""
    if start == 0:
        data = dcmread(path, force=True)
    else:
        with open(path, "rb") as file:
            data = dcmread(BytesIO(file.read()[start:]), force=True)
    if "PixelData" not in data and "FloatPixelData" not in data:
        raise DataError("DICOM without a picture")
    if "TransferSyntaxUID" not in data.file_meta:
        implicit, little = data.original_encoding
        explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    return data


def _stored_values(data: Dataset) -> np.ndarray:
    """[H, W]; of integers the stored bits alone: those above and below may hold an overlay.

    Unless those above make it smoother: then the file says fewer bits than its values have.
    """
    syntax = data.file_meta.TransferSyntaxUID
    data.SamplesPerPixel = data.get("SamplesPerPixel") or 1
    data.PixelRepresentation = data.get("PixelRepresentation") or 0
    bits, high_bit = int(data.get("BitsStored") or 0), int(data.get("HighBit") or 0)
    data.BitsStored = max(bits, high_bit + 1)  # or those at the upper end would be cut off
    data.pixel_array_options(correct_unused_bits=False)
    try:
        values = data.pixel_array
    except (NotImplementedError, RuntimeError) as error:
        if not syntax.is_compressed:
            raise
        raise DataError(
            f"DICOM compressed as {syntax.name}, which cannot be decoded: {DECODERS}"
        ) from error
    above = 8 * values.dtype.itemsize - data.BitsStored
    if values.dtype.kind not in "iu" or not bits or above < 0:
        return values
    unused = 8 * values.dtype.itemsize - bits
    stored = (values << above) >> unused  # of signed numbers the sign is carried down
    whole = values >> (data.BitsStored - bits)
    return stored if np.array_equal(stored, whole) else min(stored, whole, key=_roughness)


def _roughness(values: np.ndarray) -> float:
    """How much neighbours differ: at each edge of an overlay, and wherever a value wraps round."""
    numbers = values.astype(np.float64)
    return sum(float(np.abs(np.diff(numbers, axis=axis)).sum()) for axis in (0, 1))


def _without_empty(data: Dataset) -> None:
    """Removes what is there but says nothing; a table's depth becomes one that numpy has."""
    for name in TABLES:
        for item in data.get(name) or ():
            if not item.get("LUTDescriptor") or not item.get("LUTData"):
                setattr(data, name, None)
                break
            item.LUTDescriptor[2] = 8 if item.LUTDescriptor[2] <= 8 else 16
    for name in OPTIONAL:
        if name in data and data[name].is_empty:
            delattr(data, name)
    if data.get("RescaleSlope") == 0:
        del data.RescaleSlope
    if str(data.get("VOILUTFunction", VOI_FUNCTIONS[0])).upper() not in VOI_FUNCTIONS:
        del data.VOILUTFunction


def _padding(stored: np.ndarray, data: Dataset) -> np.ndarray:
    """[H, W] bool: no part of the picture (C.7.5.1.1.2). Nowhere, if it would be everywhere."""
    first = data.get("PixelPaddingValue")
    if first is None:
        return np.zeros(stored.shape, bool)
    ends = [
        _as_stored(int(end), data) for end in (first, data.get("PixelPaddingRangeLimit", first))
    ]
    # it may stand outside the stored bits
    among = [
        (values >= min(ends)) & (values <= max(ends)) for values in (stored, data.pixel_array)
    ]
    padding = among[0] | among[1]
    return padding & ~padding.all()


def _as_stored(value: int, data: Dataset) -> int:
    """A value whose sign was lost or made up on the way: 63488 for -2048."""
    half = 2 ** (int(data.BitsAllocated) - 1)
    signed = (value + half) % (2 * half) - half
    return signed if data.PixelRepresentation == 1 else signed % (2 * half)


def _shown(stored: np.ndarray, padding: np.ndarray, data: Dataset) -> np.ndarray:
    """[H, W] uint8; padding is 0."""
    pixels = stored[~padding]
    low, high = pixels.min(), pixels.max()
    dense = stored.dtype.kind in "iu" and int(high) - int(low) < max(pixels.size, 2**16)
    values = np.arange(int(low), int(high) + 1) if dense else pixels
    rescaled = _whole(np.asarray(apply_modality_lut(values, data)))
    for name in ("RescaleSlope", "RescaleIntercept"):  # done; a slope below 0 would turn windows
        if name in data:
            delattr(data, name)
    grey = scaled(_first_useful_window(rescaled, data))
    if data.PhotometricInterpretation == GREY[0]:
        grey = 255 - grey
    shown = np.zeros(stored.shape, np.uint8)
    shown[~padding] = grey[pixels.astype(np.int64) - int(low)] if dense else grey
    return shown


def _first_useful_window(values: np.ndarray, data: Dataset) -> np.ndarray:
    """The values through a VOI table or window; as they are where none leaves a picture."""
    tables = len(data.get("VOILUTSequence") or ())
    windows = data["WindowWidth"].VM if "WindowWidth" in data else 0
    for index in range(tables or windows):
        try:
            shown = np.asarray(apply_voi_lut(values, data, index))
        except (ValueError, IndexError, TypeError):  # of width 0, or without a centre
            continue
        if len(np.unique(shown)) >= MIN_GREYS:
            return shown
    return values


def _whole(values: np.ndarray) -> np.ndarray:
    """Rescaled values as integers where they are whole: what a VOI table is indexed with."""
    rounded = np.round(values)
    return rounded.astype(np.int64) if np.array_equal(rounded, values) else values


def scaled(values: np.ndarray) -> np.ndarray:
    """Lowest to 0, highest to 255, as uint8."""
    values = values.astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise ValueError("pixels that are not finite numbers")
    return np.round((values - low) * (255 / max(high - low, 1e-9))).astype(np.uint8)
