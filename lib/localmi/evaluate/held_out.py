"""The bound on images the model has not seen: computed from scores alone, with an interval."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from localmi.mi.estimators import caps, reported_terms
from localmi.mi.scores import may_mismatch
from localmi.names import Bound, Direction
from localmi.statistics import Interval, draw_texts, mean_interval, partners


@dataclass(frozen=True)
class SplitScores:
    """Scores of every image of a split with every distinct text of the split.

    scores, winners: [n, T], after the max over regions, and the region that won (0 if global);
        float32 and int16, as `best_region` gives them.
    study, patient: [n], of each image. text_ids: of each study, the texts that are its own.
    """

    scores: Tensor
    winners: Tensor
    study: np.ndarray
    patient: np.ndarray
    text_ids: Sequence[np.ndarray]


def best_region(scores: Tensor) -> tuple[Tensor, Tensor]:
    """The hard max over regions [n, N, T]: `scores` and `winners` of `SplitScores`."""
    best, winners = scores.max(dim=1)
    return best, winners.to(torch.int16)  # a grid has fewer than 2**15 regions, a split many pairs


@dataclass(frozen=True)
class HeldOutBound:
    """A bound in nats, its 95 % interval over patients, and its cap: InfoNCE's of its batches."""

    bound: Interval
    cap: float
    batch_size: int
    rounds: int


@dataclass(frozen=True)
class BoundAndControl:
    """What a model reached on a split: the bound on matched pairs; and the control, the same on
    shuffled pairs, by a network that was trained on shuffled pairs."""

    held_out: HeldOutBound
    shuffled: HeldOutBound


@dataclass(frozen=True)
class SplitResult(BoundAndControl):
    """The same with the scores that it is of."""

    scores: SplitScores


def held_out_bound(
    split: SplitScores,
    *,
    bound: Bound = "infonce",
    direction: Direction = "symmetric",
    log_baseline: float = 0.0,
    batch_size: int = 128,
    rounds: int = 50,
    shuffled: bool = False,
    seed: int = 0,
    sentences: int = 1,
) -> HeldOutBound:
    """Mean over `rounds` random batches of held-out images, one text drawn for each.

    Images are drawn without replacement within a batch. Every image has its own term of the bound,
    so the interval resamples patients over the means of their terms. With `shuffled` each image is
    paired with the text of another study of its batch: nothing to find, so a critic that was
    trained on such pairs must give 0.

    Args:
        split: scores of the split; nothing of it may have been trained or selected on.
        bound: a row of `mi.estimators`, that which the critic was trained by.
        direction: of the bounds that compare along rows or columns.
        log_baseline: TUBA's log a, from other pairs.
        batch_size: K of the bound; at most the number of images.
        sentences: drawn for each image, or as many as its study has; their scores are added up.

    Raises:
        ConfigError: unknown bound or direction.
    """
    rng = np.random.default_rng(seed)
    number = len(split.study)
    size = min(batch_size, number)
    total, cap, count = np.zeros(number), np.zeros(number), np.zeros(number)
    terms = reported_terms(bound, direction=direction, log_baseline=log_baseline)
    for _ in range(rounds):
        index = rng.choice(number, size=size, replace=False)
        texts = [draw_texts(split.text_ids[study], sentences, rng) for study in split.study[index]]
        partner = np.arange(size)
        if shuffled:
            partner[partners(split.study[index])] = np.arange(size)
        of_batch = split.scores[torch.from_numpy(index)]
        scores = torch.stack([of_batch[:, texts[one]].sum(dim=1) for one in partner], dim=1)
        study = torch.from_numpy(split.study[index])
        allowed = may_mismatch(study, study[partner], torch.arange(size), same_text=True)
        used = (study != study[partner]).numpy() if shuffled else np.full(size, True)
        total[index[used]] += terms(scores, allowed).numpy()[used]
        cap[index[used]] += caps(bound, allowed, direction=direction).numpy()[used]
        count[index[used]] += 1
    seen = count > 0
    interval = mean_interval(total[seen] / count[seen], split.patient[seen], seed=seed)
    cap_of_all = float((cap[seen] / count[seen]).mean())
    return HeldOutBound(interval, cap=cap_of_all, batch_size=size, rounds=rounds)
