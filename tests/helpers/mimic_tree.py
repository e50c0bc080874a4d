"""A tree in MIMIC-CXR-JPG's layout with planted faults, and what must become of each image.

Everything follows from the number of images: no random choice decides what is faulty. Ids lie
outside MIMIC's ranges.
"""

import hashlib
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count, cycle, islice
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from PIL import Image

from localmi.data.cache.cache import Cache, open_cache
from localmi.data.images import read_image
from localmi.data.labels import FINDINGS
from localmi.data.sources.mimic_reports import ARCHIVE

Layout = Literal["beside", "tree", "zip"]  # where the reports are
FIRST_PATIENT, FIRST_STUDY = 90_000_000, 80_000_000
SPLIT_OF_TEN = ("train",) * 8 + ("validate", "test")  # by patient
VIEWS = ("AP", "PA")
METADATA, SPLIT, CHEXPERT = (
    f"mimic-cxr-2.0.0-{name}.csv.gz" for name in ("metadata", "split", "chexpert")
)
EXPERT = "mimic-cxr-2.1.0-test-set-labeled.csv"
NO_LABELS, NO_REPORT = "study absent from chexpert", "missing report"
TWO_SPLITS, COPY_ACROSS, COPY_WITHIN = "patient in two splits", "copy across splits", "copy within"
REPORT = "\n".join(
    [
        "                                 FINAL REPORT",
        " EXAMINATION:  CHEST (PA AND LAT)",
        "",
        " INDICATION:  Cough.",
        "",
        " FINDINGS:  Study {number}: the nodule measures {tenth} cm.  Heart size is normal.",
        " There is no pleural effusion.",
        "",
        " IMPRESSION:{impression}",
        "",
    ]
)


@dataclass
class Study:
    """What is written of a study; a fault changes it first."""

    number: int
    patient: int
    split: str
    report: str | None  # None: no file
    labelled: bool = True  # has a row in chexpert
    images: list["Picture"] = field(default_factory=list)

    @property
    def study_id(self) -> str:
        return str(FIRST_STUDY + self.number)

    @property
    def patient_id(self) -> str:
        return str(FIRST_PATIENT + self.patient)

    @property
    def ids(self) -> tuple[str, str]:
        return self.patient_id, self.study_id

    @property
    def folder(self) -> str:
        return f"p{self.patient_id[:2]}/p{self.patient_id}"


@dataclass
class Picture:
    """What is written of an image."""

    image_id: str
    seed: int  # of its pixels
    view: str
    split: str
    damage: Literal["", "truncated", "empty", "no file"] = ""
    in_metadata: bool = True
    in_split: bool = True
    rejected: str = ""  # how the reason begins that it must be rejected with


@dataclass(frozen=True)
class Tree:
    """A written tree and what is right. faults: name -> how many were planted."""

    data_dir: Path
    reports_dir: Path | None
    studies: list[Study]
    faults: dict[str, int]
    laterals: int

    @property
    def pictures(self) -> list[tuple[Study, Picture]]:
        return [(study, image) for study in self.studies for image in study.images]


# what may be wrong with a study


def _truncated(study: Study) -> None:
    study.images[0].damage, study.images[0].rejected = "truncated", "unreadable image: "


def _empty_file(study: Study) -> None:
    study.images[0].damage, study.images[0].rejected = "empty", "not an image"


def _no_file(study: Study) -> None:
    study.images[0].damage, study.images[0].rejected = "no file", "no image file"


def _all(study: Study, reason: str) -> None:
    for image in study.images:
        image.rejected = reason


def _missing_report(study: Study) -> None:
    study.report = None
    _all(study, "no report file")


def _blank_report(study: Study) -> None:
    study.report = "  \n \n"
    _all(study, "empty report")


def _wordless_report(study: Study) -> None:
    study.report = " EXAMINATION:  \n\n FINDINGS:  \n\n IMPRESSION:  ___.\n"
    _all(study, "no sentence in findings or impression")


def _empty_impression(study: Study) -> None:
    study.report = _report(study.number, "")  # the findings remain: nothing is rejected


def _not_in_chexpert(study: Study) -> None:
    study.labelled = False


def _no_view(study: Study) -> None:
    study.images[0].view, study.images[0].rejected = "", "no view is given"


def _unknown_view(study: Study) -> None:
    study.images[0].view, study.images[0].rejected = "SKYLINE", "unknown view SKYLINE"


def _not_in_split(study: Study) -> None:
    study.images[0].in_split, study.images[0].rejected = False, f"no row in {SPLIT}"


def _not_in_metadata(study: Study) -> None:
    study.images[0].in_metadata, study.images[0].rejected = False, f"no row in {METADATA}"


FAULTS: dict[str, Callable[[Study], None]] = {
    "truncated JPEG": _truncated,
    "empty JPEG": _empty_file,
    "missing JPEG": _no_file,
    NO_REPORT: _missing_report,
    "blank report": _blank_report,
    "report without a sentence": _wordless_report,
    "empty impression": _empty_impression,
    NO_LABELS: _not_in_chexpert,
    "blank view": _no_view,
    "unknown view": _unknown_view,
    "absent from split": _not_in_split,
    "absent from metadata": _not_in_metadata,
}


