"""A small study in MIMIC-CXR-JPG's layout with records in MIMIC-IV's, of any version.

Ids lie outside MIMIC's ranges: patients 9..., studies 8..., admissions 7..., ICU stays 6....
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from PIL import Image

POSITION = "PatientOrientationCodeSequence_CodeMeaning"
REPORT = " FINDINGS:  Study {study}: lungs are clear.\n \n IMPRESSION:  No acute process.\n"
IMAGE = ("image", "patient", "study", "view", "split", "date", "time", "position")
PATIENT = ("subject_id", "gender", "anchor_age", "anchor_year", "anchor_year_group", "dod")
ADMISSION = ("subject_id", "hadm_id", "admittime", "dischtime", "deathtime", "admission_type")
ICU_STAY = ("subject_id", "hadm_id", "stay_id", "first_careunit", "intime", "outtime", "los")

Row = Sequence[object]


def write_study(root: Path, images: Sequence[Row]) -> Path:
    """The tree of these images, each a row of `IMAGE` (date: YYYY-MM-DD); a report a study."""
    table = pd.DataFrame(images, columns=IMAGE)
    for seed, row in enumerate(table.itertuples()):
        folder = root / "files" / f"p{row.patient[:2]}" / f"p{row.patient}" / f"s{row.study}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 255, (32, 32), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{row.image}.jpg", quality=95)
        folder.with_suffix(".txt").write_text(REPORT.format(study=row.study))
    ids = {"dicom_id": table["image"], "subject_id": table["patient"], "study_id": table["study"]}
    metadata = pd.DataFrame(ids).assign(
        PerformedProcedureStepDescription="CHEST (PA, LAT)",
        ViewPosition=table["view"],
        StudyDate=table["date"].str.replace("-", ""),
        StudyTime=table["time"],
        **{POSITION: table["position"]},
    )
    metadata.to_csv(root / "mimic-cxr-2.0.0-metadata.csv.gz", index=False)
    split = pd.DataFrame(ids).assign(split=table["split"])
    split.to_csv(root / "mimic-cxr-2.0.0-split.csv.gz", index=False)
    return root


def write_records(
    root: Path,
    patients: Sequence[Row],
    admissions: Sequence[Row],
    icu_stays: Sequence[Row] = (),
    *,
    version: Literal["1.0", "2.2"] = "2.2",
    ending: str = ".csv.gz",
) -> Path:
    """The three tables, with columns that nobody needs.

    Args:
        patients: subject_id, gender, anchor_age, anchor_year, dod.
        admissions: subject_id, hadm_id, admittime, dischtime, deathtime, hospital_expire_flag.
        icu_stays: subject_id, hadm_id, stay_id, intime, outtime.
        version: 1.0 has core/ and ethnicity, 2.2 hosp/ and race.
    """
    core, race = ("core", "ethnicity") if version == "1.0" else ("hosp", "race")
    tables = {
        f"{core}/patients": pd.DataFrame(
            [(*row[:4], "2008 - 2010", row[4]) for row in patients], columns=PATIENT
        ),
        f"{core}/admissions": pd.DataFrame(
            [(*row[:5], "EW EMER.", 'HISPANIC, "OTHER"', row[5]) for row in admissions],
            columns=[*ADMISSION, race, "hospital_expire_flag"],
        ),
        "icu/icustays": pd.DataFrame(
            [(*row[:3], "CCU", *row[3:], 1.5) for row in icu_stays], columns=ICU_STAY
        ),
    }
    for name, table in tables.items():
        path = root / f"{name}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(path, index=False)
    return root
