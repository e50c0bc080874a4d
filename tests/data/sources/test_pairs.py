from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from places import SHARED

from localmi.data.sources.pairs import read_pairs
from localmi.errors import ConfigError, DataError, StudyLeakError

REAL = SHARED / "real-cxr" / "pairs.csv"
OPENI = """<eCitation><uId id="CXR{number}"/><MedlineCitation><Article><Abstract>
<AbstractText Label="FINDINGS">Heart size is normal.</AbstractText></Abstract></Article>
</MedlineCitation><parentImage id="CXR{number}_IM-0{number}-1001"/></eCitation>"""


def write_image(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (8, 6), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


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


def test_auto_says_what_it_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"looked for mimic-cxr-2\.0\.0-metadata.*or pairs.csv"):
        read_pairs(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        read_pairs(tmp_path / "nowhere")
    write_csv(tmp_path)
    with pytest.raises(DataError, match="looked for mimic-cxr"):
        read_pairs(tmp_path, source="mimic")
    with pytest.raises(ConfigError, match="Unknown source .*; known are auto, mimic, openi, csv"):
        read_pairs(tmp_path, source="excel")  # type: ignore[arg-type]


def test_a_leak_in_a_csv_is_refused_or_rejected(tmp_path: Path) -> None:
    root = write_csv(tmp_path, split=["train", "train", "test", "test"])
    with pytest.raises(StudyLeakError, match="1 patients in train and test: 1"):
        read_pairs(root)
    pairs = read_pairs(root, leaks="reject")
    assert pairs.table["patient_id"].tolist() == ["007", "2"]
    assert pairs.rejected["image_id"].tolist() == ["images/b.png", "images/c.png"]
    assert set(pairs.rejected["reason"]) == {"its patient is in two splits"}
    with pytest.raises(ConfigError, match="Unknown value of leaks"):
        read_pairs(root, leaks="ignore")  # type: ignore[arg-type]


def test_a_csv_has_its_reports(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave out reports_dir"):
        read_pairs(write_csv(tmp_path), reports_dir=tmp_path)


def test_openi_is_found_by_its_reports(tmp_path: Path) -> None:
    folder = tmp_path / "openi" / "ecgen-radiology"
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"{number}.xml").write_text(OPENI.format(number=number))
        write_image(tmp_path / "openi" / f"CXR{number}_IM-0{number}-1001.png", number)
    pairs = read_pairs(tmp_path / "openi", views=("AP", "PA", ""))
    assert pairs.name == "openi"
    assert pairs.table["patient_id"].nunique() == 3
    assert sorted(pairs.table["split"]) == ["test", "train", "validate"]
    assert "each report counts as a patient" in pairs.notes[0]


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
