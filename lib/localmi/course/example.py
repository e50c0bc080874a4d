"""`make example`: generates data/example again, byte for byte."""

import os
import tempfile
from pathlib import Path

EXAMPLE_PATIENTS = 240  # some 400 studies: enough for every finding, small enough for git
EXAMPLE_FRACTIONS = (0.6, 0.15, 0.25)  # of the patients: train, validate, test


def regenerate(out: Path) -> None:
    """Generates the study beside `out` and swaps it in: a cut-off run leaves `out` as it was.

    Raises:
        OSError: the folder cannot be written.
    """
    from localmi.data.phantom.config import PhantomConfig
    from localmi.data.phantom.write import write_study

    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        new = Path(scratch) / "new"
        write_study(
            new,
            PhantomConfig(),
            num_patients=EXAMPLE_PATIENTS,
            fractions=EXAMPLE_FRACTIONS,
            workers=1,
        )
        if out.exists():
            os.replace(out, Path(scratch) / "old")
        os.replace(new, out)


def main(out: Path) -> int:
    """The command `python -m localmi example`; returns the exit code."""
    regenerate(out)
    files = [path for path in out.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    print(f"{out}: {len(files)} files, {size:.1f} MB")
    return 0
