"""The anatomy of one patient: sizes drawn once, and outlines of organs in patient coordinates."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline, PchipInterpolator

from localmi.phantom.latents import stream
from localmi.phantom.raster import Array, Shape, strokes

SIGN = {"right": -1.0, "left": 1.0}  # the patient's left lies on the right of the image
NUM_RIBS = 10
RIB_BACK = np.linspace(0.08, np.pi / 2, 24)  # angles along a rib: 0 at the spine, pi in front
RIB_FRONT = np.linspace(np.pi / 2, np.pi - 0.50, 20)


def curve(points: Array, count: int = 40) -> Array:
    """A smooth open curve [count, 2] through the points."""
    steps = np.r_[0, np.cumsum(np.hypot(*np.diff(points, axis=0).T))]
    return PchipInterpolator(steps, points)(np.linspace(0, steps[-1], count))


def closed_curve(points: Array, count: int = 120) -> Array:
    """A smooth closed curve [count, 2] through the points."""
    ring = np.concatenate([points, points[:1]])
    steps = np.r_[0, np.cumsum(np.hypot(*np.diff(ring, axis=0).T))]
    spline = CubicSpline(steps, ring, bc_type="periodic")
    return spline(np.linspace(0, steps[-1], count, endpoint=False))


# Outlines of a usual chest, [N, 2]. Right lung as (distance from the midline, y): from the medial
# apex over the lateral wall to the costophrenic angle, then along the dome to the midline.
LUNG_WALL = curve(np.array(
    [(0.13, -0.56), (0.17, -0.67), (0.27, -0.745), (0.39, -0.70), (0.52, -0.54), (0.62, -0.29),
     (0.685, 0.0), (0.72, 0.3), (0.735, 0.62)]
))  # fmt: skip
LUNG_DOME = curve(np.array(
    [(0.735, 0.62), (0.66, 0.525), (0.50, 0.435), (0.34, 0.405), (0.08, 0.48)]
), 30)  # fmt: skip

# The heart's outline in (x, y), its left border first, from the pulmonary trunk clockwise.
HEART = closed_curve(np.array(
    [(0.10, -0.22), (0.165, -0.14), (0.20, -0.03), (0.265, 0.09), (0.345, 0.22), (0.395, 0.34),
     (0.385, 0.44), (0.28, 0.50), (0.05, 0.53), (-0.12, 0.50), (-0.165, 0.40), (-0.185, 0.26),
     (-0.165, 0.11), (-0.11, 0.0), (-0.06, -0.12), (0.0, -0.22)]
))  # fmt: skip
MEDIASTINUM = np.concatenate([
    curve(np.array([(-0.10, -1.2), (-0.085, -0.75), (-0.105, -0.5), (-0.115, -0.2),
                    (-0.10, 0.6)])),
    curve(np.array([(0.09, 0.6), (0.09, 0.0), (0.10, -0.2), (0.11, -0.45), (0.085, -0.7),
                    (0.10, -1.2)])),
])  # fmt: skip
CLAVICLE = curve(np.array(  # left, (x, y below the medial end)
    [(0.05, 0.03), (0.13, 0.0), (0.28, -0.07), (0.46, -0.125), (0.66, -0.12), (0.88, -0.17)]
), 30)  # fmt: skip


@dataclass(frozen=True)
class Anatomy:
    """What makes a patient recognisable. Lengths in units, thicknesses in cm."""

    width: float  # of the chest, 1 is usual
    height: float  # of the lungs, 1 is usual
    heart: float  # width of the heart, 1 is usual
    heart_tilt: float  # 0 is usual, > 0 a more horizontal heart
    knob: float  # radius of the aortic knob
    thickness: float  # of the body, cm
    fat: float  # extra soft tissue at the flanks, 0 to 1
    breast: float  # cm, 0 for none
    breast_place: tuple[float, float]
    shoulder: float  # height of the shoulder line
    rib_spacing: float
    rib_drop: float
    rib_density: float
    clavicle: float  # y of the medial ends
    dome: tuple[float, float]  # height of the right and left diaphragm, extra
    bubble: tuple[float, float, float, float]  # gastric bubble: x, y, radii; radius 0 for none
    scoliosis: float
    vessel_seed: int
    mediastinum: float
    hilum: float  # blood in the hila, 1 is usual
    lung_air: float  # air in the lungs, 1 is usual


def draw_woman(rng: np.random.Generator) -> bool:
    """Whether the patient is a woman: the first draw of `draw_anatomy`, and of the record."""
    return rng.random() < 0.5


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """A patient's anatomy from the patient's own random stream."""
    woman = draw_woman(rng)
    obese = rng.beta(1.5, 3.0)
    bubble = rng.uniform(0.04, 0.12) * (rng.random() < 0.6)
    return Anatomy(
        width=float(np.clip(rng.normal(1.0 - 0.03 * woman, 0.045), 0.88, 1.12)),
        height=float(np.clip(rng.normal(1.0, 0.05), 0.86, 1.1)),
        heart=float(np.clip(rng.normal(0.98, 0.08), 0.82, 1.14)),
        heart_tilt=float(rng.normal(0.0, 0.05)),
        knob=float(rng.uniform(0.05, 0.085)),
        thickness=float(rng.uniform(17, 21) + 6 * obese),
        fat=float(obese),
        breast=float(woman * rng.uniform(0.6, 2.6) + 0.6 * obese),
        breast_place=(float(rng.uniform(0.42, 0.52)), float(rng.uniform(0.10, 0.32))),
        shoulder=float(rng.normal(0.0, 0.05)),
        rib_spacing=float(rng.normal(0.122, 0.004)),
        rib_drop=float(rng.normal(1.3, 0.13)),
        rib_density=float(rng.uniform(0.7, 1.2)),
        clavicle=float(rng.normal(-0.50, 0.03)),
        dome=(float(rng.normal(0.0, 0.03)), float(rng.normal(-0.035, 0.03))),
        bubble=(
            float(rng.uniform(0.30, 0.50)), float(rng.uniform(0.60, 0.68)), bubble, bubble * 0.6,
        ),
        scoliosis=float(rng.normal(0.0, 0.02)),
        vessel_seed=int(rng.integers(2**31)),
        mediastinum=float(rng.uniform(0.9, 1.2)),
        hilum=float(rng.uniform(0.6, 1.5)),
        lung_air=float(np.clip(rng.normal(1.0, 0.08), 0.8, 1.15)),
    )  # fmt: skip


@dataclass(frozen=True)
class Pose:
    """What differs from image to image of one patient."""

    ap: bool
    inspiration: float  # 1 is full
    oblique: float  # sideways shift of the front of the chest against its back, units


def breathe(points: Array, anatomy: Anatomy, pose: Pose) -> Array:
    """Lower parts rise with poor inspiration and a short chest; y below -0.6 is stretched."""
    stretched = points.copy()
    factor = anatomy.height * (0.55 + 0.45 * pose.inspiration)
    stretched[:, 1] = np.where(
        points[:, 1] > -0.6, -0.6 + (points[:, 1] + 0.6) * factor, points[:, 1]
    )
    return stretched


def lung_outline(anatomy: Anatomy, pose: Pose, side: str, raised: float = 0.0) -> Array:
    """Outline of one lung; `raised` lifts the dome (volume loss), in units."""
    lift = anatomy.dome[int(side == "left")] + raised
    dome = LUNG_DOME[1:].copy()
    dome[:, 1] -= lift * np.clip((0.735 - dome[:, 0]) / 0.2, 0, 1)
    outline = breathe(np.concatenate([LUNG_WALL, dome, [[0.08, -0.2]]]), anatomy, pose)
    return outline * np.array([SIGN[side] * anatomy.width, 1.0])


def lung_outlines(anatomy: Anatomy, pose: Pose, raised: Mapping[str, float]) -> dict[str, Array]:
    """Of both lungs, by side; a side that is not in `raised` is not."""
    return {side: lung_outline(anatomy, pose, side, raised.get(side, 0.0)) for side in SIGN}


def heart_outline(anatomy: Anatomy, pose: Pose, enlarged: float = 1.0) -> Array:
    """Outline of the heart; `enlarged` multiplies its width, and its height by less."""
    magnified = 1.15 if pose.ap else 1.0
    wide = anatomy.heart * enlarged * magnified * (1.25 - 0.25 * pose.inspiration)
    wide *= 0.5 + 0.5 * anatomy.width
    points = HEART.copy()
    below = np.clip((points[:, 1] + 0.2) / 0.4, 0, 1)
    points[:, 0] *= 1 + (wide - 1) * below
    points[:, 1] -= 0.10 * (enlarged - 1) * below
    points[:, 1] -= anatomy.heart_tilt * np.clip(points[:, 0], 0, 1)
    points[:, 0] += pose.oblique
    return breathe(points, anatomy, pose)


def mediastinum_outline(anatomy: Anatomy, pose: Pose) -> Array:
    """Great vessels and upper mediastinum, without the aortic knob."""
    wide = anatomy.mediastinum * (1.12 if pose.ap else 1.0)
    return MEDIASTINUM * np.array([wide, 1.0]) + np.array([0.6 * pose.oblique, 0.0])


def midline(anatomy: Anatomy, y: Array | float) -> Array:
    """x of the spine at height y."""
    return anatomy.scoliosis * np.sin(2.2 * np.asarray(y, np.float32) + 0.4)


def wall(anatomy: Anatomy, pose: Pose, y: Array | float) -> Array:
    """Half-width of the rib cage at height y."""
    points = breathe(LUNG_WALL, anatomy, pose)[10:]
    half = np.interp(y, points[:, 1], points[:, 0]) * anatomy.width
    return np.asarray(half, np.float32)


def wall_line(anatomy: Anatomy, pose: Pose, side: str) -> Array:
    """Along the lung's lateral border, where ribs and pleura are seen edge-on."""
    line = breathe(LUNG_WALL[14:], anatomy, pose) + np.array([0.012, 0.0])
    return line * np.array([SIGN[side] * anatomy.width, 1.0])


