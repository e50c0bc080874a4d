"""JS, SMILE and DEMI against loops in float64, and the traps of each."""

import math
from collections.abc import Callable

import pytest
import torch
from score_matrices import random_mask, random_scores, value_and_gradient
from torch import Tensor

from localmi.errors import ConfigError, NoNegativesError
from localmi.mi.bounds import dv, dv_terms
from localmi.mi.density_ratio import (
    demi,
    demi_terms,
    js_objective,
    nwj_of_js,
    nwj_of_js_terms,
    smile,
    smile_terms,
)
from localmi.mi.unnormalised import nwj, nwj_terms

K = 7


def mismatched_of(scores: Tensor, allowed: Tensor) -> list[Tensor]:
    size = len(scores)
    return [scores[i, j] for i in range(size) for j in range(size) if i != j and allowed[i, j]]


def js_loop(scores: Tensor, allowed: Tensor) -> Tensor:
    """Cross-entropy of the two kinds of pairs, each with weight 1, from probabilities."""
    pairs = mismatched_of(scores, allowed)
    matched = sum(torch.log(1 / (1 + torch.exp(-f))) for f in scores.diagonal()) / len(scores)
    return matched + sum(torch.log(1 / (1 + torch.exp(f))) for f in pairs) / len(pairs)


def nwj_of_js_loop(scores: Tensor, allowed: Tensor) -> Tensor:
    """mean (f_ii + 1) - (1/|O|) sum_O e^(f + 1 - 1)."""
    pairs = mismatched_of(scores, allowed)
    matched = sum(f + 1 for f in scores.diagonal()) / len(scores)
    return matched - sum(f.exp() for f in pairs) / len(pairs)


def smile_loop(scores: Tensor, allowed: Tensor, clip: float) -> Tensor:
    """mean f_ii - log (1/|O|) sum_O e^f, e^f between e^-tau and e^tau."""
    low, high = torch.tensor([-clip, clip], dtype=torch.float64).exp()
    pairs = mismatched_of(scores, allowed)
    total = sum(torch.minimum(torch.maximum(f.exp(), low), high) for f in pairs)
    return sum(scores.diagonal()) / len(scores) - torch.log(total / len(pairs))


def demi_loop(scores: Tensor, log_prior_odds: float) -> Tensor:
    """Mean of log(p / (1 - p)) - log prior odds, p the probability of "matched"."""
    probabilities = [1 / (1 + torch.exp(-f)) for f in scores.diagonal()]
    logits = [torch.log(p / (1 - p)) for p in probabilities]
    return sum(logits) / len(logits) - log_prior_odds


