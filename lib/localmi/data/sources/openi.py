"""OpenI, the chest radiographs of Indiana University: 3,955 reports as XML, 7,470 images as PNG.

Public, from openi.nlm.nih.gov: `NLMCXR_reports.tgz` (or unpacked, `ecgen-radiology/`) and
`NLMCXR_png.tgz`. The copy on Kaggle has other file names, `indiana_reports.csv` for the reports,
and `indiana_projections.csv`; both work.
Demner-Fushman et al. 2016, https://doi.org/10.1093/jamia/ocv080. Names are blanked as "XXXX".
Taught in 13_preparing_mimic_cxr.
"""

import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd

from localmi.data.reports import sections
from localmi.data.tables import (
    PAIR_COLUMNS,
    REJECTED_COLUMNS,
    is_missing,
    keep_rows,
    read_table,
)
from localmi.errors import ConfigError, DataError
from localmi.names import FRONTAL_VIEWS

REPORTS_FOLDER, REPORTS_ARCHIVE = "ecgen-radiology", "NLMCXR_reports.tgz"
PROJECTIONS, REPORTS_TABLE = "indiana_projections.csv", "indiana_reports.csv"
TABLE_PARTS = ["comparison", "indication", "findings", "impression"]
IMAGE_SUFFIXES = (".png", ".dcm")  # the first is taken where an image is there as both
FRONTAL, LATERAL = "FRONTAL", "LATERAL"
# OpenI does not tell AP from PA, nor left from right lateral
VIEWS = {"AP": FRONTAL, "PA": FRONTAL, FRONTAL: FRONTAL, "LL": LATERAL, LATERAL: LATERAL, "": ""}
BODY = {"findings", "impression", "last_paragraph", "full_report"}  # of these a report needs one
# term of the human coders -> finding of the same meaning
FINDINGS = {
    "Pulmonary Atelectasis": "Atelectasis",
    "Cardiomegaly": "Cardiomegaly",
    "Consolidation": "Consolidation",
    "Pulmonary Edema": "Edema",
    "Fractures, Bone": "Fracture",
    "Pleural Effusion": "Pleural Effusion",
    "Pneumonia": "Pneumonia",
    "Pneumothorax": "Pneumothorax",
}


@dataclass(frozen=True)
class OpeniReport:
    """uid: "CXR12". text: sections under their headers, "" without findings and impression.
    images: ids. terms: what the human coders wrote, "Opacity/lung/base/left" as "Opacity"."""

    uid: str
    text: str
    images: tuple[str, ...]
    terms: frozenset[str]


def has_openi(folder: Path) -> bool:
    """Whether the reports of OpenI lie in a folder, packed or not."""
    return _has_xml(folder) or (folder / REPORTS_TABLE).is_file()


def _has_xml(folder: Path) -> bool:
    return (folder / REPORTS_FOLDER).is_dir() or (folder / REPORTS_ARCHIVE).is_file()


