"""The 3,955 real reports of OpenI, which the package torchxrayvision carries."""

import importlib.util
import tarfile
from pathlib import Path
from xml.etree import ElementTree

import pytest


def carried_data() -> Path:
    """The folder with `NLMCXR_reports.tgz` and the tables beside it; skips where it is not."""
    package = importlib.util.find_spec("torchxrayvision")
    if package is None or package.origin is None:
        pytest.skip("torchxrayvision, which carries the OpenI reports, is not installed")
    return Path(package.origin).parent / "data"


def real_reports() -> list[dict[str, str]]:
    """Label -> text of each report, read without the library; empty parts are ""."""
    reports = []
    with tarfile.open(carried_data() / "NLMCXR_reports.tgz") as tar:
        for member in tar:
            file = tar.extractfile(member) if member.name.endswith(".xml") else None
            if file is not None:
                parts = ElementTree.parse(file).iter("AbstractText")
                reports.append({part.get("Label", ""): part.text or "" for part in parts})
    return reports
