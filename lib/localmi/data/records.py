"""What the hospital's record says of a study: who the patient is, in which stay, how it ended.

Joined by time, exactly, where stays overlap too. `record_features` makes numbers of it.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from localmi.data.tables import among, counted, examples

OLDEST = 89  # years; all above are 91 in MIMIC-IV
BEYOND = 130  # years: nobody's age
DAY = np.timedelta64(1, "D")
DAY_SECONDS = 86_400


@dataclass(frozen=True)
class Records:
    """The tables of MIMIC-IV, of some patients. Ids are text, times datetime64[s].

    patients: patient_id (each once), sex ("M", "F" or ""), anchor_age, anchor_year (years, NaN if
        blank), died_on (the day, NaT if not known).
    admissions: patient_id, stay_id, begin, end, died (0, 1 or NaN), died_at.
    icu_stays: patient_id, stay_id, begin, end. No stay ends before it begins.
    unclear_admissions, unclear_icu: patient_id, stay_id, begin, end of those whose times cannot be
        used: NaT is not known.
    """

    patients: pd.DataFrame
    admissions: pd.DataFrame
    icu_stays: pd.DataFrame
    unclear_admissions: pd.DataFrame
    unclear_icu: pd.DataFrame


def join(records: Records, studies: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """What is known of each study, at its time.

    A study lies in a stay where begin <= time <= end. Of several that it lies in, the one begun
    last counts; of those begun at once, the one that ends last.

    Args:
        records: of the patients of the studies.
        studies: a row a study: patient_id, study_id, year (NaN if not known), time (datetime64[s],
            NaT if not known).

    Returns:
        record_sex: "M", "F", or "" (not known).
        record_age: years, anchor_age + year - anchor_year; NaN: not known.
        record_admitted: 1 in an admission, 0 in none. Blank, and so are all that follow: the
            patient has no row in patients, the study no time, or it may lie in an admission whose
            times are unclear, and lies in no other.
        record_died: 1 if the admission ended in death, else 0; blank out of an admission too.
        record_stay_days: length of the admission, in days; blank out of an admission.
        record_icu, record_icu_days: the same of stays in intensive care.

        And notes: what a reader should know, a sentence each.
    """
    patients = records.patients.set_index("patient_id").reindex(studies["patient_id"])
    known = among(studies["patient_id"], records.patients["patient_id"]).to_numpy()
    year, time = studies["year"].to_numpy(), studies["time"]
    age = patients["anchor_age"].to_numpy() + year - patients["anchor_year"].to_numpy()
    unborn, ageless = age < 0, age > BEYOND
    admissions, icu_stays = in_order(records.admissions), in_order(records.icu_stays)
    rows = [np.where(known, rows_at(studies, one), -1) for one in (admissions, icu_stays)]
    unclear = [
        known & (row < 0) & _may_lie_in(studies, stays)
        for row, stays in zip(rows, (records.unclear_admissions, records.unclear_icu), strict=True)
    ]
    admitted, icu = (
        np.where(known & time.notna() & ~maybe, (row >= 0).astype(float), np.nan)
        for row, maybe in zip(rows, unclear, strict=True)
    )
    found = pd.DataFrame(
        {
            "record_sex": patients["sex"].fillna("").to_numpy(),
            "record_age": np.where(unborn | ageless, np.nan, age),
            "record_admitted": admitted,
            "record_died": _of(admissions["died"], rows[0]),
            "record_stay_days": _of(_days(admissions), rows[0]),
            "record_icu": icu,
            "record_icu_days": _of(_days(icu_stays), rows[1]),
        },
        studies.index,
    )
    notes = [
        f"Records: {int(np.nansum(admitted)):,} of {counted(len(studies), 'study')} during an "
        f"admission, {int(np.nansum(icu)):,} in intensive care.",
        *_of_patients(records, studies[~known]),
        *note(
            studies.loc[unborn, "study_id"],
            "study",
            "a year before the patient's birth: no record_age",
        ),
        *note(
            studies.loc[ageless, "study_id"],
            "study",
            f"a patient above {BEYOND} years by its year: no record_age",
        ),
        *note(
            studies.loc[unclear[0] | unclear[1], "study_id"],
            "study",
            "a time that may lie in a stay whose own times cannot be used: whether is blank",
        ),
        *_of_stays(admissions, icu_stays),
        *_after_death(records, studies),
    ]
    return found, notes


def _of(values: pd.Series, rows: np.ndarray) -> np.ndarray:
    """The values of these rows, NaN for row -1."""
    return np.append(values.to_numpy(float), np.nan)[rows]


def _days(stays: pd.DataFrame) -> pd.Series:
    return (stays["end"] - stays["begin"]).dt.total_seconds() / DAY_SECONDS


# stays


def in_order(stays: pd.DataFrame) -> pd.DataFrame:
    """By patient, begin and end, as `rows_at` takes them; `latest`: the end of the longest so far
    of the patient."""
    stays = stays.sort_values(["patient_id", "begin", "end", "stay_id"], ignore_index=True)
    return stays.assign(latest=stays.groupby("patient_id")["end"].cummax())


def rows_at(times: pd.DataFrame, stays: pd.DataFrame) -> np.ndarray:
    """The row of the stay that each time lies in, -1 for none: [n] int64.

    The last begun may have ended while an earlier, longer one goes on: from there it is looked
    back, as long as one of the patient's earlier stays is known to contain the time.

    Args:
        times: patient_id, time; n rows.
        stays: from `in_order`.
    """
    row = _last_begun(times, stays)
    time, end, latest = (
        column.to_numpy() for column in (times["time"], stays["end"], stays["latest"])
    )
    left = np.flatnonzero(row >= 0)
    left = left[end[row[left]] < time[left]]
    row[left[latest[row[left]] < time[left]]] = -1
    left = left[row[left] >= 0]
    while len(left):
        row[left] -= 1
        left = left[end[row[left]] < time[left]]
    return row


def _last_begun(times: pd.DataFrame, stays: pd.DataFrame) -> np.ndarray:
    """Of the patient's stays that have begun by each time, the row of the last, or -1."""
    row = np.full(len(times), -1)
    asked = pd.DataFrame(
        {"patient_id": times["patient_id"].to_numpy(), "time": times["time"].to_numpy()}
    )
    asked = asked.assign(place=np.arange(len(times))).dropna().sort_values("time")
    begun = stays[["patient_id", "begin"]].assign(row=np.arange(len(stays)))
    if len(asked) and len(begun):
        found = pd.merge_asof(
            asked,
            begun.sort_values("begin", kind="stable"),
            left_on="time",
            right_on="begin",
            by="patient_id",
        )
        row[found["place"]] = found["row"].fillna(-1).astype(int)
    return row


