import html
import re
import textwrap
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from real_openi import real_reports

from localmi.data import reports
from localmi.data.reports import (
    body_sections,
    report_body,
    section_name,
    sections,
    split_sentences,
)
from localmi.errors import ConfigError, DataError

MIMIC_STYLE = "\n".join(
    [
        "                                 FINAL REPORT",
        " EXAMINATION:  CHEST (PA AND LAT)",
        " ",
        " INDICATION:  ___ year old woman with cough.",
        " ",
        " COMPARISON:  ___.",
        " ",
        " FINDINGS: ",
        " ",
        " There is a 2.5 x 1.8 cm nodule in the",
        " left upper lobe.  No pleural effusion.",
        " ",
        " IMPRESSION: ",
        " ",
        " 1. Nodule.  2. No acute process.",
        "",
    ]
)


def test_sections_of_a_mimic_report() -> None:
    found = sections(MIMIC_STYLE)
    assert list(found) == ["examination", "indication", "comparison", "findings", "impression"]
    assert found["comparison"] == "___."
    assert split_sentences(report_body(MIMIC_STYLE)) == [
        "There is a 2.5 x 1.8 cm nodule in the left upper lobe.",
        "No pleural effusion.",
        "Nodule.",
        "No acute process.",
    ]


# each header of the official table, and what it means
OFFICIAL_TABLE = {
    "impression": "impression, conclusion, findings and impression, findings/impression, "
    "findings/ impression, impresson, imprression, imoression, impressoin, imprssion, impresion, "
    "imperssion, mpression, impession",
    "findings": "findings, finding, reference findings, findins, findindgs, findgings, findngs, "
    "findnings, finidngs",
    "comparison": "comparison, comparisons, reference exam, comparison exam, comparison film, "
    "comparision, comparsion, comparrison, comparisions",
    "indication": "indication, reason for examination, reason for exam, clinical indication, "
    "idication",
    "history": "history, clinical history, clinical information, patient history, pfi",
    "examination": "examination, exam, type of examination",
    "technique": "technique",
    "recommendations": "recommendations, recommendation, recommendation(s)",
    "notification": "notification",
    "addendum": "addendum",
    "date": "date",
    "comment": "comment",
    "wet read": "wet read, wetread",
}


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (header, name)
        for name, headers in OFFICIAL_TABLE.items()
        for header in re.split(", ", headers)
    ],
)
def test_headers_of_the_official_table(header: str, name: str) -> None:
    assert section_name(header.upper()) == name
    assert sections(f" {header.upper()}:  Clear.\n") == {name: "Clear."}


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("FINAL IMPRESSION", "impression"),
        ("IMPRESSION AND FINDINGS", "impression"),  # impression goes before findings
        ("HISTORY AND COMPARISON", "history"),  # and history before comparison
        ("CHEST FINDINGS", "findings"),
        ("FINDINGS OF THE CHEST", "findings"),
        ("PERTINENT HISTORY", "history"),
        ("COMPARISON STUDY", "comparison"),
        ("ADDENDUM (CHEST)", "addendum"),  # and all of them before a title
        ("- IMPRESSION", "impression"),
    ],
)
def test_headers_by_a_word_in_them(header: str, name: str) -> None:
    assert section_name(header) == name
    assert sections(f" {header}:  Clear.\n") == {name: "Clear."}


