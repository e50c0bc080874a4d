import errno
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import localmi
from localmi.errors import CheckpointError, DataError
from localmi.record import MetricsLog, Result, finish_record, record_metrics, write_results
from localmi.statistics import Interval


def strict(text: str) -> Any:
    """What a reader makes of it that knows no more than JSON."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def lines(run_dir: Path) -> list[Any]:
    return [strict(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]


# --- metrics.jsonl ----------------------------------------------------------------------------


def test_each_line_is_there_at_once(run_dir: Path) -> None:
    log = MetricsLog(run_dir)
    log.write(0, bound=0.5)
    assert lines(run_dir) == [{"step": 0, "bound": 0.5}]
    log.write(10, bound=0.75, cap=3.0)
    assert (
        lines(run_dir)
        == log.rows
        == [
            {"step": 0, "bound": 0.5},
            {"step": 10, "bound": 0.75, "cap": 3.0},
        ]
    )
    assert log.column("bound") == ([0, 10], [0.5, 0.75])
    assert log.column("cap") == ([10], [3.0])
    assert log.column("nothing") == ([], [])


def test_without_a_folder_it_is_kept_in_memory() -> None:
    log = MetricsLog(None, resume_at=5)
    log.write(1, bound=2.0)
    assert log.column("bound") == ([1], [2.0])


def test_a_resumed_log_has_no_later_lines(run_dir: Path) -> None:
    log = MetricsLog(run_dir)
    for step in range(0, 50, 10):
        log.write(step, bound=step / 10)
    resumed = MetricsLog(run_dir, resume_at=20)
    assert resumed.column("bound") == ([0, 10, 20], [0, 1, 2])
    assert len(lines(run_dir)) == 3
    resumed.write(30, bound=3.5)
    assert [row["step"] for row in lines(run_dir)] == [0, 10, 20, 30]
    assert MetricsLog(run_dir, resume_at=30).rows == resumed.rows
    assert [path.name for path in run_dir.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize("kept", range(1, 30, 4))
def test_a_torn_last_line_is_dropped(run_dir: Path, kept: int) -> None:
    log = MetricsLog(run_dir)
    log.write(0, bound=0.5)
    log.write(10, bound=0.25)
    whole = (run_dir / "metrics.jsonl").read_text()
    torn = whole + '{"step": 20, "bound": 0.12345}\n'[:kept]
    (run_dir / "metrics.jsonl").write_text(torn)
    resumed = MetricsLog(run_dir, resume_at=20)
    resumed.write(20, bound=0.125)
    assert (run_dir / "metrics.jsonl").read_text() == whole + '{"step": 20, "bound": 0.125}\n'


def test_a_kill_while_resuming_loses_nothing(run_dir: Path, monkeypatch) -> None:
    MetricsLog(run_dir).write(0, bound=0.5)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        MetricsLog(run_dir, resume_at=10)
    assert lines(run_dir) == [{"step": 0, "bound": 0.5}]


def test_a_full_disk_leaves_whole_lines(run_dir: Path, monkeypatch, capsys) -> None:
    """Tried again, then told; what stood there before stays."""
    log = MetricsLog(run_dir)
    log.write(1, bound=0.5)
    real, left = Path.open, [2]

    def full(self: Path, *how: Any, **more: Any) -> Any:
        if how[:1] == ("ab",) and left[0] > 0:
            left[0] -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, *how, **more)

    monkeypatch.setattr(Path, "open", full)
    log.write(2, bound=0.25)
    assert capsys.readouterr().out.count("metrics.jsonl could not be written: [Errno 28]") == 2
    left[0] = 99
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl could not be written.*--resume"):
        log.write(3, bound=0.125)
    assert lines(run_dir) == [{"step": 1, "bound": 0.5}, {"step": 2, "bound": 0.25}]


def test_a_full_disk_while_resuming_loses_nothing(run_dir: Path, monkeypatch) -> None:
    log = MetricsLog(run_dir)
    log.write(1, bound=0.5)
    log.write(2, bound=0.25)
    before = (run_dir / "metrics.jsonl").read_text()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CheckpointError, match="No space left on device.*untouched"):
        MetricsLog(run_dir, resume_at=1)
    assert (run_dir / "metrics.jsonl").read_text() == before


def test_a_value_that_is_not_finite_is_null(run_dir: Path) -> None:
    log = MetricsLog(run_dir)
    log.write(0, bound=math.nan, cap=math.inf, low=-math.inf, shuffled=0.0)
    assert lines(run_dir) == [{"step": 0, "bound": None, "cap": None, "low": None, "shuffled": 0}]
    assert log.rows[0]["cap"] == math.inf  # in memory nothing is lost
    steps, found = MetricsLog(run_dir, resume_at=0).column("bound")
    assert steps == [0]
    assert math.isnan(found[0])


def test_a_log_is_read_without_being_changed(run_dir: Path) -> None:
    log = MetricsLog(str(run_dir))
    log.write(0, bound=0.5)
    log.write(10, bound=0.75)
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2')
    before = (run_dir / "metrics.jsonl").read_bytes()
    read = MetricsLog.read(str(run_dir))
    assert read.rows == log.rows
    read.write(20, bound=1.0)  # in memory
    assert (run_dir / "metrics.jsonl").read_bytes() == before
    with pytest.raises(DataError, match=r"has no metrics\.jsonl: name the folder of a run"):
        MetricsLog.read(run_dir.parent)


# --- results.json -----------------------------------------------------------------------------


def write(run_dir: Path | None, **metrics: Result) -> dict[str, Any]:
    return write_results(
        run_dir,
        notebook="07_train_local_mi",
        parameters={"steps": 3, "critic_hidden": (16, 8)},
        data={"name": "made"},
        metrics=metrics,
        seconds=12.345,
    )


def test_results_hold_what_a_run_depends_on_and_reached(run_dir: Path) -> None:
    bound = Result(Interval(1.5, 1.25, 1.75), "test", {"truth": 2.5, "cap": 4.8})
    record = write(run_dir, bound=bound)
    assert record["metrics"]["bound"] == {
        "value": 1.5,
        "interval95": [1.25, 1.75],
        "split": "test",
        "truth": 2.5,
        "cap": 4.8,
    }
    assert record["seconds"] == 12.3
    assert record["environment"]["localmi"] == localmi.__version__
    assert record["environment"]["threads"] == torch.get_num_threads()
    stored = strict((run_dir / "results.json").read_text())
    assert stored == json.loads(json.dumps(record))
    assert stored["parameters"] == {"steps": 3, "critic_hidden": [16, 8]}
    assert [path.name for path in run_dir.iterdir()] == ["results.json"]


def test_results_are_strict_json(run_dir: Path) -> None:
    nothing = Result(Interval(0.5, math.nan, math.nan), "test", {"cap": math.inf})
    record = write(run_dir, bound=nothing)
    stored = strict((run_dir / "results.json").read_text())["metrics"]["bound"]
    assert stored == {"value": 0.5, "interval95": [None, None], "split": "test", "cap": None}
    assert record["metrics"]["bound"]["cap"] == math.inf


def test_results_without_a_folder_are_returned_only(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert write(None)["notebook"] == "07_train_local_mi"
    assert list(tmp_path.iterdir()) == []


def test_new_results_replace_the_old_ones_whole(run_dir: Path) -> None:
    write(run_dir)
    with pytest.raises(TypeError, match="not JSON serializable"):
        write(run_dir, bound=Result(Interval(torch.zeros(1), 0.0, 0.0), "test", {}))
    assert strict((run_dir / "results.json").read_text())["metrics"] == {}
    write(run_dir, bound=Result(Interval(1.0, 0.0, 2.0), "test", {}))
    assert list(strict((run_dir / "results.json").read_text())["metrics"]) == ["bound"]


# --- measured.json: what a notebook gives, and the runner completes ----------------------------

BOUND = Result(Interval(1.5, 1.25, math.nan), "test", {"truth": 2.5, "cap": math.inf})


def finish(run_dir: Path, **parameters: Any) -> Any:
    finish_record(run_dir, notebook="07_train_local_mi", parameters=parameters, seconds=12.345)
    return strict((run_dir / "results.json").read_text())


@pytest.mark.parametrize("kind", [Path, str])
def test_a_notebook_records_what_it_found(run_dir: Path, kind: type) -> None:
    found = record_metrics({"bound": BOUND}, data={"name": "made"}, run_dir=kind(run_dir))
    assert list(found) == ["data", "metrics", "environment"]
    assert found["metrics"]["bound"]["cap"] == math.inf
    assert found["environment"]["threads"] == torch.get_num_threads()
    assert [path.name for path in run_dir.iterdir()] == ["measured.json"]
    stored = strict((run_dir / "measured.json").read_text())
    assert stored["data"] == {"name": "made"}
    assert stored["environment"] == found["environment"]
    assert stored["metrics"]["bound"] == {
        "value": 1.5,
        "interval95": [1.25, None],
        "split": "test",
        "truth": 2.5,
        "cap": None,
    }


def test_without_a_folder_nothing_is_kept(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for where in ({}, {"run_dir": ""}):
        found = record_metrics({"bound": BOUND}, data={"name": "made"}, **where)
        assert found["data"] == {"name": "made"}
    assert list(tmp_path.iterdir()) == []


def test_the_runner_makes_the_record_of_it(run_dir: Path) -> None:
    record_metrics({"bound": BOUND}, data={"name": "made"}, run_dir=run_dir)
    measured = strict((run_dir / "measured.json").read_text())
    record = finish(run_dir, steps=3, critic_hidden=[16, 8], temperature=math.inf)
    assert record == {
        "notebook": "07_train_local_mi",
        "parameters": {"steps": 3, "critic_hidden": [16, 8], "temperature": None},
        **measured,
        "seconds": 12.3,
    }
    assert [path.name for path in run_dir.iterdir()] == ["results.json"]


def test_what_auto_was_is_in_the_record(run_dir: Path) -> None:
    computed_in = {"device": "a GPU", "precision": "bfloat16"}
    kinds = {"metrics": {"bound": BOUND}, "data": {"name": "made"}, "computed_in": computed_in}
    record_metrics(run_dir=run_dir, **kinds)
    found = finish(run_dir, precision="auto")
    assert found["environment"] | computed_in == found["environment"]
    assert found["environment"]["threads"] == torch.get_num_threads()
    written = write_results(run_dir, notebook="", parameters={}, seconds=1.0, **kinds)
    assert written["environment"] == found["environment"]
    assert "precision" not in record_metrics({}, data={})["environment"]


def test_it_is_the_record_that_write_results_writes(run_dir: Path) -> None:
    write(run_dir, bound=BOUND)
    written = strict((run_dir / "results.json").read_text())
    record_metrics({"bound": BOUND}, data={"name": "made"}, run_dir=run_dir)
    record = finish(run_dir, steps=3, critic_hidden=(16, 8))
    assert record == written
    assert list(record) == list(written)


def test_a_notebook_without_metrics_has_a_record_all_the_same(run_dir: Path) -> None:
    record = finish(run_dir, steps=3)
    assert record["parameters"] == {"steps": 3}
    assert (record["data"], record["metrics"], record["environment"]) == ({}, {}, {})
    assert record["seconds"] == 12.3


def test_a_record_of_the_notebooks_own_stays(run_dir: Path) -> None:
    (run_dir / "results.json").write_text('{"mine": 1}')
    assert finish(run_dir, steps=3) == {"mine": 1}
    record_metrics({"bound": BOUND}, data={}, run_dir=run_dir)  # then it asks for the runner's
    assert finish(run_dir, steps=3)["metrics"]["bound"]["value"] == 1.5


def test_a_kill_while_the_record_is_made_loses_nothing(run_dir: Path, monkeypatch) -> None:
    record_metrics({"bound": BOUND}, data={"name": "made"}, run_dir=run_dir)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("os.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            finish(run_dir, steps=3)
    assert [path.name for path in run_dir.iterdir()] == ["measured.json"]
    assert finish(run_dir, steps=3)["data"] == {"name": "made"}


def test_the_data_are_described_by_name_hash_and_studies(tiny_cache) -> None:
    described = tiny_cache.describe()
    assert strict(json.dumps(described)) == described
    assert described["name"] == "study"
    assert described["sha256"] == tiny_cache.data_hash
    manifest = tiny_cache.manifest
    assert described["studies"] == {
        split: len(set(manifest.loc[manifest["split"] == split, "study_id"]))
        for split in ("train", "validate", "test")
    }
