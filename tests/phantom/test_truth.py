"""The exact mutual information: closed forms, slow loops, and counts on samples."""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import pytest

from localmi.errors import ConfigError
from localmi.names import Unit
from localmi.phantom.config import ATTRIBUTES, PhantomConfig, ReportNoise
from localmi.phantom.latents import sample_study, stream
from localmi.phantom.statements import Statement, draw_statements
from localmi.phantom.truth import (
    attribute_mi,
    marginals,
    sentence_symbol,
    state_distribution,
    true_mi,
)

Joint = defaultdict[tuple[object, object], float]
THIRDS = {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}


def entropy(*probabilities: float) -> float:
    return -sum(p * math.log(p) for p in probabilities if p > 0)


def binary(p: float) -> float:
    return entropy(p, 1 - p)


def one_finding(p: float, **changes: object) -> PhantomConfig:
    """One binary finding, always spoken of, nothing else said."""
    settings: dict[str, object] = {
        "abnormal": 1.0,
        "prevalence": {"edema": p},
        "confounded": False,
        "mention_absent": 1.0,
        "mention_normal": 0.0,
        "fillers": (0,),
    }
    return PhantomConfig(**{**settings, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("target", ["sentence", "report"])
@pytest.mark.parametrize(("p", "flip"), [(0.3, 0.1), (0.3, 0.0), (0.5, 0.5), (0.05, 0.2)])
def test_binary_finding_with_flips(target: str, p: float, flip: float) -> None:
    config = one_finding(p, noise=ReportNoise(flip=flip))
    expected = binary(p * (1 - flip) + (1 - p) * flip) - binary(flip)
    assert true_mi(config, target, attributes={}) == pytest.approx(expected, abs=1e-12)


def test_the_number_in_the_specification() -> None:
    config = one_finding(0.3, noise=ReportNoise(flip=0.1))
    assert true_mi(config, attributes={}) == pytest.approx(0.316, abs=5e-4)


@pytest.mark.parametrize("target", ["sentence", "report"])
def test_uniform_attributes_add_p_times_the_log_of_their_number(target: str) -> None:
    attributes = {"edema": {"side": THIRDS, "zone": THIRDS, "level": THIRDS}}
    mi = true_mi(one_finding(0.3), target, attributes=attributes)
    assert mi == pytest.approx(binary(0.3) + 0.3 * math.log(27), abs=1e-12)


def test_fillers_dilute_one_sentence_but_not_the_report() -> None:
    config = one_finding(0.3, fillers=(3,))
    assert true_mi(config, attributes={}) == pytest.approx(binary(0.3) / 4, abs=1e-12)
    assert true_mi(config, "report", attributes={}) == pytest.approx(binary(0.3), abs=1e-12)


def test_omission_alone_is_an_erasure_of_the_present() -> None:
    # Said present in p/2, silent in p/2 (a filler), denied in 1-p: two outcomes tell the state.
    config = one_finding(0.4, fillers=(1,), noise=ReportNoise(omission=0.5))
    report = true_mi(config, "report", attributes={})
    assert report == pytest.approx(binary(0.4), abs=1e-12)
    without_denials = one_finding(0.4, mention_absent=0.0, noise=ReportNoise(omission=0.5))
    report = true_mi(without_denials, "report", attributes={})
    assert report == pytest.approx(binary(0.2) - 0.4 * binary(0.5), abs=1e-12)


@pytest.mark.parametrize(("target", "gain"), [("sentence", 0.0701), ("report", 0.4419)])
def test_what_the_depth_adds_where_reports_say_it(target: Unit, gain: float) -> None:
    without = true_mi(PhantomConfig(), target)
    assert true_mi(PhantomConfig(lateral_view=0.6), target) == without
    added = [true_mi(PhantomConfig(depth_said=rate), target) - without for rate in (1.0, 0.5)]
    assert added[0] == pytest.approx(gain, abs=5e-4)
    assert added[1] == pytest.approx(added[0] / 2)


def test_attribute_through_noise() -> None:
    assert attribute_mi({"a": 0.5, "b": 0.5}, 0.1) == pytest.approx(math.log(2) - binary(0.1))
    assert attribute_mi(THIRDS, 2 / 3) == pytest.approx(0.0, abs=1e-12)
    assert attribute_mi({"a": 0.4, "b": 0.4, "c": 0.2}, 0.0) == pytest.approx(
        entropy(0.4, 0.4, 0.2)
    )
    assert attribute_mi({"a": 1.0}, 0.3) == 0.0


# -- a slow enumeration, written from the description of the process ---------------------------

SLOW_ATTRIBUTES = {
    "edema": {"level": {"mild": 0.2, "severe": 0.8}},
    "pneumonia": {"side": {"left": 0.3, "right": 0.5, "bilateral": 0.2}},
}
SLOW_NAMES = ("cardiomegaly", "edema", "lung_opacity", "pneumonia")
SLOW = PhantomConfig(
    abnormal=0.8,
    prevalence={"cardiomegaly": 0.3, "edema": 0.25, "lung_opacity": 0.4, "pneumonia": 0.35},
    edema_given_cardiomegaly=0.4,
    mention_absent=0.35,
    mention_normal=0.6,
    fillers=(0, 1, 3),
    noise=ReportNoise(omission=0.15, flip=0.1, wrong_side=0.2, wrong_level=0.3),
)


def slow_values(name: str) -> Iterator[tuple[str | None, float]]:
    """(attribute value, probability) of a present finding; (None, 1) if it has no attribute."""
    values = next(iter(SLOW_ATTRIBUTES.get(name, {"": {}}).values()))
    yield from values.items() or [(None, 1.0)]


def slow_states() -> Iterator[tuple[dict[str, str | None], float]]:
    """(present finding -> value, probability), attributes included."""
    for abnormal in (True, False):
        for present in itertools.product([True, False], repeat=4):
            here = dict(zip(SLOW_NAMES, present, strict=True))
            weight = 0.8 if abnormal else 0.2
            for name in SLOW_NAMES:
                p = SLOW.prevalence[name] if abnormal else 0.0
                if abnormal and name == "edema" and here["cardiomegaly"]:
                    p += 0.4
                weight *= p if here[name] else 1 - p
            options = [list(slow_values(name)) for name in SLOW_NAMES if here[name]]
            names = [name for name in SLOW_NAMES if here[name]]
            for chosen in itertools.product(*options):
                state = {name: value for name, (value, _) in zip(names, chosen, strict=True)}
                yield state, weight * math.prod(p for _, p in chosen)


def slow_statements(name: str, state: dict[str, str | None]) -> Iterator[tuple[str, float]]:
    """(what is said of one finding, probability); "" is silence."""
    noise = SLOW.noise
    present = name in state
    spoken = 1 - noise.omission if present else SLOW.mention_absent
    if name == "lung_opacity" and not present and "pneumonia" in state:
        spoken = 0.0
    yield "", 1 - spoken
    said_present = 1 - noise.flip if present else noise.flip
    yield f"{name} absent", spoken * (1 - said_present)
    values = dict(slow_values(name))
    error = {"edema": noise.wrong_level, "pneumonia": noise.wrong_side}.get(name, 0.0)
    for said in values:
        share = 0.0
        for true, p in [(state[name], 1.0)] if present else values.items():
            wrong = error / (len(values) - 1) if len(values) > 1 else 0.0
            share += p * ((1 - error if len(values) > 1 else 1.0) if said == true else wrong)
        yield f"{name} present {said}", spoken * said_present * share


def slow_joint(target: str) -> Joint:
    """P(state, symbol), by going through every report of every state."""
    joint: Joint = defaultdict(float)
    for state, weight in slow_states():
        normal = SLOW.mention_normal if not state else 0.0
        choices = [list(slow_statements(name, state)) for name in SLOW_NAMES]
        choices.append([("normal", normal), ("", 1 - normal)])
        for chosen in itertools.product(*choices):
            probability = weight * math.prod(p for _, p in chosen)
            said = [text for text, _ in chosen if text]
            key = tuple(sorted(state.items(), key=str))
            if target == "report":
                joint[key, tuple(said)] += probability
                continue
            for fillers in SLOW.fillers:
                sentences = said + ["filler"] * fillers
                for sentence in sentences:
                    joint[key, sentence] += probability / len(SLOW.fillers) / len(sentences)
    return joint


def mutual_information(joint: Joint) -> float:
    total = sum(joint.values())
    rows: defaultdict[object, float] = defaultdict(float)
    columns: defaultdict[object, float] = defaultdict(float)
    for (state, symbol), weight in joint.items():
        rows[state] += weight / total
        columns[symbol] += weight / total
    return sum(
        weight / total * math.log(weight / total / rows[state] / columns[symbol])
        for (state, symbol), weight in joint.items()
        if weight > 0
    )


@pytest.mark.parametrize("target", ["sentence", "report"])
def test_equals_the_enumeration_by_loops(target: str) -> None:
    slow = mutual_information(slow_joint(target))
    assert true_mi(SLOW, target, attributes=SLOW_ATTRIBUTES) == pytest.approx(slow, abs=1e-10)


# -- counts on samples -------------------------------------------------------------------------


def test_equals_a_count_on_samples() -> None:
    config = PhantomConfig(
        prevalence={"cardiomegaly": 0.4, "edema": 0.3},
        noise=ReportNoise(omission=0.1, flip=0.1, wrong_level=0.2),
    )
    studies = 4000
    of_sentence: Joint = defaultdict(float)
    of_report: Joint = defaultdict(float)
    for patient in range(studies):
        study = sample_study(config, patient, 0)
        state = tuple((f.name, f.attributes["level"]) for f in study.findings)
        statements = draw_statements(study, config, stream(0, "test", patient))
        symbols = [sentence_symbol(statement) for statement in statements]
        for symbol in symbols:
            of_sentence[state, symbol] += 1 / len(symbols)
        of_report[state, tuple(s for s in symbols if s != "filler")] += 1
    # Miller-Madow: a plug-in estimate is too high by (cells - rows - columns + 1) / 2N. What is
    # left is chance: the pointwise MI has a deviation of about .8 (sentence) and 1.2 (report)
    # nats, so three standard errors are .04 and .06.
    for joint, target, tolerance in (
        (of_sentence, "sentence", 0.04),
        (of_report, "report", 0.06),
    ):
        rows, columns = {key[0] for key in joint}, {key[1] for key in joint}
        bias = (len(joint) - len(rows) - len(columns) + 1) / (2 * studies)
        estimate = mutual_information(joint) - bias
        assert estimate == pytest.approx(true_mi(config, target), abs=tolerance)


def test_state_distribution_equals_a_count_on_samples() -> None:
    config = PhantomConfig()
    states, probability = state_distribution(config)
    assert states.shape == (512, 9)
    assert probability.sum() == pytest.approx(1.0)
    studies = 2000
    drawn = [set(sample_study(config, patient, 0).present) for patient in range(studies)]
    for name, p in marginals(config).items():
        found = sum(name in present for present in drawn) / studies
        assert found == pytest.approx(p, abs=4 * math.sqrt(p * (1 - p) / studies))
    empty = sum(not present for present in drawn) / studies
    assert empty == pytest.approx(probability[0], abs=0.035)


def test_marginals() -> None:
    expected = {"edema": 0.75 * (0.25 + 0.15 * 0.3), "cardiomegaly": 0.75 * 0.3}
    config = PhantomConfig(prevalence={"edema": 0.25, "cardiomegaly": 0.3})
    assert marginals(config) == pytest.approx(expected)


# -- what must hold in general -----------------------------------------------------------------


def test_noise_only_loses_information() -> None:
    clean = true_mi(PhantomConfig())
    for name in ("omission", "flip", "wrong_side", "wrong_level"):
        noisy = PhantomConfig(noise=ReportNoise(**{name: 0.2}))
        assert 0 < true_mi(noisy) < clean
    assert true_mi(PhantomConfig(), "report") > clean


def test_hedging_and_contrast_change_nothing() -> None:
    changed = PhantomConfig(uncertain=0.9, contrast=(1.0, 1.0), second_image=1.0, seed=7)
    assert true_mi(changed) == true_mi(PhantomConfig())


def test_nothing_to_say_is_zero() -> None:
    silent = PhantomConfig(prevalence={})
    assert true_mi(silent) == pytest.approx(0.0, abs=1e-12)
    assert true_mi(silent, "report") == pytest.approx(0.0, abs=1e-12)


def test_symbols_ignore_hedging() -> None:
    said = {"side": "left", "level": "small"}
    present = Statement("pleural_effusion", "present", said)
    hedged = Statement("pleural_effusion", "uncertain", said)
    assert (
        sentence_symbol(present)
        == sentence_symbol(hedged)
        == ("pleural_effusion present left small")
    )
    assert sentence_symbol(Statement("edema", "absent")) == "edema absent"
    assert sentence_symbol(Statement(None)) == "filler"


def test_default_attributes_are_probabilities() -> None:
    for attributes in ATTRIBUTES.values():
        for values in attributes.values():
            assert np.isclose(sum(values.values()), 1.0)


def test_unknown_target_and_impossible_config_are_refused() -> None:
    with pytest.raises(ConfigError, match="known are sentence, report"):
        true_mi(PhantomConfig(), "image")
    with pytest.raises(ConfigError, match=r"abnormal is 1\.5"):
        true_mi(PhantomConfig(abnormal=1.5))
