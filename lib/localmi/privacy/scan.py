"""`python -m localmi scan`: refuses files that hold ids or reports of MIMIC-CXR or MIMIC-IV.

The pre-commit hook (`make hooks`) runs it on what is about to be committed. What counts is in
`rules`; a finding names file, place and line, never the id or the text. Taught in
13_preparing_mimic_cxr.
"""

import json
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from localmi.errors import DataError
from localmi.privacy import file_texts as reading
from localmi.privacy.credentialed import folders, is_credentialed, parameter_values
from localmi.privacy.known_text import KnownText, known_text
from localmi.privacy.rules import find, masked

CLEAN, FOUND = 0, 1  # exit codes
PER_FILE = 3  # findings of a file that are shown
SUBMODULE = "160000"  # its mode in git

WHAT_TO_DO = """\
Data of MIMIC-CXR and MIMIC-IV is credentialed: it may not be passed on, by a commit least of all.
  - A notebook: run it by `python -m localmi run`, which stores no outputs of such data, or clear
    its outputs.
  - Another file: take the ids and texts out, or keep it out of git:
    `git restore --staged FILE`, and a line in .gitignore.
  - It was committed before: the history holds it too; see `git filter-repo`.
A false alarm? Write counts with commas (11,689,512), invented ids outside the ranges (patients
p9..., studies s8..., admissions 7..., stays 6...), and an invented report in a test as a list of
its lines."""


@dataclass(frozen=True)
class Leak:
    """One thing that must not be stored, and where."""

    file: str
    place: str
    line: int  # from 1; 0 for the file's name, or the file as a whole
    words: str

    def __str__(self) -> str:
        parts = [self.file, self.place, f"line {self.line}" if self.line else ""]
        return f"{', '.join(part for part in parts if part)}: {self.words}"


def scan_content(name: str, content: bytes, known: KnownText | None = None) -> Iterator[Leak]:
    """Everything in one file, its name included, that must not be stored.

    Args:
        name: of the file, with its folders.
        content: its bytes.
        known: sentences of a study that must not occur either.
    """
    for found in find(name):
        yield Leak(_hidden(name), "its name", 0, found.words)
    shown = _hidden(name)
    try:
        for part in reading.text_parts(name, content):
            for found in find(part.text, part.kind):
                yield Leak(shown, part.place, found.line, found.words)
            for found in known.find(part.text, part.kind) if known else ():
                yield Leak(shown, part.place, found.line, found.words)
    except reading.TooLargeError:
        yield Leak(shown, "", 0, "too large to be looked at")
    if PurePath(name).suffix == ".ipynb":
        yield from _outputs_of_credentialed_data(shown, content)


def _hidden(name: str) -> str:
    """A file's name as it may be shown: without ids, and printable."""
    return masked(name).encode(errors="replace").decode()


def _outputs_of_credentialed_data(shown: str, content: bytes) -> Iterator[Leak]:
    """A figure has no words: what counts is the data the notebook was run on, if it is here."""
    try:
        cells = list(json.loads(content)["cells"])
    except (ValueError, KeyError, TypeError):
        return
    if any(cell.get("outputs") for cell in cells):
        for folder in folders(parameter_values(cells)):
            if folder.is_absolute() and folder.exists() and is_credentialed(folder):
                yield Leak(shown, "", 0, "stored outputs of a run on data of MIMIC-CXR")
                return


def scan_files(files: Iterable[Path], known: KnownText | None = None) -> Iterator[Leak]:
    """The findings in files on disk, links and folders passed over.

    Raises:
        DataError: a file cannot be read.
    """
    for path in files:
        if path.is_file() and not path.is_symlink():
            try:
                if path.stat().st_size > reading.MAX_BYTES:
                    yield Leak(_hidden(str(path)), "", 0, "too large to be looked at")
                    continue
                content = path.read_bytes()
            except OSError as error:
                raise DataError(f"{path} cannot be read: {error}.") from error
            yield from scan_content(str(path), content, known)


def _git(*words: str) -> bytes:
    try:
        return subprocess.run(["git", *words], capture_output=True, check=True).stdout
    except FileNotFoundError as error:
        raise DataError("git is not installed; name the files: scan PATHS.") from error
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip()
        raise DataError(f"git {words[0]} failed here: {reason}") from error


def files_below(paths: Sequence[Path]) -> Iterator[Path]:
    """The files named, and all below the folders named, those of git excepted.

    Raises:
        DataError: a path does not exist.
    """
    for path in paths:
        if not path.exists():
            raise DataError(f"There is no {path}: name files or folders that exist.")
        below = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (file for file in below if ".git" not in file.relative_to(path).parts)


def files_of_the_project() -> Iterator[Path]:
    """What git has and what it would take up by `git add .`, below the working directory.

    Raises:
        DataError: this is no git checkout.
    """
    listing = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    yield from (Path(name) for name in _names(listing))


def _names(listing: bytes) -> list[str]:
    return [name for name in listing.decode(errors="surrogateescape").split("\0") if name]


def scan_staged(known: KnownText | None = None) -> Iterator[Leak]:
    """The findings in what the next commit would add or change, as it is staged.

    Raises:
        DataError: this is no git checkout.
    """
    changes = _git("diff", "--cached", "--raw", "--no-renames", "--no-abbrev",
                   "--diff-filter=d", "--no-relative", "-z")  # fmt: skip
    entries = _names(changes)
    for entry, name in zip(entries[::2], entries[1::2], strict=True):
        _, mode, _, digest, _ = entry.removeprefix(":").split()
        if mode != SUBMODULE:
            yield from scan_content(name, _git("cat-file", "blob", digest), known)


def report(findings: Iterable[Leak]) -> int:
    """Prints the findings, a few of each file, and what to do; returns the exit code."""
    by_file: dict[str, list[Leak]] = {}
    for finding in findings:
        by_file.setdefault(finding.file, []).append(finding)
    for several in by_file.values():
        for finding in several[:PER_FILE]:
            print(finding)
        if (more := len(several) - PER_FILE) > 0:
            print(f"{several[0].file}: {more} more")
    if not by_file:
        print("Nothing of MIMIC-CXR or MIMIC-IV was found.")
        return CLEAN
    print(f"\nFindings: {sum(map(len, by_file.values())):,}.\n{WHAT_TO_DO}")
    return FOUND


def scan_and_report(
    paths: Sequence[Path], *, staged: bool = False, against: Path | None = None
) -> int:
    """Scans and prints; the exit code is 1 where something was found.

    Args:
        paths: files and folders; none: what git has or would take up.
        staged: what the next commit would add instead.
        against: a study or cache, whose sentences are looked for as well.

    Raises:
        DataError: paths beside `staged`, or what cannot be read.
    """
    if staged and paths:
        raise DataError("--staged looks at what is staged: name no paths with it.")
    known = known_text(against) if against else None
    if known is not None:
        print(f"Looking for {len(known):,} sentences of the study as well.")
    if staged:
        return report(scan_staged(known))
    return report(scan_files(files_below(paths) if paths else files_of_the_project(), known))
