"""The readings of the max over regions: against loops, and what each reports when MI is 0."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from localmi.errors import ConfigError
from localmi.mi.bounds import dv, infonce
from localmi.mi.critics import ConcatCritic, Critic
from localmi.mi.distributions import noisy_copy, paper_world
from localmi.mi.selection import SELECTIONS, select_regions
from localmi.names import RegionSelection

READINGS = list(SELECTIONS)  # of scores alone


def random_scores(images: int = 5, regions: int = 4, texts: int = 5, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(images, regions, texts, generator=generator, dtype=torch.float64)


def best_region(scores: Tensor, image: int, text: int) -> int:
    best = 0
    for n in range(scores.shape[1]):
        if scores[image, n, text] > scores[image, best, text]:
            best = n
    return best


def pair_loop(scores: Tensor, how: str, i: int, j: int, temperature: float) -> Tensor:
    """The score of image i with text j, read off the definition."""
    regions = range(scores.shape[1])
    if how == "per_pair_max" or (how == "matched_max" and i == j):
        return scores[i, best_region(scores, i, j), j]
    if how == "positive_argmax":
        return scores[i, best_region(scores, i, i), j]
    if how == "matched_max":
        temperature = 1.0
    mean = sum(torch.exp(scores[i, n, j] / temperature) for n in regions) / len(regions)
    return temperature * torch.log(mean)


def select_loop(scores: Tensor, how: str, temperature: float = 1.0) -> Tensor:
    return torch.stack(
        [
            torch.stack(
                [pair_loop(scores, how, i, j, temperature) for j in range(scores.shape[2])]
            )
            for i in range(scores.shape[0])
        ]
    )


def value_and_gradient(
    function: Callable[[Tensor], Tensor], scores: Tensor
) -> tuple[Tensor, Tensor]:
    scores = scores.clone().requires_grad_()
    selected = function(scores)
    weights = torch.linspace(-1, 1, selected.numel()).reshape(selected.shape)
    gradient = torch.autograd.grad((weights * selected).sum(), scores)[0]
    return selected.detach(), gradient


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [1.0, 0.3])
@pytest.mark.parametrize("how", READINGS)
def test_selection_equals_the_loop(
    how: RegionSelection, temperature: float, dtype: torch.dtype
) -> None:
    scores = random_scores()
    expected = value_and_gradient(lambda s: select_loop(s, how, temperature), scores)
    found = value_and_gradient(lambda s: select_regions(s, how, temperature), scores.to(dtype))
    assert found[0].dtype == dtype
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("how", ["per_pair_max", "soft"])
def test_readings_that_stay_bounds_do_not_know_who_is_matched(how: RegionSelection) -> None:
    """Moving the texts moves the columns, and any number of texts will do."""
    scores = random_scores(images=3, texts=7)
    moved = select_regions(scores.roll(1, dims=2), how)
    torch.testing.assert_close(moved, select_regions(scores, how).roll(1, dims=1))


@pytest.mark.parametrize("how", ["positive_argmax", "matched_max"])
def test_readings_that_are_no_bounds_do_know(how: RegionSelection) -> None:
    scores = random_scores()
    moved = select_regions(scores.roll(1, dims=2), how)
    assert (moved - select_regions(scores, how).roll(1, dims=1)).abs().max() > 0.1


@pytest.mark.parametrize("how", READINGS)
def test_all_readings_agree_on_one_region(how: RegionSelection) -> None:
    scores = random_scores(regions=1)
    torch.testing.assert_close(select_regions(scores, how), scores[:, 0])


def test_soft_goes_from_the_mean_to_the_max() -> None:
    scores = random_scores()
    hard = select_regions(scores, "per_pair_max")
    torch.testing.assert_close(select_regions(scores, "soft", 1e-3), hard, rtol=0, atol=1.5e-3)
    torch.testing.assert_close(
        select_regions(scores, "soft", 1e3), scores.mean(dim=1), rtol=0, atol=1e-2
    )
    gaps = [
        (hard - select_regions(scores, "soft", temperature)).mean()
        for temperature in (1.0, 0.5, 0.1, 0.01)
    ]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[-1] >= 0


def test_dv_of_matched_max_pools_every_mismatched_region() -> None:
    """The N regions of a mismatched pair are N samples in DV's log mean exp."""
    scores = random_scores()
    matched = torch.stack([scores[i, best_region(scores, i, i), i] for i in range(5)])
    mismatched = torch.stack(
        [scores[i, n, j] for i in range(5) for j in range(5) for n in range(4) if i != j]
    )
    expected = matched.mean() - mismatched.exp().mean().log()
    torch.testing.assert_close(dv(select_regions(scores, "matched_max")), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("how", READINGS)
def test_half_precision(how: RegionSelection, dtype: torch.dtype) -> None:
    scores = (40 * random_scores()).to(dtype)  # exp overflows float16
    expected = select_regions(scores.double(), how)
    torch.testing.assert_close(select_regions(scores, how).double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("how", READINGS)
def test_large_scores_stay_finite(how: RegionSelection) -> None:
    scores = (1e4 * random_scores().sign()).float().requires_grad_()
    selected = select_regions(scores, how, temperature=0.01)
    selected.sum().backward()
    assert selected.isfinite().all()
    assert scores.grad is not None
    assert scores.grad.isfinite().all()


# --- what each reading reports where there is nothing ---------------------------------------


NUM_REGIONS = 16


Draw = Callable[[int], tuple[Tensor, Tensor]]  # K -> regions [K, N, Dx], sentences [K, k, Dy]


def pair_scores(
    critic: Critic, regions: Tensor, sentences: Tensor, how: RegionSelection, *, hard: bool
) -> Tensor:
    """Scores [K, K] of images and of texts of k sentences each, added up."""
    every = sentences.flatten(0, 1)
    scores = critic(regions, every)  # [K, N, K k]
    if how == "attention":
        best = select_regions(scores, "per_pair_max" if hard else "soft")
        found = critic.attend(regions, every, scores, best)
    else:
        found = select_regions(scores, how)
    return found.reshape(len(sentences), *sentences.shape[:2]).sum(dim=2)


def held_out(
    draw: Draw,
    how: RegionSelection,
    bound: Callable[[Tensor], Tensor] = dv,
    *,
    seed: int = 0,
    learning_rate: float = 2e-3,
) -> float:
    """A critic trained with a bound under one reading; the bound on fresh pairs, in nats.

    Every step draws fresh data, so nothing can be learned by heart.
    """
    torch.manual_seed(seed)
    regions, sentences = draw(1)
    critic = ConcatCritic(regions.shape[-1], sentences.shape[-1], hidden=(32, 32))
    steps = 300
    optimizer = torch.optim.Adam(critic.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        (-bound(pair_scores(critic, *draw(32), how, hard=False))).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        found = [bound(pair_scores(critic, *draw(256), how, hard=True)).item() for _ in range(4)]
    return sum(found) / 4


def nothing(sentences: int = 1) -> Draw:
    """16 regions and a text, all independent: the mutual information is 0."""
    return lambda number: (
        torch.randn(number, NUM_REGIONS, 4),
        torch.randn(number, sentences, 4),
    )


def held_out_dv(how: RegionSelection, seed: int) -> float:
    """What DV reports where there is nothing."""
    return held_out(nothing(), how, seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize("sentences", [1, 3])
@pytest.mark.parametrize("how", ["per_pair_max", "soft", "attention"])
def test_bounds_report_nothing_where_there_is_nothing(
    how: RegionSelection, sentences: int
) -> None:
    assert held_out(nothing(sentences), how) == pytest.approx(0, abs=0.05)


# Two regions of four states each, and two sentences about them in an order that nobody knows.
STATES = 4
WORLD = paper_world(
    np.full((STATES, STATES), STATES**-2),
    noisy_copy(STATES, 0.05),
    noisy_copy(STATES, 0.05),
    shuffled=True,
)
IMAGE, REPORT = ("Z1", "Z2"), ("S1", "S2")


def something(sentences: int) -> Draw:
    """The first sentences of the report, and the regions with their place, as one-hot numbers."""
    seeds = iter(range(10**6))

    def draw(number: int) -> tuple[Tensor, Tensor]:
        drawn = WORLD.sample(number, next(seeds))
        shown, said = (
            one_hot(drawn[:, [WORLD.names.index(name) for name in names]], STATES).float()
            for names in (IMAGE, REPORT[:sentences])
        )
        return torch.cat([shown, torch.eye(2).expand(number, 2, 2)], dim=2), said

    return draw


@pytest.mark.slow
@pytest.mark.parametrize("bound", [dv, infonce])
@pytest.mark.parametrize("sentences", [1, 2])
@pytest.mark.parametrize("how", ["per_pair_max", "attention"])
def test_bounds_reach_most_of_what_there_is(
    how: RegionSelection, sentences: int, bound: Callable[[Tensor], Tensor]
) -> None:
    """.581 nats of one sentence and 1.457 of both, of which a sum over sentences misses some:
    that two sentences speak of two regions it cannot say."""
    true_mi = WORLD.mi(IMAGE, REPORT[:sentences])
    found = held_out(something(sentences), how, bound, learning_rate=1e-2)
    assert (0.9 if sentences == 1 else 0.7) * true_mi < found < true_mi + 0.03


@pytest.mark.slow
def test_matched_max_reports_nats_out_of_nothing() -> None:
    """The best of R draws against any of them: KL = log R - (R - 1)/R, with no information."""
    theory = math.log(NUM_REGIONS) - (NUM_REGIONS - 1) / NUM_REGIONS
    assert held_out_dv("matched_max", seed=0) == pytest.approx(theory, abs=0.15)


@pytest.mark.slow
def test_positive_argmax_reports_nats_out_of_nothing() -> None:
    """The selection leaks: up to log R, measured 1.77 +- .17 nats."""
    assert 1.3 < held_out_dv("positive_argmax", seed=0) < math.log(NUM_REGIONS)


@pytest.mark.parametrize(
    ("how", "nats"),
    [("matched_max", "log R"), ("positive_argmax", "log R"), ("per_pair_max", "0"), ("soft", "0")],
)
def test_a_critic_that_knows_the_place_gets_log_r_out_of_nothing(
    how: RegionSelection, nats: str
) -> None:
    """Each text asks for one place, whatever the image: regions that are not drawn alike."""
    regions, texts = 16, 512
    asked = torch.randint(regions, (texts,), generator=torch.Generator().manual_seed(0))
    at_place = torch.arange(regions)[:, None] == asked  # [R, texts]
    scores = 30.0 * at_place.expand(texts, regions, texts)
    wanted = {"log R": math.log(regions), "0": 0.0}[nats]
    assert dv(select_regions(scores, how)).item() == pytest.approx(wanted, abs=0.02)


# --- bad input ------------------------------------------------------------------------------


def test_unknown_reading_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="per_pair_max, soft, positive_argmax, matched_max"):
        select_regions(random_scores(), "max")  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(4, 4), (4, 0, 4), (2, 4, 3, 4)])
def test_wrong_shapes_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"\[images, regions, texts\]"):
        select_regions(torch.zeros(shape))


@pytest.mark.parametrize("how", ["positive_argmax", "matched_max"])
def test_readings_that_need_matched_pairs_refuse_other_numbers(how: RegionSelection) -> None:
    with pytest.raises(ConfigError, match="3 images and 7 texts"):
        select_regions(random_scores(images=3, texts=7), how)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_the_temperature_must_be_above_0(temperature: float) -> None:
    with pytest.raises(ConfigError, match="temperature"):
        select_regions(random_scores(), "soft", temperature)
