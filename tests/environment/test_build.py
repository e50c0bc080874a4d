import subprocess
import sys
from pathlib import Path

import pytest

from localmi.environment import build as build


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "requirements.lock").write_text("x==1\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    monkeypatch.setattr(build, "is_healthy", lambda root: True)
    return tmp_path


def finish(root: Path) -> None:
    (root / ".venv").mkdir(exist_ok=True)
    (root / ".venv" / build.STAMP).write_text(build.fingerprint(root))


def test_a_missing_environment_is_built(root: Path) -> None:
    assert build.why_build(root) == ("there is no .venv", True)


def test_a_build_that_was_cut_off_starts_from_empty(root: Path) -> None:
    (root / ".venv").mkdir()
    assert build.why_build(root) == ("the .venv was not finished", True)


def test_a_finished_environment_stays(root: Path) -> None:
    finish(root)
    assert build.why_build(root) == ("", False)


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_a_changed_file_brings_it_up_to_date(root: Path, name: str) -> None:
    finish(root)
    (root / name).write_text("# changed\n")
    reason, from_empty = build.why_build(root)
    assert "changed" in reason
    assert not from_empty


def test_a_copied_folder_is_not_the_one_it_was_built_in(root: Path, tmp_path: Path) -> None:
    finish(root)
    other = tmp_path / "copy"
    other.mkdir()
    for name in ("requirements.lock", "pyproject.toml"):
        (other / name).write_bytes((root / name).read_bytes())
    assert build.fingerprint(other) != build.fingerprint(root)


def test_a_broken_environment_is_built_anew(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finish(root)
    monkeypatch.undo()
    assert build.why_build(root) == ("the .venv is broken", True)  # it has no interpreter


def test_this_environment_is_healthy() -> None:
    root = Path(build.__file__).resolve().parents[3]
    if not build.venv_python(root).exists():
        pytest.skip("runs in an environment that make did not build")
    assert build.is_healthy(root)


@pytest.mark.parametrize("version", [(3, 10, 12), (3, 14, 0)])
def test_another_python_is_told_how_to_get_one(
    version: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    assert build.main() == 1
    said = capsys.readouterr().err
    assert f"this is Python {'.'.join(map(str, version))}" in said
    assert "3.11, 3.12 or 3.13" in said


@pytest.mark.parametrize("version", [(3, 11, 2), (3, 12, 1), (3, 13, 0)])
def test_every_python_of_the_project_builds(
    version: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    monkeypatch.setattr(build, "why_build", lambda root: ("", False))
    assert build.main() == 0


def test_a_failed_install_says_so(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried: list[bool] = []

    def fail(root: Path, from_empty: bool) -> None:
        tried.append(from_empty)
        raise subprocess.CalledProcessError(1, "pip")

    monkeypatch.setattr(build, "why_build", lambda root: ("it is old", False))
    monkeypatch.setattr(build, "install", fail)
    assert build.main() == 1
    assert tried == [False]
    assert "make clean" in capsys.readouterr().err
