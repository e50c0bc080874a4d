"""From files of any kind to squares of 8-bit grey."""

import struct
import subprocess
import sys
import tracemalloc
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
)

from localmi.data.images import read_image
from localmi.errors import DataError


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize("top", [255, 4095, 65535])
def test_more_than_8_bits_are_scaled_not_clipped(tmp_path: Path, top: int) -> None:
    ramp = np.linspace(0, top, 256).astype(np.uint16)[None].repeat(256, axis=0)
    read = read_image(save(tmp_path / "deep.png", ramp), 256)
    np.testing.assert_allclose(read.pixels[0], np.arange(256), atol=1)
    assert read.pixels.min() == 0
    assert read.pixels.max() == 255


def test_float_images(tmp_path: Path) -> None:
    ramp = np.linspace(-1, 1, 64, dtype=np.float32)[None].repeat(64, axis=0)
    assert read_image(save(tmp_path / "float.tiff", ramp), 64).pixels[0, ::63].tolist() == [0, 255]
    ramp[3, 3] = np.nan
    with pytest.raises(DataError, match="not finite"):
        read_image(save(tmp_path / "nan.tiff", ramp), 64)


@pytest.mark.parametrize("greys", [1, 2, 16, 31, 32])
def test_an_image_of_a_few_grey_values_is_refused(tmp_path: Path, greys: int) -> None:
    """Of any depth; as stored, for fitting it to a size would mix new values."""
    steps = np.arange(64 * 64).reshape(64, 64) % greys
    deep = (steps * 400).astype(np.uint16)
    for name, pixels in (("8.png", steps.astype(np.uint8)), ("16.png", deep), ("16.tif", deep)):
        path = save(tmp_path / name, pixels)
        if greys == 32:
            assert read_image(path, 32).pixels.std() > 0
            continue
        with pytest.raises(
            DataError, match=f"^image of {'one' if greys == 1 else greys} grey val"
        ):
            read_image(path, 32)


GREYS = np.linspace(0, 255, 64).round().astype(np.uint8)[None].repeat(64, axis=0)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA", "CMYK"])
def test_colour_becomes_grey(tmp_path: Path, mode: str) -> None:
    end = "tiff" if mode == "CMYK" else "png"
    path = tmp_path / f"colour.{end}"
    Image.fromarray(GREYS).convert("L" if mode == "P" else "RGB").convert(mode).save(path)
    np.testing.assert_allclose(read_image(path, 64).pixels, GREYS, atol=2)


def write_deep_png(path: Path, samples: np.ndarray) -> Path:
    """[H, W, channels] of 16 bits, which Pillow cannot write: grey and alpha, RGB, RGBA."""
    height, width, channels = samples.shape
    kind = {2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in parts:
        content += struct.pack(">I", len(data)) + name + data
        content += struct.pack(">I", zlib.crc32(name + data))
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("top", [1023, 4095, 65535])
def test_png_of_16_bits_in_colour_is_scaled(tmp_path: Path, channels: int, top: int) -> None:
    ramp = np.linspace(0, top, 256).astype(np.uint16)[None].repeat(256, axis=0)
    samples = np.stack([ramp] * channels, axis=-1)
    if channels != 3:
        samples[..., -1] = 65535  # opaque
    read = read_image(write_deep_png(tmp_path / "deep.png", samples), 256)
    np.testing.assert_allclose(read.pixels[0], np.arange(256), atol=1)


def test_the_colours_of_a_deep_png_weigh_as_pillows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (64, 64, 3)).astype(np.uint8)
    colours[0, :2] = [[0, 0, 0], [255, 255, 255]]
    shallow = read_image(save(tmp_path / "shallow.png", colours), 64).pixels
    deep = read_image(write_deep_png(tmp_path / "deep.png", colours.astype(int) * 257), 64).pixels
    np.testing.assert_allclose(deep, shallow.astype(int), atol=1)


