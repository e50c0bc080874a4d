"""The table of estimators: each row is made of the plain functions, and says true things."""

import math
from collections.abc import Callable
from functools import partial
from typing import get_args

import pytest
import torch
from score_matrices import random_mask, random_scores, value_and_gradient
from torch import Tensor

from localmi.errors import ConfigError, NoNegativesError
from localmi.mi.bounds import MINE, dv, infonce, infonce_cap
from localmi.mi.density_ratio import demi, js_objective, smile
from localmi.mi.estimators import (
    ESTIMATORS,
    PERFECT,
    EstimatorInTraining,
    caps,
    estimator,
    reported_terms,
)
from localmi.mi.unnormalised import interpolated, nwj, tuba
from localmi.names import Bound, Direction

SIZE = 7
LOG_A = 0.8  # of TUBA
DIRECTIONS = get_args(Direction)

# Written once more, so that a row that is put together wrongly is seen.
MAXIMISED: dict[str, Callable[..., Tensor]] = {
    "infonce": infonce,
    "dv": dv,
    "nwj": nwj,
    "tuba": dv,
    "interpolated": interpolated,
    "js": js_objective,
    "smile": js_objective,
    "demi": js_objective,
}
VALUES: dict[str, Callable[..., Tensor]] = {
    "infonce": infonce,
    "dv": dv,
    "mine": dv,
    "nwj": nwj,
    "tuba": dv,
    "interpolated": interpolated,
    "js": dv,
    "smile": smile,
    "demi": demi,
}
REPORTED = VALUES | {"tuba": partial(tuba, log_baseline=LOG_A)}


def report(name: str, scores: Tensor, allowed: Tensor | None) -> Tensor:
    return reported_terms(name, log_baseline=LOG_A)(scores, allowed).mean()


# --- The table --------------------------------------------------------------------------------


def test_the_table_has_the_names_that_can_be_chosen() -> None:
    assert set(ESTIMATORS) == set(get_args(Bound))


def test_an_unknown_name() -> None:
    known = ", ".join(ESTIMATORS)
    for use in (
        estimator,
        reported_terms,
        EstimatorInTraining,
        lambda name: caps(name, random_mask(SIZE)),
    ):
        with pytest.raises(ConfigError, match=f"Unknown bound 'ksg'; known are {known}"):
            use("ksg")


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("masked", [False, True])
def test_reported_is_the_plain_function(name: str, masked: bool) -> None:
    scores, allowed = random_scores(SIZE), random_mask(SIZE) if masked else None
    terms = reported_terms(name, log_baseline=LOG_A)(scores, allowed)
    assert terms.shape == (SIZE,)
    torch.testing.assert_close(terms.mean(), REPORTED[name](scores, allowed))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_direction_changes_infonce_alone(name: str) -> None:
    scores, allowed = random_scores(SIZE), random_mask(SIZE)
    found = {
        float(reported_terms(name, direction=direction)(scores, allowed).mean())
        for direction in DIRECTIONS
    }
    trained = {
        float(EstimatorInTraining(name, direction=direction)(scores, allowed)[1])
        for direction in DIRECTIONS
    }
    number = 3 if name == "infonce" else 1
    assert (len(found), len(trained)) == (number, number)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_infonce_compares_in_the_direction_asked_for(direction: Direction) -> None:
    scores, allowed = random_scores(SIZE), random_mask(SIZE)
    expected = infonce(scores, allowed, direction)
    terms = reported_terms("infonce", direction=direction)(scores, allowed)
    torch.testing.assert_close(terms.mean(), expected)
    for found in EstimatorInTraining("infonce", direction=direction)(scores, allowed):
        torch.testing.assert_close(found, expected)


def test_a_baseline_changes_tuba_alone() -> None:
    scores, allowed = random_scores(SIZE), random_mask(SIZE)
    for name in ESTIMATORS:
        one, other = (
            reported_terms(name, log_baseline=log_a)(scores, allowed) for log_a in (0.0, 1.0)
        )
        assert torch.equal(one, other) == (name != "tuba")


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_free_constant_is_one_that_the_report_does_not_see(name: str) -> None:
    scores, allowed = random_scores(SIZE), random_mask(SIZE)
    moved = report(name, scores + 1.5, allowed) - report(name, scores, allowed)
    assert bool(moved.abs() < 1e-9) == ESTIMATORS[name].free_constant


