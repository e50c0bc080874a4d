"""Reports of the synthetic study, laid out as MIMIC-CXR's: sections, wrapping, house styles.

What is said comes from `statements.draw_statements`; here it gets words and a place. Words, style
and order are drawn from a stream of their own, blind to the hidden state: V^R of the paper's
Fig. 3. Headers say nothing of the state either, not even the view. Taught in
05_radiographs_and_reports.
"""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from localmi.phantom.config import PhantomConfig
from localmi.phantom.latents import Study, stream
from localmi.phantom.phrases import templates
from localmi.phantom.statements import NORMAL, Statement, draw_statements

# Real reports: .125 have findings only, .05 no headers. An impression is also left out where
# nothing happens to stand in it.
FINDINGS_ONLY, HEADERLESS = 0.02, 0.05
UPPER_CASE, NUMBERED = 0.05, 0.35  # shares of reports; of impressions
IN_IMPRESSION = {"present": 0.5, "uncertain": 0.5, "absent": 0.2, "none": 0.2, NORMAL: 0.8}
LINE_LENGTH = 79

EXAMINATIONS = ("CHEST RADIOGRAPH", "CHEST (FRONTAL)", "DX CHEST", "Chest radiograph")
INDICATIONS = (
    "___ year old patient with cough",
    "___F with shortness of breath",
    "___M with chest pain",
    "History: ___ with fever, question of acute process",
    "___ year old patient, preoperative examination",
    "___ with weakness. Please evaluate.",
)
COMPARISONS = ("None.", "___.", "Radiograph of ___.", "None available.", "Study dated ___.")


@dataclass(frozen=True)
class Sentence:
    """One sentence of a report, with what it says.

    section: "findings", "impression", or "last_paragraph" in a report without headers.
    finding, polarity, attributes: as in `Statement`. names_place: it says a side or a zone.
    """

    text: str
    section: str
    finding: str | None
    polarity: str
    attributes: Mapping[str, str]
    names_place: bool


@dataclass(frozen=True)
class Report:
    """text: the whole file. sentences: those of findings and impression, in order."""

    text: str
    sentences: tuple[Sentence, ...]


@dataclass(frozen=True)
class Style:
    """How this report is laid out; `marker` numbers the impression, "" is plain text."""

    findings_only: bool
    headerless: bool
    upper_case: bool
    marker: str


def compose_report(study: Study, config: PhantomConfig) -> Report:
    """The report of a study; depends on nothing but (study, config).

    Taught in 05_radiographs_and_reports.
    """
    keys = study.patient, study.number
    statements = draw_statements(study, config, stream(config.seed, "statements", *keys))
    rng = stream(config.seed, "wording", *keys)
    style = _draw_style(rng)
    blocks = [_header(style, rng)]
    by_section: dict[str, list[Sentence]] = {}
    for sentence in _word_all(statements, style, rng):
        by_section.setdefault(sentence.section, []).append(sentence)
    order = [name for name in ("findings", "impression", "last_paragraph") if name in by_section]
    for name in order:
        if not style.headerless:
            blocks.append(f" {name.upper()}: ")
        blocks.append(_body(by_section[name], style.marker if name == "impression" else ""))
    text = "\n \n".join(blocks) + "\n"
    return Report(text, tuple(sentence for name in order for sentence in by_section[name]))


def _draw_style(rng: np.random.Generator) -> Style:
    layout, upper, numbered = rng.random(3)
    return Style(
        findings_only=bool(layout < FINDINGS_ONLY),
        headerless=bool(FINDINGS_ONLY <= layout < FINDINGS_ONLY + HEADERLESS),
        upper_case=bool(upper < UPPER_CASE),
        marker=str(rng.choice(["{}. ", "{}) "])) if numbered < NUMBERED else "",
    )


def _word_all(
    statements: list[Statement], style: Style, rng: np.random.Generator
) -> list[Sentence]:
    """Statements as sentences, shuffled; two fillers of a report never read the same."""
    sentences: list[Sentence] = []
    for statement in statements:
        used = {sentence.text for sentence in sentences}
        text = _words(statement, style, rng)
        while text in used:
            text = _words(statement, style, rng)
        section = _section(statement, style, rng)
        places = not {"side", "zone"}.isdisjoint(statement.attributes)
        sentences.append(
            Sentence(
                text, section, statement.finding, statement.polarity, statement.attributes, places
            )
        )
    return [sentences[i] for i in rng.permutation(len(sentences))]


def _words(statement: Statement, style: Style, rng: np.random.Generator) -> str:
    template = str(rng.choice(templates(statement)))
    numbers = {
        "cm": f"{rng.uniform(2.0, 6.0):.1f}",
        "time": f"{rng.integers(1, 12)}:{rng.integers(0, 60):02d}",
    }
    text = template.format(**statement.attributes, **numbers)
    text = text[0].upper() + text[1:]
    return text.upper() if style.upper_case else text


def _section(statement: Statement, style: Style, rng: np.random.Generator) -> str:
    if style.headerless:
        return "last_paragraph"
    kind = NORMAL if statement.finding == NORMAL else statement.polarity
    impression = rng.random() < IN_IMPRESSION[kind] and not style.findings_only
    return "impression" if impression else "findings"


def _header(style: Style, rng: np.random.Generator) -> str:
    """Everything above the findings; without headers only a title."""
    if style.headerless:
        return " " * 33 + "FINAL REPORT\n CHEST RADIOGRAPH"
    parts = [
        " " * 33 + f"FINAL REPORT\n EXAMINATION:  {rng.choice(EXAMINATIONS)}",
        f" INDICATION:  {rng.choice(INDICATIONS)}",
        f" COMPARISON:  {rng.choice(COMPARISONS)}",
    ]
    return "\n \n".join(parts)


def _body(sentences: list[Sentence], marker: str) -> str:
    """Running text, or a numbered list with one sentence an item; lines of at most 79."""
    texts = [sentence.text for sentence in sentences]
    if marker:
        paragraphs = [marker.format(i) + text for i, text in enumerate(texts, start=1)]
    else:
        paragraphs = [" ".join(texts)]
    return "\n".join(_wrap(paragraph) for paragraph in paragraphs)


def _wrap(paragraph: str) -> str:
    return textwrap.fill(
        paragraph,
        width=LINE_LENGTH,
        initial_indent=" ",
        subsequent_indent=" ",
        break_on_hyphens=False,
        break_long_words=False,
    )
