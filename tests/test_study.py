"""From the name of a folder to a cache."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from localmi import study as prepare
from localmi.data.sources.pairs import reasons
from localmi.errors import DataError, StudyLeakError
from localmi.phantom.config import PhantomConfig
from localmi.phantom.write import write_study
from localmi.study import example_dir, load_study, load_truth


def write_csv(folder: Path, **columns: list[str]) -> Path:
    """Three patients with one image each; the first image file is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ["a.png", "b.png", "c.png"]
    for number, name in enumerate(names[1:]):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 32), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    table = {"image": names, "report": ["Clear lungs."] * 3, "patient_id": ["1", "2", "3"]}
    pd.DataFrame({**table, **columns}).to_csv(folder / "pairs.csv", index=False)
    return folder


def test_the_cache_lies_beside_the_data_and_is_found_again(tmp_path: Path) -> None:
    study = write_csv(tmp_path / "ours")
    cache = load_study(study, image_size=32)
    assert cache.folder == tmp_path / "cache" / "ours-32"
    assert cache.images[0].shape == (32, 32)
    said = "put it where the note says that it was looked for"
    assert reasons(cache.rejected) == f"Rejected 1 image: 1 for 'no image file' (a.png): {said}."
    written = (cache.folder / "meta.json").stat().st_mtime_ns
    by_file = load_study(study / "pairs.csv", image_size=32)  # the same study, named by its file
    assert by_file.folder == cache.folder
    assert (cache.folder / "meta.json").stat().st_mtime_ns == written


def test_records_have_a_cache_of_their_own(tmp_path: Path) -> None:
    config = PhantomConfig(seed=3, image_size=64)
    study = tmp_path / "hospital"
    write_study(study, config, 9, fractions=(0.4, 0.3, 0.3))
    without = load_study(study, image_size=64)
    cache = load_study(study, image_size=64, records_dir=study)
    assert [without.folder.name, cache.folder.name] == ["hospital-64", "hospital-records-64"]
    assert cache.records_hash
    assert (cache.data_hash, without.records_hash) == (without.data_hash, "")
    assert load_study(cache.folder, image_size=64, records_dir=study).records_hash
    with pytest.raises(DataError, match="was prepared without records, and nothing is added"):
        load_study(without.folder, image_size=64, records_dir=study)


def test_other_views_have_a_cache_of_their_own(tmp_path: Path) -> None:
    study = tmp_path / "hospital"
    config = PhantomConfig(seed=3, image_size=64, lateral_view=1.0)
    write_study(study, config, 9, fractions=(0.4, 0.3, 0.3))
    both = load_study(study, image_size=64, views=("PA", "AP", "LATERAL"))
    frontal = load_study(study, image_size=64)
    assert [both.folder.name, frontal.folder.name] == ["hospital-AP-LATERAL-PA-64", "hospital-64"]
    assert len(both.manifest) > len(frontal.manifest) > 0
    with pytest.raises(DataError, match="has the views .*LATERAL.*, asked for is"):
        load_study(study, both.folder, image_size=64)


def test_a_named_cache_folder_is_used(tmp_path: Path) -> None:
    cache = load_study(write_csv(tmp_path / "ours"), tmp_path / "mine", image_size=32)
    assert cache.folder == tmp_path / "mine"
    assert not (tmp_path / "cache").exists()


def test_nothing_named_means_the_example_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "DATA", tmp_path)
    write_csv(tmp_path / "example")
    assert example_dir() == tmp_path / "example"
    assert load_study(image_size=32).folder == tmp_path / "cache" / "example-32"


def test_a_missing_example_study_says_how_to_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "DATA", tmp_path)
    with pytest.raises(DataError, match=r"example study is missing.*make example"):
        load_study()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere does not exist"):
        load_study(tmp_path / "nowhere")


def test_a_leak_stops_before_anything_is_written(tmp_path: Path) -> None:
    study = write_csv(
        tmp_path / "ours", patient_id=["1", "2", "2"], split=["train", "train", "test"]
    )
    with pytest.raises(StudyLeakError, match="1 patient in train and test: 2"):
        load_study(study, image_size=32)
    assert not (tmp_path / "cache").exists()


def test_no_place_for_the_cache_says_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = write_csv(tmp_path / "ours")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(DataError, match=r"cannot be written to .*ours-256.*Set cache_dir"):
        load_study(study)


def test_a_prepared_cache_is_opened_where_a_study_is_named(tmp_path: Path) -> None:
    study = write_csv(tmp_path / "ours")
    made = load_study(study, tmp_path / "mine", image_size=32)
    shutil.rmtree(study)
    opened = load_study(tmp_path / "mine", image_size=32)
    assert opened.data_hash == made.data_hash
    assert load_truth(tmp_path / "mine") is None
    with pytest.raises(DataError, match="images of 32 pixels, image_size is 256. Set image_size"):
        load_study(tmp_path / "mine")
    with pytest.raises(DataError, match="is a prepared cache: there is nothing to keep"):
        load_study(tmp_path / "mine", tmp_path / "other", image_size=32)


def test_only_a_synthetic_study_has_a_truth(tmp_path: Path) -> None:
    write_study(tmp_path / "made", PhantomConfig(image_size=64), num_patients=3)
    truth = load_truth(tmp_path / "made")
    assert truth is not None
    assert len(truth.latents) >= 3
    assert load_truth(write_csv(tmp_path / "ours")) is None
    assert load_truth(tmp_path / "ours" / "pairs.csv") is None


def test_an_incomplete_truth_is_named(tmp_path: Path) -> None:
    (tmp_path / "truth").mkdir()
    with pytest.raises(DataError, match=r"has no truth/sentences\.csv"):
        load_truth(tmp_path)
