"""A figure to play with: plain where nobody is there, with sliders where somebody is."""

from typing import Any

import matplotlib.pyplot as plt
import pytest
from matplotlib.figure import Figure

from localmi import STILL
from localmi.course import sliders as module
from localmi.course.sliders import play

Shown = list[Any]


def draw(bins: int = 4, shape: str = "round", wide: bool = False) -> Figure:
    figure, axes = plt.subplots()
    axes.set_title(f"{bins} {shape} {wide}", loc="center")  # whatever the style
    return figure


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    """What was shown: titles of figures, and widgets."""
    found: Shown = []

    def show(figure: Figure, *, alt: str, caption: str = "") -> None:
        found.append((figure.axes[0].get_title(), alt, caption))
        plt.close(figure)

    monkeypatch.setattr(module, "show", show)
    monkeypatch.setattr(module, "display", found.append)
    return found


def test_where_nobody_is_the_plain_figure_is_shown(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STILL, "1")
    play(draw, alt="A title.", caption="Figure 1", bins=(2, 9), shape=["round", "flat"])
    assert shown == [("4 round False", "A title.", "Figure 1")]


def test_sliders_begin_at_the_defaults_and_draw_anew(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(STILL, raising=False)
    play(draw, alt="A title.", bins=(2, 9), shape=["flat", "round"], wide=False)
    panel = shown[-1]
    bins, shape, wide, _ = panel.children
    assert (bins.value, bins.min, bins.max, shape.value, wide.value) == (4, 2, 9, "round", False)
    assert not bins.continuous_update
    shown.clear()
    bins.value = 7
    shape.value = "flat"
    assert [title for title, *_ in shown] == ["7 round False", "7 flat False"]


@pytest.mark.parametrize("still", ["", "1"])
def test_a_control_must_be_an_argument(still: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STILL, still)
    with pytest.raises(ValueError, match="draw has no argument bin, size"):
        play(draw, alt="A title.", bin=(2, 9), size=3)


def test_alt_text_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STILL, "1")
    with pytest.raises(ValueError, match="needs alt text"):
        play(draw, alt=" ")
