"""Radiology reports into sections, by the official rules of MIMIC-CXR.

Official rules: MIT-LCP/mimic-cxr, txt/section_parser.py (MIT licence). A header is a line's start
in capitals with a colon. It is normalised by a table, else by a word in it ("FINAL IMPRESSION"),
else it is a title of the study ("PORTABLE AP CHEST") and what follows are findings. Without
findings and impression the paragraphs after the first of the last section serve. Of the sections,
impression goes before findings, last paragraph and comparison.

Written anew here, and different where a sentence would be lost: misspelt headers are matched by
similarity (officially by a list); two sections of one name are joined (the last one is taken);
an unknown header inside findings or impression ("LUNGS:") is part of them (it ends them); a text
without any known header is taken whole (its first paragraph is dropped); an addendum is known by
the line of underscores below it. Official exceptions for 56 reports, named by their ids, are left
out. Taught in 05_radiographs_and_reports.
"""

import difflib
import functools
import re
from collections.abc import Sequence

from localmi.data.sentences import PARAGRAPH, sentence_kind, split_sentences
from localmi.errors import ConfigError, DataError

__all__ = ["body_sections", "report_body", "sections", "sentence_kind", "split_sentences"]

HEADER = re.compile(r"^[ \t]*([A-Z()/,-][A-Z ()/,-]*):(?=\s|$)", re.MULTILINE)
RULE = re.compile(r"^[ \t]*_{10,}[ \t]*$", re.MULTILINE)  # between an addendum and its report
ADDENDUM = re.compile(r"\b(?:ADDENDUM|WET READ)\b")
FURNITURE = re.compile(r"^[ \t]*FINAL (?:REPORT|ADDENDUM)[ \t]*$", re.MULTILINE)

# normalised name -> headers that mean it, besides the name itself
ALIASES = {
    "findings": ("finding", "reference findings"),
    "impression": (
        "conclusion",
        "findings and impression",
        "findings/impression",
        "findings/ impression",
    ),
    "comparison": ("comparisons", "reference exam", "comparison exam", "comparison film"),
    "indication": ("reason for exam", "reason for examination", "clinical indication"),
    "history": ("clinical history", "patient history", "clinical information", "pfi"),
    "examination": ("exam", "type of examination", "study"),
    "technique": (),
    "recommendations": ("recommendation", "recommendation(s)"),
    "notification": ("notifications",),
    "wet read": ("wetread",),
    "addendum": (),
    "comment": (),
    "date": (),
}
NAMES = {alias: name for name, aliases in ALIASES.items() for alias in (name, *aliases)}
# "final impression", "pertinent history": the first of these that stands in the header
PARTS = ("impression", "findings", "history", "comparison", "addendum")
# "chest, two views:", "portable ap:": the title of the study stands where "findings" should
VIEW_TITLE = re.compile(
    r"chest|portable|ribs|bone window|(?:one|two|pa|ap|lateral|frontal) view"
    r"|(?:pa|ap|lateral|frontal) and|frontal (?:semi-)?upright"
)
FALLBACK = ("impression", "findings", "last_paragraph", "full_report", "comparison")
SIMILARITY = 0.85  # "impresson" is .95 from "impression", "medication" .80 from "indication"


@functools.lru_cache(maxsize=1024)
def section_name(header: str) -> str | None:
    """The normalised name of a header ("CONCLUSION" is "impression"); None if it is unknown."""
    words = " ".join(header.lower().split())
    if words in NAMES:
        return NAMES[words]
    for name in PARTS:
        if name in words:
            return name
    if VIEW_TITLE.search(words):
        return "findings"
    close = difflib.get_close_matches(words, NAMES, n=1, cutoff=SIMILARITY)
    return NAMES[close[0]] if close else None


