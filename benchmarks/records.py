"""How long and how large it is to join MIMIC-IV's records to all images of MIMIC-CXR.

Generates the tables of both at full size in a temporary folder, with ids outside MIMIC's ranges:
377,110 images of 227,835 studies; 299,712 patients, of whom 65,379 have the images and all of the
430,000 admissions and 73,000 stays in intensive care. Some stays overlap.

    python benchmarks/records.py                  about 2 minutes on one core
    python benchmarks/records.py --share 0.1

Each side runs in processes of its own, which take turns: the join (it reads the four tables), and
pandas, which reads the same tables as they are. Prints medians: seconds, seconds of CPU, and the
highest resident memory of the process, in all and over what it had after importing; the ratio is
pandas / ours. Linux only (memory).
"""

import argparse
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
from index import PATIENTS, draw_images
from timing import MEBIBYTE, highest_resident

from localmi.data.sources.records import add_records, find_tables

ALL_PATIENTS, ADMISSIONS, ICU_STAYS = 299_712, 430_000, 73_000
FIRST_PATIENT, FIRST_ADMISSION, FIRST_STAY = 90_000_000, 70_000_000, 60_000_000
DAYS = 36_525  # a century, from 2110 on: where MIMIC moves its dates to
METADATA = "mimic-cxr-2.0.0-metadata.csv.gz"
MOST_SECONDS, MOST_MIB = 60, 2048  # that the join may take
COLUMNS = ["seconds", "cpu_seconds", "peak_mib", "over_mib"]


def generate(root: Path, share: float) -> None:
    """Writes the metadata and the three tables, of `share` of the full size."""
    random = np.random.default_rng(0)
    images = draw_images(random, share)
    patient = images["subject_id"].to_numpy() - FIRST_PATIENT
    first = random.integers(DAYS, size=round(share * PATIENTS) + 1)  # day a patient is first seen
    study = pd.factorize(images["study_id"])[0]
    day = first[patient] + random.integers(0, 700, study.max() + 1)[study]
    images.drop(columns="split").assign(
        PerformedProcedureStepDescription="CHEST (PA AND LAT)",
        Rows=2544,
        Columns=3056,
        StudyDate=_times(day * 86_400).strftime("%Y%m%d"),
        StudyTime=random.integers(24, size=study.max() + 1)[study] * 10_000 + 1531.994,
        ProcedureCodeSequence_CodeMeaning="CHEST (PA AND LAT)",
        ViewCodeSequence_CodeMeaning="postero-anterior",
        PatientOrientationCodeSequence_CodeMeaning="Erect",
    ).to_csv(root / METADATA, index=False)
    _write_records(root, random, first, share)


def _times(seconds: np.ndarray) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(np.datetime64("2110-01-01", "s") + seconds.astype("timedelta64[s]"))


