"""NIH-14 and CheXpert in small, and by the real tables that torchxrayvision carries."""

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from localmi.data.batches import SplitData
from localmi.data.cache.cache import Cache, build_cache
from localmi.data.cache.prepare import estimate_needs, prepare
from localmi.data.cache.verify import verify_cache
from localmi.data.labels import FINDINGS
from localmi.data.sources.pairs import Pairs, read_pairs
from localmi.data.views import ViewData
from localmi.errors import ConfigError, DataError, StudyLeakError, TrainingError

NIH_HEADER = (  # as it is: a bracket is no quotation mark, and the last column has no name
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],"
)
NIH = [  # image, labels, patient, view
    ("00000001_000.png", "Cardiomegaly|Emphysema", "1", "PA"),
    ("00000001_001.png", "No Finding", "1", "AP"),
    ("00000002_000.png", "Mass|Effusion|Infiltration", "2", "PA"),
    ("00000003_000.png", "Nodule", "3", "PA"),
    ("00000004_000.png", "Pleural_Thickening", "4", "PA"),
    ("00000005_000.png", "", "5", "PA"),
    ("00000006_000.png", "Pneumonia|Atelectasis", "6", "PA"),
]
MAPPED = ["Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Lung Lesion", "No Finding"]
MAPPED += ["Pleural Effusion", "Pneumonia", "Pneumothorax"]
CHEXPERT = [  # path, side, view, then labels by name
    ("train/patient00001/study1/view1_frontal.jpg", "Frontal", "AP", {"Edema": -1.0}),
    ("train/patient00001/study1/view2_lateral.jpg", "Lateral", "", {"Edema": -1.0}),
    ("train/patient00002/study1/view1_frontal.jpg", "Frontal", "PA", {"Pneumonia": 1.0}),
    ("train/patient00002/study2/view1_frontal.jpg", "Frontal", "RL", {"Fracture": 1.0}),
    ("train/patient00003/study1/view1_frontal.jpg", "Frontal", "LL", {"No Finding": 1.0}),
    ("train/patient00004/study1/view1_frontal.jpg", "Frontal", "AP", {"Fracture": 0.0}),
    ("valid/patient64541/study1/view1_frontal.jpg", "Frontal", "AP", dict.fromkeys(FINDINGS, 0.0)),
]
PROJECT = "CheXpert-v1.0-small"


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 32), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def nih(tmp_path: Path) -> Path:
    """Images in two folders, as they are unpacked from the archives, and as Kaggle has them."""
    root = tmp_path / "nih"
    for seed, (image, *_) in enumerate(NIH):
        folder = "images" if seed % 2 else "images_001/images"
        write_image(root / folder / image, seed)
    write_nih(root, NIH)
    return root


def write_nih(root: Path, rows: list[tuple[str, str, str, str]]) -> None:
    lines = [
        f"{image},{labels},0,{patient},57,M,{view},2682,2749,0.143,0.143,"
        for image, labels, patient, view in rows
    ]
    (root / "Data_Entry_2017.csv").write_text("\n".join([NIH_HEADER, *lines, ""]))


@pytest.fixture
def chexpert(tmp_path: Path) -> Path:
    """The folder of the small version, under another name."""
    root = tmp_path / "chexpert"
    for seed, (path, *_) in enumerate(CHEXPERT):
        write_image(root / path, seed)
    for name in ("train", "valid"):
        rows = [
            {"Path": f"{PROJECT}/{path}", "Sex": "Male", "Age": 40, "Frontal/Lateral": side}
            | {"AP/PA": view}
            | {finding: labels.get(finding) for finding in FINDINGS}
            for path, side, view, labels in CHEXPERT
            if path.startswith(name)
        ]
        pd.DataFrame(rows).to_csv(root / f"{name}.csv", index=False)
    return root


# --- NIH-14 ---


