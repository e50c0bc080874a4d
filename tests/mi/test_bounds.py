"""Bounds against float64 loops written from the formulas, and what can go wrong with them."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from score_matrices import random_mask, random_scores, value_and_gradient
from torch import Tensor

from localmi.errors import CheckpointError, ConfigError, NoNegativesError
from localmi.mi.bounds import MINE, Direction, dv, infonce, infonce_cap

DIRECTIONS: tuple[Direction, ...] = ("image_to_text", "text_to_image", "symmetric")
BOUNDS: dict[str, Callable[[Tensor, Tensor | None], Tensor]] = {
    "dv": dv,
    "image_to_text": lambda scores, allowed: infonce(scores, allowed, "image_to_text"),
    "text_to_image": lambda scores, allowed: infonce(scores, allowed, "text_to_image"),
    "symmetric": lambda scores, allowed: infonce(scores, allowed, "symmetric"),
}


def dv_loop(scores: Tensor, allowed: Tensor) -> Tensor:
    """mean f_ii - log (1/|O|) sum_O exp f_ij, with the largest score taken out of the sum."""
    K = len(scores)
    pairs = [(i, j) for i in range(K) for j in range(K) if i != j and allowed[i, j]]
    largest = max(scores[i, j].item() for i, j in pairs)
    total = sum(torch.exp(scores[i, j] - largest) for i, j in pairs)
    matched = sum(scores[i, i] for i in range(K)) / K
    return matched - (largest + torch.log(total / len(pairs)))


def infonce_rows_loop(scores: Tensor, allowed: Tensor) -> Tensor:
    """mean over i of log(exp f_ii / ((1/K_i) sum_j exp f_ij)), matched pair inside the sum."""
    K = len(scores)
    value = torch.zeros((), dtype=scores.dtype)
    for i in range(K):
        choices = [j for j in range(K) if i == j or allowed[i, j]]
        largest = max(scores[i, j].item() for j in choices)
        total = sum(torch.exp(scores[i, j] - largest) for j in choices)
        value = value + scores[i, i] - largest - torch.log(total / len(choices))
    return value / K


def infonce_loop(scores: Tensor, allowed: Tensor, direction: Direction) -> Tensor:
    rows = infonce_rows_loop(scores, allowed)
    columns = infonce_rows_loop(scores.T, allowed.T)
    return {
        "image_to_text": rows,
        "text_to_image": columns,
        "symmetric": (rows + columns) / 2,
    }[direction]


def loop(name: str, scores: Tensor, allowed: Tensor) -> Tensor:
    return dv_loop(scores, allowed) if name == "dv" else infonce_loop(scores, allowed, name)


# --- values and gradients -----------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", BOUNDS)
def test_bound_equals_the_loop(name: str, dtype: torch.dtype, masked: bool) -> None:
    K = 7
    scores = random_scores(K)
    allowed = random_mask(K) if masked else None
    everything = torch.ones(K, K, dtype=torch.bool)
    expected = value_and_gradient(
        lambda s: loop(name, s, everything if allowed is None else allowed), scores
    )
    found = value_and_gradient(lambda s: BOUNDS[name](s, allowed), scores.to(dtype))
    assert found[0].dtype == dtype
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-5)


def test_an_asymmetric_critic_pins_the_orientation() -> None:
    """Image 0 prefers text 1 to its own; no text prefers another image."""
    scores = torch.tensor([[0.0, 5.0], [-9.0, 6.0]])
    rows = (0 - math.log(1 + math.exp(5)) + 6 - math.log(math.exp(-9) + math.exp(6))) / 2
    columns = (0 - math.log(1 + math.exp(-9)) + 6 - math.log(math.exp(5) + math.exp(6))) / 2
    log_2 = math.log(2)
    assert infonce(scores, None, "image_to_text").item() == pytest.approx(rows + log_2, abs=1e-5)
    assert infonce(scores, None, "text_to_image").item() == pytest.approx(
        columns + log_2, abs=1e-5
    )
    assert rows < columns - 1
    # A row that reads the mask along the wrong side would use the pair (1, 0) of score -9.
    only_0_1 = torch.tensor([[True, True], [False, True]])
    assert dv(scores, only_0_1).item() == pytest.approx(3 - 5, abs=1e-5)


def test_the_diagonal_of_the_mask_is_ignored() -> None:
    scores, allowed = random_scores(6), random_mask(6)
    for diagonal in (False, True):
        other = allowed.clone().fill_diagonal_(diagonal)
        for bound in BOUNDS.values():
            assert bound(scores, other) == bound(scores, allowed)
        assert infonce_cap(other) == infonce_cap(allowed)


def test_masks_and_scores_are_left_as_they_were() -> None:
    scores, allowed = random_scores(5), random_mask(5)
    before = scores.clone(), allowed.clone()
    for bound in BOUNDS.values():
        bound(scores, allowed)
    MINE()(scores, allowed)
    assert torch.equal(scores, before[0])
    assert torch.equal(allowed, before[1])


@pytest.mark.parametrize("name", BOUNDS)
def test_the_order_of_the_batch_does_not_matter(name: str) -> None:
    scores, allowed = random_scores(8), random_mask(8)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    shuffled = BOUNDS[name](scores[order][:, order], allowed[order][:, order])
    torch.testing.assert_close(shuffled, BOUNDS[name](scores, allowed))


@pytest.mark.parametrize("name", BOUNDS)
def test_a_shift_of_all_scores_does_not_matter(name: str) -> None:
    scores = random_scores(8)
    torch.testing.assert_close(BOUNDS[name](scores + 100, None), BOUNDS[name](scores, None))


def test_infonce_ignores_a_shift_of_each_row_and_dv_does_not() -> None:
    scores = random_scores(8)
    shifted = scores + 5 * torch.arange(8)[:, None]
    torch.testing.assert_close(
        infonce(shifted, None, "image_to_text"), infonce(scores, None, "image_to_text")
    )
    assert abs(dv(shifted) - dv(scores)) > 1


@pytest.mark.parametrize("name", BOUNDS)
def test_constant_scores_know_nothing(name: str) -> None:
    scores = torch.full((6, 6), 2.5)
    rounding = 16 * torch.finfo(scores.dtype).eps * 2.5
    assert BOUNDS[name](scores, random_mask(6)).item() == pytest.approx(0, abs=rounding)


# --- numerics -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", BOUNDS)
def test_half_precision_is_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    """In float16 exp(20) is infinite, and a bfloat16 sum of 200 terms has two digits."""
    scores = (random_scores(64) + 20).to(dtype)
    value, gradient = value_and_gradient(lambda s: BOUNDS[name](s, None), scores)
    expected = BOUNDS[name](scores.double(), None)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected.item(), abs=1e-5)
    assert gradient.dtype == dtype
    assert gradient.isfinite().all()


@pytest.mark.parametrize("size", [2, 5])
@pytest.mark.parametrize("name", [*BOUNDS, "mine"])
def test_large_scores_stay_finite(name: str, size: int) -> None:
    signs = torch.where(random_scores(size) > 0, 1.0, -1.0)
    for scores in (
        1e4 * signs,
        -1e4 * signs,
        torch.full((size, size), 1e4),
        torch.eye(size) * 2e4 - 1e4,
    ):
        bound = BOUNDS.get(name, lambda s, _: MINE()(s).surrogate)
        value, gradient = value_and_gradient(lambda s: bound(s, None), scores)  # noqa: B023
        assert value.isfinite()
        assert gradient.isfinite().all()


def test_mine_stays_finite_when_scores_jump() -> None:
    mine = MINE(decay=0.99)
    for scale in (-1e4, 1e4, 1.0, 1e4):
        scores = torch.full((3, 3), scale).requires_grad_()
        estimate = mine(scores)
        estimate.surrogate.backward()
        assert estimate.value.isfinite()
        assert scores.grad is not None
        assert scores.grad.isfinite().all()
        assert scores.grad.abs().sum() <= 1 + 1 / (1 - 0.99) + 1e-2


def test_smallest_batch() -> None:
    scores = torch.tensor([[1.0, 2.0], [0.5, 3.0]], dtype=torch.float64)
    assert dv(scores).item() == pytest.approx(2 - math.log((math.e**2 + math.e**0.5) / 2))
    assert infonce_cap(2) == pytest.approx(math.log(2))
    assert infonce(scores) <= math.log(2)


# --- which pairs DV counts ------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 64])
def test_dv_of_a_perfect_critic_has_no_cap(size: int) -> None:
    """The diagonal inside the mean of e^f would hold it below log K(K - 1)."""
    perfect = 2e3 * torch.eye(size) - 1e3
    assert dv(perfect).item() == pytest.approx(2e3)
    assert MINE()(perfect).value.item() == pytest.approx(2e3)


@pytest.mark.parametrize("fixed_point", [False, True])
def test_one_permutation_as_mismatched_pairs(fixed_point: bool) -> None:
    """K pairs and their log K, not log K(K - 1); a fixed point is a matched pair, so K - 1."""
    scores = random_scores(5)
    order = [1, 0, 3, 2, 4] if fixed_point else [1, 2, 3, 4, 0]
    allowed = torch.eye(5, dtype=torch.bool)[order]
    pairs = [scores[i, j].exp() for i, j in enumerate(order) if i != j]
    assert len(pairs) == (4 if fixed_point else 5)
    expected = scores.diagonal().mean() - (sum(pairs) / len(pairs)).log()
    torch.testing.assert_close(dv(scores, allowed), expected)


def test_a_derangement_estimates_the_same_as_all_pairs() -> None:
    """On many pairs; with K for K(K - 1) the two would lie log(K - 1) apart."""
    scores = random_scores(600, scale=0.5)
    derangement = torch.eye(600, dtype=torch.bool).roll(1, dims=1)
    assert dv(scores, derangement).item() == pytest.approx(dv(scores).item(), abs=0.1)


# --- the cap --------------------------------------------------------------------------------


@given(
    size=st.integers(2, 9),
    seed=st.integers(0, 2**20),
    scale=st.sampled_from([0.0, 0.1, 3.0, 100.0, 1e4]),
    matched=st.sampled_from([0.0, 5.0, 1e4]),
    direction=st.sampled_from(DIRECTIONS),
    masked=st.booleans(),
)
@settings(max_examples=200, deadline=None, derandomize=True)
def test_infonce_never_exceeds_its_cap(
    size: int, seed: int, scale: float, matched: float, direction: Direction, masked: bool
) -> None:
    scores = random_scores(size, seed, scale) + matched * torch.eye(size)
    allowed = random_mask(size, seed) if masked else None
    cap = infonce_cap(size if allowed is None else allowed, direction)
    assert infonce(scores, allowed, direction).item() <= cap + 1e-9
    if matched > 100 * max(scale, 1):  # and a perfect critic reaches it
        assert infonce(scores, allowed, direction).item() == pytest.approx(cap, abs=1e-9)


def test_cap_counts_each_rows_own_choices() -> None:
    allowed = torch.tensor([[0, 1, 1], [0, 0, 1], [1, 0, 0]], dtype=torch.bool)
    rows = (math.log(3) + math.log(2) + math.log(2)) / 3
    columns = (math.log(2) + math.log(2) + math.log(3)) / 3
    assert infonce_cap(allowed, "image_to_text") == pytest.approx(rows)
    assert infonce_cap(allowed, "text_to_image") == pytest.approx(columns)
    other = torch.tensor([[0, 1, 1], [1, 0, 1], [1, 0, 0]], dtype=torch.bool)
    assert infonce_cap(other, "image_to_text") == pytest.approx(
        (2 * math.log(3) + math.log(2)) / 3
    )
    assert infonce_cap(other) == pytest.approx(
        (infonce_cap(other, "image_to_text") + infonce_cap(other, "text_to_image")) / 2
    )
    assert infonce_cap(64) == pytest.approx(math.log(64))


# --- MINE -----------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
def test_mine_without_memory_has_the_gradient_of_dv(masked: bool) -> None:
    mine = MINE(decay=0)
    for seed in range(3):  # what went before must not matter
        scores = random_scores(6, seed)
        allowed = random_mask(6, seed) if masked else None
        value, expected = value_and_gradient(lambda s: dv(s, allowed), scores)  # noqa: B023
        _, found = value_and_gradient(lambda s: mine(s, allowed).surrogate, scores)  # noqa: B023
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
        assert torch.equal(mine(scores, allowed).value, value)


def test_mine_equals_the_loop() -> None:
    """Average, value and gradient over a sequence of batches, from the formulas."""
    decay, average = 0.7, None
    mine = MINE(decay)
    for seed in range(5):
        scores, allowed = random_scores(5, seed), random_mask(5, seed)
        pairs = [(i, j) for i in range(5) for j in range(5) if i != j and allowed[i, j]]
        mean = sum(math.exp(scores[i, j]) for i, j in pairs) / len(pairs)
        average = mean if average is None else decay * average + (1 - decay) * mean
        gradient = torch.eye(5, dtype=torch.float64) / 5
        for i, j in pairs:
            gradient[i, j] = -math.exp(scores[i, j]) / len(pairs) / average
        _, found = value_and_gradient(lambda s: mine(s, allowed).surrogate, scores)  # noqa: B023
        torch.testing.assert_close(found, gradient, rtol=1e-5, atol=1e-8)
        assert mine.log_average is not None
        assert mine.log_average.item() == pytest.approx(math.log(average), abs=1e-9)


def test_mine_resumes_to_the_same_numbers(tmp_path) -> None:
    through, first = MINE(0.9), MINE(0.9)
    batches = [random_scores(6, seed).float() for seed in range(6)]
    expected = [through(scores) for scores in batches]
    for scores in batches[:3]:
        first(scores)
    torch.save(first.state_dict(), tmp_path / "mine.pt")
    second = MINE(0.9)
    second.load_state_dict(torch.load(tmp_path / "mine.pt"))
    for scores, (value, surrogate) in zip(batches[3:], expected[3:], strict=True):
        found = second(scores)
        assert torch.equal(found.value, value)
        assert torch.equal(found.surrogate, surrogate)
    assert torch.equal(second.state_dict()["log_average"], through.state_dict()["log_average"])


def test_mine_state_before_the_first_batch_and_apart_from_it() -> None:
    mine, other = MINE(), MINE()
    other.load_state_dict(mine.state_dict())
    assert other.log_average is None
    mine(random_scores(4))
    state = mine.state_dict()
    saved = state["log_average"].clone()
    mine(random_scores(4, seed=1))
    assert torch.equal(state["log_average"], saved)


def test_mine_value_carries_no_gradient() -> None:
    estimate = MINE()(random_scores(4).requires_grad_())
    assert not estimate.value.requires_grad
    assert estimate.surrogate.requires_grad


# --- a worked pitfall -----------------------------------------------------------------------


def one_logsumexp_losses(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Two published training losses that take one logsumexp over all mismatched pairs."""
    matched = scores.diagonal().mean()
    mismatched = scores[~torch.eye(len(scores), dtype=torch.bool)]
    so_called_dv = -(matched - (mismatched.logsumexp(0) - math.log(len(mismatched))))
    so_called_infonce = -(matched - mismatched.logsumexp(0))
    return so_called_dv, so_called_infonce


