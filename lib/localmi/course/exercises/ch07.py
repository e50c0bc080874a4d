"""Self-checks of 07_train_local_mi."""

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from localmi.course.check import (
    WrongError,
    exercise,
    expect,
    expect_array,
    expect_close,
    expect_finite,
    expect_number,
)
from localmi.evaluate.grounding import pointing_game
from localmi.mi.critics import BilinearCritic
from localmi.mi.selection import select_regions


@exercise
def exercise_7_1(my_soft_max: Callable[[Tensor, float], Tensor]) -> None:
    """The soft maximum over regions: scores [B, N, M] -> [B, M]."""
    scores = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    wanted = select_regions(scores, "soft", temperature=0.5).numpy()
    found = expect_array(my_soft_max(scores, 0.5))
    expect(
        found.shape == (3, 4),
        f"the result has shape {list(found.shape)}, not [3, 4]: sum over the regions, dimension "
        "1, alone, and keep no dimension of size 1",
    )
    log_sum = (scores / 0.5).logsumexp(dim=1).numpy()
    expect(
        not np.allclose(found, log_sum - math.log(5), atol=1e-4),
        "the factor tau in front is missing: at another temperature it has another scale",
    )
    expect(
        not np.allclose(found, 0.5 * log_sum - math.log(5), atol=1e-4),
        "log N stands within the bracket, so tau multiplies it too",
    )
    expect(
        not np.allclose(found, (scores * (scores / 0.5).softmax(dim=1)).sum(dim=1), atol=1e-4),
        "that is the mean weighted by a softmax (attention), not the logarithm of a sum",
    )
    expect(
        not np.allclose(found - wanted, 0.5 * math.log(5), atol=1e-4),
        "it is tau log N too high: subtract log N, so that equal regions give their own score",
    )
    expect(
        not np.allclose(found, scores.amax(dim=1)),
        "that is the hard maximum: the temperature has no effect",
    )
    expect_close(found, wanted, "soft maximum at temperature 0.5")
    scores = scores[:2, :4, :3]
    expect_close(my_soft_max(scores, 2.0), select_regions(scores, "soft", 2.0), "at temperature 2")
    one = scores[:1, :, :1]
    words = "right, but at temperature 0.001 it is {}: e^(f / tau) is too large, use logsumexp"
    found = expect_finite(my_soft_max, one, 1e-3, words=words)
    expect_close(found, one.max() - 1e-3 * math.log(4), "at temperature 0.001")
    with contextlib.suppress(WrongError):  # numpy refuses what is learnt
        found = my_soft_max(scores.clone().requires_grad_(), 0.5)
    expect(
        isinstance(found, Tensor) and found.requires_grad,
        "right in numbers, but no gradient reaches the scores: stay in torch, without numpy, "
        "lists, item() or torch.tensor()",
    )


@dataclass(frozen=True)
class _Slip:
    """A step with one usual mistake, and what to say of it; the right step has none."""

    words: str = ""
    pool: Callable[[Tensor], Tensor] = lambda scores: scores.amax(dim=1)  # [B, N, B] -> [B, B]
    cut: bool = False  # no gradient through the regions
    same_study: bool = False  # sentences of the own study count as mismatched
    matched_left_out: bool = False
    dim: int = 1  # summed over; 0: over the images
    log_k: Callable[[Tensor], Tensor] = lambda choices: choices.sum(dim=1).log()  # [B, B] -> [B]
    halves: bool = False  # the other direction as well
    summed: bool = False  # over the rows, not their mean
    sign: int = -1  # of what is descended
    zero: bool = True
    steps: bool = True


def _matched_region(scores: Tensor) -> Tensor:
    """[B, N, B] -> [B, B]: the region that suits the matched sentence scores all of them."""
    region = scores.diagonal(dim1=0, dim2=2).argmax(dim=0)
    return scores[torch.arange(len(scores)), region]


SLIPS = (
    _Slip("the mean over the regions: Eq. 5 takes the best one of each pair", lambda s: s.mean(1)),
    _Slip(
        "the soft maximum of exercise 7.1: here the hard one is asked for",
        lambda scores: select_regions(scores, "soft", 1.0),
    ),
    _Slip("no gradient reaches the encoder: its regions are cut off (detach, no_grad)", cut=True),
    _Slip(
        "the region of the matched sentence scores the mismatched ones too: each pair, matched or "
        "not, takes its own best region",
        _matched_region,
    ),
    _Slip("a sentence of the same study counts as mismatched: leave it out", same_study=True),
    _Slip(
        "the matched pair is missing in the sum: it is one of the K choices", matched_left_out=True
    ),
    _Slip("from text to image: for each image (row) sum over the sentences (columns)", dim=0),
    _Slip(
        "log K is missing: each row adds the log of the number of its choices",
        log_k=lambda choices: torch.zeros(len(choices)),
    ),
    _Slip(
        "log B in place of log K: a row counts its own choices, without those of its study",
        log_k=lambda choices: torch.full([len(choices)], math.log(len(choices))),
    ),
    _Slip("both directions: from image to text alone is asked for", halves=True),
    _Slip("the sum over the rows: the bound is their mean", summed=True),
    _Slip("it goes down the bound: descend the negative bound", sign=1),
    _Slip("the gradients of the last step are still there: zero_grad", zero=False),
    _Slip("nothing has changed: call step() of the optimiser after backward()", steps=False),
)


