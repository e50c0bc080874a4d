"""The readings of the max over regions: against loops, and what each reports when MI is 0."""

import math
from collections.abc import Callable
from typing import get_args

import pytest
import torch
from torch import Tensor

from localmi.errors import ConfigError
from localmi.mi.bounds import dv
from localmi.mi.critics import ConcatCritic
from localmi.mi.selection import RegionSelection, select_regions

READINGS = get_args(RegionSelection)


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


def held_out_dv(how: RegionSelection, seed: int) -> float:
    """A critic trained with DV under one reading; its DV on fresh pairs, in nats.

    16 regions and a sentence, all independent: the mutual information is 0. Every step draws
    fresh data, so nothing can be learned by heart.
    """
    torch.manual_seed(seed)
    dim = 4

    def scores(batch: int) -> Tensor:
        regions = torch.randn(batch, NUM_REGIONS, dim)
        return select_regions(critic(regions, torch.randn(batch, dim)), how)

    critic = ConcatCritic(dim, dim, hidden=(32, 32))
    steps = 300
    optimizer = torch.optim.Adam(critic.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        (-dv(scores(batch=32))).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return sum(dv(scores(batch=256)).item() for _ in range(4)) / 4


@pytest.mark.slow
@pytest.mark.parametrize("how", ["per_pair_max", "soft"])
def test_bounds_report_nothing_where_there_is_nothing(how: RegionSelection) -> None:
    assert held_out_dv(how, seed=0) == pytest.approx(0, abs=0.05)


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
