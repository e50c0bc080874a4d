import gzip
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from places import SHARED

from localmi.data.sources.pairs import read_pairs, reasons
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
        "report": ["Clear.", "Edema.", "Edema.", "No."],
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
    assert table["report"].tolist() == ["Clear.", "Edema.", "Edema.", "No."]
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


def test_csv_of_which_no_image_or_no_row_is_there(tmp_path: Path) -> None:
    root = write_csv(tmp_path / "ours")
    shutil.rmtree(root / "images")
    with pytest.raises(DataError, match=r"4 for 'no image file'.*; ours holds pairs\.csv\."):
        read_pairs(root)
    (root / "pairs.csv").write_text("image,report,patient_id,study_id\n")
    with pytest.raises(DataError, match="No usable pair.*Nothing was rejected"):
        read_pairs(root)


@pytest.mark.parametrize("row", ["a.png,Heart, lungs,1", 'a.png,"Clear,1'])
def test_a_broken_row_is_said_in_one_line(tmp_path: Path, row: str) -> None:
    (tmp_path / "pairs.csv").write_text(f"image,report,patient_id\nb.png,Clear,2\n{row}\n")
    with pytest.raises(
        DataError, match=r"pairs\.csv cannot be read as CSV.*double quotes\.$"
    ) as caught:
        read_pairs(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("no sentence in findings or impression", "its headers may be unknown"),
        ("unknown view SIDEWAYS", "as DICOM does"),
        ("no row in mimic-cxr-2.0.0-split.csv.gz", "put the row back"),
        ("its study has several patients", "one patient and one report"),
        ("the same pixels as an image in test", "leave out the copy"),
        ("unreadable image: image file is truncated", "download or export the file anew"),
    ],
)
def test_a_rejection_says_which_why_and_what_to_do(reason: str, said: str) -> None:
    rejected = pd.DataFrame([["a", "1", reason]], columns=["image_id", "study_id", "reason"])
    assert f"1 for '{reason}' (a): " in reasons(rejected)
    assert said in reasons(rejected)


def test_csv_of_which_nothing_is_left(tmp_path: Path) -> None:
    write_csv(tmp_path, report=[""] * 4)
    with pytest.raises(DataError, match=r"No usable pair.*4 for 'empty report'"):
        read_pairs(tmp_path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"patient_id": ["1", "", "2", "3"]}, r"1 row without image or patient_id \(row 3\)"),
        ({"patient_id": ["1", "nan", "<NA>", "3"]}, r"2 rows without image .* \(row 3, 4\)"),
        ({"image_id": ["a", "b", "b", "c"]}, "1 value of image_id more than once: b"),
        ({"split": ["train", "dev", "test", "test"]}, "split 'dev'; use train, validate, test"),
    ],
)
def test_bad_cells_of_a_csv(tmp_path: Path, columns: dict[str, list[str]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_pairs(write_csv(tmp_path, **columns))


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"study_id": ["1", "1", "2", "3"], "patient_id": ["1", "1", "2", "3"]}, "reports"),
        ({"study_id": ["1", "1", "2", "3"], "report": ["A."] * 4}, "patients"),
    ],
)
def test_a_wrong_study_does_not_refuse_the_others(
    tmp_path: Path, columns: dict[str, list[str]], reason: str
) -> None:
    pairs = read_pairs(write_csv(tmp_path, **columns))
    assert pairs.rejected["image_id"].tolist() == ["images/a.png", "images/b.png"]
    assert set(pairs.rejected["reason"]) == {f"its study has several {reason}"}
    assert len(pairs.table) == 2


def test_a_row_without_a_study_is_in_that_of_equal_reports(tmp_path: Path) -> None:
    pairs = read_pairs(write_csv(tmp_path, study_id=["", "nan", "", "9"]))
    assert pairs.table["study_id"].tolist() == ["007/0", "1/0", "1/0", "9"]
    assert "3 rows without study_id" in pairs.notes[0]


def test_ids_with_a_final_point_zero_are_one(tmp_path: Path) -> None:
    ids = ["101", "101.0", "7", "102.0"]
    pairs = read_pairs(write_csv(tmp_path, patient_id=ids, study_id=ids, report=["A."] * 4))
    assert pairs.table["patient_id"].tolist() == ["101", "101", "7", "102.0"]
    assert pairs.table["study_id"].tolist() == ["101", "101", "7", "102.0"]
    assert pairs.table.groupby("patient_id")["split"].nunique().max() == 1
    assert "patient_id with and without a final .0 (101.0) count as one." in pairs.notes


def test_ids_that_differ_by_zeros_are_kept_and_said(tmp_path: Path) -> None:
    pairs = read_pairs(write_csv(tmp_path, patient_id=["007", "7", "010", "10.5"]))
    assert pairs.table["patient_id"].tolist() == ["007", "7", "010", "10.5"]
    assert "patient_id that differ by zeros, case or marks alone (007 and 7)" in pairs.notes[0]


@pytest.mark.parametrize("other", ["1E+05", "100000,0", "'100000", '="100000"', "100000\u200b"])
def test_ids_that_a_person_would_take_for_one_are_said(tmp_path: Path, other: str) -> None:
    pairs = read_pairs(write_csv(tmp_path, patient_id=["100000", other, "10", "1"]))
    assert f"(100000 and {other}) count as several" in pairs.notes[0]
    pairs = read_pairs(write_csv(tmp_path, patient_id=["A-1", "A-11", "1A", "A1"]))
    assert pairs.notes == ()
    assert read_pairs(write_csv(tmp_path, patient_id=["007", "01", "b", "A"])).notes == ()


