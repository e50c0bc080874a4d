"""Thickness maps of the chest: how many cm of water, bone and air each ray crosses."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from localmi.data.phantom import anatomy as parts
from localmi.data.phantom.anatomy import SIGN, Anatomy, Pose
from localmi.data.phantom.raster import (
    Array,
    Frame,
    Shape,
    blob,
    blur,
    depth,
    draw,
    smoothstep,
    stroke,
)

LUNG_DEPTH = 13.0  # cm of lung a ray crosses at most
AIR_IN_LUNG = 0.72  # the rest is tissue and blood


@dataclass(frozen=True)
class Body:
    """One patient in one pose. Maps are [H, W] float32."""

    frame: Frame
    anatomy: Anatomy
    pose: Pose
    lungs: Mapping[str, Array]  # side -> 0 to 1, inside the lung's outline
    outlines: Mapping[str, Array]  # side -> [N, 2]
    air: Array  # cm of air that disease may fill
    tissue: Array  # cm of water, without the lungs' air taken off
    vessels: Array  # cm of water in the lungs' vessels
    bone: Array  # cm of bone
    heart: Array  # 0 to 1, inside the heart's outline


def build_body(
    frame: Frame,
    anatomy: Anatomy,
    pose: Pose,
    *,
    enlarged: float = 1.0,
    raised: Mapping[str, float] | None = None,
    cephalised: float = 0.0,
) -> Body:
    """All maps of a chest. `enlarged`: heart width; `raised`: side -> lift of the diaphragm;
    `cephalised`: 0 to 1, how much the upper vessels are widened."""
    outlines = {
        side: parts.lung_outline(anatomy, pose, side, (raised or {}).get(side, 0.0))
        for side in SIGN
    }
    lungs = {side: draw(frame, [Shape(outline)]) for side, outline in outlines.items()}
    both = np.maximum(lungs["left"], lungs["right"])
    heart = draw(frame, [Shape(parts.heart_outline(anatomy, pose, enlarged))])
    lung_depth = LUNG_DEPTH * depth(frame, both, 0.26)
    room = 1 - 0.85 * depth(frame, heart, 0.34)
    room *= 1 - 0.9 * great_vessels(frame, anatomy, pose)
    vessels = pulmonary_vessels(frame, anatomy, pose, cephalised) * both
    return Body(
        frame=frame,
        anatomy=anatomy,
        pose=pose,
        lungs=lungs,
        outlines=outlines,
        air=AIR_IN_LUNG * lung_depth * room,
        tissue=soft_tissue(frame, anatomy, pose),
        vessels=vessels,
        bone=bones(frame, anatomy, pose),
        heart=heart,
    )


def soft_tissue(frame: Frame, anatomy: Anatomy, pose: Pose) -> Array:
    """Trunk, neck, shoulders, breasts, gastric bubble: cm of water along the ray."""
    x, y = frame.grid
    far = np.abs(x)
    half = (1.0 + 0.12 * anatomy.fat) * anatomy.width + 0.12 * smoothstep(-y, -0.1, 0.6)
    trunk = np.sqrt(np.clip(1 - (far / half) ** 5, 0, 1))
    slope = 0.45 * np.clip(far - 0.2, 0, None) ** 0.8 + 0.10 * np.exp(-far / 0.12)
    shoulder = -0.98 + anatomy.shoulder + slope
    above = np.sqrt(np.clip((y - shoulder) / 0.6, 0, 1))
    neck = np.sqrt(np.clip(1 - (far / (0.27 + 0.06 * anatomy.fat)) ** 2, 0, 1)) * 0.6
    body = np.sqrt((trunk * above) ** 2 + (neck * (1 - above)) ** 2)
    tissue = anatomy.thickness * body + 3.5 * smoothstep(y, 0.35, 0.9) * trunk
    tissue = tissue + breasts(frame, anatomy) * (trunk > 0)
    column = parts.midline(anatomy, 0.0)
    trachea = smoothstep(0.034 - np.abs(x - column - 0.3 * pose.oblique), -0.008, 0.016)
    tissue -= 1.6 * trachea * smoothstep(-0.24 - y, 0.0, 0.06) * (0.6 + 0.4 * (y < -0.5))
    if anatomy.bubble[2] > 0.03:
        where = blob(frame, anatomy.bubble[:2], anatomy.bubble[2:])
        tissue -= 5.0 * np.sqrt(np.clip(1 - where, 0, 1))
    return np.maximum(tissue, 0).astype(np.float32)


def breasts(frame: Frame, anatomy: Anatomy) -> Array:
    """cm of breast tissue, with its curved lower border."""
    total = np.zeros((frame.size, frame.size), np.float32)
    if anatomy.breast <= 0:
        return total
    for sign in SIGN.values():
        centre = (sign * anatomy.breast_place[0], anatomy.breast_place[1])
        inside = np.clip(1 - blob(frame, centre, (0.36, 0.34)), 0, 1)
        total += anatomy.breast * smoothstep(inside, 0.0, 0.35) * (0.5 + 0.5 * inside)
    return total


def great_vessels(frame: Frame, anatomy: Anatomy, pose: Pose) -> Array:
    """Mediastinum and aortic knob, 0 to 1."""
    middle = draw(frame, [Shape(parts.mediastinum_outline(anatomy, pose))])
    knob = np.sqrt(np.clip(
        1 - blob(frame, (0.085 + 0.5 * pose.oblique, -0.40), (anatomy.knob * 1.2,) * 2), 0, 1
    ))  # fmt: skip
    return np.maximum(blur(middle, frame.pixels(0.012)), np.minimum(1, 1.6 * knob))


def pulmonary_vessels(frame: Frame, anatomy: Anatomy, pose: Pose, cephalised: float) -> Array:
    """cm of blood in hila and branching vessels."""
    layers = []
    for side, sign in SIGN.items():
        shapes = parts.vessel_shapes(anatomy, pose, side, upper=1 + 0.8 * cephalised)
        branches = blur(draw(frame, shapes), frame.pixels(0.004))
        x, y = parts.hilum(anatomy, pose, side)
        root = np.exp(-blob(frame, (x + 0.02 * sign, y + 0.03), (0.06, 0.13), 0.25 * sign))
        layers.append(2.6 * branches + 1.3 * anatomy.hilum * root)
    return np.maximum(*layers)


def bones(frame: Frame, anatomy: Anatomy, pose: Pose) -> Array:
    """cm of bone: ribs, spine, clavicles, scapulae, humeral heads."""
    back: list[Shape] = []
    front: list[Shape] = []
    collar: list[Shape] = []
    for side in SIGN:
        for posterior, anterior in parts.rib_lines(anatomy, pose, side):
            back += [stroke(posterior, 0.056, 190), stroke(posterior, 0.040, 140)]
            front += [stroke(anterior, 0.060, 110), stroke(anterior, 0.044, 85)]
        line = parts.clavicle_line(anatomy, pose, side)
        collar += [stroke(line, 0.062, 255), stroke(line, 0.042, 190)]
    soft = frame.pixels(0.007)
    ribs = blur(draw(frame, back) + draw(frame, front), soft)
    total = 1.35 * anatomy.rib_density * ribs + 0.9 * blur(draw(frame, collar), soft)
    return total + spine(frame, anatomy) + blur(scapulae(frame, anatomy, pose), soft)


def spine(frame: Frame, anatomy: Anatomy) -> Array:
    """Vertebral bodies, disc spaces, pedicles."""
    x, y = frame.grid
    across = np.abs(x - parts.midline(anatomy, y).astype(np.float32))
    phase = np.cos(y * np.float32(2 * np.pi / 0.118))
    body = smoothstep(0.085 + 0.008 * phase - across, -0.01, 0.02)
    discs = 1 - 0.35 * smoothstep(phase, 0.55, 1.0)
    pedicles = smoothstep(-phase, 0.2, 0.9) * smoothstep(0.016 - np.abs(across - 0.055), 0, 0.012)
    process = smoothstep(0.014 - across, 0, 0.012) * smoothstep(-phase, 0.0, 0.8)
    return body * (0.9 * discs + 0.3 * pedicles + 0.3 * process)


def scapulae(frame: Frame, anatomy: Anatomy, pose: Pose) -> Array:
    """Shoulder blades, further over the lungs in AP images, and humeral heads."""
    inward = 0.10 if pose.ap else 0.0
    outline = np.array([(0.93, -0.70), (0.98, -0.5), (0.90, -0.2), (0.80, 0.02), (0.74, -0.1),
                        (0.72, -0.4), (0.76, -0.62)]) - np.array([inward, 0.0])  # fmt: skip
    shapes = []
    for sign in SIGN.values():
        place = np.array([sign * anatomy.width, 1.0])
        border = np.concatenate([outline[2:], outline[:1]])
        shapes += [Shape(outline * place, 70), stroke(border[:4] * place, 0.022, 140)]
        turn = np.linspace(0, 2 * np.pi, 40)
        head = np.stack([0.99 - inward / 2 + 0.10 * np.cos(turn), -0.58 + 0.11 * np.sin(turn)], 1)
        shapes.append(Shape(head * place, 170))
    return draw(frame, shapes)