def test_labels_of_nih_are_those_of_chexpert(nih: Path) -> None:
    pairs = read_pairs(nih)
    assert (pairs.name, pairs.reports) == ("nih", "optional")
    table = pairs.table.set_index("image_id")
    assert list(table.index) == [row[0] for row in NIH]
    assert table["patient_id"].tolist() == [row[2] for row in NIH]
    assert table["view"].tolist() == [row[3] for row in NIH]
    assert set(table["report"]) == {""}
    assert list(table.columns)[-14:] == list(FINDINGS)
    expected = pd.DataFrame(0.0, table.index, MAPPED)
    for image, finding in {
        "00000001_000.png": "Cardiomegaly",
        "00000001_001.png": "No Finding",
        "00000002_000.png": "Pleural Effusion",
        "00000003_000.png": "Lung Lesion",
        "00000006_000.png": "Pneumonia",
    }.items():
        expected.loc[image, finding] = 1
    expected.loc["00000002_000.png", "Lung Lesion"] = 1
    expected.loc["00000006_000.png", "Atelectasis"] = 1
    expected.loc["00000005_000.png"] = np.nan  # nothing is said of it
    pd.testing.assert_frame_equal(table[MAPPED], expected)
    assert table[[name for name in FINDINGS if name not in MAPPED]].isna().all(axis=None)
    assert pairs.notes[0] == (
        "Labels that are none of CheXpert's findings, left out: Emphysema (1), Infiltration (1), "
        "Pleural_Thickening (1). Findings that NIH-14 says nothing of, blank: Enlarged "
        "Cardiomediastinum, Fracture, Lung Opacity, Pleural Other, Support Devices."
    )


def test_views_and_missing_images_of_nih(nih: Path) -> None:
    (nih / "images" / "00000001_001.png").unlink()
    (nih / "images" / "00000003_000.png").unlink()
    pairs = read_pairs(nih, views=["PA"])
    assert pairs.left_out == {"view AP": 1}
    assert pairs.rejected["image_id"].tolist() == ["00000003_000.png"]
    assert pairs.notes[1].startswith(
        "1 file not found: looked for nih/images/00000003_000.png or in images_001, ...; "
        "nih/images holds"
    )
    with pytest.raises(DataError, match="No usable image in .*Nothing was rejected"):
        read_pairs(nih, views=["LATERAL"])


def test_the_official_test_images_of_nih_are_the_test_split(nih: Path) -> None:
    assert set(read_pairs(nih).table["split"]) == {"train", "validate", "test"}
    assert read_pairs(nih).notes[-1] == "No test_list.txt: patients are split by their ids."
    names = ["00000002_000.png", "00000006_000.png"]
    (nih / "test_list.txt").write_text("\n".join([*names, "00000007_000.png"]))
    pairs = read_pairs(nih)
    table = pairs.table.set_index("image_id")
    assert set(table.index[table["split"] == "test"]) == set(names)
    assert set(table["split"]) == {"train", "validate", "test"}
    assert table.groupby("patient_id")["split"].nunique().max() == 1
    assert pairs.notes[-1].endswith(
        "1 name of 3 in it is not among the images that are used (00000007_000.png)."
    )


@pytest.mark.parametrize("listed", ["", "00000002_000.PNG\n"])
def test_a_test_list_of_nih_that_names_nothing(nih: Path, listed: str) -> None:
    (nih / "test_list.txt").write_text(listed)
    with pytest.raises(
        DataError, match="test_list.txt names no image that is used, so there would"
    ):
        read_pairs(nih)


def test_a_patient_of_nih_in_test_and_elsewhere(nih: Path) -> None:
    (nih / "test_list.txt").write_text("00000001_000.png\n00000002_000.png\n")
    with pytest.raises(StudyLeakError, match="1 patient in .* and test: 1"):
        read_pairs(nih)
    pairs = read_pairs(nih, leaks="reject")
    assert "1" not in set(pairs.table["patient_id"])
    assert set(pairs.rejected["reason"]) == {"its patient is in two splits"}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (("x.png", "Mass|Fracture", "9", "PA"), "does not have: Fracture. Labels are Atelectasis"),
        ((NIH[0][0], "Mass", "9", "PA"), "1 value of Image Index more than once: 00000001_000"),
        (("x.png", "Mass", "", "PA"), "1 row without Image Index or Patient ID. Fill them"),
    ],
)
def test_a_table_of_nih_that_cannot_be_used(
    nih: Path, row: tuple[str, str, str, str], words: str
) -> None:
    write_nih(nih, [*NIH, row])
    with pytest.raises(DataError, match=words):
        read_pairs(nih)


