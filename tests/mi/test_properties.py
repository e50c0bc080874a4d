"""What must hold for every estimate from a score matrix, whatever the scores (hypothesis)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from localmi.errors import ConfigError, NoNegativesError
from localmi.mi import bounds, density_ratio, unnormalised
from localmi.names import Direction

Function = Callable[[Tensor, Tensor | None], Tensor]
EXAMPLES = settings(max_examples=25, deadline=None, derandomize=True)
SIZES = st.integers(2, 8)
SEEDS = st.integers(0, 2**20)
SCALES = st.sampled_from([0.0, 0.3, 3.0])


@dataclass(frozen=True)
class Estimator:
    """A function of scores and mask, and what is to be expected of it."""

    value: Function
    terms: Function | None = None
    invariant: bool = False  # does a shift of all scores change nothing?
    needs: Literal["nothing", "a pair", "rows", "columns", "both"] = "a pair"  # else: an error


def mine(scores: Tensor, allowed: Tensor | None = None) -> Tensor:
    """MINE at its first batch: the value of DV, with the surrogate's gradient."""
    value, surrogate = bounds.MINE()(scores, allowed)
    return value + surrogate - surrogate.detach()


def infonce(direction: Direction, needs: Literal["rows", "columns", "both"]) -> Estimator:
    return Estimator(
        partial(bounds.infonce, direction=direction),
        partial(bounds.infonce_terms, direction=direction),
        invariant=True,
        needs=needs,
    )


def interpolated(alpha: float) -> Estimator:
    return Estimator(
        partial(unnormalised.interpolated, alpha=alpha),
        partial(unnormalised.interpolated_terms, alpha=alpha),
        invariant=alpha == 1,
        needs="columns",
    )


def smile(clip: float) -> Estimator:
    return Estimator(
        partial(density_ratio.smile, clip=clip),
        partial(density_ratio.smile_terms, clip=clip),
        invariant=clip == math.inf,
    )


ESTIMATORS: dict[str, Estimator] = {
    "dv": Estimator(bounds.dv, bounds.dv_terms, invariant=True),
    "mine": Estimator(mine, invariant=True),
    "infonce rows": infonce("image_to_text", "rows"),
    "infonce columns": infonce("text_to_image", "columns"),
    "infonce": infonce("symmetric", "both"),
    "tuba": Estimator(
        partial(unnormalised.tuba, log_baseline=-0.5),
        partial(unnormalised.tuba_terms, log_baseline=-0.5),
    ),
    "nwj": Estimator(unnormalised.nwj, unnormalised.nwj_terms),
    "interpolated 0": interpolated(0.0),
    "interpolated 0.5": interpolated(0.5),
    "interpolated 1": interpolated(1.0),
    "js": Estimator(density_ratio.js_objective),
    "nwj_of_js": Estimator(density_ratio.nwj_of_js, density_ratio.nwj_of_js_terms),
    "smile 1": smile(1.0),
    "smile 5": smile(5.0),
    "smile inf": smile(math.inf),
    "demi": Estimator(density_ratio.demi, density_ratio.demi_terms, needs="nothing"),
}
every_estimator = pytest.mark.parametrize("name", ESTIMATORS)


def random_scores(size: int, seed: int, scale: float) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(size, size, generator=generator, dtype=torch.float64)