@pytest.mark.parametrize(
    "title",
    [
        "CHEST, TWO VIEWS",
        "AP CHEST",
        "PORTABLE AP UPRIGHT",
        "PA AND LATERAL",
        "LATERAL AND PA",
        "AP AND LATERAL",
        "LATERAL AND AP",
        "FRONTAL AND LATERAL",
        "TWO VIEWS",
        "FRONTAL VIEW",
        "PA VIEW",
        "AP VIEW",
        "ONE VIEW",
        "LATERAL VIEW",
        "BONE WINDOW",
        "FRONTAL UPRIGHT",
        "FRONTAL SEMI-UPRIGHT",
        "LEFT RIBS",
        "PA AND LAT",
    ],
)
def test_what_follows_a_title_of_the_study_are_findings(title: str) -> None:
    assert sections(f" HISTORY:  Cough.\n \n {title}:  Clear.\n")["findings"] == "Clear."


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("CHEST PA ONLY", "findings"),
        ("INDICATIONS", "indication"),
        ("NDICATION", "indication"),  # officially, after one report, an impression
        ("EXAMINATIONS", "examination"),
        ("MEDICATION", None),
        ("LUNGS", None),
        ("DICTATION", None),
        ("BG", None),
    ],
)
def test_other_headers(header: str, name: str | None) -> None:
    assert section_name(header) == name


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (" Told to stop:  Clear.\n", False),  # not in capitals
        (" IMPRESSION Clear.\n", False),  # no colon
        (" IMPRESSION:Clear.\n", False),  # no space after it
        (" The IMPRESSION:  Clear.\n", False),  # not at the line's start
        (" IMPRESSION:\n Clear.\n", True),
        ("\n IMPRESSION:  Clear.\n", True),
        ("IMPRESSION: Clear.", True),
        ("\tIMPRESSION:\tClear.", True),
        ("HISTORY: Cough.\rIMPRESSION: Clear.", True),  # lines of an old Mac
    ],
)
def test_what_a_header_is(text: str, found: bool) -> None:
    assert (sections(text).get("impression") == "Clear.") == found


def test_order_of_fallback() -> None:
    history = " HISTORY:  Cough.\n"
    comparison = " COMPARISON:  None.\n"
    last = history + comparison + " \n Lungs are clear.\n"
    assert list(body_sections(history + " FINDINGS:  Clear.\n IMPRESSION:  Normal.\n")) == [
        "findings",
        "impression",
    ]
    assert body_sections(history + " FINDINGS:  Clear.\n", use=("impression",)) == {
        "findings": "Clear."
    }
    assert body_sections(last) == {"last_paragraph": "Lungs are clear."}
    assert sections(last)["comparison"] == "None."
    assert body_sections(history + comparison) == {"comparison": "None."}
    assert report_body(history) == ""


def test_use_decides_section_and_order() -> None:
    assert list(body_sections(MIMIC_STYLE, use=("impression", "findings"))) == [
        "impression",
        "findings",
    ]
    assert report_body(MIMIC_STYLE, use=("impression",)).startswith("1. Nodule.")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # the paragraphs after the first of the last section
        (" HISTORY:  Cough.\n \n Clear.\n \n Normal.\n", "Clear.\n \n Normal."),
        (" HISTORY:  Cough.\n COMPARISON:  None.\n \n Clear.\n", "Clear."),
        # the first paragraph may be empty: the text begins below its header
        (" EXAMINATION:  \n \n Clear.\n", "Clear."),
        # an empty section at the end does not hide it
        (" HISTORY:  Cough.\n \n Clear.\n \n IMPRESSION: \n", "Clear."),
        (" HISTORY:  Cough.\n \n Clear.\n \n NOTIFICATION: \n", "Clear."),
        # none where there is one paragraph, or an impression
        (" HISTORY:  Cough.\n", None),
        (" IMPRESSION:  Clear.\n HISTORY:  Cough.\n \n Told.\n", None),
        (" FINDINGS:  Clear.\n HISTORY:  Cough.\n \n Told.\n", None),
    ],
)
def test_last_paragraph(text: str, expected: str | None) -> None:
    assert sections(text).get("last_paragraph") == expected


def test_an_empty_title_is_no_section() -> None:
    text = " CHEST, PA LATERAL:\n \n INDICATION:  Cough.\n \n FINDINGS:  \n \n Clear.\n"
    assert sections(text) == {"indication": "Cough.", "findings": "Clear."}


def test_headers_of_organs_stay_in_their_section() -> None:
    text = (
        " FINDINGS:\n LUNGS:  Clear.\n HEART:  Normal.\n \n IMPRESSION:  Normal.\n PICC:  None.\n"
    )
    assert split_sentences(report_body(text)) == [
        "LUNGS: Clear.",
        "HEART: Normal.",
        "Normal.",
        "PICC: None.",
    ]
    text = " HISTORY:  Cough.\n FEVER:  None.\n FINDINGS:  Clear.\n ATTENDING: ___\n DATE:  ___\n"
    assert list(sections(text)) == ["history", "fever", "findings", "date"]