Pair = tuple[Callable[[Tensor, Tensor | None], Tensor], Callable[[Tensor, Tensor], Tensor]]
PAIRS: dict[str, Pair] = {
    "js": (js_objective, js_loop),
    "nwj_of_js": (nwj_of_js, nwj_of_js_loop),
    "smile 5": (smile, lambda s, m: smile_loop(s, m, 5.0)),
    "smile 1": (lambda s, m: smile(s, m, 1.0), lambda s, m: smile_loop(s, m, 1.0)),
    "demi": (demi, lambda s, _: demi_loop(s, 0.0)),
    "demi odds": (lambda s, m: demi(s, m, -1.5), lambda s, _: demi_loop(s, -1.5)),
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", PAIRS)
def test_estimate_equals_the_loop(name: str, dtype: torch.dtype, masked: bool) -> None:
    function, loop = PAIRS[name]
    scores, allowed = random_scores(K), random_mask(K) if masked else None
    everything = torch.ones(K, K, dtype=torch.bool) if allowed is None else allowed
    expected = value_and_gradient(lambda s: loop(s, everything), scores)
    found = value_and_gradient(lambda s: function(s, allowed), scores.to(dtype))
    assert found[0].dtype == dtype
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


def test_an_asymmetric_mask_pins_the_orientation() -> None:
    """Pair (0, 1) alone is mismatched; read along the wrong side it would be (1, 0)."""
    scores = torch.tensor([[1.0, 5.0], [-9.0, 3.0]])
    only = torch.tensor([[True, True], [False, True]])
    matched = -(math.log1p(math.exp(-1)) + math.log1p(math.exp(-3))) / 2
    assert js_objective(scores, only).item() == pytest.approx(
        matched - math.log1p(math.exp(5)), abs=1e-5
    )
    assert nwj_of_js(scores, only).item() == pytest.approx(3 - math.exp(5), rel=1e-6)
    assert smile(scores, only).item() == pytest.approx(2 - 5, abs=1e-5)
    assert smile(scores, only.T).item() == pytest.approx(2 + 5, abs=1e-5)  # -9 is clipped to -5


# --- JS -------------------------------------------------------------------------------------


def test_the_js_objective_is_not_mutual_information() -> None:
    """It ends at 2 log 2 above "knows nothing", however much there is to know."""
    nothing = js_objective(torch.zeros(8, 8)).item()
    perfect = js_objective(2e3 * torch.eye(8) - 1e3).item()
    assert nothing == pytest.approx(-2 * math.log(2))
    assert perfect == pytest.approx(0, abs=1e-6)
    assert nwj_of_js(50 * torch.eye(8) - 25).item() > math.log(8)


def test_matched_and_mismatched_pairs_weigh_the_same_in_the_js_objective() -> None:
    """K matched against K(K - 1) mismatched pairs: the mean of each, not of all."""
    flat = torch.full((6, 6), 0.7).requires_grad_()
    js_objective(flat).backward()
    assert flat.grad is not None
    probability = torch.sigmoid(torch.tensor(0.7)).item()
    assert flat.grad.diagonal().sum().item() == pytest.approx(1 - probability)
    assert (flat.grad.sum() - flat.grad.trace()).item() == pytest.approx(-probability)


def test_nwj_is_reported_one_above_the_logit() -> None:
    """Whoever reports NWJ of the logit itself loses: e^-1 of the mean, and 1 nat."""
    scores = random_scores(K, scale=1.0)
    torch.testing.assert_close(nwj_of_js(scores), nwj(scores + 1))
    torch.testing.assert_close(nwj_of_js_terms(scores), nwj_terms(scores + 1))


# --- SMILE ----------------------------------------------------------------------------------


def test_smile_clips_mismatched_pairs_only() -> None:
    scores = torch.full((3, 3), -2.0).fill_diagonal_(9.0)
    assert smile(scores, clip=1.0).item() == pytest.approx(9 + 1)
    assert smile(-scores, clip=1.0).item() == pytest.approx(-9 - 1)
    gradient = value_and_gradient(lambda s: smile(s, clip=1.0), scores)[1]
    torch.testing.assert_close(gradient, torch.eye(3) / 3)


def test_smile_with_an_infinite_clip_is_dv() -> None:
    scores, allowed = 10 * random_scores(K), random_mask(K)
    for mask in (None, allowed):
        assert torch.equal(smile(scores, mask, clip=math.inf), dv(scores, mask))
        assert torch.equal(smile_terms(scores, mask, clip=math.inf), dv_terms(scores, mask))
        assert not torch.equal(smile(scores, mask), dv(scores, mask))


# --- DEMI -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 16])
def test_demi_takes_the_prior_odds_off(size: int) -> None:
    """A calibrated classifier that saw K matched and K(K - 1) mismatched pairs, all alike."""
    log_ratio = random_scores(size)
    logits = log_ratio - math.log(size - 1)  # Bayes: plus the log prior odds
    found = demi(logits, log_prior_odds=-math.log(size - 1))
    torch.testing.assert_close(found, log_ratio.diagonal().mean())
    torch.testing.assert_close(demi(log_ratio), log_ratio.diagonal().mean())


def test_demi_is_no_bound() -> None:
    """Of an over-confident classifier it grows without end, where every bound falls."""
    scores = random_scores(K, scale=1.0) + torch.eye(K)
    assert demi(100 * scores).item() == pytest.approx(100 * demi(scores).item())
    assert nwj_of_js(100 * scores) < nwj_of_js(scores)


# --- terms ----------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
def test_the_mean_of_the_terms_is_the_estimate(masked: bool) -> None:
    scores, allowed = random_scores(K), random_mask(K) if masked else None
    for terms, value in (
        (nwj_of_js_terms(scores, allowed), nwj_of_js(scores, allowed)),
        (smile_terms(scores, allowed, 1.0), smile(scores, allowed, 1.0)),
        (demi_terms(scores, allowed, 0.4), demi(scores, allowed, 0.4)),
    ):
        assert terms.shape == (K,)
        torch.testing.assert_close(terms.mean(), value)


def test_the_terms_of_smile_are_what_each_pair_adds() -> None:
    """The jackknife, K v - (K - 1) v without pair i, needs no formula."""
    size = 60
    scores = random_scores(size, scale=1.0)
    without = [
        smile(scores[keep][:, keep], clip=1.0)
        for keep in (torch.arange(size)[torch.arange(size) != i] for i in range(size))
    ]
    expected = size * smile(scores, clip=1.0) - (size - 1) * torch.stack(without)
    torch.testing.assert_close(smile_terms(scores, clip=1.0), expected, rtol=0, atol=0.05)


# --- bad input ------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [0.0, -1.0, math.nan])
def test_the_clip_must_be_above_0(clip: float) -> None:
    for function in (smile, smile_terms):
        with pytest.raises(ConfigError, match="clip is"):
            function(torch.zeros(4, 4), None, clip)


@pytest.mark.parametrize("odds", [math.inf, -math.inf, math.nan])
def test_the_prior_odds_must_be_finite(odds: float) -> None:
    for function in (demi, demi_terms):
        with pytest.raises(ConfigError, match="log_prior_odds is"):
            function(torch.zeros(4, 4), None, odds)


def test_demi_needs_a_pair() -> None:
    for function in (demi, demi_terms):
        with pytest.raises(NoNegativesError, match="no pairs"):
            function(torch.zeros(0, 0))
    assert demi(torch.full((1, 1), 3.0)).item() == 3  # but no mismatched one
