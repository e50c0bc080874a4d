"""Does an image find its text, and a text its image? Taught in 09_reading_the_model.

Scores are [n, T], of every image with every distinct text of a split (`held_out.SplitScores`): of
whole reports, or of sentences.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import gammaln, logsumexp

from localmi.errors import ConfigError, DataError, check_name
from localmi.evaluate import weighted_statistics
from localmi.statistics import (
    NO_NUMBER,
    Interval,
    Statistic,
    bootstrap,
    mean_interval,
)

Query = Literal["image_to_text", "text_to_image"]  # what looks for what


@dataclass(frozen=True)
class Retrieval:
    """What a query finds among `pool` candidates.

    recall: k -> share of queries with a right candidate among the first k.
    chance: k -> the same for random scores (`random_ranks`). Other than k / pool where texts occur
        twice: an image has more right texts, but those that are wrong take several places.
    median_rank: of the first right candidate; 1 is the best, random scores give pool / 2 or less.
    """

    recall: dict[int, Interval]
    chance: dict[int, float]
    median_rank: Interval
    pool: int
    draws: int


@dataclass(frozen=True)
class ClassRetrieval:
    """Share of images with the class among the first k that a query of the class finds.

    by_class: name -> k -> precision; NaN for a class that no image has, or all have.
    mean: k -> over the other classes. prevalence: name -> what a random order gives.
    note: the classes that are left out; "" otherwise.
    """

    by_class: dict[str, dict[int, Interval]]
    mean: dict[int, Interval]
    prevalence: dict[str, float]
    note: str = ""


def first_ranks(scores: ArrayLike, relevant: ArrayLike) -> np.ndarray:
    """The rank of each query's first right candidate, 1 the best: [Q] float.

    Where candidates tie, the mean over all orders of the ties: among t that tie, r of them right
    and b before them, b + (t + 1) / (r + 1). A model that scores all alike gains nothing by it.

    Args:
        scores: [Q, C], higher is better.
        relevant: [Q, C] bool, right candidates; at least one a query.

    Raises:
        DataError: shapes differ, a score is NaN, a query has no right candidate.
    """
    values, right = np.asarray(scores), np.asarray(relevant, bool)
    if values.ndim != 2 or values.shape != right.shape or np.isnan(values).any():
        raise DataError(
            f"Scores {values.shape} and relevant {right.shape} must be [queries, candidates] "
            f"both, without NaN; {np.isnan(values).sum()} scores are NaN."
        )
    if not right.any(axis=1).all():
        lost = np.flatnonzero(~right.any(axis=1))
        raise DataError(f"{len(lost)} queries have no right candidate, the first is {lost[0]}.")
    best = np.where(right, values, -np.inf).max(axis=1, keepdims=True)
    before, tied = (values > best).sum(axis=1), values == best
    ranks: np.ndarray = before + (tied.sum(axis=1) + 1) / ((tied & right).sum(axis=1) + 1)
    return ranks


def random_ranks(relevant: ArrayLike, candidates: ArrayLike, longest: int) -> np.ndarray:
    """What `first_ranks` gives for random scores: the probability of rank 1 .. longest.

    A candidate that stands in the pool c times has one score, so it takes c places together, and
    what is drawn at random is the order of the U different ones. If m of them are right, the first
    j are a given set of wrong ones and the next is right with probability
    m / (U - j) / binom(U, j); the rank is one more than the places that the set takes. Where
    nothing stands twice, this is hypergeometric.

    Args:
        relevant: [Q, C] bool, right candidates; the same for the same candidate.
        candidates: [C], equal where a candidate is the same.

    Returns:
        [Q, longest].
    """
    _, first, copies = np.unique(candidates, return_index=True, return_counts=True)
    right = np.asarray(relevant, bool)[:, first]  # [Q, U]
    ways = np.full((len(right), longest, longest), -np.inf)  # log of the sets of j in s places
    ways[:, 0, 0] = 0
    for places in np.unique(copies[copies < longest]):
        number, fewer = (~right[:, copies == places]).sum(axis=1), ways.copy()
        for some in range(1, (longest - 1) // places + 1):
            target = ways[:, some:, some * places :]
            added = fewer[:, :-some, : -some * places] + _log_binomial(number, some)[:, None, None]
            np.logaddexp(target, added, out=target)
    total, number = right.shape[1], right.sum(axis=1)[:, None]
    before = np.minimum(np.arange(longest), total - 1)
    then = np.log(number / (total - before)) - _log_binomial(total, before)
    found: np.ndarray = np.exp(logsumexp(ways + then[:, :, None], axis=1))
    return found


def _log_binomial(number: np.ndarray | int, some: np.ndarray | int) -> np.ndarray:
    """log binom(number, some), -inf where there are not so many."""
    found: np.ndarray = gammaln(number + 1) - gammaln(some + 1) - gammaln(number - some + 1)
    return found


def retrieval(
    scores: ArrayLike,
    own: ArrayLike,
    patients: ArrayLike,
    *,
    direction: Query = "image_to_text",
    pool: int = 0,
    ks: Sequence[int] = (1, 5, 10),
    draws: int = 20,
    resamples: int = 2000,
    seed: int = 0,
) -> Retrieval:
    """R@k and median rank, in random pools of pairs of an image and one text of its report.

    Both depend on the size of the pool, so compare only within one size. A text that stands in
    several reports of the pool is right for each of them: duplicates are hits. A rank at ties is
    the mean over their orders (`first_ranks`), and must be at most k.

    Args:
        scores: [n, T].
        own: [n, T] bool, texts that stand in the image's report: one of whole reports, several
            of sentences. One of them is drawn for each pool.
        patients: [n], resampled as wholes for the intervals.
        pool: images, and texts, a draw; 0 is all images.
        draws: pools.
        seed: of pools, texts and intervals.

    Raises:
        DataError: shapes that do not fit, an image without a text, a NaN.
        ConfigError: unknown direction, a pool larger than the split, or k larger than the pool.

    Taught in 09_reading_the_model.
    """
    check_name("direction", direction, get_args(Query))
    values, mine, owners = np.asarray(scores), np.asarray(own, bool), np.asarray(patients)
    if values.shape != mine.shape or owners.shape != values.shape[:1]:
        raise DataError(f"scores {values.shape}, own {mine.shape}, patients {owners.shape}.")
    if not len(mine) or not mine.any(axis=1).all():
        raise DataError(f"{(~mine.any(axis=1)).sum()} of {len(mine)} images have no own text.")
    size = pool or len(values)
    if size > len(values) or max(ks) > size or min(ks) < 1:
        raise ConfigError(f"pool={size} and k={list(ks)} of {len(values)} images: k <= pool <= n.")
    rng = np.random.default_rng(seed)
    index, ranks = np.empty((2, draws, size))
    random = np.zeros(max(ks))
    for draw in range(draws):
        images = rng.choice(len(values), size=size, replace=False)
        texts = np.array([rng.choice(np.flatnonzero(mine[image])) for image in images])
        found, right = values[np.ix_(images, texts)], mine[np.ix_(images, texts)]
        candidates = texts
        if direction == "text_to_image":
            found, right, candidates = found.T, right.T, images
        index[draw], ranks[draw] = images, first_ranks(found, right)
        random += random_ranks(right, candidates, max(ks)).mean(axis=0) / draws
    groups, flat = owners[index.ravel().astype(int)], ranks.ravel()
    return Retrieval(
        recall={k: mean_interval(flat <= k, groups, resamples=resamples, seed=seed) for k in ks},
        chance={k: float(random[:k].sum()) for k in ks},
        median_rank=_interval(weighted_statistics.median(flat), groups, resamples, seed),
        pool=size,
        draws=draws,
    )


def class_retrieval(
    scores: ArrayLike,
    present: ArrayLike,
    patients: ArrayLike,
    *,
    names: Sequence[str],
    ks: Sequence[int] = (5, 10),
    resamples: int = 2000,
    seed: int = 0,
) -> ClassRetrieval:
    """Class-based retrieval: P@k of images for one query a class.

    Args:
        scores: [n, C] of every image with the query of each class (`zero_shot_scores`).
        present: [n, C] bool, the images that have the class.
        patients: [n], resampled as wholes.
        names: [C].
        ks: each at most n.

    Raises:
        DataError: shapes that do not fit, a NaN.
        ConfigError: k is larger than the number of images.

    Source: Zhang et al. 2022 (ConVIRT), https://arxiv.org/abs/2010.00747. Taught in
    09_reading_the_model.
    """
    values, truth, owners = (
        np.asarray(scores, float),
        np.asarray(present, bool),
        np.asarray(patients),
    )
    shape = (len(owners), len(names))
    if values.shape != shape or truth.shape != shape or np.isnan(values).any():
        raise DataError(f"scores {values.shape}, present {truth.shape}: expected {shape}, no NaN.")
    if max(ks) > len(values) or min(ks) < 1:
        raise ConfigError(f"k={list(ks)} of {len(values)} images: k must be 1 to {len(values)}.")
    able: list[int] = np.flatnonzero(truth.any(axis=0) & ~truth.all(axis=0)).tolist()
    by_class = {name: dict.fromkeys(ks, NO_NUMBER) for name in names}
    mean = dict.fromkeys(ks, NO_NUMBER)
    for k in ks if able else ():
        found = [weighted_statistics.precision_at(truth[:, c], values[:, c], k) for c in able]
        for c, one in zip(able, found, strict=True):
            by_class[names[c]][k] = _interval(one, owners, resamples, seed)
        mean[k] = _interval(weighted_statistics.mean_of(found), owners, resamples, seed)
    missing = [name for c, name in enumerate(names) if c not in able]
    note = f"without {', '.join(missing)}: no image has it, or all have" if missing else ""
    prevalence = dict(zip(names, truth.mean(axis=0).tolist(), strict=True))
    return ClassRetrieval(by_class, mean, prevalence, note)


def zero_shot_scores(
    scores: ArrayLike,
    positive: Mapping[str, Sequence[int]],
    negative: Mapping[str, Sequence[int]],
) -> np.ndarray:
    """A score of each finding from sentences alone, for `classification.multi_label_metrics`.

    log mean exp over the sentences that affirm it - log mean exp over those that deny it. A
    perfect critic is f(x, s) = log p(s | x) / p(s) + a constant of x (chapter 2), so this is the
    log odds of being affirmed, up to a constant of the finding, where the sentences are as
    frequent as each other.

    Args:
        scores: [n, T] of every image with every sentence.
        positive, negative: finding -> columns of the sentences.

    Returns:
        [n, findings], in the order of `positive`.

    Raises:
        DataError: a finding has no sentence, or a column that is not there.

    Taught in 09_reading_the_model.
    """
    values, found = np.asarray(scores), []
    for finding in positive:
        sides = [list(side.get(finding, ())) for side in (positive, negative)]
        if not all(sides) or not all(0 <= c < values.shape[1] for side in sides for c in side):
            raise DataError(
                f"{finding}: columns {sides[0]} affirm and {sides[1]} deny it; give at least one "
                f"of each, from 0 to {values.shape[1] - 1}."
            )
        affirm, deny = (
            logsumexp(values[:, side].astype(float), axis=1) - np.log(len(side)) for side in sides
        )
        found.append(affirm - deny)
    return np.stack(found, axis=1)


def _interval(statistic: Statistic, patients: np.ndarray, resamples: int, seed: int) -> Interval:
    return bootstrap(statistic, patients, resamples=resamples, seed=seed).interval