def _write_records(
    root: Path, random: np.random.Generator, first: np.ndarray, share: float
) -> None:
    number, count, stays = (round(share * n) for n in (ALL_PATIENTS, ADMISSIONS, ICU_STAYS))
    (root / "hosp").mkdir()
    (root / "icu").mkdir()
    ids = np.arange(number)
    patients = pd.DataFrame({"subject_id": FIRST_PATIENT + ids})
    patients.assign(
        gender=np.where(ids % 2, "F", "M"),
        anchor_age=random.integers(18, 92, number),
        anchor_year=2110 + np.resize(first, number) // 365,
        anchor_year_group="2008 - 2010",
        dod="",
    ).to_csv(root / "hosp/patients.csv.gz", index=False)
    owner = random.integers(0, len(first) - 1, count)
    begin = first[owner] * 86_400 + random.integers(0, 700 * 1440, count) * 60
    end = begin + (random.exponential(5 * 1440, count)).astype(int) * 60
    admissions = pd.DataFrame({"subject_id": FIRST_PATIENT + owner})
    admissions.assign(
        hadm_id=FIRST_ADMISSION + np.arange(count),
        admittime=_times(begin).strftime("%Y-%m-%d %H:%M:%S"),
        dischtime=_times(end).strftime("%Y-%m-%d %H:%M:%S"),
        deathtime="",
        admission_type="EW EMER.",
        admit_provider_id="P12AB3",
        admission_location="EMERGENCY ROOM",
        discharge_location="HOME HEALTH CARE",
        insurance="Medicare",
        language="ENGLISH",
        marital_status="MARRIED",
        race="WHITE",
        edregtime=_times(begin - 7200).strftime("%Y-%m-%d %H:%M:%S"),
        edouttime=_times(begin).strftime("%Y-%m-%d %H:%M:%S"),
        hospital_expire_flag=(random.random(count) < 0.02).astype(int),
    ).to_csv(root / "hosp/admissions.csv.gz", index=False)
    chosen = random.integers(0, count, stays)
    out = begin[chosen] + ((end - begin)[chosen] * random.random(stays)).astype(int)
    pd.DataFrame({"subject_id": FIRST_PATIENT + owner[chosen]}).assign(
        hadm_id=FIRST_ADMISSION + chosen,
        stay_id=FIRST_STAY + np.arange(stays),
        first_careunit="Medical Intensive Care Unit (MICU)",
        last_careunit="Medical Intensive Care Unit (MICU)",
        intime=_times(begin[chosen]).strftime("%Y-%m-%d %H:%M:%S"),
        outtime=_times(out).strftime("%Y-%m-%d %H:%M:%S"),
        los=(out - begin[chosen]) / 86_400,
    ).to_csv(root / "icu/icustays.csv.gz", index=False)


def ours(root: Path) -> dict[str, Any]:
    """The records of all images, in this process."""
    names = {"dicom_id": "image_id", "study_id": "study_id", "subject_id": "patient_id"}
    table = pd.read_csv(root / METADATA, dtype=str, usecols=list(names)).rename(columns=names)
    before, start, used = highest_resident(), time.perf_counter(), time.process_time()
    found, _, notes = add_records(table, root / METADATA, root)
    row = _row(before, start, used)
    if len(found) != len(table) or found["record_admitted"].isna().any():
        raise RuntimeError(f"{len(table)} images went in, {len(found)} came out")
    return row | {"note": notes[0]}


def pandas(root: Path) -> dict[str, Any]:
    """The same four tables, read and held."""
    before, start, used = highest_resident(), time.perf_counter(), time.process_time()
    held = [pd.read_csv(path) for path in (root / METADATA, *find_tables(root).values())]
    row = _row(before, start, used)
    return row | {"rows": sum(len(table) for table in held)}


def _row(before: int, start: float, used: float) -> dict[str, Any]:
    return {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - used,
        "peak_mib": highest_resident() / MEBIBYTE,
        "over_mib": (highest_resident() - before) / MEBIBYTE,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--share", type=float, default=1.0, help="of the full size")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    sides = {"join": ours, "pandas": pandas}
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        generate(root, options.share)
        context = multiprocessing.get_context("spawn")
        for _ in range(options.repeats):
            for side, work in sides.items():
                with ProcessPoolExecutor(1, mp_context=context) as pool:
                    rows[side].append(pool.submit(work, root).result())
    print(rows["join"][0]["note"])
    print("          seconds  of CPU  peak MiB  over imports")
    medians = {
        side: [median(row[key] for row in found) for key in COLUMNS]
        for side, found in rows.items()
    }
    for side, (seconds, used, peak, over) in medians.items():
        print(f"{side:8} {seconds:8.1f} {used:7.1f} {peak:9,.0f} {over:13,.0f}")
    (seconds, used, peak, _), plain = medians["join"], medians["pandas"]
    print(f"pandas / join: {plain[0] / seconds:.2f} of the seconds, {plain[1] / used:.2f} of CPU")
    if used > MOST_SECONDS or peak > MOST_MIB:
        raise RuntimeError(f"The join may take {MOST_SECONDS} s of CPU and {MOST_MIB} MiB.")


if __name__ == "__main__":
    main()
