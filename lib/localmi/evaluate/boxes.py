"""Boxes that people have drawn around what a sentence speaks of, as in MS-CXR: a file -> masks.

On real radiographs they stand in for the truth that only a synthetic study has. Taught in
14_full_mimic_cxr.
"""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from localmi.errors import DataError
from localmi.evaluate.coco import is_coco, read_coco

NUMBERS = ["x", "y", "w", "h"]  # left, top, width and height, in pixels of the image's file
MS_CXR = {"dicom_id": "image_id", "label_text": "text", "category_name": "label"}  # its own names
DRAWN_ON = {"image_width": "source_width", "image_height": "source_height"}
MOST_PIXELS = 1e9
POLARITY = {"positive": "present", "negative": "absent", "present": "present", "absent": "absent"}
PLACE = ["source_width", "source_height", "box_left", "box_top", "box_width", "box_height"]


def read_boxes(path: Path | str) -> pd.DataFrame:
    """Boxes, a row a box: MS-CXR's CSV or its COCO JSON as they are, or with the columns below.

    Returns:
        image_id, text, label ("" where there is none), polarity, x, y, w, h; image_width and
        image_height as they stand in the file. polarity is "present", or "absent" for a text that
        denies, which has no box (files say positive and negative too). Other columns are left
        out: MS-CXR's `split` is not the split of the images that a model was trained on.

    Raises:
        DataError: no such file, a column is missing or stands there under both of its names, a
            polarity is unknown, or a row without image, text or a box; of JSON: see `read_coco`.

    Source: Boecking et al. 2022, https://doi.org/10.1007/978-3-031-20059-5_1; denials: Castro et
    al. 2024 (PadChest-GR), https://arxiv.org/abs/2411.05085.
    """
    path = Path(path)
    try:
        table = read_coco(path) if is_coco(path) else _read_csv(path)
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
    return _checked(table, path)


def _read_csv(path: Path) -> pd.DataFrame:
    """The rows, parted by commas, semicolons or tabs as the header is; the index says the line."""
    kinds = dict.fromkeys((*MS_CXR, *MS_CXR.values(), "polarity"), str)
    header = ",".join(map(str, pd.read_csv(path, nrows=0)))
    with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
        # index_col: else a comma too many in each row makes the image an index, and all shifts
        table = pd.read_csv(
            path,
            sep=max(",;\t", key=header.count),
            dtype=kinds,
            keep_default_na=False,
            na_values=[""],
            index_col=False,
        )
    return table.set_axis([f"line {row + 2}" for row in range(len(table))])


def _checked(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The columns of `read_boxes`; each row has an image, a text, and a box unless it denies."""
    for name, usual in (("label", ""), ("polarity", "positive")):
        if name not in table:
            table[name] = usual
    for name in ("image_id", "text", "label", "polarity"):
        table[name] = table[name].map(lambda cell: cell.strip() if isinstance(cell, str) else "")
    drawn_on = [name for name in DRAWN_ON if name in table]
    numbers = table[NUMBERS + drawn_on].map(_pixels)
    polarity = table["polarity"].str.lower().map(POLARITY)
    denied, has_numbers = polarity == "absent", table[NUMBERS].notna().any(axis=1)
    is_box = numbers.notna().all(axis=1) & (numbers[["w", "h"]] > 0).all(axis=1)
    said = (table[["image_id", "text"]] != "").all(axis=1)
    _refuse(polarity.isna(), path, f"have a polarity that is none of {', '.join(POLARITY)}")
    _refuse(denied & has_numbers, path, "deny, and have a box all the same")
    numeric = f"no plain numbers in {', '.join(NUMBERS + drawn_on)} with w and h above 0"
    _refuse(~(said & (is_box | denied)), path, f"have no image, no text, or {numeric}")
    drawn = numbers.loc[is_box, NUMBERS]
    if (drawn <= 1).all(axis=None) and (drawn % 1 > 0).any(axis=None):
        raise DataError(
            f"All boxes of {path} lie between 0 and 1: shares of the image, not pixels. Multiply "
            "x and w by its width, y and h by its height."
        )
    table = table.assign(**numbers, polarity=polarity).reset_index(drop=True)
    return table[["image_id", "text", "label", "polarity", *NUMBERS, *drawn_on]]


def _pixels(cell: object) -> float:
    """As a number; NaN for anything else, and for more pixels than any image has."""
    if not np.isscalar(cell):
        return float("nan")
    number = pd.to_numeric(cell, errors="coerce")  # type: ignore[call-overload]
    return float(number) if abs(number) < MOST_PIXELS else float("nan")


def _refuse(faulty: pd.Series, path: Path, what: str) -> None:
    if faulty.any():
        raise DataError(
            f"{faulty.sum()} rows of the boxes {path} {what}; the first is {faulty.idxmax()}. "
            "Mend or remove them."
        )


def box_masks(
    boxes: pd.DataFrame, images: pd.DataFrame, *, size: int
) -> tuple[pd.DataFrame, np.ndarray]:
    """Each phrase of an image, and the pixels of the prepared square that its boxes cover.

    Several boxes of one image and text are one mask: the phrase speaks of all these places. A
    pixel is covered where its centre lies in a box; a box between the centres gets one pixel.

    Args:
        boxes: from `read_boxes`; those on other images are left out, and denials, which have none.
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
    drawn = boxes.dropna(subset=NUMBERS)
    here = drawn.merge(rows, on="image_id", validate="many_to_one")
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
