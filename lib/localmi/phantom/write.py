"""A synthetic study on disk, laid out as MIMIC-CXR-JPG and MIMIC-IV, its truth beside it.

Same configuration, same bytes, however many workers. Taught in 05_radiographs_and_reports.
"""

import gzip
import hashlib
import json
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from localmi.errors import ConfigError, DataError
from localmi.phantom import image as phantom_image
from localmi.phantom.card import data_card
from localmi.phantom.config import FINDINGS, PhantomConfig
from localmi.phantom.labels import Row
from localmi.phantom.latents import Study, num_studies, sample_study, stream
from localmi.phantom.lateral import render_lateral
from localmi.phantom.record import sample_person, sample_stay
from localmi.phantom.record_truth import record_mi_table
from localmi.phantom.report import compose_report
from localmi.phantom.statements import check_config
from localmi.phantom.tables import (
    LATENTS,
    MASKS,
    PATIENTS,
    SENTENCES,
    SPLIT,
    SUMMARY,
    columns,
    dicom_id,
    image_rows,
    patient_row,
    record_rows,
    sentence_rows,
    study_rows,
)
from localmi.phantom.truth import marginals, true_mi

SPLITS = ("train", "validate", "test")
JPEG_QUALITY = 95
SUMS = "SHA256SUMS"  # of every other file
# To the configuration, since there are studies on disk.
ADDED = ("lateral_view", "depth_said", "record_reversed")


@dataclass(frozen=True)
class PatientRecord:
    """What one patient adds: file -> rows, and "<dicom_id>/<finding>" -> mask [H, W] bool."""

    rows: dict[str, list[Row]]
    masks: dict[str, np.ndarray]


