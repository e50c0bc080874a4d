"""How long and how large it is to join MIMIC-CXR's tables and reports into one table of pairs.

Generates an index of MIMIC-CXR-JPG's size in a temporary folder: 377,110 images of 227,835 studies
and 65,379 patients with ids outside MIMIC's ranges, its tables, `mimic-cxr-reports.zip`, and the
243,334 frontal images as empty files. `read_pairs` then runs in a process of its own.

    python benchmarks/index.py                    about 3 minutes on one core, 2 GB of disk
    python benchmarks/index.py --shares 0.25 --tree

Prints a row a share of the full size: seconds, seconds of CPU (what is left of the seconds on a
machine with nothing else to do), and the highest resident memory of the process, in all and over
what it had after importing. --tree unpacks the reports and removes the archive. Linux only
(memory).
"""

import argparse
import json
import multiprocessing
import tempfile
import time
import zipfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from timing import MEBIBYTE, highest_resident

from localmi.data.labels import FINDINGS
from localmi.data.sources.mimic_reports import ARCHIVE
from localmi.data.sources.pairs import read_pairs

IMAGES, STUDIES, PATIENTS = 377_110, 227_835, 65_379
VIEWS = {"AP": 147_173, "PA": 96_161, "LATERAL": 82_853, "LL": 35_133, "": 15_769, "LAO": 21}
FIRST_PATIENT, FIRST_STUDY = 90_000_000, 80_000_000
TEST_STUDIES, GRADED = 687, {"regex_report": 6_710, "expert_report": 485, "consensus_image": 141}
SENTENCES = (
    "Cardiac silhouette is mildly enlarged, unchanged from before.",
    "There is no focal consolidation, pleural effusion or pneumothorax.",
    "Opacity of 2.5 cm in the left lower lobe may be atelectasis or pneumonia.",
    "Endotracheal tube ends 4 cm above the carina.",
    "Pulmonary vascular congestion has improved since the earlier examination.",
    "Osseous structures are intact.",
)


def generate(root: Path, share: float, tree: bool) -> None:
    """Writes the tables, the reports and the empty images of `share` of the full size."""
    random = np.random.default_rng(0)
    images = draw_images(random, share)
    first = images.drop_duplicates("study_id")[["subject_id", "study_id"]]
    folder = root / "mimic-cxr-2.0.0"
    metadata = images.assign(
        PerformedProcedureStepDescription="CHEST (PA AND LAT)",
        Rows=2544,
        Columns=3056,
        StudyDate=21390424,
        StudyTime=120031.994,
        ProcedureCodeSequence_CodeMeaning="CHEST (PA AND LAT)",
        ViewCodeSequence_CodeMeaning="postero-anterior",
        PatientOrientationCodeSequence_CodeMeaning="Erect",
    )
    metadata.drop(columns="split").to_csv(f"{folder}-metadata.csv.gz", index=False)
    images.drop(columns="ViewPosition").to_csv(f"{folder}-split.csv.gz", index=False)
    _with_states(first.iloc[:-8], random).to_csv(f"{folder}-chexpert.csv.gz", index=False)
    test = _with_states(first.tail(TEST_STUDIES), random).drop(columns="subject_id")
    test = test.rename(columns={"Lung Opacity": "Airspace Opacity"})
    test.to_csv(root / "mimic-cxr-2.1.0-test-set-labeled.csv", index=False)
    for name, count in GRADED.items():
        rows = (
            images.drop_duplicates("study_id").tail(count).drop(columns=["ViewPosition", "split"])
        )
        rows = rows.assign(edema_severity=random.integers(0, 4, len(rows)))
        rows = rows if name == "consensus_image" else rows.drop(columns="dicom_id")
        rows.to_csv(root / f"{name}_edema_severity.csv", index=False)
    _write_files(root, images, first, random, tree)


