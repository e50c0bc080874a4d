"""What the rules find and, as important, what they leave alone. Ids are put together here."""

import uuid

import pytest

from localmi.privacy import rules as privacy
from localmi.privacy.known_text import KnownText
from localmi.privacy.rules import IMAGE, PATIENT, REPORT, STUDY, Hit, find, masked

A_PATIENT, A_STUDY = str(10_000_032), str(50_414_267)
AN_IMAGE = "-".join(f"{number:08x}" for number in (0x02AA804E, 7, 0xBDE0AFDD, 0, 0xB8BA0000))
TITLE = " " * 33 + "FINAL REPORT\n"
INVENTED = f"""{TITLE} EXAMINATION:  CHEST (PA AND LAT)
 
 INDICATION:  ___F with a cough since the harvest festival  // eel in the chest?
 
 FINDINGS: 
 
 Both lungs sing in tune. The heart keeps a garden of 2.5 x 1.8 cm behind the
 left hemidiaphragm.
 
 IMPRESSION: 
 
 No eel.
"""  # noqa: W291, W293


def words(text: str, kind: privacy.Kind = "text") -> list[str]:
    return [found.words for found in find(text, kind)]


@pytest.mark.parametrize("kind", ["text", "code", "notebook", "binary"])
def test_an_id_with_its_letter_is_found_everywhere(kind: privacy.Kind) -> None:
    text = f"in files/p10/p{A_PATIENT}/s{A_STUDY}/\nand p{A_PATIENT}_s{A_STUDY}.txt"
    assert sorted(find(text, kind), key=lambda found: found.line) == [
        Hit(1, PATIENT),
        Hit(1, STUDY),
        Hit(2, PATIENT),
        Hit(2, STUDY),
    ]
    assert words(f"P{A_PATIENT}", kind) == [PATIENT]


@pytest.mark.parametrize("digits", ["10000000", "19999999"])
def test_the_ends_of_the_ranges(digits: str) -> None:
    assert words("p" + digits) == [PATIENT]
    assert words("s" + str(int(digits) + 40_000_000)) == [STUDY]
    for other in (int(digits) + 10_000_000, 9_999_999):
        assert words(f"p{other} s{other}") == []


@pytest.mark.parametrize("kind", ["text", "code", "binary"])
def test_the_id_of_an_image_is_found(kind: privacy.Kind) -> None:
    assert words(f"x = '{AN_IMAGE}'", kind) == [IMAGE]
    assert words(f"files/{AN_IMAGE}.jpg", kind) == [IMAGE]


def test_images_of_synthetic_studies_are_not_mimics() -> None:
    example = next(iter(privacy.example_images()))
    assert words(f"{example}/edema.npy") == []
    assert words(f"{AN_IMAGE},90000004,80000040,0") == []  # in a row with synthetic ids
    assert words(f"files/p90/p90000004/s80000040/{AN_IMAGE}.jpg") == []
    assert words(f"90000004\n{AN_IMAGE}") == [IMAGE]


@pytest.mark.parametrize("kind", ["text", "code"])
@pytest.mark.parametrize(
    "text",
    [
        "{patient},{study},1.0,0.0",
        "0   {patient}  {study}",
        "{patient}.0\t{study}.0",
        '{{"subject_id": {patient}}}',
        "study_id = {study}",
        "studies = [{study}, 7]",
        "patient {patient} fell ill",
        "subject: '{patient}'",
    ],
)
def test_a_bare_number_is_an_id_where_its_row_says_so(text: str, kind: privacy.Kind) -> None:
    assert words(text.format(patient=A_PATIENT, study=A_STUDY), kind)


def test_a_bare_number_is_an_id_under_a_column_of_ids() -> None:
    table = f"study_id,edema\n80000040,1\n{A_STUDY},1\n"
    assert list(find(table)) == [Hit(3, STUDY)]
    assert words(table, "code") == []


def test_a_bare_number_in_a_notebook_is_an_id() -> None:
    assert words(f"the loss of {A_PATIENT}.", "notebook") == [PATIENT]
    assert words("the loss of 11,689,512", "notebook") == []


