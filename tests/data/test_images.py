"""From files of any kind to squares of 8-bit grey."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
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


def test_float_and_flat_images(tmp_path: Path) -> None:
    ramp = np.linspace(-1, 1, 16, dtype=np.float32)[None].repeat(16, axis=0)
    assert read_image(save(tmp_path / "float.tiff", ramp), 16).pixels[0, ::15].tolist() == [0, 255]
    flat = np.full((16, 16), 500, np.uint16)
    assert read_image(save(tmp_path / "flat.png", flat), 16).pixels.max() == 0
    ramp[3, 3] = np.nan
    with pytest.raises(DataError, match="not finite"):
        read_image(save(tmp_path / "nan.tiff", ramp), 16)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA", "1", "CMYK"])
def test_colour_becomes_grey(tmp_path: Path, mode: str) -> None:
    left_white = np.zeros((16, 16), np.uint8)
    left_white[:, :8] = 255
    end = "tiff" if mode == "CMYK" else "png"
    path = tmp_path / f"colour.{end}"
    Image.fromarray(left_white).convert("RGB").convert(mode).save(path)
    np.testing.assert_allclose(read_image(path, 16).pixels, left_white, atol=2)


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
    read = read_image(save(tmp_path / "white.png", np.full(shape, 255, np.uint8)), 32)
    left, top, width, height = read.box
    assert read.box == box
    assert (read.source_height, read.source_width) == shape
    inside = np.zeros((32, 32), bool)
    inside[top : top + height, left : left + width] = True
    np.testing.assert_array_equal(read.pixels, np.where(inside, 255, 0))


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
    with pytest.raises(DataError, match="^DICOM compressed as JPEG-LS Lossless.*, which cannot"):
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