def _step(world: "_World", slip: _Slip) -> float:
    """One step of the world's encoder and critic, right or with a slip."""
    regions = world.encoder(world.images)
    regions = regions.detach() if slip.cut else regions
    scores = slip.pool(world.critic(regions, world.sentences))
    own = torch.eye(len(scores), dtype=torch.bool)
    allowed = ~own if slip.same_study else world.study[:, None] != world.study
    choices = allowed if slip.matched_left_out else allowed | own
    kept = scores.masked_fill(~choices, -math.inf)
    rows = scores.diagonal() - kept.logsumexp(dim=slip.dim) + slip.log_k(choices)
    if slip.halves:
        rows = (rows + scores.diagonal() - kept.logsumexp(dim=0) + slip.log_k(choices)) / 2
    bound = rows.sum() if slip.summed else rows.mean()
    if slip.zero:
        world.optimiser.zero_grad()
    (slip.sign * bound).backward()
    if slip.steps:
        world.optimiser.step()
    return bound.item()


class _World:
    """Images of four regions, a sentence each, two images of one study; small networks."""

    def __init__(self, images: int = 5) -> None:
        generator = torch.Generator().manual_seed(7)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            self.encoder = nn.Sequential(nn.Linear(6, 12), nn.Unflatten(1, (4, 3)))
            self.critic = BilinearCritic(3, 2)
        self.images = torch.randn(images, 6, generator=generator)
        self.sentences = 2 * torch.randn(images, 2, generator=generator)
        self.study = torch.tensor([0, 1, 1, 2, 3, 4])[:images]
        self.parameters = [*self.encoder.parameters(), *self.critic.parameters()]
        self.optimiser = torch.optim.SGD(self.parameters, lr=0.5)

    def trace(self, step: Callable[["_World"], object], steps: int = 2) -> list[Tensor]:
        """The values of a few steps and all weights after them."""
        values = [torch.as_tensor(step(self), dtype=torch.float32).detach() for _ in range(steps)]
        return [*values, *(parameter.detach().clone() for parameter in self.parameters)]


@exercise
def exercise_7_2(my_step: Callable[..., float]) -> None:
    """One training step by the hard max and InfoNCE, image to text; returns the bound in nats."""

    def learners(world: _World) -> object:
        given = world.encoder, world.critic, world.optimiser
        return my_step(*given, world.images, world.sentences, world.study)

    value = expect_number(learners(_World()))
    right = _World().trace(lambda world: _step(world, _Slip()))
    found = _World().trace(learners)
    for slip in SLIPS:
        wrong = _World().trace(partial(_step, slip=slip))
        alike = all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, wrong, strict=True))
        expect(not alike, slip.words)
    expect(
        not math.isclose(value, -right[0].item(), abs_tol=1e-5),
        "the value is that of the loss: return the bound itself, in nats",
    )
    expect_close(value, right[0], "the bound of the batch before the step, in nats")
    for ours, theirs in zip(right[1:], found[1:], strict=True):
        expect_close(theirs, ours, "after two steps, values and weights")
    expect_close(
        expect_number(learners(_World(6))), _step(_World(6), _Slip()), "the bound of six images"
    )


@exercise
def exercise_7_3(my_chance: Callable[[np.ndarray, int], float]) -> None:
    """Chance of the pointing game: share of the regions whose centre lies on the mask."""
    mask = np.zeros((64, 64), dtype=bool)
    mask[7:39, 2:11] = True  # centres (8, 8) and (24, 8) of the 16 cells of a 4 x 4 grid
    found = expect_number(my_chance(mask, 4))
    wanted = pointing_game(np.array([0]), mask[None], grid=4, tolerance=0).chance[0]  # 2 / 16
    covered = mask.reshape(4, 16, 4, 16).mean(axis=(1, 3))
    for kind, share in (("touches", covered > 0), ("covers half of", covered >= 0.5)):
        expect(
            abs(found - share.mean()) > 1e-6 or abs(found - wanted) < 1e-6,
            f"that is the share of the regions that the mask {kind}: their centres are asked for",
        )
    expect(
        abs(found - mask.mean()) > 1e-6,
        "that is the share of the pixels; the model can only choose among the regions' centres",
    )
    expect(
        abs(found - 16 * wanted) > 1e-6,
        "that is a number of regions: divide by how many there are",
    )
    expect_close(found, wanted, "share of the regions with their centre on the mask")
    expect_close(expect_number(my_chance(mask[:60, :60], 3)), 2 / 9, "of a grid of 3")
