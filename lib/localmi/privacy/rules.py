"""What of MIMIC-CXR and MIMIC-IV must never be stored: rules that find ids and reports in text.

Both are credentialed: whoever uses them has signed that no text, pixel or id of them is passed on.
`scan` applies these rules to files, `run` to what a run leaves, `lint` to notebooks. The ids of
synthetic data lie outside MIMIC's ranges (patients p9..., studies s8..., admissions 7..., stays
in intensive care 6...), its image ids and its sentences are known. No finding ever says the id or
the text itself. Taught in 13_preparing_mimic_cxr.
"""

import bisect
import csv
import functools
import gzip
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal, get_args

from localmi.errors import check_name
from localmi.files import REPOSITORY
from localmi.privacy.record_ids import record_ids

EXAMPLE = REPOSITORY / "data" / "example"
PATIENT, STUDY, IMAGE = (f"the id of a MIMIC-CXR {kind}" for kind in ("patient", "study", "image"))
ADMISSION, STAY = (f"the id of a MIMIC-IV {kind}" for kind in ("admission", "stay"))
REPORT = "a report as MIMIC-CXR writes it"

# Patients are 1xxxxxxx or p1xxxxxxx, studies 5xxxxxxx or s5xxxxxxx. A bare number may also be a
# count: it is an id in a notebook (where counts have commas) or where its surroundings say so.
# What may stand before is asked after the first character: so the search is five times as fast.
_NAMED = r"[pPsS](?<![A-Za-z0-9].)(?:(?<=[pP])1|(?<=[sS])5)[0-9]{7}(?![A-Za-z0-9])"
_BARE = r"[15](?<![\w.-].)[0-9]{7}(?![\w-]|\.(?!0\b)\d)"
NAMED_ID = re.compile(_NAMED)
BARE_ID = re.compile(_BARE)
MIMIC_ID = re.compile(f"{_NAMED}|{_BARE}")
IMAGE_ID = re.compile(r"[0-9a-f](?<![0-9A-Za-z-].)[0-9a-f]{7}(?:-[0-9a-f]{8}){4}(?![0-9A-Za-z-])")
SYNTHETIC_ID = re.compile(r"(?<![\w.-])(?:p?9|s?8)[0-9]{7}(?![\w-])")
ID_COLUMN = re.compile(r"\b(?:subject|patient|study)_?ids?\b", re.IGNORECASE)
ID_BEFORE = re.compile(
    r"\b(?:subject|patient|study|studies)(?:s|[ _]?ids?)?[\"'`]*[\s:=(\[]{0,4}[\"']?$",
    re.IGNORECASE,
)

REPORT_TITLE = re.compile(
    r"FINAL REPORT(?:(?<=[\"'`\n].{12})|(?<=[ \t]{2}.{12})|(?<=\A.{12}))[ \t]*(\n|\\n)"
)
REPORT_HEADER = re.compile(r"^[ \t]{0,2}([A-Z][A-Z ()/,-]+):", re.MULTILINE)
REPORT_LENGTH = 4000  # characters in which headers are looked for
REPORT_WORDS = 20  # a title with less after it is a mention, or a test's

Kind = Literal["text", "code", "notebook", "binary"]


@dataclass(frozen=True)
class Hit:
    """One thing that must not be stored: in which line (from 1), and what kind of thing."""

    line: int
    words: str


