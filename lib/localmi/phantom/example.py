"""`make example` generates data/example again, byte for byte; `phantom` any such study."""

import os
import shutil
import tempfile
from pathlib import Path

from localmi.errors import DataError, shortened
from localmi.ranks import cores

RESULTS = "results"  # in the folder of a study: what long runs made of it; it is kept
EXAMPLE_PATIENTS = 1000  # some 1,800 studies, 32 MB: enough to train on, small enough for git
EXAMPLE_FRACTIONS = (0.8, 0.1, 0.1)  # of the patients: train, validate, test


def regenerate(
    out: Path,
    *,
    patients: int = EXAMPLE_PATIENTS,
    seed: int = 0,
    workers: int = 0,
    lateral: float = 0.0,
    depth_said: float = 0.0,
    record_reversed: bool = False,
) -> None:
    """Generates the study beside `out` and swaps it in: a cut-off run leaves `out` as it was.

    A folder `results` in it stays.

    Args:
        out: the folder; an older synthetic study in it is replaced.
        patients: of all splits.
        seed: another seed, another study.
        workers: processes; 0: one a core. The bytes do not depend on it.
        lateral, depth_said, record_reversed: as `PhantomConfig.lateral_view` and so on.

    Raises:
        ConfigError: fewer than 3 patients, workers below 0, a share outside [0, 1].
        DataError: `out` holds something that is no synthetic study, or files that are none of its.
        OSError: the folder cannot be written.
    """
    from localmi.phantom.config import PhantomConfig
    from localmi.phantom.tables import SUMMARY
    from localmi.phantom.write import write_study

    out = out.resolve()
    is_study = (out / SUMMARY).is_file()
    if out.exists() and not (is_study or (out.is_dir() and not any(out.iterdir()))):
        raise DataError(
            f"{out} exists and is no synthetic study ({SUMMARY} is missing), so it is not "
            "replaced. Name another folder."
        )
    if is_study and (others := _not_of_the_study(out)):
        names = ", ".join(shortened(others))
        raise DataError(
            f"{out} holds {names}, which the list of the study's files does not have and which "
            "would be lost with it. Move that elsewhere, or name another folder."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as scratch:
        new = Path(scratch) / "new"
        write_study(
            new,
            PhantomConfig(
                seed=seed,
                lateral_view=lateral,
                depth_said=depth_said,
                record_reversed=record_reversed,
            ),
            num_patients=patients,
            fractions=EXAMPLE_FRACTIONS,
            workers=workers or cores(),
        )
        if (out / RESULTS).is_dir():
            shutil.copytree(out / RESULTS, new / RESULTS)
        if out.exists():
            os.replace(out, Path(scratch) / "old")
        os.replace(new, out)


def _not_of_the_study(folder: Path) -> list[str]:
    """Files, but for `RESULTS`, that the study's list does not have."""
    from localmi.phantom.write import SUMS

    sums = folder / SUMS
    lines = sums.read_text(encoding="utf-8").splitlines() if sums.is_file() else []
    listed = {SUMS, *(line.partition("  ")[2] for line in lines)}
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    found = {file.as_posix() for file in files if file.parts[0] != RESULTS}
    return sorted(found - listed)
