"""What each finding does to the rays, and where: an effect on the thickness maps and a mask."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from localmi.phantom import anatomy as parts
from localmi.phantom.anatomy import SIGN
from localmi.phantom.body import Body
from localmi.phantom.devices import device
from localmi.phantom.latents import Finding
from localmi.phantom.raster import (
    Array,
    Mask,
    Shape,
    blob,
    blur,
    draw,
    smooth_noise,
    smoothstep,
    stroke,
)

HEART_WIDTH = {"mild": 1.16, "moderate": 1.29, "severe": 1.45}
ZONE = {"upper": 0.24, "mid": 0.52, "lower": 0.79}  # of the way from the apex to the dome
EFFUSION = {"small": 0.11, "moderate": 0.31, "large": 0.58}  # height over the lung's
PNEUMOTHORAX = {"small": 0.09, "moderate": 0.17, "large": 0.32}  # gap at the apex, units


@dataclass(frozen=True)
class Effect:
    """fill: part of the lung's air replaced by fluid (below 0: more air), [H, W]; added: cm of
    water on top, [H, W]; vessels: factor on the vessel map; mask: [H, W] bool, where it is."""

    mask: Mask
    fill: Array | float = 0.0
    added: Array | float = 0.0
    vessels: Array | float = 1.0


@dataclass(frozen=True)
class Changes:
    """What findings do to the anatomy before it is drawn."""

    enlarged: float = 1.0
    cephalised: float = 0.0
    raised: Mapping[str, float] = field(default_factory=dict)


def anatomical_changes(present: Mapping[str, Finding]) -> Changes:
    """Heart width (cardiomegaly), wide upper vessels (edema), raised dome (atelectasis)."""
    enlarged, cephalised, raised = 1.0, 0.0, {}
    if heart := present.get("cardiomegaly"):
        enlarged = 1 + (HEART_WIDTH[heart.attributes["level"]] - 1) * (0.5 + 0.5 * heart.contrast)
    if edema := present.get("edema"):
        cephalised = 0.30 + 0.55 * edema.contrast
    if collapse := present.get("atelectasis"):
        raised = dict.fromkeys(sides(collapse), 0.05 * collapse.contrast)
    return Changes(enlarged, cephalised, raised)


def sides(finding: Finding) -> tuple[str, ...]:
    """The lungs a finding lies in."""
    side = finding.attributes["side"]
    return ("left", "right") if side == "bilateral" else (side,)


def extent(body: Body, side: str) -> tuple[float, float]:
    """y of the lung's apex and of the top of its dome."""
    outline = body.outlines[side]
    inner = np.abs(outline[:, 0]) < 0.45 * body.anatomy.width
    low = outline[inner & (outline[:, 1] > 0), 1]
    return float(outline[:, 1].min()), float(low.min())


def place(body: Body, finding: Finding, rng: np.random.Generator) -> tuple[float, float]:
    """A random centre in the zone of a finding's lung, off the heart where it can be."""
    side, zone = finding.attributes["side"], finding.attributes["zone"]
    top, bottom = extent(body, side)
    y = top + (bottom - top) * (ZONE[zone] + rng.uniform(-0.05, 0.05))
    outer = float(parts.wall(body.anatomy, body.pose, y))
    inner = 0.16 if side == "right" else 0.16 + 0.20 * max(0.0, ZONE[zone] - 0.4) / 0.4
    x = inner + (outer - inner) * rng.uniform(0.35, 0.72)
    return body.place(finding, side, x, y)


def cardiomegaly(body: Body, finding: Finding, rng: np.random.Generator) -> Effect:
    """The heart itself is drawn larger (`anatomical_changes`); here only its mask."""
    return Effect(mask=body.heart > 0.5)


def pleural_effusion(body: Body, finding: Finding, rng: np.random.Generator) -> Effect:
    """Fluid at the base with a meniscus: its surface rises towards the lateral wall."""
    y = body.frame.grid[1]
    fill = np.zeros_like(y)
    for side in sides(finding):
        top, bottom = extent(body, side)
        height = EFFUSION[finding.attributes["level"]] * rng.uniform(0.85, 1.15)
        height *= 0.75 + 0.25 * finding.contrast
        level = bottom + 0.12 - height * (bottom - top)
        gap = body.from_wall()
        surface = level - 0.22 * np.exp(-gap / 0.10) + 0.10 * smoothstep(gap, 0.1, 0.6)
        edge = 0.05 if body.pose.ap else 0.025
        fill += smoothstep(y - surface, -edge, 1.5 * edge) * body.lungs[side]
    return Effect(fill=(0.46 + 0.50 * finding.contrast) * fill, mask=fill > 0.3)