RULE = f" {'_' * 78}\n"


@pytest.mark.parametrize(
    ("before", "addendum"),
    [
        (f" ADDENDUM  Told.\n{RULE}", "ADDENDUM  Told."),
        (f"   FINAL ADDENDUM\n ADDENDUM:  Told.\n \n IMPRESSION:  Edema.\n{RULE}", "Edema."),
        (f" ADDENDUM  One.\n{RULE} ADDENDUM  Two.\n{RULE}", "Two."),
        (f" WET READ: ___ 3:15 PM\n  Edema.\n{RULE}", "Edema."),
        (" ADDENDUM:  Told.\n   FINAL REPORT\n", "Told."),  # no rule, but a header
    ],
)
def test_addenda(before: str, addendum: str) -> None:
    found = sections(before + MIMIC_STYLE)
    assert found["addendum"].endswith(addendum)
    assert "____" not in found["addendum"]
    del found["addendum"]
    assert found == sections(MIMIC_STYLE)


def test_a_line_without_addendum_above_it_parts_nothing() -> None:
    text = f" ADDENDUM  Told.\n{RULE} FINDINGS:  Clear.\n{RULE} IMPRESSION:  Normal.\n{RULE}"
    found = sections(text)
    assert found["addendum"] == "ADDENDUM  Told."
    assert split_sentences(report_body(text)) == ["Clear.", "Normal."]
    assert sections(f" ADDENDUM:  Told.\n{RULE}")["addendum"].startswith("Told.")


def test_addendum_stands_apart() -> None:
    text = f" ADDENDUM  Discussed with ___.\n {'_' * 70}\n{MIMIC_STYLE}"
    found = sections(text)
    assert found["addendum"] == "ADDENDUM  Discussed with ___."
    assert report_body(text) == report_body(MIMIC_STYLE)


def test_two_sections_of_one_name_are_joined() -> None:
    text = " CHEST, TWO VIEWS:  Lungs are clear.\n \n FINDINGS:  No effusion.\n"
    assert split_sentences(report_body(text)) == ["Lungs are clear.", "No effusion."]


def test_text_without_known_header_is_all_body() -> None:
    note = "PC: Dyspnea.\n\nBG: Asthma. Opacities"
    assert sections(note) == {"full_report": note}
    assert split_sentences(report_body(note)) == [
        "PC: Dyspnea.",
        "BG: Asthma.",
        "Opacities",
    ]


def test_title_of_a_report_without_headers_is_no_sentence() -> None:
    text = "     FINAL REPORT\n AP CHEST, 8:10 A.M. ON ___\n \n Lungs are clear.\n \n No effusion."
    assert sections(text)["preamble"] == "AP CHEST, 8:10 A.M. ON ___"
    assert list(body_sections(text)) == ["last_paragraph"]
    assert split_sentences(report_body(text)) == ["Lungs are clear.", "No effusion."]


@pytest.mark.parametrize(
    "text",
    [
        "Indication: Cough<br>Findings: Clear.<BR/>Impression: <b>Same</b> &amp; no edema.",
        "<p>INDICATION: Cough</p><p>FINDINGS: Clear.</p><p>IMPRESSION: Same &amp; no edema.</p>",
        "<h2>Findings</h2><p>Clear.</p><h2>Impression</h2><p class='x'>Same & no edema.</p>",
        "<b>Findings:</b> Clear.<br><b>Impression:</b> Same & no edema.",
        "FINDINGS: Clear.\\nIMPRESSION: Same & no edema.",
        "Indication: X.\\r\\n\\r\\nFindings:\\r\\nClear.\\r\\nImpression:\\r\\nSame & no edema.",
        "FINDINGS: Clear. IMPRESSION: Same & no edema.",
    ],
)
def test_marks_of_a_web_page_and_spelled_line_ends_are_no_text(text: str) -> None:
    assert body_sections(text) == {"findings": "Clear.", "impression": "Same & no edema."}


