"""Builds .venv from requirements.lock when it is missing, out of date or broken.

`make` runs this file first in every target; without make: `python3` and the path of this file
(Windows: `py`). Standard library only: it runs before anything is installed.
"""

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

OLDEST, TOO_NEW = (3, 11), (3, 14)  # pyproject.toml says the same
STAMP = "localmi.stamp"  # written last: a build that was cut off has none

HOW_TO_GET_PYTHON = """The course needs Python 3.11, 3.12 or 3.13; this is {found}.
  Debian 12, 13    apt install python3 python3-venv
  Ubuntu 24.04     apt install python3 python3-venv
  macOS            brew install python@3.13
  Windows          winget install Python.Python.3.13
  conda            conda env create -f environment.yml   (then no make target needs .venv)
  any other, by uv uv python install 3.13
Then, if make does not find it by itself: make PYTHON=<the new Python> <target>"""

WHAT_TO_TRY = """See the lines above: is there a network, and 12 GB of disk for the packages?
On Debian and Ubuntu: is python3-venv installed? To start from nothing: make clean."""


def fingerprint(root: Path) -> str:
    """What .venv was built from: the lock, the project file, and the folder it points to."""
    digest = hashlib.sha256(str(root).encode())
    for name in ("requirements.lock", "pyproject.toml"):
        digest.update((root / name).read_bytes())
    return digest.hexdigest()


def venv_python(root: Path) -> Path:
    """The interpreter of .venv, whether it exists or not."""
    return root / ".venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def is_healthy(root: Path) -> bool:
    """Whether .venv starts and holds every package of the lock."""
    try:
        command = [str(venv_python(root)), "-m", "localmi", "environment", "--packages"]
        return subprocess.run(command, capture_output=True, cwd=root).returncode == 0
    except OSError:
        return False


def why_build(root: Path) -> tuple[str, bool]:
    """(reason to build, "" for none; whether to start from an empty folder)."""
    stamp = root / ".venv" / STAMP
    if not (root / ".venv").exists():
        return "there is no .venv", True
    if not stamp.exists():
        return "the .venv was not finished", True
    if stamp.read_text() != fingerprint(root):
        return "requirements.lock, pyproject.toml or the folder has changed", False
    if not is_healthy(root):
        return "the .venv is broken", True
    return "", False


def install(root: Path, from_empty: bool) -> None:
    """Installs the lock and localmi itself (editable), then writes the stamp.

    A stamp of an older lock stays until then: without a network the next try goes on from there.
    """
    if from_empty:
        python = getattr(sys, "_base_executable", sys.executable)  # not the .venv to be emptied
        if Path(python) == Path(sys.executable):
            venv.create(root / ".venv", clear=True, with_pip=True)
        else:
            subprocess.run([python, "-m", "venv", "--clear", str(root / ".venv")], check=True)
    pip = [str(venv_python(root)), "-m", "pip", "install", "--no-input"]
    pip += ["--disable-pip-version-check", *([] if sys.stdout.isatty() else ["--quiet"])]
    subprocess.run([*pip, "-r", "requirements.lock"], cwd=root, check=True)
    editable = ["--no-deps", "--no-build-isolation", "--editable", "."]
    subprocess.run([*pip, *editable], cwd=root, check=True)
    (root / ".venv" / STAMP).write_text(fingerprint(root))


def main() -> int:
    """Builds .venv where needed. Exit code 0: it is ready; 1: it could not be built."""
    if not OLDEST <= sys.version_info[:2] < TOO_NEW:
        found = "Python " + ".".join(map(str, sys.version_info[:3]))
        print(HOW_TO_GET_PYTHON.format(found=found), file=sys.stderr)
        return 1
    root = Path(__file__).resolve().parents[3]
    reason, from_empty = why_build(root)
    if not reason:
        return 0
    print(
        f"Building the environment in .venv, because {reason} (minutes, some GB) ...", flush=True
    )
    try:
        install(root, from_empty)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"The environment could not be built: {error}", file=sys.stderr)
        print(WHAT_TO_TRY, file=sys.stderr)
        return 1
    print("The environment is ready.", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
