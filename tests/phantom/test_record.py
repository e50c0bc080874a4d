"""The record that is drawn: who, how often, when; and that a join by time gets it back."""

import gzip
import shutil
from dataclasses import replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from localmi.data.cache.cache import Cache, build_cache
from localmi.data.sources.pairs import read_pairs
from localmi.errors import ConfigError
from localmi.phantom import latents, record, write
from localmi.phantom.anatomy import draw_anatomy
from localmi.phantom.config import PhantomConfig
from localmi.phantom.image import Rendering
from localmi.phantom.latents import Study, num_studies, sample_study, stream, study_time
from localmi.phantom.read import read_truth
from localmi.phantom.record import (
    ADMITTED,
    DAY,
    LENGTHS,
    ROOM,
    Stay,
    kinds_of_study,
    sample_person,
    sample_stay,
)
from localmi.phantom.record_truth import record_mi_table
from localmi.phantom.statements import check_config
from localmi.phantom.tables import ADMISSIONS, ICU_STAYS, METADATA, PATIENTS, RECORDS
from localmi.phantom.write import write_study

CONFIG = PhantomConfig(seed=3, image_size=64)
PATIENTS_DRAWN = 150
COLUMNS = {  # MIT-LCP/mimic-code, mimic-iv/buildmimic/postgres/create.sql
    PATIENTS: "subject_id gender anchor_age anchor_year anchor_year_group dod",
    ADMISSIONS: "subject_id hadm_id admittime dischtime deathtime admission_type "
    "admit_provider_id admission_location discharge_location insurance language marital_status "
    "race edregtime edouttime hospital_expire_flag",
    ICU_STAYS: "subject_id hadm_id stay_id first_careunit last_careunit intime outtime los",
}
TIMES = {
    PATIENTS: ["dod"],
    ADMISSIONS: ["admittime", "dischtime", "deathtime"],
    ICU_STAYS: ["intime", "outtime"],
}


