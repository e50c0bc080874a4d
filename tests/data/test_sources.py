from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from localmi.data.sources import read_pairs, reasons
from localmi.data.splits import check_leaks, split_patients
from localmi.errors import ConfigError, DataError, StudyLeakError

REAL = Path(__file__).resolve().parents[3] / "shared" / "real-cxr" / "pairs.csv"
REPORT = " FINDINGS:  Lungs are clear.\n \n IMPRESSION:  No acute process.\n"
# image, patient, study, view, split
IMAGES = [
    ("aa-0", "90000000", "80000000", "PA", "train"),
    ("aa-1", "90000000", "80000000", "LATERAL", "train"),
    ("bb-0", "90000000", "80000001", "AP", "train"),
    ("cc-0", "90000001", "80000010", "AP", "validate"),
    ("dd-0", "90000002", "80000020", "PA", "test"),
]


def write_image(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 6), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def mimic_folder(patient: str, study: str) -> Path:
    return Path("files") / f"p{patient[:2]}" / f"p{patient}" / f"s{study}"


def write_mimic(root: Path, reports: Path | None = None, compressed: bool = True) -> Path:
    """A tiny study in the layout of MIMIC-CXR-JPG; ids outside its ranges."""
    for seed, (image, patient, study, _, _) in enumerate(IMAGES):
        write_image(root / mimic_folder(patient, study) / f"{image}.jpg", seed)
        report = (reports or root) / f"{mimic_folder(patient, study)}.txt"
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(REPORT)
    columns = ["dicom_id", "subject_id", "study_id", "ViewPosition", "split"]
    table = pd.DataFrame(IMAGES, columns=columns)
    end = ".csv.gz" if compressed else ".csv"
    table[columns[:4]].to_csv(root / f"mimic-cxr-2.0.0-metadata{end}", index=False)
    table[["dicom_id", "study_id", "subject_id", "split"]].to_csv(
        root / f"mimic-cxr-2.0.0-split{end}", index=False
    )
    labels = table[["subject_id", "study_id"]].drop_duplicates().iloc[:2]
    labels.assign(Edema=[1.0, -1.0], Pneumonia=["", 0.0]).to_csv(
        root / f"mimic-cxr-2.0.0-chexpert{end}", index=False
    )
    return root


def write_csv(root: Path, **columns: list[str]) -> Path:
    table = {
        "image": [f"images/{name}.png" for name in "abcd"],
        "report": ["Clear.", "Edema.", "Edema.", "NA"],
        "patient_id": ["007", "1", "1", "2"],
    }
    table |= columns
    for seed, image in enumerate(table["image"]):
        write_image(root / image, seed)
    pd.DataFrame(table).to_csv(root / "pairs.csv", index=False)
    return root


@pytest.mark.parametrize("compressed", [True, False])
def test_mimic_layout(tmp_path: Path, compressed: bool) -> None:
    pairs = read_pairs(write_mimic(tmp_path / "example", compressed=compressed))
    table = pairs.table.set_index("image_id")
    assert pairs.name == "example"
    assert list(table.index) == ["aa-0", "bb-0", "cc-0", "dd-0"]  # no lateral view
    assert table.loc["bb-0", "study_id"] == "80000001"
    assert table.loc["bb-0", "patient_id"] == "90000000"
    assert table.loc["aa-0", "report"] == REPORT
    assert all(Path(image).is_file() for image in pairs.table["image"])
    assert table["split"].tolist() == ["train", "train", "validate", "test"]
    assert table["view"].tolist() == ["PA", "AP", "AP", "PA"]
    assert table[["Edema", "Pneumonia"]].to_numpy()[1].tolist() == [-1.0, 0.0]
    assert table[["Edema", "Pneumonia"]].isna().to_numpy()[3].all()
    assert pairs.rejected.empty
    assert reasons(pairs.rejected) == "Nothing was rejected."


def test_views_are_a_parameter(tmp_path: Path) -> None:
    pairs = read_pairs(write_mimic(tmp_path), views=("LATERAL",))
    assert pairs.table["image_id"].tolist() == ["aa-1"]
    with pytest.raises(DataError, match="no image with ViewPosition XX"):
        read_pairs(tmp_path, views=("XX",))


@pytest.mark.parametrize("inside", ["", "files"])
def test_reports_may_lie_apart(tmp_path: Path, inside: str) -> None:
    write_mimic(tmp_path / "jpg", reports=tmp_path / "reports")
    pairs = read_pairs(tmp_path / "jpg", reports_dir=tmp_path / "reports" / inside)
    assert len(pairs.table) == 4
    with pytest.raises(DataError, match="Rejected 4 images: 4 for 'no report file'"):
        read_pairs(tmp_path / "jpg")


