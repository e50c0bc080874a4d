"""Reading and checking the tables that describe a study, with messages a user can act on."""

import gzip
import os
import re
import zlib
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import pandas as pd

from localmi.errors import DataError

PAIR_COLUMNS = ["image_id", "study_id", "patient_id", "image", "report", "view", "split"]
REJECTED_COLUMNS = ["image_id", "study_id", "reason"]
ADVICE = {  # how a reason begins -> what to do; of the others, all of a file's content, ANEW
    "no image file": "put it where the note says that it was looked for",
    "no report file": "put it where the note says that it was looked for",
    "empty report": "give it a text, or leave it out",
    "no sentence in": "look at the report: its headers may be unknown, or its text cut off",
    "no view": "fill in the view, if it is known",
    "unknown view": "name the view as DICOM does: AP, PA, LATERAL, ...",
    "no row in": "put the row back, or download the table anew",
    "its study has several": "give each study one patient and one report",
    "its patient is in two splits": "leave the patient in one split",
    "the same pixels": "leave out the copy, or put all images of its patient into one split",
    "named in two reports": "leave out one of the reports",
    "second report": "leave out one of the reports",
    "report without": "nothing can be paired with it: leave it out",
}
ANEW = "download or export the file anew, or leave it out"
MAX_EXAMPLES = 5  # that an error names
# how a file of another encoding than UTF-8 begins
MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32"}
MARKS |= {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
AS_UTF_8 = "Save it as UTF-8 (Excel: CSV UTF-8)."
SEPARATORS = ",;\t|"
SINGULAR = {"": "", "have": "has"}
NULLS = {"nan", "nat", "none", "null", "na"}  # what programs write for an empty cell
NO_LABEL = rf"(?i)\W*(?:{'|'.join(sorted(NULLS))}|n/a)?\W*"
MISSING = NULLS | {  # and people
    *("nil", "missing", "unknown", "empty", "blank", "not", "available", "unavailable", "given"),
    *("provided", "applicable", "recorded", "report", "pending"),
}


def examples(values: pd.Series) -> str:
    """The first few, for an error."""
    shown = ", ".join(str(value) for value in values[:MAX_EXAMPLES])
    return shown + (", ..." if len(values) > MAX_EXAMPLES else "")


def advice(reason: str) -> str:
    """What to do about a rejected image."""
    return next((text for begin, text in ADVICE.items() if reason.startswith(begin)), ANEW)


def counted(number: int, noun: str, verb: str = "") -> str:
    """ "1 study", "1,200 studies"; with "have": "1 study has"."""
    if number == 1:
        return f"1 {noun} {SINGULAR[verb]}".strip()
    plural = re.sub("(?<![aeiou])y$", "ie", noun) + "s"
    return f"{number:,} {plural} {verb}".strip()


def are(number: int) -> str:
    """ "is" of one thing, "are" of several."""
    return "is" if number == 1 else "are"


def is_missing(text: str, words: Set[str] = MISSING) -> bool:
    """Whether a text has no letter, or is "nan", "None", "N/A", "\\\\N", "<null>" or the like."""
    text = re.sub(r"\bn[/.]a\b|\\n|\bno(?= report\b)", "na", text.lower())
    return words >= set(re.findall(r"[^\W\d_]+", text))


def check_text(report: object) -> None:
    """Nothing if a report is text.

    Raises:
        DataError: it is not.
    """
    if not isinstance(report, str):
        raise DataError(
            f"A report must be text, found {type(report).__name__}: {report!r}. "
            "Is a cell of the report column empty?"
        )


def where_looked(path: Path, root: Path, number: int, other: str = "") -> str:
    """For files that are missing: where the first was looked for, and what lies there instead.

    Args:
        path: of the first. root: of the study; paths are said from there.
        number: of all. other: "or .dcm", where it could have been another file as well.
    """
    folders = (parent for parent in path.parents if parent.is_dir())
    folder = next((one for one in folders if os.access(one, os.R_OK)), root)
    names = sorted(entry.name for entry in islice(os.scandir(folder), 1000))
    looked, there = (
        (root.name / one.relative_to(root)).as_posix() if one.is_relative_to(root) else str(one)
        for one in (path, folder)
    )
    holds = examples(pd.Series(names, dtype=str)) or "nothing"
    return (
        f"{counted(number, 'file')} not found: looked for {looked}{other}; {there} holds {holds}."
    )


def read_table(
    path: Path,
    required: Sequence[str],
    text: Sequence[str],
    known: Sequence[str] = (),
    *,
    only: bool = False,
) -> pd.DataFrame:
    """A CSV whose `text` columns are kept as written ("007", "NA"), checked for `required`.

    Cells may be parted by semicolons, tabs or bars as well; UTF-16 is known by its mark. The names
    of `required`, `text` and `known` columns are known in any case, with spaces for underscores.
    `only`: these columns alone are read, and each row must have as many cells as the header.

    Raises:
        DataError: not readable, not UTF-8, a column is missing or there twice, or a row has more
            cells than the header.
    """
    own = {_spelling(name): name for name in (*known, *required, *text)}
    with _explained(path):
        form = _form(path)
        # pandas would rename what stands twice in a header that it takes for one
        header = pd.read_csv(path, header=None, nrows=1, **form).iloc[0].tolist()
        read = [name for name in header if not only or _spelling(name) in own]
        written = [own.get(_spelling(name), name.strip()) for name in read]
        if twice := sorted({name for name in written if name and written.count(name) > 1}):
            raise DataError(
                f"{path} has more than one column {', '.join(twice)}. Leave one of each name."
            )
        if missing := [column for column in required if column not in written]:
            raise DataError(
                f"{path} lacks the column{'s' * (len(missing) > 1)} {', '.join(missing)}; "
                f"found {', '.join(name.strip() for name in header)}. Rename or add them."
            )
        table = pd.read_csv(path, **form | _only(read) if only else form).fillna("")
    table.columns = found = [
        name or str(column) for name, column in zip(written, table, strict=True)
    ]
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes surplus cells for an index
        raise DataError(
            f"{path} has rows with more cells than its header. Put reports in double quotes."
        )
    return table.assign(
        **{
            name: table[name].str.strip() if name in text else _values(table[name])
            for name in found
        }
    )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeError as error:
        raise DataError(f"{path} is not UTF-8{_wrong_line(path)}. {AS_UTF_8}") from error
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read as CSV: {str(error).strip()}. Write it anew, texts in double "
            "quotes."
        ) from error


