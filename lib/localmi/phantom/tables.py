"""The tables of the synthetic study: MIMIC-CXR-JPG's file names, columns and codes, and truth/.

Taught in 05_radiographs_and_reports.
"""

import hashlib
from datetime import datetime
from itertools import chain

from localmi.phantom.config import ATTRIBUTES, FINDINGS, WITH_DEPTH, PhantomConfig
from localmi.phantom.labels import (
    CHEXPERT_COLUMNS,
    TEST_COLUMNS,
    Row,
    chexpert_labels,
    edema_said,
    edema_seen,
    radiologist_labels,
)
from localmi.phantom.latents import FIRST_PATIENT, STUDIES_RESERVED, Study, study_time
from localmi.phantom.record import DAY, Person, Stay, Symbol
from localmi.phantom.report import Report

ATTRIBUTE_NAMES = ("side", "zone", "level", "kind")
SEVERITY = "mimic-cxr-pe-severity-1.0.1"

METADATA = "mimic-cxr-2.0.0-metadata.csv.gz"
SPLIT = "mimic-cxr-2.0.0-split.csv.gz"
CHEXPERT = "mimic-cxr-2.0.0-chexpert.csv.gz"
TEST_SET = "mimic-cxr-2.1.0-test-set-labeled.csv"
REGEX = f"{SEVERITY}/regex_report_edema_severity.csv"
EXPERT = f"{SEVERITY}/expert_report_edema_severity.csv"
CONSENSUS = f"{SEVERITY}/consensus_image_edema_severity.csv"
PATIENTS, ADMISSIONS = "hosp/patients.csv.gz", "hosp/admissions.csv.gz"
ICU_STAYS = "icu/icustays.csv.gz"
SENTENCES, LATENTS = "truth/sentences.csv", "truth/latents.csv"
RECORDS = "truth/records.csv"
LATERAL = "LATERAL"  # its view position
MASKS, SUMMARY = "truth/masks.npz", "truth/truth.json"

COLUMNS: dict[str, tuple[str, ...]] = {
    METADATA: (
        "dicom_id",
        "subject_id",
        "study_id",
        "PerformedProcedureStepDescription",
        "ViewPosition",
        "Rows",
        "Columns",
        "StudyDate",
        "StudyTime",
        "ProcedureCodeSequence_CodeMeaning",
        "ViewCodeSequence_CodeMeaning",
        "PatientOrientationCodeSequence_CodeMeaning",
    ),
    SPLIT: ("dicom_id", "study_id", "subject_id", "split"),
    CHEXPERT: ("subject_id", "study_id", *CHEXPERT_COLUMNS),
    TEST_SET: ("study_id", *TEST_COLUMNS),
    REGEX: ("subject_id", "study_id", "edema_severity"),
    EXPERT: ("subject_id", "study_id", "edema_severity"),
    CONSENSUS: ("subject_id", "study_id", "dicom_id", "edema_severity"),
    PATIENTS: (
        "subject_id",
        "gender",
        "anchor_age",
        "anchor_year",
        "anchor_year_group",
        "dod",
    ),
    ADMISSIONS: (
        "subject_id",
        "hadm_id",
        "admittime",
        "dischtime",
        "deathtime",
        "admission_type",
        "admit_provider_id",
        "admission_location",
        "discharge_location",
        "insurance",
        "language",
        "marital_status",
        "race",
        "edregtime",
        "edouttime",
        "hospital_expire_flag",
    ),
    ICU_STAYS: (
        "subject_id",
        "hadm_id",
        "stay_id",
        "first_careunit",
        "last_careunit",
        "intime",
        "outtime",
        "los",
    ),
    RECORDS: ("subject_id", "study_id", "sex", "age", "admitted", "icu", "died", "length"),
    SENTENCES: (
        "study_id",
        "index",
        "text",
        "section",
        "finding",
        "polarity",
        *ATTRIBUTE_NAMES,
        "names_place",
    ),
    LATENTS: (
        "subject_id",
        "study_id",
        "split",
        "view",
        "num_images",
        *chain.from_iterable(
            (name, *(f"{name}_{attribute}" for attribute in ATTRIBUTES[name]), f"{name}_contrast")
            for name in FINDINGS
        ),
    ),
}

DEPTH_COLUMNS = ("lateral", *(f"{name}_depth" for name in WITH_DEPTH))  # of latents


def columns(config: PhantomConfig) -> dict[str, tuple[str, ...]]:
    """`COLUMNS`, and those of laterals and depth at the end where the study has them."""
    latents = DEPTH_COLUMNS if config.has_depth else ()
    sentences = ("depth",) if config.depth_said > 0 else ()
    return COLUMNS | {
        LATENTS: COLUMNS[LATENTS] + latents,
        SENTENCES: COLUMNS[SENTENCES] + sentences,
    }


VIEW_MEANING = {"AP": "antero-posterior", "PA": "postero-anterior", LATERAL: "lateral"}
FIRST_ADMISSION = 70_000_000  # MIMIC-IV's are 2xxxxxxx
FIRST_ICU_STAY = 60_000_000  # MIMIC-IV's are 3xxxxxxx
OLDEST, ANCHOR_AGE_OF_OLDER = 89, 91  # in MIMIC-IV
# What tells nothing of anybody: the same for all. Other columns are blank.
EVERY_ADMISSION: Row = {"admission_type": "URGENT", "race": "UNKNOWN"}
CARE_UNIT = "Medical/Surgical Intensive Care Unit (MICU/SICU)"


