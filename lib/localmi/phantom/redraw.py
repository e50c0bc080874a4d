"""The same radiograph without one of its findings: what only a synthetic study can show.

Each part of an image draws from a stream of random numbers of its own, so an image can be drawn
again with one thing left out and all else as it was: patient, pose, exposure, noise. Taught in
09_reading_the_model.
"""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from localmi.data.images import read_image
from localmi.errors import DataError
from localmi.phantom.image import render
from localmi.phantom.latents import study_of
from localmi.phantom.lateral import render_lateral
from localmi.phantom.read import Truth
from localmi.phantom.tables import dicom_id
from localmi.phantom.write import JPEG_QUALITY


def redraw(
    truth: Truth, study_id: str, image_id: str, *, size: int, without: str = ""
) -> np.ndarray:
    """An image of the study, as it is read from its file, or without one of its findings.

    Args:
        truth: of the synthetic study.
        study_id, image_id: as in `finding_sentences`.
        size: of the square image, in pixels.
        without: the finding to leave out; "" leaves out none.

    Returns:
        [size, size] uint8. Without `without`: the pixels of the cache.

    Raises:
        DataError: there is no such image, or the finding is not in it.

    Taught in 09_reading_the_model.
    """
    config = truth.config
    study = study_of(config, study_id)
    names = [dicom_id(config, study, number) for number in study.images]
    if image_id not in names or without not in ("", *study.present):
        raise DataError(
            f"No image {image_id} with {without or 'no change'!r} in study {study_id}: it has the "
            f"images {names} and the findings {list(study.present)}."
        )
    kept = tuple(finding for finding in study.findings if finding.name != without)
    changed, number = replace(study, findings=kept), names.index(image_id)
    drawn = (
        render_lateral(changed, config)
        if number == study.num_images
        else render(changed, config, number)
    ).image
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.jpg"
        Image.fromarray(drawn).save(path, quality=JPEG_QUALITY)
        return read_image(path, size).pixels
