"""MIMIC-CXR-JPG in small: files, joins, views, labels, reports; and what is said of faults."""

import errno
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from localmi.data.sources.mimic_reports import ARCHIVE
from localmi.data.sources.pairs import Pairs, read_pairs, reasons
from localmi.errors import DataError, StudyLeakError

REPORT = " FINDINGS:  Lungs are clear.\n \n IMPRESSION:  No acute process.\n"
# image, patient, study, view, split
IMAGES = [
    ("aa-0", "90000000", "80000000", "PA", "train"),
    ("aa-1", "90000000", "80000000", "LATERAL", "train"),
    ("bb-0", "90000000", "80000001", "AP", "train"),
    ("cc-0", "90000001", "80000010", "AP", "validate"),
    ("dd-0", "90000002", "80000020", "PA", "test"),
]
SEVERITY = "mimic-cxr-pe-severity-1.0.1"


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
    with pytest.raises(DataError, match="ViewPosition LATERL. Views are AP, PA, LATERAL, LL,"):
        read_pairs(tmp_path, views=("AP", "PA", "LATERL"))


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


@pytest.mark.parametrize("there", ["index.html", "aa-0.jpg_.gstmp", "aa-0.JPG", ""])
def test_a_missing_image_says_what_lies_there(tmp_path: Path, there: str) -> None:
    root = write_mimic(tmp_path / "jpg", reports=tmp_path / "reports")
    place = root / mimic_folder("90000000", "80000000")
    (place / "aa-1.jpg").unlink()
    if there:
        (place / "aa-0.jpg").rename(place / there)
    else:
        (place / "aa-0.jpg").unlink()
    shown = place.relative_to(tmp_path).as_posix()
    note = read_pairs(root, reports_dir=tmp_path / "reports").notes[0]
    assert note == (
        f"1 file not found: looked for {shown}/aa-0.jpg or .dcm; "
        f"{shown} holds {there or 'nothing'}."
    )


def test_images_all_in_one_folder_are_seen(tmp_path: Path) -> None:
    root = write_mimic(tmp_path / "jpg", reports=tmp_path / "reports")
    for image in root.rglob("*.jpg"):
        image.rename(root / "files" / image.name)
    shutil.rmtree(root / "files" / "p90")
    with pytest.raises(DataError, match=r"4 files not found: .*; jpg/files holds aa-0\.jpg, aa-1"):
        read_pairs(root, reports_dir=tmp_path / "reports")


@pytest.mark.parametrize("name", ["mimic_cxr_sectioned.csv", "cxr-sectioned.csv.gz"])
def test_a_table_of_sections_is_not_the_reports(tmp_path: Path, name: str) -> None:
    root = write_mimic(tmp_path / "jpg", reports=tmp_path / "reports")
    (root / name).write_text("study,impression,findings\ns80000000,Clear.,\n")
    with pytest.raises(DataError, match=rf"{name} is a table, .* reports_dir to {ARCHIVE}"):
        read_pairs(root, reports_dir=root / name)
    looked = r"looked for p90/p90000000/s80000000\.txt in files, jpg\."
    with pytest.raises(DataError, match=rf"{looked} Reports are .* {name} is a table made of"):
        read_pairs(root)


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
    with pytest.raises(DataError, match=f"1 unusable value of {column}"):
        read_pairs(tmp_path)


def test_truncated_gzip(tmp_path: Path) -> None:
    path = write_mimic(tmp_path) / "mimic-cxr-2.0.0-split.csv.gz"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"split\.csv\.gz cannot be read"):
        read_pairs(tmp_path)


def edit(root: Path, name: str, *rows: tuple[int, str, str]) -> None:
    """Changes cells of a table: row number, column, value."""
    path = next(root.glob(f"mimic-cxr-2.*-{name}.csv*"))
    table = pd.read_csv(path, dtype=str)
    for row, column, value in rows:
        table.loc[row, column] = value
    table.to_csv(path, index=False)


