"""MIMIC-IV, the hospital's records of the patients of MIMIC-CXR: its tables by official name.

Of version 1.0 `core/` and `icu/`, from 2.0 on `hosp/` and `icu/`: patients, admissions, icustays,
each as .csv.gz or .csv. The two projects move the dates of a patient by the same number of days,
so that an image and a stay can be joined by time. Taught in 13_preparing_mimic_cxr.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from localmi.data.labels import check_labels
from localmi.data.records import Records, join, note
from localmi.data.tables import (
    among,
    are,
    check_unique,
    counted,
    examples,
    read_table,
    where_looked,
)
from localmi.errors import DataError

PROJECT = 'PhysioNet\'s "MIMIC-IV"'
MODULES = {"patients": ("hosp", "core"), "admissions": ("hosp", "core"), "icustays": ("icu",)}
ENDINGS = (".csv.gz", ".csv")  # the first is taken where both are there
POSITION = "PatientOrientationCodeSequence_CodeMeaning"  # of the metadata of MIMIC-CXR-JPG
POSITIONS = {"erect": "Erect", "recumbent": "Recumbent"}
GENDERS, FLAGS = ("M", "F"), (0.0, 1.0)
ZONE = r"\d(?:[Zz]|\s*[+-]\d\d:?\d\d)"  # at the end of a time; MIMIC-IV has none
ENOUGH = 20  # admissions of a study's patients, of which at least one should hold an image
MIDNIGHT = 240_000  # as HHMMSS


def add_records(
    table: pd.DataFrame, metadata: Path, records_dir: Path | str
) -> tuple[pd.DataFrame, tuple[str, ...], tuple[str, ...]]:
    """The table of pairs with what is recorded of each image's study, see `records.join`.

    The time of a study is the earliest of its images, of all views: what is recorded does not
    depend on which of them are kept, and is the same for all images of a report.

    Args:
        table: of pairs of MIMIC-CXR.
        metadata: its table of the same name: StudyDate (YYYYMMDD), StudyTime (HHMMSS.fff, a
            number without leading zeros), and how the patient was positioned.
        records_dir: of MIMIC-IV: the folder that holds `hosp/` (or `core/`) and `icu/`, one of
            these, or the folder above all; of several versions there the last by name.

    Returns:
        The table with new columns at its end: position ("Erect", "Recumbent", "" if not known),
        then those of `records.join`; the names of the new columns; notes.

    Raises:
        DataError: a table or column is missing, an id stands twice, a time of a stay, a flag or an
            age cannot be read; no study has a date, no patient a row; or the stays are of other
            patients, or of other times.
    """
    images, notes = _read_images(metadata, table)
    keys = ["patient_id", "study_id"]
    studies = _studies(images, keys)
    several = studies.loc[studies["time"] < studies["last"], "study_id"]
    notes += note(several, "study", "images of different times: the earliest counts")
    records, of_tables = read_records(records_dir, studies["patient_id"])
    joined, of_studies = join(records, studies)
    if len(records.admissions) >= ENOUGH and not joined["record_admitted"].any():
        raise DataError(
            f"None of the {counted(len(studies), 'study')} lies in one of the "
            f"{counted(len(records.admissions), 'admission')} of their patients in {records_dir}: "
            "their dates do not go together. Are the records those of this study, and of a "
            "version that its dates fit?"
        )
    position = images.drop_duplicates("image_id").set_index("image_id")["position"]
    found = table.merge(studies[keys].join(joined), on=keys, how="left", validate="many_to_one")
    found.insert(table.shape[1], "position", found["image_id"].map(position))
    blank = found.loc[found["position"] == "", "image_id"]
    notes += note(blank, "image", f"no {POSITION}: position is blank")
    other = found.loc[~found["position"].isin(["", *POSITIONS.values()]), "image_id"]
    notes += note(other, "image", f"a position other than {' or '.join(POSITIONS.values())}")
    return found, ("position", *joined), (*of_studies, *of_tables, *notes)


# images


def _read_images(metadata: Path, table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """patient_id, study_id, image_id, position, date, time: all images of the same studies."""
    names = {"subject_id": "patient_id", "study_id": "study_id", "dicom_id": "image_id"}
    columns = [*names, "StudyDate", "StudyTime", POSITION]
    images = read_table(metadata, columns, columns, only=True)
    images = images.rename(columns=names | {POSITION: "position"})
    text = images["position"].str.strip()
    images["position"] = text.str.casefold().map(POSITIONS).fillna(text)
    images = images[among(images["study_id"], table["study_id"])].reset_index(drop=True)
    date, seconds = _date(images["StudyDate"]), _seconds(images["StudyTime"])
    if date.isna().all():
        raise DataError(
            f"{metadata} has no StudyDate that can be read: {examples(images['StudyDate'])}. A "
            "date is YYYYMMDD; download the table anew."
        )
    images = images.assign(date=date, time=date + seconds)
    wrong = images.loc[images["time"].isna(), "image_id"]
    return images, note(wrong, "image", "no StudyDate and StudyTime that can be read")


def _date(text: pd.Series) -> pd.Series:
    """YYYYMMDD, perhaps written as a number: YYYYMMDD.0."""
    digits = text.str.removesuffix(".0")
    digits = digits.where(digits.str.fullmatch(r"\d{8}"))
    return pd.to_datetime(digits, format="%Y%m%d", errors="coerce").astype("datetime64[s]")


def _seconds(text: pd.Series) -> pd.Series:
    """Since midnight, whole ones: stays are recorded by seconds at best."""
    number = np.floor(pd.to_numeric(text, errors="coerce").to_numpy(float))
    hours, minutes, seconds = number // 10_000, number // 100 % 100, number % 100
    good = (number >= 0) & (number < MIDNIGHT) & (minutes < 60) & (seconds < 60)
    whole = np.where(good, hours * 3600 + minutes * 60 + seconds, np.nan)
    return pd.Series(pd.to_timedelta(whole, unit="s"), text.index).astype("timedelta64[s]")


def _studies(images: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """A row a study: the keys, year, time (the earliest), last (the latest)."""
    groups = images.groupby(keys)
    studies = groups.agg(
        date=("date", "min"), time=("time", "min"), last=("time", "max")
    ).reset_index()
    return studies.assign(year=studies["date"].dt.year.astype(float))


# tables


def find_tables(records_dir: Path | str) -> dict[str, Path]:
    """The files of patients, admissions and icustays.

    Raises:
        DataError: no such folder, or one of them is missing: says where it was looked for.
    """
    base = Path(records_dir).expanduser().resolve()
    if not base.is_dir():
        raise DataError(
            f"{base} is no folder. Set records_dir (prepare: --records) to the folder of "
            f"{PROJECT} that holds hosp/ (in version 1.0 core/) and icu/."
        )
    if base.name in ("hosp", "core", "icu"):
        base = base.parent
    below = sorted((one for one in base.iterdir() if one.is_dir()), reverse=True)
    root = next((one for one in (base, *below) if _tables(one)), base)
    found = _tables(root)
    if missing := [name for name in MODULES if name not in found]:
        first = root / MODULES[missing[0]][0] / f"{missing[0]}.csv.gz"
        raise DataError(
            f"The records lack {', '.join(f'{name}.csv.gz' for name in missing)}. "
            f"{where_looked(first, root, len(missing), ' or .csv')} They come with {PROJECT}, in "
            "hosp/ (in version 1.0 core/) and icu/: set records_dir (prepare: --records) to the "
            "folder that holds these."
        )
    return found


def _tables(root: Path) -> dict[str, Path]:
    found = {}
    for name, modules in MODULES.items():
        paths = [root / one / f"{name}{end}" for one in (*modules, ".") for end in ENDINGS]
        if there := [path for path in paths if path.is_file()]:
            found[name] = there[0]
    return found


def read_records(records_dir: Path | str, patient_ids: pd.Series) -> tuple[Records, list[str]]:
    """What MIMIC-IV says of some patients, and notes of the rows that cannot be used.

    Raises:
        DataError: as `add_records`.
    """
    paths = find_tables(records_dir)
    patients, everyone = _patients(paths["patients"], patient_ids)
    admissions, unclear, notes = _stays(
        paths["admissions"],
        ("hadm_id", "admittime", "dischtime"),
        ["hospital_expire_flag"],
        patients["patient_id"],
        everyone,
    )
    check_labels(admissions, ["hospital_expire_flag"], FLAGS, paths["admissions"])
    died = admissions["hospital_expire_flag"].astype(float)
    notes += note(
        admissions.loc[died.isna(), "stay_id"],
        "admission",
        "no hospital_expire_flag: record_died is blank",
    )
    icu_stays, unclear_icu, more = _stays(
        paths["icustays"], ("stay_id", "intime", "outtime"), [], patients["patient_id"], everyone
    )
    admissions = admissions.rename(columns={"deathtime": "died_at"}).assign(died=died)
    records = Records(patients, admissions, icu_stays, unclear, unclear_icu)
    return records, notes + more


def _patients(path: Path, patient_ids: pd.Series) -> tuple[pd.DataFrame, pd.Series]:
    """Those of the study, and the ids of all that the table has."""
    numbers = ["anchor_age", "anchor_year"]
    needed = ["subject_id", "gender", *numbers]
    table = read_table(path, needed, ["subject_id", "gender", "dod"], only=True)
    check_unique(table, "subject_id", path)
    everyone = table["subject_id"]
    table = table[among(everyone, patient_ids)].reset_index(drop=True)
    if table.empty:
        raise DataError(
            f"{path} has no row of any of the {counted(patient_ids.nunique(), 'patient')} of the "
            "study. Are they of another hospital, or is the table cut short?"
        )
    for name in numbers:
        value = pd.to_numeric(table[name], errors="coerce")
        wrong = table.loc[~np.isfinite(value), name].dropna()
        if len(wrong):
            raise DataError(
                f"{path} has {counted(len(wrong), 'value')} of {name} that {are(len(wrong))} no "
                f"number: {examples(wrong.drop_duplicates())}. Download it anew."
            )
    died_on = _times(table["dod"], path) if "dod" in table else pd.NaT
    patients = pd.DataFrame(
        {
            "patient_id": table["subject_id"],
            "sex": table["gender"].str.upper().where(lambda text: text.isin(GENDERS), ""),
            **{name: table[name].astype(float) for name in numbers},
            "died_on": pd.Series(died_on, table.index, "datetime64[s]").dt.floor("D"),
        }
    )
    return patients, everyone


def _stays(
    path: Path,
    names: tuple[str, str, str],
    numbers: list[str],
    patient_ids: pd.Series,
    everyone: pd.Series,
) -> tuple[pd.DataFrame, pd.DataFrame, list[str]]:
    """patient_id, stay_id, begin, end, numbers, deathtime; the same of those whose times cannot be
    used; notes."""
    text = ["subject_id", *names]
    table = read_table(path, [*text, *numbers], [*text, "deathtime"], only=True)
    check_unique(table, names[0], path)
    noun = "ICU stay" if names[0] == "stay_id" else "admission"
    if not among(table["subject_id"], everyone).any() and (len(table) or noun == "admission"):
        raise DataError(
            f"{path} has {counted(len(table), 'row')}, and none of a patient in the table of "
            "patients. Is it cut short, are its subject_id written otherwise, or is it of another "
            "version? Download both anew."
        )
    table = table[among(table["subject_id"], patient_ids)].reset_index(drop=True)
    if "deathtime" not in table:
        table = table.assign(deathtime="")
    times = {name: _times(table[name], path) for name in (*names[1:], "deathtime")}
    table = table.assign(**times)
    table = table.rename(
        columns=dict(zip(text, ("patient_id", "stay_id", "begin", "end"), strict=True))
    )
    open_ = table[["begin", "end"]].isna().any(axis=1)
    backwards = table["end"] < table["begin"]
    notes = [
        *note(table.loc[open_, "stay_id"], noun, f"no {' or no '.join(names[1:])}: not used"),
        *note(
            table.loc[backwards, "stay_id"],
            noun,
            f"{names[2]} before {names[1]}: not used",
        ),
    ]
    unclear = open_ | backwards
    return table[~unclear].reset_index(drop=True), table[unclear], notes


def _times(text: pd.Series, path: Path) -> pd.Series:
    """YYYY-MM-DD, with a time of the day or without; NaT where blank."""
    zoned = text.str.contains(ZONE + "$")
    times = pd.to_datetime(text.mask((text == "") | zoned), format="ISO8601", errors="coerce")
    wrong = text[times.isna() & (text != "")]
    if len(wrong):
        raise DataError(
            f"{path} has {counted(len(wrong), 'value')} of {text.name} that cannot be read as a "
            f"time: {examples(wrong)}. A time is YYYY-MM-DD HH:MM:SS, without a "
            "zone; download the table anew."
        )
    return times.astype("datetime64[s]")