def coins(copies: int) -> tuple[Tensor, Tensor]:
    """log p(x, y) / p(x)p(y) of two coins that agree in .8 of the pairs, and a mask.

    Ten pairs in which each event is as frequent as it is likely, in copies; pairs of two copies
    are mismatched. So means over matched and mismatched pairs are expectations.
    """
    pairs = torch.tensor([[0, 0]] * 4 + [[1, 1]] * 4 + [[0, 1], [1, 0]]).repeat(copies, 1)
    agree = pairs[:, :1] == pairs[:, 1]
    log_ratio = torch.where(agree, 1.6, 0.4).double().log()
    copy = torch.arange(copies).repeat_interleave(10)
    return log_ratio, copy[:, None] != copy


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "interpolated"])
def test_the_best_critic_is_the_log_density_ratio_with_its_shift(name: str) -> None:
    """There the objective is at its top, and the report is the information: .193 nats."""
    row, (log_ratio, allowed) = ESTIMATORS[name], coins(2)
    best = log_ratio + row.shift
    _, slope = value_and_gradient(lambda given: row.maximised(given, allowed), best)
    torch.testing.assert_close(slope.sum(), torch.zeros((), dtype=torch.float64))
    information = 0.8 * math.log(1.6) + 0.2 * math.log(0.4)
    log_a = {"tuba": 0.0}.get(name, 1.0)
    found = reported_terms(name, log_baseline=log_a)(best, allowed).mean()
    assert found.item() == pytest.approx(information, abs=0.05 if name == "infonce" else 1e-6)


def test_the_best_critic_of_the_interpolated_bound_has_its_shift() -> None:
    """Its baseline is a mean over other x, which is right of many of them alone."""
    log_ratio, allowed = coins(20)
    shifts = [0.8, 0.9, 1.0, 1.1, 1.2]
    found = [float(interpolated(log_ratio + shift, allowed)) for shift in shifts]
    assert shifts[found.index(max(found))] == ESTIMATORS["interpolated"].shift


# --- Caps -------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_cap_of_infonce(direction: Direction) -> None:
    allowed = random_mask(SIZE)
    found = caps("infonce", allowed, direction=direction)
    assert found.shape == (SIZE,)
    rounding = 4 * torch.finfo(found.dtype).eps * PERFECT
    assert found.mean().item() == pytest.approx(infonce_cap(allowed, direction), abs=rounding)


def test_the_cap_of_the_interpolated_bound() -> None:
    """1 + log(N_j / alpha), N_j mismatched x of column j, alpha = 1/2."""
    allowed = random_mask(SIZE)
    others = (allowed & ~torch.eye(SIZE, dtype=torch.bool)).sum(dim=0)
    found = caps("interpolated", allowed)
    expected = 1 + (others / 0.5).log().to(found)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert found.mean().item() == pytest.approx(expected.mean().item(), abs=1e-5)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_is_capped_cannot_go_above_and_the_rest_is_not(name: str) -> None:
    allowed = random_mask(SIZE)
    cap = caps(name, allowed)
    assert torch.isinf(cap).all() == (not ESTIMATORS[name].capped)
    assert (cap > 0).all()
    perfect = 30 * (2 * torch.eye(SIZE, dtype=torch.float64) - 1)
    reached = report(name, perfect, allowed)
    if ESTIMATORS[name].capped:
        assert reached.item() == pytest.approx(cap.mean().item(), abs=1e-3)
    elif name != "smile":  # its mismatched pairs are clipped, its matched ones are not
        assert reached > 3 * infonce_cap(allowed) or name in ("nwj", "tuba")


def test_the_cap_of_a_row_without_mismatched_pairs() -> None:
    allowed = random_mask(SIZE)
    allowed[2] = False
    with pytest.raises(NoNegativesError, match="Row.*2"):
        caps("infonce", allowed)


