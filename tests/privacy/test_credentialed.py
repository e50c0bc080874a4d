import gzip
import zipfile
from pathlib import Path

import pandas as pd
import pytest

from localmi.privacy.credentialed import folders, is_credentialed, parameter_values
from localmi.privacy.rules import EXAMPLE

A_PATIENT, A_STUDY = str(10_000_032), str(50_414_267)
ROWS = f"dicom_id,subject_id,study_id\nx,{A_PATIENT},{A_STUDY}\n"


def split(folder: Path) -> None:
    (folder / "mimic-cxr-2.0.0-split.csv.gz").write_bytes(gzip.compress(ROWS.encode()))


def cache(folder: Path) -> None:
    manifest = {"image_id": ["x"], "study_id": [A_STUDY], "patient_id": [A_PATIENT]}
    pd.DataFrame(manifest).to_parquet(folder / "manifest.parquet")


def images(folder: Path) -> None:
    (folder / "files" / "p10" / f"p{A_PATIENT}").mkdir(parents=True)


def reports(folder: Path) -> None:
    (folder / "p10" / f"p{A_PATIENT}").mkdir(parents=True)


def reports_zip(folder: Path) -> None:
    with zipfile.ZipFile(folder / "mimic-cxr-reports.zip", "w") as archive:
        archive.writestr("files/", "")
        archive.writestr(f"files/p10/p{A_PATIENT}/s{A_STUDY}.txt", "")


def patients_of_the_record(folder: Path) -> None:
    (folder / "hosp").mkdir()
    rows = f"subject_id,gender,anchor_age\n{A_PATIENT},F,52\n"
    (folder / "hosp" / "patients.csv.gz").write_bytes(gzip.compress(rows.encode()))


def stays(folder: Path) -> None:
    (folder / "icu").mkdir()
    (folder / "icu" / "icustays.csv").write_text(f"stay_id,los\n{34_567_890},1.5\n")


def not_a_zip(folder: Path) -> None:
    (folder / "mimic-cxr-reports.zip").write_text("half a download")


PARTS = [split, cache, images, reports, reports_zip, not_a_zip, patients_of_the_record, stays]


@pytest.mark.parametrize("write", PARTS)
def test_mimic_is_known_by_any_of_its_parts(write, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert not is_credentialed(tmp_path)
    write(tmp_path)
    assert is_credentialed(tmp_path)
    for part in tmp_path.iterdir():
        assert is_credentialed(part)


def test_other_data_is_not_mimic(tmp_path: Path, tiny_cache) -> None:  # type: ignore[no-untyped-def]
    assert not is_credentialed(EXAMPLE)
    assert not is_credentialed(tiny_cache.folder)
    assert not is_credentialed(tiny_cache.folder.parent / "study")
    title = " " * 33 + "FINAL REPORT\n"
    body = f"{title} INDICATION: ___\n FINDINGS: {'The lungs sing. ' * 20}"
    table = tmp_path / "pairs.csv"
    table.write_text(f'image,patient_id,report\na.png,1,"{body}"\n')  # a form alone is no id
    assert not is_credentialed(table)


def test_data_that_parameters_name() -> None:
    values = {"data_dir": "a", "cache_dir": "", "run_dir": "b", "seed": 1, "reports_dir": "c"}
    assert list(folders(values)) == [Path("a"), Path("c")]
    assert list(folders({"boxes": "b.csv", "data_dir": ""})) == [Path("b.csv")]


def test_a_table_of_boxes_on_credentialed_images_is_too(tmp_path: Path) -> None:
    path = tmp_path / "boxes.csv"
    row = f"x,files/p10/p{A_PATIENT}/s{A_STUDY}/x.jpg,1,2,3,4,Effusion."
    path.write_text(f"dicom_id,path,x,y,w,h,label_text\n{row}\n")
    assert is_credentialed(path)


def test_parameters_of_a_stored_notebook() -> None:
    cells = [
        {"source": "x_dir = 'no'"},
        {"source": "a = 1\ndata_dir = ''  # d\nb: int = 2", "metadata": {"tags": ["parameters"]}},
        {"source": ["data_dir = ", "'d'"], "metadata": {"tags": ["injected-parameters"]}},
        {"source": "data_dir = (", "metadata": {"tags": ["injected-parameters"]}},
    ]
    assert parameter_values(cells) == {"a": 1, "data_dir": "d"}
