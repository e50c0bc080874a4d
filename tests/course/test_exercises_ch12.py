"""Exercises of chapter 12: a stub fails, a solution passes, wrong answers are told why."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from answers import refused
from sklearn.metrics import mutual_info_score
from torch import Tensor
from torch.nn import functional

from localmi.model.msn import msn_terms, prototype_logits, sinkhorn

# 12.1


def by_the_library(counts: np.ndarray) -> float:
    return float(mutual_info_score(None, None, contingency=counts))


def by_entropies(counts: np.ndarray) -> float:
    p = counts / counts.sum()

    def entropy(values: np.ndarray) -> float:
        return float(-(values[values > 0] * np.log(values[values > 0])).sum())

    return entropy(p.sum(axis=0)) + entropy(p.sum(axis=1)) - entropy(p.ravel())


def by_cells(counts: np.ndarray) -> float:
    total, found = counts.sum(), 0.0
    for row in counts:
        for column, count in enumerate(row):
            if count:
                alone = row.sum() * counts[:, column].sum() / total
                found += count / total * math.log(count / alone)
    return found


def without_care(counts: np.ndarray) -> float:
    p = counts / counts.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        return float((p * np.log(p / np.outer(p.sum(axis=1), p.sum(axis=0)))).sum())


def counts_as_they_are(counts: np.ndarray) -> float:
    sums, there = np.outer(counts.sum(axis=1), counts.sum(axis=0)), counts > 0
    return float((counts[there] * np.log(counts[there] / sums[there])).sum())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda counts: by_entropies(counts) / math.log(2), "those are bits"),
        (lambda counts: -by_entropies(counts), "the sign is turned"),
        (lambda counts: by_entropies(counts) * counts.sum(), "divide the counts"),
        (counts_as_they_are, "before anything else"),
        (without_care, "a cell that never happens adds nothing"),
    ],
)
def test_wrong_informations(answer: Any, words: str) -> None:
    refused("exercise_12_1", answer, words)


# 12.2


def kept(width: int, dropped: float, generator: torch.Generator) -> Tensor:
    patches = width**2
    order = torch.randperm(patches, generator=generator)
    stay = order[: patches - round(dropped * patches)]
    return torch.cat([torch.zeros(1, dtype=torch.int64), 1 + stay])


def kept_as_a_list(width: int, dropped: float, generator: torch.Generator) -> list[int]:
    stay = kept(width, dropped, generator)[1:].tolist()
    return [0, *sorted(stay)]


def as_published(width: int, dropped: float, generator: torch.Generator) -> Tensor:
    """Draws from the numbers 0 to patches - 1, of which 0 is [CLS]: the last patch never stays."""
    patches = width**2
    order = 1 + torch.randperm(patches - 1, generator=generator)
    stay = order[: patches - round(dropped * patches)]
    return torch.cat([torch.zeros(1, dtype=torch.int64), stay])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (as_published, "the last patch, token 9, is never seen"),
        (lambda *how: kept(*how)[1:], "[CLS], token 0, must always stay"),
        (lambda *how: kept(*how)[:-1], "and [CLS] besides"),
        (lambda w, d, g: torch.arange(1 + w**2 - round(d * w**2)), "is never seen"),
        (
            lambda w, d, g: torch.cat([kept(w, d, g)[:1], w**2 - kept(w, d, g)[1:] + 1]) + 1,
            "[CLS]",
        ),
        (lambda w, d, g: torch.cat([kept(w, d, g), kept(w, d, g)[:1]]), "once or not at all"),
    ],
)
def test_wrong_tokens(answer: Any, words: str) -> None:
    refused("exercise_12_2", answer, words)


# 12.3


def scaled(p: Tensor, iterations: int) -> Tensor:
    for _ in range(iterations):
        p = p / p.sum(dim=0, keepdim=True)
        p = p / p.sum(dim=1, keepdim=True)
    return p


def scaled_by_numpy(p: Tensor, iterations: int) -> np.ndarray:
    found = p.numpy()
    for _ in range(iterations):
        found = found / found.sum(axis=0)
        found = found / found.sum(axis=1)[:, None]
    return found


def scaled_by_loops(p: Tensor, iterations: int) -> list[list[float]]:
    rows = p.tolist()
    for _ in range(iterations):
        sums = [sum(column) for column in zip(*rows, strict=True)]
        rows = [[x / s for x, s in zip(row, sums, strict=True)] for row in rows]
        rows = [[x / sum(row) for x in row] for row in rows]
    return rows


def in_the_other_order(p: Tensor, iterations: int) -> Tensor:
    for _ in range(iterations):
        p = p / p.sum(dim=1, keepdim=True)
        p = p / p.sum(dim=0, keepdim=True)
    return p


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda p, iterations: p, "nothing was changed"),
        (lambda p, iterations: scaled(p, iterations + 1), "one iteration too many"),
        (lambda p, iterations: scaled(p, 1), "repeat both"),
        (in_the_other_order, "columns first"),
        (lambda p, iterations: scaled(p.T, iterations), "the shape is"),
    ],
)
def test_wrong_scalings(answer: Any, words: str) -> None:
    refused("exercise_12_3", answer, words)


# 12.4


def loss_and_nats(p: Tensor, q: Tensor) -> tuple[float, float]:
    cross = -(q * p.log()).sum(dim=-1).mean()
    mean = p.mean(dim=(0, 1))
    entropy = -(mean * mean.log()).sum()
    return (cross - entropy).item(), (entropy - cross).item()


def loss_by_numpy(p: Tensor, q: Tensor) -> np.ndarray:
    soft, wanted = p.double().numpy(), q.double().numpy()
    mean = soft.reshape(-1, soft.shape[-1]).mean(axis=0)
    loss = -(wanted * np.log(soft)).sum(axis=-1).mean() + (mean * np.log(mean)).sum()
    return np.array([loss, -loss])


def loss_by_loops(p: Tensor, q: Tensor) -> list[float]:
    views, images, number = p.shape
    cross = 0.0
    for view in p.tolist():
        for own, wanted in zip(view, q.tolist(), strict=True):
            cross -= sum(w * math.log(o) for o, w in zip(own, wanted, strict=True))
    mean = [p[:, :, k].sum().item() / views / images for k in range(number)]
    loss = cross / views / images + sum(m * math.log(m) for m in mean)
    return [loss, -loss]


def changed(how: str) -> Any:
    def wrong(p: Tensor, q: Tensor) -> tuple[float, float]:
        cross = -(q * p.log()).sum(dim=-1).mean().item()
        mean = p.mean(dim=(0, 1))
        entropy = -(mean * mean.log()).sum().item()
        each = -(p * p.log()).sum(dim=-1).mean().item()
        loss = {
            "plus": cross + entropy,
            "constant": cross - entropy + math.log(p.shape[-1]),
            "mean of entropies": cross - each,
            "turned": -(p * q.log()).sum(dim=-1).mean().item() - entropy,
            "alone": cross,
            "of each image": cross
            + (p.mean(dim=0) * p.mean(dim=0).log()).sum(dim=-1).mean().item(),
            "mean over prototypes": cross - entropy / p.shape[-1],
            "sum": (cross - entropy) * p.shape[0] * p.shape[1],
        }[how]
        return loss, -loss

    return wrong


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("plus", "is subtracted"),
        ("constant", "log K"),
        ("mean of entropies", "entropy of the mean"),
        ("turned", "not of the targets"),
        ("alone", "is missing"),
        ("of each image", "of all images together"),
        ("mean over prototypes", "a sum over the prototypes"),
        ("sum", "divide by the number"),
    ],
)
def test_wrong_losses(how: str, words: str) -> None:
    refused("exercise_12_4", changed(how), words)


def test_nats_with_the_sign_of_the_loss() -> None:
    refused("exercise_12_4", lambda p, q: (loss_and_nats(p, q)[0],) * 2, "sign is turned")


# 12.5


def with_detached_targets(anchors: Tensor, targets: Tensor, prototypes: Tensor) -> Tensor:
    own, wanted = (prototype_logits(z, prototypes) for z in (anchors, targets))
    return msn_terms(own, wanted.detach()).loss()


def by_hand(anchors: Tensor, targets: Tensor, prototypes: Tensor) -> Tensor:
    z, wanted, q = (functional.normalize(one, dim=1) for one in (anchors, targets, prototypes))
    with torch.no_grad():
        p = sinkhorn((wanted @ q.T / 0.1 / 0.25).log_softmax(dim=1), 3)
    log_p = (z @ q.T / 0.1).log_softmax(dim=1)
    mean = log_p.exp().mean(dim=0)
    views = len(anchors) // len(targets)
    return -(p.repeat(views, 1) * log_p).sum(dim=1).mean() + (mean * mean.log()).sum()


def as_lightlys_examples(anchors: Tensor, targets: Tensor, prototypes: Tensor) -> Tensor:
    return with_detached_targets(anchors, targets, prototypes.data)


def with_targets_that_learn(anchors: Tensor, targets: Tensor, prototypes: Tensor) -> Tensor:
    z, wanted, q = (functional.normalize(one, dim=1) for one in (anchors, targets, prototypes))
    p = sinkhorn((wanted @ q.T / 0.1 / 0.25).log_softmax(dim=1), 3)
    log_p = (z @ q.T / 0.1).log_softmax(dim=1)
    mean = log_p.exp().mean(dim=0)
    views = len(anchors) // len(targets)
    return -(p.repeat(views, 1) * log_p).sum(dim=1).mean() + (mean * mean.log()).sum()


def with_prototypes_that_learn_from_targets(
    anchors: Tensor, targets: Tensor, prototypes: Tensor
) -> Tensor:
    return with_targets_that_learn(anchors, targets.detach(), prototypes)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (as_lightlys_examples, "`.data` or `detach` cuts them off"),
        (with_targets_that_learn, "the targets get a gradient"),
        (with_prototypes_that_learn_from_targets, "learn from the targets, too"),
        (lambda a, t, q: with_detached_targets(a, t, q) * 2, "should give"),
        (lambda a, t, q: with_detached_targets(a, t, q).item(), "must have a gradient"),
        (lambda a, t, q: with_detached_targets(a.detach(), t, q), "the anchors get no gradient"),
    ],
)
def test_wrong_gradients(answer: Any, words: str) -> None:
    refused("exercise_12_5", answer, words)


ANSWERS = {
    "exercise_12_1": [by_entropies, by_the_library, by_cells],
    "exercise_12_2": [kept, kept_as_a_list],
    "exercise_12_3": [scaled, scaled_by_numpy, scaled_by_loops],
    "exercise_12_4": [loss_and_nats, loss_by_numpy, loss_by_loops],
    "exercise_12_5": [with_detached_targets, by_hand],
}
