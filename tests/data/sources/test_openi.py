import contextlib
import importlib.util
import io
import tarfile
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from localmi.data.reports import report_body, sections, split_sentences
from localmi.data.sources.openi import (
    FINDINGS,
    has_openi,
    image_views,
    parse_report,
    read_openi,
)
from localmi.errors import ConfigError, DataError

PARTS = {
    "COMPARISON": "None.",
    "INDICATION": "Cough",
    "FINDINGS": "Heart size is normal. A 2.5 cm nodule.",
    "IMPRESSION": "1. Nodule.",
}


def report_xml(
    uid: str, images: list[str], parts: dict[str, str] = PARTS, terms: tuple[str, ...] = ()
) -> bytes:
    """A report as OpenI writes it."""
    texts = "".join(
        f"<AbstractText Label={quoteattr(label)}>{escape(text)}</AbstractText>"
        for label, text in parts.items()
    )
    mesh = "".join(f"<major>{escape(term)}</major>" for term in terms)
    named = "".join(f"<parentImage id={quoteattr(image)}/>" for image in images)
    return (
        f'<?xml version="1.0" encoding="utf-8"?><eCitation><uId id={quoteattr(uid)}/>'
        f"<Abstract>{texts}</Abstract><MeSH>{mesh}</MeSH>{named}</eCitation>"
    ).encode()


def write_openi(root: Path, reports: dict[str, bytes], packed: bool = False) -> Path:
    if not packed:
        folder = root / "ecgen-radiology"
        folder.mkdir(parents=True)
        for name, xml in reports.items():
            (folder / name).write_bytes(xml)
        return root
    root.mkdir(parents=True, exist_ok=True)
    with tarfile.open(root / "NLMCXR_reports.tgz", "w:gz") as tar:
        for name, xml in reports.items():
            member = tarfile.TarInfo(f"ecgen-radiology/{name}")
            member.size = len(xml)
            tar.addfile(member, io.BytesIO(xml))
    return root


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)


TWO = {
    "1.xml": report_xml("CXR1", ["CXR1_1_IM-0001-1001", "CXR1_1_IM-0001-2001"], terms=("normal",)),
    "2.xml": report_xml("CXR2", ["CXR2_IM-0652-1001"], terms=("Pulmonary Edema/mild", "Spine")),
}
NAMES = ["CXR1_1_IM-0001-1001", "CXR1_1_IM-0001-2001", "CXR2_IM-0652-1001"]


@pytest.mark.parametrize("packed", [True, False])
def test_openi_folder(tmp_path: Path, packed: bool) -> None:
    root = write_openi(tmp_path, TWO, packed)
    for name in NAMES:
        write_image(root / "NLMCXR_png" / f"{name}.png")
    table, rejected, left_out = read_openi(root)
    assert list(table.columns[:6]) == [
        "image_id",
        "study_id",
        "patient_id",
        "image",
        "report",
        "view",
    ]
    assert table["image_id"].tolist() == [NAMES[0], NAMES[2]]
    assert table["study_id"].tolist() == table["patient_id"].tolist() == ["CXR1", "CXR2"]
    assert table["view"].tolist() == ["FRONTAL", "FRONTAL"]
    assert all(Path(image).is_file() for image in table["image"])
    assert sections(table["report"][0]) == {label.lower(): text for label, text in PARTS.items()}
    assert split_sentences(report_body(table["report"][0])) == [
        "Heart size is normal.",
        "A 2.5 cm nodule.",
        "Nodule.",
    ]
    assert rejected.empty
    assert left_out == {"view LATERAL": 1}
    assert has_openi(root)
    assert not has_openi(root / "NLMCXR_png")


def test_labels_are_what_the_coders_wrote(tmp_path: Path) -> None:
    root = write_openi(tmp_path, TWO)
    for name in NAMES:
        write_image(root / f"{name}.png")
    table, _, _ = read_openi(root)
    normal, edema = table.to_dict("records")
    assert normal["No Finding"] == 1
    assert all(normal[finding] == 0 for finding in FINDINGS.values())
    assert edema["Edema"] == 1
    assert np.isnan(edema["Cardiomegaly"])
    assert np.isnan(edema["No Finding"])