def test_less_than_is_no_tag() -> None:
    assert (
        report_body("FINDINGS: Nodule <5 mm, p < .05 and b> 3.")
        == "Nodule <5 mm, p < .05 and b> 3."
    )


def test_a_header_in_capitals_counts_without_a_period_before_it() -> None:
    found = body_sections("FINDINGS: Heart is normal IMPRESSION: No acute disease")
    assert found == {"findings": "Heart is normal", "impression": "No acute disease"}
    assert body_sections("FINDINGS: nan IMPRESSION: nan") == {}


@pytest.mark.parametrize(
    "text",
    [
        "FINDINGS: Clear.\nIMPRESSION: Normal.\nDICTATED BY: JOHN DOE",
        "FINDINGS: Clear.\nIMPRESSION: Normal.\nACCESSION NUMBER:\nXXX\nMore.",
        "Findings: Clear.\nImpression: Normal.\nElectronically signed by: J. Doe",
    ],
)
def test_who_signed_is_no_sentence(text: str) -> None:
    assert report_body(text) == "Clear.\n\nNormal."


@pytest.mark.parametrize("wrong", [None, float("nan"), 3, b"text"])
def test_a_report_must_be_text(wrong: object) -> None:
    message = f"must be text, found {type(wrong).__name__}"
    with pytest.raises(DataError, match=message):
        sections(wrong)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        report_body(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["findings", ()])
def test_use_must_be_names(wrong: object) -> None:
    with pytest.raises(ConfigError, match="section names"):
        report_body("Clear.", use=wrong)  # type: ignore[arg-type]


def test_empty_report_has_no_body() -> None:
    for text in ("", "   \n\n", "FINAL REPORT\n"):
        assert sections(text) == {}
        assert report_body(text) == ""


def test_each_real_report_gives_its_sections() -> None:
    reports = real_reports()
    assert len(reports) == 3955
    for report in reports:
        text = "\n".join(f" {label}:  {part}\n " for label, part in report.items() if part)
        expected = {
            label.lower(): html.unescape(part.replace("<BR>", "\n")).strip()
            for label, part in report.items()
            if part
        }
        again = "IMPRESSION:" in text.partition("IMPRESSION:")[2]  # one holds itself once more
        if expected.keys() & {"findings", "impression"} and not again:
            assert sections(text) == expected


# reports of other sources

LOOSE = {
    "Indication": "Cough.",
    "Comparison": "None.",
    "Findings": "No effusion.",
    "Impression": "Normal heart.",
}
LOOSE_BODY = {"findings": "No effusion.", "impression": "Normal heart."}


@pytest.mark.parametrize("case", [str.title, str.upper, str.lower])
@pytest.mark.parametrize(
    "form",
    [
        *(
            "{}: {}",
            "{}:{}",
            "{} : {}",
            "{}:\n{}",
            "{}\n{}",
            "{}:  {}\n",
            "{} - {}",
            "{} \u2013 {}",
        ),
        *("**{}:** {}", "**{}**: {}", "## {}\n{}", "__{}__\n\n{}\n", "[{}]\n{}", "  {} :\n {}"),
        *("1. {}: {}", "{} = {}", "*{}*: {}"),
    ],
)
def test_headers_of_other_sources(case: Callable[[str], str], form: str) -> None:
    text = "\n".join(form.format(case(name), part) for name, part in LOOSE.items())
    assert body_sections(text) == LOOSE_BODY
    assert body_sections(text.replace("\n", "\r\n")) == LOOSE_BODY


@pytest.mark.parametrize("case", [str.title, str.upper, str.lower])
@pytest.mark.parametrize("before", ["", "FINAL REPORT ", "Chest, two views. "])
@pytest.mark.parametrize("form", ["{}: {}", "{}:{}", "{} : {}", "{}:{}\t"])
def test_headers_in_one_line(case: Callable[[str], str], before: str, form: str) -> None:
    text = before + " ".join(form.format(case(name), part) for name, part in LOOSE.items())
    assert body_sections(text) == LOOSE_BODY


