"""The chest from its left side: outlines of its parts.

Same patient, same y, same units as in `anatomy`; x runs from the front (x < 0) to the back. Depth
comes from what the anatomy knows: thickness, heart, domes, ribs.
"""

import numpy as np

from localmi.phantom import anatomy as parts
from localmi.phantom.anatomy import SIGN, Anatomy, Pose, closed_curve, curve
from localmi.phantom.latents import stream
from localmi.phantom.raster import CM_PER_UNIT, Array, Shape, smoothstep

# A usual chest, [N, 2] as (x, y). The lungs' front behind the sternum, from the apex down; the
# dome, from the front to the posterior gutter; the back, from the gutter up.
FRONT = curve(np.array(
    [(0.13, -0.735), (0.01, -0.67), (-0.11, -0.53), (-0.235, -0.34), (-0.33, -0.13),
     (-0.395, 0.08), (-0.425, 0.28), (-0.435, 0.46)]
))  # fmt: skip
DOME = curve(np.array(
    [(-0.435, 0.46), (-0.37, 0.425), (-0.23, 0.39), (-0.06, 0.38), (0.10, 0.41), (0.25, 0.49),
     (0.35, 0.59), (0.415, 0.70)]
), 30)  # fmt: skip
BACK = curve(np.array(
    [(0.415, 0.70), (0.445, 0.50), (0.467, 0.25), (0.475, 0.0), (0.462, -0.22), (0.425, -0.42),
     (0.35, -0.59), (0.25, -0.70), (0.13, -0.735)]
))  # fmt: skip
HEART = closed_curve(np.array(
    [(-0.09, -0.22), (-0.20, -0.13), (-0.305, 0.01), (-0.39, 0.16), (-0.44, 0.32), (-0.42, 0.45),
     (-0.12, 0.50), (0.06, 0.47), (0.14, 0.36), (0.155, 0.22), (0.125, 0.06), (0.08, -0.07),
     (0.01, -0.19)]
))  # fmt: skip
SPINE = curve(np.array(  # the middle of the vertebral bodies
    [(0.15, -1.25), (0.19, -0.95), (0.25, -0.65), (0.315, -0.35), (0.345, -0.05), (0.342, 0.25),
     (0.31, 0.55), (0.26, 0.85), (0.21, 1.25)]
))  # fmt: skip
SKIN = {
    "front": curve(np.array(
        [(-0.08, -1.25), (-0.06, -0.92), (-0.10, -0.74), (-0.21, -0.53), (-0.345, -0.30),
         (-0.46, -0.03), (-0.51, 0.20), (-0.525, 0.45), (-0.54, 0.75), (-0.53, 1.25)]
    )),
    "back": curve(np.array(
        [(0.33, -1.25), (0.35, -0.98), (0.43, -0.78), (0.54, -0.52), (0.60, -0.22), (0.605, 0.08),
         (0.575, 0.40), (0.53, 0.70), (0.51, 1.25)]
    )),
}  # fmt: skip
TRACHEA = curve(np.array([(0.03, -1.25), (0.05, -0.8), (0.085, -0.5), (0.115, -0.18)]))
AORTA = curve(np.array(
    [(-0.10, -0.16), (-0.115, -0.30), (-0.04, -0.42), (0.08, -0.455), (0.20, -0.41),
     (0.265, -0.28), (0.285, -0.05), (0.285, 0.20), (0.27, 0.46)]
))  # fmt: skip
MAGNIFIED = {"left": 1.0, "right": 1.045}  # the left side is at the detector


def cage(anatomy: Anatomy) -> float:
    """Depth of the rib cage, 1 is usual: what the body's thickness leaves beside fat and wall."""
    return ((anatomy.thickness - 6 * anatomy.fat) / CM_PER_UNIT - 0.14) / 0.82


def at_height(points: Array, y: Array | float) -> Array:
    """x of a line [N, 2] at heights y; the line runs up or down throughout."""
    rising = points[np.argsort(points[:, 1])]
    return np.asarray(np.interp(y, rising[:, 1], rising[:, 0]), np.float32)


def lung_outline(anatomy: Anatomy, pose: Pose, side: str, raised: float = 0.0) -> Array:
    """Outline of one lung; the right one, further from the detector, is a little larger."""
    dome = DOME.copy()
    ends = np.clip((dome[:, 0] + 0.435) / 0.2, 0, 1) * np.clip((0.415 - dome[:, 0]) / 0.25, 0, 1)
    dome[:, 1] -= (anatomy.dome[int(side == "left")] + raised) * ends
    outline = np.concatenate([FRONT, dome[1:], BACK[1:-1]])
    return apart(outline, anatomy, pose, side)


