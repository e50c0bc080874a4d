"""TUBA, NWJ and I_alpha against loops in float64, and the traps of each."""

import math
from collections.abc import Callable

import pytest
import torch
from score_matrices import random_mask, random_scores
from torch import Tensor

from localmi.errors import ConfigError, NoNegativesError
from localmi.mi.unnormalised import (
    EXP_LIMIT,
    interpolated,
    interpolated_terms,
    nwj,
    nwj_terms,
    tuba,
    tuba_terms,
)

ALPHAS = (0.0, 0.01, 0.5, 1.0)


def tuba_loop(scores: Tensor, allowed: Tensor, log_baseline: Tensor) -> Tensor:
    """1 + (1/K) sum (f_ii - log a_i) - (1/|O|) sum_O e^f_ij / a_j."""
    K = len(scores)
    pairs = [(i, j) for i in range(K) for j in range(K) if i != j and allowed[i, j]]
    matched = sum(scores[i, i] - log_baseline[i] for i in range(K)) / K
    mismatched = sum(scores[i, j].exp() / log_baseline[j].exp() for i, j in pairs) / len(pairs)
    return 1 + matched - mismatched


def interpolated_loop(
    scores: Tensor, allowed: Tensor, log_baseline: Tensor, alpha: float
) -> Tensor:
    """Two loops: over the texts y_j, and over the image that is left out of the mean m(y_j)."""
    K = len(scores)
    matched, mismatched, number = 0.0, 0.0, 0
    for j in range(K):
        others = [i for i in range(K) if i != j and allowed[i, j]]
        fixed = (1 - alpha) * log_baseline[j].exp()
        for left_out in others:
            kept = [j] + [i for i in others if i != left_out]
            mean = sum(scores[i, j].exp() for i in kept) / len(others)
            matched = matched + (scores[j, j] - (alpha * mean + fixed).log()) / len(others) / K
        mean = sum(scores[i, j].exp() for i in others) / len(others)
        for i in others:
            mismatched = mismatched + scores[i, j].exp() / (alpha * mean + fixed)
            number += 1
    return 1 + matched - mismatched / number


def mask_of(size: int, masked: bool) -> tuple[Tensor | None, Tensor]:
    """The mask as a bound gets it, and as a loop does."""
    mask = random_mask(size)
    return (mask, mask) if masked else (None, torch.ones_like(mask))


def value_and_gradients(
    function: Callable[[Tensor, Tensor], Tensor], scores: Tensor, log_baseline: Tensor
) -> tuple[Tensor, ...]:
    inputs = [tensor.clone().requires_grad_() for tensor in (scores, log_baseline)]
    value = function(*inputs)
    return value.detach(), *torch.autograd.grad(value, inputs, materialize_grads=True)


def assert_same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


# --- values and gradients -----------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tuba_equals_the_loop(dtype: torch.dtype, masked: bool) -> None:
    scores, log_baseline = random_scores(7, scale=2.0), random_scores(7, seed=1, scale=2.0)[0]
    allowed, everything = mask_of(7, masked)
    expected = value_and_gradients(lambda s, b: tuba_loop(s, everything, b), scores, log_baseline)
    found = value_and_gradients(
        lambda s, b: tuba(s, allowed, b), scores.to(dtype), log_baseline.to(dtype)
    )
    assert found[0].dtype == dtype
    assert_same(found, expected)


@pytest.mark.parametrize("masked", [False, True])
def test_nwj_is_tuba_with_the_baseline_e(masked: bool) -> None:
    scores = random_scores(7, scale=2.0)
    allowed, everything = mask_of(7, masked)
    expected = tuba_loop(scores, everything, torch.ones(7, dtype=torch.float64))
    for found in (nwj(scores, allowed), tuba(scores, allowed), tuba(scores, allowed, 1.0)):
        torch.testing.assert_close(found, expected)
    pairs = [scores[i, j] for i in range(7) for j in range(7) if i != j and everything[i, j]]
    textbook = scores.diagonal().mean() - (torch.stack(pairs) - 1).exp().mean()
    torch.testing.assert_close(nwj(scores.float(), allowed).double(), textbook, rtol=0, atol=1e-5)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_interpolated_equals_the_double_loop(
    alpha: float, dtype: torch.dtype, masked: bool
) -> None:
    scores, log_baseline = random_scores(7, scale=2.0), random_scores(7, seed=1, scale=2.0)[0]
    allowed, everything = mask_of(7, masked)
    expected = value_and_gradients(
        lambda s, b: interpolated_loop(s, everything, b, alpha), scores, log_baseline
    )
    found = value_and_gradients(
        lambda s, b: interpolated(s, allowed, alpha, b), scores.to(dtype), log_baseline.to(dtype)
    )
    assert found[0].dtype == dtype
    assert_same(found, expected)