def write_tree(
    root: Path,
    num_images: int,
    *,
    version: Literal["2.0.0", "2.1.0"] = "2.1.0",
    reports: Layout = "beside",
    every: int = 40,
) -> Tree:
    """Writes a study of `num_images` frontal images and some lateral ones.

    Args:
        root: new; gets `mimic-cxr-jpg` and, where reports lie apart, `mimic-cxr`.
        version: of the JPG set; 2.1.0 adds the expert labels of the test set.
        reports: beside the images, under another root as a tree, or there as the archive.
        every: every such study gets a fault, one kind after the other.
    """
    studies = _studies(num_images)
    faults = _plant(studies, every)
    data_dir = root / "mimic-cxr-jpg"
    reports_dir = None if reports == "beside" else root / "mimic-cxr"
    laterals = _write_tables(data_dir, studies, version)
    for study in studies:
        _write_images(data_dir / "files" / study.folder / f"s{study.study_id}", study)
    if reports == "zip":
        assert reports_dir is not None
        _write_archive(reports_dir, studies)
    else:
        for study in studies:
            path = (reports_dir or data_dir) / "files" / study.folder / f"s{study.study_id}.txt"
            if study.report is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(study.report, encoding="utf-8")
    return Tree(data_dir, reports_dir, studies, faults, laterals)


def _studies(num_images: int) -> list[Study]:
    """Patients of 1, 2, 3 studies, studies of 1 or 2 images."""
    images = count()
    studies: list[Study] = []
    left = num_images
    for patient, num_studies in enumerate(cycle((1, 2, 3))):
        for _ in range(num_studies):
            number, split = len(studies), SPLIT_OF_TEN[patient % 10]
            study = Study(number, patient, split, _report(number, "  1. No acute process."))
            for seed in islice(images, min(left, 1 + number % 2)):
                study.images.append(Picture(_image_id(seed), seed, VIEWS[seed % 2], split))
            left -= len(study.images)
            studies.append(study)
            if not left:
                return studies
    raise AssertionError("patients never end")


def _report(number: int, impression: str) -> str:
    return REPORT.format(number=number, tenth=f"{number % 90 / 10:.1f}", impression=impression)


def _image_id(seed: int) -> str:
    digits = hashlib.sha256(str(seed).encode()).hexdigest()
    return "-".join(digits[start : start + 8] for start in range(0, 40, 8))


def _plant(studies: list[Study], every: int) -> dict[str, int]:
    """Faults one after the other, each in a patient of its own."""
    faults = dict.fromkeys((*FAULTS, TWO_SPLITS, COPY_ACROSS, COPY_WITHIN), 0)
    places = studies[every // 2 : -1 : every]
    free = [study for study in studies if study.patient not in {one.patient for one in places}]
    for name, study in zip(cycle(faults), places, strict=False):
        if name in FAULTS:
            FAULTS[name](study)
        elif name == TWO_SPLITS:
            _two_splits(study, studies)
        else:
            across = name == COPY_ACROSS
            other = next(one for one in free if (one.split != study.split) == across)
            free = [one for one in free if one.patient != other.patient]
            _copy(study.images[0], other.images[0])
        faults[name] += 1
    return faults


def _two_splits(study: Study, studies: list[Study]) -> None:
    """One image of the patient is said to be in another split: all of the patient must go."""
    first = study.images[0]
    if len(study.images) == 1:
        seed = first.seed + 10**9
        study.images.append(Picture(_image_id(seed), seed, "AP", study.split))
    first.split = "test" if study.split != "test" else "train"
    for other in studies:
        if other.patient == study.patient:
            _all(other, "its patient is in two splits")


def _copy(image: Picture, other: Picture) -> None:
    """The same pixels; in two splits, only those in test or else in validate may stay."""
    image.seed = other.seed
    splits = {image.split, other.split}
    kept = next(split for split in ("test", "validate", "train") if split in splits)
    for one in (image, other):
        if one.split != kept:
            one.rejected = f"the same pixels as an image in {kept}"


# files


def _write_images(folder: Path, study: Study) -> None:
    folder.mkdir(parents=True)
    for image in study.images:
        path = folder / f"{image.image_id}.jpg"
        if image.damage == "no file":
            continue
        Image.fromarray(pixels(image.seed)).save(path, quality=95)
        if image.damage:
            path.write_bytes(path.read_bytes()[:-400] if image.damage == "truncated" else b"")


def pixels(seed: int) -> np.ndarray:
    """[48, 40] uint8, of its own for each seed."""
    return np.random.default_rng(seed).integers(0, 256, (48, 40), dtype=np.uint8)


def _write_archive(folder: Path, studies: list[Study]) -> None:
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / ARCHIVE, "w", zipfile.ZIP_DEFLATED) as archive:
        for study in studies:
            if study.report is not None:
                archive.writestr(f"files/{study.folder}/s{study.study_id}.txt", study.report)