def apart(points: Array, anatomy: Anatomy, pose: Pose, side: str) -> Array:
    """Points of one side of a patient who stands a little oblique; y breathes."""
    moved = parts.breathe(points, anatomy, pose)
    moved[:, 0] = moved[:, 0] * cage(anatomy) * MAGNIFIED[side] + SIGN[side] * pose.oblique
    moved[:, 1] += 0.03 * (side == "right") * smoothstep(moved[:, 1], 0.2, 0.5)
    return moved


def heart_outline(anatomy: Anatomy, pose: Pose, enlarged: float = 1.0) -> Array:
    """Outline of the heart; a large one grows backwards, and up behind the sternum."""
    points = HEART.copy()
    below = np.clip((points[:, 1] + 0.2) / 0.3, 0, 1)
    wide = anatomy.heart * (1 + 0.75 * (enlarged - 1)) * (1.25 - 0.25 * pose.inspiration)
    points[:, 0] = -0.37 + (points[:, 0] + 0.37) * (1 + (wide - 1) * below)
    front = np.clip(-points[:, 0] / 0.3, 0, 1) * np.clip((0.4 - points[:, 1]) / 0.2, 0, 1)
    points[:, 1] -= 0.22 * (enlarged - 1) * front
    return parts.breathe(points, anatomy, pose) * np.array([cage(anatomy), 1.0])


def aorta(anatomy: Anatomy) -> Array:
    """The thoracic aorta; its arch is as high as the knob of the frontal view."""
    path = AORTA * np.array([cage(anatomy), 1.0])
    path[:, 1] -= 0.6 * (anatomy.knob - 0.067)
    return path


def skin(anatomy: Anatomy, y: Array) -> tuple[Array, Array]:
    """x of the skin in front and at the back at heights y."""
    wide, fat = cage(anatomy), anatomy.fat
    low = smoothstep(y, 0.2, 0.9)
    front = at_height(SKIN["front"], y) * wide - fat * (0.10 + 0.14 * low)
    hang = y - anatomy.breast_place[1] - 0.10
    bulge = np.exp(-((hang / np.where(hang < 0, 0.24, 0.16)) ** 2))
    front = front - 0.085 * anatomy.breast**0.7 * bulge
    return front, at_height(SKIN["back"], y) * wide + fat * 0.08


def hilum(anatomy: Anatomy, pose: Pose, side: str) -> tuple[float, float]:
    """Where a lung's vessels begin."""
    x, y = (0.06, -0.09) if side == "right" else (0.155, -0.14)
    place = parts.breathe(np.array([[x, y]]), anatomy, pose)[0]
    return float(place[0] * cage(anatomy)), float(place[1])


def vessel_shapes(
    anatomy: Anatomy, pose: Pose, side: str, *, caliber: float = 1.0, upper: float = 1.0
) -> list[Shape]:
    """The vessels of one lung: half of them run to the front, half to the back."""
    begin = hilum(anatomy, pose, side)
    return [
        shape
        for number, sign in enumerate(SIGN.values())
        for shape in parts.fan(
            stream(anatomy.vessel_seed, "lateral vessels", int(side == "left"), number),
            begin,
            sign,
            caliber=0.75 * caliber,
            upper=upper,
        )
    ]


def rib_lines(anatomy: Anatomy, pose: Pose, side: str) -> Array:
    """The ribs of one side from back to front, [10, 43, 2]; heights as in front."""
    posterior, anterior = parts.rib_lines(anatomy, pose, side)
    y = np.concatenate([posterior[..., 1], anterior[:, 1:, 1]], axis=1)
    angle = np.concatenate([parts.RIB_BACK, parts.RIB_FRONT[1:]])
    back, front = (at_height(parts.breathe(part, anatomy, pose), y) for part in (BACK, FRONT))
    share = (1 - np.cos(angle)) / 2
    x = (back + 0.02 + (front - back - 0.04) * share) * cage(anatomy) * MAGNIFIED[side]
    return np.stack([x + SIGN[side] * pose.oblique, y], axis=2)


def sternum(anatomy: Anatomy, pose: Pose) -> Array:
    """The middle of the sternum, from its notch to the xiphoid."""
    y = np.linspace(-0.47, 0.22, 30)
    x = at_height(SKIN["front"], y) + 0.042
    line = np.stack([x - 0.012 * np.exp(-(((y + 0.24) / 0.05) ** 2)), y], axis=1)
    return line * np.array([cage(anatomy), 1.0])