def _may_lie_in(studies: pd.DataFrame, unclear: pd.DataFrame) -> np.ndarray:
    """Which studies a stay of unclear times may contain: from its begin, where that is known, to
    its end, where that is; of one that ends before it begins, all between the two."""
    both = studies.reset_index(drop=True).reset_index(names="row")
    both = both[["row", "patient_id", "time"]].merge(unclear, on="patient_id")
    low, high = both["begin"], both["end"]
    turned = low > high
    low, high = low.where(~turned, high), high.where(~turned, low)
    may = both["time"].notna() & ~(both["time"] < low) & ~(both["time"] > high)
    found = np.zeros(len(studies), bool)
    found[both.loc[may, "row"]] = True
    return found


# notes


def note(ids: pd.Series, noun: str, words: str, verb: str = "have") -> list[str]:
    """ "3 patients have no row (1, 2, 3)."; nothing where there are none."""
    return [f"{counted(len(ids), noun, verb)} {words} ({examples(ids)})."] if len(ids) else []


def _of_patients(records: Records, unknown: pd.DataFrame) -> list[str]:
    patients = records.patients
    return [
        *note(
            unknown["patient_id"].drop_duplicates(),
            "patient",
            f"no row in patients: all that is recorded of their {counted(len(unknown), 'study')} "
            "is blank",
        ),
        *note(
            patients.loc[patients["sex"] == "", "patient_id"],
            "patient",
            "no gender M or F: record_sex is blank",
        ),
        *note(
            patients.loc[patients[["anchor_age", "anchor_year"]].isna().any(axis=1), "patient_id"],
            "patient",
            "no anchor_age or anchor_year: record_age is blank",
        ),
        *note(
            patients.loc[patients["anchor_age"] > OLDEST, "patient_id"],
            "patient",
            f"an anchor_age above {OLDEST}, where 91 stands for all: record_age is not exact",
        ),
    ]


def _of_stays(admissions: pd.DataFrame, icu_stays: pd.DataFrame) -> list[str]:
    notes = []
    for noun, stays in (("admission", admissions), ("ICU stay", icu_stays)):
        before = stays.groupby("patient_id")["latest"].shift()
        notes += note(
            stays.loc[stays["begin"] < before, "stay_id"],
            noun,
            "begun while another of the patient went on: in both, that begun last counts",
        )
    begun = _last_begun(icu_stays.rename(columns={"end": "time"}), admissions)
    latest = np.append(admissions["latest"].to_numpy(), np.datetime64("NaT", "s"))[begun]
    outside = ~(latest >= icu_stays["begin"].to_numpy())
    return notes + note(
        icu_stays.loc[outside, "stay_id"],
        "ICU stay",
        "no time in common with an admission of the patient: record_icu speaks of it all the same",
    )


def _after_death(records: Records, studies: pd.DataFrame) -> list[str]:
    day = records.patients.set_index("patient_id")["died_on"] + DAY  # it may be any time of it
    hour = records.admissions.groupby("patient_id")["died_at"].min()
    dead = np.zeros(len(studies), bool)
    for death in (day, hour):
        dead |= studies["time"].to_numpy() > death.reindex(studies["patient_id"]).to_numpy()
    return note(studies.loc[dead, "study_id"], "study", "a time after the patient's death")
