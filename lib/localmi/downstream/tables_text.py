"""The tables of a grid as Markdown. Taught in 10_the_papers_tables."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

IMAGE_ONLY = "image-only"
MEAN = "mean"  # over the findings of a task
LEVEL = 0.05  # of a test


def tables_as_markdown(auc: pd.DataFrame, comparisons: pd.DataFrame) -> str:
    """A table of AUCs for each task and share of the labels, and one of the paired tests."""
    parts = []
    for (task, fraction), rows in auc.groupby(["task", "fraction"], sort=False):
        seeds = sorted(set(rows["seeds"]))
        parts.append(
            f"## {task}, {_share(fraction)} of the labels\n\n"
            f"AUC on the test split, mean over seeds ({' or '.join(map(str, seeds))}) "
            f"[95 % interval over patients].\n\n{_auc_table(rows)}"
        )
    if len(comparisons):
        parts.append(
            "## Paired tests\n\nDifference of the mean AUC, a - b [95 % interval over patients "
            "and seeds]; p by Holm over all rows, of these networks (patients alone, permuted) "
            "and of the method (patients and seeds). Of the single findings: how many are better "
            f"or worse with the method's p below {LEVEL}.\n\n{_tests(comparisons)}"
        )
    return "\n".join(parts)


def _auc_table(rows: pd.DataFrame) -> str:
    findings = list(dict.fromkeys(rows["finding"]))
    lines = []
    for variant, own in rows.groupby("variant", sort=False):
        cells = {row.finding: _interval(row.auc, row.auc_low, row.auc_high) for row in _rows(own)}
        lines.append([str(variant), *(cells[finding] for finding in findings)])
    return _markdown(["variant", *findings], lines)


def _tests(comparisons: pd.DataFrame) -> str:
    lines = []
    keys = ["task", "fraction", "a", "b"]
    for (task, fraction, a, b), own in comparisons.groupby(keys, sort=False):
        (mean,) = _rows(own[own["finding"] == MEAN])
        single = own[own["finding"] != MEAN]
        sure = single.loc[single["p_method_holm"] < LEVEL, "difference"]
        difference = _interval(mean.difference, mean.method_low, mean.method_high, sign="+")
        p_values = ["–" if pd.isna(p) else f"{p:.4f}" for p in (mean.p_holm, mean.p_method_holm)]
        found = f"{(sure > 0).sum()} better, {(sure < 0).sum()} worse" if len(single) else "–"
        lines.append([str(task), _share(fraction), str(a), str(b), difference, *p_values, found])
    head = ["task", "labels", "a", "b", "a - b", "p (networks)", "p (method)", "findings"]
    return _markdown(head, lines)


def _share(fraction: object) -> str:
    return f"{100 * float(str(fraction)):.3g} %"


def _rows(table: pd.DataFrame) -> list[Any]:
    return list(table.itertuples())


def _interval(value: float, low: float, high: float, *, sign: str = "") -> str:
    """0.81 [0.76, 0.85]; a dash where there is none."""
    if pd.isna(value):
        return "–"
    if pd.isna(low):
        return f"{value:{sign}.3f}"
    return f"{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
