"""The exact mutual information of hidden state and report, by enumeration. All in nats.

What is computed is I(H; sentence), H the hidden state of the study. The image is made from H and
from nuisance that the report does not know, so I(image; sentence) <= I(H; sentence) (data
processing), with equality where the image determines what the report speaks of. An estimate from
images should therefore end at or below this number.

Attributes factorise. Write a sentence as S = (K, A'): K which statement (finding and polarity,
"normal", filler), A' the said attributes. K depends on H only through the presence vector X, so
I(H; S) = I(X; K) + I(H; A' | K). Given K = "f is present", A' is the true attributes sent through
noise if f is present, else a draw from the same marginal: it tells nothing of X. What is left is
I(H; A' | K) = sum_f P(K = "f is present", X_f = 1) * sum_a I(A_fa; A'_fa), each attribute being
independent of the rest. (A depth that is said at a rate tells that share of its entropy.) The
same holds for the set of all statements. Hedging, wording, style and
order are drawn without looking at H (V^R of the paper's Fig. 3) and add nothing.

Source: spec of the synthetic study (3-data); the paper's Fig. 3. Taught in
05_radiographs_and_reports.
"""

import itertools
from collections.abc import Mapping
from typing import get_args

import numpy as np
from scipy.special import entr, rel_entr

from localmi.errors import check_name
from localmi.names import Unit
from localmi.phantom.config import ATTRIBUTES, DEPTHS, WITH_DEPTH, PhantomConfig
from localmi.phantom.latents import DRAW_ORDER, finding_probability
from localmi.phantom.statements import (
    NORMAL,
    Statement,
    check_config,
    error_rate,
    mention_probability,
    topics,
)

Attributes = Mapping[str, Mapping[str, Mapping[str, float]]]


def true_mi(
    config: PhantomConfig, target: Unit = "sentence", attributes: Attributes = ATTRIBUTES
) -> float:
    """I(hidden state; what the report says), in nats, exact.

    Args:
        config: the synthetic study.
        target: "sentence", one sentence drawn uniformly from the report's findings and
            impression (all fillers are one symbol; a report without sentences is left out);
            "report", the set of all its statements.
        attributes: finding -> attribute -> value -> probability; a finding that is missing here
            has none. `compose_report` always uses the default. The depth of a finding is not one
            of them: `config.depth_said` adds it.

    Raises:
        ConfigError: unknown target, or an impossible config.

    Taught in 05_radiographs_and_reports.
    """
    check_name("target", target, get_args(Unit))
    check_config(config)
    states, probability = state_distribution(config)  # [S, n], [S]
    information = _sentence_mi if target == "sentence" else _report_mi
    statement_mi, truly_present = information(config, states, probability)  # nats, [n]
    per_finding = [
        sum(
            attribute_mi(values, error_rate(config.noise, name))
            for name, values in attributes.get(topic, {}).items()
        )
        + config.depth_said * attribute_mi(DEPTHS, 0.0) * (topic in WITH_DEPTH)
        for topic in topics(config)
    ]
    return float(statement_mi + truly_present @ np.array(per_finding))


def state_distribution(config: PhantomConfig) -> tuple[np.ndarray, np.ndarray]:
    """All presence vectors [S = 2^n, n] bool (n = topics, in order), and their probability [S]."""
    names = topics(config)
    drawn = [name for name in DRAW_ORDER if name in names]
    states = np.array(list(itertools.product([False, True], repeat=len(names))), bool)
    probability = np.zeros(len(states))
    for view, abnormal in itertools.product(("AP", "PA"), (False, True)):
        weight = config.ap_view if view == "AP" else 1.0 - config.ap_view
        weight *= config.abnormal if abnormal else 1.0 - config.abnormal
        for row, state in enumerate(states):
            present = dict(zip(names, map(bool, state), strict=True))
            chances = [
                finding_probability(config, name, abnormal, view, present) for name in drawn
            ]
            probability[row] += weight * np.prod(
                [p if present[name] else 1.0 - p for p, name in zip(chances, drawn, strict=True)]
            )
    return states, probability


def marginals(config: PhantomConfig) -> dict[str, float]:
    """P(finding present), over all studies, normal ones included."""
    states, probability = state_distribution(config)
    return dict(zip(topics(config), map(float, probability @ states), strict=True))


def attribute_mi(values: Mapping[str, float], error: float) -> float:
    """I(true; said) of one attribute whose value is replaced, w.p. `error`, by another one."""
    prior = np.array(list(values.values()))
    others = len(prior) - 1
    if others == 0:
        return 0.0
    said = prior * (1.0 - error) + (1.0 - prior) * error / others
    noise = entr(1.0 - error) + others * entr(error / others)
    return float(entr(said).sum() - noise)


def sentence_symbol(statement: Statement) -> str:
    """The statement as one of the symbols that `true_mi` counts; hedged counts as present."""
    if statement.finding is None:
        return "filler"
    if statement.polarity in ("none", "absent"):
        return f"{statement.finding} {statement.polarity}"
    return " ".join([statement.finding, "present", *statement.attributes.values()])


