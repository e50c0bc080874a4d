"""Any file as pieces of text that `privacy.find` reads: cells, members of archives, tables.

Taught in 13_preparing_mimic_cxr.
"""

import contextlib
import gzip
import html
import io
import json
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np

from localmi.privacy.record_ids import NAME_OF_IDS
from localmi.privacy.rules import Kind

MAX_BYTES = 1 << 30  # of a file or a member, unpacked
CODE = (".py", ".sh", ".toml", ".lock", ".yml", ".yaml")
ID_RANGES = ((10_000_000, 20_000_000), (50_000_000, 60_000_000))  # patients, studies
RECORD_ID_RANGES = ((20_000_000, 30_000_000), (30_000_000, 40_000_000))  # admissions, stays
PARQUET_ROWS = 16_384  # at a time
UNREADABLE: tuple[type[Exception], ...] = (OSError, EOFError, ValueError, KeyError, RuntimeError)
UNREADABLE += (zlib.error, tarfile.TarError, zipfile.BadZipFile)


@dataclass(frozen=True)
class TextPart:
    """A text with its place in its file: "member b.csv", "cell 3, output", "" for the whole."""

    place: str
    text: str
    kind: Kind


class TooLargeError(Exception):
    """A file or member is larger than `MAX_BYTES`."""


def text_parts(name: str, content: bytes, place: str = "") -> Iterator[TextPart]:
    """All text of a file, unpacked as deep as it goes; what cannot be unpacked counts as bytes.

    Args:
        name: of the file or member; its ending and its first bytes say how to read it.
        content: its bytes.
        place: of the member in its file.

    Raises:
        TooLargeError: it holds more than `MAX_BYTES`.
    """
    with contextlib.suppress(*UNREADABLE):  # damaged: what came so far has been looked at
        if content[:2] == b"\x1f\x8b":
            inside = _read(gzip.GzipFile(fileobj=io.BytesIO(content)))
            yield from text_parts(re.sub(r"\.gz$|(?<=\.t)gz$", "", name), inside, place)
            return
        if content[257:262] == b"ustar":
            yield from _tar(content, place)
            return
        if content[:2] == b"PK":
            yield from _zip(content, place)
            return
        if content[:4] == b"PAR1":
            yield from _parquet(content, place)
            return
        if content[:6] == b"\x93NUMPY":
            yield from _array(PurePath(name).stem, content, place)
            return
    yield from _text(name, content, place)


def _read(file: Any) -> bytes:
    content: bytes = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise TooLargeError
    return content


def _inside(place: str, part: str) -> str:
    return f"{place}, {part}" if place else part


def _tar(content: bytes, place: str) -> Iterator[TextPart]:
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for number, member in enumerate(archive, start=1):
            where = _inside(place, f"member {number}")
            yield TextPart(f"{where}, its name", member.name, "text")
            if (file := archive.extractfile(member)) is not None:
                yield from text_parts(member.name, _read(file), where)


def _zip(content: bytes, place: str) -> Iterator[TextPart]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for number, member in enumerate(archive.infolist(), start=1):
            where = _inside(place, f"member {number}")
            yield TextPart(f"{where}, its name", member.filename, "text")
            with contextlib.suppress(*UNREADABLE), archive.open(member) as file:  # encrypted
                yield from text_parts(member.filename, _read(file), where)


def _parquet(content: bytes, place: str) -> Iterator[TextPart]:
    from pyarrow.parquet import ParquetFile

    for batch in ParquetFile(io.BytesIO(content)).iter_batches(batch_size=PARQUET_ROWS):
        yield TextPart(_inside(place, "table"), batch.to_pandas().to_csv(index=False), "text")


def _array(name: str, content: bytes, place: str) -> Iterator[TextPart]:
    """Words of an array of words; and whole numbers, where all lie in one range of ids. Those of
    a record may be dates as well: they stand below the array's name, which says what they are."""
    array = np.load(io.BytesIO(content), allow_pickle=False)
    if array.dtype.kind in "US":
        words = array.astype(str).ravel().tolist()
        yield TextPart(_inside(place, "array"), "\n".join(words), "text")
    elif array.dtype.kind in "iu" and array.dtype.itemsize >= 4 and array.size:
        low, high = array.min(), array.max()
        for column, ranges in (("study_id", ID_RANGES), (name, RECORD_ID_RANGES)):
            if any(start <= low and high < end for start, end in ranges):
                numbers = "\n".join(map(str, array.ravel().tolist()))
                yield TextPart(_inside(place, "array"), f"{column}\n{numbers}", "text")


def _text(name: str, content: bytes, place: str) -> Iterator[TextPart]:
    marks = (b"\xff\xfe", b"\xfe\xff")
    try:
        text = content.decode("utf-16" if content[:2] in marks else "utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:  # letters of two or four bytes close up when the zeros between them go
        yield TextPart(place, content.replace(b"\0", b"").decode("latin-1"), "binary")
    elif PurePath(name).suffix == ".ipynb":
        yield from _notebook(text, place)
    else:
        yield TextPart(place, text, "code" if PurePath(name).suffix in CODE else "text")


def _notebook(text: str, place: str) -> Iterator[TextPart]:
    try:
        cells = list(json.loads(text)["cells"])
    except (ValueError, KeyError, TypeError):
        yield TextPart(place, text, "text")
        return
    for number, cell in enumerate(cells):
        where, source = _inside(place, f"cell {number}"), _joined(cell.get("source", ""))
        yield TextPart(where, source, "notebook")
        named = NAME_OF_IDS.search(source)  # what a cell asks for, its outputs are
        for output in cell.get("outputs", []):
            shown = "\n".join(_strings(output))
            shown = f"{named[0]} {shown}" if named else shown
            yield TextPart(f"{where}, output", shown, "notebook")
    beside = [json.loads(text).get("metadata"), [cell.get("metadata") for cell in cells]]
    yield TextPart(_inside(place, "metadata"), "\n".join(_strings(beside)), "notebook")


def _joined(content: str | list[str]) -> str:
    return content if isinstance(content, str) else "".join(content)


def _strings(value: Any, kind: str = "") -> Iterator[str]:
    """Every text in a part of a notebook, pixels excepted; tables one row a line, no colours."""
    if isinstance(value, str) or (isinstance(value, list) and _all_text(value)):
        text = re.sub(r"\x1b\[[0-9;]*m", "", _joined(value))
        if kind == "text/html":
            rows = re.sub(r"</(?:tr|p|div|pre)>|<br/?>", "\n", re.sub(r"\s+", " ", text))
            text = html.unescape(re.sub(r"<[^>]*>", " ", rows))
        if not kind.startswith("image/"):
            yield text
    elif isinstance(value, dict):
        for name, part in value.items():
            yield from _strings(part, name)
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part, kind)
    elif isinstance(value, int):
        yield str(value)


def _all_text(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)
