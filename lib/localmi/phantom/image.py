"""A synthetic chest radiograph: rays through the body, photons, film, equalised grey values.

Beer-Lambert: a ray that crosses t cm of matter with attenuation mu arrives with exp(-mu t) of its
photons. Paper (Liao et al. 2021), Fig. 3: the hidden state is the study's findings, the image's
own nuisance V^I is anatomy, pose, exposure, scatter and noise.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from localmi.errors import ConfigError
from localmi.phantom.anatomy import Pose, draw_anatomy
from localmi.phantom.body import Body, build_body
from localmi.phantom.config import ATTRIBUTES, PhantomConfig
from localmi.phantom.devices import distractors
from localmi.phantom.findings import EFFECTS, Draw, anatomical_changes
from localmi.phantom.latents import Study, stream
from localmi.phantom.raster import Array, Frame, Mask, blur

MU_WATER, MU_BONE = 0.20, 0.42  # per cm, at about 70 keV; bone beyond the water it replaces
SIZES = (64, 2048)
GREY_LEVELS = 4096

Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Rendering:
    """One image of a study.

    image: [H, W] uint8, histogram-equalised, bones bright, the patient's left on the right.
    masks: finding -> [H, W] bool, where the finding is; one for each present finding.
    """

    image: Grey
    masks: dict[str, Mask]


@dataclass(frozen=True)
class Film:
    """Before equalisation: density [H, W] float32 (bright is dense), and the masks."""

    density: Array
    masks: dict[str, Mask]


def render(study: Study, config: PhantomConfig, number: int = 0) -> Rendering:
    """The image `number` of a study: anatomy is the patient's, pose and exposure its own.

    Same arguments, same bytes; no other study need be rendered before.

    Raises:
        ConfigError: the image size cannot be drawn, the study has no such image, or one of its
            findings is unknown.

    Taught in 05_radiographs_and_reports.
    """
    film = expose(study, config, number)
    return Rendering(equalise(film.density), film.masks)


def expose(study: Study, config: PhantomConfig, number: int = 0) -> Film:
    """The film of an image, before its grey values are equalised; see `render`."""
    check(study, config, number)
    rng = stream(config.seed, "image", study.patient, study.number, number)
    anatomy = draw_anatomy(stream(config.seed, "anatomy", study.patient))
    frame, pose = draw_pose(rng, config.image_size, ap=study.view == "AP")
    changes = anatomical_changes(study.present)
    body = build_body(
        frame,
        anatomy,
        pose,
        enlarged=changes.enlarged,
        raised=changes.raised,
        cephalised=changes.cephalised,
    )
    added = distractors(body, stream(config.seed, "distractor", study.patient, study.number))
    water, masks = rays(body, study, config, EFFECTS, added)
    density = develop(water, rng)
    marker = stream(config.seed, "marker", study.patient, study.number, number)
    return Film(stamp(density, marker), masks)


def check(study: Study, config: PhantomConfig, number: int) -> None:
    """Refuses what cannot be rendered."""
    low, high = SIZES
    size = config.image_size
    if not isinstance(size, int) or not low <= size <= high or size % 32:
        raise ConfigError(
            f"image_size is {size!r}: a phantom image needs a multiple of 32 from {low} to {high}."
            " Set image_size to 128, 256 or 512."
        )
    if not 0 <= number < study.num_images:
        raise ConfigError(
            f"study s{study.study_id} has {study.num_images} image(s), no image {number}."
            f" Use a number from 0 to {study.num_images - 1}."
        )
    for finding in study.findings:
        known = ATTRIBUTES.get(finding.name)
        if known is None or any(
            finding.attributes.get(attribute) not in values for attribute, values in known.items()
        ):
            raise ConfigError(
                f"study s{study.study_id} has the finding {finding.name!r} with"
                f" {dict(finding.attributes)}, which cannot be drawn."
                " Use the findings, attributes and values of phantom.config.ATTRIBUTES."
            )


def draw_pose(rng: np.random.Generator, size: int, ap: bool) -> tuple[Frame, Pose]:
    """Position of the patient: AP patients lie or sit, breathe in less, are turned more."""
    worse = 1.5 if ap else 1.0
    frame = Frame(
        size,
        angle=float(np.radians(np.clip(rng.normal(0, 1.5 * worse), -6, 6))),
        zoom=float(np.clip(rng.normal(1.0, 0.06), 0.86, 1.12)),
        shift=(float(rng.normal(0, 0.04 * worse)), float(rng.normal(0.02, 0.045))),
    )
    inspiration = float(np.clip(rng.normal(0.86 if ap else 1.0, 0.07), 0.65, 1.1))
    return frame, Pose(ap, inspiration, oblique=float(rng.normal(0, 0.015 * worse)))


def rays(
    body: Body, study: Study, config: PhantomConfig, effects: Mapping[str, Draw], added: Array
) -> tuple[Array, dict[str, Mask]]:
    """Attenuation of every ray as cm of water, `added` included, and the masks of the findings."""
    air, vessels = body.air, body.vessels
    open_air = np.ones_like(air)
    masks = {}
    for finding in study.findings:
        rng = stream(config.seed, f"finding/{finding.name}", study.patient, study.number)
        effect = effects[finding.name](body, finding, rng)
        open_air = open_air * (1 - effect.fill)
        added = added + effect.added
        vessels = vessels * effect.vessels
        masks[finding.name] = effect.mask
    water = body.tissue - air * open_air + vessels * open_air + added
    water = water + body.bone * np.float32(MU_BONE / MU_WATER)
    return np.maximum(water, 0), masks


def develop(
    water: Array, rng: np.random.Generator, scatter: tuple[float, float] = (0.25, 0.45)
) -> Array:
    """Primary photons, scatter, detector blur, Poisson noise, gamma: density, 0 to 1."""
    size = water.shape[0]
    scattered, sigma = rng.uniform(*scatter), size / 256 * rng.uniform(0.35, 0.55)
    photons = math.exp(rng.uniform(math.log(2e5), math.log(8e5)))
    gamma = rng.uniform(0.85, 1.15)
    primary = np.exp(-MU_WATER * water)
    counts = photons * blur(primary + scattered * blur(primary, size * 0.09), sigma)
    noise = rng.standard_normal(counts.shape, dtype=np.float32)  # Poisson, at these counts
    counts = np.maximum(counts + np.sqrt(counts) * noise, 1)
    density = 1 - np.log(counts) * (1 / math.log(photons * (1 + scattered)))
    return np.clip(density, 0, 1) ** gamma


def stamp(density: Array, rng: np.random.Generator) -> Array:
    """Dark collimated borders now and then, and the side marker: L on the right, or R."""
    size = density.shape[0]
    if rng.random() < 0.35:
        border = (rng.uniform(0, 0.05, 4) * size).astype(int)
        density[: border[0]] = 0
        density[size - border[1] :] = 0
        density[:, : border[2]] = 0
        density[:, size - border[3] :] = 0
    letter, column = ("L", 0.92) if rng.random() < 0.6 else ("R", 0.05)
    place = ((column + rng.uniform(-0.02, 0.02)) * size, rng.uniform(0.03, 0.10) * size)
    layer = Image.new("L", (size, size))
    ImageDraw.Draw(layer).text(place, letter, fill=255, font_size=0.05 * size)
    marker = np.asarray(layer, np.float32) / 255
    return density * (1 - marker) + marker * max(float(density.max()), 0.5)


def equalise(density: Array) -> Grey:
    """Histogram equalisation to 8 bits, as the images of MIMIC-CXR-JPG."""
    low, high = float(density.min()), float(density.max())
    levels = ((density - low) * ((GREY_LEVELS - 1) / max(high - low, 1e-6))).astype(np.int32)
    share = np.cumsum(np.bincount(levels.ravel(), minlength=GREY_LEVELS)) / levels.size
    table = 255 * (share - share[0]) / max(1 - share[0], 1 / levels.size)
    return table.round().astype(np.uint8)[levels]
