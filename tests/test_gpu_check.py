"""The GPU check, run small on the CPU: what it says, what it refuses, what it keeps."""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from places import ROOT


@pytest.fixture
def gpu_check(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    return runpy.run_path(str(ROOT / "benchmarks" / "gpu_check.py"))


def test_the_gpu_check_without_a_gpu_says_so(gpu_check, monkeypatch, capsys) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check["main"]([]) == 2
    said = capsys.readouterr().out
    assert said.startswith("No GPU is visible to torch: nothing was checked.")
    assert said.count("\n") == 1


@pytest.mark.slow
def test_the_gpu_check_whole_and_small(
    gpu_check, tiny_bert: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything that it says, on the CPU."""
    words = ["--device", "cpu", "--text-encoder", tiny_bert(), "--out", str(tmp_path)]
    sizes = {
        "images": 80,
        "image-size": 128,
        "batch": 8,
        "seconds": 2,
        "measure": 0.2,
        "workers": 1,
    }
    for name, value in sizes.items():
        words += [f"--{name}", str(value)]
    words += ["--ways", "plain", "channels_last"]  # to compile takes a minute
    code = gpu_check["main"](words)
    said, text = capsys.readouterr().out, (tmp_path / "gpu_check-cpu.md").read_text()
    found = json.loads((tmp_path / "gpu_check-cpu.json").read_text())
    assert text in said
    assert str(tmp_path.parent) not in text
    assert code == 0, said
    assert said.endswith("All is within its tolerance.\n")
    assert 50 < found["study"]["images"] < 110
    assert sorted(found["ways"]) == ["channels_last", "plain"]
    first, trained = found["agreement"].values()
    assert set(first.values()) == {0.0}  # a CPU against itself
    assert trained["image_encoder"] > 0
    for name, run in found["runs"].items():
        assert run["kernel_share"] is None
        assert 0 < run["roofline_share"] < 1.5
        assert run["steps"] > 1
        low, high = run["held_out_nats"]["low"], run["held_out_nats"]["high"]
        assert low <= run["held_out_nats"]["value"] <= high <= run["cap"]
        assert ("pointing" in run) == (name == "local")


def test_the_gpu_check_draws_what_can_be_drawn(gpu_check, capsys) -> None:
    """Fewer images, and why."""
    config = gpu_check["PhantomConfig"](image_size=64)
    plenty = SimpleNamespace(workers=1, images=50, drawing=10_000)
    assert gpu_check["affordable"](plenty, config) == 50
    assert capsys.readouterr().out == ""
    short = SimpleNamespace(workers=1, images=10**9, drawing=2)
    fewer = gpu_check["affordable"](short, config)
    assert 0 < fewer < 10**9
    assert f"{fewer:,} images instead of 1,000,000,000: 1 cores draw" in capsys.readouterr().out
    for images in (200, 20_000):
        patients = gpu_check["patients_of"](images, config)
        assert patients * 1.75 * 1.08 == pytest.approx(images, rel=0.01)


def test_the_gpu_check_tells_what_is_too_far(gpu_check) -> None:
    on_cpu, in_bfloat16 = gpu_check["ON_CPU"], gpu_check["IN_BFLOAT16"]
    too_far, apart = gpu_check["too_far"], gpu_check["apart"]
    one, other = (
        {"step, nats": torch.tensor(x), "critic": torch.tensor([x, 0])} for x in (4.0, 5.0)
    )
    found = apart(one, other)
    assert found == pytest.approx({"step, nats": 1.0, "critic": 0.2})
    assert too_far({on_cpu: apart(one, one), in_bfloat16: {"critic": 2.0}}) == []
    assert len(too_far({on_cpu: found, in_bfloat16: found})) == 3
    assert "critic apart by nan" in too_far({on_cpu: {"critic": float("nan")}})[0]


def test_the_gpu_check_counts_what_ran_on_the_gpu(gpu_check) -> None:
    """Of a profile the kernels and copies, not the calls that launch them."""
    device = gpu_check["DeviceType"]

    def event(where: Any, us: float, *, named: bool = False) -> SimpleNamespace:
        time_range = SimpleNamespace(elapsed_us=lambda: us)
        return SimpleNamespace(device_type=where, time_range=time_range, is_user_annotation=named)

    events = [event(device.CPU, 500), event(device.CUDA, 20), event(device.CUDA, 30)]
    events.append(event(device.CUDA, 60, named=True))  # a range around both
    assert gpu_check["on_gpu"](events) == pytest.approx(50e-6)


def test_the_gpu_check_keeps_what_it_found_before_it_failed(
    gpu_check, tmp_path: Path, tiny_bert: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(options: Any, folder: Path, bert: str, report: Any) -> None:
        report.runs["local"] = {"step_s": 0.5}
        raise ZeroDivisionError

    monkeypatch.setitem(gpu_check["main"].__globals__, "check", check)
    words = ["--device", "cpu", "--text-encoder", tiny_bert(), "--out", str(tmp_path)]
    with pytest.raises(ZeroDivisionError):
        gpu_check["main"](words)
    found = json.loads((tmp_path / "gpu_check-cpu.json").read_text())
    assert found["runs"] == {"local": {"step_s": 0.5}}


def test_an_option_of_the_step_that_fails_takes_nothing_with_it(
    gpu_check, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are measured; the table has its reason in the row."""

    def build(config: Any, _: None) -> SimpleNamespace:
        if config.compile:
            raise RuntimeError("no compiler | here\nat all")
        return SimpleNamespace(config=config)

    compare_ways, report = gpu_check["compare_ways"], gpu_check["Report"]()
    scope = compare_ways.__globals__
    monkeypatch.setitem(scope, "Pretraining", build)
    monkeypatch.setitem(scope, "run_steps", lambda training, number: None)
    monkeypatch.setitem(scope, "step_seconds", lambda ways, seconds: dict.fromkeys(ways, 0.5))
    options = SimpleNamespace(ways=["plain", "compile"], measure=1)
    compare_ways(gpu_check["TrainConfig"](), None, options, report)
    assert report.ways == {"plain": 0.5}
    assert report.failed == {"compile": "RuntimeError: no compiler | here"}
    lines = gpu_check["_way_lines"](report.ways, report.failed)
    assert lines[-2] == "| compile | failed | RuntimeError: no compiler   here |"
    assert "| none |" not in "".join(gpu_check["_way_lines"]({}, report.failed))
