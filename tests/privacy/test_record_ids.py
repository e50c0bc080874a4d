"""Ids of MIMIC-IV: found where their surroundings say so, dates and counts left alone.

Ids are put together here; invented, and in MIMIC-IV's ranges.
"""

import pytest

from localmi.privacy.record_ids import record_ids
from localmi.privacy.rules import ADMISSION, PATIENT, STAY, Hit, Kind, find, masked

A_PATIENT, AN_ADMISSION, A_STAY = str(10_000_032), str(23_456_789), str(34_567_890)
LIKE_A_DATE = str(21_390_424)  # an admission may have such an id
DAY_FIRST = str(31_122_026)
IDS = {"patient": A_PATIENT, "admission": AN_ADMISSION, "stay": A_STAY, "date": LIKE_A_DATE}


def words(text: str, kind: Kind = "text") -> list[str]:
    return [found.words for found in find(text.format(**IDS), kind)]


@pytest.mark.parametrize("kind", ["text", "code", "notebook"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hadm_id = {admission}", [ADMISSION]),
        ("hadm_id={date}", [ADMISSION]),
        ("hadm_ids: [{admission}, 7]", [ADMISSION]),
        ("the admission {admission} ended", [ADMISSION]),
        ("Admission: '{admission}'", [ADMISSION]),
        ("two stays ({stay})", [STAY]),
        ("icustay {stay}.", [STAY]),
        ("icu_stay_id == {stay}", [STAY]),
        ('"stay_id": {stay}', [STAY]),
        ("df.hadm_id.isin([{admission}, {admission}])", [ADMISSION, ADMISSION]),
        ("WHERE hadm_id IN ({admission}, {admission})", [ADMISSION, ADMISSION]),
        ("stay_id not in ['{stay}', '{stay}']", [STAY, STAY]),
        ('d[d["hadm_id"] == {admission}]', [ADMISSION]),
        ("hadm_{admission}.csv, stay_{stay}", [ADMISSION, STAY]),
        ("admission no. {admission}, stay #{stay}", [ADMISSION, STAY]),
        ("The admission is {admission}, the stay was {stay}", [ADMISSION, STAY]),
        ("stay_id {date}", [ADMISSION]),  # by its digits; what it is called is another matter
    ],
)
def test_the_words_before_a_number_say_so(text: str, expected: list[str], kind: Kind) -> None:
    assert words(text, kind) == expected


@pytest.mark.parametrize("kind", ["text", "notebook"])
def test_a_column_says_so(kind: Kind) -> None:
    table = "row,hadm_id,StudyDate\n0,{admission},{date}\n1,{date},{date}\n"
    assert words(table, kind) == [ADMISSION, ADMISSION]
    assert [found.line for found in find(table.format(**IDS))] == [2, 3]
    for name in ("hadm_id", "admission", "Admission_ID", "record_hadm_id", "hadm"):
        assert words(f"{name};n\n{{date}};1\n", kind) == [ADMISSION], name
        assert words(f"n\t{name}\n1\t{{admission}}.0\n", kind) == [ADMISSION], name
        assert words(f"| n | {name} |\n|---|---|\n| 1 | {{date}} |", kind) == [ADMISSION], name
    assert words("n,stay\r\n1,{stay}\r\n\r,{stay}\r\r\n", kind) == [STAY, STAY]
    for name in ("stay", "stay_id", "icustay_id", "icu_stay_id"):
        assert words(f'"text","{name}"\n"a, b","{{stay}}"\n', kind) == [STAY], name
        assert words(f"{name}\n{{stay}}\n", kind) == [STAY], name


