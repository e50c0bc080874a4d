"""Checks of the exercises of 08_downstream_tasks."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.random import Generator
from scipy.stats import rankdata
from torch import Tensor
from torch.nn import functional

from localmi.course.check import exercise, expect, expect_array, expect_close, expect_number
from localmi.downstream.network import task_loss
from localmi.evaluate import weighted_statistics
from localmi.evaluate.edema import edema_tails

Auc = Callable[[np.ndarray], float]  # of scores [n], on targets that it knows
PValue = Callable[[Auc, np.ndarray, np.ndarray, np.ndarray, Generator], float]


@exercise
def exercise_8_1(my_loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """Mean binary cross-entropy over the labels that count: scores, targets, mask [B, C]."""
    scores = torch.tensor(
        [[2.0, -1.0, 0.5], [-3.0, 1.0, 4.0], [0.3, -2.0, -1.5], [0.8, -0.4, 1.1]]
    )
    targets = torch.tensor(
        [[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    )  # [B, C] = [4, 3]
    mask = torch.tensor(
        [[True, True, False], [True, True, True], [True, False, False], [False, True, False]]
    )
    found = expect_number(my_loss(scores, targets, mask))
    wanted = task_loss("pathology9", scores, targets, mask).item()
    each = functional.binary_cross_entropy_with_logits(scores, targets, reduction="none")
    by_finding = (each * mask).sum(dim=0) / mask.sum(dim=0)
    by_image = (each * mask).sum(dim=1) / mask.sum(dim=1)
    masked_scores = functional.binary_cross_entropy_with_logits(scores * mask, targets)
    mistakes = {
        each.mean().item(): "the mask has no effect: a label that does not count is learnt as 0",
        (each * mask).mean().item(): "divide by the labels that count, mask.sum(), and not by all "
        "B x C: else a batch with few labels takes small steps",
        (each * mask).sum().item(): "that is the sum: divide by the labels that count",
        by_finding.mean().item(): "that is the mean of the findings' means: a finding with few "
        "labels would weigh as much as one with many",
        by_image.mean().item(): "that is the mean of the images' means: a label would weigh the "
        "more, the fewer its image has",
        masked_scores.item(): "mask the losses, not the scores: a score of 0 still costs log 2",
    }
    for value, words in mistakes.items():
        expect(abs(found - value) > 1e-5 or abs(found - wanted) < 1e-5, words)
    expect_close(found, wanted, "mean loss over the seven labels that count")
    fewer = scores[:3, :2], targets[:3, :2], mask[:3, :2]
    wanted = task_loss("pathology9", *fewer).item()
    expect_close(expect_number(my_loss(*fewer)), wanted, "of three images and two findings")


@exercise
def exercise_8_2(my_auc: Callable[[np.ndarray, np.ndarray], float]) -> None:
    """AUC by pairs: targets [n] of 0 and 1, scores [n]; a tie counts half."""
    targets = np.array([0, 1, 0, 1, 0, 0, 1])
    scores = np.array([0.1, 0.2, 0.3, 0.7, 0.7, 0.4, 0.8])
    found = expect_number(my_auc(targets, scores))
    positive, negative = scores[targets == 1], scores[targets == 0]
    above = (positive[:, None] > negative).mean()
    ties = (positive[:, None] == negative).mean()
    mistakes = {
        above: "a tie counts nothing here: it counts half, or a constant predictor gets 0",
        above + ties: "a tie counts whole here: it counts half, or a constant predictor gets 1",
        1 - above - ties / 2: "the other way round: count the pairs in which the *positive* is "
        "above",
        (above + ties / 2) * len(positive) * len(negative): "that is the number of pairs won: "
        "divide by positives x negatives",
        (above + ties / 2) * len(positive) * len(negative) / len(scores) ** 2: "divide by the "
        "pairs of one positive and one negative, not by all n x n",
        2 * above
        + ties
        - 1: "that runs from -1 to 1 (Gini): the AUC is a share of pairs, .5 by chance",
        100 * (above + ties / 2): "in percent: a share is asked for, from 0 to 1",
    }
    wanted = float(weighted_statistics.auc(targets, scores)(np.ones((1, len(scores))))[0])
    for value, words in mistakes.items():
        expect(abs(found - value) > 1e-9, words)
    expect_close(found, wanted, "AUC of seven images with a tie")
    expect_close(expect_number(my_auc(targets, np.ones(7))), 0.5, "AUC of a constant predictor")
    expect_close(
        expect_number(my_auc(targets, 100 * scores - 7)), wanted, "a monotone map of the scores"
    )
    worse = expect_number(my_auc(targets, -scores))
    expect_close(worse, 1 - wanted, "AUC of the scores upside down: below .5 is worse than chance")
    expect_close(
        expect_number(my_auc(targets[:5], scores[:5])), 3.5 / 6, "AUC of the first five images"
    )


@exercise
def exercise_8_3(my_tails: Callable[[np.ndarray], np.ndarray]) -> None:
    """P(grade >= 1), P(>= 2), P(>= 3) of a softmax [n, 4] -> [n, 3]."""
    softmax = np.array(
        [[0.7, 0.1, 0.05, 0.15], [0.2, 0.4, 0.3, 0.1], [0.0, 0.05, 0.25, 0.7],
         [0.1, 0.6, 0.2, 0.1], [0.3, 0.15, 0.2, 0.35]]
    )  # fmt: skip
    wanted = edema_tails(softmax)
    found = expect_array(my_tails(softmax.copy()))
    expect(
        found.shape != (5, 4),
        "four columns: P(grade >= 0) is 1 for everyone, and separates nobody. Leave it out",
    )
    expect(found.shape == (5, 3), f"[5, 4] gives [5, 3], yours is {list(found.shape)}")
    mistakes = [
        (softmax[:, 1:], "that is P(grade = k), one class: an image of grade 3 must score high in "
         "'0 v 1-3' too. Add up all grades from k on"),
        (softmax.cumsum(axis=1)[:, :3], "that is P(grade <= k): it is high for the *mild* ones, "
         "and every AUC comes out as 1 - AUC"),
        (wanted[:, ::-1], "the columns come in the other order: P(>= 1) is the first"),
        (1 - wanted, "that is 1 - P(grade >= k): high for the mild ones"),
    ]  # fmt: skip
    for value, words in mistakes:
        expect(not np.allclose(found, value), words)
    expect_close(found, wanted, "tail sums of five images")
    expect_close(my_tails(softmax[:3].copy()), wanted[:3], "tail sums of three images")


@exercise
def exercise_8_4(my_p_value: PValue) -> None:
    """p of a paired permutation test with 2,000 swaps of whole patients, two-sided."""
    targets, a, b, patients = _eight_patients()
    auc = _auc_of(targets)

    def p_value(a: np.ndarray, b: np.ndarray) -> float:
        return expect_number(my_p_value(auc, a, b, patients, np.random.default_rng(0)))

    same = p_value(a, a)
    expect(
        same > 0.01,
        f"a model against itself gets p = {same:.4f}, it must be 1: count swaps that give a "
        "difference *as large*, >=",
    )
    expect(same <= 1, f"a model against itself gets p = {same:.4f}: no probability is above 1")
    expect(
        not 0.99 < same < 1,
        f"a model against itself gets p = {same:.4f}, it must be 1: add 1 above and below",
    )
    expect_close(same, 1.0, "p of a model against itself")
    _check_pairs(my_p_value)
    found, wanted = p_value(a, b), _exact(auc, a, b, patients)
    turned = p_value(b, a)
    two = f"a against b gets p = {found:.2f}, b against a p = {turned:.2f}"
    expect(
        abs(found + turned - 1) > 0.1,
        f"{two}: one side alone was counted. Compare the differences without their sign",
    )
    expect(
        abs(found - turned) < 0.1,
        f"{two}: they must be alike. Exchange the scores of both models, not of one",
    )
    expect(
        found > wanted / 5,
        f"p = {found:.3f}, it should be about {wanted:.2f}: were images swapped or shuffled one "
        "by one? The images of a patient are alike and must be swapped together",
    )
    expect(
        abs(found - wanted / 2) > 0.05,
        f"p = {found:.3f}, half of what it should be: a difference as large *either way* counts",
    )
    expect(
        abs(found - wanted) < 0.05,
        f"p = {found:.3f}, it should be about {wanted:.2f}: does each swap exchange the two "
        "models' scores of a patient, all of them, with chance one half?",
    )
    perfect = np.where(targets == 1, 40.0, 1.0) + a / 100
    surely = expect_number(
        my_p_value(auc, perfect, -perfect, np.arange(len(a)), np.random.default_rng(0))
    )
    expect(
        surely > 0,
        "p = 0 for a perfect model against its opposite: what happened itself is one of the "
        "possible swaps. Add 1 above and below",
    )
    swaps = round(1 / surely) - 1
    expect(swaps == 2000, f"2,000 swaps are asked for, these are {swaps:,}")
    expect_close(surely, 1 / 2001, "p of a perfect model against its opposite")


def _check_pairs(my_p_value: PValue) -> None:
    """Thirty patients with an image each, hard for both models or easy for both."""
    rng = np.random.default_rng(3)
    targets, hardness = np.arange(30) % 2, rng.normal(size=30)
    a, b = (rankdata(k * targets + hardness + 0.1 * rng.normal(size=30)) for k in (1.2, 0.6))
    given = _auc_of(targets), a, b, np.arange(30), np.random.default_rng(0)
    found = expect_number(my_p_value(*given))
    expect(
        found < 0.02,
        f"two models that differ in one direction on all patients get p = {found:.2f}: does each "
        "swap exchange a patient's two scores with each other, never with another patient's, by a "
        "coin for each patient? The test is paired",
    )


def _eight_patients() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Targets, ranks of two models, patients [37]: up to five images a patient, much alike.

    The images come in no order, and not of all patients equally many.
    """
    rng = np.random.default_rng(7)
    patients = np.repeat(np.arange(8), 5)
    targets = (patients % 2 == 0).astype(int)
    own = rng.normal(size=(2, 8))[:, patients] + 0.1 * rng.normal(size=(2, 40))
    a, b = own + np.array([[1.0], [0.0]]) * targets
    some = rng.permutation(40)[:37]
    return targets[some], rankdata(a[some]), rankdata(b[some]), patients[some]


def _auc_of(targets: np.ndarray) -> Auc:
    positive, negative = np.flatnonzero(targets), np.flatnonzero(targets == 0)

    def auc(scores: np.ndarray) -> float:
        return float(np.sign(scores[positive][:, None] - scores[negative]).mean() + 1) / 2

    return auc


def _exact(auc: Auc, a: np.ndarray, b: np.ndarray, patients: np.ndarray) -> float:
    """p over all 256 ways to swap eight patients."""
    observed = abs(auc(a) - auc(b))
    swaps = (np.arange(256)[:, None] >> np.arange(8)) & 1 == 1
    found = [
        abs(auc(np.where(swap, b, a)) - auc(np.where(swap, a, b))) for swap in swaps[:, patients]
    ]
    return float(np.mean(np.array(found) >= observed - 1e-12))
