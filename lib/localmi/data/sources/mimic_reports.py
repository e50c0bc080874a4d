"""The reports of MIMIC-CXR: `mimic-cxr-reports.zip` as it is downloaded, or a tree of its files.

Taught in 13_preparing_mimic_cxr.
"""

import zipfile
import zlib
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from localmi.data.tables import counted
from localmi.errors import DataError, machine_failed

ARCHIVE = "mimic-cxr-reports.zip"
PROJECT = 'PhysioNet\'s "MIMIC-CXR Database"'
NO_REPORT = "no report file"
# what one file or one member of an archive can raise: damaged, encrypted, packed unusually
AGAIN = "Look after the disk, then start again: nothing is lost."
UNREADABLE = (OSError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError)


@dataclass(frozen=True)
class ReportFiles:
    """Where reports are looked for: an archive, then folders that hold `pNN/pNN.../s....txt`."""

    archive: Path | None
    folders: tuple[Path, ...]


class Reports(NamedTuple):
    """By `pNN/pNN.../s....txt`: the text, or why there is none. notes: see `pairs.Pairs`."""

    texts: dict[str, str]
    failed: dict[str, str]
    notes: tuple[str, ...]


def find_reports(data_dir: Path, reports_dir: Path | str | None) -> ReportFiles:
    """The archive and the folders in `reports_dir`, or beside the images if that is None.

    Args:
        reports_dir: the archive, a folder that holds it, or a folder of the reports' tree.

    Raises:
        DataError: `reports_dir` does not exist.
    """
    base = Path(reports_dir).expanduser().resolve() if reports_dir else data_dir
    if not base.exists():
        raise DataError(f"{base} does not exist. Set reports_dir to {ARCHIVE} or its tree.")
    archive = base if base.is_file() else base / ARCHIVE
    unpacked = base / ARCHIVE.removesuffix(".zip")
    folders = (base / "files", base, unpacked / "files", unpacked)
    return ReportFiles(
        archive if archive.is_file() else None,
        tuple(folder for folder in folders if folder.is_dir()),
    )


def read_reports(files: ReportFiles, parts: Iterable[str], progress: bool) -> Reports:
    """The texts of `parts`, each a `pNN/pNN.../s....txt`; the same from archive and tree.

    Raises:
        DataError: the archive is damaged as a whole, or the disk fails.
    """
    texts: dict[str, str] = {}
    failed: dict[str, str] = {}
    with _opened(files.archive) as archive:
        members = _members(archive)
        for part in tqdm(parts, desc="reports", unit="report", disable=not progress):
            try:
                data = _read(part, archive, members, files.folders)
            except UNREADABLE as error:
                if machine_failed(error):
                    raise DataError(f"{part} cannot be read: {error}. {AGAIN}") from error
                failed[part] = "unreadable report"
                continue
            text = data.decode("utf-8", errors="replace") if data is not None else ""
            if text.strip():
                texts[part] = text.replace("\r\n", "\n").replace("\r", "\n")
            else:
                failed[part] = NO_REPORT if data is None else "empty report"
    missing = [part for part, reason in failed.items() if reason == NO_REPORT]
    if not missing:
        return Reports(texts, failed, ())
    places = [*([files.archive] if files.archive else []), *files.folders]
    note = (
        f"{counted(len(missing), 'study', 'have')} no report file: looked for {missing[0]} in "
        f"{', '.join(place.name for place in places)}. Reports are in {ARCHIVE}, which comes with "
        f"{PROJECT}: put it beside the images, or set reports_dir to it or to its unpacked tree."
    )
    tables = [path.name for place in files.folders for path in place.glob("*section*.csv*")]
    said = (
        f" {tables[0]} is a table made of the reports, and does not replace them."
        if tables
        else ""
    )
    return Reports(texts, failed, (note + said,))


def _opened(path: Path | None) -> AbstractContextManager[zipfile.ZipFile | None]:
    if path is not None and ".csv" in path.name:
        raise DataError(
            f"{path} is a table, made of the reports: needed are the reports themselves. Set "
            f"reports_dir to {ARCHIVE}, which comes with {PROJECT}, or to its unpacked tree."
        )
    try:
        return nullcontext() if path is None else zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read as a zip: {error}. Download it anew.") from error


def _members(archive: zipfile.ZipFile | None) -> dict[str, str]:
    """`pNN/pNN.../s....txt` -> the name in the archive, whatever folder stands before."""
    names = archive.namelist() if archive is not None else []
    return {"/".join(name.split("/")[-3:]): name for name in names}


def _read(
    part: str,
    archive: zipfile.ZipFile | None,
    members: dict[str, str],
    folders: tuple[Path, ...],
) -> bytes | None:
    """A report's bytes; None where no file is."""
    if archive is not None and part in members:
        return archive.read(members[part])
    for folder in folders:
        try:
            return (folder / part).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
    return None