def draw_images(random: np.random.Generator, share: float) -> pd.DataFrame:
    """One row an image: patients of 1 and more studies, studies of 1 and more images."""
    count, studies, patients = (round(share * size) for size in (IMAGES, STUDIES, PATIENTS))
    study = np.sort(
        np.concatenate([np.arange(studies), random.integers(0, studies, count - studies)])
    )
    patient = np.sort(
        np.concatenate([np.arange(patients), random.integers(0, patients, studies - patients)])
    )
    parts = random.integers(0, 2**32, (count, 5))
    views = random.permutation(np.repeat(list(VIEWS), list(VIEWS.values())))[:count]
    split = np.repeat(["train", "validate", "test"], [patients - 800, 500, 300])
    return pd.DataFrame(
        {
            "dicom_id": ["-".join(f"{part:08x}" for part in row) for row in parts],
            "subject_id": FIRST_PATIENT + patient[study],
            "study_id": FIRST_STUDY + study,
            "ViewPosition": views,
            "split": split[patient[study]],
        }
    )


def _with_states(studies: pd.DataFrame, random: np.random.Generator) -> pd.DataFrame:
    states = random.choice(
        [np.nan, 1.0, 0.0, -1.0], (len(studies), len(FINDINGS)), p=(0.7, 0.14, 0.13, 0.03)
    )
    return pd.concat([studies, pd.DataFrame(states, studies.index, FINDINGS)], axis=1)


def _write_files(
    root: Path,
    images: pd.DataFrame,
    studies: pd.DataFrame,
    random: np.random.Generator,
    tree: bool,
) -> None:
    with zipfile.ZipFile(root / ARCHIVE, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for patient, study in studies.itertuples(index=False):
            lines = "\n ".join(SENTENCES[i] for i in random.integers(0, len(SENTENCES), 9))
            text = f"{' ' * 33}FINAL REPORT\n FINDINGS:  Study {study}. {lines}\n"
            archive.writestr(f"files/p{patient // 10**6}/p{patient}/s{study}.txt", text)
    if tree:
        with zipfile.ZipFile(root / ARCHIVE) as archive:
            archive.extractall(root)
        (root / ARCHIVE).unlink()
    frontal = images[images["ViewPosition"].isin(["AP", "PA"])]
    for (patient, study), group in frontal.groupby(["subject_id", "study_id"]):
        folder = root / f"files/p{patient // 10**6}/p{patient}/s{study}"
        folder.mkdir(parents=True)
        for image in group["dicom_id"]:
            (folder / f"{image}.jpg").touch()


def measure(folder: Path) -> dict[str, float]:
    """`read_pairs` in this process: seconds, rows, resident MiB after importing and at most."""
    before = highest_resident() / MEBIBYTE
    start, used = time.perf_counter(), time.process_time()
    pairs = read_pairs(folder)
    seconds, used = time.perf_counter() - start, time.process_time() - used
    return {
        "seconds": seconds,
        "cpu_seconds": used,
        "rows": len(pairs.table),
        "rejected": len(pairs.rejected),
        "left_out": sum(pairs.left_out.values()),
        "imports_mib": before,
        "peak_mib": highest_resident() / MEBIBYTE,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shares", type=float, nargs="+", default=[0.25, 0.5, 1.0])
    parser.add_argument("--tree", action="store_true", help="reports as files, not as the archive")
    parser.add_argument("--json", type=Path, help="write the rows there as well")
    options = parser.parse_args()
    results = []
    print("  images  studies    pairs  seconds  of CPU  peak MiB  over imports")
    for share in options.shares:
        with tempfile.TemporaryDirectory() as folder:
            generate(Path(folder), share, options.tree)
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                row = pool.submit(measure, Path(folder)).result()
        images, studies = round(share * IMAGES), round(share * STUDIES)
        if row["rows"] + row["rejected"] + row["left_out"] != images:
            raise RuntimeError(f"{images} images went in, {row} came out")
        over = row["peak_mib"] - row["imports_mib"]
        print(
            f"{images:8,} {studies:8,} {row['rows']:8,} {row['seconds']:8.1f} "
            f"{row['cpu_seconds']:7.1f} {row['peak_mib']:9,.0f} {over:13,.0f}",
            flush=True,
        )
        results.append({"images": images, "studies": studies, "tree": options.tree, **row})
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
