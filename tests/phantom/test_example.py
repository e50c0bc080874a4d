from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from localmi.__main__ import app
from localmi.errors import DataError
from localmi.phantom import example
from localmi.phantom import write as write_module
from localmi.phantom.config import PhantomConfig


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    def write_small(out: Path, *_: Any, **__: Any) -> None:
        out.mkdir()
        (out / "new.csv").write_text("new")

    monkeypatch.setattr(write_module, "write_study", write_small)


def make_study(out: Path) -> None:
    """What tells a synthetic study, and a file of it."""
    names = ("truth/truth.json", "old.csv")
    (out / "truth").mkdir(parents=True)
    for name in names:
        (out / name).touch()
    (out / "SHA256SUMS").write_text("".join(f"{'0' * 64}  {name}\n" for name in names))


def test_the_old_study_is_replaced(small: None, tmp_path: Path) -> None:
    out = tmp_path / "data" / "example"
    make_study(out)
    (out / "results").mkdir()
    (out / "results" / "auc.csv").write_text("kept")
    example.regenerate(out)
    assert sorted(path.name for path in out.iterdir()) == ["new.csv", "results"]
    assert (out / "results" / "auc.csv").read_text() == "kept"
    assert [path.name for path in out.parent.iterdir()] == ["example"]


def test_a_cut_off_run_leaves_the_old_study(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(out: Path, *_: Any, **__: Any) -> None:
        out.mkdir()
        raise OSError("disk full")

    monkeypatch.setattr(write_module, "write_study", fail)
    make_study(tmp_path / "example")
    with pytest.raises(OSError, match="disk full"):
        example.regenerate(tmp_path / "example")
    assert [path.name for path in tmp_path.rglob("*.csv")] == ["old.csv"]


def test_a_folder_of_something_else_is_not_replaced(small: None, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(DataError, match="no synthetic study"):
        example.regenerate(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.parametrize("name", ["notes.txt", "files/mine/notes.txt", "truth/notes.txt"])
def test_what_somebody_put_into_a_study_is_not_lost(
    small: None, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "study"
    make_study(out)
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    (out / name).write_text("mine")
    with pytest.raises(DataError, match=f"holds {name}, which .* Move that elsewhere"):
        example.regenerate(out)
    assert (out / name).read_text() == "mine"
    assert (out / "old.csv").exists()


def test_an_empty_folder_is_filled(small: None, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        example.regenerate(tmp_path / name)
        assert [path.name for path in (tmp_path / name).iterdir()] == ["new.csv"]


def test_size_and_seed_are_handed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: dict[str, Any] = {}

    def write(out: Path, config: PhantomConfig, **others: Any) -> None:
        out.mkdir()
        asked.update(others, config=config)

    monkeypatch.setattr(write_module, "write_study", write)
    options = {"lateral": 0.6, "depth_said": 1.0, "record_reversed": True}
    example.regenerate(tmp_path / "study", patients=30, seed=4, workers=2, **options)
    assert asked["config"] == PhantomConfig(
        seed=4, lateral_view=0.6, depth_said=1.0, record_reversed=True
    )
    assert (asked["num_patients"], asked["workers"]) == (30, 2)
    example.regenerate(tmp_path / "other")
    assert asked["config"] == PhantomConfig()
    assert asked["num_patients"] == example.EXAMPLE_PATIENTS


@pytest.mark.parametrize("command", ["example", "phantom"])
def test_the_commands_say_what_was_written(small: None, tmp_path: Path, command: str) -> None:
    done = CliRunner().invoke(app, [command, "--out", str(tmp_path / "new")])
    assert done.exit_code == 0
    assert done.stdout == f"{tmp_path / 'new'}: 1 files, 0.0 MB\n"
    (tmp_path / "thesis.tex").touch()
    refused = CliRunner().invoke(app, [command, "--out", str(tmp_path)])
    assert refused.exit_code == 2
    assert refused.stderr.startswith("DataError: ")


def test_the_command_hands_on_size_and_seed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(example, "regenerate", lambda out, **options: asked.append(options))
    words = ["--out", str(tmp_path), "--patients", "30", "--seed", "4", "--workers", "2"]
    words += ["--lateral", ".6", "--depth-said", "1", "--record-reversed"]
    assert CliRunner().invoke(app, ["phantom", *words]).exit_code == 0
    assert CliRunner().invoke(app, ["example", "--out", str(tmp_path)]).exit_code == 0
    default = {"patients": example.EXAMPLE_PATIENTS, "seed": 0, "workers": 0}
    default |= {"lateral": 0.0, "depth_said": 0.0, "record_reversed": False}
    given = {"patients": 30, "seed": 4, "workers": 2, "lateral": 0.6, "depth_said": 1.0}
    given["record_reversed"] = True
    assert asked == [given, default]