def test_tiff_in_deep_colour_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "x.tif", np.stack([GREYS] * 3, axis=-1))
    content = path.read_bytes()
    wide = np.array([16] * 3, "<u2").tobytes()
    path.write_bytes(content.replace(np.array([8] * 3, "<u2").tobytes(), wide, 1))
    with pytest.raises(DataError, match="^TIFF in colour of more than 8 bits$"):
        read_image(path, 64)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_tiff_in_which_white_is_zero(tmp_path: Path, kind: str) -> None:
    """Tag 262 says so; Pillow itself inverts 8 bits alone."""
    shades = (255 - GREYS).astype(kind) * (16 if kind != "uint8" else 1)
    path = tmp_path / "film.tif"
    Image.fromarray(shades).save(path, tiffinfo={262: 0})
    read = read_image(path, 64).pixels
    with Image.open(path) as image:
        assert image.tag_v2[262] == 0
        if kind == "uint8":  # what Pillow writes is what it reads
            np.testing.assert_allclose(read, np.asarray(image.convert("L")), atol=1)
            return
    np.testing.assert_allclose(read, GREYS, atol=1)


def test_tiff_of_32_bits_without_a_sign(tmp_path: Path) -> None:
    path = save(tmp_path / "x.tif", (GREYS.astype(np.uint32) * 16_000_000).view(np.int32))
    content, entry = path.read_bytes(), struct.pack("<HHI", 339, 3, 1)  # sample format, 2: signed
    assert entry + b"\2" in content
    path.write_bytes(content.replace(entry + b"\2", entry + b"\1"))
    np.testing.assert_allclose(read_image(path, 64).pixels, GREYS, atol=1)


def test_tiff_of_8_bits_with_a_sign_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    Image.fromarray(GREYS).save(path, tiffinfo={339: 2})
    with pytest.raises(DataError, match="^TIFF of 8 bits with a sign$"):
        read_image(path, 64)


@pytest.mark.parametrize("name", ["x.tif", "x.png", "x.gif"])
def test_several_pages_are_refused(tmp_path: Path, name: str) -> None:
    page = Image.fromarray(GREYS)
    page.save(tmp_path / name, save_all=True, append_images=[page.rotate(90)])
    with pytest.raises(DataError, match="^image of 2 pages or frames, one is expected$"):
        read_image(tmp_path / name, 64)


def test_damage_that_a_png_decodes_all_the_same_is_refused(tmp_path: Path) -> None:
    """Its checksums tell: the end of a download that was never written is zeros."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    path = save(tmp_path / "x.png", noise)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(DataError, match="^unreadable image: broken PNG file"):
        read_image(path, 64)


@pytest.mark.parametrize(
    ("shape", "box"),
    [
        ((100, 50), (8, 0, 16, 32)),
        ((50, 100), (0, 8, 32, 16)),
        ((10, 10), (0, 0, 32, 32)),
        ((3000, 2), (15, 0, 1, 32)),
        ((100, 97), (0, 0, 31, 32)),
    ],
)
def test_aspect_is_kept(
    tmp_path: Path, shape: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    bright = np.random.default_rng(0).integers(100, 256, shape).astype(np.uint8)
    read = read_image(save(tmp_path / "bright.png", bright), 32)
    left, top, width, height = read.box
    assert read.box == box
    assert (read.source_height, read.source_width) == shape
    inside = np.zeros((32, 32), bool)
    inside[top : top + height, left : left + width] = True
    np.testing.assert_array_equal(read.pixels > 0, inside)


def test_large_jpeg_is_decoded_small_and_orientation_ignored(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(1024), np.arange(1024)) // 8
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees"
    Image.fromarray(smooth.astype(np.uint8)).save(tmp_path / "big.jpg", quality=95, exif=exif)
    read = read_image(tmp_path / "big.jpg", 64)
    assert (read.source_height, read.source_width) == (1024, 1024)
    expected = smooth.reshape(64, 16, 64, 16).mean(axis=(1, 3))
    np.testing.assert_allclose(read.pixels, expected, atol=3)


def write_dicom(path: Path, pixels: np.ndarray, **elements: Any) -> Path:
    """12-bit MONOCHROME2 without any transform, unless `elements` say otherwise."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    data = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3"
    data.PhotometricInterpretation = "MONOCHROME2"
    data.SamplesPerPixel, data.PixelRepresentation = 1, int(pixels.dtype.kind == "i")
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.Rows, data.Columns = pixels.shape[-2:]
    data.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(data, name, value)
    data.save_as(path)
    return path


RAMP = np.linspace(0, 4095, 256).astype(np.uint16)[None].repeat(256, axis=0)  # [H, W]


def test_dicom_of_12_bits_is_scaled(tmp_path: Path) -> None:
    read = read_image(write_dicom(tmp_path / "x.dcm", RAMP), 256)
    np.testing.assert_allclose(read.pixels[7], np.arange(256), atol=1)
    assert (read.source_height, read.source_width, read.box) == (256, 256, (0, 0, 256, 256))


