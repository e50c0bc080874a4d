"""The map of errors on tasks of known information: a row for each task, a column for each method.

Drawn by 03_neural_estimators for a few tasks, by `benchmarks/estimators.py figure` for all.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from localmi.errors import DataError
from localmi.mi.distributions import TASKS, task

FULL = 0.5  # nats, where the colours end
REFUSED = "#DDDDDD"
NAMES = {
    "ksg": "KSG",
    "ksg after ranks": "KSG,\nafter ranks",
    "cca": "Gaussian",
    "cca after asinh": "Gaussian,\nafter asinh",
    "cca after ranks": "Gaussian,\nafter ranks",
    "infonce": "InfoNCE",
    "mine": "MINE",
    "js": "JS,\nthen DV",
    "smile": "SMILE",
    "demi": "DEMI",
    "doe": "DoE",
}  # as in benchmarks/estimators.py -> as in the figure, in the figure's order


def mean_errors(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Value less truth in nats, the mean over the seeds: [tasks, methods].

    A method that refused one draw of a task has no mean there, but NaN: it could else choose its
    draws. Rows that occur twice (same task, method and seed) count once.

    Args:
        rows: with "task", "truth", "method", "seed" and "value" (None where it was refused).

    Returns:
        Rows "label: truth" in the order of `TASKS`, then any others as they come; columns in the
        order of `NAMES`, then any others as they come.

    Raises:
        DataError: no rows.
    """
    errors: dict[tuple[str, str], dict[int, float]] = {}
    truths: dict[str, float] = {}
    for row in rows:
        name = row["task"]
        truths[name] = row["truth"]
        value = np.nan if row["value"] is None else row["value"] - row["truth"]
        errors.setdefault((name, row["method"]), {}).setdefault(row["seed"], value)
    if not errors:
        raise DataError("There are no rows to draw; run the benchmark with --json first.")
    tasks = _ordered(TASKS, truths)
    methods = _ordered(NAMES, [method for _, method in errors])
    mean = {cell: float(np.mean(list(of_seeds.values()))) for cell, of_seeds in errors.items()}
    return pd.DataFrame(
        [[mean.get((name, method), np.nan) for method in methods] for name in tasks],
        index=[
            f"{task(name).label if name in TASKS else name}: {truths[name]:.2f}" for name in tasks
        ],
        columns=[NAMES.get(method, method) for method in methods],
    )


def plot_errors(errors: pd.DataFrame) -> Figure:
    """A heat map with the error in each cell: orange too high, purple too low, white right.

    Colours end at half a nat; a cell that was refused (NaN) is grey and says so.

    Args:
        errors: [tasks, methods] nats, as from `mean_errors`.
    """
    height, width = errors.shape
    figure, axes = plt.subplots(figsize=(5.2 + 0.95 * width, 1.3 + 0.33 * height))
    axes.set_facecolor(REFUSED)
    values = np.ma.masked_invalid(errors.to_numpy(dtype=float))
    picture = axes.imshow(values, cmap="PuOr_r", vmin=-FULL, vmax=FULL, aspect="auto")
    for (row, column), value in np.ndenumerate(errors.to_numpy(dtype=float)):
        colour = "white" if abs(value) > 0.6 * FULL else "black"
        axes.text(
            column, row, _words(value), ha="center", va="center", color=colour, fontsize="small"
        )
    axes.set_xticks(range(width), errors.columns, fontsize="small")
    axes.set_yticks(range(height), errors.index, fontsize="small")
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(
        picture, extend="both", aspect=max(12, height), shrink=min(1, 12 / height), pad=0.02
    )
    bar.set_label("error (nats)")
    return figure


def _ordered(known: Iterable[str], found: Iterable[str]) -> Sequence[str]:
    """Each of `found` once: those that are known first, in the known order."""
    present = dict.fromkeys(found)
    return [*(name for name in known if name in present), *(n for n in present if n not in known)]


def _words(error: float) -> str:
    """+0.12, −5.2 or "refused"."""
    if np.isnan(error):
        return "refused"
    if abs(error) < 0.005:
        return "0.00"
    digits = 2 if abs(error) < 0.995 else 1
    return f"{error:+.{digits}f}".replace("-", "−")
