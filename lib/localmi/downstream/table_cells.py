"""Finished downstream runs, read back and sorted into the cells of the paper's tables.

Taught in 10_the_papers_tables.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from localmi.downstream.config import DownstreamConfig
from localmi.downstream.result import PREDICTIONS, Predictions, read_predictions
from localmi.downstream.tables_text import IMAGE_ONLY
from localmi.downstream.tasks import auc_columns
from localmi.errors import DataError
from localmi.model.image import PAPERS
from localmi.names import Task
from localmi.record import RESULTS

ORIGIN = re.compile(r"(local|global) (infonce|mine|dv), step ")  # how `encoder` began once
OWN = ("init", "seed")  # parameters in which the runs of one cell may differ


@dataclass(frozen=True)
class Run:
    """A finished downstream run.

    architecture: of its network. objective, bound, mode: of the variant; of image-only objective
        and bound are "".
    shared: its parameters but `OWN`, and the hash of the data.
    """

    folder: Path
    task: Task
    architecture: str
    objective: str
    bound: str
    mode: str
    fraction: float
    seed: int
    shared: Mapping[str, Any]
    predictions: Predictions

    @property
    def variant(self) -> str:
        """ "image-only", or as "local-infonce-tuned" or "random-probe"; "resnet18 image-only" of
        another network than the paper's."""
        words = (self.objective, self.bound, self.mode)
        name = "-".join(filter(None, words)) if self.objective else IMAGE_ONLY
        return name if self.architecture == PAPERS else f"{self.architecture} {name}"


@dataclass(frozen=True)
class Cell:
    """The runs of one task, variant and share of the labels, by seed: S of them.

    scores: [S, n, F] of the nine findings, or of edema's three cuts.
    """

    runs: Mapping[int, Run]
    scores: np.ndarray


def read_runs(folder: Path) -> list[Run]:
    """Every finished downstream run below a folder.

    Raises:
        DataError: there is none, or one started from a checkpoint of unknown origin.
    """
    records = {
        path: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.rglob(RESULTS))
    }
    runs = [
        _run(path.parent, record)
        for path, record in records.items()
        if record["notebook"] == "downstream"
    ]
    if not runs:
        raise DataError(
            f"{folder} holds no finished downstream run ({RESULTS} beside {PREDICTIONS}). "
            "`make tables` makes all of them."
        )
    return runs


def _run(folder: Path, record: Mapping[str, Any]) -> Run:
    parameters = DownstreamConfig.of_record(record["parameters"]).as_record()
    data = record["data"]
    objective, bound = data.get("objective"), data.get("bound")
    if objective is None:  # an earlier version said it in words alone
        found = ORIGIN.match(data["encoder"])
        objective, bound = found.groups() if found else ("", "")
    if parameters["init"] and not objective:
        raise DataError(
            f"{folder} started from {parameters['init']}: {data['encoder']}. The tables need to "
            "know what it was trained by: use a checkpoint of notebook 07."
        )
    return Run(
        folder=folder,
        task=parameters["task"],
        architecture=data.get("architecture", PAPERS),
        objective=objective,
        bound=bound,
        mode=parameters["mode"],
        fraction=parameters["fraction"],
        seed=parameters["seed"],
        shared={name: value for name, value in parameters.items() if name not in OWN}
        | {"data": data["sha256"]},
        predictions=read_predictions(folder / PREDICTIONS),
    )


Key = tuple[Task, float, str]  # task, fraction, variant


def cells_of(runs: Sequence[Run]) -> dict[Key, Cell]:
    """The runs by task, share of the labels, and variant.

    Raises:
        DataError: two runs of one seed, runs of a cell that differ in more than seed and
            checkpoint, or of a task that were tested on other images or labels.
    """
    sorted_in: dict[Key, dict[int, Run]] = {}
    first: dict[str, Run] = {}
    for run in runs:
        seeds = sorted_in.setdefault((run.task, run.fraction, run.variant), {})
        if run.seed in seeds:
            raise DataError(
                f"Two runs of one seed: {seeds[run.seed].folder} and {run.folder}. Remove one, or "
                "make tables of folders of their own."
            )
        for other in seeds.values():
            _check_alike(other, run)
        _check_same_test(first.setdefault(run.task, run), run)
        seeds[run.seed] = run
    return {key: _cell(dict(sorted(seeds.items()))) for key, seeds in sorted_in.items()}


def _cell(runs: Mapping[int, Run]) -> Cell:
    scores = [auc_columns(run.task, run.predictions.probabilities) for run in runs.values()]
    return Cell(runs, np.stack(scores))


def _check_alike(one: Run, other: Run) -> None:
    names = sorted(one.shared.keys() | other.shared.keys())
    changed = [name for name in names if one.shared.get(name) != other.shared.get(name)]
    if changed:
        raise DataError(
            f"{one.folder} and {other.folder} are seeds of one variant, but differ in "
            f"{', '.join(changed)}. Remove one, or make tables of folders of their own."
        )


def _check_same_test(one: Run, other: Run) -> None:
    first, second = one.predictions, other.predictions
    if not (
        first.ids.equals(second.ids)
        and np.array_equal(first.targets, second.targets)
        and np.array_equal(first.mask, second.mask)
    ):
        raise DataError(
            f"{one.folder} and {other.folder} were tested on other images or labels, so they "
            "cannot be compared. Make the tables of one study alone."
        )