def test_missing_files_are_reported_not_dropped(tmp_path: Path) -> None:
    write_mimic(tmp_path)
    (tmp_path / mimic_folder("90000000", "80000000") / "aa-0.jpg").unlink()
    (tmp_path / f"{mimic_folder('90000001', '80000010')}.txt").unlink()
    (tmp_path / f"{mimic_folder('90000002', '80000020')}.txt").write_text(" \n")
    pairs = read_pairs(tmp_path)
    assert pairs.table["image_id"].tolist() == ["bb-0"]
    assert pairs.rejected.to_numpy().tolist() == [
        ["aa-0", "80000000", "no image file"],
        ["cc-0", "80000010", "no report file"],
        ["dd-0", "80000020", "empty report"],
    ]
    assert "1 for 'no report file' (cc-0)" in reasons(pairs.rejected)


def test_image_without_split_is_reported(tmp_path: Path) -> None:
    path = write_mimic(tmp_path, compressed=False) / "mimic-cxr-2.0.0-split.csv"
    pd.read_csv(path).iloc[:-1].to_csv(path, index=False)
    assert read_pairs(tmp_path).rejected["reason"].tolist() == [f"no row in {path.name}"]
    path.unlink()
    with pytest.raises(DataError, match="lacks mimic-cxr-2"):
        read_pairs(tmp_path)


@pytest.mark.parametrize(
    ("column", "value"), [("dicom_id", "../secret"), ("study_id", "s8"), ("subject_id", "")]
)
def test_ids_that_would_leave_the_folder_are_refused(
    tmp_path: Path, column: str, value: str
) -> None:
    path = write_mimic(tmp_path, compressed=False) / "mimic-cxr-2.0.0-metadata.csv"
    table = pd.read_csv(path, dtype=str)
    table.loc[0, column] = value
    table.to_csv(path, index=False)
    with pytest.raises(DataError, match=f"1 unusable values of {column}"):
        read_pairs(tmp_path)


def test_csv(tmp_path: Path) -> None:
    pairs = read_pairs(write_csv(tmp_path / "mine", finding=["x", "y", "y", "z"]))
    table = pairs.table
    assert pairs.name == "mine"
    assert table["patient_id"].tolist() == ["007", "1", "1", "2"]  # as written
    assert table["report"].tolist() == ["Clear.", "Edema.", "Edema.", "NA"]
    assert table["study_id"].tolist() == ["007/0", "1/0", "1/0", "2/0"]  # equal reports: one study
    assert table["image_id"].tolist()[0] == "images/a.png"
    assert table["view"].tolist() == [""] * 4
    assert table["finding"].tolist() == ["x", "y", "y", "z"]
    assert set(table["split"]) == {"train", "validate", "test"}
    assert all(Path(image).is_file() for image in table["image"])
    file = read_pairs(tmp_path / "mine" / "pairs.csv", source="csv")
    pd.testing.assert_frame_equal(file.table, table)


def test_csv_with_splits_and_a_missing_image(tmp_path: Path) -> None:
    write_csv(tmp_path, split=["train", "val", "Validation", "test"])
    (tmp_path / "images" / "d.png").unlink()
    pairs = read_pairs(tmp_path)
    assert pairs.table["split"].tolist() == ["train", "validate", "validate"]
    assert pairs.rejected["reason"].tolist() == ["no image file"]