def rib_lines(anatomy: Anatomy, pose: Pose, side: str) -> tuple[Array, Array]:
    """Posterior [10, 24, 2] and anterior [10, 20, 2] arcs of the ribs, from the first down."""
    rib = np.arange(NUM_RIBS)[:, None]
    stretch = 0.7 + 0.3 * anatomy.height * (0.55 + 0.45 * pose.inspiration)
    start = -0.72 + anatomy.rib_spacing * rib * stretch
    drop = (0.07 + 0.024 * np.minimum(rib, 7)) * anatomy.rib_drop
    fall = (0.10 + 0.022 * np.minimum(rib, 6)) * anatomy.rib_drop * (0.7 if pose.ap else 1.0)
    half = wall(anatomy, pose, start + drop) + 0.012
    back, front = RIB_BACK, RIB_FRONT
    y_back = start + drop * (1 - np.cos(back)) - 0.03 * np.sin(2 * back)
    y_front = start + drop - fall * np.cos(front) + 0.02 * np.sin(2 * front)
    x_back = SIGN[side] * half * np.sin(back) + midline(anatomy, start)
    x_front = SIGN[side] * half * np.sin(front) + 0.5 * pose.oblique
    return np.stack([x_back, y_back], axis=2), np.stack([x_front, y_front], axis=2)