def test_names_of_the_other_copy_and_its_projections(tmp_path: Path) -> None:
    root = write_openi(tmp_path, TWO)
    names = ["1_IM-0001-1001.dcm.png", "1_IM-0001-2001.dcm.png", "2_IM-0652-1001.dcm.png"]
    for name in names:
        write_image(root / "images" / "images_normalized" / name)
    pd.DataFrame(
        {"uid": [1, 1], "filename": names[:2], "projection": ["Lateral", "Frontal"]}
    ).to_csv(root / "indiana_projections.csv", index=False)
    table, rejected, left_out = read_openi(root)
    assert table["image_id"].tolist() == [NAMES[1], NAMES[2]]  # the file goes before the rules
    assert table["image"][0].endswith(names[1])
    assert rejected.empty
    assert left_out == {"view LATERAL": 1}


def test_the_copy_in_tables_is_the_same_study(tmp_path: Path) -> None:
    xml, tables = write_openi(tmp_path / "xml", TWO), tmp_path / "tables"
    files = ["1_IM-0001-1001.dcm.png", "1_IM-0001-2001.dcm.png", "2_IM-0652-1001.dcm.png"]
    for name, file in zip(NAMES, files, strict=True):
        write_image(xml / f"{name}.png")
        write_image(tables / "images" / "images_normalized" / file)
    parts = {label.lower(): [text] * 3 for label, text in PARTS.items()}
    reports = pd.DataFrame({"uid": ["1", "2", "3"], **parts})
    reports["MeSH"] = ["normal", "Pulmonary Edema/mild;Spine", "normal"]
    reports.to_csv(tables / "indiana_reports.csv", index=False)
    projections = pd.DataFrame({"uid": ["1", "1", "2"], "filename": files})
    projections["projection"] = ["Frontal", "Lateral", "Frontal"]
    projections.to_csv(tables / "indiana_projections.csv", index=False)
    table, rejected, left_out = read_openi(tables)
    expected = read_openi(xml)[0]
    same = ["study_id", "patient_id", "report", "view", *FINDINGS.values(), "No Finding"]
    pd.testing.assert_frame_equal(table[same], expected[same])
    assert table["image_id"].tolist() == ["CXR1_IM-0001-1001", "CXR2_IM-0652-1001"]
    assert rejected.to_numpy().tolist() == [["CXR3", "CXR3", "report without an image"]]
    assert left_out == {"view LATERAL": 1}
    assert has_openi(tables)
    reports.assign(findings="nan", impression="").to_csv(
        tables / "indiana_reports.csv", index=False
    )
    assert set(read_openi(tables)[1]["reason"]) == {
        "report without an image",
        "report without findings and impression",
    }
    (tables / "indiana_projections.csv").unlink()
    with pytest.raises(DataError, match="indiana_projections.csv cannot be read"):
        read_openi(tables)


def test_views_are_a_parameter(tmp_path: Path) -> None:
    reports = TWO | {"3.xml": report_xml("CXR3", ["CXR3_IM-1384-0001-0001"])}
    root = write_openi(tmp_path, reports)
    for name in [*NAMES, "CXR3_IM-1384-0001-0001"]:
        write_image(root / f"{name}.png")
    assert read_openi(root, ("LATERAL",))[0]["image_id"].tolist() == [NAMES[1]]
    assert read_openi(root, ("",))[0]["image_id"].tolist() == ["CXR3_IM-1384-0001-0001"]
    assert len(read_openi(root, ("PA", "LATERAL", ""))[0]) == 4
    assert read_openi(root)[2] == {"view LATERAL": 1, "view unknown": 1}
    for wrong in (("XX",), "PA"):
        with pytest.raises(ConfigError, match="Views of OpenI are AP, PA"):
            read_openi(root, wrong)


def test_reports_may_lie_apart_and_dicom_serves_where_png_is_missing(tmp_path: Path) -> None:
    reports = write_openi(tmp_path / "reports", TWO, packed=True)
    write_image(tmp_path / "images" / f"{NAMES[0]}.png")
    for name in (NAMES[0], NAMES[2]):
        (tmp_path / "images" / f"{name}.dcm").write_bytes(b"not opened here")
    table, _, _ = read_openi(tmp_path / "images", reports_dir=reports)
    assert [Path(image).suffix for image in table["image"]] == [".png", ".dcm"]


