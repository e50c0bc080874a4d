"""The course's figures: one style, alt text on each, a dashed line at the true MI.

A plot cell ends with `show(figure, alt="...")`, which stores a PNG with its alt text.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import seaborn as sns
from IPython.display import Markdown, display
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike
from PIL import Image

# Okabe and Ito's colours, told apart by colour-blind readers too; one meaning each, everywhere.
COLOURS = {
    "held-out": "#0072B2",
    "training": "#56B4E9",
    "shuffled": "#D55E00",
    "truth": "#000000",
    "cap": "#7F7F7F",
    "mask": "#F0E442",
    "heat": "#D55E00",
    "other": "#009E73",
}
RADIOGRAPH = 64 * 64  # an image of more pixels is one, and no table
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")


def use_style() -> None:
    """The one style of all figures; `set_up` calls it."""
    sns.set_theme(style="ticks", context="notebook", palette=list(PALETTE))
    plt.rcParams.update(
        {
            "figure.dpi": 110,
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": "medium",
            "axes.titlelocation": "left",
            "legend.frameon": False,
            "image.cmap": "gray",
        }
    )


def show(figure: Figure, *, alt: str, caption: str = "") -> None:
    """Shows a figure with alt text and closes it; the last line of a plot cell.

    Args:
        figure: as from `plt.subplots`.
        alt: what a reader who cannot see the figure needs to know; the output's text form, so it
            is tested with the other outputs and must not hold digits that training decides.
        caption: a line under the figure, Markdown.

    Raises:
        ValueError: alt is empty.
    """
    if not alt.strip():
        raise ValueError('A figure needs alt text: show(figure, alt="what it shows").')
    display(_picture(figure, alt))
    plt.close(figure)
    if caption:
        display(Markdown(f"*{caption}*"))


@dataclass(frozen=True)
class _Picture:
    """PNG and alt text as one output: nbconvert and most readers put it on the image."""

    png: bytes
    alt: str
    width: int  # in pixels of the page; a sharp figure has twice as many
    height: int

    def _repr_mimebundle_(self, **_: object) -> tuple[dict[str, bytes | str], dict[str, object]]:
        bundle: dict[str, bytes | str] = {"image/png": self.png, "text/plain": self.alt}
        size = {"width": self.width, "height": self.height}
        return bundle, {"image/png": {"alt": self.alt, **size}}


def _picture(figure: Figure, alt: str) -> _Picture:
    """A plot with twice the pixels and 256 colours: sharp on a projector, and as small a file.

    A figure with radiographs keeps its pixels: they have no more to show.
    """
    sizes = [np.prod(image.get_size()) for axes in figure.axes for image in axes.images]
    sharp = 1 if max(sizes, default=0) > RADIOGRAPH else 2
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=sharp * figure.dpi, metadata={"Software": None})
    with Image.open(buffer) as picture:
        width, height = (number // sharp for number in picture.size)
        if sharp > 1:
            flat = picture.convert("RGB").quantize(256, dither=Image.Dither.NONE)
            buffer = io.BytesIO()
            flat.save(buffer, "PNG", optimize=True)
    return _Picture(buffer.getvalue(), alt, width, height)


@dataclass(frozen=True)
class Curve:
    """Estimates of MI over the steps of training, in nats."""

    steps: Sequence[float]
    nats: Sequence[float]
    label: str  # one of `COLOURS` keeps its colour in every figure
    low: Sequence[float] | None = None  # interval, where there is one
    high: Sequence[float] | None = None


def plot_mi(
    curves: Sequence[Curve],
    *,
    truth: float | None = None,
    truth_label: str = "true MI",
    cap: float | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Bounds over steps with their interval bands, the true MI dashed and the cap dotted.

    Args:
        curves: one for each estimate: "training", "held-out", "shuffled".
        truth: true MI in nats, where it is known.
        truth_label: what the number is, where it is not the true MI itself ("true MI at most").
        cap: what the bound can reach at most, mean log K_i.
        axes: where to draw; default a new figure (`axes.figure`).
    """
    if axes is None:
        axes = plt.subplots(figsize=(7, 4))[1]
    free = iter([colour for colour in PALETTE[2:] if colour != COLOURS["mask"]] * 4)  # not yellow
    for curve in curves:
        colour = COLOURS.get(curve.label) or next(free)
        axes.plot(curve.steps, curve.nats, color=colour, label=curve.label)
        if curve.low is not None and curve.high is not None:
            axes.fill_between(
                curve.steps, curve.low, curve.high, color=colour, alpha=0.2, linewidth=0
            )
    if truth is not None:
        axes.axhline(
            truth, color=COLOURS["truth"], linestyle="--", label=f"{truth_label} {truth:.2f}"
        )
    if cap is not None:
        axes.axhline(cap, color=COLOURS["cap"], linestyle=":", label=f"cap {cap:.2f}")
    axes.axhline(0, color="#CCCCCC", linewidth=0.8, zorder=0)
    axes.set(xlabel="step", ylabel="mutual information (nats)")
    axes.legend(loc="best")
    return axes


