"""Thickness maps of the chest from its left side: how much of what each ray crosses."""

from collections.abc import Mapping

import numpy as np

from localmi.phantom import anatomy as parts
from localmi.phantom import body as frontal
from localmi.phantom import sagittal
from localmi.phantom.anatomy import SIGN, Anatomy, Pose, curve
from localmi.phantom.body import Body
from localmi.phantom.latents import Finding, stream
from localmi.phantom.raster import (
    CM_PER_UNIT,
    Array,
    Frame,
    Shape,
    blob,
    blur,
    depth,
    draw,
    resize,
    smooth_noise,
    smoothstep,
    stroke,
    strokes,
)
from localmi.phantom.sagittal import at_height, cage

ARM = np.array([(0.13, -0.66), (-0.04, -0.82), (-0.40, -1.25)])  # raised
ACROSS = np.array(  # (y, cm of a body from side to side, arms up)
    [(-1.25, 13.0), (-0.95, 16.0), (-0.72, 24.0), (-0.50, 28.5), (-0.20, 31.0), (0.3, 31.0),
     (0.8, 31.0), (1.25, 32.0)]
)  # fmt: skip
FADING = (
    (43, 70),
    (34, 90),
    (24, 115),
    (16, 145),
    (10, 170),
)  # ribs: points from the back, value
FORWARD, BACKWARD = 0.28, 0.75  # of the way from the front to the back


class LateralBody(Body):
    """One patient from the left side. `outlines` are those of the frontal view in the same pose:
    a finding has the height and the size there that it has here."""

    def at(self, side: str, out: Array | float) -> Array:
        """What lies at the side of a base is drawn towards its back."""
        return np.asarray((0.50 - 0.62 * out) * cage(self.anatomy))

    def place(self, finding: Finding, side: str, out: float, y: float) -> tuple[float, float]:
        """In front or at the back, as the finding's depth says."""
        front, back = (float(self.border(part, y)) for part in (sagittal.FRONT, sagittal.BACK))
        share = FORWARD if finding.attributes["depth"] == "anterior" else BACKWARD
        share += 0.25 * (out / float(super().reach(side, y)) - 0.55)
        return front + (back - front) * share, y

    def border(self, part: Array, y: Array | float) -> Array:
        """x of the lungs' `FRONT` or `BACK` at heights y."""
        return at_height(parts.breathe(part, self.anatomy, self.pose), y) * cage(self.anatomy)

    def reach(self, side: str, y: Array | float) -> Array:
        """How far the lungs go: to the back (left), or to the front (right)."""
        return self.border(sagittal.BACK, y) if side == "left" else -self.border(sagittal.FRONT, y)

    def from_wall(self) -> Array:
        """Distance of every pixel from the front or the back of the cage."""
        x, y = self.frame.grid
        front, back = self.border(sagittal.FRONT, y), self.border(sagittal.BACK, y)
        return np.maximum(np.minimum(back - x, 0.06 + x - front), 0)

    def hilum(self, side: str) -> tuple[float, float]:
        """The left hilum arches over its bronchus, behind the right one."""
        return sagittal.hilum(self.anatomy, self.pose, side)

    def branches(self, side: str, caliber: float) -> list[Shape]:
        return sagittal.vessel_shapes(self.anatomy, self.pose, side, caliber=caliber)


def build_lateral(
    frame: Frame,
    anatomy: Anatomy,
    pose: Pose,
    *,
    enlarged: float = 1.0,
    raised: Mapping[str, float] | None = None,
    cephalised: float = 0.0,
) -> LateralBody:
    """All maps of a chest from its left side; arguments as `build_body`."""
    lift = raised or {}
    lungs = {
        side: draw(frame, [Shape(sagittal.lung_outline(anatomy, pose, side, lift.get(side, 0.0)))])
        for side in SIGN
    }
    both = np.maximum(lungs["left"], lungs["right"])
    heart = draw(frame, [Shape(sagittal.heart_outline(anatomy, pose, enlarged))])
    middle = mediastinum(frame, anatomy, heart)
    y = frame.grid[1]
    half = CM_PER_UNIT * np.minimum(parts.wall(anatomy, pose, y), 0.66 * anatomy.width)
    air = sum(np.maximum(half * depth(frame, lungs[side], 0.30) - middle, 0) for side in SIGN)
    vessels = pulmonary_vessels(frame, anatomy, pose, cephalised) * both * (1 - 0.5 * heart)
    return LateralBody(
        frame=frame,
        anatomy=anatomy,
        pose=pose,
        lungs=lungs,
        outlines=parts.lung_outlines(anatomy, pose, lift),
        air=anatomy.lung_air * frontal.AIR_IN_LUNG * air * frontal.texture(frame, anatomy),
        tissue=resize(soft_tissue(frame.half, anatomy, pose), frame.size),
        vessels=vessels,
        bone=bones(frame, anatomy, pose),
        heart=heart,
    )