# --- CheXpert ---


def test_chexpert_is_read_by_its_tables(chexpert: Path) -> None:
    """Lateral images and a frontal one that is said to be LL are not asked for, RL is unknown."""
    pairs = read_pairs(chexpert)
    assert (pairs.name, pairs.reports) == ("chexpert", "optional")
    table = pairs.table
    kept = [0, 2, 5, 6]
    assert table["image_id"].tolist() == [CHEXPERT[row][0] for row in kept]
    assert table["study_id"][0] == "patient00001/study1"
    assert table["patient_id"].tolist() == [CHEXPERT[row][0].split("/")[1] for row in kept]
    assert table["view"].tolist() == ["AP", "PA", "AP", "AP"]
    assert pairs.left_out == {"view LATERAL": 1, "view LL": 1}
    assert pairs.rejected["reason"].tolist() == ["unknown view RL"]
    labels = [[CHEXPERT[row][3].get(name, np.nan) for name in FINDINGS] for row in kept]
    np.testing.assert_array_equal(table[list(FINDINGS)], labels)
    assert table["split"].tolist()[-1] == "test"  # labelled by radiologists
    assert set(table["split"][:-1]) == {"train", "validate"}
    all_views = read_pairs(chexpert, views=["AP", "PA", "LATERAL"]).table
    assert all_views["view"].tolist().count("LATERAL") == 1
    assert all_views.groupby("study_id")["patient_id"].nunique().max() == 1


def test_without_valid_csv_the_patients_of_chexpert_are_split(chexpert: Path) -> None:
    (chexpert / "valid.csv").unlink()
    pairs = read_pairs(chexpert, "chexpert")
    assert pairs.notes[-1] == "There is train.csv alone: its patients are split by their ids."
    assert {"train", "test"} <= set(pairs.table["split"])


@pytest.mark.parametrize("header", ["Frontal/Lateral", "FRONTAL/LATERAL"])
def test_valid_csv_of_chexpert_alone_is_a_test_split(chexpert: Path, header: str) -> None:
    """As who wants an external test set has it: a small file, and 234 images."""
    (chexpert / "train.csv").unlink()
    path = chexpert / "valid.csv"
    path.write_text(path.read_text().replace("Frontal/Lateral", header))
    pairs = read_pairs(chexpert)
    assert set(pairs.table["split"]) == {"test"}
    assert pairs.notes[-1] == "There is valid.csv alone: all of it is the test split."


def test_a_missing_image_of_chexpert(chexpert: Path) -> None:
    (chexpert / CHEXPERT[0][0]).unlink()
    pairs = read_pairs(chexpert)
    assert pairs.rejected["reason"].tolist() == ["unknown view RL", "no image file"]
    assert "looked for chexpert/train/patient00001/study1/view1_frontal.jpg" in pairs.notes[0]


def test_a_patient_of_chexpert_in_both_tables(chexpert: Path) -> None:
    path = chexpert / "valid.csv"
    path.write_text(path.read_text().replace("patient64541", "patient00001"))
    (chexpert / "valid/patient64541").rename(chexpert / "valid/patient00001")
    with pytest.raises(StudyLeakError, match="1 patient in .* and test: patient00001"):
        read_pairs(chexpert)
    pairs = read_pairs(chexpert, leaks="reject")
    assert "patient00001" not in set(pairs.table["patient_id"])
    assert pairs.rejected["reason"].tolist()[-1] == "its patient is in two splits"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("Frontal/Lateral", "Side", "No data in .*train.csv or valid.csv .CheXpert"),
        ("Lung Opacity", "Opacity", "lacks the column Lung Opacity; found Path, Sex, Age"),
        (
            "train/patient00001/study1/view1",
            "train/1/view1",
            "1 Path that is not of the form",
        ),
        ("/study1/view2_lateral", "/study1/view1_frontal", "1 value of image_id more than once"),
        (",-1.0,", ",2.0,", "2 values of Edema other than -1, 0, 1 or blank: 2.0"),
    ],
)
def test_a_table_of_chexpert_that_cannot_be_used(
    chexpert: Path, old: str, new: str, words: str
) -> None:
    path = chexpert / "train.csv"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError, match=words):
        read_pairs(chexpert, "chexpert")


