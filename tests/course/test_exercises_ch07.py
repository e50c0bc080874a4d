import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from torch import Tensor

from localmi.course import check
from localmi.mi.bounds import infonce
from localmi.mi.selection import select_regions

# --- 7.2: a training step ---


def step_with(bound: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., float]:
    """A step with this bound of scores [B, N, B] and study [B]."""

    def step(encoder, critic, optimiser, images, sentences, study) -> float:
        value = bound(critic(encoder(images), sentences), study)
        optimiser.zero_grad()
        (-value).backward()
        optimiser.step()
        return value.item()

    return step


def different(study: Tensor) -> Tensor:
    return study[:, None] != study


def by_log_softmax(scores: Tensor, study: Tensor) -> Tensor:
    pairs = scores.amax(dim=1)
    own = torch.eye(len(pairs), dtype=torch.bool)
    pairs = pairs.masked_fill(~(different(study) | own), -math.inf)
    choices = (different(study).sum(dim=1) + 1).log()
    return pairs.log_softmax(dim=1).diagonal().mean() + choices.mean()


def by_a_loop(scores: Tensor, study: Tensor) -> Tensor:
    terms = []
    for image in range(len(study)):
        best = [scores[image, :, text].max() for text in range(len(study))]
        choices = [
            text for text in range(len(study)) if text == image or study[text] != study[image]
        ]
        total = sum(best[text].exp() for text in choices)
        terms.append(best[image] - torch.log(torch.as_tensor(total)) + math.log(len(choices)))
    return sum(terms) / len(terms)  # type: ignore[return-value]


def by_the_library(scores: Tensor, study: Tensor) -> Tensor:
    return infonce(scores.max(dim=1).values, different(study), "image_to_text")


@pytest.mark.parametrize("bound", [by_log_softmax, by_a_loop, by_the_library])
def test_right_steps_pass(bound: Callable[[Tensor, Tensor], Tensor]) -> None:
    assert repr(check.exercise_7_2(step_with(bound))) == "exercise 7.2: right"


def test_a_step_may_return_a_tensor_and_descend_a_loss() -> None:
    def step(encoder, critic, optimiser, images, sentences, study) -> Tensor:
        loss = -by_log_softmax(critic(encoder(images), sentences), study)
        optimiser.zero_grad(set_to_none=False)
        loss.backward()
        optimiser.step()
        return -loss

    assert check.exercise_7_2(step).passed


def pooled(pool: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda scores, study: infonce(pool(scores), different(study), "image_to_text")


def matched_region(scores: Tensor) -> Tensor:
    region = scores.diagonal(dim1=0, dim2=2).argmax(dim=0)
    return scores[torch.arange(len(scores)), region]


def without_the_matched_pair(scores: Tensor, study: Tensor) -> Tensor:
    pairs, allowed = scores.amax(dim=1), different(study)
    log_sum = pairs.masked_fill(~allowed, -math.inf).logsumexp(dim=1)
    return (pairs.diagonal() - log_sum + allowed.sum(dim=1).log()).mean()


def without_log_k(scores: Tensor, study: Tensor) -> Tensor:
    return by_log_softmax(scores, study) - (different(study).sum(dim=1) + 1).log().mean()


def with_log_b(scores: Tensor, study: Tensor) -> Tensor:
    return without_log_k(scores, study) + math.log(len(study))


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        (pooled(lambda scores: scores.mean(dim=1)), "the mean over the regions"),
        (pooled(matched_region), "region of the matched sentence"),
        (
            lambda scores, study: infonce(scores.amax(dim=1), None, "image_to_text"),
            "same study counts as mismatched",
        ),
        (without_the_matched_pair, "matched pair is missing"),
        (
            lambda scores, study: infonce(scores.amax(1), different(study), "text_to_image"),
            "from text to image",
        ),
        (without_log_k, "log K is missing"),
        (
            lambda scores, study: infonce(scores.amax(1), different(study), "symmetric"),
            "both directions",
        ),
        (
            pooled(lambda scores: select_regions(scores, "soft", 1.0)),
            "soft maximum of exercise 7.1",
        ),
        (with_log_b, "log B in place of log K"),
        (lambda scores, study: len(study) * by_log_softmax(scores, study), "sum over the rows"),
        (lambda scores, study: 2 * by_log_softmax(scores, study), "it gives"),
    ],
)
def test_wrong_bounds_are_named(bound: Callable[[Tensor, Tensor], Tensor], words: str) -> None:
    verdict = check.exercise_7_2(step_with(bound))
    assert verdict.status == "not yet"
    assert words in verdict.words


def test_regions_that_are_cut_off_are_named() -> None:
    def step(encoder, critic, optimiser, images, sentences, study) -> float:
        value = by_log_softmax(critic(encoder(images).detach(), sentences), study)
        optimiser.zero_grad()
        (-value).backward()
        optimiser.step()
        return value.item()

    assert "no gradient reaches the encoder" in check.exercise_7_2(step).words


def loop_step(**leave_out: bool) -> Callable[..., float]:
    def step(encoder, critic, optimiser, images, sentences, study) -> float:
        value = by_log_softmax(critic(encoder(images), sentences), study)
        if not leave_out.get("zero"):
            optimiser.zero_grad()
        (value if leave_out.get("minus") else -value).backward()
        if not leave_out.get("step"):
            optimiser.step()
        return (-value if leave_out.get("value") else value).item()

    return step


@pytest.mark.parametrize(
    ("left_out", "words"),
    [
        ("zero", "zero_grad"),
        ("minus", "goes down the bound"),
        ("step", "call step()"),
        ("value", "that of the loss"),
    ],
)
def test_what_is_forgotten_is_named(left_out: str, words: str) -> None:
    assert words in check.exercise_7_2(loop_step(**{left_out: True})).words


