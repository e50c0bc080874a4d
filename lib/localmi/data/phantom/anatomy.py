"""The anatomy of one patient: sizes drawn once, and outlines of organs in patient coordinates."""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline, PchipInterpolator

from localmi.data.phantom.latents import stream
from localmi.data.phantom.raster import Array, Shape, stroke

SIGN = {"right": -1.0, "left": 1.0}  # the patient's left lies on the right of the image
NUM_RIBS = 10

# Outlines as (distance from the midline, y): right lung, from the medial apex over the lateral
# wall to the costophrenic angle, then along the dome to the midline.
LUNG_WALL = np.array(
    [(0.13, -0.56), (0.17, -0.67), (0.27, -0.745), (0.39, -0.70), (0.52, -0.54), (0.62, -0.29),
     (0.685, 0.0), (0.72, 0.3), (0.735, 0.62)]
)  # fmt: skip
LUNG_DOME = np.array([(0.735, 0.62), (0.66, 0.525), (0.50, 0.435), (0.34, 0.405), (0.08, 0.48)])

# The heart's outline in (x, y), its left border first, from the pulmonary trunk clockwise.
HEART = np.array(
    [(0.10, -0.22), (0.165, -0.14), (0.20, -0.03), (0.265, 0.09), (0.345, 0.22), (0.395, 0.34),
     (0.385, 0.44), (0.28, 0.50), (0.05, 0.53), (-0.12, 0.50), (-0.165, 0.40), (-0.185, 0.26),
     (-0.165, 0.11), (-0.11, 0.0), (-0.06, -0.12), (0.0, -0.22)]
)  # fmt: skip


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
    hilum: float


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """A patient's anatomy from the patient's own random stream."""
    woman = rng.random() < 0.5
    obese = rng.beta(1.5, 3.0)
    bubble = rng.uniform(0.04, 0.12) * (rng.random() < 0.6)
    return Anatomy(
        width=float(np.clip(rng.normal(1.0 - 0.03 * woman, 0.045), 0.88, 1.12)),
        height=float(np.clip(rng.normal(1.0, 0.05), 0.86, 1.1)),
        heart=float(np.clip(rng.normal(1.0, 0.06), 0.86, 1.12)),
        heart_tilt=float(rng.normal(0.0, 0.05)),
        knob=float(rng.uniform(0.05, 0.085)),
        thickness=float(rng.uniform(17, 21) + 6 * obese),
        fat=float(obese),
        breast=float(woman * rng.uniform(1.0, 4.5) + 0.8 * obese),
        breast_place=(float(rng.uniform(0.40, 0.50)), float(rng.uniform(0.18, 0.42))),
        shoulder=float(rng.normal(0.0, 0.05)),
        rib_spacing=float(rng.normal(0.122, 0.004)),
        rib_drop=float(rng.normal(1.0, 0.12)),
        rib_density=float(rng.uniform(0.7, 1.2)),
        clavicle=float(rng.normal(-0.55, 0.03)),
        dome=(float(rng.normal(0.0, 0.02)), float(rng.normal(-0.035, 0.02))),
        bubble=(
            float(rng.uniform(0.30, 0.50)), float(rng.uniform(0.60, 0.68)), bubble, bubble * 0.6,
        ),
        scoliosis=float(rng.normal(0.0, 0.02)),
        vessel_seed=int(rng.integers(2**31)),
        mediastinum=float(rng.uniform(0.9, 1.2)),
        hilum=float(rng.uniform(0.8, 1.25)),
    )  # fmt: skip


@dataclass(frozen=True)
class Pose:
    """What differs from image to image of one patient."""

    ap: bool
    inspiration: float  # 1 is full
    oblique: float  # sideways shift of the front of the chest against its back, units


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
    lift = anatomy.dome[side == "left"] + raised
    dome = LUNG_DOME.copy()
    dome[1:, 1] -= (lift if side == "right" else lift - 0.02) * np.array([0.8, 1, 1, 0.8])
    outline = np.concatenate([curve(LUNG_WALL), curve(dome, 30)[1:], [[0.08, -0.2]]])
    outline = breathe(outline, anatomy, pose)
    return outline * np.array([SIGN[side] * anatomy.width, 1.0])


def heart_outline(anatomy: Anatomy, pose: Pose, enlarged: float = 1.0) -> Array:
    """Outline of the heart; `enlarged` multiplies its width, and its height by less."""
    magnified = 1.12 if pose.ap else 1.0
    wide = anatomy.heart * enlarged * magnified * (1.18 - 0.18 * pose.inspiration)
    wide *= 0.5 + 0.5 * anatomy.width
    points = HEART.copy()
    below = np.clip((points[:, 1] + 0.2) / 0.4, 0, 1)
    points[:, 0] *= 1 + (wide - 1) * below
    points[:, 1] -= 0.10 * (enlarged - 1) * below + anatomy.heart_tilt * np.clip(points[:, 0], 0, 1)
    points[:, 0] += pose.oblique
    return breathe(closed_curve(points), anatomy, pose)


