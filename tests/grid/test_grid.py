"""The grid of runs, at its smallest: it ends in tables, survives a kill, and repeats nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from filelock import FileLock
from places import ROOT

from localmi.data.cache.cache import Cache
from localmi.notebook.collect import read_collected
from localmi.notebook.parameters import parameters_of, read_notebook, resolve

GRID = ROOT / "grid"
SIZES = sorted(GRID.glob("*.yaml"))
CORES = 2
VARIANTS = 9 + 5  # the paper's; the probes of four encoders and of random weights
Command = Callable[..., list[str]]
Call = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Snakemake on the grid, in an empty folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def make(size: str, *words: str, profile: str = "local") -> list[str]:
        snakemake = [sys.executable, "-m", "snakemake", "--snakefile", str(GRID / "Snakefile")]
        files = ["--configfile", str(GRID / size), "--workflow-profile", str(GRID / profile)]
        return [*snakemake, *files, "--directory", str(tmp_path), *words]

    return make


@pytest.fixture
def call(command: Command) -> Call:
    def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*words, **options),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )

    return run


def jobs(shown: str) -> dict[str, int]:
    """Of a dry run: how often each rule would be carried out."""
    lines = shown.partition("Job stats:")[2].splitlines()
    words = [line.split() for line in lines[3:]]
    return {line[0]: int(line[1]) for line in words[: words.index([])]}


@pytest.mark.parametrize("profile", ["local", "slurm"])
def test_the_small_grid_is_the_papers(call: Call, profile: str) -> None:
    """On a laptop, and, but for the executor, on a cluster."""
    shown = call("small.yaml", "--dry-run", "--executor", "local", profile=profile)
    assert shown.returncode == 0, shown.stdout
    found = jobs(shown.stdout)
    assert found["pretrain"] == 4 * 3
    assert found["downstream"] == VARIANTS * 2 * 2 * 3
    assert found["total"] == found["pretrain"] + found["downstream"] + 4


def test_a_prepared_cache_takes_the_place_of_a_study(
    call: Call, tiny_cache: Cache, tmp_path: Path
) -> None:
    """With the paper's sizes: what a user with MIMIC-CXR calls."""
    told = call("mimic.yaml", "--dry-run", "-p", "--config", f"data_dir={tiny_cache.folder}")
    assert told.returncode == 0, told.stdout
    found = jobs(told.stdout)
    assert found["pretrain"] == 4 * 3
    assert found["downstream"] == VARIANTS * 2 * 3 * 3
    assert found["total"] == found["pretrain"] + found["downstream"] + 2  # no study, no cache
    runs = [line for line in told.stdout.splitlines() if "07_train_local_mi.ipynb --once" in line]
    (one,) = [line for line in runs if "pretrain_global-mine_2/" in line]
    assert f"-p data_dir {tiny_cache.folder} " in one
    assert "07_paper.yaml" in one
    assert "cache_dir" not in one


@pytest.mark.parametrize("named", [[], ["--config", "data_dir=nowhere"]])
def test_a_grid_without_data_says_what_to_name(call: Call, named: list[str]) -> None:
    refused = call("mimic.yaml", "--dry-run", *named)
    assert refused.returncode == 1
    assert "is no prepared cache. Write one with `python -m localmi prepare`" in refused.stdout


@pytest.mark.parametrize("path", SIZES, ids=lambda path: path.stem)
def test_what_a_size_sets_fits_the_notebooks(path: Path) -> None:
    size = yaml.safe_load(path.read_text(encoding="utf-8"))
    if "variants" in size:
        name = size["notebook"]
        known = parameters_of(read_notebook(ROOT / name), name)
        for variant in size["variants"].values():
            resolve(known, size["common"] | variant, {})
        return
    fractions, modes = size["fractions"].values(), size["modes"].values()
    groups = {
        "07_train_local_mi.ipynb": [
            size["pretrain"],
            *size["objectives"].values(),
            *size["bounds"].values(),
        ],
        "08_downstream_tasks.ipynb": [
            size["downstream"],
            size["image_only"],
            *fractions,
            *modes,
        ],
    }
    for name, values in groups.items():
        known = parameters_of(read_notebook(ROOT / "notebooks" / name), name)
        for group in values:
            resolve(known, group, {})


@pytest.mark.parametrize(
    ("name", "study", "prepared"),
    [
        ("limitr.yaml", "--seed 5 --lateral 0.6 --depth-said 1", "--views AP,PA,LATERAL,LL"),
        ("records.yaml", "--seed 7", "--records grid/runs/records/study"),
    ],
)
def test_variants_of_a_notebook_are_a_run_a_seed(
    call: Call, name: str, study: str, prepared: str
) -> None:
    size = yaml.safe_load((GRID / name).read_text(encoding="utf-8"))
    shown = call(name, "--dry-run", "-p")
    assert shown.returncode == 0, shown.stdout
    assert jobs(shown.stdout)["variant"] == len(size["variants"]) * len(size["seeds"])
    assert f" phantom --patients 2500 {study} " in shown.stdout
    assert f" --image-size 128 {prepared} " in shown.stdout