def write_study(
    out: Path,
    config: PhantomConfig,
    num_patients: int,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    workers: int = 1,
) -> None:
    """Generate `num_patients` patients into the folder `out`, which must be new or empty.

    Args:
        fractions: of patients in train, validate, test; each that is not 0 gets one at least.
        workers: processes; the bytes written do not depend on it.

    Raises:
        DataError: `out` holds something already.
        ConfigError: fewer than 3 patients, bad fractions or workers, an impossible config.

    Taught in 05_radiographs_and_reports.
    """
    check_config(config)
    splits = split_of_patients(config.seed, num_patients, fractions)
    if workers < 1:
        raise ConfigError(f"workers is {workers}; give the number of processes, 1 or more.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} exists and is not an empty folder: name a new one, or empty it.")
    for name in columns(config):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
    work = partial(_write_patient, out, config)
    if workers == 1:
        rows, shares = _collect(out, map(work, range(num_patients), splits))
    else:
        with ProcessPoolExecutor(workers) as pool:
            records = pool.map(work, range(num_patients), splits, chunksize=8)
            rows, shares = _collect(out, records)
    for name, wanted in columns(config).items():
        _write_table(out / name, rows[name], wanted)
    summary = _summary(config, rows, shares)
    (out / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    (out / "DATA_CARD.md").write_text(data_card(summary), encoding="utf-8")
    _write_checksums(out)


def split_of_patients(
    seed: int, num_patients: int, fractions: tuple[float, float, float]
) -> list[str]:
    """The split of each patient 0, 1, 2, ...: exact counts, order by chance.

    Raises:
        ConfigError: fewer than 3 patients, or fractions that are not shares of 1.
    """
    if num_patients < 3:
        raise ConfigError(
            f"num_patients is {num_patients}; train, validate and test need 3 at least."
        )
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ConfigError(f"fractions are {fractions}; give three shares that add up to 1.")
    validate, test = (max(round(num_patients * f), int(f > 0)) for f in fractions[1:])
    train = num_patients - validate - test
    if train < int(fractions[0] > 0):
        raise ConfigError(
            f"{num_patients} patients are too few for fractions {fractions}: none left to train."
        )
    names = np.repeat(SPLITS, [train, validate, test])
    return [str(name) for name in stream(seed, "split", num_patients).permutation(names)]


def patient_folder(study: Study) -> str:
    """ "files/p90/p90000012"."""
    return f"files/p{str(study.subject_id)[:2]}/p{study.subject_id}"


def _write_patient(out: Path, config: PhantomConfig, patient: int, split: str) -> PatientRecord:
    record = PatientRecord(defaultdict(list), {})
    person, stay = sample_person(config, patient), None
    for number in range(num_studies(config, patient)):
        study = sample_study(config, patient, number)
        report = compose_report(study, config)
        folder = out / patient_folder(study)
        (folder / f"s{study.study_id}").mkdir(parents=True)
        (folder / f"s{study.study_id}.txt").write_text(report.text, encoding="utf-8", newline="\n")
        record.rows[SENTENCES] += sentence_rows(study, report)
        stay = sample_stay(config, study)
        rows = study_rows(study, report, split) | record_rows(config, study, person, stay)
        for name, row in rows.items():
            record.rows[name].append(row)
        for image in study.images:
            _write_image(record, folder / f"s{study.study_id}", config, study, image, split)
    record.rows[PATIENTS].append(patient_row(config, patient, person, stay))
    return record


def _write_image(
    record: PatientRecord,
    folder: Path,
    config: PhantomConfig,
    study: Study,
    number: int,
    split: str,
) -> None:
    lateral = number == study.num_images
    render = render_lateral if lateral else partial(phantom_image.render, number=number)
    rendering = render(study, config)
    name = dicom_id(config, study, number)
    Image.fromarray(rendering.image).save(folder / f"{name}.jpg", quality=JPEG_QUALITY)
    record.masks.update({f"{name}/{key}": mask for key, mask in rendering.masks.items()})
    for file, row in image_rows(config, study, number, split, rendering.image.shape).items():
        record.rows[file].append(row)


def _collect(
    out: Path, records: Iterable[PatientRecord]
) -> tuple[dict[str, list[Row]], dict[str, list[float]]]:
    """All rows, and the share of the image of each mask, by finding; writes the masks as they
    come."""
    rows: dict[str, list[Row]] = defaultdict(list)
    shares: dict[str, list[float]] = defaultdict(list)
    with zipfile.ZipFile(out / MASKS, "w") as archive:
        for record in records:
            for name, new in record.rows.items():
                rows[name] += new
            for key, mask in record.masks.items():
                shares[key.split("/")[1]].append(float(mask.mean()))
                entry = zipfile.ZipInfo(f"{key}.npy")  # dated 1980: same bytes every time
                entry.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(entry, "w") as file:
                    np.lib.format.write_array(file, np.packbits(mask, axis=1))
    return rows, shares


def _write_table(path: Path, rows: Sequence[Row], columns: Sequence[str]) -> None:
    text = pd.DataFrame(rows, columns=list(columns)).to_csv(index=False, lineterminator="\n")
    data = text.encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def _summary(
    config: PhantomConfig, rows: dict[str, list[Row]], shares: dict[str, list[float]]
) -> dict[str, object]:
    latents = pd.DataFrame(rows[LATENTS])
    split_of = latents.set_index("study_id")["split"]
    images = pd.DataFrame(rows[SPLIT])["split"]
    sentences = pd.DataFrame(rows[SENTENCES], columns=["study_id"])["study_id"].map(split_of)
    counts = {
        split: {
            "patients": int(latents.loc[latents["split"] == split, "subject_id"].nunique()),
            "studies": int((latents["split"] == split).sum()),
            "images": int((images == split).sum()),
            "sentences": int((sentences == split).sum()),
        }
        for split in SPLITS
    }
    every = list(chain.from_iterable(shares.values()))
    present = [name for name in FINDINGS if name in shares]
    return {
        "config": _stored(config),
        "true_mi_nats": {target: true_mi(config, target) for target in ("sentence", "report")},
        "true_record_mi_nats": record_mi_table(config),
        "prevalence": marginals(config),
        "counts": counts,
        "mean_mask_share": {"all": float(np.mean(every)) if every else 0.0}
        | {name: float(np.mean(shares[name])) for name in present},
    }


def _stored(config: PhantomConfig) -> dict[str, object]:
    """The configuration as `truth.json` has it: without what is newer, where that is not used."""
    default = PhantomConfig()
    unused = {name for name in ADDED if getattr(config, name) == getattr(default, name)}
    return {name: value for name, value in asdict(config).items() if name not in unused}


def _write_checksums(out: Path) -> None:
    files = sorted(path for path in out.rglob("*") if path.is_file())
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(out).as_posix()}\n"
        for path in files
    ]
    (out / SUMS).write_text("".join(lines), encoding="utf-8", newline="\n")
