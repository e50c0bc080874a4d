"""Label tables of the synthetic study, in the columns and codes of MIMIC-CXR's.

Taught in 05_radiographs_and_reports.
"""

from collections.abc import Sequence

from localmi.phantom.config import FINDINGS
from localmi.phantom.latents import Study
from localmi.phantom.report import Sentence

Row = dict[str, object]

COLUMN = {name: name.replace("_", " ").title() for name in FINDINGS}
NEVER_HERE = ("Enlarged Cardiomediastinum", "Fracture", "Lung Lesion", "Pleural Other")
CHEXPERT_COLUMNS = tuple(sorted([*COLUMN.values(), *NEVER_HERE, "No Finding"]))
TEST_COLUMNS = tuple(
    "Airspace Opacity" if column == "Lung Opacity" else column for column in CHEXPERT_COLUMNS
)
CODE = {"present": 1.0, "absent": 0.0, "uncertain": -1.0}
EDEMA_GRADE = {"mild": 1, "moderate": 2, "severe": 3}
OPACITIES = ("lung_opacity", "pneumonia", "consolidation")


def chexpert_labels(sentences: Sequence[Sentence]) -> Row:
    """What the CheXpert labeller makes of a report: 1, 0, -1 (uncertain); not mentioned is blank.

    A present pneumonia or consolidation is a lung opacity too. "No Finding" is 1 where nothing but
    support devices is present or uncertain, else blank, never 0.
    """
    codes = {
        sentence.finding: CODE[sentence.polarity]
        for sentence in sentences
        if sentence.finding in COLUMN
    }
    if any(codes.get(name) == 1.0 for name in OPACITIES):
        codes["lung_opacity"] = 1.0
    row: Row = {COLUMN[name]: code for name, code in codes.items() if name is not None}
    found = any(code != 0.0 for name, code in codes.items() if name != "support_devices")
    return row if found else row | {"No Finding": 1.0}


def radiologist_labels(study: Study) -> Row:
    """What the radiologists of the labelled test set saw: the hidden state itself, 1 or 0."""
    present = set(study.present)
    if present.intersection(OPACITIES):
        present.add("lung_opacity")
    row: Row = {COLUMN[name]: float(name in present) for name in FINDINGS}
    row["Airspace Opacity"] = row.pop("Lung Opacity")
    return row if present - {"support_devices"} else row | {"No Finding": 1.0}


def edema_said(sentences: Sequence[Sentence]) -> int | None:
    """The edema grade 0-3 that a report states; None where it is silent or hedges."""
    for sentence in sentences:
        if sentence.finding == "edema" and sentence.polarity == "absent":
            return 0
        if sentence.finding == "edema" and sentence.polarity == "present":
            return EDEMA_GRADE[sentence.attributes["level"]]
    return None


def edema_seen(study: Study) -> int:
    """The edema grade 0-3 of the hidden state."""
    edema = study.present.get("edema")
    return EDEMA_GRADE[edema.attributes["level"]] if edema else 0