def read_openi(
    data_dir: Path, views: Sequence[str] = FRONTAL_VIEWS, reports_dir: Path | None = None
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:
    """The pairs of OpenI.

    Args:
        data_dir: holds the images, in any folder below (`NLMCXR_png/`, `images/`), found by the
            ids in the reports; and the reports.
        views: which images are kept. "AP", "PA" and "FRONTAL" mean frontal, "LATERAL" and "LL"
            lateral, "" those of which it is not known: see `image_views`. The file
            `indiana_projections.csv` (columns filename and projection) goes first where it is.
        reports_dir: holds the reports, where they lie apart from the images.

    Returns:
        table: one row an image, `PAIR_COLUMNS` without split, then labels: 1 where the coders of
            OpenI wrote the finding's term, 0 where they coded the whole report "normal", else
            blank; "No Finding" is 1 or blank. One report is one study **and one patient**: OpenI
            says nothing of patients, so that a patient with two reports may be in two splits.
        rejected: image_id, study_id, reason; a report without an image stands there by its name.
        left_out: what was not asked for, and the number of its images.

    Raises:
        DataError: no reports there, or they cannot be unpacked.
        ConfigError: an unknown view.

    Taught in 13_preparing_mimic_cxr.
    """
    unknown = [view for view in views if view not in VIEWS]
    if unknown or isinstance(views, str):
        raise ConfigError(f"Views of OpenI are {', '.join(VIEWS)} or empty, found {views!r}.")
    reports, rejected = _reports(reports_dir or data_dir)
    table = _table(reports)
    files = _image_files(data_dir)
    nameless = len(files.keys() - set(table["image_id"].map(_key)))
    left_out = {"image file that no report names": nameless} if nameless else {}
    table = table.assign(view=_views(table, data_dir))
    wanted = table["view"].isin({VIEWS[view] for view in views})
    for view, count in table.loc[~wanted, "view"].value_counts().items():
        left_out[f"view {view or 'unknown'}"] = int(count)
    table = table[wanted].assign(image=table["image_id"].map(_key).map(files))
    twice = table["image_id"].duplicated(keep=False)
    table, rejected = keep_rows(table, ~twice, "named in two reports", rejected)
    table, rejected = keep_rows(table, table["image"].notna(), "no image file", rejected)
    table, rejected = keep_rows(
        table, table["report"] != "", "report without findings and impression", rejected
    )
    return (
        table.reset_index(drop=True),
        rejected[REJECTED_COLUMNS].reset_index(drop=True),
        left_out,
    )


# reports


def parse_report(xml: bytes) -> OpeniReport:
    """One file of OpenI. Raises DataError, with the reason in a few words, where it is not one."""
    try:
        root = ElementTree.fromstring(xml)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"XML cannot be read: {error}") from error
    number = root.find("uId")
    uid = (number.get("id") or "").strip() if number is not None else ""
    if not uid:
        raise DataError("XML has no uId")
    parts = [
        (part.get("Label", "").strip().upper(), " ".join("".join(part.itertext()).split()))
        for part in root.iter("AbstractText")
    ]
    images = [image.get("id", "").strip() for image in root.iter("parentImage")]
    return _report(
        uid, parts, images, (term.text or "" for term in root.iterfind(".//MeSH/major"))
    )


def _report(
    uid: str, parts: list[tuple[str, str]], images: Iterable[str], terms: Iterable[str]
) -> OpeniReport:
    text = "".join(
        f" {label}:  {part}\n \n" if label else f" {part}\n \n" for label, part in parts if part
    )
    return OpeniReport(
        uid,
        text if BODY & sections(text).keys() else "",
        tuple(filter(None, images)),
        frozenset(term.split("/")[0].strip() for term in terms),
    )


def _table_reports(folder: Path) -> Iterator[tuple[str, OpeniReport]]:
    """Name and report of each row of the copy on Kaggle."""
    columns = ["uid", "MeSH", *TABLE_PARTS]
    reports = read_table(folder / REPORTS_TABLE, columns, columns)
    images = read_table(folder / PROJECTIONS, ["uid", "filename"], ["uid", "filename"])
    named = images["filename"].groupby(images["uid"]).agg(list).to_dict()
    for row in reports.to_dict("records"):
        parts = [
            (name.upper(), " ".join(row[name].split()))
            for name in TABLE_PARTS
            if name not in BODY or not is_missing(row[name])
        ]
        ids = (f"CXR{_key(name)}" for name in named.get(row["uid"], ()))
        uid = f"CXR{row['uid']}"
        yield uid, _report(uid, parts, ids, row["MeSH"].split(";"))


def _xml_reports(folder: Path) -> Iterator[tuple[str, OpeniReport | str]]:
    """Name and report of each file, or why it is none."""
    for name, xml in _xml_files(folder):
        try:
            yield name, parse_report(xml)
        except DataError as error:
            yield name, str(error)


def _reports(folder: Path) -> tuple[list[OpeniReport], pd.DataFrame]:
    reports: dict[str, OpeniReport] = {}
    rejected: list[tuple[str, str, str]] = []
    in_table = (folder / REPORTS_TABLE).is_file() and not _has_xml(folder)
    for name, report in _table_reports(folder) if in_table else _xml_reports(folder):
        if isinstance(report, str):
            rejected.append((name, Path(name).stem, report))
        elif report.uid in reports:
            rejected.append((name, report.uid, "second report of one uId"))
        elif not report.images:
            rejected.append((name, report.uid, "report without an image"))
        else:
            reports[report.uid] = report
    return list(reports.values()), pd.DataFrame(rejected, columns=REJECTED_COLUMNS)


