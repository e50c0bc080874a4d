import importlib.util
import re
import tarfile
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from localmi.data.reports import (
    body_sections,
    report_body,
    section_name,
    sections,
    sentence_kind,
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
_TOLD = "Told Dr. ___ at 3:15 p.m. on ___."


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


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("IMPRESSION", "impression"),
        ("CONCLUSION", "impression"),
        ("IMPRESSON", "impression"),
        ("FINIDNGS", "findings"),
        ("FINDINGS/ IMPRESSION", "impression"),
        ("CHEST, TWO VIEWS", "findings"),
        ("PORTABLE AP UPRIGHT", "findings"),
        ("REASON FOR EXAM", "indication"),
        ("COMPARISIONS", "comparison"),
        ("RECOMMENDATION(S)", "recommendations"),
        ("MEDICATION", None),
        ("BG", None),
    ],
)
def test_headers_are_normalised(header: str, name: str | None) -> None:
    assert section_name(header) == name


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


@pytest.mark.parametrize("wrong", [None, float("nan"), 3, b"text"])
def test_a_report_must_be_text(wrong: object) -> None:
    message = f"must be text, found {type(wrong).__name__}"
    with pytest.raises(DataError, match=message):
        sections(wrong)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        report_body(wrong)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        split_sentences(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["findings", ()])
def test_use_must_be_names(wrong: object) -> None:
    with pytest.raises(ConfigError, match="section names"):
        report_body("Clear.", use=wrong)  # type: ignore[arg-type]


def test_empty_report_has_no_body() -> None:
    for text in ("", "   \n\n", "FINAL REPORT\n"):
        assert sections(text) == {}
        assert report_body(text) == ""


def _seconds(text: str) -> float:
    start = time.perf_counter()
    split_sentences(report_body(text))
    return time.perf_counter() - start


@pytest.mark.parametrize("unit", ["clear lungs. ", "word ", "\n", " A B", "1. ", "A:\n "])
def test_long_reports_take_linear_time(unit: str) -> None:
    short = min(_seconds(unit * 10_000) for _ in range(3))
    long = min(_seconds(unit * 40_000) for _ in range(3))
    assert short < 1.0
    assert long < 10 * short + 0.05  # a quadratic rule would take 16 times as long


def _openi_reports() -> list[dict[str, str]]:
    package = importlib.util.find_spec("torchxrayvision")
    if package is None or package.origin is None:
        pytest.skip("torchxrayvision, which carries the OpenI reports, is not installed")
    archive = Path(package.origin).parent / "data" / "NLMCXR_reports.tgz"
    reports = []
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.name.endswith(".xml") else None
            if file is not None:
                parts = ElementTree.parse(file).iter("AbstractText")
                reports.append({part.get("Label", ""): part.text or "" for part in parts})
    return reports


def test_real_reports_lose_no_decimal_and_gain_no_digit_only_sentence() -> None:
    reports = _openi_reports()
    assert len(reports) == 3955
    decimal = re.compile(r"\d+\.\d+")
    bodies = num_sentences = num_decimals = 0
    for report in reports:
        text = "\n".join(f" {label}:  {part}\n " for label, part in report.items() if part)
        body = report_body(text, use=("findings", "impression"))
        if not (report["FINDINGS"] or report["IMPRESSION"]):
            continue
        assert body.split() == f"{report['FINDINGS']} {report['IMPRESSION']}".split()
        found = split_sentences(body)
        assert all(re.search("[A-Za-z]", sentence) for sentence in found)
        assert [n for s in found for n in decimal.findall(s)] == decimal.findall(body)
        num_decimals += len(decimal.findall(body))
        num_sentences += len(found)
        bodies += 1
    assert bodies == 3927
    assert num_decimals == 79
    assert 5.6 < num_sentences / bodies < 6.0


def test_kind_of_a_very_long_sentence_is_found_in_linear_time() -> None:
    start = time.perf_counter()
    assert sentence_kind("discussed called " * 5_000) == "content"
    assert time.perf_counter() - start < 1.0
