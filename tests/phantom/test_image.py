"""The synthetic radiographs: reproducible, with findings where their masks say they are."""

import dataclasses
from typing import Any

import numpy as np
import pytest

from localmi.errors import ConfigError
from localmi.phantom.config import ATTRIBUTES, FINDINGS, PhantomConfig
from localmi.phantom.image import Film, equalise, expose, render
from localmi.phantom.latents import Finding, Study, sample_study

CONFIG = PhantomConfig(seed=11, image_size=128)
FIRST = {
    name: {attribute: next(iter(values)) for attribute, values in attributes.items()}
    for name, attributes in ATTRIBUTES.items()
}


def study(
    *names: str, patient: int = 3, view: str = "PA", contrast: float = 1.0, **attributes: str
):
    """A study with the named findings; `attributes` replace a finding's first values."""
    findings = tuple(
        Finding(name, {**FIRST[name], **{k: v for k, v in attributes.items() if k in FIRST[name]}},
                contrast)
        for name in names
    )  # fmt: skip
    return Study(patient=patient, number=0, view=view, findings=findings, num_images=1)


def image(*names: str, **options: Any) -> np.ndarray:
    return render(study(*names, **options), CONFIG).image


def film(*names: str, **options: Any) -> Film:
    return expose(study(*names, **options), CONFIG)


def centre(mask: np.ndarray) -> tuple[float, float]:
    """Mean column and row of a mask, as parts of the image."""
    rows, columns = np.nonzero(mask)
    return float(columns.mean() / mask.shape[1]), float(rows.mean() / mask.shape[0])


@pytest.mark.parametrize("size", [128, 256, 512])
def test_an_image_is_eight_bit_of_the_configured_size_and_equalised(size):
    config = dataclasses.replace(CONFIG, image_size=size)
    rendering = render(study("edema", "support_devices"), config)
    assert rendering.image.shape == (size, size)
    assert rendering.image.dtype == np.uint8
    assert rendering.image.min() == 0
    assert rendering.image.max() == 255
    assert 100 < rendering.image.mean() < 155  # a flat histogram's is 127.5
    for mask in rendering.masks.values():
        assert mask.shape == (size, size)
        assert mask.dtype == bool


def test_the_size_changes_the_resolution_not_the_image():
    config = dataclasses.replace(CONFIG, image_size=256)
    small = render(study("pleural_effusion"), CONFIG)
    large = render(study("pleural_effusion"), config)
    averaged = large.image.reshape(128, 2, 128, 2).mean(axis=(1, 3))
    assert np.corrcoef(averaged.ravel(), small.image.ravel())[0, 1] > 0.99
    area = {len(r.image): r.masks["pleural_effusion"].mean() for r in (small, large)}
    assert area[128] == pytest.approx(area[256], rel=0.05)


def test_the_same_study_gives_the_same_bytes_in_any_order():
    studies = [sample_study(CONFIG, patient, 0) for patient in range(4)]
    forward = [render(item, CONFIG) for item in studies]
    backward = [render(item, CONFIG) for item in reversed(studies)][::-1]
    for one, other in zip(forward, backward, strict=True):
        assert one.image.tobytes() == other.image.tobytes()
        assert one.masks.keys() == other.masks.keys()
        for name in one.masks:
            np.testing.assert_array_equal(one.masks[name], other.masks[name])


def test_patients_seeds_and_images_of_a_study_differ():
    two = dataclasses.replace(study("pneumonia"), num_images=2)
    first, second = render(two, CONFIG, 0).image, render(two, CONFIG, 1).image
    other_seed = render(two, dataclasses.replace(CONFIG, seed=12)).image
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, other_seed)
    assert not np.array_equal(first, image("pneumonia", patient=4))


def test_bones_are_bright_and_lungs_dark():
    lungs = film("pneumothorax", level="large").masks["pneumothorax"]
    normal = image()
    spine = normal[90:, 60:68].mean()
    assert spine > normal[lungs].mean() + 60


@pytest.mark.parametrize("name", FINDINGS)
def test_a_finding_has_a_mask_whatever_its_attributes(name):
    for view in ("AP", "PA"):
        for attribute, values in ATTRIBUTES[name].items():
            for value in values:
                options = {attribute: value, "view": view}
                masks = film(name, contrast=0.35, **options).masks
                assert set(masks) == {name}
                assert 0.002 < masks[name].mean() < 0.4, options


def test_a_normal_study_has_no_masks():
    assert render(study(), CONFIG).masks == {}


