"""In front or at the back: an attribute more, which changes nothing where nobody asks for it."""

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from localmi.errors import ConfigError
from localmi.phantom.config import DEPTHS, WITH_DEPTH, PhantomConfig, ReportNoise
from localmi.phantom.image import render
from localmi.phantom.latents import Study, num_studies, sample_study
from localmi.phantom.report import Report, compose_report
from localmi.phantom.statements import check_config
from localmi.phantom.tables import dicom_id
from localmi.phantom.write import JPEG_QUALITY, patient_folder, write_study

EXAMPLE = Path(__file__).parents[2] / "data" / "example"
LATERALS = PhantomConfig(lateral_view=0.6)
SAID = replace(LATERALS, depth_said=1.0)


def studies(config: PhantomConfig, patients: int = 150) -> list[Study]:
    return [
        sample_study(config, patient, number)
        for patient in range(patients)
        for number in range(num_studies(config, patient))
    ]


def reports(config: PhantomConfig) -> list[Report]:
    return [compose_report(study, config) for study in studies(config)]


def without_depth(study: Study) -> Study:
    findings = tuple(
        replace(each, attributes={k: v for k, v in each.attributes.items() if k != "depth"})
        for each in study.findings
    )
    return replace(study, findings=findings, lateral=False)


@pytest.mark.parametrize("config", [PhantomConfig(), LATERALS], ids=["default", "with laterals"])
def test_the_example_keeps_its_bytes(config: PhantomConfig) -> None:
    lines = (EXAMPLE / "SHA256SUMS").read_text().splitlines()
    stored = {name: digest for digest, name in (line.split("  ") for line in lines)}
    for patient in range(4):
        study = sample_study(config, patient, 0)
        folder = f"{patient_folder(study)}/s{study.study_id}"
        report = compose_report(study, config).text.encode()
        assert hashlib.sha256(report).hexdigest() == stored[f"{folder}.txt"]
        file = io.BytesIO()
        Image.fromarray(render(study, config).image).save(file, "jpeg", quality=JPEG_QUALITY)
        name = f"{folder}/{dicom_id(config, study, 0)}.jpg"
        assert hashlib.sha256(file.getvalue()).hexdigest() == stored[name]


def test_the_truth_of_a_study_without_laterals_is_laid_out_as_before(tmp_path: Path) -> None:
    write_study(tmp_path / "study", PhantomConfig(image_size=64), 3)
    new, old = (folder / "truth" for folder in (tmp_path / "study", EXAMPLE))
    config, stored = (json.loads((f / "truth.json").read_text())["config"] for f in (new, old))
    assert config == stored | {"image_size": 64}
    for name in ("latents.csv", "sentences.csv"):
        header, stored = ((f / name).read_text().splitlines()[0] for f in (new, old))
        assert header == stored


def test_all_else_of_the_hidden_state_stays() -> None:
    plain, deep = studies(PhantomConfig()), studies(SAID)
    assert [without_depth(study) for study in deep] == plain
    assert all("depth" not in f.attributes for study in plain for f in study.findings)


def test_depths_and_laterals_come_as_often_as_the_config_says() -> None:
    drawn = studies(LATERALS, 600)
    assert sum(study.lateral for study in drawn) / len(drawn) == pytest.approx(0.6, abs=0.06)
    depths = {}
    for study in drawn:
        for finding in study.findings:
            assert ("depth" in finding.attributes) == (finding.name in WITH_DEPTH)
            if finding.name in WITH_DEPTH:
                depths.setdefault(finding.name, []).append(finding.attributes["depth"])
    for name in WITH_DEPTH:
        assert set(depths[name]) == set(DEPTHS)
        share = depths[name].count("anterior") / len(depths[name])
        assert share == pytest.approx(0.5, abs=0.12)


def test_a_report_says_the_depth_and_is_else_the_same() -> None:
    for study, plain, deep in zip(studies(SAID), reports(LATERALS), reports(SAID), strict=True):
        for before, after in zip(plain.sentences, deep.sentences, strict=True):
            says = before.finding in WITH_DEPTH and before.polarity in ("present", "uncertain")
            assert ("depth" in after.attributes) == says
            if not says:
                assert after == before
                continue
            depth = study.present[before.finding].attributes["depth"]
            assert after.attributes == {**before.attributes, "depth": depth}
            assert depth in after.text.lower()
            left_over = after.text.lower().replace(f", {depth}ly", "").replace(f"{depth} ", "")
            assert left_over == before.text.lower()


def test_the_share_of_reports_that_say_it() -> None:
    config = replace(SAID, depth_said=0.3)
    said = [
        "depth" in sentence.attributes
        for report in reports(config)
        for sentence in report.sentences
        if sentence.finding in WITH_DEPTH and sentence.polarity != "absent"
    ]
    assert sum(said) / len(said) == pytest.approx(0.3, abs=0.1)


def test_an_invented_finding_has_a_depth_that_tells_nothing() -> None:
    config = replace(SAID, noise=ReportNoise(flip=0.5))
    invented = [
        sentence.attributes["depth"]
        for study, report in zip(studies(config), reports(config), strict=True)
        for sentence in report.sentences
        if sentence.finding in WITH_DEPTH
        and sentence.finding not in study.present
        and sentence.polarity != "absent"
    ]
    assert invented.count("anterior") / len(invented) == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("name", ["lateral_view", "depth_said"])
@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_impossible_shares_are_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{name} is {value}"):
        check_config(replace(PhantomConfig(), **{name: value}))