def random_mask(size: int, seed: int) -> Tensor:
    """Roughly half of the pairs, and at least one in every row and column."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(size, size, generator=generator) < 0.5
    return mask | torch.eye(size, dtype=torch.bool).roll(1, dims=1)


def value_and_gradient(function: Function, scores: Tensor, allowed: Tensor | None) -> tuple:
    scores = scores.clone().requires_grad_()
    value = function(scores, allowed)
    return value.detach(), torch.autograd.grad(value, scores)[0]


def functions_of(name: str) -> list[Function]:
    """The value, and the terms where there are some."""
    estimator = ESTIMATORS[name]
    return [estimator.value] if estimator.terms is None else [estimator.value, estimator.terms]


@every_estimator
@given(size=SIZES, seed=SEEDS, scale=SCALES, masked=st.booleans())
@EXAMPLES
def test_the_order_of_the_batch_does_not_matter(
    name: str, size: int, seed: int, scale: float, masked: bool
) -> None:
    scores = random_scores(size, seed, scale)
    allowed = random_mask(size, seed) if masked else None
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    moved = None if allowed is None else allowed[order][:, order]
    estimator = ESTIMATORS[name]
    value = estimator.value(scores[order][:, order], moved)
    torch.testing.assert_close(value, estimator.value(scores, allowed))
    if estimator.terms is not None:
        terms = estimator.terms(scores[order][:, order], moved)
        torch.testing.assert_close(terms, estimator.terms(scores, allowed)[order])


@every_estimator
@given(size=SIZES, seed=SEEDS, scale=SCALES, masked=st.booleans())
@EXAMPLES
def test_a_shift_of_all_scores_changes_what_it_may_change(
    name: str, size: int, seed: int, scale: float, masked: bool
) -> None:
    """Whoever normalises e^f forgets a shift; NWJ, JS, SMILE and DEMI take f at its word."""
    scores = random_scores(size, seed, scale)
    allowed = random_mask(size, seed) if masked else None
    estimator = ESTIMATORS[name]
    before = estimator.value(scores, allowed)
    changes = [(estimator.value(scores + c, allowed) - before).abs() for c in (-20, 20)]
    if estimator.invariant:
        assert max(changes) < 1e-9
    else:
        assert max(changes) > 1


@pytest.mark.parametrize(
    ("name", "log_mean"),
    [("nwj", 1.0), ("tuba", -0.5), ("nwj_of_js", 0.0), ("interpolated 0", 1.0)],
)
@given(size=SIZES, seed=SEEDS, shift=st.floats(-5, 5), masked=st.booleans())
@EXAMPLES
def test_what_a_shift_changes_in_an_unnormalised_bound(
    name: str, log_mean: float, size: int, seed: int, shift: float, masked: bool
) -> None:
    """I(f + c) = I(f) + c - (e^c - 1) E_O[e^f / a]."""
    scores = random_scores(size, seed, 1.0)
    allowed = random_mask(size, seed) if masked else None
    everything = torch.ones(size, size, dtype=torch.bool) if allowed is None else allowed
    mean = (scores[everything & ~torch.eye(size, dtype=torch.bool)] - log_mean).exp().mean()
    value = ESTIMATORS[name].value
    expected = value(scores, allowed) + shift - math.expm1(shift) * mean
    torch.testing.assert_close(value(scores + shift, allowed), expected)


@given(size=SIZES, seed=SEEDS, shift=st.floats(-5, 5))
@EXAMPLES
def test_demi_moves_with_a_shift(size: int, seed: int, shift: float) -> None:
    scores = random_scores(size, seed, 3.0)
    moved = density_ratio.demi(scores + shift, log_prior_odds=shift)
    torch.testing.assert_close(moved, density_ratio.demi(scores))


@every_estimator
@given(size=SIZES, seed=SEEDS, scale=SCALES)
@EXAMPLES
def test_a_masked_pair_is_never_read(name: str, size: int, seed: int, scale: float) -> None:
    """Whatever stands there, value, terms and gradient are the same, and it gets none."""
    scores, allowed = random_scores(size, seed, scale), random_mask(size, seed)
    masked = ~(allowed | torch.eye(size, dtype=torch.bool))
    estimator = ESTIMATORS[name]
    expected = value_and_gradient(estimator.value, scores, allowed)
    for filler in (-1e4, 1e4, math.nan):
        other = scores.masked_fill(masked, filler)
        found = value_and_gradient(estimator.value, other, allowed)
        torch.testing.assert_close(found[0], expected[0])
        torch.testing.assert_close(found[1], expected[1])
        assert (found[1][masked] == 0).all()
        if estimator.terms is not None:
            terms = estimator.terms(scores, allowed)
            torch.testing.assert_close(estimator.terms(other, allowed), terms)


@every_estimator
@given(size=SIZES, seed=SEEDS, scale=SCALES)
@EXAMPLES
def test_the_masks_diagonal_is_ignored_and_a_full_mask_is_none(
    name: str, size: int, seed: int, scale: float
) -> None:
    scores, allowed = random_scores(size, seed, scale), random_mask(size, seed)
    everything = torch.ones(size, size, dtype=torch.bool)
    for function in functions_of(name):
        assert torch.equal(function(scores, everything), function(scores, None))
        given_true = function(scores, allowed.clone().fill_diagonal_(True))
        assert torch.equal(given_true, function(scores, allowed.clone().fill_diagonal_(False)))


@every_estimator
@given(
    size=SIZES,
    seed=SEEDS,
    offset=st.sampled_from([0.0, 20.0]),
    masked=st.booleans(),
    dtype=st.sampled_from([torch.float16, torch.bfloat16]),
    autocast=st.booleans(),
)
@EXAMPLES
def test_half_precision_is_computed_in_float32(
    name: str,
    size: int,
    seed: int,
    offset: float,
    masked: bool,
    dtype: torch.dtype,
    autocast: bool,
) -> None:
    """e^20 is infinite in float16, and a sum in bfloat16 has two digits."""
    scores = (random_scores(size, seed, 3.0) + offset).to(dtype)
    allowed = random_mask(size, seed) if masked else None
    for function in functions_of(name):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found = function(scores, allowed)
        assert found.dtype == torch.float32
        expected = function(scores.double(), allowed)
        tolerance = 2e-5 * (1 + expected.abs().max().item())
        torch.testing.assert_close(found.double(), expected, rtol=0, atol=tolerance)
    _, gradient = value_and_gradient(ESTIMATORS[name].value, scores / 4, allowed)
    assert gradient.dtype == dtype
    assert gradient.isfinite().all()


@every_estimator
@given(
    size=SIZES,
    seed=SEEDS,
    largest=st.sampled_from([60.0, 88.8, 200.0, 1e4]),
    kind=st.sampled_from(["signs", "uniform", "matched", "mismatched", "high", "low"]),
    masked=st.booleans(),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
)
@settings(EXAMPLES, max_examples=60)
def test_scores_up_to_ten_thousand_stay_finite(
    name: str,
    size: int,
    seed: int,
    largest: float,
    kind: str,
    masked: bool,
    dtype: torch.dtype,
) -> None:
    noise = random_scores(size, seed, 1.0)
    matched = 2 * torch.eye(size, dtype=torch.float64) - 1
    patterns = {
        "signs": noise.sign(),
        "uniform": noise / noise.abs().max(),
        "matched": matched,
        "mismatched": -matched,
        "high": torch.ones_like(noise),
        "low": -torch.ones_like(noise),
    }
    scores = (largest * patterns[kind]).to(dtype)
    allowed = random_mask(size, seed) if masked else None
    scores = scores.float() if dtype.itemsize == 2 else scores  # a gradient may exceed float16
    value, gradient = value_and_gradient(ESTIMATORS[name].value, scores, allowed)
    assert value.isfinite()
    assert gradient.isfinite().all()
    for function in functions_of(name):
        assert function(scores.to(dtype), allowed).isfinite().all()


@every_estimator
@given(seed=SEEDS, scale=SCALES)
@EXAMPLES
def test_the_mean_of_the_terms_is_the_value(name: str, seed: int, scale: float) -> None:
    estimator = ESTIMATORS[name]
    if estimator.terms is None:
        return
    for size in (2, 7):
        scores, allowed = random_scores(size, seed, scale), random_mask(size, seed)
        for mask in (allowed, None):
            terms = estimator.terms(scores, mask)
            assert terms.shape == (size,)
            torch.testing.assert_close(terms.mean(), estimator.value(scores, mask))


@every_estimator
@given(
    size=st.integers(3, 8),
    seed=SEEDS,
    side=st.sampled_from(["rows", "columns"]),
    lonely=st.integers(0, 7),
)
@EXAMPLES
def test_a_row_or_column_without_mismatched_pairs(
    name: str, size: int, seed: int, side: str, lonely: int
) -> None:
    """K_i = 0 is an error that names it where it is needed, and never a NaN."""
    assume(lonely < size)
    allowed = ~torch.eye(size, dtype=torch.bool)
    if side == "rows":
        allowed[lonely] = False
    else:
        allowed[:, lonely] = False
    scores = random_scores(size, seed, 3.0)
    named = rf"{side[:-1].capitalize()}\(s\) {lonely} of {size}"
    for function in functions_of(name):
        if ESTIMATORS[name].needs in (side, "both"):
            with pytest.raises(NoNegativesError, match=named):
                function(scores, allowed)
        else:
            assert function(scores, allowed).isfinite().all()


@every_estimator
@pytest.mark.parametrize("size", [0, 1, 2, 5])
def test_a_batch_without_mismatched_pairs_is_an_error(name: str, size: int) -> None:
    """Never a NaN. DEMI alone needs no mismatched pair, but it needs a matched one."""
    scores, nothing = torch.zeros(size, size), torch.zeros(size, size, dtype=torch.bool)
    for function in functions_of(name):
        for allowed in (nothing, None) if size < 2 else (nothing,):
            if size and ESTIMATORS[name].needs == "nothing":
                assert function(scores, allowed).isfinite().all()
                continue
            with pytest.raises(NoNegativesError, match="at least (two studies|one)"):
                function(scores, allowed)


@every_estimator
def test_bad_scores_and_masks_are_refused(name: str) -> None:
    for function in functions_of(name):
        for shape in ((4, 5), (4,), (4, 16, 4)):
            with pytest.raises(ConfigError, match="square matrix of scores"):
                function(torch.zeros(shape), None)
        with pytest.raises(ConfigError, match=r"\[3, 3\].*\[4, 4\]"):
            function(torch.zeros(4, 4), torch.ones(3, 3, dtype=torch.bool))
        with pytest.raises(ConfigError, match="must be bool"):
            function(torch.zeros(4, 4), torch.ones(4, 4))


@every_estimator
def test_scores_and_masks_are_left_as_they_were(name: str) -> None:
    scores, allowed = random_scores(5, 0, 3.0), random_mask(5, 0)
    before = scores.clone(), allowed.clone()
    for function in functions_of(name):
        function(scores, allowed)
    assert torch.equal(scores, before[0])
    assert torch.equal(allowed, before[1])


@every_estimator
def test_scores_may_lie_on_another_device_than_the_mask(name: str) -> None:
    """The meta device has no numbers: whoever waited for one, as for a GPU, would fail."""
    scores = torch.zeros(5, 5, device="meta", requires_grad=True)
    for function in functions_of(name):
        for allowed in (None, random_mask(5, 0)):
            found = function(scores, allowed)
            assert found.device.type == "meta"
            found.sum().backward()
