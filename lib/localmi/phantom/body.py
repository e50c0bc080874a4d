"""Thickness maps of the chest: how many cm of water, bone and air each ray crosses."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from localmi.phantom import anatomy as parts
from localmi.phantom.anatomy import SIGN, Anatomy, Pose
from localmi.phantom.latents import Finding, stream
from localmi.phantom.raster import (
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

FRONT_RIBS = 7  # the lower ones stay at the side
FADING = ((0, 25), (2, 45), (4, 65), (6, 85))  # front ribs turn to cartilage: points off, value
LUNG_DEPTH = 13.0  # cm of lung a ray crosses at most
AIR_IN_LUNG = 0.72  # the rest is tissue and blood


@dataclass(frozen=True)
class Body:
    """One patient in one pose, from the front. Maps are [H, W] float32.

    The methods say where things lie in this view; `lateral_body.LateralBody` has another.
    """

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

    def at(self, side: str, out: Array | float) -> Array:
        """x of what lies `out` units from the midline."""
        return np.asarray(SIGN[side] * out)

    def place(self, finding: Finding, side: str, out: float, y: float) -> tuple[float, float]:
        """Where a finding is drawn that lies `out` units from the midline at height y."""
        return SIGN[side] * out, y

    def reach(self, side: str, y: Array | float) -> Array:
        """How far from x = 0 the lung goes at height y."""
        return parts.wall(self.anatomy, self.pose, y)

    def from_wall(self) -> Array:
        """Distance of every pixel from the wall of the chest, 0 outside."""
        x, y = self.frame.grid
        return np.maximum(parts.wall(self.anatomy, self.pose, y) - np.abs(x), 0)

    def hilum(self, side: str) -> tuple[float, float]:
        """Where a lung's vessels begin."""
        return parts.hilum(self.anatomy, self.pose, side)

    def branches(self, side: str, caliber: float) -> list[Shape]:
        """The vessels and bronchi of a lung."""
        return parts.vessel_shapes(self.anatomy, self.pose, side, caliber=caliber)


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
    outlines = parts.lung_outlines(anatomy, pose, raised or {})
    lungs = {side: draw(frame, [Shape(outline)]) for side, outline in outlines.items()}
    both = np.maximum(lungs["left"], lungs["right"])
    heart = draw(frame, [Shape(parts.heart_outline(anatomy, pose, enlarged))])
    lung_depth = LUNG_DEPTH * depth(frame, both, 0.26)
    room = 1 - 0.88 * depth(frame, heart, 0.26)
    room *= 0.62 + 0.38 * smoothstep(frame.grid[1], -0.8, -0.1)
    room *= 1 - 0.9 * great_vessels(frame, anatomy, pose)
    vessels = pulmonary_vessels(frame, anatomy, pose, cephalised) * both * (1 - 0.8 * heart)
    return Body(
        frame=frame,
        anatomy=anatomy,
        pose=pose,
        lungs=lungs,
        outlines=outlines,
        air=anatomy.lung_air * AIR_IN_LUNG * lung_depth * room * texture(frame, anatomy),
        tissue=resize(soft_tissue(frame.half, anatomy, pose), frame.size),
        vessels=vessels,
        bone=bones(frame, anatomy, pose),
        heart=heart,
    )


def soft_tissue(frame: Frame, anatomy: Anatomy, pose: Pose) -> Array:
    """Trunk, neck, shoulders, breasts, gastric bubble: cm of water along the ray."""
    x, y = frame.grid
    far = np.abs(x)
    half = (0.98 + 0.20 * anatomy.fat) * anatomy.width + 0.25 * smoothstep(-y, -0.15, 0.45)
    trunk = np.sqrt(np.clip(1 - (far / half) ** 8, 0, 1))
    slope = 0.36 * np.clip(far - 0.2, 0, None) ** 0.8 + 0.08 * np.exp(-far / 0.12)
    shoulder = -1.07 + anatomy.shoulder + slope
    above = np.sqrt(np.clip((y - shoulder) / 0.26, 0, 1)) * (0.74 + 0.26 * smoothstep(y, -0.8, 0))
    neck = np.sqrt(np.clip(1 - (far / (0.27 + 0.06 * anatomy.fat)) ** 2, 0, 1)) * 0.6
    body = np.sqrt((trunk * above) ** 2 + (neck * (1 - above)) ** 2)
    tissue = anatomy.thickness * body + 3.0 * smoothstep(y, 0.3, 0.9) * trunk
    tissue = tissue + breasts(frame, anatomy) * (trunk > 0)
    uneven = smooth_noise(stream(anatomy.vessel_seed, "tissue"), frame.size, 9)
    tissue = tissue + (0.25 + 0.45 * smoothstep(y, 0.4, 0.7)) * uneven * body
    middle = 0.3 * pose.oblique + float(parts.midline(anatomy, -0.5))
    trachea = smoothstep(0.034 - np.abs(x - middle), -0.008, 0.016)
    tissue -= 1.5 * trachea * smoothstep(-0.24 - y, 0.0, 0.10)
    return np.maximum(tissue - gas(frame, anatomy), 0).astype(np.float32)