def _mentions(config: PhantomConfig, states: np.ndarray) -> np.ndarray:
    """P(topic is spoken of | state): [S, n + 1], the last column "normal"."""
    names = topics(config)
    rows = []
    for state in states:
        present = [name for name, here in zip(names, state, strict=True) if here]
        rows.append([mention_probability(config, topic, present) for topic in (*names, NORMAL)])
    return np.array(rows)


def _said_present(config: PhantomConfig, states: np.ndarray) -> np.ndarray:
    """P(said present | spoken of, state): [S, n]."""
    return np.where(states, 1.0 - config.noise.flip, config.noise.flip)


def _sentence_mi(
    config: PhantomConfig, states: np.ndarray, probability: np.ndarray
) -> tuple[float, np.ndarray]:
    """I(X; K) of one sentence, and P(K = "f is present", X_f = 1) for each f: [n]."""
    joint = probability[:, None] * sentence_channel(config, states)
    joint /= joint.sum()  # below 1 only where a report may be empty
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0)
    truly_present = (joint[:, : states.shape[1]] * states).sum(axis=0)
    return float(rel_entr(joint, independent).sum()), truly_present


def sentence_channel(config: PhantomConfig, states: np.ndarray) -> np.ndarray:
    """P(one sentence drawn from the report says K | presence X): [S, 2n + 2].

    K: each topic present, each absent, "normal", filler. A row sums to less than 1 where the
    report may be empty.
    """
    mentions = _mentions(config, states)  # [S, n + 1]
    topic_share = np.empty_like(mentions)  # P(the drawn sentence is about this topic | state)
    for topic in range(mentions.shape[1]):
        others = _count_distribution(np.delete(mentions, topic, axis=1))  # [S, n + 1]
        topic_share[:, topic] = mentions[:, topic] * _expected(others, config.fillers, 1, 0)
    filler = _expected(_count_distribution(mentions), config.fillers, 0, 1)  # [S]
    said_present = _said_present(config, states)
    about_finding = topic_share[:, :-1]
    return np.column_stack(
        [
            about_finding * said_present,
            about_finding * (1 - said_present),
            topic_share[:, -1],
            filler,
        ]
    )


def _count_distribution(mentions: np.ndarray) -> np.ndarray:
    """[S, J] independent probabilities -> [S, J + 1], P(that many of them happen)."""
    counts = np.ones((len(mentions), 1))
    for column in mentions.T:
        none, one = counts * (1.0 - column[:, None]), counts * column[:, None]
        counts = np.pad(none, ((0, 0), (0, 1))) + np.pad(one, ((0, 0), (1, 0)))
    return counts


def _expected(
    counts: np.ndarray, fillers: tuple[int, ...], own: int, per_filler: int
) -> np.ndarray:
    """E[(own + per_filler * F) / (own + N + F)] for N ~ counts [S, J], F uniform on `fillers`."""
    number = np.arange(counts.shape[1])
    values = [
        (own + per_filler * filler) / np.maximum(own + number + filler, 1) for filler in fillers
    ]
    expected: np.ndarray = counts @ np.mean(values, axis=0)
    return expected


def _report_mi(
    config: PhantomConfig, states: np.ndarray, probability: np.ndarray
) -> tuple[float, np.ndarray]:
    """I(X; set of statements), and P(f said present, X_f = 1) for each f: [n]."""
    channel, normal = report_channel(config, states)
    noise = entr(channel).sum(axis=(1, 2)) + entr(normal) + entr(1 - normal)  # H(set | X), [S]
    # Given X the findings are independent: P(set) is a sum over X of a product, taken as a
    # matrix product of two halves of the findings.
    half = channel.shape[1] // 2
    first, second = _outer(channel[:, :half]), _outer(channel[:, half:])  # [S, 3^..]
    sets = [(first * (probability * said)[:, None]).T @ second for said in (normal, 1 - normal)]
    statement_mi = sum(entr(distribution).sum() for distribution in sets) - probability @ noise
    return float(statement_mi), probability @ (channel[:, :, 1] * states)


def report_channel(config: PhantomConfig, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P(the report says nothing of a topic, says it present, denies it | presence X), independent
    given X: [S, n, 3]; and P("normal" is said | X): [S]."""
    mentions, said_present = _mentions(config, states), _said_present(config, states)
    spoken = mentions[:, :-1]
    channel = np.stack([1 - spoken, spoken * said_present, spoken * (1 - said_present)], axis=2)
    return channel, mentions[:, -1]


def _outer(channel: np.ndarray) -> np.ndarray:
    """[S, m, 3] -> [S, 3^m], the joint distribution of m independent symbols."""
    joint = np.ones((len(channel), 1))
    for finding in range(channel.shape[1]):
        joint = (joint[:, :, None] * channel[:, finding, None, :]).reshape(len(channel), -1)
    return joint
