"""What the runs of a grid left, side by side: their metrics, and the tables beside them."""

import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from localmi.errors import DataError
from localmi.files import write_json
from localmi.record import RESULTS, Result

FOLDER = re.compile(r"(?P<variant>[A-Za-z0-9_-]+)_(?P<seed>\d+)")
ENDING = ".csv.gz"
UNREADABLE = OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError
PACKED = {"method": "gzip", "mtime": 0}  # the same rows, the same bytes


@dataclass(frozen=True)
class Collected:
    """What a grid of variants has found.

    metrics: a row a variant, seed and metric: its `value`, `low` and `high` of the 95 % interval,
        its `split`, and what it is to be held against (`chance`, `shuffled`, `cap`), NaN where
        there is no such thing.
    tables: of each table that the runs left, by its name, all rows, after `variant` and `seed`.
    data: on what, as `Cache.describe`.
    """

    metrics: pd.DataFrame
    tables: dict[str, pd.DataFrame]
    data: dict[str, Any]


def collect_runs(folder: Path, out: Path) -> dict[str, int]:
    """Writes of all finished runs `<variant>_<seed>/` below `folder` what each has found.

    `out` gets `results.json` (variant -> seed -> "metrics", "parameters" and "seconds" of the run;
    no folder of this machine) and, of each CSV that the runs left, one with columns variant and
    seed before the others, as CSV in gzip. `read_collected` reads it.

    Returns:
        Runs of each variant.

    Raises:
        DataError: no finished run, a record that cannot be read, or runs on different data.
    """
    named = ((FOLDER.fullmatch(path.parent.name), path) for path in folder.glob(f"*/{RESULTS}"))
    found = sorted((name["variant"], int(name["seed"]), path) for name, path in named if name)
    if not found:
        raise DataError(
            f"No finished run in {folder}: no folder <variant>_<seed> with a {RESULTS}. Give the "
            "`out` of a grid with variants."
        )
    records: dict[str, dict[int, dict]] = {}
    data: dict | None = None
    tables: dict[str, list[pd.DataFrame]] = {}
    for variant, seed, path in found:
        record = _read(path)
        data = data or record["data"]
        if record["data"] != data:
            raise DataError(
                f"{path.parent.name} was made on other data than {found[0][2].parent.name}. Keep "
                "the runs of one study in a folder."
            )
        chosen = {k: v for k, v in record["parameters"].items() if not k.endswith("_dir")}
        kept = {"metrics": record["metrics"], "parameters": chosen, "seconds": record["seconds"]}
        records.setdefault(variant, {})[seed] = kept
        for left in sorted(path.parent.glob("*.csv")):
            table = _read_table(left)
            table.insert(0, "variant", variant)
            table.insert(1, "seed", seed)
            tables.setdefault(left.stem, []).append(table)
    out.mkdir(parents=True, exist_ok=True)
    for name, parts in tables.items():
        pd.concat(parts).to_csv(
            out / f"{name}{ENDING}", index=False, float_format="%.6g", compression=PACKED
        )
    write_json({"data": data, "runs": records}, out / RESULTS)
    return {variant: len(seeds) for variant, seeds in records.items()}


def _read(path: Path) -> dict:
    try:
        record: dict = json.loads(path.read_text(encoding="utf-8"))
        return {name: record[name] for name in ("data", "metrics", "parameters", "seconds")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is no record of a run ({type(error).__name__}: {error}). Remove the folder, "
            "and start the grid again."
        ) from error


def _read_table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:  # pandas' own are ValueErrors
        raise DataError(
            f"{path} is no table of a run ({error}). Remove the folder, and start the grid again."
        ) from error


def read_collected(folder: Path | str) -> Collected:
    """What `collect_runs` wrote.

    Raises:
        DataError: it did not write there, or what is there cannot be read.

    Taught in 11_limitr.
    """
    folder = Path(folder)
    try:
        stored = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
        rows = [
            {"variant": variant, "seed": int(seed), "metric": name, **_flat(metric)}
            for variant, seeds in stored["runs"].items()
            for seed, record in seeds.items()
            for name, metric in record["metrics"].items()
        ]
        tables = {
            path.name.removesuffix(ENDING): pd.read_csv(path)
            for path in sorted(folder.glob(f"*{ENDING}"))
        }
        return Collected(pd.DataFrame(rows), tables, stored["data"])
    except UNREADABLE as error:
        raise DataError(
            f"{folder} does not hold what a grid has found ({type(error).__name__}: {error}). "
            "Name the `tables` of a grid with variants, such as grid/runs/limitr/tables, or write "
            "them anew with `python -m localmi collect`."
        ) from error


def _flat(metric: dict[str, Any]) -> dict[str, Any]:
    one = Result.from_dict(metric)
    return {**vars(one.interval), "split": one.split, **one.beside}