def stub(*arguments: Any) -> Any: ...


def test_stubs_are_not_tried_yet() -> None:
    for one in (check.exercise_7_1, check.exercise_7_2, check.exercise_7_3):
        assert one(stub).status == "not tried yet"


def test_a_step_that_returns_no_number_is_told() -> None:
    def step(encoder, critic, optimiser, images, sentences, study) -> Tensor:
        return torch.zeros(5)

    assert "one number is asked for" in check.exercise_7_2(step).words


# --- 7.1 and 7.3 ---


def soft_by_torch(scores: Tensor, temperature: float) -> Tensor:
    best = scores.amax(dim=1, keepdim=True)
    mean = ((scores - best) / temperature).exp().mean(dim=1)
    return best[:, 0] + temperature * mean.log()


def soft_by_numpy(scores: Tensor, temperature: float) -> np.ndarray:
    return logsumexp(scores.numpy() / temperature, axis=1, b=1 / scores.shape[1]) * temperature


def soft_by_a_loop(scores: Tensor, temperature: float) -> list[list[float]]:
    pairs = scores.transpose(1, 2).tolist()  # [B, M, N]
    return [
        [max(f) + temperature * math.log(np.mean(np.exp((np.array(f) - max(f)) / temperature)))
         for f in row]
        for row in pairs
    ]  # fmt: skip


def soft_that_overflows(scores: Tensor, temperature: float) -> Tensor:
    """Infinite at the temperatures at which it should be close to the hard maximum."""
    return temperature * (scores / temperature).exp().mean(dim=1).log()


def soft_that_raises(scores: Tensor, temperature: float) -> list[list[float]]:
    pairs = scores.transpose(1, 2).tolist()
    sums = [[sum(math.exp(one / temperature) for one in f) for f in row] for row in pairs]
    return [[temperature * math.log(one / scores.shape[1]) for one in row] for row in sums]


def test_the_soft_maximum() -> None:
    assert check.exercise_7_1(soft_by_torch).passed
    for answer in (soft_by_numpy, soft_by_a_loop, lambda s, t: soft_by_torch(s.detach(), t)):
        assert "right in numbers, but no gradient" in check.exercise_7_1(answer).words
    assert "log N too high" in check.exercise_7_1(lambda s, t: t * (s / t).logsumexp(1)).words
    assert "hard maximum" in check.exercise_7_1(lambda s, t: s.amax(1)).words
    assert "dimension 1" in check.exercise_7_1(lambda s, t: s.logsumexp(2)).words
    kept = check.exercise_7_1(lambda s, t: soft_by_torch(s, t)[:, None])
    assert "[3, 1, 4], not [3, 4]" in kept.words
    for answer, words in (
        (lambda s, t: soft_by_torch(s, t) / t, "factor tau in front is missing"),
        (lambda s, t: t * (s / t).logsumexp(1) - math.log(s.shape[1]), "within the bracket"),
        (lambda s, t: (s * (s / t).softmax(1)).sum(1), "attention"),
    ):
        assert words in check.exercise_7_1(answer).words
    for answer in (soft_that_overflows, soft_that_raises):
        assert "too large, use logsumexp" in check.exercise_7_1(answer).words


def chance_by_a_loop(mask: np.ndarray, grid: int) -> float:
    side = len(mask) // grid
    hits = [
        mask[side // 2 + side * row, side // 2 + side * column]
        for row in range(grid)
        for column in range(grid)
    ]
    return sum(hits) / len(hits)


def chance_of_the_pixel_before(mask: np.ndarray, grid: int) -> float:
    """Of an even number of pixels the lower of the two in the middle."""
    side = len(mask) // grid
    return float(mask[(side - 1) // 2 :: side, (side - 1) // 2 :: side].mean())


def chance_by_torch(mask: np.ndarray, grid: int) -> Tensor:
    side = len(mask) // grid
    return torch.from_numpy(mask)[side // 2 :: side, side // 2 :: side].double().mean()


def test_the_chance_of_the_pointing_game() -> None:
    def covered(mask: np.ndarray, grid: int) -> np.ndarray:
        side = len(mask) // grid
        return mask.reshape(grid, side, grid, side).mean(axis=(1, 3))

    for answer in (chance_by_a_loop, chance_by_torch, chance_of_the_pixel_before):
        assert check.exercise_7_3(answer).passed
    side_of_16 = check.exercise_7_3(lambda mask, grid: mask[8::16, 8::16].mean())
    assert "of a grid of 3" in side_of_16.words
    touched = check.exercise_7_3(lambda mask, grid: (covered(mask, grid) > 0).mean())
    assert "the mask touches" in touched.words
    half = check.exercise_7_3(lambda mask, grid: (covered(mask, grid) > 0.5).mean())
    assert "covers half of" in half.words
    assert "share of the pixels" in check.exercise_7_3(lambda mask, grid: mask.mean()).words
    assert (
        "divide" in check.exercise_7_3(lambda mask, grid: 16 * chance_by_a_loop(mask, grid)).words
    )


# Tried in many forms and sizes by test_exercises.py: the right answers, and what is square.
ANSWERS = {
    "exercise_7_1": [soft_by_torch],
    "exercise_7_2": [step_with(bound) for bound in (by_log_softmax, by_a_loop, by_the_library)],
    "exercise_7_3": [chance_by_a_loop, chance_by_torch, chance_of_the_pixel_before],
}
SQUARE = {"exercise_7_3"}  # an image