def _write_tables(data_dir: Path, studies: list[Study], version: str) -> int:
    """The tables; every third study also has a lateral image, whose file nobody needs."""
    data_dir.mkdir(parents=True)
    metadata, split, laterals = [], [], 0
    for study in studies:
        for image in study.images:
            ids = (image.image_id, *study.ids)
            if image.in_metadata:
                metadata.append((*ids, image.view))
            if image.in_split:
                split.append((*ids, image.split))
        if study.number % 3 == 0:
            ids = (_image_id(-1 - study.number), *study.ids)
            metadata.append((*ids, "LATERAL"))
            split.append((*ids, study.split))
            laterals += 1
    names = ["dicom_id", "subject_id", "study_id"]
    _table(metadata, [*names, "ViewPosition"], data_dir / METADATA)
    _table(split, [*names, "split"], data_dir / SPLIT)
    labelled = [study for study in studies if study.labelled]
    labels = [(*study.ids, *_labels(study.number)) for study in labelled]
    _table(labels, ["subject_id", "study_id", *FINDINGS], data_dir / CHEXPERT)
    if version == "2.1.0":
        test = [study for study in studies if study.split == "test"]
        columns = [name.replace("Lung Opacity", "Airspace Opacity") for name in FINDINGS]
        rows = [(study.study_id, *_labels(study.number + 1)) for study in test]
        _table(rows, ["study_id", *columns], data_dir / EXPERT)
    return laterals


def _labels(number: int) -> list[float | None]:
    states = (1.0, 0.0, -1.0, None)
    return [states[(number + place) % 4] for place in range(len(FINDINGS))]


def _table(rows: list[tuple], columns: list[str], path: Path) -> None:
    pd.DataFrame(rows, columns=columns).to_csv(path, index=False)


# what must become of it


def check_cache(tree: Tree, folder: Path, version: str) -> None:
    """Every planted fault is in the report of the cache, and nothing else is lost.

    Raises:
        AssertionError: says what is wrong.
    """
    cache = open_cache(folder)
    expected = {image.image_id: image.rejected for _, image in tree.pictures if image.rejected}
    reasons = dict(zip(cache.rejected["image_id"], cache.rejected["reason"], strict=True))
    assert len(reasons) == len(cache.rejected), "an image is rejected twice"
    assert reasons.keys() == expected.keys(), reasons.keys() ^ expected.keys()
    for name, reason in expected.items():
        assert reasons[name].startswith(reason), (name, reasons[name], reason)
    kept = {image.image_id: (study, image) for study, image in tree.pictures if not image.rejected}
    assert set(cache.manifest["image_id"]) == set(kept)
    assert set(cache.sentences["study_id"]) == {study.study_id for study, _ in kept.values()}
    for row in cache.manifest.itertuples():
        study, image = kept[row.image_id]
        assert (row.study_id, row.patient_id) == (study.study_id, study.patient_id)
        assert (row.split, row.view) == (image.split, image.view)
    _check_labels(cache.manifest, kept, version)
    _check_pixels(cache, tree, kept)
    _check_report(cache, tree)


def _check_labels(
    manifest: pd.DataFrame, kept: dict[str, tuple[Study, Picture]], version: str
) -> None:
    for prefix, shift in (("", 0), ("expert_", 1)):
        columns = [prefix + name for name in FINDINGS]
        if prefix and version == "2.0.0":
            assert not set(columns) & set(manifest)
            continue
        blank = [None] * len(FINDINGS)
        rows = []
        for name in manifest["image_id"]:
            study = kept[name][0]
            known = study.split == "test" if prefix else study.labelled
            rows.append(_labels(study.number + shift) if known else blank)
        np.testing.assert_array_equal(manifest[columns], np.array(rows, float))


def _check_pixels(cache: Cache, tree: Tree, kept: dict[str, tuple[Study, Picture]]) -> None:
    """Of some images spread over all shards: the row is the file, decoded anew."""
    for row in cache.manifest.iloc[:: max(1, len(cache.manifest) // 200)].itertuples():
        study, image = kept[row.image_id]
        path = tree.data_dir / "files" / study.folder / f"s{study.study_id}"
        again = read_image(path / f"{image.image_id}.jpg", cache.image_size)
        np.testing.assert_array_equal(cache.images[row.index_in_cache], again.pixels)


def _check_report(cache: Cache, tree: Tree) -> None:
    report = json.loads((cache.folder / "report.json").read_text(encoding="utf-8"))
    assert report["images"] == len(cache.manifest)
    assert sum(part["images"] for part in report["splits"].values()) == report["images"]
    assert sum(report["rejected"].values()) == len(cache.rejected)
    assert report["left_out"] == {"view LATERAL": tree.laterals}
    text = (cache.folder / "report.txt").read_text(encoding="utf-8")
    for reason, number in report["rejected"].items():
        assert f"{number:,} {reason}" in text
    notes = " ".join(report["notes"])
    for name, said in ((NO_LABELS, "no row in"), (NO_REPORT, "no report file")):
        if number := tree.faults[name]:
            words = "1 study has" if number == 1 else f"{number} studies have"
            assert f"{words} {said}" in notes
    assert str(tree.data_dir.parent) not in text + json.dumps(report)
