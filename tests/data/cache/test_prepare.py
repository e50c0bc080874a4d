"""The command `prepare`: what it says, what it refuses, what it leaves."""

import json
import shutil
import subprocess
import sys
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from PIL import Image
from typer.testing import CliRunner

from localmi.__main__ import app
from localmi.data.cache import prepare as preparation
from localmi.data.cache import report
from localmi.data.cache.cache import open_cache
from localmi.data.cache.prepare import describe_pairs, duration, estimate_needs, prepare
from localmi.data.sources.pairs import Pairs, read_pairs
from localmi.errors import LocalMIError


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Six images; one is missing, one is no image."""
    folder = tmp_path / "ours"
    folder.mkdir()
    names = [f"{number}.png" for number in range(6)]
    for number, name in enumerate(names[1:]):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 32), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    (folder / "5.png").write_bytes(b"no image")
    table = {
        "image": names,
        "report": [f"Clear lungs, {number}." for number in range(6)],
        "patient_id": names,
        "split": ["train", "train", "train", "validate", "test", "test"],
        "view": ["AP", "PA", "AP", "PA", "AP", ""],
        "Edema": [1.0, 0.0, -1.0, None, 1.0, 0.0],
    }
    pd.DataFrame(table).to_csv(folder / "pairs.csv", index=False)
    return folder


def call(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "localmi", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_command_prepares_and_verifies(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "cache"
    done = call("prepare", "--data-dir", str(study), "--out", str(out), "--image-size", "32")
    assert done.returncode == 0, done.stderr
    for words in (
        "Found 5 images of 5 studies in ours.",
        "1 for 'no image file' (0.png)",
        "ours: 4 images of 4 studies and 4 patients, 4 sentences, at 32 pixels.",
        "  1 not an image (5.png): download or export the file anew, or leave it out",
        "Prepared in",
        f"Use it as data_dir: {out}",
    ):
        assert words in done.stdout
    assert "image/s" in done.stderr  # a bar with the rate and the time that remains
    report = json.loads((out / "report.json").read_text())
    assert report["rejected"] == {"no image file": 1, "not an image": 1}
    assert report["splits"]["train"]["views"] == {"AP": 1, "PA": 1}
    edema = pd.DataFrame(report["labels"]["ones"])
    assert edema[["positive", "negative", "ignored"]].sum().tolist() == [2, 1, 1]
    whole = call("verify", str(out))
    assert (whole.returncode, "is whole" in whole.stdout) == (0, True)
    (out / "shard-00000.npy").unlink()
    assert call("verify", str(out)).returncode == 1


def test_errors_are_one_line_and_exit_code_2(tmp_path: Path) -> None:
    failed = call("prepare", "--data-dir", str(tmp_path / "none"), "--out", str(tmp_path / "c"))
    assert failed.returncode == 2
    assert failed.stderr.startswith("DataError: ")
    assert failed.stderr.count("\n") == 1
    assert "none does not exist. Set data_dir" in failed.stderr
    assert list(tmp_path.iterdir()) == []
    wrong = call("prepare", "--data-dir", "x", "--out", "y", "--source", "pacs")
    assert wrong.returncode == 2
    assert "pacs" in wrong.stderr


def test_a_dry_run_writes_nothing(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(study, tmp_path / "new" / "cache", dry_run=True, workers=2)
    said = capsys.readouterr().out
    assert "Dry run: 5 images and 5 reports. Disk: 0.00 GB needed" in said
    assert "with 2 workers" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours"]


def test_a_dry_run_says_what_of_its_sample_cannot_be_used(study: Path, tmp_path: Path) -> None:
    words = ("prepare", "--data-dir", str(study), "--out", str(tmp_path / "new"), "--dry-run")
    done = call(*words)
    assert done.returncode == 0
    assert "in a sample of 5). In the sample: Rejected 1 image: 1 for 'not an image' (5.png)" in (
        done.stdout
    )
    for number in range(1, 5):
        (study / f"{number}.png").write_bytes(b"a page of the server")
    done = call(*words)
    assert done.returncode == 2
    assert "Rejected 5 images: 5 for 'not an image' (1.png, 2.png" in done.stdout
    assert "DataError: No image of a sample of ours can be used" in done.stderr
    table = pd.read_csv(study / "pairs.csv")
    table.assign(report="INDICATION: Cough.").to_csv(study / "pairs.csv", index=False)
    done = call(*words)
    assert done.returncode == 2
    assert "5 for 'no sentence in findings or impression'" in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours"]


def test_an_estimate_counts_images_and_reports(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a sample of all five images: 10 s for them, 2 s for their reports."""
    clock, disk = iter([100.0, 110.0, 112.0]), SimpleNamespace(free=7)
    monkeypatch.setattr(preparation, "time", SimpleNamespace(perf_counter=clock.__next__))
    monkeypatch.setattr(preparation, "shutil", SimpleNamespace(disk_usage=lambda _: disk))
    needs = estimate_needs(read_pairs(study), tmp_path / "new", image_size=64)
    assert (needs.bytes_needed, needs.bytes_free) == (5 * 64 * 64, 7)
    assert (needs.images, needs.images_per_second) == (5, pytest.approx(1 / 2))
    assert needs.seconds == pytest.approx(12)
    full = str(preparation.Needs(1, 1, 1, 10**12, 10**9, 2.0, 8000.0))
    assert "1000.00 GB needed, 1.00 GB free. NOT ENOUGH." in full
    assert "about 2 h 13 min" in full


