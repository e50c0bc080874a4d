"""What a record tells: the numbers of the design, slow loops, and counts on samples."""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from localmi.errors import ConfigError
from localmi.names import RecordVariable
from localmi.phantom.config import PhantomConfig
from localmi.phantom.latents import num_studies, sample_study
from localmi.phantom.record import sample_person, sample_stay
from localmi.phantom.record_truth import record_auc, record_mi_table, true_record_mi

Joint = defaultdict[tuple[object, object], float]
DYING = PhantomConfig(studies_per_patient=(1,))  # death is possible at every study
STAY: tuple[RecordVariable, ...] = ("icu", "died", "stay_days")
ALL = tuple(name for name in get_args(RecordVariable) if name != "labels")


# --- The numbers of the design ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "nats"),
    [
        ("stay", 0.167),
        ("icu", 0.106),
        ("stay_days", 0.084),
        ("died", 0.019),
        (("icu", "died"), 0.115),
        ("scan", 0.009),
        ("demographic", 0.0),
    ],
)
def test_nats_where_death_is_possible_at_every_study(
    variables: RecordVariable | Sequence[RecordVariable], nats: float
) -> None:
    assert true_record_mi(DYING, variables) == pytest.approx(nats, abs=5e-4)


def test_aucs_where_death_is_possible_at_every_study() -> None:
    expected = dict.fromkeys(DYING.prevalence, 0.61) | {
        "support_devices": 0.74,
        "edema": 0.71,
        "pneumothorax": 0.64,
        "pleural_effusion": 0.63,
        "cardiomegaly": 0.62,
        "pneumonia": 0.62,
    }
    found = {name: round(record_auc(DYING, name, "stay"), 2) for name in expected}
    assert found == expected


def test_death_at_the_last_study_alone_tells_less() -> None:
    table = record_mi_table(PhantomConfig())
    assert table == {
        "sex": 0.0,
        "age": 0.0,
        "view": pytest.approx(0.0091, abs=5e-5),
        "icu": pytest.approx(0.1065, abs=5e-5),
        "died": pytest.approx(0.0101, abs=5e-5),
        "stay_days": pytest.approx(0.0836, abs=5e-5),
        "demographic": 0.0,
        "scan": table["view"],
        "stay": pytest.approx(0.1634, abs=5e-5),
    }
    for name, nats in table.items():
        assert nats == pytest.approx(true_record_mi(PhantomConfig(), name), abs=1e-9)  # type: ignore[arg-type]


def test_the_other_hospital() -> None:
    config = PhantomConfig(record_reversed=True)
    assert true_record_mi(config, "stay") == pytest.approx(0.0480, abs=5e-5)
    assert true_record_mi(config, "view") == pytest.approx(0.0091, abs=5e-5)
    assert record_auc(config, "edema", "stay") == pytest.approx(0.593, abs=5e-4)


# --- A slow enumeration, written from the description of the process ---------------------------

SLOW = PhantomConfig(
    abnormal=0.8,
    prevalence={"edema": 0.25, "pneumonia": 0.35, "pneumothorax": 0.3, "support_devices": 0.2},
    ap_view=0.3,
    devices_given_ap=0.5,
    studies_per_patient=(1, 1, 4),
)
NAMES = ("edema", "pneumonia", "pneumothorax", "support_devices")


def odds(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds))


def slow_states() -> Iterator[tuple[dict[str, bool], str, float]]:
    for abnormal, view in itertools.product((True, False), ("AP", "PA")):
        for present in itertools.product((True, False), repeat=4):
            state = dict(zip(NAMES, present, strict=True))
            weight = (0.8 if abnormal else 0.2) * (0.3 if view == "AP" else 0.7)
            for name, p in SLOW.prevalence.items():
                if name == "support_devices":
                    p += 0.5 * (view == "AP") + 0.15 * state["edema"]
                weight *= (p if state[name] else 1 - p) if abnormal else not state[name]
            yield state, view, weight