def sections(text: str) -> dict[str, str]:
    """The sections of a report by normalised name, in order of appearance.

    Args:
        text: a report as MIMIC-CXR stores it, or any free text.

    Returns:
        "findings", "impression", "comparison", "indication", ... as far as they stand;
        "preamble", what stands before the first header; "addendum", what stands before a line of
        underscores; "last_paragraph", where neither findings nor impression stand; and
        "full_report", where there is neither a known header nor a title. Empty sections are left
        out: an empty report gives {}.

    Raises:
        DataError: `text` is not a string.
    """
    if not isinstance(text, str):
        raise DataError(
            f"A report must be text, found {type(text).__name__}: {text!r}. "
            "Is a cell of the report column empty?"
        )
    addendum, text = _split_addendum(text.replace("\r\n", "\n").replace("\r", "\n"))
    text = FURNITURE.sub("", text)
    headers = list(HEADER.finditer(text))
    if not any(section_name(header[1]) for header in headers):
        return _named([("addendum", addendum), *_without_headers(text)])
    found = [("addendum", addendum), ("preamble", text[: headers[0].start()])]
    ends = [header.start() for header in headers[1:]] + [len(text)]
    for header, end in zip(headers, ends, strict=True):
        name = section_name(header[1])
        if name is None and found[-1][0] in ("findings", "impression"):  # "LUNGS:  Clear."
            found.append((found[-1][0], text[header.start() : end]))
        else:
            found.append((name or header[1].strip().lower(), text[header.end() : end]))
    return _named(_with_last_paragraph([part for part in found if part[1].strip()]))


def _named(found: list[tuple[str, str]]) -> dict[str, str]:
    """Name -> text; empty sections dropped, sections of one name joined by a blank line."""
    named: dict[str, str] = {}
    for name, text in found:
        if text.strip():
            named[name] = f"{named[name]}\n\n{text.strip()}" if name in named else text.strip()
    return named


def _split_addendum(text: str) -> tuple[str, str]:
    """(addenda and wet reads, report): what was added later stands first, each above a rule."""
    start = 0
    for rule in RULE.finditer(text):
        if not ADDENDUM.search(text, start, rule.start()) or not text[rule.end() :].strip():
            break
        start = rule.end()
    return FURNITURE.sub("", RULE.sub("", text[:start])), text[start:]


def _without_headers(text: str) -> list[tuple[str, str]]:
    """A title in capitals ("AP CHEST") and what follows it, or the whole text."""
    title, *rest = PARAGRAPH.split(text.strip(), maxsplit=1)
    if rest and not re.search(r"[a-z]", title):
        return [("preamble", title), ("last_paragraph", rest[0])]
    return [("full_report", text)]


def _with_last_paragraph(found: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Without findings and impression, the last section ends at its first blank line, and what
    follows is the body of the report."""
    if not found or any(name in ("findings", "impression") for name, _ in found):
        return found
    name, text = found[-1]
    first, *rest = PARAGRAPH.split(text, maxsplit=1)  # `first` may be empty
    return [*found[:-1], (name, first), ("last_paragraph", "".join(rest))]


def body_sections(text: str, use: Sequence[str] = ("findings", "impression")) -> dict[str, str]:
    """The sections that describe the image: those of `use`, in that order.

    Where none of `use` stands, the first that does of impression, findings, last paragraph, full
    report, comparison (official order); {} where none does.

    Raises:
        DataError: `text` is not a string.
        ConfigError: `use` is a string or empty.
    """
    if isinstance(use, str) or not use:
        raise ConfigError(f'use must be section names such as ("findings",), found {use!r}.')
    found = sections(text)
    wanted = {name: found[name] for name in use if name in found}
    if wanted:
        return wanted
    return next(({name: found[name]} for name in FALLBACK if name in found), {})


def report_body(text: str, use: Sequence[str] = ("findings", "impression")) -> str:
    """The text of `body_sections`, sections parted by a blank line; "" where there is none."""
    return "\n\n".join(body_sections(text, use).values())