def write_severity(folder: Path, consensus: dict[str, str] | None = None) -> None:
    """Grades of two studies from reports, and of some images, with their patients."""
    folder.mkdir(exist_ok=True)
    studies = pd.DataFrame(
        {"subject_id": ["90000000", "90000001"], "study_id": ["80000000", "80000010"]}
    )
    studies.assign(edema_severity=[2, 0]).to_csv(
        folder / "regex_report_edema_severity.csv", index=False
    )
    studies[:1].assign(edema_severity=[3]).to_csv(
        folder / "expert_report_edema_severity.csv", index=False
    )
    images = pd.DataFrame(IMAGES, columns=["dicom_id", "subject_id", "study_id", "view", "split"])
    images = images[images["dicom_id"].isin(consensus or {"dd-0": "1"})]
    images.assign(edema_severity=images["dicom_id"].map(consensus or {"dd-0": "1"})).drop(
        columns=["view", "split"]
    ).to_csv(folder / "consensus_image_edema_severity.csv", index=False)


def pack_reports(root: Path, archive: Path, inside: str = "files") -> None:
    """Moves the reports of a tree into an archive."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(root.rglob("*.txt")):
            packed.write(path, f"{inside}/{path.relative_to(root / 'files').as_posix()}")
            path.unlink()


def ids(pairs: Pairs) -> list[str]:
    return pairs.table["image_id"].tolist()


@pytest.mark.parametrize("inside", ["files", "mimic-cxr-reports/files"])
def test_reports_in_the_archive_read_as_in_the_tree(tmp_path: Path, inside: str) -> None:
    root = write_mimic(tmp_path / "jpg")
    crlf = root / f"{mimic_folder('90000001', '80000010')}.txt"
    crlf.write_bytes(REPORT.replace("\n", "\r\n").encode() + b"\xff")
    tree = read_pairs(root)
    assert tree.table["report"][2] == REPORT + "\N{REPLACEMENT CHARACTER}"
    pack_reports(root, root / ARCHIVE, inside)
    pd.testing.assert_frame_equal(read_pairs(root).table, tree.table)
    (tmp_path / "cxr").mkdir()
    (root / ARCHIVE).rename(tmp_path / "cxr" / ARCHIVE)
    for reports in (tmp_path / "cxr", tmp_path / "cxr" / ARCHIVE):
        found = read_pairs(root, reports_dir=reports, progress=True)
        pd.testing.assert_frame_equal(found.table, tree.table)


def test_reports_unpacked_beside_the_images(tmp_path: Path) -> None:
    root = write_mimic(tmp_path)
    pack_reports(root, tmp_path / "packed.zip")
    with zipfile.ZipFile(tmp_path / "packed.zip") as packed:
        packed.extractall(tmp_path / "mimic-cxr-reports")
    assert len(read_pairs(root).table) == 4


def test_missing_reports_are_named_by_their_archive(tmp_path: Path) -> None:
    root = write_mimic(tmp_path)
    pack_reports(root, tmp_path / "other.zip")
    with pytest.raises(DataError, match=r"4 studies have .*mimic-cxr-reports\.zip.*CXR Database"):
        read_pairs(root)
    with pytest.raises(DataError, match="nowhere does not exist. Set reports_dir"):
        read_pairs(root, reports_dir=tmp_path / "nowhere")


@pytest.mark.parametrize("call", ["stat", "read_bytes"])
def test_a_failing_disk_rejects_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    root = write_mimic(tmp_path)
    owner, suffix = (os, ".jpg") if call == "stat" else (Path, ".txt")
    real = getattr(owner, call)

    def fails(path: Any, *args: Any, **kwargs: Any) -> Any:
        if str(path).endswith(suffix):
            raise OSError(errno.EIO, "Input/output error")
        return real(path, *args, **kwargs)

    monkeypatch.setattr(owner, call, fails)
    with pytest.raises(DataError, match=f"{suffix} cannot be .*Input/output error.*Look after"):
        read_pairs(root)


def test_a_damaged_archive(tmp_path: Path) -> None:
    root = write_mimic(tmp_path)
    pack_reports(root, root / ARCHIVE)
    whole = (root / ARCHIVE).read_bytes()
    name = f"{mimic_folder('90000001', '80000010').as_posix()}.txt".encode()
    place = whole.index(name) + len(name) + 2  # in the packed bytes of this report
    (root / ARCHIVE).write_bytes(whole[:place] + b"\xff\xff\xff" + whole[place + 3 :])
    pairs = read_pairs(root)
    assert pairs.rejected.to_numpy().tolist() == [["cc-0", "80000010", "unreadable report"]]
    (root / ARCHIVE).write_bytes(whole[:200])
    with pytest.raises(DataError, match=r"reports\.zip cannot be read as a zip: .* anew"):
        read_pairs(root)


def test_dicom_at_the_same_places(tmp_path: Path) -> None:
    root = write_mimic(tmp_path)
    for image, patient, study, *_ in IMAGES[2:]:
        path = root / mimic_folder(patient, study) / f"{image}.jpg"
        path.rename(path.with_suffix(".dcm"))
    pairs = read_pairs(root)
    assert [Path(path).suffix for path in pairs.table["image"]] == [".jpg", *3 * [".dcm"]]
    assert pairs.rejected.empty


def test_views_are_left_out_or_unknown(tmp_path: Path) -> None:
    root = write_mimic(tmp_path)
    edit(root, "metadata", (0, "ViewPosition", ""), (2, "ViewPosition", "SIDEWAYS"))
    pairs = read_pairs(root)
    assert ids(pairs) == ["cc-0", "dd-0"]
    assert pairs.left_out == {"view LATERAL": 1}
    assert pairs.rejected.to_numpy().tolist() == [
        ["aa-0", "80000000", "no view is given"],
        ["bb-0", "80000001", "unknown view SIDEWAYS"],
    ]
    everything = read_pairs(root, views=("AP", "PA", "LATERAL", "", "SIDEWAYS"))
    assert len(everything.table) == 5
    assert everything.left_out == {}


def test_image_of_the_splits_alone_is_reported(tmp_path: Path) -> None:
    root = write_mimic(tmp_path)
    path = root / "mimic-cxr-2.0.0-metadata.csv.gz"
    pd.read_csv(path).iloc[1:].to_csv(path, index=False)
    assert read_pairs(root).rejected.to_numpy().tolist() == [
        ["aa-0", "80000000", f"no row in {path.name}"]
    ]


def test_studies_without_chexpert_labels_are_noted(tmp_path: Path) -> None:
    root = write_mimic(tmp_path)
    notes = read_pairs(root).notes
    name = "mimic-cxr-2.0.0-chexpert.csv.gz"
    assert notes[0] == f"2 studies have no row in {name}: these labels are blank."
    edit(root, "chexpert", (0, "study_id", "80000010"))
    pd.read_csv(root / name).merge(
        pd.DataFrame({"study_id": [80000000, 80000001, 80000010]}), how="outer"
    ).to_csv(root / name, index=False)
    assert f"1 study has no row in {name}: these labels are blank." in read_pairs(root).notes
    (root / name).unlink()
    pairs = read_pairs(root)
    assert "Edema" not in pairs.table
    assert any(note.startswith(f"No {name}: without") for note in pairs.notes)
    assert "MIMIC-CXR-JPG" in " ".join(pairs.notes)


@pytest.mark.parametrize("value", ["2", "yes"])
def test_labels_that_are_none(tmp_path: Path, value: str) -> None:
    root = write_mimic(tmp_path)
    edit(root, "chexpert", (0, "Edema", value))
    with pytest.raises(DataError, match=f"1 value of Edema other than .* blank: {value}"):
        read_pairs(root)


def test_one_study_may_not_be_labelled_in_two_ways(tmp_path: Path) -> None:
    root = write_mimic(tmp_path)
    path = root / "mimic-cxr-2.0.0-chexpert.csv.gz"
    table = pd.read_csv(path)
    pd.concat([table, table[:1]]).to_csv(path, index=False)  # the same row twice does no harm
    assert len(read_pairs(root).table) == 4
    pd.concat([table, table[:1].assign(Edema=0.0)]).to_csv(path, index=False)
    with pytest.raises(DataError, match="1 value of study_id more than once: 80000000"):
        read_pairs(root)


def test_radiologists_labels_of_version_2_1_0(tmp_path: Path) -> None:
    root = write_mimic(tmp_path)
    before = read_pairs(root)
    assert any("No mimic-cxr-2.1.0-test-set-labeled.csv" in note for note in before.notes)
    (root / "mimic-cxr-2.1.0-test-set-labeled.csv").write_text(
        "study_id,Edema,Airspace Opacity\n80000020,0.0,-1.0\n"
    )
    table = read_pairs(root).table.set_index("image_id")
    assert table.loc["dd-0", ["expert_Edema", "expert_Lung Opacity"]].tolist() == [0.0, -1.0]
    assert table["expert_Edema"].notna().sum() == 1
    assert table.loc["aa-0", "Edema"] == 1.0  # the labeller's stays beside


@pytest.mark.parametrize("folder", [SEVERITY, ""])
def test_edema_severity(tmp_path: Path, folder: str) -> None:
    root = write_mimic(tmp_path)
    write_severity(root / folder)
    pairs = read_pairs(root, views=("AP", "PA", "LATERAL"))
    table = pairs.table.set_index("image_id").fillna(-9)
    assert table["edema_severity"].tolist() == [2, 2, -9, 0, -9]  # of a study
    assert table["edema_severity_expert"].tolist() == [3, 3, -9, -9, -9]
    assert table["edema_severity_consensus"].tolist() == [-9, -9, -9, -9, 1]  # of an image
    assert table["split"].tolist() == table["official_split"].tolist()
    assert not any("severity" in note for note in pairs.notes)
    write_severity(root / folder, {"dd-0": "4"})
    with pytest.raises(DataError, match="1 value of edema_severity other than 0, 1, 2, 3 or bla"):
        read_pairs(root)


def test_patients_of_the_consensus_images_are_test_patients(tmp_path: Path) -> None:
    root = write_mimic(tmp_path)
    write_severity(root, {"bb-0": "2", "dd-0": "0"})
    pairs = read_pairs(root)
    table = pairs.table.set_index("image_id")
    assert table["split"].to_dict() == {
        "aa-0": "test",  # another study of the patient of bb-0
        "bb-0": "test",
        "cc-0": "validate",
        "dd-0": "test",
    }
    assert table["official_split"].tolist() == ["train", "train", "validate", "test"]
    assert any(
        note.startswith("Moved to the test split: 2 images of 1 patient,") for note in pairs.notes
    )
    lateral = read_pairs(root, views=("LATERAL",))  # the graded image itself is not asked for
    assert lateral.table["split"].tolist() == ["test"]


@pytest.mark.parametrize("graded", [False, True])
def test_a_patient_in_two_splits(tmp_path: Path, graded: bool) -> None:
    root = write_mimic(tmp_path)
    edit(root, "split", (2, "split", "test"))  # another study of this patient is in train
    if graded:  # moving the patient to test would hide it
        write_severity(root, {"bb-0": "2"})
    with pytest.raises(StudyLeakError, match='1 patient in train and test: 90000000.*"reject"'):
        read_pairs(root)
    pairs = read_pairs(root, leaks="reject")
    assert ids(pairs) == ["cc-0", "dd-0"]
    assert pairs.rejected["image_id"].tolist() == ["aa-0", "bb-0"]
    assert set(pairs.rejected["reason"]) == {"its patient is in two splits"}


def test_missing_tables_are_named_with_their_project(tmp_path: Path) -> None:
    (tmp_path / "cxr-record-list.csv.gz").touch()  # the original MIMIC-CXR
    with pytest.raises(DataError, match=r"lacks mimic-cxr-2\.0\.0-metadata.*CXR-JPG.*DICOM"):
        read_pairs(tmp_path)
    shutil.copy(
        write_mimic(tmp_path / "jpg") / "mimic-cxr-2.0.0-metadata.csv.gz",
        tmp_path / "mimic-cxr-2.0.0-metadata.csv.gz",
    )
    with pytest.raises(DataError, match=r"lacks mimic-cxr-2\.0\.0-split\.csv\.gz"):
        read_pairs(tmp_path)


def test_a_version_alone_is_no_name(tmp_path: Path) -> None:
    assert read_pairs(write_mimic(tmp_path / "mimic-cxr-jpg" / "2.1.0")).name == (
        "mimic-cxr-jpg-2.1.0"
    )


def test_every_image_is_somewhere(tmp_path: Path) -> None:
    root = write_mimic(tmp_path)
    edit(root, "metadata", (0, "ViewPosition", ""))
    edit(root, "split", (2, "dicom_id", "zz-0"))
    (root / f"{mimic_folder('90000001', '80000010')}.txt").unlink()
    pairs = read_pairs(root)
    assert ids(pairs) == ["dd-0"]
    assert sorted(pairs.rejected["image_id"]) == ["aa-0", "bb-0", "cc-0", "zz-0"]
    assert pairs.left_out == {"view LATERAL": 1}


def test_the_newest_version_of_a_table_is_read(tmp_path: Path) -> None:
    root = write_mimic(tmp_path)
    table = pd.read_csv(root / "mimic-cxr-2.0.0-split.csv.gz").assign(split="validate")
    table.to_csv(root / "mimic-cxr-2.1.0-split.csv", index=False)
    assert set(read_pairs(root).table["split"]) == {"validate"}