def collapsed_outline(body: Body, side: str, gap: float) -> Array:
    """Outline [N, 2] of a lung that has come away from the wall by up to `gap` units."""
    outline = body.outlines[side]
    top, bottom = extent(body, side)
    down = np.clip((outline[:, 1] - top) / (bottom - top), 0, 1)
    inward = gap * (0.8 - 0.5 * down) * np.clip((np.abs(outline[:, 0]) - 0.2) / 0.3, 0, 1)
    end = len(parts.LUNG_WALL)  # then comes the dome, which stays
    inward *= np.interp(np.arange(len(outline)), [end - 1, end + 5], [1.0, 0.0])
    lowered = gap * 1.1 * np.clip(1 - down / 0.55, 0, 1)
    return outline + np.stack([-SIGN[side] * inward, lowered], axis=1)


def pneumothorax(body: Body, finding: Finding, rng: np.random.Generator) -> Effect:
    """Air between chest wall and lung: a crescent without vessels behind a thin pleural line."""
    side, strength = finding.attributes["side"], finding.contrast
    gap = PNEUMOTHORAX[finding.attributes["level"]] * rng.uniform(0.85, 1.15)
    outline = collapsed_outline(body, side, gap)
    collapsed = draw(body.frame, [Shape(outline)])
    lateral = smoothstep(np.abs(body.frame.grid[0]), 0.10, 0.16)
    crescent = body.lungs[side] * (1 - collapsed) * lateral
    apex = int(np.argmin(outline[:, 1]))
    line = draw(body.frame, [stroke(outline[max(apex - 6, 0) : 44], 0.012)]) * body.lungs[side]
    return Effect(
        fill=-0.36 * strength * crescent + 0.05 * collapsed * body.lungs[side] * strength,
        added=(0.35 + 0.75 * strength) * line,
        vessels=1 - (0.5 + 0.5 * strength) * crescent,
        mask=(crescent > 0.3) | (line > 0.4),
    )


def patch(body: Body, finding: Finding, rng: np.random.Generator, radius: float) -> Array:
    """1 - squared distance from a random centre in the finding's zone: 1 inside, below 0 out."""
    size = radius * np.sqrt(rng.uniform(0.7, 1.4))
    stretch = rng.uniform(0.8, 1.25)
    centre = place(body, finding, rng)
    angle = rng.uniform(0, np.pi)
    return 1 - blob(body.frame, centre, (size * stretch, size / stretch), angle)


def consolidation(body: Body, finding: Finding, rng: np.random.Generator) -> Effect:
    """A dense patch with a fairly sharp border and dark bronchi inside."""
    size = body.frame.size
    ragged = 0.32 * smooth_noise(rng, size, 10) + 0.15 * smooth_noise(rng, size, 24)
    inside = patch(body, finding, rng, 0.22) + ragged
    area = smoothstep(inside, -0.05, 0.65) * body.lungs[finding.attributes["side"]]
    shapes = body.branches(finding.attributes["side"], caliber=0.8)
    bronchi = blur(draw(body.frame, shapes[-50:]), body.frame.pixels(0.006))
    fill = (0.20 + 0.60 * finding.contrast) * area * (1 - 0.35 * bronchi)
    return Effect(fill=fill, vessels=1 - 0.8 * area, mask=area > 0.3)


def pneumonia(body: Body, finding: Finding, rng: np.random.Generator) -> Effect:
    """A patchy, ill-defined opacity: soft lobules that thin out."""
    size = body.frame.size
    inside = np.clip(patch(body, finding, rng, 0.30), 0, 1)
    patchy = smooth_noise(rng, size, 30) + 0.8 * smooth_noise(rng, size, 12)
    lobules = 0.4 + 0.6 * smoothstep(patchy, -1.6, 1.6)
    area = np.sqrt(inside) * inside * body.lungs[finding.attributes["side"]]
    fill = (0.18 + 0.62 * finding.contrast) * area * lobules
    return Effect(fill=np.minimum(fill, 0.8), mask=area > 0.2)


def lung_opacity(body: Body, finding: Finding, rng: np.random.Generator) -> Effect:
    """A faint even haze through which vessels still show."""
    inside = np.clip(patch(body, finding, rng, 0.34), 0, 1)
    area = smoothstep(inside, 0.0, 0.8) * body.lungs[finding.attributes["side"]]
    return Effect(fill=(0.10 + 0.24 * finding.contrast) * area, mask=area > 0.25)