def test_one_logsumexp_over_all_mismatched_pairs_makes_dv_and_infonce_the_same() -> None:
    scores = random_scores(8)
    first, gradient_dv = value_and_gradient(lambda s: one_logsumexp_losses(s)[0], scores)
    second, gradient_infonce = value_and_gradient(lambda s: one_logsumexp_losses(s)[1], scores)
    assert (second - first).item() == pytest.approx(math.log(8 * 7))
    torch.testing.assert_close(gradient_dv, gradient_infonce, rtol=0, atol=1e-12)
    torch.testing.assert_close(-first, dv(scores))
    # The true InfoNCE is another function with another gradient.
    _, gradient = value_and_gradient(lambda s: -infonce(s), scores)
    assert (gradient - gradient_dv).abs().max() > 0.01


# --- bad input ------------------------------------------------------------------------------


def test_a_row_without_mismatched_pairs_is_named() -> None:
    allowed = torch.ones(4, 4, dtype=torch.bool)
    allowed[[1, 3]] = False
    functions = (
        lambda direction: infonce(random_scores(4), allowed, direction),
        lambda direction: infonce_cap(allowed, direction),
    )
    for function in functions:
        for direction in ("image_to_text", "symmetric"):
            with pytest.raises(NoNegativesError, match=r"Row\(s\) 1, 3 of 4"):
                function(direction)
        assert math.isfinite(function("text_to_image"))
    with pytest.raises(NoNegativesError, match=r"Column\(s\) 1, 3 of 4"):
        infonce(random_scores(4), allowed.T, "symmetric")
    assert dv(random_scores(4), allowed).isfinite()  # DV needs only one pair in all