def find(text: str, kind: Kind = "text") -> Iterator[Hit]:
    """Ids and reports of MIMIC-CXR and MIMIC-IV in a text, as far as a form gives them away.

    Args:
        text: what a file, a cell or a member of an archive holds.
        kind: in a "notebook" every number in MIMIC-CXR's ranges is an id; in "text" those are
            that stand with others of their row or under a column of ids; in "code" no column
            counts; in "binary" only ids with their letter, and ids of images. Of MIMIC-IV,
            `record_ids` says which.
    """
    check_name("kind of text", kind, get_args(Kind))
    line_of = _line_counter(text)
    has_column = functools.cache(lambda: kind == "text" and ID_COLUMN.search(text) is not None)
    for match in NAMED_ID.finditer(text):
        yield Hit(line_of(match.start()), STUDY if match[0][0] in "sS" else PATIENT)
    for match in IMAGE_ID.finditer(text):
        if match[0] not in example_images() and not SYNTHETIC_ID.search(_line(text, match)):
            yield Hit(line_of(match.start()), IMAGE)
    if kind == "binary":
        return
    for match in BARE_ID.finditer(text):
        if kind == "notebook" or _is_id(text, match) or has_column():
            yield Hit(line_of(match.start()), STUDY if match[0][0] == "5" else PATIENT)
    for match in record_ids(text, columns=kind != "code"):
        yield Hit(line_of(match.start()), ADMISSION if match[0][0] == "2" else STAY)
    for match in REPORT_TITLE.finditer(text):
        after = text[match.end() : match.end() + REPORT_LENGTH]
        if match[1] != "\n":  # as in JSON or source: up to the end of the line it is written in
            after = after.partition("\n")[0].replace("\\n", "\n")
        if _is_report(after):
            yield Hit(line_of(match.start()), REPORT)


def masked(text: str) -> str:
    """The text with [id] for every id of a patient, study, image, admission or stay."""
    for match in reversed([*record_ids(text)]):
        text = f"{text[: match.start()]}[id]{text[match.end() :]}"
    return IMAGE_ID.sub("[id]", MIMIC_ID.sub("[id]", text))


def _line_counter(text: str) -> Callable[[int], int]:
    """Position -> line, counted once and only when something was found."""

    @functools.cache
    def starts() -> list[int]:
        return list(accumulate((len(line) + 1 for line in text.split("\n")), initial=0))

    return lambda position: bisect.bisect_right(starts(), position)


def _line(text: str, match: re.Match[str]) -> str:
    end = text.find("\n", match.end())
    return text[text.rfind("\n", 0, match.start()) + 1 : end if end >= 0 else len(text)]


def _is_id(text: str, match: re.Match[str]) -> bool:
    """Do the surroundings of a bare number say that it is an id?"""
    if ID_BEFORE.search(text[max(0, match.start() - 40) : match.start()]):
        return True
    # a patient and a study in one row
    return {number[0] for number in BARE_ID.findall(_line(text, match))} == {"1", "5"}


def _is_report(after_title: str) -> bool:
    """Is what follows the title a report, and not one that the example's sentences make up?"""
    signs = {match[1] for match in REPORT_HEADER.finditer(after_title)}
    signs |= {"___"} & set(re.findall("___", after_title))
    if len(signs) < 2 or len(after_title.split()) < REPORT_WORDS:
        return False
    from localmi.data.reports import body_sections, split_sentences

    indented = re.match(r"(?:\n?[ \t][^\n]*|\n)*", after_title)  # as in a report every line is
    body = body_sections(indented[0] if indented else "")
    sentences = [words for part in body.values() for words in split_sentences(part)]
    return not sentences or not all(_is_synthetic(words) for words in sentences)


def _is_synthetic(sentence: str) -> bool:
    """Does it stand in the example study, or begin a sentence that does (an excerpt's last)?"""
    words = sentence.casefold().rstrip("\"'")
    known = example_sentences()
    return words in known or any(other.startswith(words.rstrip(". ")) for other in known)


@functools.cache
def example_images() -> frozenset[str]:
    """Image ids of the example study; empty where it is not there."""
    path = EXAMPLE / "mimic-cxr-2.0.0-metadata.csv.gz"
    return frozenset(_column(path, "dicom_id"))


@functools.cache
def example_sentences() -> frozenset[str]:
    """Sentences of the example study in lower case; empty where it is not there."""
    return frozenset(map(str.casefold, _column(EXAMPLE / "truth" / "sentences.csv", "text")))


def _column(path: Path, name: str) -> list[str]:
    if not path.is_file():
        return []
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8", newline="") as file:
        return [row[name] for row in csv.DictReader(file)]