def plates(body: Body, side: str, rng: np.random.Generator) -> list[Shape]:
    """Two or three thin, nearly horizontal bands above the dome of one lung."""
    _, bottom = extent(body, side)
    wall = float(parts.wall(body.anatomy, body.pose, bottom))
    bands = []
    for number in range(int(rng.integers(2, 4))):
        middle = (rng.uniform(0.45, 0.7) * wall, bottom - 0.05 - 0.085 * number)
        half, tilt = rng.uniform(0.12, 0.2), rng.uniform(-0.35, 0.15)
        along = np.linspace(-half, half, 20)
        bow = 0.02 * rng.uniform(-1, 1) * (1 - (along / half) ** 2)
        line = np.stack([middle[0] + along, middle[1] - tilt * along + bow], axis=1)
        taper = 0.030 * np.sqrt(np.clip(1.02 - (along / half) ** 2, 0, 1))
        bands.append(stroke(np.stack([body.at(side, line[:, 0]), line[:, 1]], axis=1), taper))
    return bands


def atelectasis(body: Body, finding: Finding, rng: np.random.Generator) -> Effect:
    """Plate-like bands at the base, some haze, and a slightly raised dome."""
    bands: list[Shape] = []
    haze = np.zeros_like(body.air)
    for side in sides(finding):
        bands += plates(body, side, rng)
        _, bottom = extent(body, side)
        wall = float(parts.wall(body.anatomy, body.pose, bottom))
        near = blob(body.frame, (float(body.at(side, 0.55 * wall)), bottom + 0.02), (0.32, 0.13))
        haze = haze + smoothstep(1 - near, 0, 0.8) * body.lungs[side]
    drawn = draw(body.frame, bands) * np.maximum(body.lungs["left"], body.lungs["right"])
    strength = 0.35 + 0.65 * finding.contrast
    fill = 0.62 * blur(drawn, body.frame.pixels(0.005)) + 0.12 * haze
    mask = blur(drawn, body.frame.pixels(0.03)) > 0.10
    return Effect(fill=strength * fill, mask=mask | (haze > 0.5))


def perihilar_haze(body: Body, level: str, rng: np.random.Generator) -> Array:
    """Clouds around both hila, 0 to 1, wider with the level; seldom quite symmetric."""
    haze = np.zeros_like(body.air)
    reach = {"mild": (0.20, 0.26), "moderate": (0.32, 0.42), "severe": (0.33, 0.44)}[level]
    for side, sign in SIGN.items():
        x, y = body.hilum(side)
        low, share = rng.uniform(-0.05, 0.25), rng.uniform(0.55, 1.0)
        far = blob(body.frame, (x + sign * 0.5 * reach[0], y + low), reach)
        haze = np.maximum(haze, share * smoothstep(1.1 - far, 0, 1.0))
    return haze * np.maximum(body.lungs["left"], body.lungs["right"])


def edema(body: Body, finding: Finding, rng: np.random.Generator) -> Effect:
    """Mild: hilar haze, wide upper vessels. Moderate: septal lines, haze. Severe: bat-wing."""
    level, strength = finding.attributes["level"], 0.25 + 0.75 * finding.contrast
    size = body.frame.size
    haze = perihilar_haze(body, level, rng)
    amount = {"mild": 0.16, "moderate": 0.28, "severe": 0.70}[level]
    fill, mask = amount * strength * haze, haze > 0.25
    if level != "mild":
        grain = 1 + 0.07 * smooth_noise(rng, size, 64) + 0.06 * smooth_noise(rng, size, 14)
        lines = septal_lines(body, rng)
        fill = fill * grain + strength * 0.32 * lines
        mask = mask | (blur(lines, body.frame.pixels(0.03)) > 0.06)
    return Effect(fill=np.clip(fill, 0, 0.9), mask=mask)


def septal_lines(body: Body, rng: np.random.Generator) -> Array:
    """Kerley B lines: short, thin, horizontal, at the lateral bases."""
    shapes = []
    for side, sign in SIGN.items():
        _, bottom = extent(body, side)
        for number in range(7):
            y = bottom + 0.08 - 0.055 * number + rng.uniform(-0.01, 0.01)
            outer = float(body.reach(side, y)) - 0.01
            along = np.linspace(outer - rng.uniform(0.06, 0.13), outer, 5)
            line = np.stack([sign * along, y + 0.1 * (along - outer)], axis=1)
            shapes.append(stroke(line, 0.010))
    return draw(body.frame, shapes) * np.maximum(body.lungs["left"], body.lungs["right"])


def support_devices(body: Body, finding: Finding, rng: np.random.Generator) -> Effect:
    """A tube, a catheter or a pacemaker."""
    added, mask = device(body, finding.attributes["kind"], rng)
    return Effect(added=(0.35 + 0.65 * finding.contrast) * added, mask=mask)


Draw = Callable[[Body, Finding, np.random.Generator], Effect]
EFFECTS: Mapping[str, Draw] = {
    "atelectasis": atelectasis,
    "cardiomegaly": cardiomegaly,
    "consolidation": consolidation,
    "edema": edema,
    "lung_opacity": lung_opacity,
    "pleural_effusion": pleural_effusion,
    "pneumonia": pneumonia,
    "pneumothorax": pneumothorax,
    "support_devices": support_devices,
}
