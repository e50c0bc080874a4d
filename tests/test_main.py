"""The commands: what they say, and their exit codes: 0 done, 1 no, 2 refused, 130 stopped."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import localmi
from localmi import errors
from localmi.__main__ import REFUSED, STOPPED, app
from localmi.data.cache import prepare as preparation

COMMANDS = (
    "run",
    "environment",
    "lint",
    "render",
    "scan",
    "prepare",
    "verify",
    "example",
    "phantom",
    "tables",
    "collect",
    "export",
)
OURS = [
    error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, errors.LocalMIError)
]


def call(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "localmi", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def test_version_and_help() -> None:
    assert call("--version").stdout.strip() == f"localmi {localmi.__version__}"
    shown = call("--help").stdout
    for command in COMMANDS:
        assert command in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"])
    assert shown.exit_code == 0
    assert command in shown.stdout
    assert shown.stderr == ""


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys, localmi.__main__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_run_hands_on_its_words_and_exit_code(tmp_path: Path) -> None:
    refused = call("run", "none.ipynb", "-p", "steps", "-1", cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith("DataError: There is no notebook")
    assert list(tmp_path.iterdir()) == []


def test_phantom_says_what_is_wrong(tmp_path: Path) -> None:
    made = call("phantom", "--patients", "3", "--seed", "5", "--out", "study", cwd=tmp_path)
    assert made.returncode == 0
    assert (tmp_path / "study" / "truth" / "truth.json").is_file()
    refused = call("phantom", "--patients", "2", "--out", "study", cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith("ConfigError: num_patients is 2")
    assert (tmp_path / "study" / "truth" / "truth.json").is_file()


def test_tables_says_what_is_wrong(tmp_path: Path) -> None:
    refused = call("tables", "none", cwd=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.startswith("DataError: ")
    assert "none holds no finished downstream run" in refused.stderr


def outcome(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command whose work raises this."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(preparation, "prepare", fail)
    done = CliRunner().invoke(app, ["prepare", "--data-dir", "a", "--out", "b"])
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.parametrize("error", OURS)
def test_an_error_of_ours_is_one_line_with_its_type(
    monkeypatch: pytest.MonkeyPatch, error: type[errors.LocalMIError]
) -> None:
    said = f"{error.__name__}: This is so. Do that.\n"
    assert outcome(monkeypatch, error("This is so. Do that.")) == (REFUSED, "", said)
    assert REFUSED == 2


def test_stopped_by_the_keyboard(monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, said = outcome(monkeypatch, KeyboardInterrupt())
    assert code == STOPPED == 130
    assert "The same command goes on from there" in said
    assert "a run goes on with --resume --out" in said


def test_an_error_that_is_not_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(preparation, "prepare", fail)
    done = CliRunner().invoke(app, ["prepare", "--data-dir", "a", "--out", "b"])
    assert isinstance(done.exception, ZeroDivisionError)
    assert done.exit_code == 1


def test_words_that_are_no_command_are_refused() -> None:
    for words in (["nonsense"], ["prepare"], ["verify"], ["run", "a", "--nonsense"]):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == REFUSED
        assert "Usage: " in done.stderr


def test_an_answer_of_no_is_no_refusal(tmp_path: Path) -> None:
    """Exit code 1: it ran, and something was found."""
    (tmp_path / "05_small.md").write_text("p" + str(10_000_032))
    done = CliRunner().invoke(app, ["scan", str(tmp_path)])
    assert done.exit_code == 1
    assert done.stderr == ""
