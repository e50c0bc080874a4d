"""The benchmarks are run by hand; what they import must be there."""

import runpy
import sys

import pytest
import torch
from places import ROOT

from localmi.course.error_map import NAMES


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("*.py")), ids=lambda p: p.stem)
def test_a_benchmark_can_be_started(path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(path.parent), *sys.path])
    runpy.run_path(str(path), run_name="imported")


def test_after_ranks_a_bend_of_a_column_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    baselines = runpy.run_path(str(ROOT / "benchmarks" / "estimators.py"))["BASELINES"]
    assert set(baselines) <= set(NAMES), "a heading in the map for each"
    x = torch.randn(400, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = x + torch.randn(400, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for name in ("ksg", "cca"):
        of_ranks, of_raw = baselines[f"{name} after ranks"], baselines[name]
        assert of_ranks(x, y**3) == pytest.approx(of_ranks(x, y), abs=1e-6)
        assert of_raw(x, y**3) != pytest.approx(of_raw(x, y), abs=1e-2)
