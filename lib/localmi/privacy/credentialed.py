"""Is this data MIMIC-CXR or MIMIC-IV? Decided by its ids, before anything is run on it.

Taught in 13_preparing_mimic_cxr.
"""

import ast
import itertools
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from localmi.privacy.file_texts import TooLargeError, text_parts
from localmi.privacy.rules import REPORT, find

ENDINGS = ("*.parquet", "*.csv", "*.csv.gz", "*.zip")
TABLES = tuple(f"{folder}{end}" for folder in ("", "hosp/", "icu/", "core/") for end in ENDINGS)
# Where patients' folders and reports lie: in the study, in its parent, in a part of it.
NAMES = ("*", "p1?/p1*", "files/p1?/p1*", "*/files/p1?/p1*")


def is_credentialed(data: Path) -> bool:
    """Whether a folder (a study, a cache, reports, records) or a file holds ids in MIMIC's ranges.

    Looks at names and tables, and stops at the first id; no image is opened.
    """
    data = data.expanduser().resolve()
    if _has_ids(str(data)):
        return True
    if data.is_file():
        return _file_has_ids(data)
    names = itertools.chain.from_iterable(data.glob(pattern) for pattern in NAMES)
    tables = itertools.chain.from_iterable(sorted(data.glob(pattern)) for pattern in TABLES)
    in_a_name = any(_has_ids(str(path.relative_to(data))) for path in names)
    return in_a_name or any(_file_has_ids(path) for path in tables)


def _has_ids(text: str) -> bool:
    return any(found.words != REPORT for found in find(text))


def _file_has_ids(path: Path) -> bool:
    try:
        if path.suffix == ".zip":  # of images or reports: their names say enough
            with zipfile.ZipFile(path) as archive:
                return any(_has_ids(name) for name in archive.namelist())
        return any(_has_ids(part.text) for part in text_parts(path.name, path.read_bytes()))
    except (OSError, zipfile.BadZipFile, TooLargeError):
        return True  # what cannot be looked at is treated with care


def folders(values: Mapping[str, Any]) -> Iterator[Path]:
    """Folders and files of data that parameters name: `*_dir` but for the run's own, `boxes`."""
    for name, value in values.items():
        is_data = name == "boxes" or (name.endswith("_dir") and name != "run_dir")
        if is_data and isinstance(value, str) and value:
            yield Path(value)


def parameter_values(cells: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What the cells tagged `parameters` and `injected-parameters` of a stored notebook set."""
    values: dict[str, Any] = {}
    for cell in cells:
        tags = cell.get("metadata", {}).get("tags", [])
        if not {"parameters", "injected-parameters"} & set(tags):
            continue
        source = cell.get("source", "")
        try:
            lines = ast.parse(source if isinstance(source, str) else "".join(source)).body
        except SyntaxError:
            continue
        for line in lines:
            target = line.targets[0] if isinstance(line, ast.Assign) else None
            if isinstance(target, ast.Name) and isinstance(line.value, ast.Constant):  # type: ignore[attr-defined]
                values[target.id] = line.value.value  # type: ignore[attr-defined]
    return values