# --- In training ------------------------------------------------------------------------------


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", MAXIMISED)
def test_what_a_step_climbs_and_what_it_logs(name: str, masked: bool) -> None:
    scores, allowed = random_scores(SIZE, scale=1.0), random_mask(SIZE) if masked else None
    training = EstimatorInTraining(name)

    def climbed(given: Tensor) -> Tensor:
        return training(given, allowed)[1]

    found = value_and_gradient(climbed, scores)
    expected = value_and_gradient(lambda given: MAXIMISED[name](given, allowed), scores)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    value, _ = training(scores.requires_grad_(), allowed)
    torch.testing.assert_close(value, VALUES[name](scores.detach(), allowed))
    assert not value.requires_grad


def test_mine_climbs_with_its_moving_average() -> None:
    training, plain = EstimatorInTraining("mine", decay=0.6), MINE(0.6)
    for seed in range(3):
        scores, allowed = random_scores(SIZE, seed, scale=1.0), random_mask(SIZE, seed)
        value, _ = training(scores, allowed)
        torch.testing.assert_close(value, dv(scores, allowed))
        plain(scores, allowed)
    scores = random_scores(SIZE, 3, scale=1.0)
    state = training.state_dict()

    def climbed(given: Tensor) -> Tensor:
        training.load_state_dict(state)  # each call moves the average
        return training.maximised(given)

    found = value_and_gradient(climbed, scores)
    expected = value_and_gradient(lambda given: plain(given).surrogate, scores)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    assert not torch.allclose(found[1], value_and_gradient(dv, scores)[1])


def test_a_decay_that_is_none() -> None:
    with pytest.raises(ConfigError, match="decay is 1"):
        EstimatorInTraining("mine", decay=1)


def test_tuba_remembers_its_baseline() -> None:
    """log a is that of MINE's moving average of E_O[e^f]; what is climbed is DV all the same."""
    training, average = EstimatorInTraining("tuba", decay=0.6), MINE(0.6)
    assert training.log_baseline == 0
    for seed in range(3):
        scores, allowed = random_scores(SIZE, seed), random_mask(SIZE, seed)
        value, climbed = training(scores, allowed)
        average(scores, allowed)
        torch.testing.assert_close(climbed, dv(scores, allowed))
        torch.testing.assert_close(value, dv(scores, allowed))
        assert training.log_baseline == pytest.approx(float(average.log_average))
    again = EstimatorInTraining("tuba", decay=0.6)
    again.load_state_dict(training.state_dict())
    assert again.log_baseline == training.log_baseline
    one, other = (each(random_scores(SIZE, 9)) for each in (training, again))
    assert one == other
    assert again.log_baseline == training.log_baseline


def test_tuba_needs_no_gradient_of_its_baseline() -> None:
    training = EstimatorInTraining("tuba")
    scores = random_scores(SIZE).requires_grad_()
    training(scores)[1].backward()
    training(scores)[1].backward()  # the average of before is not part of this graph
    assert not training.state_dict()["log_average"].requires_grad


@pytest.mark.parametrize("seed", range(5))
def test_tuba_is_at_most_dv_whatever_its_baseline(seed: int) -> None:
    scores, allowed = random_scores(SIZE, seed), random_mask(SIZE, seed)
    training = EstimatorInTraining("tuba")
    training(random_scores(SIZE, seed + 10))
    terms = reported_terms("tuba", log_baseline=training.log_baseline)
    best = dv(scores, allowed)
    assert terms(scores, allowed).mean() < best
    own = EstimatorInTraining("tuba")
    own(scores, allowed)
    tight = reported_terms("tuba", log_baseline=own.log_baseline)(scores, allowed)
    torch.testing.assert_close(tight.mean(), best)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_only_what_remembers_changes_from_step_to_step(name: str) -> None:
    training = EstimatorInTraining(name)
    training(random_scores(SIZE, 1))
    remembered = training.state_dict()["log_average"] is not None
    assert remembered == (name in ("mine", "tuba"))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_no_mismatched_pair_is_an_error_in_training(name: str) -> None:
    nothing = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    with pytest.raises(NoNegativesError):
        EstimatorInTraining(name)(random_scores(SIZE), nothing)
