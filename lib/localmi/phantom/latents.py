"""The hidden state of one study: who, which view, which findings, where, how large."""

import datetime
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from localmi.phantom.config import ATTRIBUTES, DEPTHS, FINDINGS, WITH_DEPTH, PhantomConfig

FIRST_PATIENT = 90_000_000  # MIMIC-CXR's are 1xxxxxxx
FIRST_STUDY = 80_000_000  # MIMIC-CXR's are 5xxxxxxx
STUDIES_RESERVED = 10  # ids kept free for each patient
FIRST_DAY = datetime.date(2100, 1, 1)  # dates are invented, in the years MIMIC moves its own to
GAPS = range(1, 700)  # days from one study of a patient to the next, each equally likely


@dataclass(frozen=True)
class Finding:
    """One present finding. `attributes`: attribute -> value, as in `ATTRIBUTES`, and "depth"."""

    name: str
    attributes: Mapping[str, str]
    contrast: float


@dataclass(frozen=True)
class Study:
    """The hidden state H of a study, plus the view: all that image and report share."""

    patient: int  # 0, 1, 2, ... ; subject_id is FIRST_PATIENT + patient
    number: int  # of the patient's studies: 0, 1, 2
    view: str  # "AP" or "PA"
    findings: tuple[Finding, ...]
    num_images: int  # frontal ones
    lateral: bool = False  # one lateral view more; its number is num_images

    @property
    def subject_id(self) -> int:
        return FIRST_PATIENT + self.patient

    @property
    def study_id(self) -> int:
        return FIRST_STUDY + STUDIES_RESERVED * self.patient + self.number

    @property
    def images(self) -> range:
        """The numbers of its images: frontal ones, then the lateral."""
        return range(self.num_images + self.lateral)

    @property
    def present(self) -> Mapping[str, Finding]:
        return {finding.name: finding for finding in self.findings}


def stream(seed: int, purpose: str, *numbers: int) -> np.random.Generator:
    """A random stream of its own for each (seed, purpose, numbers): any order, any worker."""
    text = "/".join([str(seed), purpose, *map(str, numbers)])
    key = np.frombuffer(hashlib.blake2b(text.encode(), digest_size=16).digest(), np.uint64)
    return np.random.Generator(np.random.Philox(key=key))


def num_studies(config: PhantomConfig, patient: int) -> int:
    """How many studies a patient has."""
    return int(stream(config.seed, "patient", patient).choice(config.studies_per_patient))


def study_time(config: PhantomConfig, patient: int, number: int) -> datetime.datetime:
    """When a study was made: invented, to a thousandth of a second, in order within a patient."""
    rng = stream(config.seed, "date", patient)
    day = int(rng.integers(30_000))
    day += int(rng.integers(GAPS.start, GAPS.stop, size=number + 1).sum())
    rng = stream(config.seed, "time", patient, number)
    hours, minutes, seconds, thousandths = (int(rng.integers(n)) for n in (24, 60, 60, 1000))
    time = datetime.time(hours, minutes, seconds, 1000 * thousandths)
    return datetime.datetime.combine(FIRST_DAY + datetime.timedelta(days=day), time)


def finding_probability(
    config: PhantomConfig, name: str, abnormal: bool, view: str, present: Mapping[str, bool]
) -> float:
    """P(finding present | abnormal, view, the findings drawn before it in `DRAW_ORDER`)."""
    if not abnormal or name not in config.prevalence:
        return 0.0
    probability = config.prevalence[name]
    if config.confounded and name == "edema":
        probability += config.edema_given_cardiomegaly * present.get("cardiomegaly", False)
    if config.confounded and name == "support_devices":
        probability += config.devices_given_ap * (view == "AP")
        probability += config.devices_given_edema * present.get("edema", False)
    return min(probability, 1.0)


# A finding's probability depends only on findings that stand before it.
DRAWN_FIRST = ("cardiomegaly", "edema")
DRAW_ORDER = (*DRAWN_FIRST, *(name for name in FINDINGS if name not in DRAWN_FIRST))


def sample_study(config: PhantomConfig, patient: int, number: int) -> Study:
    """The hidden state of a study; depends on nothing but (config, patient, number)."""
    rng = stream(config.seed, "state", patient, number)
    view = "AP" if rng.random() < config.ap_view else "PA"
    abnormal = bool(rng.random() < config.abnormal)
    present: dict[str, bool] = {}
    findings: dict[str, Finding] = {}
    for name in DRAW_ORDER:
        present[name] = bool(
            rng.random() < finding_probability(config, name, abnormal, view, present)
        )
        attributes = {
            attribute: str(rng.choice(list(values), p=list(values.values())))
            for attribute, values in ATTRIBUTES[name].items()
        }
        contrast = float(rng.uniform(*config.contrast))
        if present[name]:
            findings[name] = Finding(name, attributes, contrast)
    num_images = 2 if rng.random() < config.second_image else 1
    depths = draw_depths(config, "depth", patient, number)
    ordered = tuple(
        replace(findings[name], attributes={**findings[name].attributes, **depths.get(name, {})})
        for name in FINDINGS
        if name in findings
    )
    lateral = bool(stream(config.seed, "lateral", patient, number).random() < config.lateral_view)
    return Study(patient, number, view, ordered, num_images, lateral)


def study_of(config: PhantomConfig, study_id: int | str) -> Study:
    """The hidden state of the study that has this id."""
    return sample_study(config, *divmod(int(study_id) - FIRST_STUDY, STUDIES_RESERVED))


def draw_depths(
    config: PhantomConfig, purpose: str, patient: int, number: int
) -> dict[str, dict[str, str]]:
    """{"depth": value} of each finding of `WITH_DEPTH`, from the stream of this purpose; nothing
    where the study has no depth."""
    if not config.has_depth:
        return {}
    drawn = stream(config.seed, purpose, patient, number).choice(
        list(DEPTHS), len(WITH_DEPTH), p=list(DEPTHS.values())
    )
    return {name: {"depth": str(value)} for name, value in zip(WITH_DEPTH, drawn, strict=True)}
