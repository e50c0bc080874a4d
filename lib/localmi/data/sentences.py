"""Reports into sentences: rules for the way radiologists write, not a general splitter.

The common shortcuts fail on these texts: deleting `[0-9]+\\.` and cutting at "." turns "2.5 cm"
into "5 cm", a general splitter makes a sentence of every list number. Taught in
05_radiographs_and_reports.
"""

import re
from typing import Literal

from localmi.errors import DataError

SentenceKind = Literal["content", "communication", "comparison"]

PARAGRAPH = re.compile(r"\n[^\S\n]*\n")
# "normal.Calcified", "T12.The", "1.Lucency": a capitalised word straight after the period
MISSING_SPACE = re.compile(r"(?<=[A-Za-z0-9_)\]%])\.(?=[A-Z][a-z])")
LIST_MARKER = re.compile(r"(?:\(\d{1,2}\)|\d{1,2}[.)])[.,;:]*")
BULLETS = ("-", "--", "*", "•")
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

    A blank line ends a sentence; a line's end does not. Kept whole: decimals, "2.5 x 1.8 cm",
    "Dr. ___", "3:15 p.m. on ___", "No. 2". A piece without a letter ("2.", "___.") is no sentence.
    Time grows linearly with the text. Taught in 05_radiographs_and_reports.

    Raises:
        DataError: `text` is not a string.
    """
    if not isinstance(text, str):
        raise DataError(f"A report must be text, found {type(text).__name__}: {text!r}.")
    sentences: list[str] = []
    for paragraph in PARAGRAPH.split(text.replace("\r\n", "\n")):
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
    return [sentence for sentence in sentences if re.search(r"[^\W\d_]", sentence)]


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