@pytest.mark.parametrize("name", [n for n in FINDINGS if "side" in ATTRIBUTES[n]])
@pytest.mark.parametrize("patient", [0, 5, 9])
def test_the_left_side_of_the_patient_is_on_the_right_of_the_image(name, patient):
    left, _ = centre(film(name, side="left", patient=patient).masks[name])
    right, _ = centre(film(name, side="right", patient=patient).masks[name])
    assert left > 0.55
    assert right < 0.45


@pytest.mark.parametrize("name", [n for n in FINDINGS if "zone" in ATTRIBUTES[n]])
def test_zones_lie_one_below_the_other(name):
    heights = [centre(film(name, zone=zone).masks[name])[1] for zone in ("upper", "mid", "lower")]
    assert heights[0] + 0.08 < heights[1] < heights[2] - 0.08


def test_the_heart_grows_with_the_level_of_cardiomegaly():
    masks = [film("cardiomegaly", level=level).masks["cardiomegaly"]
             for level in ("mild", "moderate", "severe")]  # fmt: skip
    widths = [np.ptp(np.nonzero(mask.any(axis=0))[0]) for mask in masks]
    assert widths[0] + 4 < widths[1] < widths[2] - 4


def test_a_heart_is_larger_in_an_ap_image():
    ap, pa = (film("cardiomegaly", view=view).masks["cardiomegaly"].sum() for view in ("AP", "PA"))
    assert ap > 1.05 * pa


@pytest.mark.parametrize("name", ["pleural_effusion", "pneumothorax"])
@pytest.mark.parametrize("patient", [1, 6])
def test_larger_levels_cover_more(name, patient):
    areas = [film(name, level=level, patient=patient).masks[name].sum()
             for level in ("small", "moderate", "large")]  # fmt: skip
    assert 1.3 * areas[0] < areas[1] < areas[2] / 1.3


def test_worse_edema_takes_more_air():
    normal = film().density
    gains = [(film("edema", level=level).density - normal).clip(0).mean()
             for level in ("mild", "moderate", "severe")]  # fmt: skip
    assert 1.2 * gains[0] < gains[1] < gains[2] / 1.2


@pytest.mark.parametrize("name", FINDINGS)
@pytest.mark.parametrize("patient", [2, 7])
def test_a_finding_changes_the_film_mainly_inside_its_mask(name, patient):
    with_it, without = film(name, patient=patient), film(patient=patient)
    change = np.abs(with_it.density - without.density)
    mask = with_it.masks[name]
    assert change[mask].mean() > 4 * change[~mask].mean()


@pytest.mark.parametrize("name", FINDINGS)
def test_contrast_makes_a_finding_plainer(name):
    normal = film().density
    faint, plain = (np.abs(film(name, contrast=c).density - normal).sum() for c in (0.35, 1.0))
    assert plain > 1.15 * faint


def test_a_pneumothorax_is_darker_and_fluid_brighter_than_lung():
    normal = film().density
    air = film("pneumothorax", level="large")
    fluid = film("pleural_effusion", level="large")
    assert air.density[air.masks["pneumothorax"]].mean() < normal[air.masks["pneumothorax"]].mean()
    where = fluid.masks["pleural_effusion"]
    assert fluid.density[where].mean() > normal[where].mean() + 0.02


def test_equalisation_is_monotone_and_flat():
    density = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32) ** 3
    flat = equalise(density)
    order = np.argsort(density, axis=None)
    assert (np.diff(flat.ravel()[order].astype(int)) >= 0).all()
    assert equalise(np.zeros((8, 8), np.float32)).max() == 0


@pytest.mark.parametrize("size", [0, 100, 250, 4096, 128.0, "256"])
def test_a_bad_image_size_is_refused(size):
    config = dataclasses.replace(CONFIG, image_size=size)
    with pytest.raises(ConfigError, match="image_size"):
        render(study(), config)


def test_an_image_that_the_study_does_not_have_is_refused():
    with pytest.raises(ConfigError, match="has 1 image"):
        render(study(), CONFIG, 1)


def test_an_unknown_finding_or_attribute_is_refused():
    bad = Study(0, 0, "PA", (Finding("scoliosis", {}, 1.0),), 1)
    with pytest.raises(ConfigError, match="scoliosis"):
        render(bad, CONFIG)
    bad = Study(0, 0, "PA", (Finding("edema", {"level": "huge"}, 1.0),), 1)
    with pytest.raises(ConfigError, match="huge"):
        render(bad, CONFIG)
