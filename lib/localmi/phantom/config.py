"""What the synthetic study is: findings, their attributes, how often, how reported.

The generative model is the paper's Fig. 3. A hidden state H (which findings, where, how large)
makes an image region, with nuisance V^I, and a sentence, with nuisance V^R. Everything that
decides the mutual information of image and sentence stands in `PhantomConfig`; `truth.true_mi`
reads it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

FINDINGS = (
    "atelectasis",
    "cardiomegaly",
    "consolidation",
    "edema",
    "lung_opacity",
    "pleural_effusion",
    "pneumonia",
    "pneumothorax",
    "support_devices",
)

SIDES = {"left": 0.5, "right": 0.5}
SIDES_OR_BOTH = {"left": 0.4, "right": 0.4, "bilateral": 0.2}
ZONES = {"upper": 1 / 3, "mid": 1 / 3, "lower": 1 / 3}
SIZES = {"small": 1 / 3, "moderate": 1 / 3, "large": 1 / 3}
GRADES = {"mild": 1 / 3, "moderate": 1 / 3, "severe": 1 / 3}
DEVICES = {"endotracheal tube": 1 / 3, "central venous catheter": 1 / 3, "pacemaker": 1 / 3}

# finding -> attribute -> value -> probability, given that the finding is present. Sides are the
# patient's: the patient's left lung lies on the right of the image.
ATTRIBUTES: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "atelectasis": {"side": SIDES_OR_BOTH},
    "cardiomegaly": {"level": GRADES},
    "consolidation": {"side": SIDES, "zone": ZONES},
    "edema": {"level": GRADES},
    "lung_opacity": {"side": SIDES, "zone": ZONES},
    "pleural_effusion": {"side": SIDES_OR_BOTH, "level": SIZES},
    "pneumonia": {"side": SIDES, "zone": ZONES},
    "pneumothorax": {"side": SIDES, "level": SIZES},
    "support_devices": {"kind": DEVICES},
}

# An attribute more that only a lateral view shows. It is drawn where a study has laterals or
# reports that speak of it, from a stream of its own: all else stays as it is without.
DEPTHS = {"anterior": 0.5, "posterior": 0.5}
WITH_DEPTH = ("consolidation", "lung_opacity", "pneumonia")


@dataclass(frozen=True)
class ReportNoise:
    """How often a report is wrong. Each is a probability; 0 is a faithful report.

    omission: a present finding is not mentioned. flip: a mentioned finding is said with the other
    polarity. wrong_side, wrong_level: the attribute is replaced by another of its values.
    """

    omission: float = 0.0
    flip: float = 0.0
    wrong_side: float = 0.0
    wrong_level: float = 0.0


@dataclass(frozen=True)
class PhantomConfig:
    """Everything that defines a synthetic study. Same config and seed: same bytes.

    `prevalence` is given that the study is abnormal (probability `abnormal`); in a normal study no
    finding is present. `confounded` adds `edema_given_cardiomegaly`, `devices_given_ap` and
    `devices_given_edema` to the prevalences. `mention_absent` is the probability that an absent
    finding is denied; a present one is always mentioned, unless the report's noise omits it.
    """

    seed: int = 0
    image_size: int = 256
    abnormal: float = 0.75
    prevalence: Mapping[str, float] = field(
        default_factory=lambda: {
            "atelectasis": 0.30,
            "cardiomegaly": 0.30,
            "consolidation": 0.30,
            "edema": 0.25,
            "lung_opacity": 0.30,
            "pleural_effusion": 0.30,
            "pneumonia": 0.25,
            "pneumothorax": 0.25,
            "support_devices": 0.25,
        }
    )
    confounded: bool = True
    ap_view: float = 0.5
    edema_given_cardiomegaly: float = 0.15
    devices_given_ap: float = 0.15
    devices_given_edema: float = 0.15
    mention_absent: float = 0.35
    mention_normal: float = 0.60  # "no acute process", where nothing is present
    uncertain: float = 0.10  # a present finding is hedged ("possible"); tells nothing
    fillers: tuple[int, ...] = (
        1,
        2,
    )  # uninformative sentences, counts equally likely
    noise: ReportNoise = field(default_factory=ReportNoise)
    contrast: tuple[float, float] = (0.6, 1.0)  # of a finding, 1 is plain; uniform
    second_image: float = 0.08  # a study with a second frontal image (same state, new exposure)
    studies_per_patient: tuple[int, ...] = (1, 1, 2, 3)  # each equally likely
    lateral_view: float = 0.0  # a study has a lateral view too
    depth_said: float = 0.0  # a sentence on a present finding of `WITH_DEPTH` says its depth
    record_reversed: bool = False  # findings make a stay shorter and milder: a second hospital

    @property
    def has_depth(self) -> bool:
        """Whether findings of `WITH_DEPTH` have a depth."""
        return self.lateral_view > 0 or self.depth_said > 0


def said_attributes(config: PhantomConfig, name: str) -> Mapping[str, Mapping[str, float]]:
    """attribute -> value -> probability of all that a sentence on a present finding may say."""
    depth = {"depth": DEPTHS} if config.depth_said > 0 and name in WITH_DEPTH else {}
    return {**ATTRIBUTES[name], **depth}