def dicom_id(config: PhantomConfig, study: Study, number: int) -> str:
    """A reproducible image id of MIMIC-CXR's form, 8-8-8-8-8 hexadecimal digits."""
    text = f"{config.seed}/dicom/{study.study_id}/{number}"
    digits = hashlib.blake2b(text.encode(), digest_size=20).hexdigest()
    return "-".join(digits[i : i + 8] for i in range(0, 40, 8))


def study_times(config: PhantomConfig, study: Study) -> Row:
    """Date and time of a study; HHMMSS.fff as a number."""
    time = study_time(config, study.patient, study.number)
    clock = time.hour * 10_000 + time.minute * 100 + time.second
    return {"StudyDate": f"{time:%Y%m%d}", "StudyTime": clock + time.microsecond // 1000 / 1000}


def image_rows(
    config: PhantomConfig, study: Study, number: int, split: str, shape: tuple[int, int]
) -> dict[str, Row]:
    """File -> the row that one image adds to it; edema is graded in frontal ones."""
    ids: Row = {
        "dicom_id": dicom_id(config, study, number),
        "subject_id": study.subject_id,
        "study_id": study.study_id,
    }
    view = LATERAL if number == study.num_images else study.view
    metadata: Row = {
        "PerformedProcedureStepDescription": f"CHEST ({view})",
        "ViewPosition": view,
        "Rows": shape[0],
        "Columns": shape[1],
        "ProcedureCodeSequence_CodeMeaning": f"CHEST ({view})",
        "ViewCodeSequence_CodeMeaning": VIEW_MEANING[view],
        "PatientOrientationCodeSequence_CodeMeaning": "Recumbent" if view == "AP" else "Erect",
    }
    rows = {METADATA: ids | metadata | study_times(config, study), SPLIT: ids | {"split": split}}
    if split == "test" and view != LATERAL:
        rows[CONSENSUS] = ids | {"edema_severity": edema_seen(study)}
    return rows


def study_rows(study: Study, report: Report, split: str) -> dict[str, Row]:
    """File -> the row that one study adds to it; reports of the test split are not graded."""
    ids: Row = {"subject_id": study.subject_id, "study_id": study.study_id}
    rows = {CHEXPERT: ids | chexpert_labels(report.sentences), LATENTS: ids | _state(study, split)}
    if split == "test":
        return rows | {TEST_SET: ids | radiologist_labels(study)}
    grade = edema_said(report.sentences)
    if grade is not None:
        graded = ids | {"edema_severity": grade}
        rows |= {REGEX: graded} if split == "train" else {REGEX: graded, EXPERT: graded}
    return rows


def _state(study: Study, split: str) -> Row:
    state: Row = {"split": split, "view": study.view, "num_images": study.num_images}
    state["lateral"] = int(study.lateral)
    for name in FINDINGS:
        finding = study.present.get(name)
        state[name] = int(finding is not None)
        if finding is not None:
            state |= {f"{name}_{key}": value for key, value in finding.attributes.items()}
            state[f"{name}_contrast"] = finding.contrast
    return state


def sentence_rows(study: Study, report: Report) -> list[Row]:
    """The rows of truth/sentences.csv: what each sentence of findings and impression says."""
    return [
        {"study_id": study.study_id, "index": index, **vars(sentence), **sentence.attributes}
        for index, sentence in enumerate(report.sentences)
    ]


def patient_row(config: PhantomConfig, patient: int, person: Person, last: Stay | None) -> Row:
    """The row of hosp/patients; the anchor year is the first study's. last: the last study's."""
    died = last is not None and last.symbol.died
    return {
        "subject_id": FIRST_PATIENT + patient,
        "gender": person.sex,
        "anchor_age": person.age if person.age <= OLDEST else ANCHOR_AGE_OF_OLDER,
        "anchor_year": study_time(config, patient, 0).year,
        "dod": f"{last.ends:%Y-%m-%d}" if last and died else "",
    }


def record_rows(
    config: PhantomConfig, study: Study, person: Person, stay: Stay | None
) -> dict[str, Row]:
    """File -> the row that the stay around a study adds to it, and its truth."""
    number = STUDIES_RESERVED * study.patient + study.number
    years = [study_time(config, study.patient, each).year for each in (0, study.number)]
    truth: Row = {
        "subject_id": study.subject_id,
        "study_id": study.study_id,
        "sex": person.sex,
        "age": person.age + years[1] - years[0],
        "admitted": int(stay is not None),
    }
    if stay is None:
        return {RECORDS: truth | dict.fromkeys(Symbol._fields, "")}
    symbol = {name: int(value) for name, value in stay.symbol._asdict().items()}
    ids: Row = {"subject_id": study.subject_id, "hadm_id": FIRST_ADMISSION + number}
    rows = {
        RECORDS: truth | symbol,
        ADMISSIONS: {
            **ids,
            **EVERY_ADMISSION,
            "admittime": _time(stay.begins),
            "dischtime": _time(stay.ends),
            "deathtime": _time(stay.ends) if stay.symbol.died else "",
            "hospital_expire_flag": symbol["died"],
        },
    }
    if stay.icu:
        begins, ends = stay.icu
        rows[ICU_STAYS] = {
            **ids,
            "stay_id": FIRST_ICU_STAY + number,
            "first_careunit": CARE_UNIT,
            "last_careunit": CARE_UNIT,
            "intime": _time(begins),
            "outtime": _time(ends),
            "los": round((ends - begins).total_seconds() / DAY, 6),
        }
    return rows


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"
