"""Where things lie: the repository, and the folder beside it that a plain clone does not have."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
SHARED = ROOT.parent / "shared"  # tests that use it are skipped where it is absent
