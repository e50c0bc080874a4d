"""Exercises of chapter 9: a stub fails, a solution passes, wrong answers are told why."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from answers import refused, stub
from scipy.stats import rankdata

from localmi.course import check

NAMES = ["exercise_9_1", "exercise_9_2", "exercise_9_3"]


@pytest.mark.parametrize("name", NAMES)
def test_a_stub_is_not_tried(name: str) -> None:
    assert getattr(check, name)(stub).status == "not tried yet"


def pixels_of(heat: np.ndarray, mask: np.ndarray) -> np.ndarray:
    side = len(mask) // len(heat)
    return heat.repeat(side, axis=0).repeat(side, axis=1)


def in_and_out(heat: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    pixels = pixels_of(heat, mask)
    return pixels[mask], pixels[~mask]


# 9.1


def cnr(
    noise: Callable[[np.ndarray, np.ndarray], float], *, absolute: bool = False, sign: int = 1
) -> Callable[[np.ndarray, np.ndarray], float]:
    def answer(heat: np.ndarray, mask: np.ndarray) -> float:
        inside, outside = in_and_out(heat, mask)
        contrast = sign * (inside.mean() - outside.mean())
        return float(abs(contrast) if absolute else contrast) / noise(inside, outside)

    return answer


def right_noise(inside: np.ndarray, outside: np.ndarray) -> float:
    return float(np.sqrt(inside.var() + outside.var()))


def by_regions(heat: np.ndarray, mask: np.ndarray) -> float:
    """Weights instead of pixels."""
    side = len(mask) // len(heat)
    inside = mask.reshape(len(heat), side, len(heat), side).sum(axis=(1, 3))
    moments = []
    for weight in (inside, side**2 - inside):
        mean = np.average(heat, weights=weight)
        moments.append((mean, np.average((heat - mean) ** 2, weights=weight)))
    (first, spread), (second, other) = moments
    return float((first - second) / np.sqrt(spread + other))


def of_regions(heat: np.ndarray, mask: np.ndarray) -> float:
    touched = mask.reshape(2, 4, 2, 4).any(axis=(1, 3))
    return float(heat[touched].mean() - heat[~touched].mean())


def by_torch(heat: np.ndarray, mask: np.ndarray) -> torch.Tensor:
    pixels, marked = torch.from_numpy(pixels_of(heat, mask)), torch.from_numpy(mask)
    inside, outside = pixels[marked], pixels[~marked]
    noise = (inside.var(correction=0) + outside.var(correction=0)).sqrt()
    return (inside.mean() - outside.mean()) / noise


def by_a_loop(heat: np.ndarray, mask: np.ndarray) -> float:
    side, found = len(mask) // len(heat), {True: [], False: []}
    for row in range(len(mask)):
        for column in range(len(mask)):
            found[bool(mask[row, column])].append(heat[row // side, column // side])
    means = {where: sum(values) / len(values) for where, values in found.items()}
    spread = sum(
        sum((v - means[where]) ** 2 for v in values) / len(values)
        for where, values in found.items()
    )
    return (means[True] - means[False]) / spread**0.5


@pytest.mark.parametrize("answer", [cnr(right_noise), by_regions, by_torch, by_a_loop])
def test_contrasts_that_are_right(answer: Callable[..., float]) -> None:
    assert check.exercise_9_1(answer).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (cnr(lambda i, o: 1.0), "divide it by the noise"),
        (cnr(right_noise, sign=-1), "the sign is turned"),
        (cnr(right_noise, absolute=True), "no absolute value"),
        (cnr(lambda i, o: i.var() + o.var()), "the noise is the root"),
        (cnr(lambda i, o: i.std() + o.std()), "take one root"),
        (cnr(lambda i, o: np.sqrt((i.var() + o.var()) / 2)), "not their mean"),
        (cnr(lambda i, o: np.concatenate([i, o]).std()), "not of all pixels"),
        (cnr(lambda i, o: np.sqrt(i.var(ddof=1) + o.var(ddof=1))), "divide by n ("),
        (of_regions, "count pixels"),
        (lambda heat, mask: 0.0, "a map of four regions"),
        (lambda heat, mask: heat, "one number"),
    ],
)
def test_contrasts_that_are_wrong(answer: Callable[..., Any], words: str) -> None:
    refused("exercise_9_1", answer, words)


# 9.2


def share(
    below: Callable[[np.ndarray, np.ndarray], float],
    scale: Callable[[np.ndarray], np.ndarray] = lambda heat: (heat - heat.min()) / np.ptp(heat),
    *,
    strict: bool = False,
) -> Callable[[np.ndarray, np.ndarray, float], float]:
    def answer(heat: np.ndarray, mask: np.ndarray, threshold: float) -> float:
        scaled = pixels_of(scale(heat), mask)
        marked = scaled > threshold if strict else scaled >= threshold
        return float((marked & mask).sum() / below(marked, mask))

    return answer


def union(marked: np.ndarray, mask: np.ndarray) -> float:
    return float((marked | mask).sum())


def iou_by_torch(heat: np.ndarray, mask: np.ndarray, threshold: float) -> torch.Tensor:
    scaled = torch.from_numpy((heat - heat.min()) / np.ptp(heat))
    side = len(mask) // len(heat)
    marked = (scaled >= threshold).repeat_interleave(side, 0).repeat_interleave(side, 1)
    truth = torch.from_numpy(mask)
    return (marked & truth).sum() / (marked | truth).sum()


def iou_by_a_loop(heat: np.ndarray, mask: np.ndarray, threshold: float) -> float:
    side, both, either = len(mask) // len(heat), 0, 0
    limit = heat.min() + threshold * (heat.max() - heat.min())
    for row in range(len(mask)):
        for column in range(len(mask)):
            marked = heat[row // side, column // side] >= limit
            both += marked and mask[row, column]
            either += marked or mask[row, column]
    return both / either


@pytest.mark.parametrize(
    "answer",
    [
        share(union),
        share(lambda a, b: a.sum() + b.sum() - (a & b).sum()),
        iou_by_torch,
        iou_by_a_loop,
    ],
)
def test_overlaps_that_are_right(answer: Callable[..., float]) -> None:
    assert check.exercise_9_2(answer).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (share(lambda a, b: a.sum()), "share of the marked pixels"),
        (share(lambda a, b: b.sum()), "share of the mask"),
        (share(lambda a, b: (a.sum() + b.sum()) / 2), "that is Dice"),
        (share(lambda a, b: a.sum() + b.sum()), "counts what both share once"),
        (share(union, lambda heat: heat), "scale the map"),
        (share(union, lambda heat: heat / heat.max()), "subtract the minimum"),
        (share(union, strict=True), "use >="),
        (share(union, lambda heat: rankdata(heat).reshape(heat.shape) / 4), "no quantile"),
        (lambda h, m, t: share(union, lambda heat: heat)(h, m, np.quantile(h, t)), "no quantile"),
        (share(union, lambda heat: np.exp(heat - heat.max())), "scale evenly"),
        (lambda heat, mask, threshold: 0.1, "in both"),
    ],
)
def test_overlaps_that_are_wrong(answer: Callable[..., float], words: str) -> None:
    refused("exercise_9_2", answer, words)


# 9.3


def recall(scores: np.ndarray, right: np.ndarray, k: int) -> float:
    first = np.argsort(-scores, axis=1)[:, :k]
    return float(np.take_along_axis(right, first, axis=1).any(axis=1).mean())


def by_loops(scores: np.ndarray, right: np.ndarray, k: int) -> float:
    hits = 0
    for row, own in zip(scores, right, strict=True):
        ranks = [1 + sum(row > row[text]) for text in np.flatnonzero(own)]
        hits += min(ranks) <= k
    return hits / len(scores)


def of_the_diagonal(scores: np.ndarray, right: np.ndarray, k: int) -> float:
    ranks = 1 + (scores > scores.diagonal()[:, None]).sum(axis=1)
    return float((ranks <= k).mean())


def share_of_right(scores: np.ndarray, right: np.ndarray, k: int) -> float:
    first = np.argsort(-scores, axis=1)[:, :k]
    found = np.take_along_axis(right, first, axis=1).sum(axis=1)
    return float((found / right.sum(axis=1)).mean())


def precision(scores: np.ndarray, right: np.ndarray, k: int) -> float:
    first = np.argsort(-scores, axis=1)[:, :k]
    return float(np.take_along_axis(right, first, axis=1).mean())


def recall_by_torch(scores: np.ndarray, right: np.ndarray, k: int) -> torch.Tensor:
    first = torch.from_numpy(scores).topk(k, dim=1).indices
    return torch.from_numpy(right).gather(1, first).any(dim=1).double().mean()


@pytest.mark.parametrize("answer", [recall, by_loops, recall_by_torch])
def test_recalls_that_are_right(answer: Callable[..., float]) -> None:
    assert check.exercise_9_3(answer).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (of_the_diagonal, "right for both"),
        (lambda s, r, k: recall(s, r, k + 1), "ranks begin with 1"),
        (lambda s, r, k: recall(-s, r, k), "lowest score"),
        (share_of_right, "one right text"),
        (precision, "one right text"),
        (lambda s, r, k: recall(s.T, r.T, min(k, 4)), "looks for an image"),
        (lambda s, r, k: recall(s, r, k) * len(s), "number of hits"),
        (lambda s, r, k: recall(s, r, k) if k < 5 else 0.9, "R@5"),
        (lambda s, r, k: s, "one number"),
    ],
)
def test_recalls_that_are_wrong(answer: Callable[..., Any], words: str) -> None:
    refused("exercise_9_3", answer, words)


# Tried in many forms and sizes by test_exercises.py: the right answers, and what is square.
ANSWERS = {
    "exercise_9_1": [cnr(right_noise), by_regions, by_torch, by_a_loop],
    "exercise_9_2": [share(union), iou_by_torch, iou_by_a_loop],
    "exercise_9_3": [recall, by_loops, recall_by_torch],
}
SQUARE = {"exercise_9_1", "exercise_9_2"}  # maps and images
