"""Reports: what is said, in which words, and that the text alone gives it all back."""

import dataclasses
import itertools
import re

import numpy as np
import pytest

from localmi.data.reports import report_body, sentence_kind, split_sentences
from localmi.errors import ConfigError
from localmi.phantom import phrases
from localmi.phantom.config import ATTRIBUTES, FINDINGS, PhantomConfig, ReportNoise
from localmi.phantom.latents import Finding, Study, num_studies, sample_study, stream
from localmi.phantom.report import Sentence, compose_report
from localmi.phantom.statements import (
    NORMAL,
    Statement,
    check_config,
    draw_statements,
    mention_probability,
)

# What a reader needs to know to understand every sentence: written without looking at how the
# sentences are made.
WORDS_OF = {
    "support_devices": r"\btubes?\b|\blines?\b|catheter|pacemaker|device",
    "pneumothorax": "pneumothorax",
    "pneumonia": "pneumonia|infectious",
    "consolidation": "consolidat",
    "lung_opacity": "opacit|opacif",
    "pleural_effusion": "effusion|pleural fluid",
    "edema": "edema",
    "atelectasis": "atelecta",
    "cardiomegaly": "cardiomegaly|heart|cardiac",
    NORMAL: "(normal|unremarkable|no acute).*(chest|cardiopulmonary|intrathoracic)",
}
DENIAL = r"\b(no|not|without|free of|normal)\b"
HEDGE = r"\b(possible|question|may|equivocal|cannot)\b"
WORDS_FOR = {
    "side": {"left": r"\bleft", "right": r"\bright", "bilateral": r"bibas|bilateral|\bboth\b"},
    "zone": {"upper": r"\bupper\b", "mid": r"\bmid\b", "lower": r"\blower\b"},
    "kind": {
        "endotracheal tube": r"endotracheal|\bet tube",
        "central venous catheter": r"\bcentral\b",
        "pacemaker": r"pacemaker",
    },
}


def read(text: str) -> tuple[str | None, str, dict[str, str]]:
    """Finding, polarity and attributes of a sentence, from its text alone."""
    text = text.lower()
    finding = next((name for name, words in WORDS_OF.items() if re.search(words, text)), None)
    if finding == "support_devices" and "pneumothorax" in text:
        finding = "pneumothorax"  # "with a visible pleural line"
    if finding in (None, NORMAL):
        return finding, "none", {}
    if re.search(HEDGE, text):
        polarity = "uncertain"
    elif re.search(DENIAL, text):
        return finding, "absent", {}
    else:
        polarity = "present"
    attributes = {}
    for attribute, values in ATTRIBUTES[finding].items():
        words = WORDS_FOR.get(attribute, {value: rf"\b{value}" for value in values})
        said = [value for value in values if re.search(words[value], text)]
        assert len(said) == 1, f"{text!r} says {said} for {attribute}"
        attributes[attribute] = said[0]
    return finding, polarity, attributes


def every_statement() -> list[Statement]:
    """Each finding denied, and present and hedged with each combination of attributes."""
    statements = [Statement(None), Statement(NORMAL)]
    for finding, attributes in ATTRIBUTES.items():
        statements.append(Statement(finding, "absent"))
        for values in itertools.product(*attributes.values()):
            said = dict(zip(attributes, values, strict=True))
            statements += [
                Statement(finding, polarity, said) for polarity in ("present", "uncertain")
            ]
    return statements


def sample(config: PhantomConfig, patients: int) -> list[Study]:
    return [
        sample_study(config, patient, number)
        for patient in range(patients)
        for number in range(num_studies(config, patient))
    ]


def study(*findings: str, patient: int = 0) -> Study:
    return Study(patient, 0, "PA", tuple(first_values(name) for name in findings), 1)


def first_values(name: str) -> Finding:
    return Finding(name, {key: next(iter(v)) for key, v in ATTRIBUTES[name].items()}, 1.0)


def sentences_of(config: PhantomConfig, *findings: str, reports: int) -> list[Sentence]:
    return [
        sentence
        for patient in range(reports)
        for sentence in compose_report(study(*findings, patient=patient), config).sentences
    ]


@pytest.mark.parametrize(
    "statement",
    every_statement(),
    ids=lambda s: " ".join([str(s.finding), s.polarity, *s.attributes.values()]),
)
def test_every_phrase_says_its_statement_and_nothing_else(statement: Statement) -> None:
    ways = phrases.templates(statement)
    assert len(set(ways)) == len(ways) >= 4
    for template in ways:
        text = template.format(**statement.attributes, cm="3.5", time="3:15")
        for version in (text, text.upper()):
            expected = statement.finding, statement.polarity, dict(statement.attributes)
            assert read(version) == expected, version
            assert split_sentences(f"Heart. {version} Bones.") == ["Heart.", version, "Bones."]


