"""The lateral view of a study: same patient, same findings, from the left side.

It shows what no frontal view does: whether a finding lies in front or at the back. Which side it
lies on is not visible. Rays, film and grey values are those of `image`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from localmi.errors import ConfigError
from localmi.phantom.anatomy import curve, draw_anatomy
from localmi.phantom.body import Body
from localmi.phantom.config import DEPTHS, WITH_DEPTH, PhantomConfig
from localmi.phantom.devices import metal
from localmi.phantom.findings import EFFECTS, PNEUMOTHORAX, Draw, Effect, anatomical_changes
from localmi.phantom.image import (
    Film,
    Rendering,
    check,
    develop,
    draw_pose,
    equalise,
    rays,
    stamp,
)
from localmi.phantom.latents import Finding, Study, stream
from localmi.phantom.lateral_body import build_lateral
from localmi.phantom.raster import Array, Shape, blur, smoothstep, stroke, strokes
from localmi.phantom.sagittal import (
    SKIN,
    TRACHEA,
    at_height,
    cage,
    heart_outline,
)

HARD = 0.62  # attenuation in the harder beam that a lateral needs
COLLIMATED = 2.5  # cm of water at least: the field ends at the body
GRID = (0.05, 0.10)  # scatter behind a grid
ONE_LUNG = 0.6  # share of a ray's air that a finding of one lung can take


def render_lateral(study: Study, config: PhantomConfig) -> Rendering:
    """The lateral view of a study; its number is `study.num_images`.

    Same arguments, same bytes; the frontal images do not depend on it.

    Raises:
        ConfigError: as `render`; the study has no lateral view; or a finding lacks its depth.
    """
    film = expose_lateral(study, config)
    return Rendering(equalise(film.density), film.masks)


def expose_lateral(study: Study, config: PhantomConfig) -> Film:
    """The film of the lateral view, before its grey values are equalised."""
    check(study, config, 0)
    if not study.lateral:
        raise ConfigError(
            f"study s{study.study_id} has no lateral view. Sample it with a lateral_view above 0,"
            " and render those with study.lateral."
        )
    for finding in study.findings:
        if finding.name in WITH_DEPTH and finding.attributes.get("depth") not in DEPTHS:
            raise ConfigError(
                f"study s{study.study_id} has a {finding.name} with"
                f" {dict(finding.attributes)}: a lateral view needs its depth,"
                f" {' or '.join(DEPTHS)}. Sample the study with lateral_view above 0."
            )
    keys = study.patient, study.number, study.num_images
    rng = stream(config.seed, "image", *keys)
    frame, pose = draw_pose(rng, config.image_size, ap=False)
    changes = anatomical_changes(study.present)
    body = build_lateral(
        frame,
        draw_anatomy(stream(config.seed, "anatomy", study.patient)),
        pose,
        enlarged=changes.enlarged,
        raised=changes.raised,
        cephalised=changes.cephalised,
    )
    water, masks = rays(body, study, config, LATERAL_EFFECTS, np.zeros_like(body.air))
    density = develop(np.maximum(HARD * water, COLLIMATED), rng, GRID)
    density = density * smoothstep(
        blur(water, frame.pixels(0.01)), 0.5, 4
    )  # black beside the body
    return Film(stamp(density, stream(config.seed, "marker", *keys)), masks)


def of_one_lung(effect: Draw) -> Draw:
    """The same effect where a ray crosses both lungs and one of them is affected."""

    def seen(body: Body, finding: Finding, rng: np.random.Generator) -> Effect:
        whole = effect(body, finding, rng)
        return replace(
            whole,
            fill=np.clip(ONE_LUNG * whole.fill, -1, 0.95),
            vessels=1 - ONE_LUNG * (1 - whole.vessels),
        )

    return seen


def pneumothorax(body: Body, finding: Finding, rng: np.random.Generator) -> Effect:
    """Hardly seen: a little more air at the apex and behind the sternum."""
    strength = finding.contrast
    gap = PNEUMOTHORAX[finding.attributes["level"]] * rng.uniform(0.85, 1.15)
    y = body.frame.grid[1]
    lung = body.lungs[finding.attributes["side"]]
    top = body.outlines[finding.attributes["side"]][:, 1].min()
    down = y - top - gap
    behind = body.from_wall() - 0.5 * gap
    crescent = lung * np.maximum(smoothstep(-down, -0.01, 0.03), smoothstep(-behind, -0.01, 0.02))
    crescent = crescent * (y < 0.5)
    return Effect(
        fill=-0.06 * strength * crescent,
        vessels=1 - 0.3 * strength * crescent,
        mask=crescent > 0.3,
    )


def support_devices(body: Body, finding: Finding, rng: np.random.Generator) -> Effect:
    """A tube, a catheter or a pacemaker, with the heights of the frontal view."""
    added, mask = metal(body, DEVICES[finding.attributes["kind"]](body, rng))
    return Effect(added=(0.35 + 0.65 * finding.contrast) * added, mask=mask)


def endotracheal_tube(body: Body, rng: np.random.Generator) -> list[Shape]:
    """In the trachea, to some cm above the carina."""
    y = np.linspace(-1.3, rng.uniform(-0.44, -0.32), 30)
    x = at_height(TRACHEA, y) * cage(body.anatomy) + 0.008 * np.sin(3 * y + rng.uniform(0, 6))
    line, off = np.stack([x, y], axis=1), np.array([0.017, 0.0])
    return [
        stroke(line, 0.036, 45),
        stroke(line - off, 0.008, 120),
        stroke(line + off, 0.012, 230),
    ]


def catheter(body: Body, rng: np.random.Generator) -> list[Shape]:
    """From the neck, or from below the clavicle in front, to the superior vena cava."""
    rng.random()  # the side, which is not seen
    tip = (-0.05, rng.uniform(-0.14, 0.04))
    if rng.random() < 0.6:
        entry = [(0.06, -1.2), (0.05, -0.85)]
    else:
        entry = [(-0.20, -0.40), (-0.12, -0.56), (-0.03, -0.57)]
    path = np.array([*entry, (-0.01, -0.48), (-0.03, -0.34), tip])
    return [stroke(curve_in(body, path, 60), 0.017, 200)]


def pacemaker(body: Body, rng: np.random.Generator) -> list[Shape]:
    """The generator seen edge-on under the skin in front; leads into the heart."""
    rng.random()  # the side, which is not seen
    rng.uniform(0.50, 0.60)
    y = rng.uniform(-0.46, -0.38)
    x = float(at_height(SKIN["front"], y)) * cage(body.anatomy) + 0.045
    turn = np.linspace(0, 2 * np.pi, 60)
    box = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    box = np.sign(box) * np.abs(box) ** 0.6 * np.array([0.030, 0.080])
    lean = np.array([[np.cos(0.45), np.sin(0.45)], [-np.sin(0.45), np.cos(0.45)]])
    heart = heart_outline(body.anatomy, body.pose) / np.array([cage(body.anatomy), 1.0])
    apex = heart[np.argmin(heart[:, 0] - 0.3 * heart[:, 1])]
    start = (x / cage(body.anatomy) + 0.03, y - 0.07)
    vein = [(-0.10, -0.58), (-0.03, -0.50), (-0.05, -0.25)]
    ventricle = [(-0.06, 0.10), (-0.12, 0.32), (apex[0] * 0.8, apex[1] + 0.02)]
    atrium = [(-0.06, 0.08), (-0.10, 0.16), (-0.20, 0.08)]
    paths = [ventricle] if rng.random() < 0.5 else [ventricle, atrium]
    lines = np.stack([curve_in(body, np.array([start, *vein, *path]), 80) for path in paths])
    return [*strokes(lines, 0.016, 190), Shape(np.array([x, y]) + box @ lean, 255)]


def curve_in(body: Body, points: Array, count: int) -> Array:
    """A smooth line through points of a chest of usual depth."""
    return curve(points * np.array([cage(body.anatomy), 1.0]), count)


DEVICES: Mapping[str, Callable[[Body, np.random.Generator], list[Shape]]] = {
    "endotracheal tube": endotracheal_tube,
    "central venous catheter": catheter,
    "pacemaker": pacemaker,
}
LATERAL_EFFECTS: Mapping[str, Draw] = {
    **{name: of_one_lung(effect) for name, effect in EFFECTS.items()},
    "edema": EFFECTS["edema"],
    "pneumothorax": pneumothorax,
    "support_devices": support_devices,
}
