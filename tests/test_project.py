"""The project's own files: one environment, two commands, nothing of a machine."""

import os
import re
import subprocess
import tomllib
from itertools import chain
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from places import ROOT

from localmi.environment import build
from localmi.privacy.scan import scan_files

LOCK = [
    Requirement(line)
    for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
LOCKED = {canonicalize_name(requirement.name): requirement for requirement in LOCK}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WANTED = [*PROJECT["dependencies"], *chain(*PROJECT["optional-dependencies"].values())]
LINUX = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"}
OTHERS = {
    "macOS": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"},
    "Windows": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt"},
}


def tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    names = listing.stdout.decode().split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def test_the_lock_pins_every_version() -> None:
    for requirement in LOCK:
        assert re.fullmatch(r"==[\w.]+", str(requirement.specifier)), requirement
    assert str(LOCKED["torch"].specifier) == "==2.14.1"
    assert str(LOCKED["torchvision"].specifier) == "==0.29.1"


def test_the_lock_satisfies_the_project() -> None:
    for words in WANTED:
        wanted = Requirement(words)
        version = str(LOCKED[canonicalize_name(wanted.name)].specifier).removeprefix("==")
        assert wanted.specifier.contains(version), words


def test_each_dependency_has_its_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[tool.")[0]
    named = [line for line in text.splitlines() if re.match(r' {4}"[\w.-]+(>=[\w.]+)?",', line)]
    assert len(named) == len(WANTED)
    assert all(re.search(r"# \w", line) for line in named)


@pytest.mark.parametrize("system", OTHERS)
def test_cuda_packages_are_for_linux_only(system: str) -> None:
    for name, requirement in LOCKED.items():
        if name.startswith(("nvidia-", "cuda-")) or name == "triton":
            assert requirement.marker is not None
            assert requirement.marker.evaluate(LINUX)
            assert not requirement.marker.evaluate(OTHERS[system])


def test_conda_gets_the_same_environment() -> None:
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, by_pip = conda["dependencies"]
    assert python == "python=3.11"
    assert pip == "pip"
    assert by_pip == {"pip": ["-r requirements.lock", "-e ."]}
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains("3.11.9")


def test_one_lock_serves_every_python_of_the_project() -> None:
    """The makefile, the build and the project file name the same ones."""
    allowed = Requirement(f"python{PROJECT['requires-python']}").specifier
    asked = {(3, minor): allowed.contains(f"3.{minor}.2") for minor in range(9, 17)}
    assert {each for each, is_in in asked.items() if is_in} == {(3, 11), (3, 12), (3, 13)}
    assert asked == {each: build.OLDEST <= each < build.TOO_NEW for each in asked}
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"{build.OLDEST} <= sys.version_info < {build.TOO_NEW}" in makefile
    assert all(
        f"python{major}.{minor}" in makefile for (major, minor), is_in in asked.items() if is_in
    )


@pytest.mark.parametrize("version", ["3.11.2", "3.11.9", "3.12.1", "3.13.0"])
def test_the_lock_names_each_package_once(version: str) -> None:
    python = LINUX | {"python_full_version": version, "python_version": version[:4]}
    needed = [line.name for line in LOCK if line.marker is None or line.marker.evaluate(python)]
    assert len(needed) == len(set(needed))
    direct = {canonicalize_name(Requirement(words).name) for words in WANTED}
    assert direct <= {canonicalize_name(name) for name in needed}


def test_the_make_targets_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = ("run", "tables", "test", "check", "gpu-check", "lab", "render", "example")
    for target in (*targets, "bench", "hooks"):
        assert re.search(rf"^{target}: (environment|check)$", makefile, flags=re.MULTILINE), target
        assert f'"make {target} ' in makefile
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_make_says_what_it_can_do() -> None:
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "make run" in shown
    assert "make test" in shown


def test_the_readme_names_the_two_commands() -> None:
    readme = ROOT / "README.md"
    if not readme.exists():
        pytest.skip("there is no README.md yet")
    text = readme.read_text(encoding="utf-8")
    assert "make run" in text
    assert "make test" in text


def test_no_tracked_file_is_large() -> None:
    assert [path for path in tracked() if path.stat().st_size > 5_000_000] == []


MACHINE = re.compile(r"(?<![\w.])/(?:home|root|tmp|work|mnt|Users)/[A-Za-z0-9._-]+")


def test_no_path_of_a_machine_is_tracked() -> None:
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # an image, a table in binary form
        found += [(path.name, words) for words in MACHINE.findall(text)]
    assert found == []


def test_nothing_of_mimic_is_tracked() -> None:
    assert [str(finding) for finding in scan_files(tracked())] == []


def test_the_hook_can_be_started() -> None:
    for path in (ROOT / ".githooks").iterdir():
        assert path.read_text(encoding="utf-8").startswith("#!/bin/sh\n")
        assert os.access(path, os.X_OK), path


def test_the_scan_finds_a_path() -> None:
    assert MACHINE.search("in /" + "home/ann/x")
    assert not MACHINE.search("tests/tmp/x")


def test_modules_stay_small() -> None:
    """One subject a module, about 300 lines: a few may need more to say theirs."""
    lengths = {
        path.relative_to(ROOT).as_posix(): len(path.read_text(encoding="utf-8").splitlines())
        for path in (ROOT / "lib").rglob("*.py")
    }
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_the_method_is_as_long_as_the_readme_says() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[[\w/.]+\]\((lib/localmi/[\w/.]+)\) \| (\d+) \|", text, re.MULTILINE)
    assert len(rows) == 9
    found = {path: len((ROOT / path).read_text(encoding="utf-8").splitlines()) for path, _ in rows}
    assert {path: int(said) for path, said in rows} == pytest.approx(found, rel=0.1)
    assert sum(found.values()) <= 2200
