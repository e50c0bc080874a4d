"""What a run leaves behind: `metrics.jsonl` as it goes, `results.json` at its end.

A notebook gives the metrics (`record_metrics`, its last cell). Which notebook it was, with which
parameters and for how long, is added by who started it: the runner (`finish_record`).
"""

import json
import math
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import localmi
from localmi.errors import CheckpointError, DataError
from localmi.files import append_text, write_json, write_text
from localmi.ranks import rank

if TYPE_CHECKING:  # the runner does not wait for scipy
    from localmi.statistics import Interval

METRICS = "metrics.jsonl"
RESULTS = "results.json"
MODEL_CARD = "model_card.md"
MEASURED = "measured.json"  # what a notebook has found, until its run is finished


def keeps_record() -> bool:
    """Whether this process writes it: of several that torchrun has started, the first."""
    return rank() == 0


class MetricsLog:
    """Metrics over steps; kept in memory, and in `metrics.jsonl` where there is a run folder.

    A value that is not finite is written as null, for JSON has no other word for it, and read back
    as NaN.

    Args:
        run_dir: folder of the run, or None.
        resume_at: step the run goes on from; lines of later steps, which a killed run wrote after
            its last checkpoint, are dropped.

    Raises:
        CheckpointError: the file could not be written.
    """

    def __init__(self, run_dir: Path | str | None, *, resume_at: int = 0) -> None:
        self._path = Path(run_dir) / METRICS if run_dir else None
        self.rows: list[dict[str, Any]] = []
        if run_dir is not None and self._path is not None and self._path.exists():
            rows = MetricsLog.read(run_dir).rows
            self.rows = [row for row in rows if row["step"] <= resume_at]
            self._keep(write_text, *self.rows)

    @classmethod
    def read(cls, run_dir: Path | str) -> "MetricsLog":
        """What a run has logged; its file stays as it is.

        Raises:
            DataError: there is none.
        """
        path = Path(run_dir) / METRICS
        if not path.is_file():
            raise DataError(f"{run_dir} has no {METRICS}: name the folder of a run.")
        log = cls(None)
        lines = path.read_text(encoding="utf-8").splitlines()
        log.rows = [row for line in lines if (row := _parsed(line)) is not None]
        return log

    def write(self, step: int, **values: float) -> None:
        """One line; on disk when this returns, so that a watcher sees it.

        Raises:
            CheckpointError: it could not be written (disk full, folder gone).
        """
        row = {"step": step, **values}
        self.rows.append(row)
        self._keep(append_text, row)

    def _keep(self, write: Callable[[str, Path], None], *rows: Mapping[str, Any]) -> None:
        if self._path is None or not keeps_record():
            return
        try:
            write("".join(map(_line, rows)), self._path)
        except OSError as error:
            raise CheckpointError(
                f"{METRICS} could not be written: {error}. What stood in it is untouched. Free "
                "some disk space, or see that its folder is there; then go on with --resume."
            ) from error

    def column(self, name: str) -> tuple[list[int], list[float]]:
        """(steps, values) of one metric, where it was logged."""
        rows = [row for row in self.rows if name in row]
        return [row["step"] for row in rows], [row[name] for row in rows]


def _parsed(line: str) -> dict[str, Any] | None:
    """A line of the log, or None where a kill cut it short."""
    try:
        row: dict[str, Any] = json.loads(line)
    except json.JSONDecodeError:
        return None
    return {name: math.nan if value is None else value for name, value in row.items()}


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(_finite(row), allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """The value with None, JSON's null, for every NaN and infinity in it."""
    if isinstance(value, Mapping):
        return {name: _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class Result:
    """One metric of results.json: its value and interval, and what to hold it against."""

    interval: "Interval"
    split: str
    beside: Mapping[str, float]  # "cap", "shuffled", "chance", ...

    def as_dict(self) -> dict[str, Any]:
        return {**self.interval.as_dict(), "split": self.split, **self.beside}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Result":
        """The inverse of `as_dict`, null for NaN."""
        from localmi.statistics import Interval

        numbers = [stored["value"], *stored["interval95"]]
        interval = Interval(*(math.nan if number is None else number for number in numbers))
        own = ("value", "interval95", "split")
        beside = {name: value for name, value in stored.items() if name not in own}
        return cls(interval, stored["split"], beside)


def write_results(
    run_dir: Path | None,
    *,
    notebook: str,
    parameters: Mapping[str, Any],
    data: Mapping[str, Any],
    metrics: Mapping[str, Result],
    seconds: float,
    computed_in: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The record of a run; written to `results.json` of its folder, where it has one.

    `computed_in`: see `record_metrics`.
    In the file a value that is not finite (the cap of DV, the interval of one patient) is null.
    """
    record = {
        "notebook": notebook,
        "parameters": dict(parameters),
        **_measured(metrics, data, computed_in or {}),
        "seconds": round(seconds, 1),
    }
    if run_dir is not None:
        write_json(_finite(record), run_dir / RESULTS)
    return record


def record_metrics(
    metrics: Mapping[str, Result],
    *,
    data: Mapping[str, Any],
    run_dir: Path | str = "",
    computed_in: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The last line of a notebook: what it found, and on which data.

    Args:
        metrics: by name.
        data: name of the data, and what else tells them apart; of a cache `Cache.describe()`.
        run_dir: the notebook's parameter. In a headless run the runner completes what is written
            there to `results.json`; in JupyterLab it stays `measured.json`. "" keeps nothing.
        computed_in: device and precision of what was computed, as a run has them: "auto", which
            its parameters may say, says neither.

    Returns:
        "data", "metrics", "environment".
    """
    found = _measured(metrics, data, computed_in or {})
    if str(run_dir) and keeps_record():
        write_json(_finite(found), Path(run_dir) / MEASURED)
    return found


def _measured(
    metrics: Mapping[str, Result], data: Mapping[str, Any], computed_in: Mapping[str, str]
) -> dict[str, Any]:
    import numpy as np
    import torch

    return {
        "data": dict(data),
        "metrics": {name: metric.as_dict() for name, metric in metrics.items()},
        "environment": {
            "localmi": localmi.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__.split("+")[0],
            "numpy": np.__version__,
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "threads": torch.get_num_threads(),
            **computed_in,
        },
    }


def finish_record(
    run_dir: Path, *, notebook: str, parameters: Mapping[str, Any], seconds: float
) -> None:
    """Makes `results.json` of what the notebook has recorded: the last file of a run.

    A notebook that has written a `results.json` of its own, and no `measured.json`, keeps it.
    """
    measured = run_dir / MEASURED
    if not measured.is_file() and (run_dir / RESULTS).is_file():
        return
    found = json.loads(measured.read_text(encoding="utf-8")) if measured.is_file() else {}
    record = {
        "notebook": notebook,
        "parameters": dict(parameters),
        **{part: found.get(part, {}) for part in ("data", "metrics", "environment")},
        "seconds": round(seconds, 1),
    }
    write_json(_finite(record), run_dir / RESULTS)
    measured.unlink(missing_ok=True)