def test_duration_in_words() -> None:
    words = [duration(seconds) for seconds in (0.4, 89, 90, 3599, 3600, 100_000)]
    assert words == ["0 s", "89 s", "2 min", "1 h 0 min", "1 h 0 min", "27 h 47 min"]


def test_what_is_found_is_said() -> None:
    rejected = pd.DataFrame([["i", "s", "bad"]], columns=["image_id", "study_id", "reason"])
    table = pd.DataFrame({"study_id": ["a", "a"]})
    said = describe_pairs(
        Pairs(table, rejected, "x", {"view LL": 1200}, ("12 studies lack labels.",))
    )
    assert said.splitlines() == [
        "Found 2 images of 1 study in x.",
        "Not asked for: 1,200 images, view LL.",
        "Rejected 1 image: 1 for 'bad' (i): download or export the file anew, or leave it out.",
        "Note: 12 studies lack labels.",
    ]


def test_another_process_is_not_waited_for(study: Path, tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / "cache.lock"),
        pytest.raises(LocalMIError, match="Another process is preparing"),
    ):
        prepare(study, tmp_path / "cache")


def test_leaks_are_rejected_on_demand(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(study / "4.png", study / "1.png")
    with pytest.raises(LocalMIError, match="identical pixels"):
        prepare(study, tmp_path / "cache", image_size=32)
    prepare(study, tmp_path / "cache", image_size=32, leaks="reject")
    assert "  1 the same pixels as an image in test (1.png)" in capsys.readouterr().out
    assert len(open_cache(tmp_path / "cache").images) == 3


@pytest.mark.parametrize(("asked", "taken"), [(0, 3), (2, 2)])
def test_no_number_of_workers_is_one_a_core(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: int, taken: int
) -> None:
    given: list[int] = []
    build = preparation.build_cache

    def counting(*arguments: Any, **settings: Any) -> Any:
        given.append(settings["workers"])
        return build(*arguments, **settings)

    monkeypatch.setattr(preparation, "build_cache", counting)
    monkeypatch.setattr(preparation, "cores", lambda: 3)
    prepare(study, tmp_path / "cache", image_size=32, workers=asked)
    assert given == [taken]


def test_every_option_of_the_command_reaches_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def remember(data_dir: Path, out: Path, **options: Any) -> None:
        asked.update(options, data_dir=data_dir, out=out)

    monkeypatch.setattr(preparation, "prepare", remember)
    words = {"--data-dir": "a", "--out": "b", "--source": "csv", "--reports": "c"}
    words |= {"--image-size": "9", "--workers": "2", "--leaks": "reject", "--records": "d"}
    words |= {"--views": "AP, PA,LATERAL,LL"}
    done = CliRunner().invoke(app, ["prepare", *chain(*words.items()), "--dry-run"])
    assert done.exit_code == 0, done.output
    assert asked == {
        "data_dir": Path("a"),
        "out": Path("b"),
        "source": "csv",
        "reports_dir": Path("c"),
        "records_dir": Path("d"),
        "views": ["AP", "PA", "LATERAL", "LL"],
        "image_size": 9,
        "workers": 2,
        "leaks": "reject",
        "dry_run": True,
    }


def test_the_records_of_other_data_than_mimic_are_refused(study: Path, tmp_path: Path) -> None:
    words = ("--data-dir", str(study), "--out", str(tmp_path / "c"), "--records", str(tmp_path))
    done = call("prepare", *words)
    assert done.returncode == 2
    assert done.stderr.startswith("ConfigError: ")
    assert "leave out records_dir (prepare: --records)" in done.stderr
    assert not (tmp_path / "c").exists()


def test_labels_that_are_not_those_of_chexpert(study: Path, tmp_path: Path) -> None:
    table = pd.read_csv(study / "pairs.csv")
    table.assign(Edema=[0, 1, 2, 3, 2, 1]).to_csv(study / "pairs.csv", index=False)
    prepare(study, tmp_path / "cache", image_size=32)
    assert "labels are not those of CheXpert" in (tmp_path / "cache" / "report.txt").read_text()
    assert json.loads((tmp_path / "cache" / "report.json").read_text())["labels"] == {}


def test_one_column_of_words_takes_no_other_counts_away(study: Path, tmp_path: Path) -> None:
    table = pd.read_csv(study / "pairs.csv")
    words = {"Fracture": ["yes", "no", "", "no", "yes", "no"], "Pneumonia": [True, False] * 3}
    table.assign(**words).to_csv(study / "pairs.csv", index=False)
    prepare(study, tmp_path / "cache", image_size=32)
    said = (tmp_path / "cache" / "report.txt").read_text()
    assert "not counted: Fracture (no, yes), Pneumonia (False, True). Labels are 1" in said
    assert "Images\n" in said
    labels = json.loads((tmp_path / "cache" / "report.json").read_text())["labels"]
    edema = pd.DataFrame(labels["ones"])
    assert set(edema["finding"]) == {"Edema"}
    assert edema[["positive", "negative", "ignored"]].sum().tolist() == [2, 1, 1]


def test_sentences_are_counted_by_section(study: Path, tmp_path: Path) -> None:
    table = pd.read_csv(study / "pairs.csv")
    reports = ["", "Findings: Clear. Dry.\nImpression: Well.", *["Heart: 1. Big. 2. Old."] * 4]
    table.assign(report=reports, patient_id="p" + table["image"]).to_csv(
        study / "pairs.csv", index=False
    )
    prepare(study, tmp_path / "cache", image_size=32)
    report = json.loads((tmp_path / "cache" / "report.json").read_text())
    assert report["sentences_by_section"] == {"findings": 2, "full_report": 6, "impression": 1}
    said = (tmp_path / "cache" / "report.txt").read_text()
    assert "2 of findings, 6 of whole reports in which no header is known, 1 of impre" in said


def test_reasons_come_the_most_frequent_first_then_by_name() -> None:
    found = report._listed("Rejected", {"small": 1, "black": 1, "torn": 2}, {})
    assert found.splitlines() == ["Rejected: 4 images", "  2 torn", "  1 black", "  1 small"]
