from pathlib import Path
from typing import Any

import pytest

from localmi.course import example
from localmi.data.phantom import write


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    def write_small(out: Path, *_: Any, **__: Any) -> None:
        out.mkdir()
        (out / "new.csv").write_text("new")

    monkeypatch.setattr(write, "write_study", write_small)


def test_the_old_study_is_replaced(small: None, tmp_path: Path) -> None:
    out = tmp_path / "data" / "example"
    out.mkdir(parents=True)
    (out / "old.csv").touch()
    assert example.main(out) == 0
    assert [path.name for path in out.iterdir()] == ["new.csv"]
    assert [path.name for path in out.parent.iterdir()] == ["example"]


def test_a_cut_off_run_leaves_the_old_study(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(out: Path, *_: Any, **__: Any) -> None:
        out.mkdir()
        raise OSError("disk full")

    monkeypatch.setattr(write, "write_study", fail)
    (tmp_path / "example").mkdir()
    (tmp_path / "example" / "old.csv").touch()
    with pytest.raises(OSError, match="disk full"):
        example.main(tmp_path / "example")
    assert [path.name for path in tmp_path.rglob("*.csv")] == ["old.csv"]