def test_one_number_or_one_for_each_column_may_be_the_baseline() -> None:
    scores = random_scores(5, scale=2.0)
    for baseline in (0.3, torch.tensor(0.3), torch.full((5,), 0.3)):
        torch.testing.assert_close(tuba(scores, None, baseline), tuba(scores, None, 0.3))
        torch.testing.assert_close(
            interpolated(scores, None, 0.5, baseline), interpolated(scores, None, 0.5, 0.3)
        )


def test_an_asymmetric_critic_pins_the_orientation() -> None:
    """f(x_0, y_1) = 3 alone is large: it is compared within column 1, with a(y_1)."""
    scores = torch.tensor([[0.0, 3.0], [-2.0, 1.0]], dtype=torch.float64)
    baseline = torch.tensor([0.5, 1.5], dtype=torch.float64)
    columns = 1 + (0 - 0.5 + 1 - 1.5) / 2 - (math.exp(3 - 1.5) + math.exp(-2 - 0.5)) / 2
    rows = 1 + (0 - 0.5 + 1 - 1.5) / 2 - (math.exp(3 - 0.5) + math.exp(-2 - 1.5)) / 2
    assert tuba(scores, None, baseline).item() == pytest.approx(columns)
    assert tuba(scores.T, None, baseline).item() == pytest.approx(rows)

    # m(y_j) is a mean over images: every text likes image 0 best, no image minds which text.
    scores = torch.tensor([[5.0, 5.0, 5.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]).double()
    nothing = torch.zeros(3, dtype=torch.float64)
    everything = torch.ones(3, 3, dtype=torch.bool)
    along_columns = interpolated_loop(scores, everything, nothing, 1.0)
    along_rows = interpolated_loop(scores.T, everything, nothing, 1.0)
    assert along_columns < along_rows - 1
    torch.testing.assert_close(interpolated(scores, alpha=1.0), along_columns)
    torch.testing.assert_close(interpolated(scores.T, alpha=1.0), along_rows)

    # A column that reads the mask along the wrong side would use the pair (1, 0) of score -9.
    only_0_1 = torch.tensor([[True, True], [False, True]])
    scores = torch.tensor([[0.0, 5.0], [-9.0, 6.0]])
    assert nwj(scores, only_0_1).item() == pytest.approx(3 - math.exp(4), rel=1e-6)
    for mask, error in ((only_0_1, r"Column\(s\) 0 of 2"), (only_0_1.T, r"Column\(s\) 1 of 2")):
        with pytest.raises(NoNegativesError, match=error):
            interpolated(scores, mask)


# --- what I_alpha lies between ------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
def test_alpha_0_is_tuba(masked: bool) -> None:
    scores, log_baseline = random_scores(7, scale=2.0), random_scores(7, seed=1, scale=2.0)[0]
    allowed, _ = mask_of(7, masked)
    found = value_and_gradients(lambda s, b: interpolated(s, allowed, 0, b), scores, log_baseline)
    expected = value_and_gradients(lambda s, b: tuba(s, allowed, b), scores, log_baseline)
    assert_same(found, expected)


def test_alpha_1_is_the_mean_infonce_of_batches_that_lack_one_image() -> None:
    """For text j and left-out image l: InfoNCE of column j among the K - 1 images that stay."""
    K = 6
    scores = random_scores(K, scale=2.0)
    values = []
    for j in range(K):
        for left_out in set(range(K)) - {j}:
            column = torch.stack([scores[i, j] for i in range(K) if i != left_out])
            values.append(scores[j, j] - column.logsumexp(0) + math.log(K - 1))
    found = interpolated(scores, None, alpha=1.0, log_baseline=17.0)  # the baseline has no say
    torch.testing.assert_close(found, torch.stack(values).mean())
    assert found <= math.log(K - 1)


@pytest.mark.parametrize("size", [2, 3, 8])
def test_the_caps_of_a_perfect_critic(size: int) -> None:
    """The matched image left out of its own mean would remove the cap log(K - 1)."""
    perfect = 2e3 * torch.eye(size, dtype=torch.float64) - 1e3
    cap = math.log(size - 1)
    assert interpolated(perfect, alpha=1.0).item() == pytest.approx(cap, abs=1e-9)
    half = interpolated(perfect, alpha=0.5).item()
    assert half == pytest.approx(1 + cap + math.log(2), abs=1e-9)
    assert nwj(perfect).item() == pytest.approx(1e3)  # no cap


def test_the_cap_under_a_mask_counts_each_columns_own_images() -> None:
    allowed = torch.tensor([[0, 1, 1], [1, 0, 0], [1, 0, 0]], dtype=torch.bool)
    perfect = 2e3 * torch.eye(3, dtype=torch.float64) - 1e3
    expected = (math.log(2) + math.log(1) + math.log(1)) / 3
    assert interpolated(perfect, allowed, alpha=1.0).item() == pytest.approx(expected, abs=1e-9)


def test_smallest_batch() -> None:
    """K = 2: only the matched image is left in the mean, so alpha = 1 knows nothing."""
    scores = torch.tensor([[1.0, 2.0], [0.5, 3.0]], dtype=torch.float64)
    assert nwj(scores).item() == pytest.approx(2 - (math.e + math.exp(-0.5)) / 2)
    assert interpolated(scores, alpha=1.0).item() == pytest.approx(0, abs=1e-12)
    mixed = [(math.exp(f) + math.e) / 2 for f in (1.0, 3.0, 0.5, 2.0)]
    matched = (1 - math.log(mixed[0]) + 3 - math.log(mixed[1])) / 2
    mismatched = (math.exp(0.5) / mixed[2] + math.exp(2) / mixed[3]) / 2
    expected = 1 + matched - mismatched
    assert interpolated(scores, alpha=0.5).item() == pytest.approx(expected)


# --- numerics -------------------------------------------------------------------------------


def test_interpolated_is_exact_at_scores_whose_exponential_is_infinite() -> None:
    """e^200 is infinite in float32; the same shift of f and log a must change nothing."""
    scores, baseline = random_scores(6, scale=2.0), random_scores(6, seed=1, scale=2.0)[0]
    for alpha in ALPHAS:
        expected = interpolated(scores, None, alpha, baseline)
        for shift in (-1000.0, 200.0, 1000.0):
            moved = interpolated(scores + shift, None, alpha, baseline + shift)
            torch.testing.assert_close(moved, expected)
        moved = interpolated((scores + 200).float(), None, alpha, (baseline + 200).float())
        assert moved.item() == pytest.approx(expected.item(), rel=1e-3)


def test_one_image_that_holds_nearly_all_of_a_column_leaves_the_rest_exact() -> None:
    """log(sum - largest) by subtraction would keep nothing of the rest in float32."""
    scores = torch.tensor([[0.0, 50.0, 1.0], [-1.0, 0.0, 2.0], [0.5, -0.5, 0.0]])
    everything = torch.ones(3, 3, dtype=torch.bool)
    exact = interpolated_loop(scores.double(), everything, torch.ones(3).double(), 1.0)
    assert interpolated(scores, alpha=1.0).item() == pytest.approx(exact.item(), abs=1e-5)


def test_tuba_shifts_with_its_baseline_column_by_column() -> None:
    scores, baseline = random_scores(6, scale=2.0), random_scores(6, seed=1, scale=2.0)[0]
    shift = torch.linspace(-500, 500, 6).double()
    moved = tuba(scores + shift, None, baseline + shift)
    torch.testing.assert_close(moved, tuba(scores, None, baseline))


def test_nwj_is_exact_up_to_the_limit_and_finite_beyond_it() -> None:
    """exp overflows float32 at 88.7; what is beyond e^40 goes on as the tangent does."""
    for level in (1.0 + EXP_LIMIT - 1e-3, 1.0 + EXP_LIMIT + 1e-3):
        scores = torch.full((3, 3), level, dtype=torch.float64)
        assert nwj(scores).item() == pytest.approx(level - math.exp(level - 1), rel=1e-5)
    values = [nwj(torch.full((3, 3), level)).item() for level in (50.0, 89.0, 1e3, 1e4)]
    assert all(map(math.isfinite, values))
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("level", [10.0, 60.0, 1e4])
def test_scores_that_are_too_high_are_pushed_down(level: float) -> None:
    """A clamped log would have no gradient here, and training would never come back."""
    scores = torch.full((4, 4), level).requires_grad_()
    nwj(scores).backward()
    assert scores.grad is not None
    mismatched = ~torch.eye(4, dtype=torch.bool)
    assert (scores.grad[mismatched] < -1).all()
    assert scores.grad.square().sum().isfinite()  # Adam keeps the square


@pytest.mark.parametrize("mi", [0.25, 0.5])
def test_the_variance_of_the_density_ratio_is_that_of_the_gaussian_law(mi: float) -> None:
    """Var_q(r) = e^(2 I) - 1 with one dimension or several: the price of e^f in a mean."""
    generator = torch.Generator().manual_seed(0)
    dim = 3
    rho2 = 1 - math.exp(-2 * mi / dim)
    x, y = torch.randn(2, 400_000, dim, generator=generator, dtype=torch.float64)
    square = (rho2 * (x**2 + y**2) - 2 * math.sqrt(rho2) * x * y).sum(dim=1)
    ratio = (mi - square / (2 * (1 - rho2))).exp()
    assert ratio.mean().item() == pytest.approx(1, abs=0.01)
    assert ratio.var().item() == pytest.approx(math.expm1(2 * mi), rel=0.1)


# --- terms ----------------------------------------------------------------------------------


def jackknife(value: Callable[[Tensor], Tensor], scores: Tensor) -> Tensor:
    """[K] K v - (K - 1) v without pair i: what pair i adds, without any formula."""
    K = len(scores)
    without = [
        value(scores[keep][:, keep])
        for keep in (torch.arange(K)[torch.arange(K) != i] for i in range(K))
    ]
    return K * value(scores) - (K - 1) * torch.stack(without)


@pytest.mark.parametrize("masked", [False, True])
def test_the_mean_of_the_terms_is_the_bound(masked: bool) -> None:
    scores, baseline = random_scores(7, scale=2.0), random_scores(7, seed=1, scale=2.0)[0]
    allowed, _ = mask_of(7, masked)
    for terms, value in (
        (tuba_terms(scores, allowed, baseline), tuba(scores, allowed, baseline)),
        (nwj_terms(scores, allowed), nwj(scores, allowed)),
        (
            interpolated_terms(scores, allowed, 0.3, baseline),
            interpolated(scores, allowed, 0.3, baseline),
        ),
    ):
        assert terms.shape == (7,)
        torch.testing.assert_close(terms.mean(), value)


def test_the_terms_are_what_each_pair_adds() -> None:
    scores = random_scores(60, scale=0.7)
    torch.testing.assert_close(nwj_terms(scores), jackknife(nwj, scores), rtol=0, atol=0.05)
    for alpha in (0.0, 1.0):
        found = interpolated_terms(scores, None, alpha)
        expected = jackknife(lambda s: interpolated(s, None, alpha), scores)  # noqa: B023
        torch.testing.assert_close(found, expected, rtol=0, atol=0.05)


# --- bad input ------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3,), (4, 1), (4, 4)])
def test_a_baseline_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    for function in (tuba, tuba_terms):
        with pytest.raises(ConfigError, match=r"log_baseline has shape.*4 columns"):
            function(torch.zeros(4, 4), None, torch.zeros(shape))
    for function in (interpolated, interpolated_terms):
        with pytest.raises(ConfigError, match=r"log_baseline has shape.*4 columns"):
            function(torch.zeros(4, 4), None, 0.5, torch.zeros(shape))


@pytest.mark.parametrize("alpha", [-0.1, 1.1, math.nan])
def test_alpha_is_a_weight(alpha: float) -> None:
    for function in (interpolated, interpolated_terms):
        with pytest.raises(ConfigError, match="alpha is"):
            function(torch.zeros(4, 4), None, alpha)
