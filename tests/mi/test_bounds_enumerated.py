"""Is it a bound? Every batch of a world of two by two symbols, each with its probability.

The mean over all batches is then exact, so "the mean over batches never exceeds I(X; Y)" is tested
without noise, for any critic; and so is that DV, SMILE and DEMI are no bounds on a batch.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from localmi.mi.bounds import dv, infonce
from localmi.mi.density_ratio import demi, js_objective, nwj_of_js, smile
from localmi.mi.unnormalised import interpolated, nwj, tuba

K = 3  # pairs in a batch: 4 ** 3 = 64 batches, 20 but for their order, which does not matter
SYMBOLS = torch.tensor(list(itertools.product(range(2), range(2))))  # [4, 2] (x, y)
BATCHES = Counter(tuple(sorted(batch)) for batch in itertools.product(range(4), repeat=K))
EXAMPLES = settings(max_examples=40, deadline=None, derandomize=True)

Bound = Callable[[Tensor, Tensor], Tensor]  # of scores [K, K] and log a(y_j) [K]
BOUNDS: dict[str, Bound] = {
    "infonce rows": lambda scores, _: infonce(scores, None, "image_to_text"),
    "infonce columns": lambda scores, _: infonce(scores, None, "text_to_image"),
    "infonce": lambda scores, _: infonce(scores),
    "tuba": lambda scores, baseline: tuba(scores, None, baseline),
    "nwj": lambda scores, _: nwj(scores),
    "nwj_of_js": lambda scores, _: nwj_of_js(scores),
    "interpolated 0.01": lambda scores, baseline: interpolated(scores, None, 0.01, baseline),
    "interpolated 0.5": lambda scores, baseline: interpolated(scores, None, 0.5, baseline),
    "interpolated 1": lambda scores, _: interpolated(scores, None, 1.0),
}


def joint_of(weights: list[float]) -> Tensor:
    """[2, 2] p(x, y)."""
    weights_of = torch.tensor(weights, dtype=torch.float64)
    return (weights_of / weights_of.sum()).reshape(2, 2)


def log_ratio_of(joint: Tensor) -> Tensor:
    """[2, 2] log p(x, y) / p(x) p(y)."""
    return (joint / (joint.sum(dim=1, keepdim=True) * joint.sum(dim=0))).log()


def mi_of(joint: Tensor) -> float:
    return (joint * log_ratio_of(joint)).sum().item()


def expected(bound: Bound, joint: Tensor, critic: Tensor, log_baseline: Tensor) -> float:
    """The mean of the bound over all batches of K independent pairs; critic[x, y], log a[y]."""
    value = 0.0
    for batch, orders in BATCHES.items():
        x, y = SYMBOLS[list(batch)].T
        probability = orders * joint[x, y].prod().item()
        value += probability * bound(critic[x][:, y], log_baseline[y]).item()
    return value


# Scores up to 9 apart: critics that are nearly always right, as are the worlds they are about.
SCORES = st.lists(st.floats(-4, 5), min_size=4, max_size=4)
WORLDS = st.lists(st.sampled_from([0.01, 0.2, 1.0, 3.0]), min_size=4, max_size=4).map(joint_of)
NOTHING = torch.zeros(2, dtype=torch.float64)
CLEAR = joint_of([0.48, 0.02, 0.02, 0.48])  # .525 nats
RIGHT = torch.tensor([[4.0, -4.0], [-4.0, 4.0]], dtype=torch.float64)


@pytest.mark.parametrize("name", BOUNDS)
@given(
    joint=WORLDS, scores=SCORES, log_baseline=st.lists(st.floats(-3, 3), min_size=2, max_size=2)
)
@EXAMPLES
def test_the_mean_over_batches_never_exceeds_the_truth(
    name: str, joint: Tensor, scores: list[float], log_baseline: list[float]
) -> None:
    critic = torch.tensor(scores, dtype=torch.float64).reshape(2, 2)
    baseline = torch.tensor(log_baseline, dtype=torch.float64)
    assert expected(BOUNDS[name], joint, critic, baseline) <= mi_of(joint) + 1e-9
    sharp = expected(BOUNDS[name], CLEAR, critic + RIGHT, baseline)
    assert sharp <= mi_of(CLEAR) + 1e-9


@given(joint=WORLDS, column=st.lists(st.floats(-3, 3), min_size=2, max_size=2))
@EXAMPLES
def test_the_best_critic_makes_the_unnormalised_bounds_tight(
    joint: Tensor, column: list[float]
) -> None:
    """However small the batch: TUBA at log ratio + c(y) with a = e^c, NWJ at log ratio + 1."""
    truth = mi_of(joint)
    best = log_ratio_of(joint)
    shift = torch.tensor(column, dtype=torch.float64)
    assert expected(BOUNDS["tuba"], joint, best + shift, shift) == pytest.approx(truth)
    assert expected(BOUNDS["nwj"], joint, best + 1, NOTHING) == pytest.approx(truth)
    assert expected(BOUNDS["nwj_of_js"], joint, best, NOTHING) == pytest.approx(truth)


def left_out_of_its_own_mean(scores: Tensor) -> Tensor:
    """I_alpha at alpha = 1 with the wrong image left out: the matched one, everywhere."""
    matched = torch.eye(K, dtype=torch.bool)
    log_mean = scores.masked_fill(matched, -math.inf).logsumexp(dim=0) - math.log(K - 1)
    return (scores.diagonal() - log_mean).mean()


def test_the_matched_image_left_out_of_its_own_mean_gives_no_bound() -> None:
    """The trap of I_alpha, and of InfoNCE without the matched pair: no cap, and no guarantee."""
    wrong = expected(lambda scores, _: left_out_of_its_own_mean(scores), CLEAR, RIGHT, NOTHING)
    assert wrong > mi_of(CLEAR) + 1


def test_a_batch_biases_dv_up() -> None:
    """The log of a mean: with the best critic DV is above the truth, by less on larger batches."""
    best = log_ratio_of(CLEAR)
    value = expected(lambda scores, _: dv(scores), CLEAR, best, NOTHING)
    assert value > mi_of(CLEAR) + 0.1


def test_smile_and_demi_are_no_bounds() -> None:
    """There are critics they trust too much: one that is too high, one that is too sure."""
    truth, best = mi_of(CLEAR), log_ratio_of(CLEAR)
    high = expected(lambda scores, _: smile(scores, None, 1.0), CLEAR, best + 4, NOTHING)
    assert high > truth + 2.9  # the mismatched pairs stop at 1, the matched ones do not
    plug_in = [expected(lambda s, _: demi(s), CLEAR, scale * best, NOTHING) for scale in (1, 3)]
    assert plug_in == pytest.approx([truth, 3 * truth])


@given(joint=WORLDS, scores=SCORES)
@EXAMPLES
def test_the_js_objective_bounds_the_jensen_shannon_divergence(
    joint: Tensor, scores: list[float]
) -> None:
    """Plus 2 log 2 at most twice the divergence, equal to it with the log ratio as the critic."""
    product = joint.sum(dim=1, keepdim=True) * joint.sum(dim=0)
    middle = (joint + product) / 2
    twice = (joint * (joint / middle).log() + product * (product / middle).log()).sum().item()
    critic = torch.tensor(scores, dtype=torch.float64).reshape(2, 2)
    values = [
        expected(lambda s, _: js_objective(s), joint, critic_of, NOTHING) + 2 * math.log(2)
        for critic_of in (critic, log_ratio_of(joint))
    ]
    assert values[0] <= twice + 1e-9
    assert values[1] == pytest.approx(twice, abs=1e-9)