def plot_radiograph(
    axes: Axes,
    image: ArrayLike,
    *,
    title: str = "",
    outlines: Mapping[str, ArrayLike] | None = None,
    heat: ArrayLike | None = None,
) -> Axes:
    """A radiograph, with outlines of masks and a heat map of regions over it.

    Args:
        axes: where to draw.
        image: [H, W], any range.
        outlines: label -> [h, w] bool, of any size, stretched over the image; each outlined in a
            colour of its own.
        heat: [h, w] of any grid (4x4 regions), stretched over the image: the highest value has
            the strongest tint and a frame, the lowest neither.
    """
    picture = np.asarray(image)
    height, width = picture.shape
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(picture, cmap="gray", extent=extent)
    if heat is not None:
        scores = np.asarray(heat, dtype=float)
        axes.imshow(_tint(scores), extent=extent, interpolation="nearest")
        if np.ptp(scores):
            axes.add_patch(_winner(scores, extent))
    colours = (COLOURS["mask"], PALETTE[5], PALETTE[2], PALETTE[3], PALETTE[4])
    for index, (label, mask) in enumerate((outlines or {}).items()):
        colour = colours[index % len(colours)]
        outlined = np.asarray(mask, dtype=float)
        if outlined.any():
            y, x = (
                (np.arange(number) + 0.5) * pixels / number - 0.5
                for number, pixels in zip(outlined.shape, picture.shape, strict=True)
            )
            axes.contour(x, y, outlined, levels=[0.5], colors=[colour], linewidths=1.5)
        axes.plot([], [], color=colour, label=label.replace("_", " "))
    if outlines and len(outlines) > 1:
        legend = axes.legend(
            loc="lower right", fontsize="x-small", labelcolor="white", frameon=True
        )
        legend.get_frame().set(facecolor="black", edgecolor="none", alpha=0.6)
    axes.set(xticks=[], yticks=[], title=title)
    axes.spines[:].set_visible(False)
    return axes


def _winner(heat: np.ndarray, extent: tuple[float, float, float, float]) -> Rectangle:
    """A frame around the region with the highest value."""
    left, right, bottom, top = extent
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    height, width = (bottom - top) / heat.shape[0], (right - left) / heat.shape[1]
    corner = left + column * width, top + row * height
    return Rectangle(corner, width, height, fill=False, edgecolor="white", linewidth=1.5)


def _tint(heat: np.ndarray) -> np.ndarray:
    """[h, w] -> [h, w, 4]: one colour, the more opaque the higher, so that the image shows."""
    span = np.ptp(heat) or 1.0
    tint = np.empty((*heat.shape, 4))
    tint[..., :3] = to_rgb(COLOURS["heat"])
    tint[..., 3] = 0.5 * (heat - heat.min()) / span
    return tint


def contact_sheet(
    images: Sequence[ArrayLike],
    titles: Sequence[str] | None = None,
    *,
    outlines: Sequence[Mapping[str, ArrayLike]] | None = None,
    columns: int = 4,
    size: float = 2.2,
) -> Figure:
    """Radiographs in rows, each with its title and the outlines of its findings.

    Args:
        images: [H, W] each.
        titles: one for each image.
        outlines: one mapping (label -> [H, W] bool) for each image.
        columns: images in a row.
        size: inches of one image.
    """
    rows = -(-len(images) // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(size * columns, (size + 0.25) * rows), squeeze=False
    )
    for axes in grid.flat[len(images) :]:
        axes.axis("off")
    for index, (axes, image) in enumerate(zip(grid.flat, images, strict=False)):
        plot_radiograph(
            axes,
            image,
            title=titles[index] if titles else "",
            outlines=outlines[index] if outlines else None,
        )
        axes.title.set_fontsize("small")
    return figure
