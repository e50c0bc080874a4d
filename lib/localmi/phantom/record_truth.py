"""What a patient's record tells of the findings, exact, by enumeration. In nats.

I(X; R) of the presence vector X of a study and the record R: sex, age, the view, and the stay,
one of 17 symbols: not admitted, or intensive care, death and a band of length. X and the view are
enumerated as in `truth`; given X the stay does not look at the view. Death is possible at a
patient's last study alone, and the number of studies does not look at X: so the stay is drawn from
a mixture over the kinds of studies, whose shares are known. Sex and age are drawn without looking
at X and tell nothing.

Source: design of the synthetic record (7-limitr-and-records, 2.1).
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import get_args

import numpy as np
from scipy.special import rel_entr

from localmi.data.record_features import GROUPS
from localmi.errors import ConfigError, check_name
from localmi.names import RecordVariable
from localmi.phantom.config import PhantomConfig
from localmi.phantom.record import ADMITTED, SYMBOLS, Symbol, kinds_of_study, stay_distribution
from localmi.phantom.statements import check_config, topics
from localmi.phantom.truth import state_distribution

# What `truth.json` has: position follows from the view, bands of age from age.
TOLD = ("sex", "age", "view", "icu", "died", "stay_days", "demographic", "scan", "stay")
VIEWS = ("AP", "PA")
STAYS: tuple[Symbol | None, ...] = (None, *SYMBOLS)  # None: not admitted


def true_record_mi(
    config: PhantomConfig, variables: RecordVariable | Iterable[RecordVariable]
) -> float:
    """I(which findings are present; variables of the record), in nats, exact.

    Args:
        config: the synthetic study.
        variables: one or several, groups among them; none tell 0. That a patient was not admitted
            is a value of its own of "icu", "died" and "stay_days".

    Raises:
        ConfigError: an unknown variable, labels, or an impossible config.
    """
    single = _single(variables)
    return _information(_joint(config)[1], single)


def record_mi_table(config: PhantomConfig) -> dict[str, float]:
    """`true_record_mi` of the variables of `TOLD`, in nats, to nine decimals.

    Later digits are the processor's, and a study is the same bytes on each.
    """
    _, joint = _joint(config)
    return {name: round(_information(joint, _single(name)), 9) for name in TOLD}


def record_auc(
    config: PhantomConfig, finding: str, variables: RecordVariable | Iterable[RecordVariable]
) -> float:
    """AUC of the best score for a finding that the record alone allows, exact.

    The score is P(finding present | variables); equal scores count half, as in scikit-learn.

    Args:
        finding: one that the config gives a prevalence.
        variables: as in `true_record_mi`; none give .5.

    Raises:
        ConfigError: an unknown finding or variable, labels, an impossible config, or a finding
            that no study has, or every one.
    """
    single, names = _single(variables), topics(config)
    check_name("finding", finding, names)
    states, joint = _joint(config)
    here, seen = states[:, names.index(finding)], _merged(joint, single)
    present, absent = seen[here].sum(axis=0), seen[~here].sum(axis=0)  # [symbols]
    if min(present.sum(), absent.sum()) <= 0:
        raise ConfigError(
            f"{finding} is present in {present.sum():.0%} of the studies, so no score can tell "
            "them apart. Give it another prevalence."
        )
    best_first = np.argsort(-present / np.maximum(present + absent, np.finfo(float).tiny))
    hits, false_alarms = (
        np.append(0.0, shares[best_first].cumsum() / shares.sum()) for shares in (present, absent)
    )
    return float(np.trapezoid(hits, false_alarms))


def _single(variables: str | Iterable[str]) -> set[str]:
    """The variables, groups taken apart."""
    single: set[str] = set()
    for name in [variables] if isinstance(variables, str) else variables:
        check_name("variable of the record", name, get_args(RecordVariable))
        if name == "labels":
            raise ConfigError(
                "Labels are of no record; what a report tells: true_mi(..., 'report')."
            )
        single.update(GROUPS.get(name, (name,)))
    return single


def _information(joint: np.ndarray, variables: set[str]) -> float:
    merged = _merged(joint, variables)
    if merged.shape[1] == 1:
        return 0.0
    independent = merged.sum(axis=1, keepdims=True) * merged.sum(axis=0)
    return max(0.0, float(rel_entr(merged, independent).sum()))  # not -5e-15


def _joint(config: PhantomConfig) -> tuple[np.ndarray, np.ndarray]:
    """All presence vectors [S = 2^n, n] bool; and P(presence, view, stay): [S, 2, 17], in the
    order of `VIEWS` and `STAYS`."""
    check_config(config)
    names, joint = topics(config), []
    for share, ap_view in ((config.ap_view, 1.0), (1.0 - config.ap_view, 0.0)):
        states, probability = state_distribution(replace(config, ap_view=ap_view))
        joint.append(share * probability[:, None] * _stay_channel(config, names, states))
    return states, np.stack(joint, axis=1)


def _stay_channel(config: PhantomConfig, names: tuple[str, ...], states: np.ndarray) -> np.ndarray:
    """P(stay | presence): [S, 17], over the kinds of studies."""
    channel = np.zeros((len(states), len(STAYS)))
    for kind in kinds_of_study(config):
        admitted = ADMITTED * kind.has_room
        stays = stay_distribution(config, names, states, may_die=kind.may_die)
        channel[:, 0] += kind.share * (1 - admitted)
        channel[:, 1:] += kind.share * admitted * stays
    return channel


def _merged(joint: np.ndarray, variables: set[str]) -> np.ndarray:
    """P(presence, what is seen of view and stay): [S, symbols], of a joint [S, 2, 17]."""
    number: dict[tuple[object, ...], int] = {}
    columns = [
        number.setdefault(_seen(view, stay, variables), len(number))
        for view in VIEWS
        for stay in STAYS
    ]
    merged = np.zeros((len(joint), len(number)))
    np.add.at(merged.T, columns, joint.reshape(len(joint), -1).T)
    return merged


def _seen(view: str, stay: Symbol | None, variables: set[str]) -> tuple[object, ...]:
    """What these variables say of a study."""
    values: dict[str, object] = {
        "view": view,
        "position": view,  # AP lies, PA stands
        "admitted": stay is not None,
        "icu": stay and stay.icu,
        "died": stay and stay.died,
        "stay_days": stay and stay.length,
    }
    return tuple(value for name, value in values.items() if name in variables)