def slow_stays(state: dict[str, bool], sign: int) -> Iterator[tuple[object, float]]:
    # Of 6 studies of 3 patients 3 are the last, and 2 lie between two others: of the 699^2 pairs
    # of gaps 1 + 2 + ... + 20 add up to less than 22.
    short = 2 / 6 * 210 / 699**2
    yield None, 0.15 * (1 - short) + short
    edema, devices = state["edema"], state["support_devices"]
    icu = odds(-2.2 + sign * (1.8 * devices + 1.2 * edema + 0.8 * state["pneumothorax"]))
    for last, in_icu, dies, length in itertools.product((1, 0), (1, 0), (1, 0), range(4)):
        p = 0.85 * (0.5 if last else 0.5 - short) * (icu if in_icu else 1 - icu)
        death = odds(-3.5 + 1.4 * in_icu + sign * 0.8 * (edema + state["pneumonia"])) * last
        b = sign * sum(state.values()) + 2 * in_icu
        logits = (1 - 0.35 * b, 0.6 - 0.1 * b, -0.2 + 0.15 * b, -1.2 + 0.35 * b)
        p *= math.exp(logits[length]) / sum(map(math.exp, logits))
        yield (in_icu, dies, length), p * (death if dies else 1 - death)


def slow_joint(variables: Sequence[str], sign: int) -> Joint:
    """P(state, what the variables say)."""
    joint: Joint = defaultdict(float)
    for state, view, weight in slow_states():
        for stay, p in slow_stays(state, sign):
            values = dict(zip(STAY, stay or (None,) * 3, strict=True)) | {"view": view}
            symbol = tuple(values[name] for name in variables)
            joint[tuple(state.values()), symbol] += weight * p
    return joint


def mutual_information(joint: Joint) -> float:
    rows: defaultdict[object, float] = defaultdict(float)
    columns: defaultdict[object, float] = defaultdict(float)
    total = sum(joint.values())
    for (state, symbol), weight in joint.items():
        rows[state] += weight / total
        columns[symbol] += weight / total
    return sum(
        weight / total * math.log(weight / total / rows[state] / columns[symbol])
        for (state, symbol), weight in joint.items()
        if weight > 0
    )