@pytest.mark.slow
def test_a_grid_of_one_variant_ends_in_its_tables(call: Call, tmp_path: Path) -> None:
    size = yaml.safe_load((GRID / "limitr.yaml").read_text(encoding="utf-8"))
    size |= {"study": size["study"] | {"patients": 40}, "image_size": 64, "seeds": [3]}
    size |= {"variants": {"full": {}}, "out": "runs"}
    size["common"] = {"head_steps": 1, "steps": 2, "evaluate_every": 2, "batch_size": 4}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(size), encoding="utf-8")
    done = call(str(tmp_path / "small.yaml"))
    assert done.returncode == 0, done.stdout
    tables = tmp_path / "runs" / "tables"
    found = read_collected(tables)
    metrics = {*found.metrics["metric"]}
    assert {"local_nats", "whole_nats", "both_nats", "pointing attention"} <= metrics
    for name in ("by_image", "by_sentence", "maps"):
        assert {*found.tables[name]["variant"]} == {"full"}
    assert "Nothing to be done" in call(str(tmp_path / "small.yaml")).stdout


def test_settings_of_an_older_grid_are_kept(call: Call, tmp_path: Path) -> None:
    runs = tmp_path / "grid" / "runs" / "smoke"
    study = str(runs.relative_to(tmp_path) / "study" / "SHA256SUMS")
    few = "study={patients: 3, seed: 0}"
    assert call("smoke.yaml", study, "--config", few).returncode == 0
    for other in (["study={patients: 4, seed: 0}"], [few, "fractions={1.0: {epochs: 2}}"]):
        refused = call("smoke.yaml", study, "--config", *other)
        assert refused.returncode == 1
        assert "were made with other settings" in refused.stdout
    more = call("smoke.yaml", "--dry-run", "--config", few, "seeds=[0,1]", "fractions={0.5: {}}")
    assert jobs(more.stdout)["downstream"] == 2 * VARIANTS * 2  # 1.0 is there by the file
    assert "study" not in jobs(more.stdout)


def test_one_grid_at_a_time(call: Call, tmp_path: Path) -> None:
    runs = tmp_path / "grid" / "runs" / "smoke"
    runs.mkdir(parents=True)
    with FileLock(runs / ".grid.lock"):
        refused = call("smoke.yaml")
    assert refused.returncode == 1
    assert "Another grid runs in" in refused.stdout
    assert [path.name for path in runs.iterdir() if path.name[0] != "."] == []


def begun(runs: Path) -> set[str]:
    return {path.parent.name for path in runs.glob("*/parameters.yaml")}


def finished(runs: Path) -> dict[str, int]:
    """Run -> when it was finished."""
    return {path.parent.name: path.stat().st_mtime_ns for path in runs.glob("*_*/results.json")}


def times_begun(runs: Path, name: str) -> int:
    log = (runs / name / "run.log").read_text(encoding="utf-8").splitlines()
    return sum(line.startswith(("Run folder:", "Going on with:")) for line in log)


def is_classifier(name: str) -> bool:
    return name.startswith("pathology9")


def at_work(runs: Path) -> set[str]:
    """Begun before this looks at what has ended: so never one that began in the other's place."""
    begun_first = begun(runs)
    return begun_first - finished(runs).keys()


def kill_in_mid_course(command: list[str], runs: Path, call: Call, size: str) -> None:
    """kill -9 of everything, as soon as a classifier is trained and another is on its way.

    Before that a second grid is refused.
    """
    with open(os.devnull, "wb") as nowhere:
        grid = subprocess.Popen(command, stdout=nowhere, stderr=nowhere, start_new_session=True)
    until = time.monotonic() + 600
    try:
        while not begun(runs):
            assert grid.poll() is None
            time.sleep(0.05)
        assert "Another grid runs in" in call(size).stdout
        while not (any(map(is_classifier, finished(runs))) and at_work(runs)):
            assert grid.poll() is None, "it ended before it was killed"
            assert len(at_work(runs)) <= CORES
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        os.killpg(grid.pid, signal.SIGKILL)
        grid.wait()


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no kill -9")
def test_a_killed_grid_goes_on_and_repeats_no_finished_run(
    command: Command, call: Call, tmp_path: Path
) -> None:
    """With one objective and one bound: these runs take every way that all of them take."""
    smoke = yaml.safe_load((GRID / "smoke.yaml").read_text(encoding="utf-8"))
    del smoke["bounds"]["infonce"], smoke["objectives"]["global"]
    few = tmp_path / "few.yaml"
    few.write_text(yaml.safe_dump(smoke), encoding="utf-8")
    size = str(few)
    variants = (VARIANTS - 2) // 4 + 2  # images alone and random weights have neither
    runs = tmp_path / "grid" / "runs" / "smoke"
    kill_in_mid_course(command(size), runs, call, size)
    before = finished(runs)
    cut_off = begun(runs) - before.keys()
    assert 1 <= len(cut_off) <= CORES

    again = call(size)
    assert again.returncode == 0, again.stdout
    after = finished(runs)
    assert len(after) == 1 + variants  # with the pretraining
    assert before.items() <= after.items()
    repeated = {name for name in after if times_begun(runs, name) > 1}
    assert repeated <= cut_off  # a kernel may have come to its end a moment after the kill

    auc = pd.read_parquet(runs / "tables" / "auc.parquet")
    assert auc["variant"].nunique() == variants
    assert (runs / "tables" / "tables.md").read_text(encoding="utf-8") in again.stdout
    assert "Nothing to be done" in call(size).stdout
    assert finished(runs) == after
