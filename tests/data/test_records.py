"""The join by time against a loop over every stay, and its edges."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from localmi.data.records import Records, in_order, join, rows_at

START = np.datetime64("2150-01-01T00:00:00", "s")
MOMENT = st.integers(0, 40)  # few, so that stays touch, contain each other, begin at once
PATIENT = st.sampled_from("ab")


def stays(rows: list[tuple[str, int, int]]) -> pd.DataFrame:
    """patient, begin and length in seconds after `START`."""
    table = pd.DataFrame(rows, columns=["patient_id", "begin", "length"])
    return pd.DataFrame(
        {
            "patient_id": table["patient_id"].astype(str),
            "stay_id": [f"{number:03}" for number in range(len(rows))],
            "begin": START + table["begin"].to_numpy("timedelta64[s]"),
            "end": START + (table["begin"] + table["length"]).to_numpy("timedelta64[s]"),
        }
    )


def at(rows: list[tuple[str, int]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["patient_id", "time"])
    return pd.DataFrame(
        {
            "patient_id": table["patient_id"].astype(str),
            "time": START + table["time"].to_numpy("timedelta64[s]"),
        }
    )


@given(
    st.lists(st.tuples(PATIENT, MOMENT, MOMENT), max_size=12),
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(-2, 90)), max_size=12),
)
def test_of_all_stays_that_contain_a_time_the_last_begun_counts(
    rows: list[tuple[str, int, int]], moments: list[tuple[str, int]]
) -> None:
    table = in_order(stays(rows))
    for (patient, moment), found in zip(moments, rows_at(at(moments), table), strict=True):
        time = START + np.timedelta64(moment, "s")
        own = table[table["patient_id"] == patient]
        own = own[(own["begin"] <= time) & (time <= own["end"])]
        expected = own.sort_values(["begin", "end", "stay_id"]).index
        assert found == (expected[-1] if len(expected) else -1)


def test_many_short_stays_within_a_long_one() -> None:
    """The last begun has ended, and so have the twenty before it."""
    table = in_order(stays([("a", 0, 1000), *(("a", 10 * n, 1) for n in range(1, 21))]))
    assert rows_at(at([("a", 205), ("a", 200), ("a", 1001)]), table).tolist() == [0, 20, -1]


# --- What is known of a study ---


def known(**changed: Any) -> Records:
    """One patient, who is 60 in 2150, with one admission and one ICU stay within it."""
    patients = {"patient_id": ["a"], "sex": ["F"], "anchor_age": [60.0], "anchor_year": [2150.0]}
    admissions = stays([("a", 0, 86_400)]).assign(died=1.0, died_at=pd.NaT)
    admissions["died_at"] = admissions["died_at"].astype("datetime64[s]")
    died_on = pd.Series(pd.NaT, [0], "datetime64[s]")
    tables: dict[str, Any] = {
        "patients": pd.DataFrame(patients).assign(died_on=died_on),
        "admissions": admissions,
        "icu_stays": stays([("a", 3600, 3600)]),
        "unclear_admissions": stays([]),
        "unclear_icu": stays([]),
    }
    return Records(**tables | changed)


def study(patient: str, time: str, year: float = 2150) -> pd.DataFrame:
    moment = pd.Series([time], dtype="datetime64[s]")
    return pd.DataFrame(
        {"patient_id": [patient], "study_id": ["s"], "year": [year], "time": moment}
    )


@pytest.mark.parametrize(
    ("time", "admitted", "icu"),
    [
        ("2149-12-31 23:59:59", 0, 0),
        ("2150-01-01 00:00:00", 1, 0),
        ("2150-01-01 00:59:59", 1, 0),
        ("2150-01-01 01:00:00", 1, 1),
        ("2150-01-01 02:00:00", 1, 1),
        ("2150-01-01 02:00:01", 1, 0),
        ("2150-01-02 00:00:00", 1, 0),
        ("2150-01-02 00:00:01", 0, 0),
    ],
)
def test_the_edges_belong_to_a_stay_to_the_second(time: str, admitted: int, icu: int) -> None:
    (row,) = join(known(), study("a", time))[0].to_dict("records")
    assert (row["record_admitted"], row["record_icu"]) == (admitted, icu)
    if admitted:
        assert (row["record_died"], row["record_stay_days"]) == (1, 1)
    else:  # not admitted is neither alive nor died
        assert np.isnan([row["record_died"], row["record_stay_days"]]).all()
    assert row["record_icu_days"] == pytest.approx(1 / 24 if icu else np.nan, nan_ok=True)


@pytest.mark.parametrize(("year", "age"), [(2150, 60), (2153, 63), (2149, 59), (np.nan, np.nan)])
def test_age_is_that_of_the_year_of_the_study(year: float, age: float) -> None:
    (found,) = join(known(), study("a", "2150-01-01", year))[0]["record_age"]
    assert found == pytest.approx(age, nan_ok=True)


def test_nothing_is_said_of_a_patient_without_a_row() -> None:
    """Not even that they are not admitted, and of an image without a time no stay."""
    found, notes = join(known(), study("b", "2150-01-01 01:30:00"))
    assert found["record_sex"].tolist() == [""]
    assert found.drop(columns="record_sex").isna().all(axis=None)
    assert "1 patient has no row in patients: all that is recorded of their 1 study" in notes[1]
    (row,) = join(known(), study("a", "NaT"))[0].to_dict("records")
    assert (row["record_sex"], row["record_age"]) == ("F", 60)
    assert np.isnan([row["record_admitted"], row["record_icu"], row["record_died"]]).all()


def test_a_time_after_death_is_said() -> None:
    """The day of death may be any time of it; the hour is known of deaths in the hospital."""
    patients = known().patients.assign(died_on=pd.Series(["2150-01-02"], dtype="datetime64[s]"))
    admissions = known().admissions
    hour = admissions.assign(died_at=pd.Series(["2150-01-01 05:00"], dtype="datetime64[s]"))
    for records, time, dead in (
        (known(patients=patients), "2150-01-02 23:59:59", False),
        (known(patients=patients), "2150-01-03 00:00:01", True),
        (known(admissions=hour), "2150-01-01 05:00:00", False),
        (known(admissions=hour), "2150-01-01 05:00:01", True),
        (known(), "2190-01-01 00:00:00", False),
    ):
        said = "1 study has a time after the patient's death (s)."
        assert (said in join(records, study("a", time))[1]) == dead


@pytest.mark.parametrize(
    ("begin", "length", "outside"),
    [(86_400, 60, False), (86_401, 60, True), (-60, 60, False), (-60, 59, True), (-60, 10**6, 0)],
)
def test_a_stay_in_intensive_care_outside_of_admissions(
    begin: int, length: int, outside: bool
) -> None:
    notes = join(known(icu_stays=stays([("a", begin, length)])), study("a", "2150-01-01"))[1]
    assert any("no time in common with an admission" in one for one in notes) == bool(outside)


def test_stays_that_touch_do_not_overlap() -> None:
    def said(*rows: tuple[str, int, int]) -> list[str]:
        notes = join(known(icu_stays=stays(list(rows))), study("a", "2150-01-01"))[1]
        return [one for one in notes if "while another" in one]

    assert said(("a", 0, 10), ("a", 10, 10), ("b", 5, 3)) == []
    assert said(("a", 0, 10), ("a", 2, 1), ("a", 9, 10)) == [
        "2 ICU stays have begun while another of the patient went on: in both, that begun last "
        "counts (001, 002)."
    ]


@pytest.mark.parametrize(
    ("begin", "end", "blank"),  # hours after the admission that is known has begun; None: blank
    [
        (None, None, [True, True, True]),
        (None, 40, [True, True, False]),
        (40, None, [False, False, True]),
        (40, 30, [False, True, False]),  # the wrong way round
        (60, None, [False, False, False]),
    ],
)
def test_a_study_that_may_lie_in_an_unclear_stay_is_blank(
    begin: int | None, end: int | None, blank: list[bool]
) -> None:
    unclear = stays([("a", 0, 0)])
    for name, hours in (("begin", begin), ("end", end)):
        time = "NaT" if hours is None else START + np.timedelta64(hours, "h")
        unclear[name] = pd.Series([time], dtype="datetime64[s]")
    records = known(unclear_admissions=unclear, unclear_icu=unclear)
    times = [f"2150-01-02 {hour}:00" for hour in ("05", "10", "18")]  # 29, 34 and 42 hours
    studies = pd.concat([study("a", time) for time in times], ignore_index=True)
    found, notes = join(records, studies)
    assert found["record_admitted"].isna().tolist() == blank
    assert found["record_icu"].isna().tolist() == blank
    said = [note for note in notes if "may lie in a stay whose own times cannot be used" in note]
    assert len(said) == any(blank)
    inside, _ = join(records, study("a", "2150-01-01 12:00"))
    assert inside["record_admitted"].tolist() == [1]  # in one that is known


def test_no_age_above_a_hundred_and_thirty() -> None:
    found, notes = join(known(), study("a", "2230-01-01 00:00:00", year=2230))
    assert found["record_age"].isna().all()
    assert "1 study has a patient above 130 years by its year: no record_age (s)." in notes
