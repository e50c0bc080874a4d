import html
import re
import sys
import textwrap

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from real_openi import real_reports

from localmi.data.reports import (
    ABBREVIATIONS,
    REDACTED,
    report_body,
    section_name,
    sentence_kind,
    split_sentences,
)
from localmi.errors import DataError

_TOLD = "Told Dr. ___ at 3:15 p.m. on ___."


@pytest.mark.parametrize("wrong", [None, float("nan"), 3, b"text"])
def test_sentences_are_made_of_text(wrong: object) -> None:
    with pytest.raises(DataError, match=f"must be text, found {type(wrong).__name__}"):
        split_sentences(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A 2.5 cm mass. No effusion.", ["A 2.5 cm mass.", "No effusion."]),
        ("Mass of 2.5 x 1.8 cm.No edema.", ["Mass of 2.5 x 1.8 cm.", "No edema."]),
        ("Tip is 7.0 cm. Clear.", ["Tip is 7.0 cm.", "Clear."]),
        ("1. Edema.\n2. No\neffusion.", ["Edema.", "No effusion."]),
        ("1) Edema. 2) Clear.", ["Edema.", "Clear."]),
        ("(1) Edema. (2) Clear.", ["Edema.", "Clear."]),
        ("1.Severe edema. 2.No effusion.", ["Severe edema.", "No effusion."]),
        ("1. No effusion 2. Cardiomegaly", ["No effusion", "Cardiomegaly"]),
        *[
            (
                f"1. Nodules of ribs {word} 2. No effusion.",
                [f"Nodules of ribs {word} 2.", "No effusion."],
            )
            for word in ("no.", "1 and", "1 or", "1 to", "of")
        ],
        ("Told at 3 p.m. XXXX by phone.", ["Told at 3 p.m. XXXX by phone."]),
        ("- Edema.\n- Clear.", ["Edema.", "Clear."]),
        ("1. 8 mm nodule. 2. 1.4 cm mass.", ["8 mm nodule.", "1.4 cm mass."]),
        ("Chest: 1. Clear. 2. Normal.", ["Chest: Clear.", "Normal."]),
        (
            "Told Dr. ___ at 3:15 p.m. on ___. Clear.",
            [_TOLD, "Clear."],
        ),
        ("Told to Dr. J. ___ at 3 p.m. No edema.", ["Told to Dr. J. ___ at 3 p.m.", "No edema."]),
        ("Loss of height of T12. Clear.", ["Loss of height of T12.", "Clear."]),
        (
            "Image No. 2: edema. No. 3 is clear.",
            ["Image No. 2: edema.", "No. 3 is clear."],
        ),
        ("Is there edema? No. Clear.", ["Is there edema?", "No.", "Clear."]),
        ("Fracture of rib 4. Clear.", ["Fracture of rib 4.", "Clear."]),
        ("Edema . Clear.. . Normal", ["Edema.", "Clear.", "Normal"]),
        ("Scar vs. nodule, e.g. granuloma.", ["Scar vs. nodule, e.g. granuloma."]),
        ("(See CT.) Clear.", ["(See CT.)", "Clear."]),
        ("Title without a period\n\nClear.", ["Title without a period", "Clear."]),
        ("Clear.\r\n \r\nNormal.", ["Clear.", "Normal."]),
        ("___. 12. 3", []),
        ("", []),
        (" \n ", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert split_sentences(text) == expected


@pytest.mark.parametrize(
    ("sentence", "kind"),
    [
        ("Findings were discussed with Dr. ___ by telephone at 3:15 p.m.", "communication"),
        ("Dr. ___ was telephoned.", "communication"),
        ("Results were paged to the team.", "communication"),
        ("As compared to the prior study, edema has improved.", "comparison"),
        ("Cardiomegaly is unchanged.", "comparison"),
        ("No significant change.", "comparison"),
        ("No effusion since ___.", "comparison"),
        ("Calcified nodes from previous granulomatous disease.", "content"),
        ("Stable cardiomegaly.", "content"),
        ("No acute cardiopulmonary process.", "content"),
    ],
)
def test_kinds_of_sentence(sentence: str, kind: str) -> None:
    assert sentence_kind(sentence) == kind


def _calls(text: str) -> int:
    """Calls of Python and C functions that splitting a report takes: a count, not a time."""
    number = 0

    def count(frame: object, event: str, function: object) -> None:
        nonlocal number
        number += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        split_sentences(report_body(text))
    finally:
        sys.setprofile(before)
    return number


@pytest.mark.parametrize("unit", ["clear lungs. ", "word ", "\n", " A B", "1. ", "A:\n "])
def test_long_reports_take_linear_work(unit: str) -> None:
    section_name.cache_clear()
    short, long = _calls(unit * 1_000), _calls(unit * 16_000)
    assert long <= 17 * short  # a quadratic rule would make 256 times as many


@pytest.mark.parametrize("unit", ["discussed called ", "no longer ", "prior ", "_", "\n "])
def test_very_long_texts_come_to_an_end(unit: str) -> None:
    """Each rule by itself: one that looks at all that follows would take hours here."""
    text = unit * 200_000
    assert sentence_kind(text) in ("content", "comparison", "communication")
    assert split_sentences(report_body(text)) is not None


def test_real_reports_lose_no_decimal_and_gain_no_digit_only_sentence() -> None:
    reports = real_reports()
    assert len(reports) == 3955
    decimal = re.compile(r"\d+\.\d+")
    word = re.compile(r"\b(?!X+\b)[A-Za-z]+")  # what is blanked, and stands alone, is no sentence
    bodies = num_sentences = num_decimals = 0
    for report in reports:
        text = "\n".join(f" {label}:  {part}\n " for label, part in report.items() if part)
        body = report_body(text)
        if not (report["FINDINGS"] or report["IMPRESSION"]):
            continue
        written = f"{report['FINDINGS']} {report['IMPRESSION']}".replace("<BR>", " ")
        if "IMPRESSION:" not in written:  # one holds itself once more
            assert body.split() == html.unescape(written).split()
        found = split_sentences(body)
        assert all(re.search("[A-Za-z]", sentence) for sentence in found)
        assert word.findall(" ".join(found)) == word.findall(body)
        assert [n for s in found for n in decimal.findall(s)] == decimal.findall(body)
        num_decimals += len(decimal.findall(body))
        num_sentences += len(found)
        bodies += 1
    assert bodies == 3927
    assert num_decimals == 79
    assert 5.6 < num_sentences / bodies < 6.0


# fuzz: 3,500 of the 10,000 cases, the others are in test_reports and test_openi

WORD = st.text("abcdeghilnoprstuvxy", min_size=2, max_size=9).filter(
    lambda word: f"{word}." not in (*ABBREVIATIONS, "no.")
)
MEASURE = st.sampled_from(["2.5 cm", "2.5 x 1.8 cm", "___", "T12", "3", "0.4", "No. 2", "XXXX"])


@st.composite
def sentence(draw: st.DrawFn) -> str:
    """A sentence whose ends cannot be mistaken: "Abe 2.5 cm rix no." """
    words = [draw(WORD).capitalize(), *draw(st.lists(WORD | MEASURE, max_size=5)), draw(WORD)]
    return " ".join(words) + draw(st.sampled_from(".?!"))


MARKS = st.sampled_from(["", "{}. ", "{}) ", "({}) "])
GAPS = st.sampled_from([" ", "  ", "\n", "\n \n", "\r\n\r\n"])


@pytest.mark.slow
@settings(max_examples=2500)
@given(st.lists(sentence(), min_size=1, max_size=6), MARKS, GAPS, st.integers(30, 90))
def test_fuzzed_sentences(written: list[str], mark: str, gap: str, width: int) -> None:
    """Numbered or not, wrapped anywhere, what was written as a sentence is read as one."""
    text = gap.join(mark.format(i + 1) + one for i, one in enumerate(written))
    assert split_sentences(text) == written
    if "\n" not in gap:
        assert split_sentences("\n ".join(textwrap.wrap(text, width))) == written
    if not mark and all(one.endswith(".") for one in written):
        assert split_sentences("".join(written)) == written  # the missing space


@pytest.mark.slow
@settings(max_examples=1000)
@given(st.text(alphabet="aB1 .2)(\n-_:?;,\t•X") | st.text())
@example("aXXX. XXX")
def test_no_letter_of_any_text_is_lost(text: str) -> None:
    found = split_sentences(text)
    letter = re.compile(r"[^\W\d_]")
    joined = " ".join(found)
    blanked = REDACTED.sub("", joined), REDACTED.sub("", text)  # alone they are no sentence
    assert letter.findall(blanked[0]) == letter.findall(blanked[1])
    assert all(letter.search(one) and one == " ".join(one.split()) for one in found)
    assert [sentence_kind(one) for one in found].count("content") <= len(found)


@pytest.mark.parametrize("bullet", ["-", "--", "*", "•"])
def test_each_line_with_a_bullet_is_a_sentence(bullet: str) -> None:
    """Lists are often without periods; other lines' ends are no sentence's."""
    lines = f"{bullet} No edema\n{bullet} Small effusion\n  at the left\n {bullet} Clear lungs"
    assert split_sentences(lines) == ["No edema", "Small effusion at the left", "Clear lungs"]


def test_what_was_blanked_is_no_sentence() -> None:
    assert split_sentences("XXXX. Heart normal. XXXX XXXX. ___.") == ["Heart normal."]