@pytest.mark.parametrize("case", [str.title, str.upper])
def test_headers_in_one_line_without_full_stops(case: Callable[[str], str]) -> None:
    parts = [f"{case(name)}: {part.rstrip('.')}" for name, part in LOOSE.items()]
    body = {name: part.rstrip(".") for name, part in LOOSE_BODY.items()}
    assert body_sections("FINAL REPORT " + " ".join(parts)) == body
    bold = [f"**{part}".replace(":", ":**") for part in parts]
    assert body_sections(" ".join(bold)) == body


def test_headers_without_any_space() -> None:
    text = "".join(f"{name}:{part}" for name, part in LOOSE.items())
    assert body_sections(text) == LOOSE_BODY


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("Impression/Conclusion", "impression"),
        ("IMPRESSION / CONCLUSION", "impression"),
        ("Findings and Impression", "impression"),
        ("Final impression", "impression"),
        ("Opinion", "impression"),
        ("Impressions", "impression"),
        ("Radiological findings", "findings"),
        ("Observations", "findings"),
        ("Report", "findings"),
    ],
)
def test_other_words_for_the_body(header: str, name: str) -> None:
    assert body_sections(f"Clinical History: Cough.\n{header}: Clear.\n") == {name: "Clear."}


@pytest.mark.parametrize("case", [str.title, str.upper])
@pytest.mark.parametrize(
    "header",
    ["Clinical data", "Reason for study", "Chief complaint", "Patient history", "Indications"],
)
def test_other_words_for_the_history(case: Callable[[str], str], header: str) -> None:
    assert body_sections(f"{case(header)}: Cough.\nFindings: Clear.") == {"findings": "Clear."}
    assert body_sections(f"{header}: Cough.\n\nClear.\n\nNormal.") == {
        "last_paragraph": "Clear.\n\nNormal."
    }
    assert body_sections(f"{header}: Cough, number 3.") == {}  # the history is never the body


def test_a_chest_with_an_indication_is_no_finding() -> None:
    text = "PA CHEST INDICATION: Cough.\nFINDINGS: Clear.\n"
    assert body_sections(text) == {"findings": "Clear."}


@pytest.mark.parametrize(
    ("text", "body"),
    [
        # a header of another style beside official ones
        ("FINDINGS: Clear.\nImpression: Normal.", {"findings": "Clear.", "impression": "Normal."}),
        ("FINDINGS: Clear. IMPRESSION: Normal.", {"findings": "Clear.", "impression": "Normal."}),
        ("FINDINGS\nClear.\nIMPRESSION: Normal.", {"findings": "Clear.", "impression": "Normal."}),
        ("IMPRESSION: Normal.\nClinical history: Cough.", {"impression": "Normal."}),
        (
            "INDICATION: Cough.\nFindings: Clear.\nIMPRESSION: Normal.",
            {"findings": "Clear.", "impression": "Normal."},
        ),
        # not a header, or nothing new
        (
            "FINDINGS: Clear. The impression: normal. Comparison: none.",
            {"findings": "Clear. The impression: normal. Comparison: none."},
        ),
        ("IMPRESSION: 1. Edema. IMPRESSION: Mild.", {"impression": "1. Edema. IMPRESSION: Mild."}),
    ],
)
def test_headers_inside_official_sections(text: str, body: dict[str, str]) -> None:
    assert body_sections(text) == body


@pytest.mark.parametrize(
    "text",
    [
        "Presentation: Cough. Imaging notes: Opacities. Impression: Pneumonia.",
        "Heart enlarged. The Impression: edema.",
        "Comparison: chest film of May shows the same.",
        "Normal study",
        "No change. Comment: none needed.",
        "Lungs clear.\n\nComment: poor film.\n\nHeart normal.",
    ],
)
def test_a_text_is_not_cut_for_a_word_in_it(text: str) -> None:
    assert body_sections(text) == {"full_report": text}


@pytest.mark.parametrize("text", ["Findings:", "Indication: Cough.\nFindings:\nImpression:\n"])
def test_headers_alone_are_no_body(text: str) -> None:
    assert body_sections(text) == {}


MISSING = ["nan", "NaN", "None", "NULL", "n/a", "N/A", "N.A.", "NA", "<NA>", "#N/A", "['nan']"]
MISSING += ["nan.", "-", "[]", "nil", "\\N", "not available", "Not provided.", "nan nan", "NaT"]