def test_only_fillers_may_be_dropped_as_communication_or_comparison() -> None:
    for statement in every_statement():
        for template in phrases.templates(statement):
            text = template.format(**statement.attributes, cm="3.5", time="3:15")
            assert sentence_kind(text) == "content" or statement.finding is None, text


def test_no_sentence_can_be_read_as_two_statements() -> None:
    texts: dict[str, tuple[object, ...]] = {}
    for statement in every_statement():
        meaning = statement.finding, statement.polarity, tuple(statement.attributes.values())
        for template in phrases.templates(statement):
            text = template.format(**statement.attributes, cm="3.5", time="3:15").lower()
            assert texts.setdefault(text, meaning) == meaning


@pytest.mark.parametrize("noise", [ReportNoise(), ReportNoise(0.1, 0.2, 0.2, 0.2)])
def test_the_text_of_a_report_gives_back_its_sentences(noise: ReportNoise) -> None:
    config = PhantomConfig(seed=3, noise=noise)
    sections = set()
    for one in sample(config, 150):
        report = compose_report(one, config)
        assert split_sentences(report_body(report.text)) == [s.text for s in report.sentences]
        for sentence in report.sentences:
            said = sentence.finding, sentence.polarity, dict(sentence.attributes)
            assert read(sentence.text) == said
        sections |= {sentence.section for sentence in report.sentences}
    assert sections == {"findings", "impression", "last_paragraph"}


def test_a_report_looks_like_one_of_mimic_cxr() -> None:
    config = PhantomConfig()
    texts = [compose_report(one, config).text for one in sample(config, 150)]
    for text in texts:
        assert text.startswith(" " * 33 + "FINAL REPORT\n ")
        assert max(map(len, text.split("\n"))) <= 79
        headers = re.findall(r"\n ([A-Z ()/,-]+):\s", text)
        assert len(headers) == len(set(headers))
        assert set(headers) <= {
            "EXAMINATION",
            "INDICATION",
            "COMPARISON",
            "FINDINGS",
            "IMPRESSION",
        }
    assert any("\n 2. " in text for text in texts)
    assert any("\n 2) " in text for text in texts)
    assert any(not re.search("FINDINGS:|IMPRESSION:", text) for text in texts)
    assert any(not re.search("[a-z]", text.split("FINDINGS:")[-1]) for text in texts)


def test_traps_for_a_sentence_splitter_occur() -> None:
    text = " ".join(sentence.text for sentence in sentences_of(PhantomConfig(), reports=300))
    for trap in (r"\d\.\d cm", r"\d\.\d x \d\.\d cm", r"T12\.", r"Dr\. ___", r"p\.m\.", r"___\."):
        assert re.search(trap, text), trap


def test_a_report_depends_on_study_and_seed_only() -> None:
    config = PhantomConfig()
    studies = sample(config, 20)
    first = [compose_report(one, config) for one in studies]
    again = [compose_report(one, config) for one in reversed(studies)][::-1]
    other = [compose_report(one, dataclasses.replace(config, seed=1)) for one in studies]
    assert first == again
    assert sum(a == b for a, b in zip(first, other, strict=True)) == 0


def test_style_and_header_are_blind_to_the_hidden_state() -> None:
    config = PhantomConfig(fillers=(1,))
    for patient in range(50):
        normal = compose_report(study(patient=patient), config)
        severe = compose_report(study("edema", "pneumothorax", patient=patient), config)
        above, below = (re.split("\n \n (?:FIND|IMPR)", r.text)[0] for r in (normal, severe))
        if "COMPARISON:" in above:
            assert above == below
        else:  # without headers
            assert above.split("\n")[:2] == below.split("\n")[:2]


def test_each_statement_stands_once_and_denials_name_no_place() -> None:
    config = PhantomConfig()
    for one in sample(config, 100):
        sentences = compose_report(one, config).sentences
        findings = [sentence.finding for sentence in sentences if sentence.finding]
        assert len(findings) == len(set(findings))
        assert len({sentence.text for sentence in sentences}) == len(sentences)
        for sentence in sentences:
            says_place = re.search(
                r"\b(left|right|bilateral|bibasilar|both|upper|mid|lower)\b", sentence.text.lower()
            )
            assert sentence.names_place == bool(says_place), sentence.text
            assert not (sentence.polarity == "absent" and sentence.names_place)


def test_a_faithful_report_says_what_is_there() -> None:
    config = PhantomConfig()
    for one in sample(config, 100):
        said = {s.finding: s for s in compose_report(one, config).sentences if s.finding}
        for name, finding in one.present.items():
            assert said[name].polarity in ("present", "uncertain")
            assert said[name].attributes == finding.attributes
        assert all(
            said[name].polarity == "absent"
            for name in set(FINDINGS) - set(one.present)
            if name in said
        )
        assert NORMAL not in said or not one.findings


