"""What a downstream run leaves behind: predictions of the test split, metrics, the choice made.

A run's folder holds `metrics.jsonl` (each epoch), `predictions.parquet`, and `results.json`, which
is written last: where it stands, the run is finished. Taught in 08_downstream_tasks.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from localmi.configuration import differences
from localmi.data.cache.cache import Cache
from localmi.downstream.config import DownstreamConfig
from localmi.downstream.pretrained_encoder import PretrainedEncoder
from localmi.downstream.tasks import CLASSES, LabelledImages
from localmi.errors import ConfigError, check_name
from localmi.evaluate.classification import BinaryMetrics, multi_label_metrics
from localmi.evaluate.edema import edema_metrics
from localmi.files import file_hash, write_table
from localmi.model.image import PAPERS
from localmi.names import Task
from localmi.record import RESULTS, MetricsLog, Result, write_results
from localmi.statistics import Interval

PREDICTIONS = "predictions.parquet"
IDS = ["image_id", "study_id", "patient_id"]
VALIDATION = "validation_auc"  # the metric that the choice was made by
RESAMPLES = 2000
COMPUTED_IN = ("device", "precision")  # of the record's environment


@dataclass(frozen=True)
class Fitted:
    """A model after selection.

    chosen: what was selected on the validation split: the epoch, or the C of each probe.
    validation_auc: of that choice; the mean over findings or cuts.
    history: one row an epoch: step (the epoch), train_loss, validation_auc.
    probabilities: [n, C] of the test images, by the selected model.
    """

    chosen: Mapping[str, float]
    validation_auc: float
    history: list[dict[str, Any]]
    probabilities: np.ndarray


@dataclass(frozen=True)
class Predictions:
    """The test split as a model sees it; two models of one task and data have the same rows.

    classes: C names. ids: image_id, study_id, patient_id of n images. probabilities: [n, C], each
    of its own for findings, of a softmax for edema. targets: [n, C] 0 or 1. mask: [n, C] bool,
    which targets count.
    """

    classes: tuple[str, ...]
    ids: pd.DataFrame
    probabilities: np.ndarray
    targets: np.ndarray
    mask: np.ndarray

    @property
    def patients(self) -> np.ndarray:
        """[n], what intervals and paired tests resample."""
        return self.ids["patient_id"].to_numpy()

    @property
    def levels(self) -> np.ndarray:
        """[n], the grade of edema."""
        return self.targets.argmax(axis=1)

    def table(self) -> pd.DataFrame:
        """As stored: the ids, "p <class>", and "target <class>", blank where it does not count."""
        found = self.ids.copy()
        for column, name in enumerate(self.classes):
            found[f"p {name}"] = self.probabilities[:, column]
            counted = self.mask[:, column]
            found[f"target {name}"] = np.where(counted, self.targets[:, column], np.nan)
        return found


@dataclass(frozen=True)
class DownstreamResult:
    """A finished run.

    encoder: what it started from, in words. chosen, validation_auc, history: see `Fitted`.
    metrics: of the test split: "auc <finding or cut>", "auprc <...>", their means, for edema
        "kappa"; "validation_auc" with what was chosen. computed_in: device and precision, by name;
        the records of earlier versions lack the precision.
    """

    config: DownstreamConfig
    encoder: str
    chosen: Mapping[str, float]
    validation_auc: float
    history: list[dict[str, Any]]
    predictions: Predictions
    metrics: Mapping[str, Result]
    seconds: float
    computed_in: Mapping[str, str]


def predictions_of(task: Task, part: LabelledImages, probabilities: np.ndarray) -> Predictions:
    """What a model says of the labelled images of a split. Raises ConfigError: unknown task."""
    check_name("task", task, CLASSES)
    return Predictions(CLASSES[task], part.rows[IDS], probabilities, part.targets, part.mask)


def read_predictions(path: Path | str) -> Predictions:
    """From a `predictions.parquet`."""
    table = pd.read_parquet(path)
    names = [str(name) for name in table]
    classes = tuple(name.removeprefix("p ") for name in names if name.startswith("p "))
    targets = table[[f"target {name}" for name in classes]].to_numpy()
    return Predictions(
        classes=classes,
        ids=table[IDS],
        probabilities=table[[f"p {name}" for name in classes]].to_numpy(),
        targets=np.nan_to_num(targets).astype(np.float32),
        mask=~np.isnan(targets),
    )


def metrics_of(task: Task, predictions: Predictions) -> dict[str, Result]:
    """AUC and AUPRC with intervals over patients; kappa of edema.

    A finding of which the test split has only one class gets NaN.
    """
    check_name("task", task, CLASSES)
    known = predictions.probabilities, predictions.patients
    metrics: dict[str, Interval] = {}
    if task == "edema":
        edema = edema_metrics(predictions.levels, *known, resamples=RESAMPLES)
        found, metrics["kappa"] = edema.tails, edema.kappa
    else:
        found = multi_label_metrics(
            predictions.targets,
            *known,
            predictions.mask,
            names=predictions.classes,
            resamples=RESAMPLES,
        )
    results = {
        f"{kind} {name}": _result(one, kind)
        for name, one in found.tasks.items()
        for kind in ("auc", "auprc")
    }
    metrics |= {"auc mean": found.mean_auc, "auprc mean": found.mean_auprc}
    return results | {name: Result(value, "test", {}) for name, value in metrics.items()}


def _result(metrics: BinaryMetrics, kind: str) -> Result:
    interval = metrics.auc if kind == "auc" else metrics.auprc
    chance = 0.5 if kind == "auc" else metrics.prevalence
    return Result(interval, "test", {"chance": chance, "images": metrics.number})


def store_result(
    run_dir: Path | None,
    *,
    cache: Cache,
    config: DownstreamConfig,
    started_from: str,
    encoder: PretrainedEncoder | None,
    parts: Mapping[str, LabelledImages],
    fitted: Fitted,
    seconds: float,
    computed_in: Mapping[str, str],
) -> DownstreamResult:
    """The result of a run; its files too, where it has a folder."""
    predictions = predictions_of(config.task, parts["test"], fitted.probabilities)
    selected = Interval(fitted.validation_auc, math.nan, math.nan)
    metrics = metrics_of(config.task, predictions)
    metrics[VALIDATION] = Result(selected, "validate", fitted.chosen)
    if run_dir is not None:
        write_table(predictions.table(), run_dir / PREDICTIONS)
    labelled = {
        split: {"images": len(part), "patients": part.rows["patient_id"].nunique()}
        for split, part in parts.items()
    }
    record = write_results(
        run_dir,
        notebook="downstream",
        parameters=config.as_record(),
        data=cache.describe()
        | {"labelled": labelled, "encoder": started_from, "init_sha256": _init_hash(config)}
        | _variant(config, encoder),
        metrics=metrics,
        seconds=seconds,
        computed_in=computed_in,
    )
    return DownstreamResult(
        config=config,
        encoder=started_from,
        chosen=fitted.chosen,
        validation_auc=fitted.validation_auc,
        history=fitted.history,
        predictions=predictions,
        metrics=metrics,
        seconds=record["seconds"],
        computed_in=computed_in,
    )


def _variant(config: DownstreamConfig, encoder: PretrainedEncoder | None) -> dict[str, str]:
    """What the tables sort a run by."""
    return {
        "architecture": encoder.architecture if encoder else config.image_encoder or PAPERS,
        "objective": encoder.objective if encoder else "",
        "bound": encoder.bound if encoder else "",
    }


def stored_result(
    run_dir: Path, cache: Cache, config: DownstreamConfig
) -> DownstreamResult | None:
    """The result that a folder holds; None where the run has not been finished.

    Raises:
        ConfigError: the folder holds a run with other parameters, data, or initial weights.
    """
    path = run_dir / RESULTS
    if not path.is_file():
        return None
    record = json.loads(path.read_text(encoding="utf-8"))
    then = DownstreamConfig.of_record(record["parameters"]).as_record() | {
        "data": record["data"]["sha256"],
        "the file of init": record["data"].get("init_sha256"),
    }
    now = config.as_record() | {
        "data": cache.data_hash,
        "the file of init": _init_hash(config),
    }
    if changed := differences(then, now):
        raise ConfigError(
            f"{run_dir} holds the results of another run:\n  "
            + "\n  ".join(changed)
            + "\nGive each run a folder of its own, or remove this one."
        )
    metrics = {name: Result.from_dict(stored) for name, stored in record["metrics"].items()}
    return DownstreamResult(
        config=config,
        encoder=record["data"]["encoder"],
        chosen=metrics[VALIDATION].beside,
        validation_auc=metrics[VALIDATION].interval.value,
        history=MetricsLog(run_dir, resume_at=config.epochs).rows,
        predictions=read_predictions(run_dir / PREDICTIONS),
        metrics=metrics,
        seconds=record["seconds"],
        computed_in={
            name: word for name, word in record["environment"].items() if name in COMPUTED_IN
        },
    )


def _init_hash(config: DownstreamConfig) -> str:
    path = Path(config.init).expanduser()
    return file_hash(path) if config.init and path.is_file() else ""