def test_below_a_name_of_ids_what_cannot_be_a_date_is_one() -> None:
    printed = "   hadm_id  label\n0  {admission}      1\n1  {date}      0\n"
    assert words(printed) == words(printed, "notebook") == [ADMISSION]
    assert words('{{"hadm_id": {{"0": 7, "1": {admission}}}}}') == [ADMISSION]
    aligned = "hadm_id  size\n{date}  {admission}\n"
    assert [found.line for found in find(aligned.format(**IDS))] == [2]
    assert words("hadm_id and stay_id are joined.\n\nAll in all {admission} rows.") == []
    assert words("all stays here\n{admission} x") == []  # no name of ids


def test_a_name_below_a_column_says_so() -> None:
    """As pandas prints a column."""
    column = "0    {admission}\n1    {date}\nName: hadm_id, dtype: int64"
    assert words(column) == words(column, "notebook") == [ADMISSION]
    assert words("0    {admission}\nName: size, dtype: int64") == []


def test_in_code_a_column_says_nothing() -> None:
    assert words("hadm_id,n\n{admission},1\n", "code") == []


@pytest.mark.parametrize("kind", ["text", "code"])
def test_a_patient_in_the_row_says_so(kind: Kind) -> None:
    assert ADMISSION in words("{patient},{admission},2180-05-06 22:23:00", kind)
    assert STAY in words("0  {patient}  {stay}", kind)
    assert words("in p{patient}/ {admission}", kind) == [PATIENT, ADMISSION]
    assert words("{patient}\n{admission}", kind) == []
    assert words("{patient} " + "x" * 2000 + " {admission}", kind) == []  # of another row


def test_a_date_beside_a_patient_is_a_date() -> None:
    assert words("p{patient} on {date}") == [PATIENT]
    assert words("dicom,subject_id,StudyDate\na,{patient},{date}\n") == [PATIENT]
    assert words("a,b\n{patient},{date}\n") == [ADMISSION]  # no column of dates


@pytest.mark.parametrize(
    "text",
    [
        "StudyDate,StudyTime\n{date},101.5\n21000101,3.25\n22001231,7\n",
        "subject_id,hadm_id,stay_id,StudyDate\n90000032,70000320,60000320,{date}\n",
        "subject_id,study_id,StudyDate\n90000032,80000320,{date}\n",
        "{admission} parameters of ResNet-50, {stay} of others",
        "23,456,789 stays and 23_456_789 admissions; stay 0.23456789, -23456789, 23456789.25",
        "admission: 20261123, stays 21390424 and 31122026",
        "stay_days = {admission}",
        "the stay lasts; {admission} rows",
        "sha256:" + "23456789" * 8,
        "hadm_id 234567891, 2345678, x23456789, 23456789-1",
        "subject_id\n{admission}\n",
        "n,size\n1,{admission}\n2,{stay}\n",
    ],
)
@pytest.mark.parametrize("kind", ["text", "code", "notebook", "binary"])
def test_dates_counts_and_synthetic_ids_are_left_alone(text: str, kind: Kind) -> None:
    assert words(text, kind) == []


def test_binary_files_have_no_such_ids() -> None:
    assert words("hadm_id {admission}", "binary") == []


def test_day_first_dates_are_dates_too() -> None:
    assert words(f"admission: {DAY_FIRST}") == []
    assert words(f"stay_id: {DAY_FIRST}") == [STAY]


def test_the_ends_of_the_ranges() -> None:
    for number, found in ((20_000_000, 1), (39_999_999, 1), (19_999_999, 0), (40_000_000, 0)):
        assert len(list(record_ids(f"hadm_id {number}"))) == found


def test_they_are_masked() -> None:
    text = "admission {admission} of p{patient}, stay_id={stay}, on {date}; hadm 70000320"
    expected = "admission [id] of [id], stay_id=[id], on {date}; hadm 70000320"
    assert masked(text.format(**IDS)) == expected.format(**IDS)


def test_lines_are_counted() -> None:
    text = "a\nhadm_id {admission}\n\nstay_id {stay}\n".format(**IDS)
    assert list(find(text)) == [Hit(2, ADMISSION), Hit(4, STAY)]