def _xml_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each report, in the order of their numbers."""
    unpacked, archive = folder / REPORTS_FOLDER, folder / REPORTS_ARCHIVE
    if unpacked.is_dir():
        found = {path.name: path.read_bytes() for path in unpacked.glob("*.xml")}
    elif archive.is_file():
        found = _unpack(archive)
    else:
        raise DataError(
            f"No reports of OpenI in {folder}: looked for {REPORTS_FOLDER}/, {REPORTS_ARCHIVE} "
            f"and {REPORTS_TABLE}. The first two are described at openi.nlm.nih.gov, under FAQ, "
            "collections."
        )
    names = [name for name in found if not name.startswith(".")]
    for name in sorted(names, key=lambda name: (len(name), name)):
        yield name, found[name]


def _unpack(archive: Path) -> dict[str, bytes]:
    found = {}
    try:
        with tarfile.open(archive, "r:*") as tar:
            for member in tar:
                file = tar.extractfile(member) if member.name.endswith(".xml") else None
                if file is not None:
                    found[Path(member.name).name] = file.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"{archive} cannot be unpacked: {error}. Download it again.") from error
    return found


def _table(reports: list[OpeniReport]) -> pd.DataFrame:
    rows = []
    for report in reports:
        labels = _labels(report.terms)
        for image in report.images:
            rows.append([image, report.uid, report.uid, "", report.text, "", *labels])
    columns = [column for column in PAIR_COLUMNS if column != "split"]
    return pd.DataFrame(rows, columns=[*columns, *FINDINGS.values(), "No Finding"])


def _labels(terms: frozenset[str]) -> list[float]:
    nan = float("nan")
    if "normal" in terms:
        return [0.0] * len(FINDINGS) + [1.0]
    return [1.0 if term in terms else nan for term in FINDINGS] + [nan]


# images


def _key(name: str) -> str:
    """What the names of one image share: "CXR1_1_IM-0001-4001", "1_IM-0001-4001.dcm.png"."""
    found = re.search(r"\d+_IM-[\d-]+", name)
    return found[0] if found else re.sub(r"(?:\.(?:dcm|png))+$", "", name)


def _image_files(folder: Path) -> dict[str, str]:
    """Key of each image file below a folder -> its path."""
    files: dict[str, str] = {}
    for suffix in IMAGE_SUFFIXES:
        for path in sorted(folder.rglob(f"*{suffix}")):
            if not path.name.startswith("."):
                files.setdefault(_key(path.name), str(path))
    return files


def _views(table: pd.DataFrame, data_dir: Path) -> pd.Series:
    named: dict[str, str] = {}
    for _, images in table.groupby("study_id", sort=False)["image_id"]:
        named |= image_views(list(images))
    path = data_dir / PROJECTIONS
    if path.is_file():
        projections = read_table(path, ["filename", "projection"], ["filename", "projection"])
        views = projections["projection"].str.upper().where(lambda v: v.isin([FRONTAL, LATERAL]))
        known = dict(zip(projections["filename"].map(_key), views, strict=True))
        named |= {image: known[_key(image)] for image in named if known.get(_key(image)) in VIEWS}
    return table["image_id"].map(named)


def image_views(image_ids: Sequence[str]) -> dict[str, str]:
    """Frontal or lateral, by the names of the images of one study: "FRONTAL", "LATERAL" or "".

    The captions say "PA and lateral" for both images, but the last number of the id is that of
    the series: 4004, or 1001 without it, or 2002 beside 3003, is frontal nearly always, its only
    companion lateral, and so is a single 2001 or 1002. Where no such number stands, or pairs of it
    were found mixed (1001 with 4001, 0001 with 0002), the view stays "".

    Measured on the 3,851 first images of the reports that `torchxrayvision` judged by their
    pixels (`nlmcxr_tsne_pa.csv.gz`), with which the rules were also chosen: 87.4 % are decided,
    and of these 94.9 % rightly (frontal 95.0 %, lateral 92.5 %); the view position in the DICOM
    headers is there for 64.1 %, and right for 92.0 % of these. Of all 7,470 images 83.7 % are
    decided. Companions (2,769 lateral ones) were not judged: they are right as often as the image
    beside them, if each pair has one of both.
    """
    series = [image.rsplit("-", 1)[-1] for image in image_ids]
    views = dict.fromkeys(image_ids, "")
    if len(set(series)) < len(series):
        return views
    frontal = _frontal_series(set(series))
    for image, number in zip(image_ids, series, strict=True):
        if number == frontal:
            views[image] = FRONTAL
        elif (frontal and len(series) == 2) or (len(series) == 1 and number in ("2001", "1002")):
            views[image] = LATERAL
    return views


def _frontal_series(series: set[str]) -> str:
    if "4004" in series or "1002001" in series:
        return "4004" if "4004" in series else "1002001"
    if "1001" in series:
        return "" if series & {"4001", "5001", "12012"} else "1001"
    return "2002" if {"2002", "3003"} <= series else ""
