"""Exercises of chapter 8: a stub fails, a solution passes, wrong answers are told why."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from answers import refused, stub
from numpy.random import Generator
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from localmi.course import check
from localmi.course.exercises.ch08 import Auc

NAMES = ["exercise_8_1", "exercise_8_2", "exercise_8_3", "exercise_8_4"]


@pytest.mark.parametrize("name", NAMES)
def test_a_stub_is_not_tried(name: str) -> None:
    assert getattr(check, name)(stub).status == "not tried yet"


# 8.1


def each(scores: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(scores, targets, reduction="none")


def masked(scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    return (each(scores, targets) * mask).sum() / mask.sum()


def selected(scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    return cross_entropy(scores[mask], targets[mask])


def by_hand(scores: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    p = scores.sigmoid()
    loss = -(targets * p.log() + (1 - targets) * (1 - p).log())
    return loss[mask].mean()


def by_a_loop(scores: Tensor, targets: Tensor, mask: Tensor) -> float:
    found = []
    for score, target, counts in zip(
        *(x.ravel().tolist() for x in (scores, targets, mask)), strict=True
    ):
        p = 1 / (1 + np.exp(-score))
        found += [-np.log(p if target else 1 - p)] * int(counts)
    return sum(found) / len(found)


def by_numpy(scores: Tensor, targets: Tensor, mask: Tensor) -> np.ndarray:
    s, t, m = (x.numpy() for x in (scores, targets, mask))
    return ((np.logaddexp(0, s) - t * s) * m).sum() / m.sum()


@pytest.mark.parametrize("answer", [masked, selected, by_hand, by_a_loop, by_numpy])
def test_losses_that_are_right(answer: Callable[..., Tensor]) -> None:
    assert check.exercise_8_1(answer).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda s, t, m: cross_entropy(s, t), "no effect"),
        (lambda s, t, m: (each(s, t) * m).mean(), "mask.sum()"),
        (lambda s, t, m: (each(s, t) * m).sum(), "that is the sum"),
        (lambda s, t, m: ((each(s, t) * m).sum(0) / m.sum(0)).mean(), "findings' means"),
        (lambda s, t, m: ((each(s, t) * m).sum(1) / m.sum(1)).mean(), "images' means"),
        (lambda s, t, m: cross_entropy(s * m, t), "not the scores"),
        (lambda s, t, m: each(s, t) * m, "one number"),
        (lambda s, t, m: torch.tensor(0.1), "seven labels"),
    ],
)
def test_losses_that_are_wrong(answer: Callable[..., Tensor], words: str) -> None:
    refused("exercise_8_1", answer, words)


# 8.2


def pairs(targets: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return scores[targets == 1][:, None] - scores[targets == 0]


def auc_by_pairs(targets: np.ndarray, scores: np.ndarray) -> float:
    found = pairs(targets, scores)
    return float(np.mean((found > 0) + (found == 0) / 2))


def auc_by_loops(targets: np.ndarray, scores: np.ndarray) -> float:
    won, number = 0.0, 0
    for i in np.flatnonzero(targets):
        for j in np.flatnonzero(targets == 0):
            won += 1 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0
            number += 1
    return won / number


def auc_by_torch(targets: np.ndarray, scores: np.ndarray) -> Tensor:
    s, t = torch.from_numpy(scores), torch.from_numpy(targets)
    return ((s[t == 1][:, None] - s[t == 0]).sign().mean() + 1) / 2


@pytest.mark.parametrize("answer", [auc_by_pairs, auc_by_loops, auc_by_torch])
def test_aucs_that_are_right(answer: Callable[..., float]) -> None:
    assert check.exercise_8_2(answer).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda t, s: (pairs(t, s) > 0).mean(), "counts nothing"),
        (lambda t, s: (pairs(t, s) >= 0).mean(), "counts whole"),
        (lambda t, s: 1 - auc_by_pairs(t, s), "the other way round"),
        (lambda t, s: auc_by_pairs(t, s) * 12, "number of pairs won"),
        (lambda t, s: auc_by_pairs(t, s) * 12 / 49, "not by all n x n"),
        (lambda t, s: ((s > 0.5) == t).mean(), "with a tie"),
        (lambda t, s: pairs(t, s) > 0, "one number"),
        (lambda t, s: max(auc_by_pairs(t, s), auc_by_pairs(t, -s)), "below .5"),
    ],
)
def test_aucs_that_are_wrong(answer: Callable[..., Any], words: str) -> None:
    refused("exercise_8_2", answer, words)


# 8.3


def tails(softmax: np.ndarray) -> np.ndarray:
    return np.stack([softmax[:, k:].sum(axis=1) for k in (1, 2, 3)], axis=1)


@pytest.mark.parametrize(
    "answer",
    [
        tails,
        lambda p: 1 - p.cumsum(axis=1)[:, :3],
        lambda p: p[:, ::-1].cumsum(1)[:, 2::-1],
        lambda p: [[sum(row[k:]) for k in (1, 2, 3)] for row in p.tolist()],
        lambda p: torch.from_numpy(p).flip(1).cumsum(1).flip(1)[:, 1:],
    ],
)
def test_tails_that_are_right(answer: Callable[[np.ndarray], np.ndarray]) -> None:
    assert check.exercise_8_3(answer).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda p: p[:, 1:], "one class"),
        (lambda p: p.cumsum(axis=1)[:, :3], "P(grade <= k)"),
        (lambda p: p[:, ::-1].cumsum(axis=1)[:, ::-1], "P(grade >= 0) is 1"),
        (lambda p: p[:, ::-1].cumsum(axis=1)[:, :3], "the other order"),
        (lambda p: p @ np.arange(4), "gives [5, 3]"),
        (lambda p: np.zeros((5, 3)), "tail sums"),
    ],
)
def test_tails_that_are_wrong(answer: Callable[[np.ndarray], np.ndarray], words: str) -> None:
    refused("exercise_8_3", answer, words)


# 8.4


def paired_test(
    *, by_patient: bool = True, two_sided: bool = True, plus: int = 1, strict: bool = False
) -> Callable[..., float]:
    def p_value(
        auc: Auc, a: np.ndarray, b: np.ndarray, patients: np.ndarray, rng: Generator
    ) -> float:
        observed, count = auc(a) - auc(b), 0
        for _ in range(2000):
            number = patients.max() + 1 if by_patient else len(a)
            swap = rng.random(number) < 0.5
            swap = swap[patients] if by_patient else swap
            found = auc(np.where(swap, b, a)) - auc(np.where(swap, a, b))
            if two_sided:
                found, limit = abs(found), abs(observed)
            else:
                limit = observed
            count += found > limit + 1e-12 if strict else found >= limit - 1e-12
        return (plus + count) / (plus + 2000)

    return p_value


def swaps_of_one_model(
    auc: Auc, a: np.ndarray, b: np.ndarray, patients: np.ndarray, rng: Generator
) -> float:
    observed, count = abs(auc(a) - auc(b)), 0
    for _ in range(2000):
        swap = (rng.random(patients.max() + 1) < 0.5)[patients]
        count += abs(auc(np.where(swap, b, a)) - auc(b)) >= observed - 1e-12
    return (1 + count) / 2001


def either_way_forgotten(
    auc: Auc, a: np.ndarray, b: np.ndarray, patients: np.ndarray, rng: Generator
) -> float:
    observed, count = abs(auc(a) - auc(b)), 0
    for _ in range(2000):
        swap = (rng.random(patients.max() + 1) < 0.5)[patients]
        count += auc(np.where(swap, b, a)) - auc(np.where(swap, a, b)) >= observed - 1e-12
    return (1 + count) / 2001


def shuffled_images(
    auc: Auc, a: np.ndarray, b: np.ndarray, patients: np.ndarray, rng: Generator
) -> float:
    observed, count = abs(auc(a) - auc(b)), 0
    for _ in range(2000):
        order = rng.permutation(len(a))
        count += abs(auc(a[order]) - auc(b[order])) >= observed - 1e-12
    return (1 + count) / 2001


def swaps_of_runs(
    auc: Auc, a: np.ndarray, b: np.ndarray, patients: np.ndarray, rng: Generator
) -> float:
    """Wrong unless the images of a patient stand side by side."""
    runs = np.cumsum(np.diff(patients, prepend=patients[0]) != 0)
    return paired_test()(auc, a, b, runs, rng)


def swaps_of_equal_parts(
    auc: Auc, a: np.ndarray, b: np.ndarray, patients: np.ndarray, rng: Generator
) -> float:
    """Wrong unless patients have equally many images, in order."""
    number = patients.max() + 1
    return paired_test()(auc, a, b, np.repeat(np.arange(number), len(a) // number), rng)


def unpaired(auc: Auc, a: np.ndarray, b: np.ndarray, patients: np.ndarray, rng: Generator) -> Any:
    observed, both, count = abs(auc(a) - auc(b)), np.concatenate([a, b]), 0
    for _ in range(2000):
        rng.shuffle(both)
        count += abs(auc(both[: len(a)]) - auc(both[len(a) :])) >= observed - 1e-12
    return (1 + count) / 2001


def test_the_paired_test() -> None:
    assert check.exercise_8_4(paired_test()).passed
    assert check.exercise_8_4(lambda *known: torch.tensor(paired_test()(*known))).passed


def test_the_paired_test_needs_no_luck() -> None:
    for seed in (1, 2):
        assert check.exercise_8_4(
            lambda *known, seed=seed: paired_test()(*known[:4], np.random.default_rng(seed))
        ).passed


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (paired_test(by_patient=False), "one by one"),
        (paired_test(two_sided=False), "without their sign"),
        (paired_test(plus=0), "Add 1 above and below"),
        (paired_test(strict=True), ">="),
        (unpaired, "never with another patient's"),
        (swaps_of_one_model, "of both models, not of one"),
        (either_way_forgotten, "*either way*"),
        (shuffled_images, "shuffled one by one"),
        (swaps_of_runs, "one by one"),
        (swaps_of_equal_parts, "raised ValueError"),
        (lambda *known: (paired_test()(*known) * 2001 - 1) / 2001, "add 1 above and below"),
        (lambda auc, a, b, *_: paired_test()(auc, a, b, *_) / 2, "against itself"),
        (lambda auc, a, b, *_: 1.0, "does each swap"),
        (lambda *_: 1.2, "above 1"),
    ],
)
def test_paired_tests_that_are_wrong(answer: Callable[..., float], words: str) -> None:
    refused("exercise_8_4", answer, words)


# Tried in many forms and sizes by test_exercises.py: the right answers, and what is square.
ANSWERS = {
    "exercise_8_1": [masked, selected, by_hand, by_a_loop, by_numpy],
    "exercise_8_2": [auc_by_pairs, auc_by_loops, auc_by_torch],
    "exercise_8_3": [tails],
    "exercise_8_4": [paired_test()],
}