def test_csv_of_which_nothing_is_left(tmp_path: Path) -> None:
    write_csv(tmp_path, report=[""] * 4)
    with pytest.raises(DataError, match=r"No usable pair.*4 for 'empty report'"):
        read_pairs(tmp_path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"patient_id": ["1", "", "2", "3"]}, r"1 rows without image or patient_id \(row 3\)"),
        ({"image_id": ["a", "b", "b", "c"]}, "1 values of image_id more than once: b"),
        ({"study_id": ["1", "1", "2", "3"]}, "1 studies with more than one report: 1"),
        (
            {"study_id": ["1", "2", "2", "3"], "patient_id": ["1", "2", "3", "4"]},
            "1 studies with more than one patient_id: 2",
        ),
        ({"split": ["train", "dev", "test", "test"]}, "split 'dev'; use train, validate, test"),
    ],
)
def test_bad_cells_of_a_csv(tmp_path: Path, columns: dict[str, list[str]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_pairs(write_csv(tmp_path, **columns))


def test_missing_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("image,text\na.png,Clear.\n")
    with pytest.raises(DataError) as caught:
        read_pairs(tmp_path)
    message = str(caught.value)
    assert "pairs.csv lacks the columns report, patient_id; found image, text" in message


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00bad", b"image,report,patient_id\na,b,c,d,e\nx"]
)
def test_unreadable_csv(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pairs.csv").write_bytes(content)
    with pytest.raises(DataError, match=r"pairs\.csv"):
        read_pairs(tmp_path)


def test_unquoted_commas_are_explained(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("image,report,patient_id\na.png,Heart, lungs clear.,1\n")
    with pytest.raises(DataError, match=r"more cells than its header\. Put reports in double"):
        read_pairs(tmp_path)


def test_labels_are_numbers_where_they_can_be(tmp_path: Path) -> None:
    table = read_pairs(write_csv(tmp_path, edema=["1", "0.5", "", "0"], note=list("ab1d"))).table
    assert table["edema"].isna().tolist() == [False, False, True, False]
    assert table["edema"].sum() == 1.5
    assert table["note"].tolist() == list("ab1d")


def test_truncated_gzip(tmp_path: Path) -> None:
    path = write_mimic(tmp_path) / "mimic-cxr-2.0.0-split.csv.gz"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"split\.csv\.gz cannot be read"):
        read_pairs(tmp_path)


def test_auto_says_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"looked for mimic-cxr-2\.0\.0-metadata.*or pairs.csv"):
        read_pairs(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        read_pairs(tmp_path / "nowhere")
    write_csv(tmp_path)
    with pytest.raises(DataError, match="looked for mimic-cxr"):
        read_pairs(tmp_path, source="mimic")
    with pytest.raises(ConfigError, match="source must be"):
        read_pairs(tmp_path, source="excel")  # type: ignore[arg-type]


def test_split_by_patient() -> None:
    table = pd.DataFrame({"patient_id": [str(row // 3) for row in range(300)]})
    split = split_patients(table, seed=1)
    check_leaks(split)
    assert split.drop_duplicates()["split"].value_counts().to_dict() == {
        "train": 80,
        "validate": 10,
        "test": 10,
    }
    shuffled = split_patients(table.sample(frac=1, random_state=0), seed=1).sort_index()
    pd.testing.assert_frame_equal(shuffled, split)
    assert (split_patients(table, seed=2)["split"] != split["split"]).any()


@pytest.mark.parametrize(("patients", "splits"), [(0, 0), (1, 1), (2, 2), (3, 3), (4, 3), (7, 3)])
def test_no_split_is_empty_where_there_are_patients(patients: int, splits: int) -> None:
    table = pd.DataFrame({"patient_id": [str(number) for number in range(patients)]})
    assert split_patients(table)["split"].nunique() == splits


def test_a_fraction_of_zero_stays_empty() -> None:
    table = pd.DataFrame({"patient_id": list("abcdef")})
    assert set(split_patients(table, (0.5, 0.5, 0))["split"]) == {"train", "validate"}


@pytest.mark.parametrize("fractions", [(0.8, 0.2), (0.5, 0.1, 0.1), (1.5, -0.5, 0.0)])
def test_fractions_must_sum_to_one(fractions: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match="sum to 1"):
        split_patients(pd.DataFrame({"patient_id": ["1"]}), fractions)


def test_leaks_stop_and_name_examples(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "patient_id": [f"9000000{row % 7}" for row in range(14)],
            "study_id": [f"800000{row}" for row in range(14)],
            "image_id": [str(row) for row in range(14)],
            "split": ["train"] * 7 + ["test"] * 7,
        }
    )
    with pytest.raises(StudyLeakError) as caught:
        check_leaks(table)
    message = str(caught.value)
    assert "7 patients in train and test: 90000000, 90000001" in message
    assert message.count("9000000") == 5
    assert ", ..." in message
    assert "studies" not in message
    with pytest.raises(StudyLeakError, match="1 patients in train and test: 1"):
        read_pairs(write_csv(tmp_path, split=["train", "train", "test", "test"]))


def test_identical_pixels_in_two_splits_are_a_leak() -> None:
    table = pd.DataFrame(
        {
            "patient_id": list("abc"),
            "image_id": ["x", "y", "z"],
            "sha256": ["1", "2", "1"],
            "split": ["train", "train", "test"],
        }
    )
    with pytest.raises(StudyLeakError, match=r"1 images with identical pixels.*: x = z"):
        check_leaks(table)
    check_leaks(table.assign(split="train"))


@pytest.mark.skipif(not REAL.is_file(), reason="the real images are not part of the project")
def test_real_images() -> None:
    pairs = read_pairs(REAL)
    assert len(pairs.table) == 121
    assert pairs.rejected.empty
    assert pairs.name == "real-cxr"
    assert pairs.table.groupby("split")["patient_id"].nunique().to_dict() == {
        "train": 56,
        "validate": 7,
        "test": 7,
    }
    assert pairs.table.groupby("study_id")["report"].nunique().eq(1).all()