def test_a_lung_opacity_is_not_denied_beside_a_pneumonia_or_consolidation() -> None:
    config = PhantomConfig(mention_absent=1.0)
    for other in ("pneumonia", "consolidation"):
        said = sentences_of(config, other, reports=50)
        assert "lung_opacity" not in {sentence.finding for sentence in said}
    said = sentences_of(config, "edema", reports=50)
    assert "lung_opacity" in {sentence.finding for sentence in said}


def frequency(config: PhantomConfig, finding: str, *present: str, count: int = 3000) -> dict:
    """Share of reports that say `finding` with each (polarity, attribute values)."""
    one, rng = study(*present), stream(0, "test of frequencies")
    said: dict[tuple[str, ...], float] = {}
    for _ in range(count):
        for statement in draw_statements(one, config, rng):
            if statement.finding == finding:
                key = (statement.polarity, *statement.attributes.values())
                said[key] = said.get(key, 0.0) + 1 / count
    return said


def test_statements_come_as_often_as_the_config_says() -> None:
    # 3,000 draws: a standard error of .009 at most; .03 is more than three of them.
    noise = ReportNoise(omission=0.2, flip=0.1, wrong_side=0.3, wrong_level=0.3)
    config = PhantomConfig(noise=noise, prevalence={"pleural_effusion": 0.5, "edema": 0.5})
    said = frequency(config, "pleural_effusion", "pleural_effusion")  # left, small
    assert said["absent",] == pytest.approx(0.8 * 0.1, abs=0.03)
    assert said["present", "left", "small"] == pytest.approx(0.72 * 0.9 * 0.7 * 0.7, abs=0.03)
    assert said["present", "right", "small"] == pytest.approx(0.72 * 0.9 * 0.15 * 0.7, abs=0.03)
    uncertain = sum(share for key, share in said.items() if key[0] == "uncertain")
    assert uncertain == pytest.approx(0.72 * 0.1, abs=0.03)
    invented = frequency(config, "pleural_effusion", "edema")  # absent, said present in .1
    assert invented["absent",] == pytest.approx(0.35 * 0.9, abs=0.03)
    assert sum(invented.values()) == pytest.approx(0.35, abs=0.03)
    assert frequency(config, NORMAL)["none",] == pytest.approx(0.6, abs=0.03)
    assert not frequency(config, NORMAL, "edema")
    assert not frequency(config, "cardiomegaly", "cardiomegaly")  # not a topic of this config


def test_mention_probability() -> None:
    config = PhantomConfig(noise=ReportNoise(omission=0.25))
    assert mention_probability(config, "edema", {"edema"}) == 0.75
    assert mention_probability(config, "edema", set()) == config.mention_absent
    assert mention_probability(config, "lung_opacity", {"consolidation"}) == 0.0
    assert mention_probability(config, "lung_opacity", {"consolidation", "lung_opacity"}) == 0.75


def test_rates_resemble_those_of_real_reports() -> None:
    config = PhantomConfig()
    studies = sample(config, 400)
    reports = [compose_report(one, config) for one in studies]
    sentences = [sentence for report in reports for sentence in report.sentences]
    polarity = [sentence.polarity for sentence in sentences]
    assert 5.2 <= len(sentences) / len(reports) <= 6.5  # real: 5.8
    assert 5 <= np.median([len(sentence.text.split()) for sentence in sentences]) <= 8  # real: 6
    assert 0.33 <= polarity.count("absent") / len(sentences) <= 0.43  # real: .38
    assert 0.02 <= polarity.count("uncertain") / len(sentences) <= 0.05  # real: .037
    findings_only = ["FINDINGS:" in r.text and "IMPRESSION:" not in r.text for r in reports]
    assert 0.08 <= np.mean(findings_only) <= 0.17  # real: .125
    assert 0.24 <= np.mean([not one.findings for one in studies]) <= 0.34  # real: .29


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (PhantomConfig(mention_absent=1.2), "mention_absent is 1.2"),
        (PhantomConfig(noise=ReportNoise(flip=-0.1)), "noise.flip is -0.1"),
        (PhantomConfig(prevalence={"edema": 2.0}), "edema"),
        (PhantomConfig(prevalence={"scoliosis": 0.1}), "scoliosis"),
        (PhantomConfig(fillers=()), "fillers"),
        (PhantomConfig(fillers=(-1,)), "fillers"),
    ],
)
def test_impossible_configs_are_refused(config: PhantomConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_config(config)
