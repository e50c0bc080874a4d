"""Radiology reports into sections, and sections into sentences.

Sections: by the official rules of MIMIC-CXR.

Official rules: MIT-LCP/mimic-cxr, txt/section_parser.py (MIT licence). A header is a line's start
in capitals with a colon. It is normalised by a table, else by a word in it ("FINAL IMPRESSION"),
else it is a title of the study ("PORTABLE AP CHEST") and what follows are findings. Without
findings and impression the paragraphs after the first of the last section serve. Of the sections,
impression goes before findings, last paragraph and comparison.

Written anew here, and different where a sentence would be lost: misspelt headers are matched by
similarity (officially by a list); two sections of one name are joined (the last one is taken);
an unknown header inside findings or impression ("LUNGS:") is part of them (it ends them); a text
without any known header is taken whole (its first paragraph is dropped); an addendum is known by
the line of underscores below it; headers of other sources ("Findings:", "**FINDINGS**", all in one
line) count where the official rules find no body, or stand inside another section. Official
exceptions for 56 reports, named by their ids, are left out.

Sentences: rules for the way radiologists write, not a general splitter. The common shortcuts fail
on these texts: deleting `[0-9]+\\.` and cutting at "." turns "2.5 cm" into "5 cm", a general
splitter makes a sentence of every list number. Taught in 05_radiographs_and_reports.
"""

import difflib
import functools
import html
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from localmi.data.tables import check_text, is_missing
from localmi.errors import ConfigError