def _spelling(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").split())


def _form(path: Path) -> dict[str, Any]:
    """How a table is read: all cells as text, by the encoding and the separator that the first
    line shows."""
    with _opened(path) as file:
        head = file.read(4096)
    encoding = next((name for mark, name in MARKS.items() if head.startswith(mark)), "utf-8")
    first = head.decode(encoding, "ignore").partition("\n")[0]
    if "\0" in first:  # UTF-16 without a mark, or no text at all
        raise UnicodeError(f"{path} is no text")
    separator = max(SEPARATORS, key=first.count)
    return {"encoding": encoding, "sep": separator, "dtype": str, "keep_default_na": False}


def _only(names: Sequence[str]) -> dict[str, Any]:
    """Which columns are read. pandas' own engine would take rows of any length with it."""
    return {"usecols": names, "engine": "pyarrow"}


def _opened(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else open(path, "rb")


def _wrong_line(path: Path) -> str:
    """Where a file is not UTF-8: " (line 5)"."""
    with _opened(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeError:
                return f" (line {number})"
    return ""


def _values(cells: pd.Series) -> pd.Series:
    """A column of labels: numbers where all filled cells are numbers, else text."""
    filled = cells.mask(cells.str.fullmatch(NO_LABEL))
    try:
        numbers = pd.to_numeric(filled)
    except ValueError:
        return filled
    return filled if numbers.dtype == object else numbers  # of more digits than a number has


def check_unique(table: pd.DataFrame, column: str, path: Path) -> None:
    """Raises DataError if a value of `column` stands in two rows."""
    twice = table.loc[table[column].duplicated(), column].drop_duplicates()
    if len(twice):
        raise DataError(
            f"{path} has {counted(len(twice), 'value')} of {column} more than once: "
            f"{examples(twice)}. Each may stand in one row only."
        )


def among(ids: pd.Series, wanted: pd.Series) -> pd.Series:
    """Which of the ids are among those wanted: bool. `isin` of pandas' own strings makes an object
    of arrow's of each, which takes seconds for all images."""
    return ids.astype(object).isin(wanted.astype(object))


def keep_rows(
    table: pd.DataFrame, good: pd.Series, reason: str | pd.Series, rejected: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The good rows; and `rejected` with the others, for `reason`: one for all, or one a row."""
    own = reason if isinstance(reason, str) else reason[~good]
    out = table.loc[~good, ["image_id", "study_id"]].assign(reason=own)
    return table[good], out if rejected.empty else pd.concat([rejected, out])
