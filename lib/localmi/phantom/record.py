"""The record of a synthetic patient: sex, age, and a stay in hospital around each study.

A stay is drawn given which findings are present, from streams of random numbers of its own:
images and reports do not know of it. How long it is within its band, and when, is drawn without
looking at the findings. Nobody dies and comes back: death is possible at a patient's last study
alone. `record_truth` computes what all this tells of the findings, through the same
`stay_distribution`.

Source: design of the synthetic record (7-limitr-and-records, 2.1).
"""

import datetime
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import expit, softmax

from localmi.phantom.anatomy import draw_woman
from localmi.phantom.config import FINDINGS, PhantomConfig
from localmi.phantom.latents import GAPS, Study, num_studies, stream, study_time

AGES = range(18, 96)  # at a patient's first study, each equally likely
ADMITTED = 0.85  # P(a study has a stay), whatever the findings

# Log odds: without a finding, and what each adds.
ICU, DEATH = -2.2, -3.5
ICU_BY = {"support_devices": 1.8, "edema": 1.2, "pneumothorax": 0.8, "pleural_effusion": 0.6}
DEATH_BY = {"edema": 0.8, "pneumonia": 0.8}
DEATH_BY_ICU = 1.4
# Bands of length in days, from and to below, each with its logit: without a burden, and per unit
# of it. A finding is a burden of 1, intensive care one of 2.
LENGTHS = ((0.25, 2), (2, 5), (5, 10), (10, 30))
LENGTH = np.array([1.0, 0.6, -0.2, -1.2])
LENGTH_BY = np.array([-0.35, -0.1, 0.15, 0.35])
BURDEN_OF_ICU = 2

# Between two studies of a patient a stay ends, or begins, half way at the latest. So that the
# longest band has room, there is none at a study whose neighbours on both sides lie closer.
ROOM = 22  # days from date to date
DAY = 86_400  # seconds


class Symbol(NamedTuple):
    """What a stay tells: intensive care, death, and which of `LENGTHS`."""

    icu: bool
    died: bool
    length: int


SYMBOLS = tuple(
    Symbol(*each) for each in itertools.product((False, True), (False, True), range(len(LENGTHS)))
)


@dataclass(frozen=True)
class Person:
    """What stays from study to study. sex: "F" or "M". age: in years, at the first study."""

    sex: str
    age: int


@dataclass(frozen=True)
class Stay:
    """A stay in hospital; the study was made from `begins` to `ends`. Whole seconds.

    icu: from and to, around the study as well; None without intensive care.
    """

    symbol: Symbol
    begins: datetime.datetime
    ends: datetime.datetime
    icu: tuple[datetime.datetime, datetime.datetime] | None


class KindOfStudy(NamedTuple):
    """share: of all studies. has_room: for a stay. may_die: it is the patient's last one."""

    share: float
    has_room: bool
    may_die: bool


def sample_person(config: PhantomConfig, patient: int) -> Person:
    """Sex, which is the anatomy's and so in the image, and age, which is nowhere else."""
    woman = draw_woman(stream(config.seed, "anatomy", patient))
    age = stream(config.seed, "record/person", patient).choice(AGES)
    return Person("F" if woman else "M", int(age))


def stay_distribution(
    config: PhantomConfig, names: Sequence[str], states: np.ndarray, *, may_die: bool
) -> np.ndarray:
    """P(symbol | findings) of an admitted patient.

    Args:
        names, states: n findings, and [S, n] bool, which are present; others are absent.
        may_die: whether it is the patient's last study.

    Returns:
        [S, 16], in the order of `SYMBOLS`.
    """
    sign = -1.0 if config.record_reversed else 1.0

    def given(weights: Mapping[str, float]) -> np.ndarray:
        return sign * states @ np.array([weights.get(name, 0.0) for name in names])  # [S]

    icu = expit(ICU + given(ICU_BY))
    findings = sign * states.sum(axis=1)
    shares = []
    for in_icu in (False, True):
        died = expit(DEATH + DEATH_BY_ICU * in_icu + given(DEATH_BY)) * may_die
        burden = findings + BURDEN_OF_ICU * in_icu
        length = softmax(LENGTH + burden[:, None] * LENGTH_BY, axis=1)  # [S, 4]
        care = icu if in_icu else 1 - icu
        shares += [(care * share)[:, None] * length for share in (1 - died, died)]
    return np.concatenate(shares, axis=1)


def kinds_of_study(config: PhantomConfig) -> list[KindOfStudy]:
    """How often a study is its patient's last, and how often too close between two others.

    Neither depends on the findings.
    """
    counts, days = np.array(config.studies_per_patient), np.array(GAPS)
    last = len(counts) / float(counts.sum())
    close = float((np.add.outer(days, days) < ROOM).mean())
    close *= float(np.maximum(counts - 2, 0).sum() / counts.sum())
    return [
        KindOfStudy(last, has_room=True, may_die=True),
        KindOfStudy(1 - last - close, has_room=True, may_die=False),
        KindOfStudy(close, has_room=False, may_die=False),
    ]


def sample_stay(config: PhantomConfig, study: Study) -> Stay | None:
    """The stay around a study, or None where the patient was not in hospital."""
    last = study.number == num_studies(config, study.patient) - 1
    moments = _moments(config, study, last)
    admitted, chance = stream(config.seed, "record/stay", study.patient, study.number).random(2)
    if admitted >= ADMITTED or not _has_room(moments):
        return None
    state = np.array([[name in study.present for name in FINDINGS]])
    upto = stay_distribution(config, FINDINGS, state, may_die=last)[0].cumsum()
    symbol = SYMBOLS[int(np.searchsorted(upto, chance * upto[-1], side="right"))]
    return _placed(config, study, symbol, moments)


Moments = tuple[datetime.datetime | None, datetime.datetime, datetime.datetime | None]


def _moments(config: PhantomConfig, study: Study, last: bool) -> Moments:
    """When the patient's study before was made, this one, and the next, in whole seconds."""

    def moment(number: int) -> datetime.datetime:
        return study_time(config, study.patient, number).replace(microsecond=0)

    before = moment(study.number - 1) if study.number else None
    return before, moment(study.number), None if last else moment(study.number + 1)


def _has_room(moments: Moments) -> bool:
    before, _, after = moments
    return before is None or after is None or (after.date() - before.date()).days >= ROOM


def _placed(config: PhantomConfig, study: Study, symbol: Symbol, moments: Moments) -> Stay:
    """When the stay was, by chance: its length within the band, the image within the stay."""
    before, now, after = moments
    most_before = most_after = DAY * LENGTHS[-1][1]  # seconds of the stay
    if before:  # the stay before ends half way, at the latest
        gap = int((now - before).total_seconds())
        most_before = gap - gap // 2 - 1
    if after:
        most_after = int((after - now).total_seconds()) // 2
    low, high = (int(DAY * days) for days in LENGTHS[symbol.length])
    chances = stream(config.seed, "record/times", study.patient, study.number).random(4)
    seconds = _between(low, min(high - 1, most_before + most_after), chances[0])
    to_end = _between(max(1, seconds - most_before), min(most_after, seconds), chances[1])
    from_begin = seconds - to_end

    def moment(seconds: int) -> datetime.datetime:
        return now + datetime.timedelta(seconds=seconds)

    icu = moment(-_between(0, from_begin, chances[2])), moment(_between(1, to_end, chances[3]))
    return Stay(symbol, moment(-from_begin), moment(to_end), icu if symbol.icu else None)


def _between(low: int, high: int, chance: float) -> int:
    """A whole number from low to high, both of them included."""
    return low + int(chance * (high - low + 1))