def follow_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Days, not months, lie between two studies: the longest stays have no room everywhere."""
    monkeypatch.setattr(latents, "GAPS", range(1, 16))
    monkeypatch.setattr(record, "GAPS", range(1, 16))


def drawn(config: PhantomConfig, patients: int) -> list[list[tuple[datetime, Stay | None]]]:
    """Of each patient, the time and the stay of each study."""
    return [
        [
            (
                study_time(config, patient, number),
                sample_stay(config, sample_study(config, patient, number)),
            )
            for number in range(num_studies(config, patient))
        ]
        for patient in range(patients)
    ]


# --- What is drawn ----------------------------------------------------------------------------


def test_the_sex_is_the_anatomys_and_the_age_is_nowhere_else() -> None:
    persons = [sample_person(CONFIG, patient) for patient in range(400)]
    breast: dict[str, list[float]] = {"F": [], "M": []}
    for patient, person in enumerate(persons):
        anatomy = draw_anatomy(stream(CONFIG.seed, "anatomy", patient))
        breast[person.sex].append(anatomy.breast - 0.6 * anatomy.fat)  # fat has some of its own
    assert max(breast["M"]) < 1e-9
    assert min(breast["F"]) > 0.59
    assert len(breast["F"]) / 400 == pytest.approx(0.5, abs=0.1)
    ages = [person.age for person in persons]
    assert (min(ages), max(ages)) == (18, 95)
    assert np.mean(ages) == pytest.approx(56.5, abs=4 * 22.5 / 400**0.5)


@pytest.mark.parametrize("closely", [False, True])
def test_a_stay_is_around_its_study_and_around_no_other(
    closely: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if closely:
        follow_closely(monkeypatch)
    config = replace(CONFIG, studies_per_patient=(2, 3, 6))
    not_last = []
    for patient in drawn(config, PATIENTS_DRAWN):
        for time, stay in patient:
            if stay is None:
                continue
            low, high = LENGTHS[stay.symbol.length]
            assert low * DAY <= (stay.ends - stay.begins).total_seconds() < high * DAY
            assert stay.begins <= time <= stay.ends
            assert [stay.begins <= other <= stay.ends for other, _ in patient].count(True) == 1
            assert (stay.icu is not None) == stay.symbol.icu
            if stay.icu:
                assert stay.begins <= stay.icu[0] <= time <= stay.icu[1] <= stay.ends
        moments = [at for _, stay in patient if stay for at in (stay.begins, stay.ends)]
        assert all(one < other for one, other in pairwise(moments))
        not_last += [stay for _, stay in patient[:-1] if stay]
    assert not any(stay.symbol.died for stay in not_last)
    assert {stay.symbol.length for stay in not_last} == {0, 1, 2, 3}


@pytest.mark.parametrize("closely", [False, True])
def test_kinds_of_studies_come_as_often_as_counted(
    closely: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if closely:
        follow_closely(monkeypatch)
    config = replace(CONFIG, studies_per_patient=(1, 3, 4))
    last, middle, close = kinds_of_study(config)
    assert last.share + middle.share + close.share == pytest.approx(1)
    patients = drawn(config, PATIENTS_DRAWN)
    total = sum(map(len, patients))
    assert last.share == pytest.approx(PATIENTS_DRAWN / total, abs=0.03)
    between = [
        (patient[number + 1][0].date() - patient[number - 1][0].date()).days
        for patient in patients
        for number in range(1, len(patient) - 1)
    ]
    found = sum(days < ROOM for days in between) / total
    deviation = (close.share * (1 - close.share) / total) ** 0.5
    assert found == pytest.approx(close.share, abs=4 * deviation)
    assert (close.share > 0.1) == closely
    admitted = sum(stay is not None for patient in patients for _, stay in patient) / total
    assert admitted == pytest.approx(ADMITTED * (1 - close.share), abs=4 * 0.36 / total**0.5)


def test_a_stay_does_not_depend_on_how_many_there_are() -> None:
    assert drawn(CONFIG, 3) == drawn(CONFIG, 5)[:3]
    assert drawn(CONFIG, 5) != drawn(replace(CONFIG, seed=4), 5)


@pytest.mark.parametrize("counts", [(), (0, 1), (1, 11)])
def test_counts_of_studies_that_cannot_be_are_refused(counts: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"studies_per_patient is .* each from 1 to 10"):
        check_config(replace(CONFIG, studies_per_patient=counts))


# --- What is written --------------------------------------------------------------------------


def render_nothing(study: Study, config: PhantomConfig, number: int = 0) -> Rendering:
    return Rendering(np.zeros((8, 8), np.uint8), {})


def written(out: Path, config: PhantomConfig, patients: int) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write.phantom_image, "render", render_nothing)
        write_study(out, config, patients)
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("record") / "study", CONFIG, PATIENTS_DRAWN)


def table(folder: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / name, parse_dates=TIMES.get(name, []))


def joined(folder: Path) -> pd.DataFrame:
    """What a reader of the tables finds around each study, by time alone."""
    images = pd.read_csv(folder / METADATA, dtype={"StudyDate": str}).drop_duplicates("study_id")
    clock = images["StudyTime"].map("{:010.3f}".format)
    images["time"] = pd.to_datetime(images["StudyDate"] + clock, format="%Y%m%d%H%M%S.%f")
    patients = table(folder, PATIENTS).set_index("subject_id")
    admissions, icu = table(folder, ADMISSIONS), table(folder, ICU_STAYS)
    rows = []
    for study in images.itertuples():
        person = patients.loc[study.subject_id]
        row = {"subject_id": study.subject_id, "study_id": study.study_id}
        row |= {"sex": person["gender"], "admitted": 0, "icu": "", "died": "", "length": ""}
        row["age"] = person["anchor_age"] + study.time.year - person["anchor_year"]
        stays = admissions[
            (admissions["subject_id"] == study.subject_id)
            & (admissions["admittime"] <= study.time)
            & (study.time <= admissions["dischtime"])
        ]
        if len(stays):
            stay = stays.loc[stays["admittime"].idxmax()]
            days = (stay["dischtime"] - stay["admittime"]).total_seconds() / DAY
            in_icu = icu[(icu["intime"] <= study.time) & (study.time <= icu["outtime"])]
            row["admitted"], row["died"] = 1, stay["hospital_expire_flag"]
            row["icu"] = int((in_icu["hadm_id"] == stay["hadm_id"]).any())
            row["length"] = sum(days >= low for low, _ in LENGTHS[1:])
        rows.append(row)
    return pd.DataFrame(rows)


def assert_read_back(folder: Path) -> None:
    truth, found = table(folder, RECORDS), joined(folder)
    known = truth["age"] == found["age"]
    anchor = found["subject_id"].map(table(folder, PATIENTS).set_index("subject_id")["anchor_age"])
    assert (known | (anchor == 91)).all()
    columns = ["subject_id", "study_id", "sex", "admitted"]
    pd.testing.assert_frame_equal(truth[columns], found[columns])
    for column in ("icu", "died", "length"):
        expected = truth[column].fillna(-1).astype(int).tolist()
        assert expected == found[column].replace("", -1).astype(int).tolist(), column


def test_a_reader_that_joins_by_time_gets_every_stay_back(folder: Path) -> None:
    assert_read_back(folder)
    truth = table(folder, RECORDS)
    assert len(truth) == sum(num_studies(CONFIG, patient) for patient in range(PATIENTS_DRAWN))
    for column, least in (("admitted", 200), ("icu", 40), ("died", 5), ("length", 200)):
        assert truth[column].sum() > least


def test_also_where_studies_follow_closely(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow_closely(monkeypatch)
    config = replace(CONFIG, studies_per_patient=(3, 6))
    assert_read_back(written(tmp_path / "study", config, 40))


def test_tables_have_mimic_ivs_columns_and_ids_of_their_own(folder: Path) -> None:
    tables = {name: table(folder, name) for name in COLUMNS}
    for name, columns in COLUMNS.items():
        assert [*tables[name]] == columns.split()
        assert (folder / name).read_bytes()[4:8] == bytes(4)  # gzip's time
        assert tables[name]["subject_id"].is_monotonic_increasing
    assert len(tables[PATIENTS]) == PATIENTS_DRAWN
    admissions, icu = tables[ADMISSIONS], tables[ICU_STAYS]
    assert admissions["hadm_id"].is_unique
    assert admissions["hadm_id"].between(70_000_000, 79_999_999).all()
    assert icu["stay_id"].is_unique
    assert icu["stay_id"].between(60_000_000, 69_999_999).all()
    assert set(icu["hadm_id"]) <= set(admissions["hadm_id"])
    days = (icu["outtime"] - icu["intime"]).dt.total_seconds() / DAY
    np.testing.assert_allclose(icu["los"], days, atol=1e-6)
    text = gzip.decompress((folder / ADMISSIONS).read_bytes()).decode().splitlines()[1]
    assert pd.Series(text.split(",")[2:4]).str.fullmatch(r"2\d{3}(-\d\d){2} \d\d(:\d\d){2}").all()


def test_the_dead_do_not_come_back(folder: Path) -> None:
    admissions = table(folder, ADMISSIONS)
    patients = table(folder, PATIENTS).set_index("subject_id")
    died = admissions[admissions["hospital_expire_flag"] == 1].set_index("subject_id")
    assert len(died) > 5
    pd.testing.assert_series_equal(died["deathtime"], died["dischtime"], check_names=False)
    assert died["deathtime"].dt.normalize().equals(patients.loc[died.index, "dod"])
    assert patients["dod"].count() == admissions["deathtime"].count() == len(died)
    later = admissions[["subject_id", "admittime"]].join(died["deathtime"], on="subject_id")
    assert not (later["admittime"] > later["deathtime"]).any()


def test_ages_above_89_are_91(folder: Path) -> None:
    persons = [sample_person(CONFIG, patient) for patient in range(PATIENTS_DRAWN)]
    ages = table(folder, PATIENTS)["anchor_age"]
    assert ages.tolist() == [each.age if each.age < 90 else 91 for each in persons]
    assert (ages == 91).sum() > 3
    assert not (ages == 90).any()


def test_what_would_say_something_is_the_same_for_all(folder: Path) -> None:
    blank = {"anchor_year_group"} | {*COLUMNS[ADMISSIONS].split()[6:12], "edregtime", "edouttime"}
    constant = {"admission_type", "race", "first_careunit", "last_careunit"}
    for name in COLUMNS:
        columns = table(folder, name)
        assert columns[[*blank & {*columns}]].isna().all(axis=None)
        assert (columns[[*constant & {*columns}]].nunique() == 1).all()


def test_a_reversed_record_changes_the_record_alone(folder: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, record_reversed=True)
    other = written(tmp_path / "study", config, PATIENTS_DRAWN)
    sums = [(each / "SHA256SUMS").read_text().splitlines() for each in (folder, other)]
    changed = {line.split("  ")[1] for line in {*sums[0]} ^ {*sums[1]}}
    assert changed == {
        PATIENTS,
        ADMISSIONS,
        ICU_STAYS,
        RECORDS,
        "DATA_CARD.md",
        "truth/truth.json",
    }
    summaries = [read_truth(each).summary for each in (folder, other)]
    assert [each["config"].get("record_reversed") for each in summaries] == [None, True]
    for each, used in zip(summaries, (CONFIG, config), strict=True):
        assert each["true_record_mi_nats"] == record_mi_table(used)
    assert read_truth(other).config.record_reversed
    in_icu = [len(table(each, ICU_STAYS)) for each in (folder, other)]
    assert in_icu[0] > 2 * in_icu[1] > 0
    cards = [(each / "DATA_CARD.md").read_text() for each in (folder, other)]
    assert ["less likely" in card for card in cards] == [False, True]


def test_a_cache_does_not_know_of_the_record(tiny_cache: Cache, tmp_path: Path) -> None:
    study = tmp_path / "study"
    shutil.copytree(tiny_cache.folder.parent / "study", study)
    for name in ("hosp", "icu"):
        shutil.rmtree(study / name)
    cache = build_cache(read_pairs(study), tmp_path / "cache", image_size=64)
    assert cache.data_hash == tiny_cache.data_hash
