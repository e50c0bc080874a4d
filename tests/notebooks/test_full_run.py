"""Notebook 14 as the real run is: on a prepared cache, without a truth, and looked at later."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
import yaml
from places import NOTEBOOKS

from localmi import course
from localmi.data import build_cache, read_pairs
from localmi.errors import CheckpointError, DataError
from localmi.phantom import write
from localmi.phantom.config import PhantomConfig
from localmi.phantom.write import write_study
from localmi.record import MODEL_CARD

FULL_RUN = NOTEBOOKS / "14_full_mimic_cxr.ipynb"
WHOLE = {"objective": "global", "region_context": "region", "cells_after": 2, "local_stage": 4}
SMALL = {"image_size": 64, "batch_size": 4, "steps": 4, "evaluate_every": 2}


def cells() -> list[Any]:
    return list(nbformat.read(FULL_RUN, as_version=4).cells)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full") / "study"
    write_study(folder, PhantomConfig(seed=1, image_size=64), 20, fractions=(0.4, 0.3, 0.3))
    return build_cache(read_pairs(folder), folder.parent / "cache", image_size=64).folder


@pytest.fixture
def execute(monkeypatch: pytest.MonkeyPatch):
    def run(**given: Any) -> dict[str, Any]:
        monkeypatch.setattr(course, "show", lambda figure, **_: None)
        names: dict[str, Any] = {}
        section = "0"
        for cell in cells():
            section = re.findall(r"^## (\d+) ", f"## {section} \n{cell.source}", re.MULTILINE)[-1]
            if cell.cell_type == "code" and section != "6":  # of Gaussians, not of this run
                exec(cell.source, names)
                if "parameters" in cell.metadata.get("tags", []):
                    names |= SMALL | given
        return names

    return run


def boxes_on(cache: Path, file: Path) -> Path:
    """A box on every image, by the names of MS-CXR."""
    manifest = pd.read_parquet(cache / "manifest.parquet")
    table = manifest[["image_id"]].rename(columns={"image_id": "dicom_id"})
    table = table.assign(label_text="Opacity on the left.", category_name="opacity")
    table.assign(x=10, y=20, w=16, h=16).to_csv(file, index=False)
    return file


@pytest.mark.slow
def test_the_full_run_and_a_look_at_it(
    prepared: Path, execute, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes = boxes_on(prepared, tmp_path / "boxes.csv")
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    names = execute(data_dir=str(prepared), boxes=str(boxes), run_dir=str(run_dir))
    told = capsys.readouterr().out
    tests = len(names["test"])
    assert f"{tests} phrases with boxes on test images" in told
    assert {"train", "validate", "test"} == set(names["where"].index)
    figures = {"validation_mi_nats", "local_mi_nats", "box_pointing", "box_contrast", "probe_auc"}
    assert figures <= names["metrics"].keys()
    assert "truth_at_most" not in names["metrics"]["local_mi_nats"].beside
    assert list(names["table"]) == ["this run"]  # what is wrong is shown in the rehearsal
    told_without_outputs = names["record"]["metrics"]["validation_mi_nats"]
    assert {"spread", "repeated_texts", "gradient_norm", "cap"} <= told_without_outputs.keys()
    assert names["record"]["data"]["cost"]["seconds_a_step"] > 0
    card = (run_dir / MODEL_CARD).read_text(encoding="utf-8")
    assert "4 of 4 (finished)" in card
    (run_dir / MODEL_CARD).unlink()
    log = run_dir / "metrics.jsonl"
    steps = [line for line in log.read_text().splitlines() if "training" in line]
    later = [f'{{"step": {step}, "training": 99.0}}' for step in range(5, 40)]
    log.write_text("\n".join([*steps, *later]) + "\n")  # no look yet, and it has gone on
    looked_at = execute(data_dir=str(prepared), init=str(run_dir / "checkpoint.pt"), steps=9)
    told = capsys.readouterr().out
    assert "step 4 of 4" in told
    assert "39 steps, 0 looks in the log" in told
    assert "this run: 0 looks" in told
    assert looked_at["table"].loc["training - held-out, nats", "this run"] < 50
    assert "no boxes" in told
    before, now = (found["metrics"]["local_mi_nats"].interval for found in (names, looked_at))
    assert now.value == pytest.approx(before.value, abs=0.005)
    assert looked_at["card"] == ""  # the data that are open now need not be what it was trained on


@pytest.mark.slow
def test_the_full_run_of_global_mi_is_measured_on_whole_reports(
    prepared: Path, execute, capsys: pytest.CaptureFixture[str]
) -> None:
    names = execute(data_dir=str(prepared), further=WHOLE)
    told = capsys.readouterr().out
    assert {names[part].unit for part in ("validate", "test")} == {"report"}
    assert names["shown"].train_data.unit == "report"
    assert "distinct reports" in told
    assert {"validation_mi_nats", "global_mi_nats", "probe_auc"} <= names["metrics"].keys()
    assert names["metrics"]["validation_mi_nats"].beside["spread"] is None
    assert "one region wins" not in told


@pytest.mark.parametrize("name", ["boxes", "init"])
def test_a_wrong_file_stops_it_before_anything_is_generated(
    name: str, execute, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    generated: list[Any] = []
    monkeypatch.setattr(write, "write_study", lambda *given: generated.append(given))
    (tmp_path / "file").write_text("of another kind\n", "utf-8")
    for file in (tmp_path / "file", tmp_path / "none"):
        with pytest.raises((DataError, CheckpointError), match=str(file)):
            execute(**{name: str(file)})
    assert not generated


def test_every_size_of_the_paper_has_a_row() -> None:
    """The table says of each field of the files whose it is, and why."""
    (table,) = [
        cell.source for cell in cells() if "| field | paper | public code |" in cell.source
    ]
    rows = "\n".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    named = set(re.findall(r"`(\w+)`", rows))
    for name in ("07_paper", "07_mimic", "14_one_gpu"):
        fields = yaml.safe_load((NOTEBOOKS / f"parameters/{name}.yaml").read_text("utf-8"))
        assert fields.keys() <= named


def test_the_files_of_the_full_run_see_as_many_images() -> None:
    ours, *files = (
        yaml.safe_load((NOTEBOOKS / f"parameters/{name}.yaml").read_text("utf-8"))
        for name in ("07_mimic", "14_one_gpu", "14_eight_gpus", "14_two_nodes")
    )
    changed = {"batch_size", "steps", "evaluate_every"}
    for file in files:
        assert {name for name in ours if ours[name] != file[name]} <= changed
        seen = file["batch_size"] * file["steps"]
        assert seen == pytest.approx(ours["batch_size"] * ours["steps"], rel=1e-3)
        assert file["steps"] % file["evaluate_every"] == 0
    assert [file["batch_size"] // 64 for file in files] == [1, 8, 16]
