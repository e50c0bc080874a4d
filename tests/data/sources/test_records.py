"""MIMIC-IV beside MIMIC-CXR: both layouts, every kind of trouble counted and named, no leak."""

import gzip
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from record_files import Row, write_records, write_study

from localmi.data.batches import SplitData
from localmi.data.cache.cache import build_cache, open_cache
from localmi.data.cache.prepare import prepare
from localmi.data.cache.verify import verify_cache
from localmi.data.labels import check_test_patients
from localmi.data.record_features import features
from localmi.data.sources.pairs import Pairs, read_pairs
from localmi.errors import ConfigError, DataError, StudyLeakError

# image, patient, study, view, split, date, time, position
IMAGES: list[Row] = [
    ("a-0", "90000000", "80000000", "AP", "train", "2150-03-10", 90500.994, "Recumbent"),
    ("a-1", "90000000", "80000001", "PA", "train", "2151-03-10", 500, "Erect"),  # 00:05:00
    ("b-0", "90000001", "80000010", "PA", "validate", "2152-01-01", 120000, ""),
    ("c-0", "90000002", "80000020", "PA", "test", "2150-01-01", 120000, "Erect"),
    ("d-0", "90000003", "80000030", "AP", "test", "2150-06-20", 120000, "Erect"),
    ("e-0", "90000004", "80000040", "AP", "train", "2148-06-01", 120000, "Erect"),
    ("f-0", "90000005", "80000050", "AP", "train", "2150-06-01", 996000, "Erect"),
    ("g-0", "90000006", "80000060", "PA", "train", "", "", "Erect"),
    ("h-0", "90000007", "80000070", "LATERAL", "train", "2150-06-01", 115959.5, "Erect"),
    ("h-1", "90000007", "80000070", "AP", "train", "2150-06-01", 120001, "Erect"),
    ("i-0", "90000008", "80000080", "AP", "train", "2150-06-01", 120000, "Erect"),
]
# 90000002 is missing
PATIENTS: list[Row] = [
    ("90000000", "F", 60, 2150, ""),
    ("90000001", "M", 91, 2150, ""),
    ("90000003", "M", 40, 2150, "2150-06-10"),
    ("90000004", "F", 1, 2150, ""),
    ("90000005", "F", 50, 2150, ""),
    ("90000006", "F", 50, 2150, ""),
    ("90000007", "U", 50, 2150, ""),
    ("90000008", "M", "", 2150, ""),
    ("90099999", "M", 50, 2150, ""),  # has no image
]
# subject_id, hadm_id, admittime, dischtime, deathtime, hospital_expire_flag
ADMISSIONS: list[Row] = [
    ("90000000", "70000000", "2150-03-01 08:00:00", "2150-03-11 20:00:00", "", 0),
    ("90000000", "70000001", "2150-03-05 08:00:00", "2150-03-06 08:00:00", "", 0),  # within
    ("90000003", "70000030", "2150-06-09 08:00:00", "2150-06-10 08:00:00", "2150-06-10 08:00", 1),
    ("90000003", "70000031", "2150-06-10 09:00:00", "2150-06-10 08:00:00", "2150-06-10 08:00", 1),
    ("90000005", "70000050", "2150-06-01 08:00:00", "", "", 0),
    ("90000007", "70000070", "2150-06-01 11:00:00", "2150-06-01 12:00:00", "", 1),
    ("90000008", "70000080", "2150-06-01 12:00:00", "2150-06-02 00:00:00", "", ""),
]
# subject_id, hadm_id, stay_id, intime, outtime
ICU_STAYS: list[Row] = [
    ("90000000", "70000000", "60000000", "2150-03-10 09:05:00", "2150-03-10 21:05:00"),
    ("90000001", "70000010", "60000010", "2152-01-01 00:00:00", "2152-01-03 00:00:00"),
    ("90000007", "70000070", "60000070", "2150-06-01 11:30:00", "2150-06-01 11:00:00"),
]
RECORD = ["sex", "age", "admitted", "died", "stay_days", "icu", "icu_days"]
NAN = float("nan")
EXPECTED = {  # position, then RECORD
    "a-0": ("Recumbent", "F", 60, 1, 0, 10.5, 1, 0.5),
    "a-1": ("Erect", "F", 61, 0, NAN, NAN, 0, NAN),
    "b-0": ("", "M", 93, 0, NAN, NAN, 1, 2),
    "c-0": ("Erect", "", NAN, NAN, NAN, NAN, NAN, NAN),
    "d-0": ("Erect", "M", 40, 0, NAN, NAN, 0, NAN),
    "e-0": ("Erect", "F", NAN, 0, NAN, NAN, 0, NAN),
    "f-0": ("Erect", "F", 50, NAN, NAN, NAN, NAN, NAN),
    "g-0": ("Erect", "F", NAN, NAN, NAN, NAN, NAN, NAN),
    "h-1": ("Erect", "", 50, 1, 1, 1 / 24, 0, NAN),
    "i-0": ("Erect", "M", NAN, 1, NAN, 0.5, 0, NAN),
}
SAID = [
    "Records: 3 of 10 studies during an admission, 2 in intensive care.",
    "1 patient has no row in patients: all that is recorded of their 1 study is blank (90000002).",
    "1 patient has no gender M or F: record_sex is blank (90000007).",
    "1 patient has no anchor_age or anchor_year: record_age is blank (90000008).",
    "1 patient has an anchor_age above 89, where 91 stands for all: record_age is not exact "
    "(90000001).",
    "1 study has a year before the patient's birth: no record_age (80000040).",
    "1 admission has begun while another of the patient went on: in both, that begun last counts "
    "(70000001).",
    "1 ICU stay has no time in common with an admission of the patient: record_icu speaks of it "
    "all the same (60000010).",
    "1 study has a time after the patient's death (80000030).",
    "1 admission has no admittime or no dischtime: not used (70000050).",
    "1 admission has dischtime before admittime: not used (70000031).",
    "1 admission has no hospital_expire_flag: record_died is blank (70000080).",
    "1 ICU stay has outtime before intime: not used (60000070).",
    "2 images have no StudyDate and StudyTime that can be read (f-0, g-0).",
    "1 study has images of different times: the earliest counts (80000070).",
    "1 image has no PatientOrientationCodeSequence_CodeMeaning: position is blank (b-0).",
]


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study with its records in its own folder, as the synthetic one has them."""
    root = write_study(tmp_path / "study", IMAGES)
    return write_records(root, PATIENTS, ADMISSIONS, ICU_STAYS)


def read(study: Path, records: Path | None = None, **options: Any) -> Pairs:
    return read_pairs(study, records_dir=records or study, **options)


def test_each_image_has_the_record_of_its_study(study: Path) -> None:
    pairs = read(study)
    columns = ["position", *(f"record_{name}" for name in RECORD)]
    assert list(pairs.record_columns) == columns
    assert list(pairs.table)[-len(columns) :] == columns
    found = pairs.table.set_index("image_id")[columns]
    assert list(found.index) == list(EXPECTED)
    for image, expected in EXPECTED.items():
        row = found.loc[image].tolist()
        assert row[:2] == list(expected[:2]), image
        np.testing.assert_allclose(row[2:], expected[2:], err_msg=image)


def test_everything_odd_is_counted_and_named(study: Path) -> None:
    notes = read(study).notes
    assert [each for each in notes if each not in read_pairs(study).notes] == SAID


@pytest.mark.parametrize("version", ["1.0", "2.2"])
@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
@pytest.mark.parametrize("named", ["", "mimiciv", "mimiciv/{version}", "mimiciv/{version}/icu"])
def test_every_layout_is_found(
    tmp_path: Path, study: Path, version: Any, ending: str, named: str
) -> None:
    expected = read(study).table
    root = tmp_path / "mimiciv" / version
    write_records(root, PATIENTS, ADMISSIONS, ICU_STAYS, version=version, ending=ending)
    where = tmp_path / named.format(version=version) if named else root
    pd.testing.assert_frame_equal(read(study, where).table, expected)


def test_the_newest_version_is_taken(tmp_path: Path, study: Path) -> None:
    """And of a table that is there packed and unpacked, the packed one."""
    for version, age in (("1.0", 20), ("2.2", 30)):
        patients = [(*row[:2], age, *row[3:]) for row in PATIENTS]
        write_records(tmp_path / "iv" / version, patients, ADMISSIONS, version=version)
    shutil.copy(tmp_path / "iv/1.0/core/patients.csv.gz", tmp_path / "iv/2.2/hosp/patients.csv")
    assert read(study, tmp_path / "iv").table["record_age"].max() == 32


def test_the_kept_views_do_not_change_what_is_recorded(study: Path) -> None:
    """The lateral image of a study was taken in the admission, the other a second after it."""
    frontal, all_views = read(study).table, read(study, views=("AP", "PA", "LATERAL")).table
    assert len(all_views) == len(frontal) + 1
    for image in ("h-0", "h-1"):
        assert all_views.set_index("image_id").loc[image, "record_admitted"] == 1
    kept = all_views[all_views["image_id"].isin(frontal["image_id"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, frontal)


def test_a_table_that_is_not_there(tmp_path: Path, study: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere is no folder\. Set records_dir .*icu/\."):
        read(study, tmp_path / "nowhere")
    (study / "icu/icustays.csv.gz").unlink()
    words = (
        r"lack icustays\.csv\.gz\. 1 file not found: looked for study/icu/icustays\.csv\.gz or "
        r'\.csv; study/icu holds nothing\. .*"MIMIC-IV", in hosp/ .*--records'
    )
    with pytest.raises(DataError, match=words):
        read(study)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"lack patients\.csv\.gz, admissions\.csv\.gz, icustays"):
        read(study, tmp_path / "empty")


def change(path: Path, old: str, new: str) -> None:
    text = gzip.decompress(path.read_bytes()).decode()
    assert old in text
    path.write_bytes(gzip.compress(text.replace(old, new).encode()))


@pytest.mark.parametrize(
    ("table", "old", "new", "words"),
    [
        ("hosp/patients", "anchor_age", "age", r"lacks the column anchor_age; found subject_id"),
        ("hosp/patients", "90000001", "90000000", r"1 value of subject_id more than once: 900000"),
        ("hosp/admissions", "70000001", "70000000", r"1 value of hadm_id more than once"),
        ("icu/icustays", "60000070", "60000000", r"1 value of stay_id more than once"),
        (
            "hosp/patients",
            "F,60,",
            "F,sixty,",
            r"1 value of anchor_age that is no number: s",
        ),
        ("hosp/patients", "2150-06-10", "10.6.2150", r"1 value of dod that cannot be read as a t"),
        ("hosp/admissions", "2150-03-01 08", "2150-02-30 08", r"1 value of admittime .*02-30 08"),
        ("hosp/admissions", "2150-06-10 08:00,", "06/10/2150,", r"2 values of deathtime that can"),
        (
            "icu/icustays",
            "2152-01-01 00",
            "2152-01-01 25",
            r"1 value of intime .*HH:MM:SS, without a",
        ),
        (
            "hosp/admissions",
            ",1\n",
            ",2\n",
            r"2 values of hospital_expire_flag other than 0, 1",
        ),
        ("hosp/admissions", ",0\n", ",0,0\n", r"cannot be read as CSV: .*Expected 8 columns"),
        ("hosp/patients", "9000", "9100", r"no row of any of the 9 patients of the study"),
        ("mimic-cxr-2.0.0-metadata", "StudyTime", "Time", r"lacks the column StudyTime; found"),
        ("mimic-cxr-2.0.0-metadata", ",21", ",1.1.21", r"no StudyDate that can be read: 1\.1\.2"),
    ],
)
def test_a_table_that_cannot_be_used(
    study: Path, table: str, old: str, new: str, words: str
) -> None:
    path = study / f"{table}.csv.gz"
    change(path, old, new)
    with pytest.raises(DataError, match=words) as caught:
        read(study)
    assert str(path) in str(caught.value)


def test_no_table_of_a_version_needs_more_than_its_own_columns(study: Path) -> None:
    """Version 1.0 knows no date of death; a column may be empty as a whole."""
    change(study / "hosp/patients.csv.gz", "dod", "other")
    change(study / "hosp/admissions.csv.gz", "deathtime", "other")
    change(study / "hosp/admissions.csv.gz", ",1\n", ",\n")
    change(study / "hosp/admissions.csv.gz", ",0\n", ",\n")
    pairs = read(study)
    assert pairs.table["record_died"].isna().all()
    assert not any("death" in note for note in pairs.notes)


def test_no_stay_at_all(tmp_path: Path, study: Path) -> None:
    """Of these patients; somebody else has been there."""
    others = [("90099999", *ADMISSIONS[0][1:])]
    table = read(study, write_records(tmp_path / "iv", PATIENTS, others, [])).table
    assert table["record_admitted"].dropna().eq(0).all()
    assert table[["record_died", "record_stay_days", "record_icu_days"]].isna().all(axis=None)


def test_records_are_of_mimic_alone(tmp_path: Path, study: Path) -> None:
    table = {"image": ["a.png"], "report": ["Clear."], "patient_id": ["1"]}
    pd.DataFrame(table).to_csv(tmp_path / "pairs.csv", index=False)
    with pytest.raises(ConfigError, match="holds no MIMIC-CXR .*leave out records_dir"):
        read(tmp_path, study)


# --- What stays as it was ---


def test_images_and_texts_are_known_by_the_same_hash(tmp_path: Path, study: Path) -> None:
    """And nothing else of a cache changes: it even keeps the images that are decoded."""
    plain = build_cache(read_pairs(study), tmp_path / "plain", image_size=32)
    assert plain.records_hash == ""
    assert "records_sha256" not in plain.describe()
    cache = build_cache(read_pairs(study), tmp_path / "cache", image_size=32)
    shard = (tmp_path / "cache" / "shard-00000.npy").stat()
    cache = build_cache(read(study), tmp_path / "cache", image_size=32)
    assert (tmp_path / "cache" / "shard-00000.npy").stat().st_ino == shard.st_ino
    assert cache.data_hash == plain.data_hash
    assert len(cache.records_hash) == 64
    assert cache.describe() == plain.describe() | {"records_sha256": cache.records_hash}
    columns = list(read(study).record_columns)
    assert not set(columns) & set(plain.manifest)
    pd.testing.assert_frame_equal(cache.manifest.drop(columns=columns), plain.manifest)
    for name in ("sentences.parquet", "rejected.parquet", "shard-00000.npy"):
        assert (tmp_path / "cache" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
    assert verify_cache(tmp_path / "cache") == []
    with pytest.raises(DataError, match="has the patients' records, and none are asked for"):
        build_cache(read_pairs(study), tmp_path / "cache", image_size=32)
    for said in SAID:
        assert f"Note: {said}" in (tmp_path / "cache" / "report.txt").read_text()


def test_the_command_adds_records_and_says_what_is_odd(
    tmp_path: Path, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(study, tmp_path / "cache", records_dir=study, image_size=32, workers=1)
    said = capsys.readouterr().out
    for note in SAID:
        assert said.count(f"Note: {note}") == 2  # when found, and in the report
    manifest = open_cache(tmp_path / "cache").manifest
    assert features(manifest, ["demographic", "scan", "stay"])[0].shape == (10, 15)


def test_another_record_is_other_data(tmp_path: Path, study: Path) -> None:
    before = build_cache(read(study), tmp_path / "cache", image_size=32)
    change(study / "hosp/patients.csv.gz", "F,60,", "M,60,")
    after = build_cache(read(study), tmp_path / "cache", image_size=32)
    assert after.manifest["record_sex"].tolist() != before.manifest["record_sex"].tolist()
    assert after.data_hash == before.data_hash
    assert after.records_hash != before.records_hash


def test_labels_of_the_same_names_are_labels(tmp_path: Path) -> None:
    """In a CSV of one's own they are part of the data, as any column is."""
    hashes = []
    for sex in ("F", "M"):
        root = tmp_path / sex
        write_study(root, IMAGES[:1])
        image = next(root.rglob("*.jpg")).relative_to(root)
        table = {"image": [image], "report": ["Clear."], "patient_id": ["1"], "record_sex": [sex]}
        pd.DataFrame(table).to_csv(root / "pairs.csv", index=False)
        pairs = read_pairs(root, "csv")
        hashes.append(build_cache(pairs, root / "cache", image_size=32).data_hash)
    assert hashes[0] != hashes[1]