@pytest.mark.parametrize(
    "nothing", ["nan", "NaN", "None", "<NA>", "n/a", "\\N", "-", "No report."]
)
def test_a_report_that_is_none_is_empty(tmp_path: Path, nothing: str) -> None:
    pairs = read_pairs(write_csv(tmp_path, report=["Clear.", nothing, nothing, "None seen."]))
    assert pairs.table["report"].tolist() == ["Clear.", "None seen."]
    assert pairs.rejected["reason"].tolist() == ["empty report"] * 2


def test_fewer_rows_than_lines_are_said(tmp_path: Path) -> None:
    root = write_csv(tmp_path)
    rows = ["image,report,patient_id", 'images/a.png,"Clear.,1', 'images/b.png,Edema.",2']
    (root / "pairs.csv").write_text("\n".join([*rows, "images/c.png,Edema.,3"]))
    pairs = read_pairs(root)
    assert len(pairs.table) == 2  # b is gone
    (note,) = pairs.notes
    assert "pairs.csv has 3 lines below its header, but 2 rows" in note
    assert "row 2 (images/a.png)" in note
    assert read_pairs(write_csv(tmp_path)).notes == ()


def test_a_missing_image_says_where_it_was_looked_for(tmp_path: Path) -> None:
    root = write_csv(tmp_path / "ours")
    (root / "images" / "d.png").unlink()
    (note,) = read_pairs(root).notes
    assert note.startswith("1 file not found: looked for ours/images/d.png;")
    assert "ours/images holds a.png, b.png, c.png." in note
    assert str(tmp_path) not in note  # it is kept in the report of a cache


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


ROWS = ["image,report,patient_id", "images/a.png,Clear.,007", "images/b.png,Rotated 5\u00b0.,2"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tables_as_other_programs_write_them(
    tmp_path: Path, encoding: str, separator: str, end: str
) -> None:
    rows = end.join([*ROWS, ""]).replace(",", separator)
    write_csv(tmp_path)
    (tmp_path / "pairs.csv").write_bytes(rows.encode(encoding))
    table = read_pairs(tmp_path).table
    assert table["patient_id"].tolist() == ["007", "2"]
    assert table["report"].tolist() == ["Clear.", "Rotated 5\u00b0."]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16-le"])
def test_a_table_that_is_not_utf_8_says_where_and_what_to_do(
    tmp_path: Path, encoding: str, packed: bool
) -> None:
    content = "\n".join(ROWS).encode(encoding)
    path = tmp_path / ("pairs.csv.gz" if packed else "pairs.csv")
    path.write_bytes(gzip.compress(content) if packed else content)
    where = r" \(line \d\)" if encoding == "utf-16-le" else r" \(line 3\)"
    with pytest.raises(DataError, match=rf"is not UTF-8{where}\. Save it as UTF-8 \(Excel"):
        read_pairs(path)


def test_unquoted_commas_are_explained(tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("image,report,patient_id\na.png,Heart, lungs clear.,1\n")
    with pytest.raises(DataError, match=r"more cells than its header\. Put reports in double"):
        read_pairs(tmp_path)


def test_labels_are_numbers_where_they_can_be(tmp_path: Path) -> None:
    table = read_pairs(write_csv(tmp_path, water=["1", "0.5", "", "0"], note=list("ab1d"))).table
    assert table["water"].isna().tolist() == [False, False, True, False]
    assert table["water"].sum() == 1.5
    assert table["note"].tolist() == list("ab1d")


@pytest.mark.parametrize("nothing", ["nan", "None", "N/A", "#N/A", "<NA>", "-", "NULL"])
def test_a_label_that_is_none_is_blank(tmp_path: Path, nothing: str) -> None:
    table = read_pairs(write_csv(tmp_path, Edema=["1", nothing, "-1", "0"])).table
    assert table["Edema"].isna().tolist() == [False, True, False, False]
    assert table["Edema"].sum() == 0


def test_numbers_that_no_computer_number_holds_stay_text(tmp_path: Path) -> None:
    longest = [f"{10**25 + number}" for number in range(4)]
    table = read_pairs(write_csv(tmp_path, accession=longest)).table
    assert table["accession"].tolist() == longest


def test_headers_are_known_in_any_case(tmp_path: Path) -> None:
    """Splits and labels under other names would be left aside, and patients split anew."""
    columns = {"Split": ["test", "train", "train", "val"], "pleural_effusion": ["1", "0", "", "1"]}
    write_csv(tmp_path, **columns)
    path = tmp_path / "pairs.csv"
    path.write_text(path.read_text().replace("image,report,patient_id", "Image,REPORT,Patient ID"))
    table = read_pairs(tmp_path).table
    assert table["split"].tolist() == ["test", "train", "train", "validate"]
    assert table["Pleural Effusion"].sum() == 2
    assert table["patient_id"].tolist() == ["007", "1", "1", "2"]


@pytest.mark.parametrize("name", ["report", " report", "Report", "note"])
def test_a_column_that_is_there_twice_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text(f"image,report,patient_id,note,{name}\na.png,Clear.,1,,Edema.\n")
    with pytest.raises(DataError, match=f"more than one column {name.strip().lower()}. Leave"):
        read_pairs(tmp_path)


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
    with pytest.raises(StudyLeakError, match="1 patient in train and test: 1"):
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