def clavicle_line(anatomy: Anatomy, pose: Pose, side: str) -> Array:
    """Centre line of a clavicle: higher and flatter in AP images."""
    points = CLAVICLE * np.array([anatomy.width * SIGN[side], 0.75 if pose.ap else 1.0])
    return points + np.array([pose.oblique, anatomy.clavicle - (0.09 if pose.ap else 0.0)])


def hilum(anatomy: Anatomy, pose: Pose, side: str) -> tuple[float, float]:
    """Where a lung's vessels begin; the left hilum is the higher one."""
    y = -0.09 if side == "right" else -0.13
    place = breathe(np.array([[0.15 * SIGN[side], y]]), anatomy, pose)[0]
    return float(place[0] * anatomy.width + 0.4 * pose.oblique), float(place[1])


STEMS = np.array(  # of the pulmonary vessels: start below the hilum, heading, width
    [(-0.06, -1.30, 0.026), (-0.04, -0.85, 0.030), (-0.01, -0.40, 0.022), (0.02, 0.05, 0.024),
     (0.05, 0.50, 0.026), (0.05, 0.85, 0.032), (0.06, 1.18, 0.040), (0.10, 1.40, 0.024)]
)  # fmt: skip
GENERATIONS = 6
THINNEST = 0.0072


def vessel_shapes(
    anatomy: Anatomy, pose: Pose, side: str, *, caliber: float = 1.0, upper: float = 1.0
) -> list[Shape]:
    """The vessels of one lung; see `fan`."""
    rng = stream(anatomy.vessel_seed, "vessels", int(side == "left"))
    return fan(rng, hilum(anatomy, pose, side), SIGN[side], caliber=caliber, upper=upper)