def mediastinum_outline(anatomy: Anatomy, pose: Pose) -> Array:
    """Great vessels and upper mediastinum, without the aortic knob."""
    wide = anatomy.mediastinum * (1.12 if pose.ap else 1.0)
    right = np.array([(-0.10, -1.2), (-0.085, -0.75), (-0.105, -0.5), (-0.115, -0.2), (-0.10, 0.6)])
    left = np.array([(0.09, 0.6), (0.09, 0.0), (0.10, -0.2), (0.11, -0.45), (0.085, -0.7),
                     (0.10, -1.2)])  # fmt: skip
    outline = np.concatenate([curve(right), curve(left)])
    return outline * np.array([wide, 1.0]) + np.array([0.6 * pose.oblique, 0.0])


def midline(anatomy: Anatomy, y: Array | float) -> Array:
    """x of the spine at height y."""
    return anatomy.scoliosis * np.sin(2.2 * np.asarray(y) + 0.4)


def wall(anatomy: Anatomy, pose: Pose, y: Array | float) -> Array:
    """Half-width of the rib cage at height y."""
    points = breathe(LUNG_WALL, anatomy, pose)[2:]
    return np.interp(y, points[:, 1], points[:, 0]) * anatomy.width


def rib_lines(anatomy: Anatomy, pose: Pose, side: str) -> list[tuple[Array, Array]]:
    """Posterior and anterior arc of each rib, [N, 2] each, from the first rib down."""
    lines = []
    stretch = 0.7 + 0.3 * anatomy.height * (0.55 + 0.45 * pose.inspiration)
    for rib in range(NUM_RIBS):
        start = -0.72 + anatomy.rib_spacing * rib * stretch
        drop = (0.07 + 0.024 * min(rib, 7)) * anatomy.rib_drop
        fall = (0.10 + 0.022 * min(rib, 6)) * anatomy.rib_drop * (0.7 if pose.ap else 1.0)
        half = wall(anatomy, pose, start + drop) + 0.012
        back = np.linspace(0.08, np.pi / 2, 24)
        front = np.linspace(np.pi / 2, np.pi - 0.50, 20)
        y_back = start + drop * (1 - np.cos(back)) - 0.03 * np.sin(2 * back)
        y_front = start + drop - fall * np.cos(front) + 0.02 * np.sin(2 * front)
        x_back, x_front = half * np.sin(back), half * np.sin(front)
        lines.append((
            np.stack([SIGN[side] * x_back + midline(anatomy, start), y_back], axis=1),
            np.stack([SIGN[side] * x_front + 0.5 * pose.oblique, y_front], axis=1),
        ))  # fmt: skip
    return lines


def clavicle_line(anatomy: Anatomy, pose: Pose, side: str) -> Array:
    """Centre line of a clavicle: higher and flatter in AP images."""
    lift = 0.09 if pose.ap else 0.0
    points = np.array([(0.06, 0.0), (0.16, -0.02), (0.32, -0.09), (0.50, -0.15), (0.72, -0.17),
                       (0.86, -0.20)])  # fmt: skip
    points[:, 1] = points[:, 1] * (0.75 if pose.ap else 1.0) + anatomy.clavicle - lift
    points[:, 0] = points[:, 0] * anatomy.width * SIGN[side] + pose.oblique
    return curve(points, 30)


def hilum(anatomy: Anatomy, pose: Pose, side: str) -> tuple[float, float]:
    """Where a lung's vessels begin; the left hilum is the higher one."""
    y = -0.09 if side == "right" else -0.13
    place = breathe(np.array([[0.15 * SIGN[side], y]]), anatomy, pose)[0]
    return float(place[0] * anatomy.width + 0.4 * pose.oblique), float(place[1])


def vessel_shapes(
    anatomy: Anatomy, pose: Pose, side: str, *, caliber: float = 1.0, upper: float = 1.0
) -> list[Shape]:
    """The vessels of one lung as tapered strokes, thick ones last.

    `upper` multiplies the width of those that run upwards (cephalisation).
    """
    rng = stream(anatomy.vessel_seed, "vessels", int(side == "left"))
    start = np.array(hilum(anatomy, pose, side))
    shapes: list[tuple[float, Shape]] = []
    stems = [(angle + rng.normal(0, 0.08), 0.034) for angle in np.linspace(-1.35, 1.35, 8)]
    todo = [(start, angle, width, 0) for angle, width in stems]
    while todo:
        origin, angle, width, level = todo.pop()
        length = rng.uniform(0.16, 0.26) * 0.82**level * (1.2 if angle > 0.3 else 0.9)
        bend, steps = rng.normal(0, 0.25), np.linspace(0, 1, 6)
        heading = angle + bend * steps
        path = np.stack([np.cos(heading) * SIGN[side], np.sin(heading)], axis=1) * length / 5
        line = origin + np.cumsum(np.r_[[[0, 0]], path[:-1]], axis=0)
        wide = width * caliber * (upper if angle < -0.1 else 1.0 / (0.6 + 0.4 * upper))
        taper = wide * np.linspace(1.0, 0.68, 6)
        value = int(np.clip(7200 * wide, 20, 255))
        shapes.append((wide, stroke(line, np.maximum(taper, 0.006), value)))
        if level < 4:
            for turn in (rng.uniform(0.15, 0.5), -rng.uniform(0.15, 0.5)):
                if rng.random() < 0.9:
                    todo.append((line[-1], angle + bend + turn, width * 0.66, level + 1))
    shapes.sort(key=lambda item: item[0])
    return [shape for _, shape in shapes]
