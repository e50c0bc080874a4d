"""The lateral views: the same findings at the same height, in front or at the back."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from localmi.errors import ConfigError
from localmi.phantom.config import (
    ATTRIBUTES,
    DEPTHS,
    FINDINGS,
    WITH_DEPTH,
    PhantomConfig,
    said_attributes,
)
from localmi.phantom.image import Film, expose, render
from localmi.phantom.latents import Finding, Study, num_studies, sample_study
from localmi.phantom.lateral import expose_lateral, render_lateral
from localmi.phantom.raster import Mask

CONFIG = PhantomConfig(seed=11, image_size=128, lateral_view=1.0, depth_said=1.0)
ZONES = ("upper", "mid", "lower")


def study(*names: str, patient: int = 3, contrast: float = 1.0, **attributes: str) -> Study:
    """A study with the named findings; `attributes` replace a finding's first values."""
    findings = []
    for name in names:
        known = said_attributes(CONFIG, name)
        first = {attribute: next(iter(values)) for attribute, values in known.items()}
        given = {key: value for key, value in attributes.items() if key in first}
        findings.append(Finding(name, first | given, contrast))
    return Study(patient, 0, "PA", tuple(findings), 1, lateral=True)


def film(*names: str, **options: Any) -> Film:
    return expose_lateral(study(*names, **options), CONFIG)


def centre(mask: Mask) -> tuple[float, float]:
    """Mean column and row of a mask, as parts of the image."""
    rows, columns = np.nonzero(mask)
    return float(columns.mean() / mask.shape[1]), float(rows.mean() / mask.shape[0])


@pytest.mark.parametrize("size", [128, 256])
def test_an_image_is_equalised_and_the_same_every_time(size: int) -> None:
    config = replace(CONFIG, image_size=size)
    one, other = (render_lateral(study("edema", "pneumonia"), config) for _ in range(2))
    assert one.image.tobytes() == other.image.tobytes()
    assert one.image.shape == (size, size)
    assert one.image.dtype == np.uint8
    assert (one.image.min(), one.image.max()) == (0, 255)
    assert {*one.masks} == {"edema", "pneumonia"}
    for name, mask in one.masks.items():
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, other.masks[name])


def test_patients_and_views_differ() -> None:
    mine = render_lateral(study(), CONFIG).image
    assert not np.array_equal(mine, render_lateral(study(patient=4), CONFIG).image)
    assert not np.array_equal(mine, render(study(), CONFIG).image)


@pytest.mark.parametrize("patient", range(4))
def test_it_is_a_chest_from_the_side(patient: int) -> None:
    """Air around the body, in the lungs less, behind and before the heart more than in it, and
    the abdomen is brightest."""
    image = render_lateral(study(patient=patient), CONFIG).image.astype(float)
    heart = film("cardiomegaly", level="mild", patient=patient).masks["cardiomegaly"]
    rows, columns = np.nonzero(heart)
    assert columns.mean() < 0.52 * 128  # in front of the middle
    row = int(np.quantile(rows, 0.3))
    inside = np.nonzero(heart[row])[0]
    behind = image[row, inside[-1] + 3 : inside[-1] + 12].min()
    assert behind < image[row, inside].mean() - 15
    assert image[-12:, inside].mean() > image[row, inside].mean() + 30
    assert image[20:, :4].max() < 20
    assert image[40:, -4:].max() < 20


@pytest.mark.parametrize("name", FINDINGS)
def test_a_finding_has_a_mask_inside_the_body_whatever_its_attributes(name: str) -> None:
    normal = film().density
    for attribute, values in said_attributes(CONFIG, name).items():
        for value in values:
            mask = film(name, contrast=0.6, **{attribute: value}).masks[name]
            assert 0.002 < mask.mean() < 0.4, (attribute, value)
            assert (normal[mask] > 0).mean() > 0.98, (attribute, value)


def test_findings_lie_as_high_as_in_the_frontal_image() -> None:
    for name in FINDINGS:
        heights = []
        for patient in range(6):
            for zone in ZONES if "zone" in ATTRIBUTES[name] else ("mid",):
                own = study(name, patient=patient, zone=zone, side="right")
                masks = (expose(own, CONFIG).masks[name], expose_lateral(own, CONFIG).masks[name])
                heights.append([centre(mask)[1] for mask in masks])
        frontal, lateral = np.array(heights).T
        assert abs(lateral - frontal).mean() < 0.07, name
        if name in WITH_DEPTH:
            assert np.corrcoef(frontal, lateral)[0, 1] > 0.9, name


