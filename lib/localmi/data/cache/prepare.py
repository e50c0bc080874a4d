"""The command `python -m localmi prepare`: from a downloaded study to a checked cache.

Taught in 13_preparing_mimic_cxr.
"""

import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd

from localmi.data.cache.cache import build_cache
from localmi.data.cache.report import TEXT
from localmi.data.cache.shards import read_or_reason
from localmi.data.cache.tables import make_sentences
from localmi.data.sources.pairs import Pairs, read_pairs, reasons
from localmi.data.splits import Leaks
from localmi.data.tables import counted, keep_rows
from localmi.errors import DataError
from localmi.names import FRONTAL_VIEWS, Source
from localmi.ranks import cores

USE = ("findings", "impression")  # as `build_cache`
SAMPLE = 32  # files a worker that a dry run reads


@dataclass(frozen=True)
class Needs:
    """What a preparation will need. Seconds are those of this machine, with `workers` threads.

    rejected: image_id, study_id, reason, of the `sampled` images.
    """

    images: int
    reports: int
    workers: int
    bytes_needed: int
    bytes_free: int
    images_per_second: float
    seconds: float
    sampled: int = 0
    rejected: pd.DataFrame = field(default_factory=pd.DataFrame)

    def __str__(self) -> str:
        fits = "" if self.bytes_needed <= self.bytes_free else " NOT ENOUGH."
        return (
            f"Dry run: {counted(self.images, 'image')} and {counted(self.reports, 'report')}. "
            f"Disk: {self.bytes_needed / 1e9:.2f} GB needed, {self.bytes_free / 1e9:.2f} GB "
            f"free.{fits} Time: about {duration(self.seconds)} with "
            f"{counted(self.workers, 'worker')} ({self.images_per_second:.0f} images a second in "
            f"a sample of {self.sampled}). In the sample: {reasons(self.rejected)}"
        )


def prepare(
    data_dir: Path | str,
    out: Path | str,
    *,
    source: Source = "auto",
    reports_dir: Path | str | None = None,
    records_dir: Path | str | None = None,
    views: Sequence[str] = FRONTAL_VIEWS,
    image_size: int = 256,
    workers: int = 0,
    leaks: Leaks = "refuse",
    dry_run: bool = False,
) -> None:
    """Prints what is found, prepares it in `out`, and prints the report.

    With `dry_run` a sample is read, and what would be needed and rejected printed.

    Args: as `read_pairs` and `build_cache`; workers 0: one a core.

    Raises:
        LocalMIError: as `read_pairs` and `build_cache`; another process prepares `out`; or no
            image of the sample can be used.
    """
    workers = workers or cores()
    pairs = read_pairs(
        data_dir,
        source,
        reports_dir=reports_dir,
        records_dir=records_dir,
        views=views,
        leaks=leaks,
        progress=True,
    )
    print(describe_pairs(pairs))
    if dry_run:
        needs = estimate_needs(pairs, out, image_size=image_size, workers=workers)
        print(needs)
        if len(needs.rejected) == needs.sampled:
            raise DataError(f"No image of a sample of {pairs.name} can be used: see above.")
        return
    begin = time.perf_counter()
    cache = build_cache(
        pairs,
        out,
        image_size=image_size,
        workers=workers,
        leaks=leaks,
        wait=False,
        progress=True,
    )
    print((cache.folder / TEXT).read_text(encoding="utf-8"))
    print(f"Prepared in {duration(time.perf_counter() - begin)}. Use it as data_dir: {out}")
    if (Path(data_dir) / "truth").is_dir():
        print(f"What is known of this study stays there: data_dir {data_dir}, cache_dir {out}")


def describe_pairs(pairs: Pairs) -> str:
    """What a source holds, before any image is opened."""
    lines = [
        f"Found {counted(len(pairs.table), 'image')} of "
        f"{counted(pairs.table['study_id'].nunique(), 'study')} in {pairs.name}.",
        *(f"Not asked for: {counted(n, 'image')}, {what}." for what, n in pairs.left_out.items()),
        reasons(pairs.rejected),
        *(f"Note: {note}" for note in pairs.notes),
    ]
    return "\n".join(lines)


def estimate_needs(
    pairs: Pairs, out: Path | str, *, image_size: int = 256, workers: int = 1
) -> Needs:
    """Reads a sample of the files, as many at once as the preparation will.

    Args:
        pairs: from `read_pairs`.
        out: of the cache; it need not exist.
        image_size: side of the square images, in pixels.
        workers: threads.
    """
    sample = pairs.table.sample(n=min(SAMPLE * workers, len(pairs.table)), random_state=0)
    begin = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        read = list(pool.map(partial(read_or_reason, size=image_size), sample["image"]))
    middle = time.perf_counter()
    sentences = make_sentences(sample, USE)
    end = time.perf_counter()
    reason = pd.Series(["" if image else said for image, said in read], sample.index)
    if pairs.reports == "needed":
        has_text = sample["study_id"].isin(sentences["study_id"])
        reason = reason.where(has_text, f"no sentence in {' or '.join(USE)}")
    _, rejected = keep_rows(sample, reason == "", reason, pd.DataFrame())
    images = len(pairs.table)
    reports = pairs.table.loc[pairs.table["report"] != "", "study_id"].nunique()
    per_image = (middle - begin) / len(sample)
    per_report = (end - middle) / sample["study_id"].nunique()
    return Needs(
        images=images,
        reports=reports,
        workers=workers,
        bytes_needed=images * image_size**2,
        bytes_free=shutil.disk_usage(_existing(Path(out).expanduser().resolve())).free,
        images_per_second=1 / per_image,
        seconds=images * per_image + reports * per_report,
        sampled=len(sample),
        rejected=rejected.sort_index(),
    )


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def duration(seconds: float) -> str:
    """ "40 s", "12 min", "3 h 20 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
