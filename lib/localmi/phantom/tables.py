"""The tables of the synthetic study: MIMIC-CXR-JPG's file names, columns and codes, and truth/.

Taught in 05_radiographs_and_reports.
"""

import datetime
import hashlib
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
from localmi.phantom.latents import Study, stream
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
SENTENCES, LATENTS = "truth/sentences.csv", "truth/latents.csv"
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
FIRST_DAY = datetime.date(2100, 1, 1)  # dates are invented, in the years MIMIC moves its own to


def dicom_id(config: PhantomConfig, study: Study, number: int) -> str:
    """A reproducible image id of MIMIC-CXR's form, 8-8-8-8-8 hexadecimal digits."""
    text = f"{config.seed}/dicom/{study.study_id}/{number}"
    digits = hashlib.blake2b(text.encode(), digest_size=20).hexdigest()
    return "-".join(digits[i : i + 8] for i in range(0, 40, 8))


def study_times(config: PhantomConfig, study: Study) -> Row:
    """Invented date and time of a study, in order within a patient; HHMMSS.fff as a number."""
    rng = stream(config.seed, "date", study.patient)
    day = int(rng.integers(30_000)) + int(rng.integers(1, 700, size=study.number + 1).sum())
    rng = stream(config.seed, "time", study.patient, study.number)
    hours, minutes, seconds, thousandths = (int(rng.integers(n)) for n in (24, 60, 60, 1000))
    return {
        "StudyDate": f"{FIRST_DAY + datetime.timedelta(days=day):%Y%m%d}",
        "StudyTime": hours * 10_000 + minutes * 100 + seconds + thousandths / 1000,
    }


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