def mediastinum(frame: Frame, anatomy: Anatomy, heart: Array) -> Array:
    """Half the width, in cm, of what lies between the lungs."""
    x, y = frame.grid
    wide = cage(anatomy)
    spine = at_height(sagittal.SPINE, y) * wide
    aorta = draw(frame, [stroke(sagittal.aorta(anatomy), 0.15)])
    aorta = 2.1 * anatomy.mediastinum * blur(aorta, frame.pixels(0.012))
    half = 0.5 + np.maximum(5.0 * anatomy.heart * depth(frame, heart, 0.30), aorta)
    upper = smoothstep(-y, 0.05, 0.35) * smoothstep(x, -0.22 * wide, 0.0) * (x < spine)
    half += 1.3 * anatomy.mediastinum * blur(upper.astype(np.float32), frame.pixels(0.05))
    half += 1.3 * smoothstep(x - spine, -0.13, 0.0) + 1.2 * smoothstep(x - spine, 0.02, 0.14)
    return half


def soft_tissue(frame: Frame, anatomy: Anatomy, pose: Pose) -> Array:
    """Trunk, neck, raised arms, breasts, trachea, gastric bubble: cm of water along the ray."""
    x, y = frame.grid
    front, back = sagittal.skin(anatomy, y)
    middle, half = (front + back) / 2, (back - front) / 2
    far = np.clip(np.abs(x - middle) / half, 0, 1)
    width = np.interp(y, ACROSS[:, 0], ACROSS[:, 1]) * anatomy.width + 5 * anatomy.fat
    trunk = np.sqrt(1 - far**3.4)
    tissue = np.hypot(width * trunk, arms(frame, anatomy))
    uneven = smooth_noise(stream(anatomy.vessel_seed, "lateral tissue"), frame.size, 9)
    tissue += (0.3 + 0.5 * smoothstep(y, 0.4, 0.7)) * uneven * trunk
    narrow = np.interp(
        np.arange(len(sagittal.TRACHEA)),
        [len(sagittal.TRACHEA) - 6, len(sagittal.TRACHEA)],
        [0.085, 0.03],
    )
    air = draw(frame, [stroke(sagittal.TRACHEA * np.array([cage(anatomy), 1.0]), narrow)])
    tissue -= 3.6 * blur(air, frame.pixels(0.008)) + airway(frame, anatomy, pose)
    return np.maximum(tissue - gas(frame, anatomy), 0).astype(np.float32)


def airway(frame: Frame, anatomy: Anatomy, pose: Pose) -> Array:
    """cm of air in the upper lobe bronchi, seen end-on below the trachea."""
    y = float(parts.breathe(np.array([[0.0, -0.13]]), anatomy, pose)[0, 1])
    x = 0.118 * cage(anatomy)
    rings = [blob(frame, (x + a, y + b), (0.036, 0.036)) for a, b in ((0.0, 0.0), (-0.01, -0.09))]
    return sum(1.6 * np.sqrt(np.clip(1 - ring, 0, 1)) for ring in rings)  # type: ignore[return-value]


def arms(frame: Frame, anatomy: Anatomy) -> Array:
    """cm of water in the raised arms: they leave the image at the top, in front."""
    total = np.zeros((frame.size,) * 2, np.float32)
    for shift in (0.0, 0.07):
        line = curve(ARM + np.array([shift, 0.0]))
        arm = draw(
            frame, [stroke(line * np.array([cage(anatomy), 1.0]), 0.40 + 0.12 * anatomy.fat)]
        )
        total += 11.0 * blur(arm, frame.pixels(0.06))
    return total


