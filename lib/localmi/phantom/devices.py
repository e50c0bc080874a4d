"""Support devices, and what looks like a finding but is none (distractors)."""

import numpy as np

from localmi.phantom import anatomy as parts
from localmi.phantom.anatomy import SIGN
from localmi.phantom.body import Body
from localmi.phantom.raster import (
    Array,
    Mask,
    Shape,
    blob,
    blur,
    draw,
    smoothstep,
    stroke,
    strokes,
)

NODULE, RIB_FRACTURE, SKIN_FOLD = 0.06, 0.05, 0.05  # probability of each distractor


def device(body: Body, kind: str, rng: np.random.Generator) -> tuple[Array, Mask]:
    """cm of water and mask of one device."""
    shapes = {
        "endotracheal tube": endotracheal_tube,
        "central venous catheter": catheter,
        "pacemaker": pacemaker,
    }[kind](body, rng)
    return metal(body, shapes)


def metal(body: Body, shapes: list[Shape]) -> tuple[Array, Mask]:
    """cm of water and mask of what is drawn."""
    drawn = draw(body.frame, shapes)
    sharp = blur(drawn, body.frame.pixels(0.004))
    return 4.5 * sharp, blur(drawn, body.frame.pixels(0.012)) > 0.08


def endotracheal_tube(body: Body, rng: np.random.Generator) -> list[Shape]:
    """From the neck to some cm above the carina: two walls and a radio-opaque line."""
    middle = 0.3 * body.pose.oblique + float(parts.midline(body.anatomy, 0.0))
    tip = rng.uniform(-0.44, -0.32)
    y = np.linspace(-1.3, tip, 30)
    x = middle + 0.01 * np.sin(3 * y + rng.uniform(0, 6)) + rng.uniform(-0.01, 0.01)
    line = np.stack([x, y], axis=1)
    off = np.array([0.017, 0.0])
    return [
        stroke(line, 0.036, 45),
        stroke(line - off, 0.008, 120),
        stroke(line + off, 0.012, 230),
    ]


def catheter(body: Body, rng: np.random.Generator) -> list[Shape]:
    """From the neck (jugular) or under the clavicle (subclavian) to the superior vena cava."""
    side = SIGN["right"] if rng.random() < 0.7 else SIGN["left"]
    tip = (-0.095 + 0.4 * body.pose.oblique, rng.uniform(-0.14, 0.04))
    cava = (-0.10 + 0.5 * body.pose.oblique, -0.36)
    meeting = [(-0.085, -0.50)] if side < 0 else [(0.07, -0.53), (-0.05, -0.45)]
    if rng.random() < 0.6:
        entry = [(side * 0.22, -1.2), (side * 0.18, -0.80)]
    else:
        entry = [(side * 0.72, -0.40), (side * 0.50, -0.58), (side * 0.25, -0.585)]
    return [stroke(parts.curve(np.array([*entry, *meeting, cava, tip]), 60), 0.017, 200)]


def pacemaker(body: Body, rng: np.random.Generator) -> list[Shape]:
    """A generator below the clavicle, more often left, and one or two leads into the heart."""
    side = SIGN["left"] if rng.random() < 0.85 else SIGN["right"]
    centre = np.array([side * rng.uniform(0.50, 0.60), rng.uniform(-0.46, -0.38)])
    turn = np.linspace(0, 2 * np.pi, 60)
    box = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    box = np.sign(box) * np.abs(box) ** 0.5 * np.array([0.085, 0.080])
    start = centre + np.array([-side * 0.05, -0.08])
    vein = [(side * 0.30, -0.60), (side * 0.10, -0.54)]
    heart = parts.heart_outline(body.anatomy, body.pose)
    apex = heart[np.argmax(heart[:, 0])]
    ventricle = [(-0.09, -0.30), (-0.10, 0.12), (-0.02, 0.38), (apex[0] * 0.72, apex[1] + 0.03)]
    atrium = [(-0.09, -0.30), (-0.09, 0.10), (-0.07, 0.20), (-0.12, 0.14)]
    paths = [ventricle] if rng.random() < 0.5 else [ventricle, atrium]
    lines = np.stack([parts.curve(np.array([start, *vein, *path]), 80) for path in paths])
    leads = strokes(lines, 0.016, 190)
    return [*leads, Shape(centre + box, 255)]


def distractors(body: Body, rng: np.random.Generator) -> Array:
    """cm of water of things no report mentions: a nodule, an old rib fracture, a skin fold."""
    draws, added = rng.random(3), np.zeros_like(body.air)
    side = "left" if rng.random() < 0.5 else "right"
    if draws[0] < NODULE:
        centre = (SIGN[side] * rng.uniform(0.25, 0.55), rng.uniform(-0.45, 0.3))
        ball = np.clip(1 - blob(body.frame, centre, (rng.uniform(0.03, 0.05),) * 2), 0, 1)
        added += 2.2 * np.sqrt(ball) * body.lungs[side]
    if draws[1] < RIB_FRACTURE:
        posterior, _ = parts.rib_lines(body.anatomy, body.pose, side)
        centre = tuple(posterior[int(rng.integers(4, 8)), int(rng.integers(12, 19))])
        added += 1.6 * np.exp(-blob(body.frame, centre, (0.045, 0.035)))
    if draws[2] < SKIN_FOLD:
        x, y = body.frame.grid
        place = SIGN[side] * x - rng.uniform(0.4, 0.6) - rng.uniform(-0.4, 0.2) * y
        along = smoothstep(y, -0.4, -0.2) * smoothstep(-y, -0.6, -0.3)
        added += 1.3 * np.exp(-np.clip(place, 0, 1) / 0.05) * (place > 0) * along
    return added.astype(np.float32)