PARAGRAPH = re.compile(r"\n[^\S\n]*\n")
HEADER = re.compile(r"^[ \t]*([A-Z()/,-][A-Z ()/,-]*):(?=\s|$)", re.MULTILINE)
RULE = re.compile(r"^[ \t]*_{10,}[ \t]*$", re.MULTILINE)  # between an addendum and its report
ADDENDUM = re.compile(r"\b(?:ADDENDUM|WET READ)\b")
TAG = re.compile(  # of a web page; the first kind ends a line
    r"(?i)</?(br|p|div|li|ul|ol|tr|h\d)\b[^<>]*>|</?(?:b|i|u|em|strong|span|font|td)\b[^<>]*>"
)
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
    "signature": ("dictated by", "signed by", "electronically signed by", "accession number"),
}
NAMES = {alias: name for name, aliases in ALIASES.items() for alias in (name, *aliases)}
LOOSE_ALIASES = {  # of other sources
    "findings": ("observation", "description", "report", "narrative"),
    "impression": ("opinion", "interpretation", "summary"),
    "indication": (
        *("reason for study", "reason for visit", "chief complaint", "clinical detail"),
        *("clinical data", "clinical statement", "clinical question", "clinical background"),
    ),
    "technique": ("procedure", "protocol", "projection", "view"),
}
LOOSE_NAMES = NAMES | {alias: name for name, words in LOOSE_ALIASES.items() for alias in words}
# "final impression", "pertinent history": the first of these that stands in the header
PARTS = ("impression", "findings", "history", "indication", "comparison", "addendum")
# "chest, two views:", "portable ap:": the title of the study stands where "findings" should
VIEW_TITLE = re.compile(
    r"chest|portable|ribs|bone window|(?:one|two|pa|ap|lateral|frontal) view"
    r"|(?:pa|ap|lateral|frontal) and|frontal (?:semi-)?upright"
)
BODY = {"findings", "impression"}
HISTORY = {"indication", "history"}
FALLBACK = ("impression", "findings", "last_paragraph", "full_report", "comparison")
# what `HEADER` does not find; any case
_NAMES = sorted(LOOSE_NAMES.keys() - {"report", "narrative"}, key=len, reverse=True)
_NAME = "(?:" + "|".join(map(re.escape, _NAMES)) + ")s?"
_TITLE = rf"{_NAME}(?:\ ?[/&+]\ ?{_NAME})?"
_WORD = r"(?:(?!(?:the|these|this|no)\ )[a-z]+\ )"  # "Final impression"
LOOSE_HEADER = re.compile(
    rf"""^[^A-Za-z\n]*(?:
        ({_WORD}?(?:{_TITLE}|report|narrative))[ \t*_)\]]*:[*_]*  # "1. **Final impression**:"
      | ({_TITLE})[ \t*_]*[-\u2013\u2014=](?=\s)  # "Findings - "
      | ({_TITLE})[ \t*_=#)\]-]*$                # "## FINDINGS" and nothing else
    ) | (?<=[.!?;])[ \t]*({_WORD}?{_TITLE})[ \t]*:  # behind a sentence
      | (?<=[\s>])[*_]*(?-i:(?=[A-Z]))({_TITLE})[ \t*_]*:[*_]*  # amid a line, with a capital""",
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
LINE_START, SENTENCE_START = 3, 4  # last groups of the kinds above
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
    check_text(text)
    addendum, text = _split_addendum(_plain(text))
    text = FURNITURE.sub("", text)
    headers = [
        Header(*found.span(), section_name(found[1]), found[1]) for found in HEADER.finditer(text)
    ]
    names = {header.name for header in headers}
    if names & BODY:
        parts = _parts(text, _with_inner(headers, text))
    elif loose := _loose_headers(text, official=any(names)):
        parts = _parts(text, loose)
    else:
        parts = _parts(text, headers) if any(names) else _without_headers(text)
    return _named([("addendum", addendum), *parts])


def _plain(text: str) -> str:
    """Line ends as one character, whatever wrote them; without the tags of a web page."""
    if "\n" not in text:  # spelled out, as some programs write them into a table
        text = text.replace("\\r", "").replace("\\n", "\n")
    return re.sub(r"\r\n?", "\n", html.unescape(TAG.sub(lambda tag: "\n" * bool(tag[1]), text)))


class Header(NamedTuple):
    """Where a header stands in a text, what it means (None: unknown), and its words; of a loose
    one the group of `LOOSE_HEADER` that has found it."""

    start: int
    end: int
    name: str | None
    title: str
    group: int = 0


def _find_loose(text: str) -> list[Header]:
    found = []
    for match in LOOSE_HEADER.finditer(text):
        group = match.lastindex or 0
        title = match[group]
        words = " ".join(title.lower().split())
        known = (words, words.removesuffix("s"), words.partition(" ")[2])
        name = next((LOOSE_NAMES[one] for one in known if one in LOOSE_NAMES), section_name(words))
        found.append(Header(*match.span(), name, title, group))
    return found


def _with_inner(headers: list[Header], text: str) -> list[Header]:
    """Official headers, and others that begin another section of the body, or end it: history."""
    known = {place for header in headers for place in range(header.start, header.end)}
    inner = [
        header
        for header in _find_loose(text)
        if header.name in BODY | HISTORY
        and (header.group <= SENTENCE_START or header.title.isupper())
        and header.title[0].isupper()
        and header.start not in known
    ]
    kept: list[Header] = []
    section: str | None = None
    for header in sorted(headers + inner):
        if not header.group or (header.name != section and {header.name, section} & BODY):
            kept.append(header)
            section = header.name or section
    return kept


def _loose_headers(text: str, official: bool) -> list[Header]:
    """Headers of a text without an official body; [] where they give none, nor hide a history."""
    headers = _find_loose(text)
    names = {header.name for header in headers}
    if names & BODY:
        first = headers[0]
        on_line = first.group <= LINE_START and not text[first.end : first.end + 1].strip()
        if len(names) > 1 or on_line:
            return headers
    if official or not headers or text[: headers[0].start].strip():
        return []
    last = dict(_parts(text, headers)).get("last_paragraph", "")
    return headers if last.strip() or names & HISTORY else []


def _parts(text: str, headers: list[Header]) -> list[tuple[str, str]]:
    """What stands before the first header and behind each."""
    found = [("preamble", text[: headers[0].start])]
    ends = [header.start for header in headers[1:]] + [len(text)]
    for header, end in zip(headers, ends, strict=True):
        if header.name is None and found[-1][0] in BODY:  # "LUNGS:  Clear."
            found.append((found[-1][0], text[header.start : end]))
        else:
            found.append((header.name or header.title.strip().lower(), text[header.end : end]))
    return _with_last_paragraph([part for part in found if part[1].strip()])


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
    if not found or any(name in BODY for name, _ in found):
        return found
    name, text = found[-1]
    first, *rest = PARAGRAPH.split(text, maxsplit=1)  # `first` may be empty
    return [*found[:-1], (name, first), ("last_paragraph", "".join(rest))]


def body_sections(text: str, use: Sequence[str] = ("findings", "impression")) -> dict[str, str]:
    """The sections that describe the image: those of `use`, in that order.

    Where none of `use` stands, the first that does of impression, findings, last paragraph, full
    report, comparison (official order); {} where none does. A section that is only "nan", "None",
    "N/A" or the like, as programs write an empty cell, does not stand.

    Raises:
        DataError: `text` is not a string.
        ConfigError: `use` is a string or empty.
    """
    if isinstance(use, str) or not use:
        raise ConfigError(f'use must be section names such as ("findings",), found {use!r}.')
    found = sections(text)
    found = {k: part for k, part in found.items() if k == "comparison" or not is_missing(part)}
    wanted = {name: found[name] for name in use if name in found}
    if wanted:
        return wanted
    return next(({name: found[name]} for name in FALLBACK if name in found), {})


def report_body(text: str, use: Sequence[str] = ("findings", "impression")) -> str:
    """The text of `body_sections`, sections parted by a blank line; "" where there is none."""
    return "\n\n".join(body_sections(text, use).values())


# --- Sentences ---

SentenceKind = Literal["content", "communication", "comparison"]

# "normal.Calcified", "T12.The", "1.Lucency": a capitalised word straight after the period
MISSING_SPACE = re.compile(r"(?<=[A-Za-z0-9_)\]%])\.(?=[A-Z][a-z])")
LIST_MARKER = re.compile(r"(?:\(\d{1,2}\)|\d{1,2}[.)])[.,;:]*")
BULLETS = ("-", "--", "*", "•")
_BULLET = "|".join(map(re.escape, BULLETS))
ITEM = re.compile(rf"\n[^\S\n]*(?=\n|(?:{_BULLET})\s)")  # after a blank line or at a bullet
SENTENCE_END = re.compile(r"[.?!]+[)\]\"'>]*$")
TITLES = ("dr.", "drs.", "mr.", "mrs.", "ms.", "prof.", "st.")
ABBREVIATIONS = (*TITLES, "vs.", "e.g.", "i.e.", "approx.", "cf.", "fig.")
DOTTED_LETTERS = re.compile(r"(?:[A-Za-z]\.){2,}")  # p.m., M.D.: may or may not end a sentence
NUMBER = re.compile(r"\d+")
REDACTED = re.compile(r"_{2,}|X{3,}")  # how MIMIC-CXR and OpenI blank a name or a date
COMMUNICATION = re.compile(
    r"""\b(?:
        discussed\s(?:with|by|in\sperson) | discussed\b.{0,99}\b(?:dr|telephone|phone)\b
      | (?:tele)?phoned? | paged? | pager | e-?mailed | notified | informed | wet\sread | dashboard
      | (?:communicated | conveyed | reported | relayed | called)\b.{0,99}\b(?:to|by|with)\b
      | dr\.? \s (?:_{2,} | X{3,}) | critical\sresults?
    )""",
    re.IGNORECASE | re.VERBOSE,
)
COMPARISON = re.compile(
    r"""\b(?:
        compar(?:ed|ison|isons|ing) | unchanged | interval(?:ly)? | previously | no\slonger
      | (?:prior|previous|preceding|earlier|last)\s
        (?:\w+\s){0,2}(?:stud(?:y|ies)|exam\w*|radiographs?|films?|images?|ct|x-?ray|_{2,})
      | (?:from|to|than|since)\s(?:the\s)?(?:prior|previous)(?=[.,;]|$)
      | since\s(?:the|_{2,}|X{3,}) | (?:no|little|not)\s(?:\w+\s){0,2}changed?
    )\b""",
    re.IGNORECASE | re.VERBOSE,
)


def split_sentences(text: str) -> list[str]:
    """The sentences of a report's section, in order, white space folded, list markers dropped.

    A blank line ends a sentence, a line's end before a bullet only. Kept whole: decimals,
    "2.5 x 1.8 cm", "Dr. ___", "3:15 p.m. on ___", "No. 2". A piece without a letter ("2.", "___.")
    is no sentence. Time grows linearly with the text. Taught in 05_radiographs_and_reports.

    Raises:
        DataError: `text` is not a string.
    """
    check_text(text)
    sentences: list[str] = []
    for paragraph in ITEM.split(text.replace("\r\n", "\n")):
        sentences += _split_paragraph(MISSING_SPACE.sub(". ", paragraph).split())
    return sentences


def _split_paragraph(words: list[str]) -> list[str]:
    pieces: list[list[str]] = [[]]
    last_marker = 0
    for index, word in enumerate(words):
        piece, following = pieces[-1], words[index + 1] if index + 1 < len(words) else ""
        if _starts_item(word, piece, last_marker):
            last_marker = int(re.sub(r"\D", "", word) or 0)
            if piece and not piece[-1].endswith(":"):
                pieces.append([])
        elif word.strip(".") == "":
            if piece:  # "edema ." ends the sentence as "edema." does
                piece[-1] = piece[-1].rstrip(".") + "."
                pieces.append([])
        else:
            piece.append(re.sub(r"\.\.+$", ".", word))
            if SENTENCE_END.search(word) and _ends(word, piece, following):
                pieces.append([])
    sentences = [" ".join(piece) for piece in pieces]
    return [one for one in sentences if re.search(r"[^\W\d_]", REDACTED.sub("", one))]


def _starts_item(word: str, piece: list[str], last_marker: int) -> bool:
    """Is `word` a list marker or bullet, and not a number that belongs to the sentence?"""
    if word in BULLETS:
        return not piece
    if not LIST_MARKER.fullmatch(word):
        return False
    if not piece or piece[-1].endswith(":"):
        return True
    # "1. No effusion 2. Cardiomegaly": the list goes on although the period is missing
    continues = last_marker > 0 and int(re.sub(r"\D", "", word)) == last_marker + 1
    return continues and piece[-1].lower() not in ("no.", "and", "or", "to", "of")


def _ends(word: str, piece: list[str], following: str) -> bool:
    """Does a word that carries a final period, question or exclamation mark end its sentence?"""
    lower = word.lower().lstrip("(")
    if lower in ABBREVIATIONS or (lower == "no." and NUMBER.match(following)):
        return False
    if DOTTED_LETTERS.fullmatch(word):
        return bool(re.match(r"[A-Z(]", following)) and not REDACTED.match(following)
    is_initial = len(word) == 2 and word[0].isupper() and word[1] == "."
    return not (is_initial and len(piece) > 1 and piece[-2].lower() in TITLES)


def sentence_kind(sentence: str) -> SentenceKind:
    """What a sentence is about, so that training may drop what no single image can show.

    "communication": who was told ("discussed with Dr. ___ by telephone"). "comparison": a change
    against another study ("unchanged since ___"). "content": all else.
    Taught in 05_radiographs_and_reports.
    """
    if COMMUNICATION.search(sentence):
        return "communication"
    return "comparison" if COMPARISON.search(sentence) else "content"