def gas(frame: Frame, anatomy: Anatomy) -> Array | float:
    """cm of gas in the stomach, under the left dome."""
    _, y, wide, high = anatomy.bubble
    if wide < 0.03:
        return 0.0
    centre = (0.06 * cage(anatomy), y)
    inside = np.sqrt(np.clip(1 - blob(frame, centre, (1.2 * wide, high)), 0, 1))
    return 4.5 * inside * smoothstep(y + 0.4 * high - frame.grid[1], -0.02, 0.03)


def pulmonary_vessels(frame: Frame, anatomy: Anatomy, pose: Pose, cephalised: float) -> Array:
    """cm of blood in hila and branching vessels of both lungs."""
    shapes: list[Shape] = []
    roots = np.zeros((frame.half.size,) * 2, np.float32)
    for side in SIGN:
        shapes += sagittal.vessel_shapes(anatomy, pose, side, upper=1 + 0.8 * cephalised)
        x, y = sagittal.hilum(anatomy, pose, side)
        roots += np.exp(-blob(frame.half, (x - 0.02, y + 0.02), (0.065, 0.085), 0.5))
    roots = resize(2.6 * anatomy.hilum * roots, frame.size)
    return 2.3 * blur(draw(frame, shapes), frame.pixels(0.004)) + roots


def bones(frame: Frame, anatomy: Anatomy, pose: Pose) -> Array:
    """cm of bone: ribs of both sides, spine, sternum, shoulder blades, raised humeri."""
    wide = np.array([cage(anatomy), 1.0])
    fade = np.interp(np.arange(parts.NUM_RIBS), [0, 2, 4, 7, 9], [0.5, 1.0, 1.0, 0.45, 0.15])
    ribs = np.zeros((frame.size,) * 2, np.float32)
    for side in SIGN:
        lines = sagittal.rib_lines(anatomy, pose, side)
        shapes: list[Shape] = []
        for points, value in FADING:
            shapes += strokes(lines[:, :points], 0.056, value * fade)
        for points, value in FADING:
            shapes += strokes(lines[:, :points], 0.038, 0.6 * value * fade)
        ribs += anatomy.rib_density * draw(frame, shapes)
    breast_bone = sagittal.sternum(anatomy, pose)
    other = [stroke(breast_bone, 0.058, 150), stroke(breast_bone, 0.034, 90)]
    for shift in (0.0, 0.07):
        blade = np.array([(0.40 + shift, -0.66), (0.37 + shift, -0.38), (0.31 + shift, -0.10)])
        other.append(stroke(curve(blade) * wide, 0.026, 70))
        humerus = curve(ARM + np.array([shift, 0.0])) * wide
        other += [stroke(humerus, 0.13, 100), stroke(humerus, 0.09, 60)]
    drawn = ribs + draw(frame, other)
    return 1.35 * blur(drawn, frame.pixels(0.005)) + spine(frame, anatomy)


def spine(frame: Frame, anatomy: Anatomy) -> Array:
    """Vertebral bodies with their end-plates, disc spaces, arches and spinous processes."""
    x, y = frame.grid
    middle = at_height(sagittal.SPINE, y) * cage(anatomy)
    size = 0.075 + 0.012 * smoothstep(y, -0.6, 0.8)
    phase = np.cos((y + 0.25 * (x - middle)) * np.float32(2 * np.pi / 0.118))
    along = x - middle
    body = smoothstep(size - 0.006 * phase - np.abs(along), -0.008, 0.014)
    discs = 1 - 0.45 * smoothstep(phase, 0.62, 0.95)
    plates = smoothstep(phase, 0.25, 0.55) * smoothstep(-phase, -0.85, -0.55)
    arch = smoothstep(0.05 - np.abs(along - 0.135), 0, 0.03) * smoothstep(-phase, -0.3, 0.8)
    process = smoothstep(0.07 - np.abs(along - 0.20), 0, 0.04) * smoothstep(-phase, 0.3, 1.0)
    return 0.95 * body * (discs + 0.3 * plates) + 0.6 * arch + 0.35 * process
