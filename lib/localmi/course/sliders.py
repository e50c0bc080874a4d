"""Figures to play with: in a live notebook with a slider for each thing they depend on.

Where nobody can move a slider (`make render`, the tests, a headless run) the plain figure is shown
instead: it is what is stored.
"""

import functools
import os
from collections.abc import Callable
from typing import Any

from IPython.display import display
from matplotlib.figure import Figure

from localmi import STILL
from localmi.course.plots import show


def play(draw: Callable[..., Figure], *, alt: str, caption: str = "", **controls: Any) -> None:
    """Shows `draw()`, and in a live notebook what it draws at other values of its arguments.

    Args:
        draw: makes a figure; each argument has a default.
        alt: as in `show`; true of the figure at any value.
        caption: as in `show`.
        controls: argument -> what it may be: (lowest, highest) or (lowest, highest, step), a list
            of choices, or a text to be edited.

    Raises:
        ValueError: alt is empty, or a control is no argument of `draw`.
    """
    unknown = sorted(controls.keys() - draw.__code__.co_varnames[: draw.__code__.co_argcount])
    if unknown:
        raise ValueError(f"{draw.__name__} has no argument {', '.join(unknown)}.")
    if os.environ.get(STILL):
        show(draw(), alt=alt, caption=caption)
        return
    import ipywidgets

    @functools.wraps(draw)  # its defaults are where the sliders begin
    def again(**values: Any) -> None:
        show(draw(**values), alt=alt, caption=caption)

    panel = ipywidgets.interactive(again, **controls)
    for control in panel.children:
        if hasattr(control, "continuous_update"):  # draw when the slider is let go
            control.continuous_update = False
    display(panel)
