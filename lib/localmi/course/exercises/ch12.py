"""Checks of the exercises of 12_records."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from localmi.course.check import (
    exercise,
    expect,
    expect_array,
    expect_close,
    expect_number,
    expect_numbers,
)
from localmi.model.msn import entropy, msn_terms, sinkhorn

TRIES = 400  # draws of patches


@exercise
def exercise_12_1(my_information: Callable[[np.ndarray], float]) -> None:
    """I(row; column) in nats of a table of counts [R, C]."""
    for counts in ([[30, 10], [10, 50]], [[20, 0, 5], [5, 40, 30]], [[4, 8], [8, 16], [1, 2]]):
        table = np.array(counts, dtype=float)
        wanted = _information(table)
        found = expect_number(my_information(table))
        joint = table / table.sum()
        rows, columns = joint.sum(axis=1), joint.sum(axis=0)
        sums = np.outer(table.sum(axis=1), table.sum(axis=0))
        there = table > 0
        of_rows, of_columns, of_both = (_entropy(p) for p in (rows, columns, joint.ravel()))
        for mistake, words in (
            (wanted / math.log(2), "those are bits: use the natural logarithm"),
            (of_both, "that is the entropy of both together: how much less is it than of each "
             "for itself?"),
            (of_both - of_rows, "that is what is left open of the column: H(column | row)"),
            (of_both - of_columns, "that is what is left open of the row: H(row | column)"),
            (-wanted, "the sign is turned"),
            (wanted * table.sum(), "divide the counts by their sum"),
            ((table[there] * np.log(table[there] / sums[there])).sum(), "divide the counts by "
             "their sum, before anything else"),
            (np.log(table[there] / sums[there] * table.sum()).mean(), "every cell counts alike: "
             "weigh it by p(row, column)"),
        ):  # fmt: skip
            if not math.isclose(mistake, wanted, rel_tol=1e-6, abs_tol=1e-9):
                expect(not math.isclose(found, mistake, rel_tol=1e-6, abs_tol=1e-9), words)
        expect(
            math.isfinite(found),
            f"counts {counts} give {found}: a cell that never happens adds nothing (0 log 0 = 0)",
        )
        expect_close(found, wanted, f"counts {counts}")


def _entropy(p: np.ndarray) -> float:
    return float(-(p[p > 0] * np.log(p[p > 0])).sum())


def _information(table: np.ndarray) -> float:
    joint = table / table.sum()
    return _entropy(joint.sum(axis=1)) + _entropy(joint.sum(axis=0)) - _entropy(joint.ravel())


@exercise
def exercise_12_2(my_kept: Callable[[int, float, torch.Generator], Tensor]) -> None:
    """The tokens [1 + k] that stay: [CLS] always, each of width^2 patches as often as another."""
    for width, dropped in ((3, 1 / 3), (4, 0.25)):
        generator, patches = torch.Generator().manual_seed(0), width**2
        draws = [_indices(my_kept(width, dropped, generator)) for _ in range(TRIES)]
        number = patches - round(dropped * patches)
        for tokens in draws:
            expect(0 in tokens, "[CLS], token 0, must always stay: its vector is what is used")
            expect(len(set(tokens)) == len(tokens), "a token stays once or not at all")
            inside = max(tokens) <= patches and min(tokens) >= 0
            expect(inside, f"tokens of {patches} patches are numbered 0 ([CLS]) to {patches}")
            expect(
                len(tokens) != number,
                f"of {patches} patches {number} are to stay, and [CLS] besides: yours are "
                f"{number} in all",
            )
            expect_close(len(tokens), number + 1, f"{patches} patches, a share of {dropped:.2f}")
        seen = np.bincount(np.concatenate(draws), minlength=patches + 1)[1:] / TRIES
        expect(
            seen[-1] > 0,
            f"the last patch, token {patches}, is never seen: the tokens are numbered from 0, and "
            f"there are {patches} + 1 of them",
        )
        expect(seen.max() < 1, "some patch is never dropped: draw them by chance")
        spread = 4 * math.sqrt(number * (patches - number)) / patches / math.sqrt(TRIES)
        alike = np.abs(seen - number / patches).max() < spread
        expect(alike, "some patches are dropped more often than others")


def _indices(value: Any) -> list[int]:
    return [int(index) for index in expect_array(value).ravel()]


@exercise
def exercise_12_3(my_sinkhorn: Callable[[Tensor, int], Tensor]) -> None:
    """p [B, K] after so many iterations: columns to equal sums, then rows to 1."""
    generator = torch.Generator().manual_seed(0)
    for images, prototypes, iterations in ((4, 3, 1), (3, 6, 2), (5, 4, 3)):
        p = torch.randn(images, prototypes, generator=generator).mul(3).softmax(dim=1)
        wanted = sinkhorn(p.log(), iterations)
        found = expect_array(my_sinkhorn(p, iterations), images, prototypes)
        for mistake, words in (
            (p, "nothing was changed"),
            (_last_columns(p, iterations), "the last thing that is scaled are the rows, so that "
             "each image's shares sum to 1"),
            (_rows_first(p, iterations), "columns first, then rows, in each iteration"),
            (sinkhorn(p.log(), iterations + 1), "that is one iteration too many"),
            (sinkhorn(p.log(), 1), "that is one iteration: repeat both scalings"),
        ):  # fmt: skip
            if not torch.allclose(mistake, wanted, atol=1e-6):
                close = torch.allclose(torch.as_tensor(found).float(), mistake, atol=1e-6)
                expect(not close, words)
        what = f"{images} images, {prototypes} prototypes, {iterations} iterations"
        expect_close(found, wanted, what)


def _last_columns(p: Tensor, iterations: int) -> Tensor:
    for _ in range(iterations):
        p = p / p.sum(dim=1, keepdim=True)
        p = p / p.sum(dim=0, keepdim=True) * len(p) / p.shape[1]
    return p


def _rows_first(p: Tensor, iterations: int) -> Tensor:
    for _ in range(iterations):
        p = p / p.sum(dim=1, keepdim=True)
        p = p / p.sum(dim=0, keepdim=True)
    return p


@exercise
def exercise_12_4(my_loss: Callable[[Tensor, Tensor], tuple[float, float]]) -> None:
    """From p [M, B, K] of M anchors an image and q [B, K] of the targets: L, and its nats."""
    generator = torch.Generator().manual_seed(0)
    for anchors, images, prototypes in ((3, 4, 5), (2, 6, 3)):
        logits = torch.randn(anchors, images, prototypes, generator=generator).mul(2)
        targets = torch.randn(images, prototypes, generator=generator).mul(2)
        p, q = logits.softmax(dim=-1), sinkhorn(targets.log_softmax(dim=1), 3)
        cross = -(q * p.log()).sum(dim=-1).mean().item()
        mean = entropy(p.mean(dim=(0, 1))).item()
        loss, nats = expect_numbers(my_loss(p, q), 2, "two numbers are asked for: L and the nats")
        each = entropy(p).mean().item()
        for mistake, words in (
            (cross + mean, "the entropy of the mean anchor is subtracted: it is to be large"),
            (cross - mean + math.log(prototypes), "that is with the constant log K, as lightly "
             "has it: leave it out"),
            (cross - each, "that is the mean of the entropies; asked for is the entropy of the "
             "mean"),
            (cross - entropy(p.mean(dim=0)).mean().item(), "the mean anchor is that of all images "
             "together, not one for each image"),
            (cross - mean / prototypes, "the entropy is a sum over the prototypes, not a mean"),
            (anchors * images * (cross - mean), "divide by the number of anchors"),
            (anchors * cross - mean, "divide the cross entropy by all M B anchors"),
            (-(p * q.log()).sum(dim=-1).mean().item() - mean, "the logarithm is of the anchors, "
             "not of the targets: H(q, p) = - sum of q log p"),
            (cross, "the entropy of the mean anchor is missing"),
        ):  # fmt: skip
            expect(not math.isclose(loss, mistake, rel_tol=1e-5, abs_tol=1e-6), words)
        what = f"{anchors} anchors of {images} images, {prototypes} prototypes"
        expect_close(loss, cross - mean, f"L of {what}")
        expect(
            not math.isclose(nats, loss, rel_tol=1e-5),
            "the sign is turned: a small loss is much information",
        )
        expect_close(nats, mean - cross, f"the nats of {what}")


@exercise
def exercise_12_5(my_loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """The loss of z [M * B, D], z+ [B, D] and prototypes [K, D], of which the targets learn
    nothing and the rest learns."""
    generator = torch.Generator().manual_seed(0)
    for views, images, width, number in ((2, 3, 4, 5), (3, 4, 6, 2)):
        anchors, targets, prototypes = (
            torch.randn(rows, width, generator=generator).requires_grad_()
            for rows in (views * images, images, number)
        )
        loss = my_loss(anchors, targets, prototypes)
        expect(isinstance(loss, Tensor) and loss.requires_grad, "the loss must have a gradient")
        _check_value(loss, anchors, targets, prototypes)
        loss.backward()
        expect(_learns(anchors), "the anchors get no gradient: they are what is trained")
        expect(
            _learns(prototypes),
            "the prototypes get no gradient: `.data` or `detach` cuts them off. Cut off the "
            "targets, after the prototypes have been used",
        )
        expect(not _learns(targets), "the targets get a gradient: they are to be held still")
        own, prototypes.grad = prototypes.grad, None
        _wanted(anchors, targets, prototypes).backward()
        wanted = prototypes.grad
        assert own is not None
        assert wanted is not None
        same = torch.allclose(own, wanted, rtol=1e-4, atol=1e-6)
        expect(same, "the prototypes learn from the targets, too: only from the anchors they may")


def _learns(some: Tensor) -> bool:
    return some.grad is not None and bool(some.grad.abs().max() > 0)


def _wanted(anchors: Tensor, targets: Tensor, prototypes: Tensor) -> Tensor:
    from localmi.model.msn import prototype_logits

    logits = (prototype_logits(z, prototypes) for z in (anchors, targets))
    return msn_terms(*logits).loss()


def _check_value(loss: Tensor, anchors: Tensor, targets: Tensor, prototypes: Tensor) -> None:
    with torch.no_grad():
        wanted = _wanted(anchors, targets, prototypes)
    value = expect_number(loss.detach())
    expect_close(value, wanted, f"{len(anchors)} anchors of {len(targets)} images")
