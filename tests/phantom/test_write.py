"""The synthetic study on disk: layout, labels, truth, and the same bytes every time."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from localmi.data.sources.pairs import read_pairs
from localmi.errors import ConfigError, DataError
from localmi.phantom import write
from localmi.phantom.config import ATTRIBUTES, FINDINGS, PhantomConfig, ReportNoise
from localmi.phantom.image import Rendering
from localmi.phantom.labels import (
    CHEXPERT_COLUMNS,
    chexpert_labels,
    edema_said,
    edema_seen,
    radiologist_labels,
)
from localmi.phantom.latents import Finding, Study, stream
from localmi.phantom.read import read_truth
from localmi.phantom.report import Sentence
from localmi.phantom.truth import true_mi
from localmi.phantom.write import split_of_patients, write_study

CONFIG = PhantomConfig(seed=5, image_size=36)  # 36 is no multiple of 8: masks are padded bits
PATIENTS = 12
METADATA_COLUMNS = (
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
)


def render_noise(study: Study, config: PhantomConfig, number: int = 0) -> Rendering:
    """A stand-in that takes no time: noise, and a square for each finding."""
    rng = stream(config.seed, "noise", study.patient, study.number, number)
    size = config.image_size
    masks = {}
    for place, finding in enumerate(study.findings):
        masks[finding.name] = np.zeros((size, size), bool)
        masks[finding.name][place : place + 9, 5:15] = True
    return Rendering(rng.integers(0, 256, (size, size), np.uint8), masks)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("phantom") / "study"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write.phantom_image, "render", render_noise)
        write_study(out, CONFIG, PATIENTS, fractions=(0.5, 0.25, 0.25))
    return out


def table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / name)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def said(finding: str | None, polarity: str, **attributes: str) -> Sentence:
    return Sentence("", "findings", finding, polarity, attributes, False)


def test_layout_and_columns_are_those_of_mimic_cxr_jpg(folder: Path) -> None:
    metadata = table(folder, "mimic-cxr-2.0.0-metadata.csv.gz")
    assert tuple(metadata) == METADATA_COLUMNS
    for row in metadata.itertuples():
        assert re.fullmatch(r"([0-9a-f]{8}-){4}[0-9a-f]{8}", str(row.dicom_id))
        studies = folder / f"files/p{str(row.subject_id)[:2]}/p{row.subject_id}"
        assert (studies / f"s{row.study_id}.txt").is_file()
        with Image.open(studies / f"s{row.study_id}" / f"{row.dicom_id}.jpg") as image:
            assert image.mode == "L"
            assert image.size == (36, 36)
    assert metadata["dicom_id"].is_unique
    assert metadata["subject_id"].between(90_000_000, 99_999_999).all()
    assert metadata["study_id"].between(80_000_000, 89_999_999).all()
    assert metadata["StudyTime"].between(0, 235960).all()
    assert set(metadata["ViewPosition"]) == {"AP", "PA"}
    assert len(list(folder.rglob("*.jpg"))) == len(metadata)


def test_a_patients_studies_are_in_order_of_time(folder: Path) -> None:
    metadata = table(folder, "mimic-cxr-2.0.0-metadata.csv.gz").drop_duplicates("study_id")
    for _, studies in metadata.sort_values("study_id").groupby("subject_id"):
        assert studies["StudyDate"].is_monotonic_increasing
        assert studies["StudyDate"].is_unique


def test_splits_are_of_patients(folder: Path) -> None:
    split = table(folder, "mimic-cxr-2.0.0-split.csv.gz")
    assert list(split) == ["dicom_id", "study_id", "subject_id", "split"]
    per_patient = split.groupby("subject_id")["split"].agg(set)
    assert per_patient.map(len).max() == 1
    counts = per_patient.map(min).value_counts().to_dict()
    assert counts == {"train": 6, "validate": 3, "test": 3}


def test_the_library_reads_it(folder: Path) -> None:
    pairs = read_pairs(folder)
    assert len(pairs.rejected) == 0
    assert len(pairs.table) == len(table(folder, "mimic-cxr-2.0.0-metadata.csv.gz"))
    assert pairs.table["report"].str.contains("FINAL REPORT").all()


def test_label_tables_follow_report_or_state(folder: Path) -> None:
    truth = read_truth(str(folder))
    latents = truth.latents.set_index("study_id")
    chexpert = table(folder, "mimic-cxr-2.0.0-chexpert.csv.gz").astype({"study_id": str})
    assert list(chexpert) == ["subject_id", "study_id", *CHEXPERT_COLUMNS]
    assert len(CHEXPERT_COLUMNS) == 14
    assert chexpert["study_id"].tolist() == truth.latents["study_id"].tolist()
    assert set(chexpert["No Finding"].dropna()) <= {1.0}
    for row in chexpert.itertuples():  # the report is faithful here
        assert row.Edema in (-1.0, 1.0) or not latents.loc[str(row.study_id), "edema"]
    labelled = table(folder, "mimic-cxr-2.1.0-test-set-labeled.csv").astype({"study_id": str})
    assert "Airspace Opacity" in labelled
    assert "Lung Opacity" not in labelled
    test_studies = latents.index[latents["split"] == "test"]
    assert labelled["study_id"].tolist() == test_studies.tolist()
    state = latents.loc[test_studies, "pleural_effusion"].tolist()
    assert labelled["Pleural Effusion"].tolist() == state


def test_edema_severity_tables_respect_the_splits(folder: Path) -> None:
    severity = folder / "mimic-cxr-pe-severity-1.0.1"
    split_of = read_truth(folder).latents.set_index("study_id")["split"]
    image_split = table(folder, "mimic-cxr-2.0.0-split.csv.gz")
    consensus = table(severity, "consensus_image_edema_severity.csv")
    tested = image_split[image_split["split"] == "test"]
    assert consensus["dicom_id"].tolist() == tested["dicom_id"].tolist()
    for name, splits in (("regex", {"train", "validate"}), ("expert", {"validate"})):
        rows = table(severity, f"{name}_report_edema_severity.csv")
        assert set(rows["study_id"].astype(str).map(split_of)) <= splits
        assert rows["edema_severity"].isin([0, 1, 2, 3]).all()


def test_truth_is_complete_and_consistent(folder: Path) -> None:
    truth = read_truth(folder)
    assert truth.summary["true_mi_nats"]["sentence"] == pytest.approx(true_mi(CONFIG))
    assert truth.summary["config"]["seed"] == 5
    reports = {path.stem[1:]: path.read_text() for path in folder.rglob("s*.txt")}
    for study_id, sentences in truth.sentences.groupby("study_id"):
        assert sentences["index"].tolist() == list(range(len(sentences)))
        folded = " ".join(reports[str(study_id)].split())
        assert all(text in folded for text in sentences["text"])
    counts = truth.summary["counts"]
    assert sum(row["studies"] for row in counts.values()) == len(truth.latents) == len(reports)
    assert sum(row["sentences"] for row in counts.values()) == len(truth.sentences)
    assert sum(row["patients"] for row in counts.values()) == PATIENTS
    assert truth.sentences["names_place"].dtype == bool


def test_masks_come_back_bit_for_bit(folder: Path) -> None:
    truth = read_truth(folder)
    images = table(folder, "mimic-cxr-2.0.0-split.csv.gz")
    latents = truth.latents.set_index("study_id")
    shares = []
    for row in images.itertuples():
        state = latents.loc[str(row.study_id)]
        present = [name for name in FINDINGS if state[name] == 1]
        for place, name in enumerate(present):
            expected = np.zeros((36, 36), bool)
            expected[place : place + 9, 5:15] = True
            mask = truth.mask(str(row.dicom_id), name)
            assert mask.dtype == bool
            assert np.array_equal(mask, expected)
            shares.append(mask.mean())
        if len(present) < len(FINDINGS):
            absent = next(name for name in FINDINGS if name not in present)
            with pytest.raises(DataError, match=f"No mask of '{absent}'"):
                truth.mask(str(row.dicom_id), absent)
    assert truth.summary["mean_mask_share"]["all"] == pytest.approx(np.mean(shares))


def test_checksums_cover_every_file(folder: Path) -> None:
    lines = (folder / "SHA256SUMS").read_text().splitlines()
    listed = {name: digest for digest, name in (line.split("  ") for line in lines)}
    files = contents(folder)
    files.pop("SHA256SUMS")
    assert listed == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def test_data_card_states_the_figures(folder: Path) -> None:
    card = (folder / "DATA_CARD.md").read_text()
    assert "CC0-1.0" in card
    assert f"{true_mi(CONFIG):.4f}" in card
    assert re.search(r"\| train \| 6 \| \d+ \|", card)
    assert "{" not in card


def test_same_bytes_with_any_number_of_workers(tmp_path: Path) -> None:
    # The real renderer: a stand-in would not reach the other processes on every system.
    config = PhantomConfig(image_size=64)
    write_study(tmp_path / "one", config, 3)
    write_study(tmp_path / "two", config, 3, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_study_does_not_depend_on_how_many_there_are(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write.phantom_image, "render", render_noise)
    write_study(tmp_path / "few", CONFIG, 4)
    few, many = contents(tmp_path / "few"), contents(folder)
    files = [name for name in few if name.startswith("files/")]
    assert files
    assert all(few[name] == many[name] for name in files)


def test_a_folder_in_use_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(DataError, match="not an empty folder"):
        write_study(tmp_path, CONFIG, 3)
    assert contents(tmp_path) == {"mine.txt": b"keep"}
    with pytest.raises(DataError, match="not an empty folder"):
        write_study(tmp_path / "mine.txt", CONFIG, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_patients": 2}, "need 3 at least"),
        ({"fractions": (0.5, 0.5)}, "three shares"),
        ({"fractions": (1.2, -0.1, -0.1)}, "three shares"),
        ({"fractions": (0.1, 0.45, 0.45), "num_patients": 4}, "none left to train"),
        ({"workers": 0}, "workers is 0"),
        ({"config": PhantomConfig(abnormal=2.0)}, "abnormal is 2.0"),
    ],
)
def test_bad_arguments_write_nothing(
    arguments: dict[str, object], message: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match=message):
        write_study(**{"out": out, "config": CONFIG, "num_patients": 3, **arguments})  # type: ignore[arg-type]
    assert not out.exists()


def test_real_studies_have_no_truth(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"truth/sentences\.csv.*only synthetic studies"):
        read_truth(tmp_path)


def test_splits_have_exact_counts() -> None:
    names = split_of_patients(0, 100, (0.8, 0.1, 0.1))
    assert [names.count(split) for split in ("train", "validate", "test")] == [80, 10, 10]
    assert names != split_of_patients(1, 100, (0.8, 0.1, 0.1))
    assert sorted(split_of_patients(0, 3, (0.8, 0.1, 0.1))) == ["test", "train", "validate"]
    assert set(split_of_patients(0, 5, (1.0, 0.0, 0.0))) == {"train"}


def test_chexpert_labels_say_what_the_report_says() -> None:
    row = chexpert_labels(
        [
            said("pneumonia", "present", side="left", zone="mid"),
            said("edema", "absent"),
            said("atelectasis", "uncertain", side="left"),
            said(None, "none"),
        ]
    )
    assert row == {"Pneumonia": 1.0, "Edema": 0.0, "Atelectasis": -1.0, "Lung Opacity": 1.0}
    hedged = chexpert_labels([said("pneumonia", "uncertain", side="left", zone="mid")])
    assert hedged == {"Pneumonia": -1.0}
    device = chexpert_labels([said("support_devices", "present", kind="pacemaker")])
    assert device == {"Support Devices": 1.0, "No Finding": 1.0}
    assert chexpert_labels([said("normal", "none")]) == {"No Finding": 1.0}


def finding(name: str, level: str = "") -> Finding:
    attributes = {key: next(iter(values)) for key, values in ATTRIBUTES[name].items()}
    return Finding(name, attributes | ({"level": level} if level else {}), 1.0)


def test_radiologist_labels_are_the_state() -> None:
    row = radiologist_labels(Study(0, 0, "AP", (finding("consolidation"),), 1))
    assert row["Airspace Opacity"] == row["Consolidation"] == 1.0
    assert row["Edema"] == 0.0
    assert "No Finding" not in row
    assert radiologist_labels(Study(0, 0, "AP", (), 1))["No Finding"] == 1.0


def test_edema_grades() -> None:
    assert edema_seen(Study(0, 0, "AP", (finding("edema", "severe"),), 1)) == 3
    assert edema_seen(Study(0, 0, "AP", (), 1)) == 0
    assert edema_said([said("edema", "present", level="moderate")]) == 2
    assert edema_said([said("edema", "absent")]) == 0
    assert edema_said([said("edema", "uncertain", level="mild")]) is None
    assert edema_said([]) is None


def test_a_wrong_report_gives_wrong_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write.phantom_image, "render", render_noise)
    config = PhantomConfig(image_size=8, noise=ReportNoise(flip=1.0), mention_absent=1.0)
    write_study(tmp_path / "flipped", config, 6)
    latents = read_truth(tmp_path / "flipped").latents
    chexpert = table(tmp_path / "flipped", "mimic-cxr-2.0.0-chexpert.csv.gz")
    assert ((chexpert["Edema"] == 0.0) == (latents["edema"] == 1)).all()