def fan(
    rng: np.random.Generator,
    root: tuple[float, float],
    sign: float,
    *,
    caliber: float = 1.0,
    upper: float = 1.0,
) -> list[Shape]:
    """Vessels that spread from `root` to one side, as tapered strokes, thick ones last.

    Each vessel goes on with .84 of its width and gives off a branch with .58 of it. `upper`
    multiplies the width of those that run upwards (cephalisation).
    """
    origin = np.array(root) + np.stack([np.zeros(len(STEMS)), STEMS[:, 0]], axis=1)
    heading = STEMS[:, 1] + rng.normal(0, 0.12, len(STEMS))
    width = STEMS[:, 2] * rng.uniform(0.8, 1.15, len(STEMS))
    width = width * np.where(heading < -0.1, upper, 1 / (0.7 + 0.3 * upper)) * caliber
    segments: list[Array] = []
    sizes: list[Array] = []
    for _ in range(GENERATIONS):
        line, end = grow(rng, origin, heading, sign)
        segments.append(line)
        sizes.append(width)
        turn = rng.uniform(0.35, 0.8, len(width)) * np.where(rng.random(len(width)) < 0.5, 1, -1)
        heading = np.r_[end - 0.25 * turn, end + turn]
        width = np.r_[width * 0.84, width * 0.58]
        origin = np.tile(line[:, -1], (2, 1))
        thick = width > THINNEST
        origin, heading, width = origin[thick], heading[thick], width[thick]
    lines, widths = np.concatenate(segments), np.concatenate(sizes)
    order = np.argsort(widths, kind="stable")
    taper = np.maximum(widths[:, None] * np.linspace(1.0, 0.84, lines.shape[1]), 0.008)
    values = np.clip(45 + 7500 * (widths - THINNEST), 45, 255)  # thin ones are fainter
    return strokes(lines[order], taper[order], values[order])


def grow(
    rng: np.random.Generator, origin: Array, heading: Array, sign: float
) -> tuple[Array, Array]:
    """One segment of each vessel: points [N, 5, 2] and final headings [N]."""
    length = rng.uniform(0.09, 0.16, len(origin))
    bend = rng.normal(0, 0.22, len(origin))
    angle = heading[:, None] + bend[:, None] * np.linspace(0, 1, 4)
    steps = np.stack([np.cos(angle) * sign, np.sin(angle)], axis=2) * length[:, None, None] / 4
    points = np.concatenate([np.zeros_like(steps[:, :1]), np.cumsum(steps, axis=1)], axis=1)
    return origin[:, None] + points, heading + bend