@pytest.mark.parametrize("name", WITH_DEPTH)
@pytest.mark.parametrize("zone", ZONES)
def test_depth_is_where_a_finding_lies(name: str, zone: str) -> None:
    for patient in range(4):
        anterior, posterior = (
            centre(film(name, zone=zone, depth=depth, patient=patient).masks[name])
            for depth in ("anterior", "posterior")
        )
        assert anterior[0] + 0.06 < posterior[0], patient  # 2 cm at least
        assert abs(anterior[1] - posterior[1]) < 0.07


@pytest.mark.parametrize("name", WITH_DEPTH)
def test_depth_is_read_off_the_image(name: str) -> None:
    """Before or behind the body's middle at its height: where the film gains, and the mask."""
    by_film, by_mask = [], []
    for patient in range(20):
        normal = film(patient=patient).density
        for depth in DEPTHS:
            options = {"zone": ZONES[patient % 3], "side": ("left", "right")[patient % 2]}
            own = film(name, depth=depth, patient=patient, contrast=0.6, **options)
            column, row = centre(own.masks[name])
            body = np.nonzero(normal[int(row * 128)] > 0.02)[0] / 128
            gain = np.clip(own.density - normal, 0, None).sum(axis=0)
            place = (gain * np.arange(128)).sum() / gain.sum() / 128
            for seen, where in ((by_film, place), (by_mask, column)):
                seen.append((where > body.mean()) == (depth == "posterior"))
    assert np.mean(by_film) > 0.9
    assert np.mean(by_mask) > 0.9


@pytest.mark.parametrize("name", [name for name in FINDINGS if name != "cardiomegaly"])
def test_a_finding_changes_the_film_mainly_inside_its_mask(name: str) -> None:
    for patient in (2, 7):
        own = film(name, patient=patient)
        change = abs(own.density - film(patient=patient).density)
        assert change[own.masks[name]].mean() > 4 * change[~own.masks[name]].mean()


def test_a_large_heart_reaches_further_back_and_a_pneumothorax_is_hardly_seen() -> None:
    hearts = [
        film("cardiomegaly", level=level).masks["cardiomegaly"]
        for level in ("mild", "moderate", "severe")
    ]
    ends = [np.nonzero(mask.any(axis=0))[0][-1] for mask in hearts]
    assert ends[0] < ends[1] < ends[2]
    normal = film().density
    change = {
        name: abs(own.density - normal)[own.masks[name]].mean()
        for name in ("pneumothorax", "pleural_effusion")
        if (own := film(name, level="large"))
    }
    assert 0 < change["pneumothorax"] < 0.2 * change["pleural_effusion"]


def test_an_effusion_fills_the_posterior_gutter() -> None:
    small, large = (film("pleural_effusion", level=each) for each in ("small", "large"))
    rows, columns = np.nonzero(small.masks["pleural_effusion"])
    assert np.median(columns) > 64  # at the back
    assert large.masks["pleural_effusion"].sum() > 2 * len(rows)
    lowest = columns[rows == rows.max()]
    assert lowest.min() > 70


def test_the_side_is_not_visible() -> None:
    """Left and right give the same place, up to where in the lung the finding happens to lie."""
    for name in ("consolidation", "pleural_effusion", "atelectasis"):
        left, right = (film(name, side=side).masks[name] for side in ("left", "right"))
        assert abs(np.subtract(centre(left), centre(right))).max() < 0.07, name


def test_the_frontal_image_does_not_change_with_depth() -> None:
    front, back = (study("consolidation", "pneumonia", depth=depth) for depth in DEPTHS)
    assert render(front, CONFIG).image.tobytes() == render(back, CONFIG).image.tobytes()
    assert not np.array_equal(
        render_lateral(front, CONFIG).image, render_lateral(back, CONFIG).image
    )


def test_any_study_that_is_sampled_can_be_drawn() -> None:
    for patient in range(12):
        for number in range(num_studies(CONFIG, patient)):
            drawn = sample_study(CONFIG, patient, number)
            masks = render_lateral(drawn, CONFIG).masks
            assert {*masks} == {*drawn.present}
            assert all(mask.any() for mask in masks.values())


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no lateral view"):
        render_lateral(replace(study(), lateral=False), CONFIG)
    known = {key: next(iter(values)) for key, values in ATTRIBUTES["pneumonia"].items()}
    for depth in ({}, {"depth": "deep"}):
        bad = replace(study(), findings=(Finding("pneumonia", known | depth, 1.0),))
        with pytest.raises(ConfigError, match="needs its depth, anterior or posterior"):
            render_lateral(bad, CONFIG)
    with pytest.raises(ConfigError, match="image_size"):
        render_lateral(study(), replace(CONFIG, image_size=100))
