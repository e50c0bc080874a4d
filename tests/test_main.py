import subprocess
import sys
from pathlib import Path

import localmi


def call(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "localmi", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def test_version_and_help() -> None:
    assert call("--version").stdout.strip() == f"localmi {localmi.__version__}"
    shown = call("--help").stdout
    commands = ["run", "environment", "lint", "render", "scan", "prepare", "verify", "example"]
    for command in [*commands, "phantom", "tables", "export"]:
        assert command in shown


def test_help_does_not_wait_for_torch() -> None:
    code = "import sys, localmi.__main__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_run_hands_on_its_words_and_exit_code(tmp_path: Path) -> None:
    refused = call("run", "none.ipynb", "-p", "steps", "-1", cwd=tmp_path)
    assert refused.returncode == 2
    assert "There is no notebook" in refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_phantom_says_what_is_wrong(tmp_path: Path) -> None:
    made = call("phantom", "--patients", "3", "--seed", "5", "--out", "study", cwd=tmp_path)
    assert made.returncode == 0
    assert (tmp_path / "study" / "truth" / "truth.json").is_file()
    refused = call("phantom", "--patients", "2", "--out", "study", cwd=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.startswith("num_patients is 2")
    assert (tmp_path / "study" / "truth" / "truth.json").is_file()


def test_tables_says_what_is_wrong(tmp_path: Path) -> None:
    refused = call("tables", "none", cwd=tmp_path)
    assert refused.returncode == 1
    assert "none holds no finished downstream run" in refused.stderr