# --- No patient moves ---


def test_records_move_no_patient_into_another_split(tmp_path: Path, study: Path) -> None:
    plain, pairs = read_pairs(study).table, read(study).table
    columns = ["image_id", "patient_id", "study_id", "split", "official_split"]
    pd.testing.assert_frame_equal(pairs[columns], plain[columns])
    cache = build_cache(read(study), tmp_path / "cache", image_size=32)
    check_test_patients(cache.manifest)
    train = SplitData(cache, "train").manifest
    held_out = cache.manifest.loc[cache.manifest["split"] != "train", "patient_id"]
    assert not set(train["patient_id"]) & set(held_out)


def test_a_leak_is_found_with_records_too(study: Path) -> None:
    """A test patient in training, by the split file and by an image graded for edema."""
    path = study / "mimic-cxr-2.0.0-split.csv.gz"
    change(path, "a-1,90000000,80000001,train", "a-1,90000000,80000001,test")
    with pytest.raises(StudyLeakError, match="1 patient in train and test: 90000000"):
        read(study)
    assert "90000000" not in set(read(study, leaks="reject").table["patient_id"])
    change(path, "a-1,90000000,80000001,test", "a-1,90000000,80000001,train")
    graded = "subject_id,study_id,dicom_id,edema_severity\n90000000,80000001,a-1,1\n"
    (study / "consensus_image_edema_severity.csv").write_text(graded)
    table = read(study).table
    check_test_patients(table)
    assert set(table.loc[table["patient_id"] == "90000000", "split"]) == {"test"}