def test_what_cannot_be_used_is_rejected_with_its_reason(tmp_path: Path) -> None:
    nothing = {"COMPARISON": "None.", "INDICATION": "Cough", "FINDINGS": "", "IMPRESSION": " "}
    reports = (
        TWO
        | {
            "3.xml": report_xml("CXR3", ["CXR3_IM-0003-1001"]),  # its image is missing
            "4.xml": report_xml("CXR4", ["CXR4_IM-0004-1001"], nothing),
            "5.xml": report_xml("CXR5", ["CXR5_IM-0005-1001"])[:-20],
            "6.xml": b"",
            "7.xml": b"<eCitation/>",
            "8.xml": report_xml("CXR2", ["CXR8_IM-0008-1001"]),
            "9.xml": report_xml("CXR9", []),
            "10.xml": report_xml("CXR10", ["CXR10_IM-0010-1001"]),
            "11.xml": report_xml("CXR11", ["CXR10_IM-0010-1001"]),
        }
    )
    root = write_openi(tmp_path, reports)
    (root / "ecgen-radiology" / "._1.xml").write_bytes(b"what a Mac leaves in an archive")
    for name in [*NAMES, "CXR4_IM-0004-1001", "CXR10_IM-0010-1001", "CXR77_IM-0077-1001"]:
        write_image(root / f"{name}.png")
    table, rejected, left_out = read_openi(root)
    assert table["study_id"].tolist() == ["CXR1", "CXR2"]
    reasons = dict(zip(rejected["image_id"], rejected["reason"], strict=True))
    assert reasons.pop("5.xml").startswith("XML cannot be read: ")
    assert reasons.pop("6.xml").startswith("XML cannot be read: ")
    assert reasons == {
        "7.xml": "XML has no uId",
        "8.xml": "second report of one uId",
        "9.xml": "report without an image",
        "CXR10_IM-0010-1001": "named in two reports",
        "CXR3_IM-0003-1001": "no image file",
        "CXR4_IM-0004-1001": "report without findings and impression",
    }
    assert len(rejected) == 9
    assert left_out == {"image file that no report names": 1, "view LATERAL": 1}


def test_errors_say_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="looked for ecgen-radiology/, NLMCXR_reports.tgz and indiana_r"
    ):
        read_openi(tmp_path)
    root = write_openi(tmp_path, TWO, packed=True)
    archive = root / "NLMCXR_reports.tgz"
    archive.write_bytes(archive.read_bytes()[:-50])
    with pytest.raises(
        DataError, match="NLMCXR_reports.tgz cannot be unpacked.*Download it again"
    ):
        read_openi(root)
    archive.write_bytes(b"a page that says: not found")
    with pytest.raises(DataError, match="cannot be unpacked"):
        read_openi(root)


@pytest.mark.parametrize(
    "xml",
    [
        b'<?xml version="1.0" encoding="no-such"?><a/>',
        b'<?xml version="1.0" encoding="shift_jis"?><a/>',
        b'<?xml version="1.0" encoding="utf-16"?><a/>',
        b'<eCitation><uId id=" "/></eCitation>',
        b"<a>" * 100_000 + b"</a>" * 100_000,
    ],
)
def test_strange_xml_is_a_data_error(xml: bytes) -> None:
    with pytest.raises(DataError, match="^XML "):
        parse_report(xml)


def test_a_bomb_of_entities_is_refused() -> None:
    lines = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
    bomb = f'<!DOCTYPE e [<!ENTITY a0 "word ">{lines}]><e><uId id="CXR1"/>&a9;</e>'
    with pytest.raises(DataError, match="XML cannot be read"):
        parse_report(bomb.encode())


