"""Boxes that people have drawn around what a sentence speaks of, as in MS-CXR: a table -> masks.

On real radiographs they stand in for the truth that only a synthetic study has. Taught in
14_full_mimic_cxr.
"""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from localmi.errors import DataError

NUMBERS = ["x", "y", "w", "h"]  # left, top, width and height, in pixels of the image's file
MS_CXR = {"dicom_id": "image_id", "label_text": "text", "category_name": "label"}  # its own names
DRAWN_ON = {"image_width": "source_width", "image_height": "source_height"}
PLACE = ["source_width", "source_height", "box_left", "box_top", "box_width", "box_height"]


def read_boxes(path: Path | str) -> pd.DataFrame:
    """A CSV of boxes, a row a box: of MS-CXR as it is, or with the columns below.

    Returns:
        image_id, text, x, y, w, h, and label where there is one ("" otherwise); image_width and
        image_height as they stand in the file. Other columns are left out: MS-CXR's `split` is not
        the split of the images that a model was trained on.

    Raises:
        DataError: no such file, a column is missing or stands there under both of its names, or a
            row without image, text or a box.

    Source: Boecking et al. 2022, https://doi.org/10.1007/978-3-031-20059-5_1.
    """
    try:
        kinds = dict.fromkeys((*MS_CXR, *MS_CXR.values()), str)
        with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
            # index_col: else a comma too many in each row makes the image an index, and all shifts
            table = pd.read_csv(
                path, dtype=kinds, keep_default_na=False, na_values=[""], index_col=False
            )
    except (OSError, ValueError, pd.errors.ParserWarning) as error:
        raise DataError(
            f"The boxes {path} cannot be read: {error}. Give a CSV in UTF-8, with commas; a text "
            "that has one stands in quotes."
        ) from error
    if twice := [
        f"{theirs} and {ours}" for theirs, ours in MS_CXR.items() if {theirs, ours} <= {*table}
    ]:
        raise DataError(
            f"The boxes {path} have {', '.join(twice)}, two names of one column. Keep one."
        )
    table = table.rename(columns=MS_CXR)
    if missing := [name for name in ("image_id", "text", *NUMBERS) if name not in table]:
        raise DataError(
            f"The boxes {path} have no column {', '.join(missing)}; there are "
            f"{', '.join(map(str, table))}. Name them so, or as MS-CXR does."
        )
    drawn_on = [name for name in DRAWN_ON if name in table]
    numbers = table[NUMBERS + drawn_on].apply(pd.to_numeric, errors="coerce")
    is_box = numbers.notna().all(axis=1) & (numbers[["w", "h"]] > 0).all(axis=1)
    usable = is_box & table[["image_id", "text"]].notna().all(axis=1)
    if not usable.all():
        raise DataError(
            f"{(~usable).sum()} rows of the boxes {path} have no image, no text, or no plain "
            f"numbers in {', '.join(numbers)} with w and h above 0; the first is line "
            f"{int(usable.argmin()) + 2}. Mend or remove them."
        )
    label = table["label"].fillna("") if "label" in table else ""
    table = table.assign(**numbers, label=label)
    return table[["image_id", "text", "label", *NUMBERS, *drawn_on]]


def box_masks(
    boxes: pd.DataFrame, images: pd.DataFrame, *, size: int
) -> tuple[pd.DataFrame, np.ndarray]:
    """Each phrase of an image, and the pixels of the prepared square that its boxes cover.

    Several boxes of one image and text are one mask: the phrase speaks of all these places. A
    pixel is covered where its centre lies in a box; a box between the centres gets one pixel.

    Args:
        boxes: from `read_boxes`; those on other images are left out.
        images: a row an image, with image_id, patient_id, and where its file lies in the square:
            source_width to box_height, as in `Cache.manifest`.
        size: side of the square, in pixels.

    Returns:
        A row a phrase: image_id, text, label, patient_id, image (row of `images`); and
        [S, size, size] bool.

    Raises:
        DataError: a box lies outside of its image, or was drawn on an image of another size.
    """
    rows = images.reset_index(drop=True).rename_axis("image").reset_index()
    rows = rows[["image", "image_id", "patient_id", *PLACE]]
    here = boxes.merge(rows, on="image_id", validate="many_to_one")
    _check_inside(here)
    groups = here.groupby(["image", "text"], sort=False)
    phrases = groups[["image_id", "text", "label", "patient_id", "image"]].head(1)
    masks = np.zeros((len(phrases), size, size), dtype=bool)
    edges = zip(_covered(here, "x", "w"), _covered(here, "y", "h"), strict=True)
    for phrase, (columns, lines) in zip(groups.ngroup(), edges, strict=True):
        masks[phrase, lines, columns] = True
    return phrases.reset_index(drop=True), masks


def _check_inside(here: pd.DataFrame) -> None:
    """Boxes beside their image, and those on an image of another size, are of other files."""
    for drawn, source in DRAWN_ON.items():
        if drawn in here and (other := here[here[drawn] != here[source]]).size:
            raise DataError(
                f"{len(other)} boxes were drawn on images of another size ({drawn} "
                f"{other.iloc[0][drawn]:g}, the file has {other.iloc[0][source]:g}). Give them in "
                "pixels of the files that were prepared."
            )
    beside = (here[["x", "y"]] < -1).any(axis=1)
    for start, length, source in (("x", "w", "source_width"), ("y", "h", "source_height")):
        beside |= here[start] + here[length] > here[source] + 1  # rounded to a pixel
    if beside.any():
        raise DataError(
            f"{beside.sum()} boxes lie outside of their image. x, y, w, h are left, top, width, "
            "height in pixels of the image's file, before it was scaled down."
        )


def _covered(here: pd.DataFrame, start: str, length: str) -> list[slice]:
    """Columns (or lines) of the square whose centre lies in each box, one at least."""
    side, first = ("width", "box_left") if start == "x" else ("height", "box_top")
    scale = here[f"box_{side}"] / here[f"source_{side}"]
    ends = [here[first] + scale * place for place in (here[start], here[start] + here[length])]
    low, high = (np.ceil(end.to_numpy() - 0.5).astype(int) for end in ends)
    least, most = here[first].to_numpy(), (here[first] + here[f"box_{side}"]).to_numpy()
    low = np.clip(low, least, most - 1)
    high = np.clip(np.maximum(high, low + 1), None, most)
    return [slice(*both) for both in zip(low.tolist(), high.tolist(), strict=True)]