@pytest.mark.parametrize(
    ("admissions", "words"),
    [
        ([], "admissions.csv.gz has 0 rows, and none of a patient in the table of patients"),
        ([("p90000000", *ADMISSIONS[0][1:])], "has 1 row, and none of a patient in the table"),
        ([("90000000.0", *ADMISSIONS[0][1:])], "are its subject_id written otherwise"),
    ],
)
def test_stays_of_nobody_are_refused(study: Path, admissions: list[Row], words: str) -> None:
    write_records(study, PATIENTS, admissions, ICU_STAYS)
    with pytest.raises(DataError, match=words):
        read(study)


def test_no_stay_in_intensive_care_is_none(study: Path) -> None:
    write_records(study, PATIENTS, ADMISSIONS)
    assert not read(study).table["record_icu"].any()


def test_records_of_other_dates_are_refused(study: Path) -> None:
    """Those of another study, whose patients have the same numbers."""
    late = [
        ("90000000", f"7000{n:04}", f"2190-01-{n:02} 08:00:00", f"2190-01-{n:02} 09:00:00", "", 0)
        for n in range(1, 21)
    ]
    write_records(study, PATIENTS, late, ICU_STAYS)
    with pytest.raises(DataError, match="None of the 10 studies lies in one of the 20 admissions"):
        read(study)
    write_records(study, PATIENTS, late[1:], ICU_STAYS)  # so few may miss all images
    assert not read(study).table["record_admitted"].any()