@pytest.mark.parametrize(
    ("series", "views"),
    [
        ("1001 2001", "FL"),
        ("1001 1002", "FL"),
        ("1001 4004", "LF"),
        ("2002 3003", "FL"),
        ("1001 2001 3001", "F??"),  # one is frontal; which is the third?
        ("1001", "F"),
        ("2001", "L"),
        ("3001", "?"),
        ("1001 4001", "??"),
        ("3001 4001", "??"),
        ("0001-0001 0001-0002", "??"),
        ("1001 1001", "??"),
    ],
)
def test_views_by_the_names_of_a_study(series: str, views: str) -> None:
    names = {"F": "FRONTAL", "L": "LATERAL", "?": ""}
    images = [f"CXR{i}_IM-0001-{number}" for i, number in enumerate(series.split())]
    assert list(image_views(images).values()) == [names[view] for view in views]


# the real reports, which a package carries


@pytest.fixture(scope="module")
def carried() -> Path:
    package = importlib.util.find_spec("torchxrayvision")
    if package is None or package.origin is None:
        pytest.skip("torchxrayvision, which carries the OpenI reports, is not installed")
    return Path(package.origin).parent / "data"


@pytest.fixture(scope="module")
def real(carried: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[pd.DataFrame, ...]:
    """All of OpenI's reports with empty files for images: (table, rejected)."""
    root = tmp_path_factory.mktemp("openi")
    ids = pd.read_csv(carried / "nlmcxr_dicom_metadata.csv.gz", usecols=["imageid"])["imageid"]
    for name in ids:
        (root / f"{name}.png").touch()
    table, rejected, left_out = read_openi(root, ("PA", "LATERAL", ""), reports_dir=carried)
    assert not left_out.keys() - {"image file that no report names"}
    return table, rejected


@pytest.mark.slow
def test_all_real_reports_are_pairs_or_rejected(real: tuple[pd.DataFrame, ...]) -> None:
    table, rejected = real
    assert rejected["reason"].value_counts().to_dict() == {
        "report without an image": 104,
        "report without findings and impression": 40,  # 25 reports
        "no image file": 1,  # in no row of the DICOM headers
    }
    assert len(table) + 40 + 1 == 7470
    assert table["study_id"].nunique() == 3955 - 104 - 25
    assert table["report"].map(report_body).ne("").all()


@pytest.mark.slow
def test_views_of_real_images(carried: Path, real: tuple[pd.DataFrame, ...]) -> None:
    table, _ = real
    judged = pd.read_csv(carried / "nlmcxr_tsne_pa.csv.gz").merge(
        table, left_on="imageid", right_on="image_id"
    )
    decided = judged[judged["view"] != ""]
    right = decided["view"].eq("FRONTAL") == decided["tsne-view"].eq("PA")
    assert len(judged) == 3825  # of 3,851, those with a report
    assert len(decided) / len(judged) == pytest.approx(0.874, abs=0.001)
    assert right.mean() == pytest.approx(0.949, abs=0.001)


# fuzz: 2,500 of the 10,000 cases, the others are in test_reports and test_sentences

WORDS = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), max_size=60
)


@pytest.mark.slow
@settings(max_examples=1500, deadline=None)
@given(
    st.dictionaries(st.sampled_from(list(PARTS)), WORDS), st.binary(max_size=8), st.floats(0, 1)
)
def test_fuzzed_xml(parts: dict[str, str], noise: bytes, where: float) -> None:
    """A whole report gives back each part; a damaged one is a report still, or a DataError."""
    xml = report_xml("CXR1", ["CXR1_IM-0001-1001"], parts)
    report = parse_report(xml)
    texts = {label.lower(): " ".join(text.split()) for label, text in parts.items()}
    texts = {label: text for label, text in texts.items() if text}
    if texts.keys() & {"findings", "impression"}:
        assert sections(report.text) == texts
    else:
        assert report.text == ""
    start = int(where * len(xml))
    with contextlib.suppress(DataError):
        assert parse_report(xml[:start] + noise + xml[start + len(noise) :]).uid


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(st.binary(max_size=300) | st.text(alphabet='<>/="&;! abIdu?[]-', max_size=80))
def test_what_is_no_report_is_a_data_error(junk: bytes | str) -> None:
    with pytest.raises(DataError, match="^XML "):
        parse_report(junk if isinstance(junk, bytes) else junk.encode())
