"""The runs of a grid side by side."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from localmi.__main__ import app
from localmi.errors import DataError
from localmi.notebook.collect import collect_runs, read_collected


def leave(folder: Path, *, sha: str = "a", value: float = 0.5, **tables: Any) -> None:
    """What a finished run leaves."""
    folder.mkdir()
    record = {
        "notebook": "11_limitr.ipynb",
        "parameters": {"steps": 4, "data_dir": "/somewhere"},
        "data": {"sha256": sha},
        "metrics": {
            "nats": {"value": value, "interval95": [None, 1.0], "split": "test", "chance": 0.1}
        },
        "environment": {},
        "seconds": 3.0,
    }
    (folder / "results.json").write_text(json.dumps(record))
    for name, columns in tables.items():
        pd.DataFrame(columns).to_csv(folder / f"{name}.csv", index=False)


def test_metrics_and_tables_stand_side_by_side(tmp_path: Path) -> None:
    leave(tmp_path / "whole-only_0", value=0.1, by_image={"rank": [1, 2]})
    leave(tmp_path / "full_1", value=0.2, by_image={"rank": [3]})
    leave(tmp_path / "full_0", value=0.3, by_image={"rank": [4.5]}, other={"x": [1]})
    (tmp_path / "full_2").mkdir()  # not finished
    (tmp_path / "study").mkdir()
    shown = CliRunner().invoke(app, ["collect", str(tmp_path), "--out", str(tmp_path / "tables")])
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith("full: 2, whole-only: 1\n")
    found = json.loads((tmp_path / "tables" / "results.json").read_text())
    assert found["data"] == {"sha256": "a"}
    assert found["runs"]["full"]["1"]["metrics"]["nats"]["value"] == 0.2
    assert found["runs"]["whole-only"]["0"]["seconds"] == 3.0
    assert found["runs"]["whole-only"]["0"]["parameters"] == {"steps": 4}
    read = read_collected(tmp_path / "tables")
    assert read.data == found["data"]
    assert set(read.tables) == {"by_image", "other"}
    assert read.metrics[["variant", "seed", "metric", "value"]].values.tolist() == [
        ["full", 0, "nats", 0.3],
        ["full", 1, "nats", 0.2],
        ["whole-only", 0, "nats", 0.1],
    ]
    assert read.metrics["low"].isna().all()
    assert set(read.metrics["high"]) == {1.0}
    assert set(read.metrics["chance"]) == {0.1}
    assert set(read.metrics["split"]) == {"test"}
    table = read.tables["by_image"]
    assert table.values.tolist() == [
        ["full", 0, 4.5],
        ["full", 1, 3],
        ["whole-only", 0, 1],
        ["whole-only", 0, 2],
    ]
    assert len(read.tables["other"]) == 1
    collect_runs(tmp_path, tmp_path / "again")  # what it wrote itself is no run
    assert (tmp_path / "again" / "by_image.csv.gz").read_bytes() == (
        tmp_path / "tables" / "by_image.csv.gz"
    ).read_bytes()


def test_no_run_is_left_out_for_its_name_and_no_digit_of_a_rank_is_lost(tmp_path: Path) -> None:
    for name in ("dim64_0", "No-lateral_0", "no_lateral_10"):
        leave(tmp_path / name, by_image={"rank": [12345.5]})
    assert collect_runs(tmp_path, tmp_path / "tables") == {
        "No-lateral": 1,
        "dim64": 1,
        "no_lateral": 1,
    }
    assert set(read_collected(tmp_path / "tables").tables["by_image"]["rank"]) == {12345.5}


def test_bad_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No finished run in .*Give the `out` of a grid"):
        collect_runs(tmp_path, tmp_path / "out")
    leave(tmp_path / "full_0")
    leave(tmp_path / "full_1", sha="b")
    with pytest.raises(DataError, match="full_1 was made on other data than full_0"):
        collect_runs(tmp_path, tmp_path / "out")
    for text in ("{", "[]", '{"data": 1}'):
        (tmp_path / "full_1" / "results.json").write_text(text)
        with pytest.raises(DataError, match=r"full_1.results.json is no record of a run"):
            collect_runs(tmp_path, tmp_path / "out")
    leave(tmp_path / "full_2")
    (tmp_path / "full_1" / "results.json").unlink()
    (tmp_path / "full_2" / "by_image.csv").touch()
    with pytest.raises(DataError, match=r"full_2.by_image.csv is no table of a run"):
        collect_runs(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_no_collection_is_refused(tmp_path: Path) -> None:
    refused = pytest.raises(DataError, match=r"does not hold what a grid has found .* anew with")
    with refused:
        read_collected(tmp_path / "missing")
    leave(tmp_path / "full_0", by_image={"rank": [1, 2]})
    collect_runs(tmp_path, tmp_path / "tables")
    packed = tmp_path / "tables" / "by_image.csv.gz"
    whole = packed.read_bytes()
    spoilt = whole[:-24] + bytes([255] * 12) + whole[-12:]
    for bad in (whole[: len(whole) // 2], spoilt, b"variant,seed", b""):
        packed.write_bytes(bad)
        with refused:
            read_collected(tmp_path / "tables")
    packed.write_bytes(whole)
    for text in (
        "{",
        "[]",
        '{"runs": {}}',
        '{"data": {}, "runs": {"full": {"0": {"metrics": 1}}}}',
    ):
        (tmp_path / "tables" / "results.json").write_text(text)
        with refused:
            read_collected(tmp_path / "tables")