def slow_auc(joint: Joint, place: int) -> float:
    """P(a study with the finding scores higher than one without), ties half, over all pairs."""
    shares: defaultdict[object, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for (state, symbol), weight in joint.items():
        shares[symbol][bool(state[place])] += weight  # type: ignore[index]
    totals = [sum(share[each] for share in shares.values()) for each in (0, 1)]
    score = {symbol: here / (here + not_here) for symbol, (not_here, here) in shares.items()}
    return sum(
        shares[one][1]
        * shares[other][0]
        * ((score[one] > score[other] + 1e-12) + 0.5 * (abs(score[one] - score[other]) <= 1e-12))
        for one in shares
        for other in shares
    ) / (totals[0] * totals[1])


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("number", [0, 1, 2, 3, 4])
def test_equals_the_enumeration_by_loops(number: int, sign: int) -> None:
    config = replace(SLOW, record_reversed=sign < 0)
    names: tuple[RecordVariable, ...] = (*STAY, "view")
    for variables in itertools.combinations(names, number):
        joint = slow_joint(variables, sign)
        assert sum(joint.values()) == pytest.approx(1)
        expected = mutual_information(joint)
        assert true_record_mi(config, variables) == pytest.approx(expected, abs=1e-12)
        assert true_record_mi(config, [*variables, "age"]) == pytest.approx(expected, abs=1e-12)
        for place, name in enumerate(NAMES):
            found = record_auc(config, name, variables)
            assert found == pytest.approx(slow_auc(joint, place), abs=1e-12)


# --- Counts on samples ------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_equals_a_count_on_samples(reverse: bool) -> None:
    config = PhantomConfig(
        prevalence={"edema": 0.4, "support_devices": 0.4, "pneumonia": 0.3},
        record_reversed=reverse,
    )
    joints: dict[tuple[RecordVariable, ...], Joint] = {
        each: defaultdict(float)
        for each in [("icu",), ("died",), ("stay_days",), ("view",), STAY, ("sex",), ("age",)]
    }
    studies = 0
    for patient in range(2500):
        person = sample_person(config, patient)
        for number in range(num_studies(config, patient)):
            study, studies = sample_study(config, patient, number), studies + 1
            stay = sample_stay(config, study)
            values = dict(zip(STAY, stay.symbol if stay else (None,) * 3, strict=True))
            values |= {"view": study.view, "sex": person.sex, "age": person.age // 10}
            state = tuple(name in study.present for name in config.prevalence)
            for variables, joint in joints.items():
                joint[state, tuple(values[name] for name in variables)] += 1
    # Miller-Madow: a plug-in estimate is too high by (cells - rows - columns + 1) / 2N. What is
    # left is chance: three standard errors, from the pointwise MI of the sample itself, and half
    # of the correction, which is not exact where cells are rare. In all .027 of .125 nats for the
    # stay as a whole, .020 of .104 for intensive care.
    for variables, joint in joints.items():
        rows, columns = {key[0] for key in joint}, {key[1] for key in joint}
        bias = (len(joint) - len(rows) - len(columns) + 1) / (2 * studies)
        error = 3 * pointwise_deviation(joint) / math.sqrt(studies) + bias / 2
        assert error < (0.03 if variables == STAY else 0.025)
        exact = true_record_mi(config, variables)
        assert mutual_information(joint) - bias == pytest.approx(exact, abs=error), variables
    for place, name in enumerate(config.prevalence):
        # Three standard errors of .009; a score fitted to the sample is better by .003 or so.
        counted = slow_auc(joints[STAY], place)
        assert counted == pytest.approx(record_auc(config, name, STAY), abs=0.03)


def pointwise_deviation(joint: Joint) -> float:
    """The standard deviation of log p(x, r) / p(x) p(r) over the sample."""
    total = sum(joint.values())
    rows: defaultdict[object, float] = defaultdict(float)
    columns: defaultdict[object, float] = defaultdict(float)
    for (state, symbol), weight in joint.items():
        rows[state] += weight
        columns[symbol] += weight
    weights = np.array(list(joint.values())) / total
    values = np.log([w * total / rows[s] / columns[c] for (s, c), w in joint.items()])
    return float(np.sqrt(weights @ values**2 - (weights @ values) ** 2))


# --- What must hold in general ----------------------------------------------------------------


def test_more_variables_tell_more_and_groups_are_their_variables() -> None:
    config = PhantomConfig()
    assert true_record_mi(config, []) == 0
    assert true_record_mi(config, "stay") == true_record_mi(config, STAY)
    assert true_record_mi(config, ["stay", "icu", "age"]) == true_record_mi(config, STAY)
    assert true_record_mi(config, ["stay", "view"]) > true_record_mi(config, "stay") + 0.005
    assert record_auc(config, "edema", []) == 0.5
    assert record_auc(config, "edema", "demographic") == 0.5
    assert record_auc(config, "edema", "icu") < record_auc(config, "edema", "stay")


def test_without_findings_there_is_nothing_to_tell() -> None:
    assert true_record_mi(PhantomConfig(prevalence={}), "stay") == pytest.approx(0, abs=1e-12)


def test_unknown_names_and_impossible_configs_are_refused() -> None:
    with pytest.raises(
        ConfigError, match="variable of the record 'race'; known are demographic, scan"
    ):
        true_record_mi(PhantomConfig(), ["icu", "race"])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="Labels are of no record"):
        true_record_mi(PhantomConfig(), ["icu", "labels"])
    with pytest.raises(ConfigError, match="Unknown finding 'eel'; known are atelectasis, "):
        record_auc(PhantomConfig(), "eel", "stay")
    with pytest.raises(ConfigError, match="Unknown finding 'edema'"):
        record_auc(PhantomConfig(prevalence={"pneumonia": 0.5}), "edema", "stay")
    with pytest.raises(ConfigError, match=r"abnormal is 1\.5"):
        true_record_mi(PhantomConfig(abnormal=1.5), ALL)
    for never in ({"prevalence": {"edema": 0.0}}, {"abnormal": 0.0}):
        with pytest.raises(ConfigError, match="edema is present in 0% of the studies"):
            record_auc(PhantomConfig(**never), "edema", "stay")  # type: ignore[arg-type]
