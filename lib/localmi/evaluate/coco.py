"""Boxes in COCO's layout, in which MS-CXR is published beside its CSV: JSON -> the same table."""

import json
import re
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pandas as pd

from localmi.errors import DataError, shortened

SUFFIX = re.compile(r"\.[a-z]\w*(\.gz)?$", re.IGNORECASE)  # of a file's name, not .840 of a UID
Entry = dict[str, Any]


def is_coco(path: Path) -> bool:
    """By the suffix, or by the first character: no header of a CSV begins with a bracket."""
    with open(path, "rb") as file:
        first = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()[:1]
    return path.suffix.lower() == ".json" or first in (b"{", b"[")


def read_coco(path: Path) -> pd.DataFrame:
    """One row an annotation, with the columns of MS-CXR's CSV; the index says which it is.

    An image's id is the stem of its file's name. Rows of an image stand together, as in that CSV.

    Raises:
        DataError: no JSON; images, categories or annotations are missing, or one has no id or
            that of another; an annotation of an unknown image or category, or with a bbox that is
            not four numbers.
    """
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"The boxes {path} cannot be read as JSON: {error}. Download or export them anew."
        ) from error
    parts = {name: _by_id(found, name, path) for name in ("images", "categories", "annotations")}
    rows = []
    for number, one in parts["annotations"].items():
        where = f"Annotation {number} of the boxes {path}"
        image = _meant(parts["images"], one, "image_id", where)
        category = _meant(parts["categories"], one, "category_id", where)
        name = image.get("file_name") or image.get("path") or ""
        row = {
            "dicom_id": SUFFIX.sub("", PureWindowsPath(str(name)).name),  # knows both slashes
            "category_name": category.get("name"),
            "label_text": one.get("label_text"),
            "polarity": one.get("polarity", "positive"),
        }
        row |= dict(zip("xywh", _four_numbers(one.get("bbox") or None, where), strict=True))
        rows.append(row | {f"image_{side}": image.get(side) for side in ("width", "height")})
    table = pd.DataFrame(rows, [f"annotation {number}" for number in parts["annotations"]])
    return table.iloc[np.argsort(pd.factorize(table["dicom_id"])[0], kind="stable")]


def _by_id(found: object, part: str, path: Path) -> dict[int | str, Entry]:
    """The entries of a part; each has an id of its own."""
    entries = found.get(part) if isinstance(found, dict) else None
    are_objects = isinstance(entries, list) and all(isinstance(one, dict) for one in entries)
    if not entries or not are_objects:
        holds = shortened(map(str, found)) if isinstance(found, dict) else [type(found).__name__]
        raise DataError(
            f"The boxes {path} are JSON, but have no list {part!r} with anything in it: found "
            f"{', '.join(holds) or 'nothing'}. Give COCO's layout, as MS-CXR has it: images, "
            "categories and annotations."
        )
    by_id: dict[int | str, Entry] = {}
    for place, one in enumerate(entries):
        number = one.get("id")
        fault = "" if isinstance(number, int | str) else "which is no number or text"
        if fault := fault or "which another has" * (number in by_id):
            raise DataError(
                f"Entry {place} (from 0) of {part!r} in the boxes {path} has the id {number!r}, "
                f"{fault}. Give each an id of its own."
            )
        by_id[number] = one
    return by_id


def _meant(entries: dict[int | str, Entry], one: Entry, name: str, where: str) -> Entry:
    """The image or the category that an annotation names by its id."""
    number = one.get(name)
    if not isinstance(number, int | str) or number not in entries:
        known = ", ".join(shortened(map(repr, entries), most=5))
        raise DataError(
            f"{where} has the {name} {number!r}, which none has: there are {known}. Mend or "
            "remove it."
        )
    return entries[number]


def _four_numbers(bbox: object, where: str) -> list[float | None]:
    """Left, top, width and height; None each, where there is no box."""
    if bbox is None:
        return [None] * 4
    kinds = [type(one) for one in bbox] if isinstance(bbox, list) else []
    if not (isinstance(bbox, list) and len(bbox) == 4 and {*kinds} <= {int, float}):
        raise DataError(
            f"{where} has the bbox {bbox!r}. It must be four numbers, left, top, width and height "
            "in pixels of the image's file. Mend or remove it."
        )
    return bbox