@pytest.mark.parametrize("word", MISSING)
def test_words_for_an_empty_cell_are_no_report_and_no_section(word: str) -> None:
    assert body_sections(word) == {}
    assert body_sections(f"FINDINGS: {word}") == {}
    assert body_sections(f"Findings: {word}\nImpression: {word}") == {}
    assert body_sections(f"FINDINGS: Clear.\nIMPRESSION: {word}\n") == {"findings": "Clear."}
    assert body_sections(f"FINDINGS: {word}\nIMPRESSION: Clear.\n", use=("findings",)) == {
        "impression": "Clear."
    }
    assert list(body_sections(f"FINDINGS: {word} effusion.")) == ["findings"]


# fuzz: 4,000 of the 10,000 cases, the others are in test_sentences and test_openi

WORDS = st.sampled_from(["no", "acute", "opacity", "in", "left", "2.5", "cm", "T12", "___"])
SENTENCES = st.lists(
    st.lists(WORDS, max_size=15).map(lambda words: " ".join(["There", *words, "is."])), max_size=4
)
BODY_HEADERS = ["FINDINGS", "IMPRESSION", "CONCLUSION", "AP CHEST", "FINIDNGS", "FINAL IMPRESSION"]
OTHER_HEADERS = ["INDICATION", "HISTORY", "COMPARISON", "TECHNIQUE", "EXAM", "DATE", "WET READ"]
SECTIONS = st.lists(
    st.tuples(st.sampled_from(BODY_HEADERS + OTHER_HEADERS), SENTENCES), min_size=1, max_size=6
)


def _wrapped(header: str, paragraphs: list[str]) -> str:
    """A section as MIMIC-CXR writes it: lines of at most 79 characters, one space before each."""
    first, *rest = paragraphs or [""]
    blocks = [textwrap.wrap(block, 78) for block in (f"{header}:  {first}", *rest)]
    return "".join(f" {line}\n" for block in blocks for line in [*block, ""])


@pytest.mark.slow
@settings(max_examples=2500)
@given(SECTIONS, st.booleans(), st.booleans())
def test_fuzzed_reports(parts: list[tuple[str, list[str]]], paragraphs: bool, added: bool) -> None:
    """The body of a report is what was written under the headers of its body, in that order."""
    text = "                                 FINAL REPORT\n"
    for header, written in parts:
        text += _wrapped(header, written if paragraphs else [" ".join(written)])
    if added:
        text = f" ADDENDUM  There is more.\n{RULE}{text}"
    expected = [
        (section_name(header), one)
        for header, written in parts
        if header in BODY_HEADERS
        for one in written
    ]
    if expected:
        expected.sort(key=lambda pair: pair[0] == "impression")
        assert split_sentences(report_body(text)) == [one for _, one in expected]
    elif paragraphs:
        filled = [written for _, written in parts if written]
        last = filled[-1][1:] if filled else []
        assert split_sentences(sections(text).get("last_paragraph", "")) == last
    assert sections(text).get("addendum", "") == ("ADDENDUM  There is more." if added else "")


PIECES = ["FINDINGS:", " LUNGS:", "CHEST:", "ADDENDUM", " WET READ:", "a b", "c. ", "D", "(", ":"]
PIECES += [RULE, " FINAL REPORT\n", "\n", "\n \n", "\r\n", "\t", " ", "-", "2.5", "___", "/,"]


@pytest.mark.slow
@settings(max_examples=1500)
@given(st.lists(st.sampled_from(PIECES)).map("".join) | st.text())
@example("rEASON FOR EXAM")
def test_no_word_of_any_text_is_lost(text: str) -> None:
    """Each small letter stands in one section, but for headers, which may be written small."""
    found, plain = sections(text), reports._plain(text)
    without, there, whole = (
        Counter(re.findall("[a-z]", one))
        for one in (reports.LOOSE_HEADER.sub(" ", plain), " ".join(found.values()), plain)
    )
    assert without <= there <= whole
    assert all(part == part.strip() != "" for part in found.values())
    assert set(body_sections(text).values()) <= set(found.values())