def texture(frame: Frame, anatomy: Anatomy) -> Array:
    """Factor about 1 on the lungs' air: vessels and airways too small to draw."""
    rng = stream(anatomy.vessel_seed, "texture")
    fine, coarse = (smooth_noise(rng, frame.size, cells) for cells in (96, 36))
    return 1 + 0.022 * fine + 0.018 * coarse


def gas(frame: Frame, anatomy: Anatomy) -> Array | float:
    """cm of gas in the stomach, under the left dome, flat below (a fluid level)."""
    x, y, wide, high = anatomy.bubble
    if wide < 0.03:
        return 0.0
    inside = np.sqrt(np.clip(1 - blob(frame, (x, y), (wide, high)), 0, 1))
    return 2.6 * inside * smoothstep(y + 0.4 * high - frame.grid[1], -0.02, 0.03)


def breasts(frame: Frame, anatomy: Anatomy) -> Array:
    """cm of breast tissue, with its curved lower border."""
    total = np.zeros((frame.size, frame.size), np.float32)
    if anatomy.breast <= 0:
        return total
    for sign in SIGN.values():
        centre = (sign * anatomy.breast_place[0], anatomy.breast_place[1])
        inside = np.clip(1 - blob(frame, centre, (0.40, 0.36)), 0, 1)
        lower = smoothstep(frame.grid[1], centre[1] - 0.30, centre[1] + 0.25)
        total += anatomy.breast * smoothstep(inside, 0, 0.7) * (0.25 + 0.75 * lower)
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
    shapes: list[Shape] = []
    roots = np.zeros((frame.half.size,) * 2, np.float32)
    for side, sign in SIGN.items():
        shapes += parts.vessel_shapes(anatomy, pose, side, upper=1 + 0.8 * cephalised)
        x, y = parts.hilum(anatomy, pose, side)
        roots += np.exp(-blob(frame.half, (x + 0.01 * sign, y + 0.05), (0.055, 0.13), 0.3 * sign))
    roots = resize(1.5 * anatomy.hilum * roots, frame.size)
    return 2.4 * blur(draw(frame, shapes), frame.pixels(0.0035)) + roots


def bones(frame: Frame, anatomy: Anatomy, pose: Pose) -> Array:
    """cm of bone: ribs, spine, clavicles, scapulae, humeral heads."""
    back: list[Shape] = []
    front: list[Shape] = []
    collar: list[Shape] = []
    fade = np.interp(np.arange(parts.NUM_RIBS), [7, 9], [1.0, 0.35])
    rounded = np.interp(np.arange(24), [18, 23], [1.0, 0.35])
    for side in SIGN:
        posterior, anterior = parts.rib_lines(anatomy, pose, side)
        back += strokes(posterior, 0.050 * rounded, 165 * fade)
        back += strokes(posterior, 0.036 * rounded, 95 * fade)
        for cut, value in FADING:
            front += strokes(anterior[:FRONT_RIBS, : anterior.shape[1] - cut], 0.058, value)
        back.append(stroke(parts.wall_line(anatomy, pose, side), 0.022, 70))
        line = parts.clavicle_line(anatomy, pose, side)
        collar += [stroke(line, 0.062, 250), stroke(line, 0.044, 155)]
    ribs = anatomy.rib_density * (draw(frame, back) + draw(frame, front)) + draw(frame, collar)
    return 1.35 * blur(ribs + scapulae(frame, anatomy, pose), frame.pixels(0.005)) + spine(
        frame, anatomy
    )


def spine(frame: Frame, anatomy: Anatomy) -> Array:
    """Vertebral bodies, disc spaces, pedicles."""
    x, y = frame.grid
    across = np.abs(x - parts.midline(anatomy, y).astype(np.float32))
    phase = np.cos(y * np.float32(2 * np.pi / 0.118))
    body = smoothstep(0.080 + 0.005 * phase - across, -0.01, 0.02)
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
        shapes += [Shape(outline * place, 50), stroke(border[:4] * place, 0.020, 75)]
        turn = np.linspace(0, 2 * np.pi, 40)
        head = np.stack([0.99 - inward / 2 + 0.10 * np.cos(turn), -0.58 + 0.11 * np.sin(turn)], 1)
        shapes.append(Shape(head * place, 130))
    return draw(frame, shapes)