@pytest.mark.parametrize(
    "text",
    [
        "20261123, 2026-11-23, 21390424 and 19991231 or 19991231.json",
        "parameters = 11689512  # counts of ResNet-18",
        "11,689,512 and 10_000_000 and 50_000_000",
        "loss 0.15041426, 1.5041426e-7, 15041426.25, -50414267",
        "subject_id,study_id\n90000032,80414267\n",
        "sha256:" + "15041426" * 8,
        "s5" + "0414267a, xs5" + "0414267, p1" + "00000321",
        str(uuid.UUID(int=15_041_426)),
        "12345678-1234-5678-1234-567812345678",
        "p10, s5, p1000, step " + A_PATIENT,
        "1" + "50414267",
    ],
)
@pytest.mark.parametrize("kind", ["text", "code"])
def test_dates_counts_hashes_and_synthetic_ids_are_left_alone(
    text: str, kind: privacy.Kind
) -> None:
    assert words(text, kind) == []


def test_a_report_in_mimics_shape_is_found() -> None:
    assert list(find(f"first\n{INVENTED}")) == [Hit(2, REPORT)]
    assert words(repr(INVENTED)) == [REPORT]  # line ends escaped, as in JSON and source
    assert words(f'1,"{INVENTED}"\n') == [REPORT]
    stripped = "\n".join(line.strip() for line in INVENTED.splitlines())
    assert words(stripped, "notebook") == [REPORT]


def test_reports_of_the_example_study_are_not_mimics() -> None:
    report = (privacy.EXAMPLE / "files/p90/p90000000/s80000000.txt").read_text()
    assert len(report) > 300
    assert words(report) == words(repr(report)) == words(report[:-25]) == []
    assert words(report + " The lungs sing in tune.\n") == [REPORT]


@pytest.mark.parametrize(
    "text",
    [
        "A report begins with FINAL REPORT and has the sections FINDINGS and IMPRESSION.",
        f"{TITLE} EXAMINATION:  CHEST\n FINDINGS: ___.\n",
        f"{TITLE}{' word' * 100}\n",
        '" " * 33 + "FINAL REPORT\\n FINDINGS: {body}\\n IMPRESSION: ___",\n',
        f'"FINAL REPORT\\n", "Told.")\n FINDINGS: ___\n HEART: {" word" * 100}',
    ],
)
def test_a_mention_of_the_form_is_no_report(text: str) -> None:
    assert words(text) == []


def test_nothing_found_says_the_id() -> None:
    text = f"p{A_PATIENT} {A_STUDY} {AN_IMAGE}"
    for found in find(text, "notebook"):
        assert not any(part in found.words for part in text.split())
    assert masked(f"{text} 90000032, 11,689,512") == "[id] [id] [id] 90000032, 11,689,512"


def test_a_study_is_recognised_by_its_sentences() -> None:
    known = KnownText(["The eel sleeps in the left lower lobe.", "No eel.", "The heart is big."])
    assert len(known) == 1  # the others are too short to be anybody's own
    found = list(known.find("Here:\nthe EEL sleeps,\nin the left\\nlower lobe! No eel."))
    assert found == [Hit(2, "a sentence of the study (8 words)")]
    assert list(known.find("The eel sleeps in the left upper lobe.")) == []
    binary = "\x80\x91The eel sleeps in the left lower lobe.\x80"
    assert len(list(known.find(binary, "binary"))) == 1


def test_a_sentence_the_example_has_as_well_is_nobodys_own() -> None:
    sentence = "There is no abnormal opacification of the lungs."
    assert sentence.casefold() in privacy.example_sentences()
    assert len(KnownText([sentence])) == 0


def test_without_the_example_study_the_rules_hold(
    monkeypatch: pytest.MonkeyPatch, tmp_path: privacy.Path
) -> None:
    monkeypatch.setattr(privacy, "EXAMPLE", tmp_path)
    assert privacy._column(tmp_path / "none.csv", "text") == []