def test_somebody_elses_train_csv_is_not_chexpert(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("x,y\n1,2\n")
    with pytest.raises(DataError, match="No data in .* or Data_Entry_2017.csv .NIH-14. or train"):
        read_pairs(tmp_path)


@pytest.mark.parametrize("source", ["nih", "chexpert"])
def test_there_are_no_reports_and_no_records(source: Any, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(source)
    with pytest.raises(ConfigError, match="has no reports: leave out reports_dir"):
        read_pairs(folder, reports_dir=folder)
    with pytest.raises(ConfigError, match="holds no MIMIC-CXR .*leave out records_dir"):
        read_pairs(folder, records_dir=folder)


# --- A cache without reports ---


def prepared(pairs: Pairs, folder: Path) -> Cache:
    return build_cache(pairs, folder, image_size=32)


@pytest.mark.parametrize("source", ["nih", "chexpert"])
def test_images_without_reports_are_prepared(
    source: Any,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = request.getfixturevalue(source)
    pairs = read_pairs(folder)
    needs = estimate_needs(pairs, tmp_path / "cache", image_size=32)
    assert (needs.images, needs.reports, len(needs.rejected)) == (len(pairs.table), 0, 0)
    prepare(folder, tmp_path / "cache", source=source, image_size=32)
    assert "No reports: images and labels alone." in capsys.readouterr().out
    cache = prepared(pairs, tmp_path / "cache")  # opens it
    assert cache.manifest["image_id"].tolist() == sorted(pairs.table["image_id"])
    assert cache.sentences.empty
    assert len(cache.rejected) == len(pairs.rejected)
    assert verify_cache(tmp_path / "cache") == []


@pytest.mark.parametrize("split", ["train", "validate", "test"])
def test_what_needs_texts_refuses_images_without(nih: Path, tmp_path: Path, split: Any) -> None:
    """Both doors to training and to measuring against texts."""
    cache = prepared(read_pairs(nih), tmp_path / "cache")
    for data in (SplitData, ViewData):
        with pytest.raises(TrainingError, match="nih was prepared without reports.*no text"):
            data(cache, split)


# --- The real tables ---


def real(name: str) -> bytes:
    """A table of torchxrayvision's; its own import would bring its models."""
    from importlib.util import find_spec

    found = find_spec("torchxrayvision")
    if found is None or found.origin is None:
        pytest.skip("torchxrayvision is not installed")
    return gzip.decompress((Path(found.origin).parent / "data" / name).read_bytes())


@pytest.mark.slow
def test_the_real_table_of_nih(tmp_path: Path) -> None:
    name = "Data_Entry_2017_v2020.csv"
    (tmp_path / name).write_bytes(real(f"{name}.gz"))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "00000001_000.png").touch()
    pairs = read_pairs(tmp_path, fractions=(1, 0, 0))
    assert len(pairs.table) + len(pairs.rejected) == 112_120
    assert "Infiltration (19,894)" in pairs.notes[0]
    (row,) = pairs.table.to_dict("records")
    assert (row["patient_id"], row["view"], row["Cardiomegaly"]) == ("1", "PA", 1)
    assert (row["No Finding"], row["Edema"]) == (0, 0)


@pytest.mark.slow
def test_the_real_table_of_chexpert(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes(real("chexpert_train.csv.gz"))
    first = tmp_path / "train/patient00001/study1/view1_frontal.jpg"
    first.parent.mkdir(parents=True)
    first.touch()
    pairs = read_pairs(tmp_path, fractions=(1, 0, 0))
    assert len(pairs.table) + len(pairs.rejected) + sum(pairs.left_out.values()) == 223_414
    assert pairs.left_out == {"view LATERAL": 32_387, "view LL": 16}
    (row,) = pairs.table.to_dict("records")
    assert (row["view"], row["No Finding"], row["Support Devices"]) == ("AP", 1, 1)