def test_dicom_is_known_by_its_content_and_fitted(tmp_path: Path) -> None:
    read = read_image(write_dicom(tmp_path / "no-ending", RAMP[:64]), 64)
    assert (read.source_height, read.source_width, read.box) == (64, 256, (0, 24, 64, 16))


def test_monochrome1_is_inverted(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "x.dcm", RAMP, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_allclose(read_image(path, 256).pixels[0], 255 - np.arange(256), atol=1)


def test_window_of_dicom(tmp_path: Path) -> None:
    """Below 1000 black, above 3000 white, linear between (PS3.3 C.11.2.1.2)."""
    path = write_dicom(tmp_path / "x.dcm", RAMP, WindowCenter=2000, WindowWidth=2000)
    expected = np.clip((RAMP[0] - 1000.0) / 2000, 0, 1) * 255
    np.testing.assert_allclose(read_image(path, 256).pixels[0], expected, atol=1)


def test_the_first_of_several_windows_counts(tmp_path: Path) -> None:
    several = {"WindowCenter": [2000, 500], "WindowWidth": [2000, 100]}
    pixels = [
        read_image(write_dicom(tmp_path / "x.dcm", RAMP, **window), 64).pixels
        for window in (several, {"WindowCenter": 2000, "WindowWidth": 2000})
    ]
    np.testing.assert_array_equal(*pixels)


def test_a_window_is_in_units_of_the_rescaled_values(tmp_path: Path) -> None:
    path = write_dicom(
        tmp_path / "x.dcm",
        RAMP,
        RescaleSlope=0.5,
        RescaleIntercept=-100,
        WindowCenter=900,
        WindowWidth=1000,
    )
    expected = np.clip((RAMP[0] * 0.5 - 100 - 400) / 1000, 0, 1) * 255
    np.testing.assert_allclose(read_image(path, 256).pixels[0], expected, atol=1)


@pytest.mark.parametrize("rescaled", [False, True])
def test_table_of_dicom(tmp_path: Path, rescaled: bool) -> None:
    """A VOI table that squares: from rescaled values too, where they are whole."""
    table = Dataset()
    table.LUTDescriptor = [4096, 0, 16]
    table.LUTData = (np.arange(4096) ** 2 // 256).astype("<u2").tobytes()
    elements: dict[str, Any] = {"VOILUTSequence": [table]}
    if rescaled:
        elements |= {"RescaleSlope": 1, "RescaleIntercept": 0}
    path = write_dicom(tmp_path / "x.dcm", RAMP, **elements)
    expected = (np.arange(256) / 255) ** 2 * 255
    np.testing.assert_allclose(read_image(path, 256).pixels[0], expected, atol=1.5)


def test_signed_dicom(tmp_path: Path) -> None:
    signed = (RAMP.astype(np.int16) - 2048)[:, ::-1].copy()
    read = read_image(write_dicom(tmp_path / "x.dcm", signed), 256)
    np.testing.assert_allclose(read.pixels[0], np.arange(256)[::-1], atol=1)


WINDOWS_BESIDE = [
    {"WindowCenter": 0, "WindowWidth": 1},
    {"WindowCenter": 0, "WindowWidth": 0},
    {"WindowCenter": 60000, "WindowWidth": 100},
    {"WindowCenter": -9000, "WindowWidth": 4000},
    {"WindowCenter": [0, 60000], "WindowWidth": [0, 10]},
    {"WindowCenter": 2000, "WindowWidth": -5, "VOILUTFunction": "SIGMOID"},
    {"WindowCenter": 2000, "WindowWidth": 2},
]
EMPTY: list[dict[str, Any]] = [
    {"RescaleSlope": None, "RescaleIntercept": None},
    {"RescaleSlope": 0, "RescaleIntercept": 5},
    {"RescaleSlope": "", "RescaleIntercept": 5},
    {"WindowCenter": None, "WindowWidth": None},
    {"WindowCenter": 2000, "WindowWidth": None},
    {"ModalityLUTSequence": []},
    {"ModalityLUTSequence": [Dataset()]},
    {"VOILUTSequence": [Dataset()]},
    {"PixelPaddingValue": None, "PixelPaddingRangeLimit": None},
    {"NumberOfFrames": None},
    {"SamplesPerPixel": None, "PixelRepresentation": None},
    {"PixelPaddingRangeLimit": 4095},
]


@pytest.mark.parametrize("elements", [*WINDOWS_BESIDE, *EMPTY])
def test_what_is_empty_or_beside_the_values_counts_as_absent(
    tmp_path: Path, elements: dict[str, Any]
) -> None:
    read = read_image(write_dicom(tmp_path / "x.dcm", RAMP, **elements), 256)
    np.testing.assert_allclose(read.pixels[0], np.arange(256), atol=1)


def test_the_first_window_that_leaves_a_picture_counts(tmp_path: Path) -> None:
    path = write_dicom(
        tmp_path / "x.dcm", RAMP, WindowCenter=[0, 2000, 2048], WindowWidth=[0, 2000, 4096]
    )
    expected = np.clip((RAMP[0] - 1000.0) / 2000, 0, 1) * 255
    np.testing.assert_allclose(read_image(path, 256).pixels[0], expected, atol=1)


def test_a_slope_below_0_turns_values_and_not_the_window(tmp_path: Path) -> None:
    window = {"WindowCenter": -2000, "WindowWidth": 2000}
    path = write_dicom(tmp_path / "x.dcm", RAMP, RescaleSlope=-1, RescaleIntercept=0, **window)
    expected = np.clip((3000.0 - RAMP[0]) / 2000, 0, 1) * 255
    np.testing.assert_allclose(read_image(path, 256).pixels[0], expected, atol=1)


@pytest.mark.parametrize("depth", [10, 12, 16])
@pytest.mark.parametrize("name", ["ModalityLUTSequence", "VOILUTSequence"])
def test_tables_of_every_depth(tmp_path: Path, name: str, depth: int) -> None:
    table = Dataset()
    table.LUTDescriptor = [4096, 0, depth]
    table.LUTData = (np.arange(4095, -1, -1) * (2**depth - 1) // 4095).astype("<u2").tobytes()
    path = write_dicom(tmp_path / "x.dcm", RAMP, **{name: [table]})
    np.testing.assert_allclose(read_image(path, 256).pixels[0], np.arange(256)[::-1], atol=1.5)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    ("kind", "elements", "padding"),
    [
        ("<u2", {"PixelPaddingValue": 65535}, [65535]),
        ("<u2", {"PixelPaddingValue": 60000, "PixelPaddingRangeLimit": 65535}, [60000, 64000]),
        ("<u2", {"PixelPaddingValue": 65535, "PixelPaddingRangeLimit": 60000}, [60000, 64000]),
        ("<i2", {"PixelPaddingValue": -32768}, [-32768]),
        ("<u2", {"PixelPaddingValue": 65535, "WindowCenter": 2048, "WindowWidth": 4096}, [65535]),
    ],
)
def test_padding_is_black_and_no_value(
    tmp_path: Path, kind: str, elements: dict[str, Any], padding: list[int], photometric: str
) -> None:
    pixels = RAMP.astype(kind)
    for row, value in enumerate(padding):
        pixels[row] = value
    bits = {"BitsStored": 16, "HighBit": 15, "PhotometricInterpretation": photometric}
    read = read_image(write_dicom(tmp_path / "x.dcm", pixels, **bits, **elements), 256).pixels
    assert read[: len(padding)].max() == 0
    ramp = np.arange(256)[::-1] if photometric == "MONOCHROME1" else np.arange(256)
    np.testing.assert_allclose(read[7], ramp, atol=1)


def test_padding_whose_sign_was_lost(tmp_path: Path) -> None:
    pixels = RAMP.astype("<i2")
    pixels[0] = -32768
    path = write_dicom(tmp_path / "x.dcm", pixels, BitsStored=16, HighBit=15)
    data = dcmread(path)
    data.add_new("PixelPaddingValue", "US", 32768)
    data.save_as(path)
    read = read_image(path, 256).pixels
    assert read[0].max() == 0
    np.testing.assert_allclose(read[7], np.arange(256), atol=1)


def test_padding_that_is_all_of_the_image_is_none(tmp_path: Path) -> None:
    elements = {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 4095}
    read = read_image(write_dicom(tmp_path / "x.dcm", RAMP, **elements), 256)
    np.testing.assert_allclose(read.pixels[0], np.arange(256), atol=1)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(("stored", "signed"), [(12, False), (10, False), (12, True)])
def test_overlay_bits_are_no_part_of_a_value(
    tmp_path: Path, compressed: bool, stored: int, signed: bool
) -> None:
    values = np.linspace(0, 2**stored - 1, 256).round().astype(int)
    values -= 2 ** (stored - 1) if signed else 0
    pixels = (values % 2**stored)[None].repeat(256, axis=0).astype(np.uint16)
    pixels[::2] |= 1 << stored  # an overlay in every other row
    bits = {"BitsStored": stored, "HighBit": stored - 1, "PixelRepresentation": int(signed)}
    path = write_dicom(tmp_path / "x.dcm", pixels, **bits)
    if compressed:
        data, stream = dcmread(path), BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG2000", irreversible=False, no_jp2=True)
        data.PixelData = encapsulate([stream.getvalue()])
        data.file_meta.TransferSyntaxUID = JPEG2000Lossless
        data.save_as(path)
    read = read_image(path, 256).pixels
    np.testing.assert_allclose(read[0], np.arange(256), atol=1)
    np.testing.assert_array_equal(read[0], read[1])


def test_values_at_the_upper_end_of_their_bits(tmp_path: Path) -> None:
    """12 bits stored, the highest of them bit 15: the lower 4 are not theirs."""
    path = write_dicom(tmp_path / "x.dcm", RAMP * 16 + 5, BitsStored=12, HighBit=15)
    np.testing.assert_allclose(read_image(path, 256).pixels[0], np.arange(256), atol=1)


def test_values_of_more_bits_than_the_file_says(tmp_path: Path) -> None:
    for pixels in (RAMP, RAMP.T.copy()):
        path = write_dicom(tmp_path / "x.dcm", pixels, BitsStored=10, HighBit=9)
        shown = np.arange(256)[None].repeat(256, axis=0)
        read = read_image(path, 256).pixels
        np.testing.assert_allclose(read, shown if pixels is RAMP else shown.T, atol=1)


def test_padding_outside_the_stored_bits(tmp_path: Path) -> None:
    pixels = RAMP.copy()
    pixels[:, 128:] = 65535
    read = read_image(write_dicom(tmp_path / "x.dcm", pixels, PixelPaddingValue=65535), 256)
    assert read.pixels[:, 128:].max() == 0
    np.testing.assert_allclose(read.pixels[7, :128], np.arange(128) * 255 / 127, atol=1)


def test_dicom_whose_values_are_no_image_is_refused(tmp_path: Path) -> None:
    colours = np.stack([RAMP] * 3, axis=-1)
    size = {"Rows": 256, "Columns": 256, "SamplesPerPixel": 3, "PlanarConfiguration": 0}
    with pytest.raises(DataError, match="values are 256 x 256 x 3"):
        read_image(write_dicom(tmp_path / "x.dcm", colours, **size), 64)
    with pytest.raises(DataError, match="values are 2 x 128 x 256"):
        read_image(write_dicom(tmp_path / "x.dcm", RAMP, Rows=128), 64)


@pytest.mark.parametrize("kind", ["<u4", "<i4"])
@pytest.mark.parametrize("window", [False, True])
def test_32_bits_take_no_more_memory_than_the_image(
    tmp_path: Path, kind: str, window: bool
) -> None:
    top = 2**30
    pixels = np.linspace(0, top, 256).astype(kind)[None].repeat(256, axis=0)
    bits: dict[str, Any] = {"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}
    if window:
        bits |= {"WindowCenter": top // 2, "WindowWidth": top}
    path = write_dicom(tmp_path / "x.dcm", pixels, **bits)
    tracemalloc.start()
    read = read_image(path, 256)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(read.pixels[0], np.arange(256), atol=1)
    assert peak < 100 * pixels.nbytes


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian]
)
@pytest.mark.parametrize("left", ["data set", "meta", "prefix", "preamble"])
def test_dicom_without_its_header(tmp_path: Path, syntax: UID, left: str) -> None:
    whole, bare = tmp_path / "whole.dcm", tmp_path / "bare.dcm"
    data = dcmread(write_dicom(tmp_path / "x.dcm", RAMP))
    little = syntax != ExplicitVRBigEndian
    data.PixelData = RAMP.astype("<u2" if little else ">u2").tobytes()
    data.file_meta.TransferSyntaxUID = syntax
    implicit = syntax == ImplicitVRLittleEndian
    stored = Dataset(data)
    dcmwrite(bare, stored, implicit_vr=implicit, little_endian=little)
    stored.file_meta = data.file_meta
    stored.preamble = b"\0" * 128
    dcmwrite(whole, stored, enforce_file_format=True)
    content = whole.read_bytes()
    if left != "data set":
        cuts = {"meta": content[132:], "prefix": content[128:]}
        bare.write_bytes(cuts.get(left, content[:128] + content[132:]))
    np.testing.assert_allclose(read_image(bare, 256).pixels[0], np.arange(256), atol=1)


@pytest.mark.parametrize("head", [b"\x08\0\x05\0", b"\x02\0\0\0", b"DICM\x08\0", b"\0" * 128])
def test_what_only_begins_as_dicom_is_no_image(tmp_path: Path, head: bytes) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(head + b"<html>not found</html>" * 20)
    with pytest.raises(DataError, match=r"not an image|DICOM without a picture|unreadable DICOM"):
        read_image(path, 64)


def test_too_little_memory_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("localmi.data.images.read_dicom", full)
    with pytest.raises(OSError, match=r"too little memory.*x\.dcm"):
        read_image(write_dicom(tmp_path / "x.dcm", RAMP), 64)


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"NumberOfFrames": 3}, "^DICOM of 3 frames, one is expected$"),
        ({"PhotometricInterpretation": "RGB"}, "^DICOM that is not MONOCHROME1 or MONOCHROME2$"),
        ({"PixelData": b"1234"}, "^unreadable DICOM \\(ValueError\\)$"),
        ({"Rows": 1, "Columns": 4, "PixelData": b"12345678"}, "^image of 4 x 1 pixels$"),
    ],
)
def test_dicom_that_cannot_be_used(tmp_path: Path, elements: dict[str, Any], reason: str) -> None:
    path = write_dicom(tmp_path / "x.dcm", RAMP, **elements)
    with pytest.raises(DataError, match=reason):
        read_image(path, 64)


