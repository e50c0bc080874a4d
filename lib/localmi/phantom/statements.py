"""What a report says about the hidden state: the random process, without words.

`report.compose_report` draws from it and `truth.true_mi` computes with it, through the same
`mention_probability` and `error_rate`. Taught in 05_radiographs_and_reports.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace

import numpy as np

from localmi.errors import ConfigError
from localmi.phantom.config import (
    ATTRIBUTES,
    FINDINGS,
    WITH_DEPTH,
    PhantomConfig,
    ReportNoise,
)
from localmi.phantom.latents import STUDIES_RESERVED, Study, draw_depths, stream

NORMAL = "normal"
PROBABILITIES = (
    "abnormal",
    "ap_view",
    "edema_given_cardiomegaly",
    "devices_given_ap",
    "devices_given_edema",
    "mention_absent",
    "mention_normal",
    "uncertain",
    "second_image",
    "lateral_view",
    "depth_said",
)


@dataclass(frozen=True)
class Statement:
    """One thing said. finding: a name of `FINDINGS`, "normal", or None for a filler.

    polarity: "present", "uncertain" (present, but hedged), "absent", or "none" (normal, filler).
    attributes: what is SAID, right or wrong; empty unless present or uncertain.
    """

    finding: str | None
    polarity: str = "none"
    attributes: Mapping[str, str] = field(default_factory=dict)


def topics(config: PhantomConfig) -> tuple[str, ...]:
    """The findings a report may speak of: those that the config gives a prevalence."""
    return tuple(name for name in FINDINGS if name in config.prevalence)


def mention_probability(config: PhantomConfig, topic: str, present: Collection[str]) -> float:
    """P(the report speaks of `topic` | the present findings), whatever it then says.

    A lung opacity is not denied beside a pneumonia or a consolidation: both are opacities.
    """
    if topic == NORMAL:
        return 0.0 if present else config.mention_normal
    if topic in present:
        return 1.0 - config.noise.omission
    if topic == "lung_opacity" and ("pneumonia" in present or "consolidation" in present):
        return 0.0
    return config.mention_absent


def error_rate(noise: ReportNoise, attribute: str) -> float:
    """P(a said attribute is not the true one); the wrong value is uniform over the others."""
    return {"side": noise.wrong_side, "level": noise.wrong_level}.get(attribute, 0.0)


def draw_statements(
    study: Study, config: PhantomConfig, rng: np.random.Generator
) -> list[Statement]:
    """All that one report says of its study: findings in order, "normal", then fillers."""
    present = study.present
    statements = [
        _finding_statement(
            name, present[name].attributes if name in present else None, config, rng
        )
        for name in topics(config)
        if rng.random() < mention_probability(config, name, present)
    ]
    depths = _said_depths(study, config)
    statements = [
        replace(each, attributes={**each.attributes, **depths.get(each.finding, {})})
        if each.attributes and each.finding
        else each
        for each in statements
    ]
    if rng.random() < mention_probability(config, NORMAL, present):
        statements.append(Statement(NORMAL))
    return statements + [Statement(None)] * int(rng.choice(config.fillers))


def _said_depths(study: Study, config: PhantomConfig) -> dict[str, dict[str, str]]:
    """{"depth": value} of each finding whose depth the report says, should it call it present.

    From streams of its own. As with other attributes, an absent finding has one as if it were
    there.
    """
    if config.depth_said <= 0:
        return {}
    invented = draw_depths(config, "depth/invented", study.patient, study.number)
    chances = stream(config.seed, "depth/said", study.patient, study.number).random(
        len(WITH_DEPTH)
    )
    return {
        name: {"depth": finding.attributes["depth"]}
        if (finding := study.present.get(name))
        else invented[name]
        for name, chance in zip(WITH_DEPTH, chances, strict=True)
        if chance < config.depth_said
    }


def _finding_statement(
    name: str,
    attributes: Mapping[str, str] | None,
    config: PhantomConfig,
    rng: np.random.Generator,
) -> Statement:
    """attributes: the true ones, or None where the finding is absent."""
    flipped = bool(rng.random() < config.noise.flip)
    if flipped == (attributes is not None):
        return Statement(name, "absent")
    said = {}
    for attribute, values in ATTRIBUTES[name].items():
        # An invented finding gets attributes as if one were there: they tell nothing of presence.
        true = attributes[attribute] if attributes is not None else _draw(values, rng)
        said[attribute] = _pass_through_noise(
            true, values, error_rate(config.noise, attribute), rng
        )
    polarity = "uncertain" if rng.random() < config.uncertain else "present"
    return Statement(name, polarity, said)


def _draw(values: Mapping[str, float], rng: np.random.Generator) -> str:
    return str(rng.choice(list(values), p=list(values.values())))


def _pass_through_noise(
    true: str, values: Mapping[str, float], error: float, rng: np.random.Generator
) -> str:
    others = [value for value in values if value != true]
    return str(rng.choice(others)) if others and rng.random() < error else true


def check_config(config: PhantomConfig) -> None:
    """Raise ConfigError for probabilities outside [0, 1], unknown findings, bad counts."""
    unknown = sorted(set(config.prevalence) - set(FINDINGS))
    if unknown:
        raise ConfigError(f"prevalence names unknown findings {unknown}; known: {list(FINDINGS)}.")
    values = {name: getattr(config, name) for name in PROBABILITIES}
    values |= {f"prevalence[{name!r}]": value for name, value in config.prevalence.items()}
    values |= {
        f"noise.{item.name}": getattr(config.noise, item.name) for item in fields(ReportNoise)
    }
    for name, value in values.items():
        if not 0.0 <= value <= 1.0:
            raise ConfigError(f"{name} is {value}; it is a probability: give a number in [0, 1].")
    if not config.fillers or min(config.fillers) < 0:
        raise ConfigError(
            f"fillers is {config.fillers}; give the counts that may occur, such as (1, 2)."
        )
    counts = config.studies_per_patient
    if not counts or not 1 <= min(counts) <= max(counts) <= STUDIES_RESERVED:
        raise ConfigError(
            f"studies_per_patient is {counts}; give the counts that may occur, such as (1, 2), "
            f"each from 1 to {STUDIES_RESERVED}."
        )