def test_many_rows_without_mismatched_pairs_give_a_short_message() -> None:
    with pytest.raises(NoNegativesError, match="9 and so on of 64") as error:
        infonce(random_scores(64), torch.eye(64, dtype=torch.bool))
    assert "64 in all" in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("size", [0, 1, 3])
def test_a_batch_without_mismatched_pairs_is_an_error(size: int) -> None:
    nothing = torch.zeros(size, size, dtype=torch.bool)
    with pytest.raises(NoNegativesError, match="at least two studies"):
        dv(torch.zeros(size, size), nothing)
    with pytest.raises(NoNegativesError, match="at least two studies"):
        MINE()(torch.zeros(size, size), nothing)
    if size:
        with pytest.raises(NoNegativesError, match="at least two studies"):
            infonce(torch.zeros(size, size), nothing)


def test_a_batch_of_one_is_an_error_without_a_mask() -> None:
    for bound in BOUNDS.values():
        with pytest.raises(NoNegativesError):
            bound(torch.zeros(1, 1), None)
    with pytest.raises(NoNegativesError):
        infonce_cap(1)


@pytest.mark.parametrize("shape", [(4, 5), (4,), (4, 16, 4)])
def test_scores_must_be_square(shape: tuple[int, ...]) -> None:
    for bound in BOUNDS.values():
        with pytest.raises(ConfigError, match=r"square matrix of scores"):
            bound(torch.zeros(shape), None)


def test_the_mask_must_fit_and_be_boolean() -> None:
    for bound in BOUNDS.values():
        with pytest.raises(ConfigError, match=r"\[3, 3\].*\[4, 4\]"):
            bound(torch.zeros(4, 4), torch.ones(3, 3, dtype=torch.bool))
        with pytest.raises(ConfigError, match=r"must be bool"):
            bound(torch.zeros(4, 4), torch.ones(4, 4))


def test_unknown_direction_and_impossible_decay() -> None:
    with pytest.raises(ConfigError, match="image_to_text, text_to_image, symmetric"):
        infonce(torch.zeros(4, 4), None, "both")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="known are"):
        infonce_cap(4, "rows")  # type: ignore[arg-type]
    for decay in (-0.1, 1.0, math.nan):
        with pytest.raises(ConfigError, match="decay"):
            MINE(decay)


@pytest.mark.parametrize("state", [{}, {"average": torch.zeros(())}])
def test_a_state_of_something_else_is_refused(state: dict) -> None:
    with pytest.raises(CheckpointError, match="log_average"):
        MINE().load_state_dict(state)