def test_compressed_dicom_without_a_decoder_says_so(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "x.dcm", RAMP)
    data = dcmread(path)
    data.PixelData = encapsulate([b"no such stream"])
    data.file_meta.TransferSyntaxUID = JPEGLSLossless
    data.save_as(path)
    with pytest.raises(DataError, match="^DICOM compressed as JPEG-LS .*pip install pylib"):
        read_image(path, 64)


def test_damaged_dicom_tells_nothing_of_the_patient(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """Rejected or read, whatever is damaged; no element's value in a reason or a warning."""
    pixels = RAMP[:16, :16].copy()
    good = write_dicom(tmp_path / "x.dcm", pixels, PatientName="Doe^Ann").read_bytes()
    path, rng, reasons = tmp_path / "damaged.dcm", np.random.default_rng(0), []
    for _ in range(200):
        damaged = bytearray(good[: rng.integers(132, len(good))])
        for place in rng.integers(132, len(damaged), 3) if len(damaged) > 140 else ():
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            assert read_image(path, 16).pixels.shape == (16, 16)
        except DataError as error:
            reasons.append(str(error))
    assert len(reasons) > 50
    said = [*reasons, *(str(warning.message) for warning in recwarn)]
    assert [words for words in said if "Doe" in words or str(tmp_path) in words] == []


def test_nothing_of_a_header_is_logged_or_warned_of(tmp_path: Path) -> None:
    """In a process of its own: pytest sets what is logged and warned of."""
    good = write_dicom(tmp_path / "x.dcm", RAMP, PatientName="Doe^Ann").read_bytes()
    place = good.index(b"\x08\x00\x16\x00UI")  # the element before: (0008,0005), its character set
    lines = [
        "import logging, sys",
        "logging.basicConfig(level=logging.DEBUG)",
        "from localmi.data.images import read_image",
        "print(*(read_image(path, 16).pixels.shape for path in sys.argv[1:]))",
    ]
    paths = []
    for number, value in enumerate([b"Doe^Ann ", b"ISO 2022 IR 6\\Doe^Anna", b"ISO_IR 192\\Doe "]):
        element = b"\x08\x00\x05\x00CS" + len(value).to_bytes(2, "little") + value
        paths.append(tmp_path / f"{number}.dcm")
        paths[-1].write_bytes(good[:place] + element + good[place:])
    command = [sys.executable, "-W", "always", "-c", "\n".join(lines), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count("(16, 16)") == 3
    assert "Doe" not in done.stdout + done.stderr
