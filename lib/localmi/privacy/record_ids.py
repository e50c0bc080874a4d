"""The ids of MIMIC-IV in text: admissions 2xxxxxxx (hadm_id), stays in intensive care 3xxxxxxx.

They have no letter, and dates such as the StudyDate of a study begin with a 2 as well. So such a
number is an id only where its surroundings say so: the words before it, its column, a patient in
its row. Those of the synthetic study are 7xxxxxxx and 6xxxxxxx. `rules` asks. Taught in
13_preparing_mimic_cxr.
"""

import bisect
import csv
import functools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# What may stand before is asked after the first character: so the search is faster.
_END = r"[0-9]{7}(?![\w-]|\.(?!0\b)\d)"
RECORD_ID = re.compile(rf"[23](?:(?<![\w.-].)|(?<=hadm_.)|(?<=stay_.)){_END}")
PATIENT_ID = re.compile(rf"1(?:(?<![\w.-].)|(?<=\b[pP].)){_END}")
# YYYYMMDD in the years of studies, or DDMMYYYY.
DATE = re.compile(
    r"2[0-2]\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
    r"|(?:2\d|3[01])(?:0[1-9]|1[0-2])(?:19|2[0-2])\d\d"
)
NOUNS = ("hadm", "icustay", "stay", "admission")
_NOUN = f"(?:{'|'.join(NOUNS)})"
_SAID = r"(?:\.\w+| (?:not )?in\b| (?:is|was|no\.?|nr\.?|number)\b\.?)?"  # .isin, IN, no.
BEFORE = re.compile(
    rf"(?<![a-z]){_NOUN}(?:s|[ _]?ids?)?[\"'`\]]*{_SAID}[\s:=(\[_#!]{{0,4}}[\"']?$"
)
NEXT_OF_LIST = re.compile(r"[\"']?\s*,\s*[\"']?")
COLUMN = re.compile(rf"(?:\w+_)?{_NOUN}(?:s|_?ids?)?", re.IGNORECASE)
NAME_OF_IDS = re.compile(rf"(?<![a-z]){_NOUN}_?ids?\b", re.IGNORECASE)
NAMED_BELOW = re.compile(rf"^Name: (?:\w+_)?{_NOUN}_?id\b", re.IGNORECASE | re.MULTILINE)
DATE_COLUMN = re.compile(r"date|time|day|dod", re.IGNORECASE)
BLANK_LINE = re.compile(r"\n[ \t\r]*\n")
DELIMITERS = "\t|;,"
LONGEST = 1000  # characters of a header, and of a row before and after the number


def record_ids(text: str, *, columns: bool = True) -> Iterator[re.Match[str]]:
    """The numbers in a text that are ids of MIMIC-IV.

    Args:
        columns: whether a number is an id, too, below a name of ids; in code it is not.
    """
    matches = list(RECORD_ID.finditer(text))
    if not matches or not (_has_noun(text) or PATIENT_ID.search(text)):  # dates, in most files
        return
    block_of = _block_finder(text) if columns else None
    end = None  # of the last one that is an id
    for match in matches:
        listed = end is not None and NEXT_OF_LIST.fullmatch(text, end, match.start())
        if (listed and not DATE.match(match[0])) or _is_id(match, block_of):
            end = match.end()
            yield match


def _has_noun(text: str) -> bool:
    lower = text.lower()
    return any(noun in lower for noun in NOUNS)


def _is_id(match: re.Match[str], block_of: "Callable[[int], _Block] | None") -> bool:
    """Do the surroundings of a number say that it is an id?"""
    text, start, may_be_date = match.string, match.start(), DATE.match(match[0]) is not None
    before = text[max(0, start - 40) : start].lower()
    if _has_noun(before) and (said := BEFORE.search(before)):
        return "id" in said[0] or not may_be_date
    row_start, row = _row(match)
    beside_a_patient = PATIENT_ID.search(row) is not None
    block = block_of(start) if block_of else NO_BLOCK
    below_ids = block.ids < start
    if not (beside_a_patient or below_ids or block.has_column):
        return False
    if column := _column(block.header, row, start - row_start):
        may_be_date = may_be_date and DATE_COLUMN.search(column) is not None
        return COLUMN.fullmatch(column) is not None or (beside_a_patient and not may_be_date)
    return (beside_a_patient or below_ids) and not may_be_date


def _row(match: re.Match[str]) -> tuple[int, str]:
    """The line of a number, or what of a long one is near it; and where that begins."""
    text, low, high = match.string, max(0, match.start() - LONGEST), match.end() + LONGEST
    start = max(low, text.rfind("\n", low, match.start()) + 1)
    end = text.find("\n", match.end(), high)
    return start, text[start : end if end >= 0 else high]


def _column(header: str, row: str, place: int) -> str:
    """The name above the field at this place of a row; "" where both are not of one table."""
    delimiter = next((each for each in DELIMITERS if each in header), "")
    names, fields, before = (
        next(csv.reader([line], delimiter=delimiter), []) if delimiter else line.split()
        for line in (each.replace("\r", " ") for each in (header, row, row[:place] + "0"))
    )
    if header == row or len(names) != len(fields):
        return ""
    name = names[len(before) - 1].strip("\"'`* ")
    return name if re.fullmatch(r"\w[\w .-]*", name) else ""


@dataclass(frozen=True)
class _Block:
    """What stands between two blank lines, as a table does.

    header: its first line; "" where that is longer than one is. has_column: whether a name there
    may be one of ids. ids: where such a name as hadm_id first stands, infinite if nowhere; before
    all where pandas prints it below a column, "Name: hadm_id".
    """

    header: str
    has_column: bool
    ids: float


NO_BLOCK = _Block("", False, math.inf)


def _block_finder(text: str) -> Callable[[int], _Block]:
    """Position -> its block. Each is looked at once, and none before a number was found."""

    @functools.cache
    def starts() -> list[int]:
        return [0, *(match.end() for match in BLANK_LINE.finditer(text)), len(text)]

    @functools.cache
    def block(number: int) -> _Block:
        start, end = starts()[number - 1 : number + 1]
        header = text[start:end].partition("\n")[0][: LONGEST + 1]
        header = header if len(header) <= LONGEST else ""
        first = NAME_OF_IDS.search(text, start, end)
        ids = first.start() if first else math.inf
        if first and NAMED_BELOW.search(text, start, end):
            ids = start - 1
        return _Block(header, _has_noun(header), ids)

    return lambda position: block(bisect.bisect_right(starts(), position))