@pytest.mark.parametrize("zone", ["Z", "z", "+00:00", " -0500"])
def test_a_time_with_a_zone_is_named(study: Path, zone: str) -> None:
    row = (*ADMISSIONS[0][:2], f"{ADMISSIONS[0][2]}{zone}", *ADMISSIONS[0][3:])
    write_records(study, PATIENTS, [row, *ADMISSIONS[1:]], ICU_STAYS)
    with pytest.raises(DataError, match="1 value of admittime .* without a zone"):
        read(study)


def test_positions_are_spelt_as_one(tmp_path: Path) -> None:
    images = [
        (*row[:-1], said) for row, said in zip(IMAGES, ["erect", "ERECT ", "Prone"], strict=False)
    ]
    study = write_study(tmp_path / "study", images)
    pairs = read(write_records(study, PATIENTS, ADMISSIONS, ICU_STAYS))
    assert pairs.table["position"].tolist() == ["Erect", "Erect", "Prone"]
    assert "1 image has a position other than Erect or Recumbent (b-0)." in pairs.notes


@pytest.mark.parametrize("age", ["inf", "1e400"])
def test_an_age_without_end_is_no_number(study: Path, age: str) -> None:
    write_records(study, [(*PATIENTS[0][:2], age, *PATIENTS[0][3:]), *PATIENTS[1:]], ADMISSIONS)
    with pytest.raises(DataError, match="1 value of anchor_age that is no number: inf|1e400"):
        read(study)
