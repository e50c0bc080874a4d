"""The checkpoints of a run by their age; whoever only looks for them does not wait for torch.

checkpoint.pt           the newest
checkpoint-000500.pt    the one before it, that of step 500
"""

import re
import zipfile
from pathlib import Path

CHECKPOINT = "checkpoint.pt"  # in the folder of a run
KEEP = 2  # in all


def name_by_step(newest: Path, step: int) -> Path:
    """Where a checkpoint lies that is not the newest any more."""
    return newest.with_name(f"{newest.stem}-{step:06d}{newest.suffix}")


def kept_before(newest: Path) -> dict[int, Path]:
    """By step, the last first, what is kept beside the newest checkpoint."""
    name = re.compile(rf"{re.escape(newest.stem)}-(\d{{6,}}){re.escape(newest.suffix)}")
    files = newest.parent.iterdir() if newest.parent.is_dir() else ()
    found = {int(match[1]): path for path in files if (match := name.fullmatch(path.name))}
    return dict(sorted(found.items(), reverse=True))


def by_age(newest: Path) -> list[Path]:
    """All that are there, the newest first."""
    return [path for path in (newest, *kept_before(newest).values()) if path.is_file()]


def is_whole(path: Path) -> bool:
    """Whether every checksum in a file of `torch.save` is right: loading would not notice."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # on damaged files it raises whatever it likes
        return False


def last_whole(paths: list[Path]) -> Path | None:
    """The first of them that is whole."""
    return next(filter(is_whole, paths), None)


def going_on_from(found: Path, newest: Path) -> str:
    """What is said where the newest checkpoint that is whole is not the newest; else ""."""
    if found == newest:
        return ""
    ages = by_age(newest)
    damaged = ", ".join(path.name for path in ages[: ages.index(found)])
    lost = f"Damaged: {damaged}" if damaged else f"There is no {newest.name}"
    step = int(found.stem.removeprefix(f"{newest.stem}-"))
    return f"{lost}. The run goes on from the checkpoint before, of step {step}: {found.name}."
