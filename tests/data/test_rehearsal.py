"""A small rehearsal of `prepare`; benchmarks/data.py has the one of 20,000 images."""

from pathlib import Path
from typing import Literal

import pytest
from mimic_tree import FAULTS, Layout, check_cache, write_tree

from localmi.data.cache.prepare import prepare
from localmi.data.cache.verify import verify_cache
from localmi.errors import StudyLeakError


@pytest.mark.parametrize(
    ("version", "reports"), [("2.0.0", "tree"), ("2.1.0", "beside"), ("2.1.0", "zip")]
)
def test_every_planted_fault_is_in_the_report_and_nothing_else_is_lost(
    tmp_path: Path, version: Literal["2.0.0", "2.1.0"], reports: Layout
) -> None:
    tree = write_tree(tmp_path, 230, version=version, reports=reports, every=9)
    assert min(tree.faults.values()) > 0
    out = tmp_path / "cache"
    prepare(
        tree.data_dir, out, reports_dir=tree.reports_dir, image_size=32, leaks="reject", workers=2
    )
    check_cache(tree, out, version)
    assert verify_cache(out) == []


def test_leaks_are_refused_unless_asked_otherwise(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, 230, every=9)
    with pytest.raises(StudyLeakError, match='1 patient in .*"reject"'):
        prepare(tree.data_dir, tmp_path / "cache", image_size=32)
    assert not (tmp_path / "cache").exists()


def test_the_check_of_a_rehearsal_can_fail(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, 60, every=5)
    assert sum(tree.faults[name] for name in FAULTS) >= 7
    prepare(tree.data_dir, tmp_path / "cache", image_size=32, leaks="reject")
    tree.studies[0].images[0].rejected = "no image file"
    with pytest.raises(AssertionError):
        check_cache(tree, tmp_path / "cache", "2.1.0")
