"""A study with laterals on disk: files, tables, masks, and the cache made of it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from localmi.__main__ import app
from localmi.data.batches import SplitData
from localmi.data.cache.cache import build_cache, open_cache
from localmi.data.images import read_image
from localmi.data.sources.pairs import read_pairs
from localmi.errors import ConfigError
from localmi.phantom.config import FINDINGS, WITH_DEPTH, PhantomConfig
from localmi.phantom.latents import Study, num_studies, sample_study
from localmi.phantom.lateral import render_lateral
from localmi.phantom.read import Truth, finding_sentences, read_truth
from localmi.phantom.redraw import redraw
from localmi.phantom.tables import CONSENSUS, METADATA, dicom_id
from localmi.phantom.truth import true_mi
from localmi.phantom.write import patient_folder, write_study

PATIENTS = 8
CONFIG = PhantomConfig(seed=2, image_size=64, lateral_view=0.6, depth_said=1.0)
STUDIES = [
    sample_study(CONFIG, patient, number)
    for patient in range(PATIENTS)
    for number in range(num_studies(CONFIG, patient))
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("laterals") / "study"
    write_study(out, CONFIG, PATIENTS, fractions=(0.5, 0.25, 0.25))
    return out


@pytest.fixture(scope="module")
def truth(folder: Path) -> Truth:
    return read_truth(folder)


def lateral_id(study: Study) -> str:
    return dicom_id(CONFIG, study, study.num_images)


def test_laterals_are_images_of_their_studies(folder: Path) -> None:
    metadata = pd.read_csv(folder / METADATA, dtype=str).set_index("dicom_id")
    shown = [study for study in STUDIES if study.lateral]
    assert 0 < len(shown) < len(STUDIES)
    rows = metadata[metadata["ViewPosition"] == "LATERAL"]
    assert {*rows.index} == {lateral_id(study) for study in shown}
    assert {*rows["ViewCodeSequence_CodeMeaning"]} == {"lateral"}
    for study in shown:
        name = lateral_id(study)
        path = folder / patient_folder(study) / f"s{study.study_id}" / f"{name}.jpg"
        with Image.open(path) as stored:
            pixels = np.asarray(stored, float)
        assert abs(pixels - render_lateral(study, CONFIG).image).mean() < 3  # JPEG
        assert metadata.loc[name, "study_id"] == str(study.study_id)
    graded = pd.read_csv(folder / CONSENSUS, dtype=str)["dicom_id"]
    assert len(graded) > 0
    assert not {*graded} & {*rows.index}


def test_the_truth_knows_laterals_depths_and_masks(truth: Truth) -> None:
    assert truth.config == replace(CONFIG, fillers=[1, 2], **_lists(truth))
    latents = truth.latents.set_index("study_id")
    for study in STUDIES:
        row = latents.loc[str(study.study_id)]
        assert row["lateral"] == study.lateral
        for name in WITH_DEPTH:
            found = study.present.get(name)
            assert row[f"{name}_depth"] == (found.attributes["depth"] if found else "")
        if study.lateral:
            for name, mask in render_lateral(study, CONFIG).masks.items():
                np.testing.assert_array_equal(truth.mask(lateral_id(study), name), mask)
    said = truth.sentences["finding"].isin(WITH_DEPTH) & (truth.sentences["polarity"] != "absent")
    assert ((truth.sentences["depth"] != "") == said).all()
    assert truth.summary["true_mi_nats"]["report"] == true_mi(CONFIG, "report")


def _lists(truth: Truth) -> dict[str, list[float]]:
    """What JSON gives back as lists."""
    stored = truth.summary["config"]
    return {name: stored[name] for name in ("contrast", "studies_per_patient")}


def test_frontal_images_and_reports_do_not_depend_on_laterals(
    folder: Path, tmp_path: Path
) -> None:
    config = replace(CONFIG, lateral_view=0.0, depth_said=0.0)
    write_study(tmp_path / "plain", config, PATIENTS, fractions=(0.5, 0.25, 0.25))
    silent = replace(CONFIG, depth_said=0.0)
    write_study(tmp_path / "silent", silent, PATIENTS, fractions=(0.5, 0.25, 0.25))
    for file in (tmp_path / "plain" / "files").rglob("*.*"):
        name = file.relative_to(tmp_path / "plain")
        assert (tmp_path / "silent" / name).read_bytes() == file.read_bytes()
        if file.suffix == ".jpg":
            assert (folder / name).read_bytes() == file.read_bytes()


def test_same_bytes_with_two_workers(folder: Path, tmp_path: Path) -> None:
    write_study(tmp_path / "two", CONFIG, PATIENTS, fractions=(0.5, 0.25, 0.25), workers=2)
    one, two = (each / "SHA256SUMS" for each in (folder, tmp_path / "two"))
    assert one.read_text() == two.read_text()


def test_the_card_says_so(folder: Path) -> None:
    card = (folder / "DATA_CARD.md").read_text()
    assert "a lateral view in 60% of the studies" in card
    assert "100% of the sentences" in card


def test_a_lateral_is_drawn_again_without_a_finding(folder: Path, truth: Truth) -> None:
    study = next(each for each in STUDIES if each.lateral and "pneumonia" in each.present)
    name, key = lateral_id(study), str(study.study_id)
    path = folder / patient_folder(study) / f"s{key}" / f"{name}.jpg"
    drawn = redraw(truth, key, name, size=64)
    np.testing.assert_array_equal(drawn, read_image(path, 64).pixels)
    other = redraw(truth, key, name, size=64, without="pneumonia")
    change, mask = abs(other.astype(float) - drawn), truth.mask(name, "pneumonia")
    assert change[mask].mean() > 1.5 * change[~mask].mean()


@pytest.mark.parametrize(("views", "laterals"), [("", False), ("AP,PA,LATERAL,LL", True)])
def test_the_cache_has_the_views_that_are_asked_for(
    folder: Path, tmp_path: Path, views: str, laterals: bool
) -> None:
    words = ["prepare", "--data-dir", str(folder), "--out", str(tmp_path / "c")]
    words += ["--image-size", "32"] + (["--views", views] if views else [])
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    manifest = open_cache(tmp_path / "c").manifest
    shown = manifest.loc[manifest["view"] == "LATERAL", "image_id"]
    assert {*shown} == (
        {lateral_id(each) for each in STUDIES if each.lateral} if laterals else set()
    )
    assert len(manifest) - len(shown) == sum(study.num_images for study in STUDIES)
    assert ("view LATERAL" in done.output) != laterals


def test_a_sentence_is_shown_in_a_frontal_image(
    folder: Path, tmp_path: Path, truth: Truth
) -> None:
    views = ("AP", "PA", "LATERAL")
    build_cache(read_pairs(folder, views=views), tmp_path / "c", image_size=32)
    data = SplitData(open_cache(tmp_path / "c"), "train")
    spoken = finding_sentences(truth, data)
    shown = data.manifest.iloc[spoken["image"]]["view"]
    assert {*shown} <= {"AP", "PA"}
    assert {*spoken["study_id"]} >= {str(each.study_id) for each in STUDIES if each.lateral} & {
        *data.manifest["study_id"]
    } & {*truth.sentences.loc[truth.sentences["finding"].isin(FINDINGS), "study_id"]}


def test_impossible_shares_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lateral_view is 1\.5"):
        write_study(tmp_path / "new", replace(CONFIG, lateral_view=1.5), PATIENTS)
    assert list(tmp_path.iterdir()) == []
    words = ["phantom", "--out", str(tmp_path / "new"), "--depth-said", "-1"]
    refused = CliRunner().invoke(app, words)
    assert refused.exit_code == 2
    assert refused.stderr.startswith("ConfigError: depth_said is -1")
