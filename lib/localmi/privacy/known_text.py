"""Sentences of a study, to be recognised in files: `scan --against`.

They are kept as hashes in memory, never on disk. Taught in 13_preparing_mimic_cxr.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import get_args

from localmi.errors import check_name
from localmi.privacy.rules import Hit, Kind, example_sentences

MIN_WORDS = 6  # a shorter sentence is said by everyone
WORD = re.compile(r"[a-z0-9]+(?:\.[0-9]+)?")
PRINTABLE = re.compile(r"[ -~\n]{20,}")  # words in a binary file
SENTENCE = "a sentence of the study"


class KnownText:
    """Recognises sentences of at least six words, whatever their case, line ends and signs.

    Args:
        sentences: of the study. Those that stand in the example study as well are left out.
    """

    def __init__(self, sentences: Iterable[str]) -> None:
        common = {_words(sentence) for sentence in example_sentences()}
        self._lengths: dict[int, set[int]] = {}  # hash of the first six words -> lengths
        self._whole: set[int] = set()
        for sentence in sentences:
            words = _words(sentence)
            if len(words) >= MIN_WORDS and words not in common:
                self._lengths.setdefault(hash(words[:MIN_WORDS]), set()).add(len(words))
                self._whole.add(hash(words))

    def __len__(self) -> int:
        return len(self._whole)

    def find(self, text: str, kind: Kind = "text") -> Iterator[Hit]:
        """Where a sentence of the study stands in a text."""
        check_name("kind of text", kind, get_args(Kind))
        if kind == "binary":
            text = "\n".join(PRINTABLE.findall(text))
        text = text.replace("\\n", "  ").lower()  # an escaped line end is as long
        matches = list(WORD.finditer(text))
        words = tuple(match[0] for match in matches)
        for index in range(len(words) - MIN_WORDS + 1):
            for length in self._lengths.get(hash(words[index : index + MIN_WORDS]), ()):
                if hash(words[index : index + length]) in self._whole:
                    line = text.count("\n", 0, matches[index].start()) + 1
                    yield Hit(line, f"{SENTENCE} ({length} words)")


def _words(sentence: str) -> tuple[str, ...]:
    return tuple(WORD.findall(sentence.lower()))


def known_text(source: Path) -> KnownText:
    """The sentences of a study: of a cache, or of all reports `read_pairs` finds.

    Raises:
        DataError: there is neither.
        StudyLeakError: the study has a patient in two splits.
    """
    from localmi.data.cache.cache import META, open_cache
    from localmi.data.reports import sections, split_sentences
    from localmi.data.sources.pairs import read_pairs

    if (source / META).is_file():
        return KnownText(open_cache(source).sentences["text"])
    reports = read_pairs(source).table["report"].drop_duplicates()
    return KnownText(
        sentence
        for report in reports
        for part in sections(report).values()
        for sentence in split_sentences(part)
    )
