"""`estimate`: held out, reproducible, honest about its cap, and clear about bad input."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from localmi.errors import ConfigError, DataError, TrainingError
from localmi.mi.bounds import dv_terms, infonce_cap
from localmi.mi.distributions import staircase, task
from localmi.mi.estimators import ESTIMATORS, EstimatorInTraining
from localmi.mi.samples import estimate as module
from localmi.mi.samples import fitting
from localmi.mi.samples.estimate import Estimate, estimate
from localmi.mi.samples.fitting import Training, blocks_of
from localmi.mi.samples.inputs import Part, Splits, check_pairs, split

SHORT: dict[str, Any] = {"steps": 100, "batch_size": 128}


def gaussian(number: int = 2000, seed: int = 0) -> tuple[Tensor, Tensor]:
    """.413 nats in one dimension each."""
    return task("1v1-normal-0.75").sample(number, seed)


def independent(number: int = 3000, dim: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, number, dim, generator=generator)
    return x, y


# --- values -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [*ESTIMATORS, "doe"])
def test_every_method_finds_the_information_of_a_gaussian(method: str) -> None:
    x, y = gaussian(4000)
    found = estimate(x, y, method=method, **SHORT)
    assert found.value == pytest.approx(0.413, abs=0.08)
    low, high = found.interval95
    assert low < found.value < high < low + 0.25
    assert found.split == (2400, 600, 1000)


@pytest.mark.parametrize("critic", ["separable", "concat", "bilinear", "quadratic"])
def test_every_critic_learns_from_a_random_start(critic: fitting.CriticName) -> None:
    x, y = gaussian(1500)
    found = estimate(x, y, critic=critic, start="random", steps=200, batch_size=64)
    assert found.step > 0
    assert 0.2 < found.value < 0.5


def test_a_network_learns_what_the_gaussian_start_cannot_see() -> None:
    x = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0))
    y = x.square() + 0.3 * torch.randn(4000, 1, generator=torch.Generator().manual_seed(1))
    start = estimate(x, y, steps=0)
    learned = estimate(x, y, steps=200)
    assert abs(start.value) < 0.05
    assert learned.value > 0.5


@pytest.mark.parametrize("method", [*ESTIMATORS, "doe"])
def test_independence_gives_zero(method: str) -> None:
    found = estimate(*independent(), method=method, **SHORT)
    assert abs(found.value) < 0.04
    assert not found.at_cap


def test_memorising_the_fit_split_does_not_reach_the_value() -> None:
    """400 pairs of noise and many steps: the training bound is high, the reported value is not."""
    x, y = independent(400, dim=10)
    found = estimate(x, y, steps=400, start="random")
    assert found.value < 0.1


def test_information_below_what_can_be_learned_does_not_exceed_the_truth() -> None:
    for seed in range(3):
        x, y = staircase(2.0).sample(4000, seed)
        assert estimate(x, y, critic="quadratic", steps=0, seed=seed).value < 2.1


def test_staircase_by_js_and_dv() -> None:
    for mi, bar in ((2.0, 0.25), (4.0, 0.5), (6.0, 0.8)):
        x, y = staircase(mi).sample(20_000, seed=0)
        found = estimate(x, y, method="js", critic="quadratic", steps=0)
        assert found.value == pytest.approx(mi, abs=bar)
        assert math.isinf(found.cap)


# --- self-consistency (Song and Ermon 2020) -----------------------------------------------------


@pytest.mark.parametrize("method", ["infonce", "js", "doe"])
def test_data_processing_does_not_add_information(method: str) -> None:
    """I(X; Y, f(Y)) / I(X; Y) is at most 1, and I(X; f(Y)) too.

    Entropies need a density, so DoE is given f(Y) with noise of its own, and the steps it needs.
    """
    x, y = task("multinormal-sparse-3-3-2-2.0").sample(4000, seed=0)
    of_y, short = y.abs(), SHORT
    if method == "doe":
        short = {"steps": 300}
        of_y = of_y + 0.5 * torch.randn(of_y.shape, generator=torch.Generator().manual_seed(1))
    whole = estimate(x, y, method=method, **short)
    copied = estimate(x, torch.cat([y, of_y], dim=1), method=method, **short)
    coarse = estimate(x, y[:, :1], method=method, **short)
    width = whole.interval95[1] - whole.interval95[0]
    assert copied.value <= whole.value + width / 2
    assert coarse.value < 0.7 * whole.value


def test_doe_says_that_it_needs_a_density() -> None:
    """With |Y| beside Y it is wrong by .3: nothing of it may pass without the note."""
    x, y = task("multinormal-sparse-3-3-2-2.0").sample(1000, seed=0)
    found = estimate(x, torch.cat([y, y.abs()], dim=1), method="doe", steps=0)
    assert any("density" in note for note in found.notes)


@pytest.mark.parametrize("method", ["infonce", "js", "doe"])
def test_two_independent_copies_have_twice_the_information(method: str) -> None:
    one, other = gaussian(6000, seed=1), gaussian(6000, seed=2)
    single = estimate(*one, method=method, **SHORT)
    double = estimate(
        torch.cat([one[0], other[0]], 1), torch.cat([one[1], other[1]], 1), method=method, **SHORT
    )
    assert double.value / single.value == pytest.approx(2, abs=0.25)


# --- what is invariant ------------------------------------------------------------------------


def test_increasing_maps_of_columns_change_nothing() -> None:
    x, y = gaussian()
    plain = estimate(x, y, **SHORT)
    mapped = estimate(x.exp(), y**3, **SHORT)
    assert mapped.value == pytest.approx(plain.value, abs=0.01)


def test_units_do_not_matter_when_standardised() -> None:
    x, y = gaussian()
    plain = estimate(x, y, scaling="standardise", **SHORT)
    scaled = estimate(1e6 * x - 1e6, 1e-6 * y, scaling="standardise", **SHORT)
    assert scaled.value == pytest.approx(plain.value, abs=0.01)


def test_the_same_seed_gives_the_same_number_and_leaves_the_callers_stream() -> None:
    x, y = gaussian(500)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = estimate(x, y, **SHORT)
    assert torch.equal(torch.rand(3), expected)
    assert estimate(x, y, **SHORT) == first
    assert estimate(x, y, seed=1, **SHORT).value != first.value


def test_arrays_and_tensors_give_the_same() -> None:
    x, y = gaussian(500)
    assert estimate(x.numpy(), y.numpy(), **SHORT) == estimate(x, y, **SHORT)


def test_inputs_are_left_as_they_were() -> None:
    x, y = gaussian(200)
    before = x.clone(), y.clone()
    estimate(x, y, **SHORT)
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])


# --- the split ----------------------------------------------------------------------------------


def test_the_report_split_is_read_once_and_after_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise in its place: every value that training saw must stay as it is."""
    x, y = gaussian(1000)
    arrays = check_pairs(x, y)
    splits, _ = split(*arrays, None)
    noisy = splits._replace(report=Part(*independent(250, dim=1), None))
    fits = []
    for one in (splits, noisy):
        critic, step = fitting.fit_critic(
            one,
            method="infonce",
            critic="separable",
            start="gaussian",
            training=Training(steps=100),
        )
        fits.append((step, [weight.clone() for weight in critic.parameters()]))
    assert fits[0][0] == fits[1][0]
    assert all(torch.equal(a, b) for a, b in zip(fits[0][1], fits[1][1], strict=True))


def test_groups_stay_together() -> None:
    x, y = gaussian(300)
    group = np.repeat(np.arange(30), 10)
    splits, _ = split(*check_pairs(x, y), group)
    first, second, third = [set(part.group.tolist()) for part in splits if part.group is not None]
    assert [len(first), len(second), len(third)] == [18, 4, 8]
    assert len(first | second | third) == 30
    assert sum(len(part.x) for part in splits) == 300


def test_preparation_is_fitted_on_the_fit_split_alone() -> None:
    x, y = (one.double().numpy() for one in gaussian(1000))
    plain, _ = split(x, y, None)
    order = np.random.default_rng(0).permutation(1000)
    changed = x.copy()
    changed[order[-250:]] = 99.0  # the report split
    other, _ = split(changed, y, None)
    assert torch.equal(plain.fit.x, other.fit.x)
    assert torch.equal(plain.stop.x, other.stop.x)
    assert other.report.x.unique().numel() == 1


def test_copies_in_one_group_give_no_information_of_their_own() -> None:
    """Ten noisy copies of each pair: without groups, copies of one pair lie in all splits."""
    x, y = independent(60, dim=4)
    noise = 0.01 * torch.randn(600, 4, generator=torch.Generator().manual_seed(3))
    copied_x, copied_y = x.repeat_interleave(10, 0) + noise, y.repeat_interleave(10, 0) + noise
    groups = torch.arange(60).repeat_interleave(10)
    leaking = estimate(copied_x, copied_y, steps=300)
    honest = estimate(copied_x, copied_y, groups=groups, steps=300)
    assert leaking.value > 0.5
    assert honest.value < 0.2
    names = [f"patient {number}" for number in groups.tolist()]
    assert estimate(copied_x, copied_y, groups=names, steps=0).split == honest.split


def test_the_smallest_number_of_pairs() -> None:
    found = estimate(*gaussian(10), steps=5)
    assert found.split == (6, 2, 2)
    assert math.isfinite(found.value)


# --- the report ---------------------------------------------------------------------------------


def test_cap_and_flag() -> None:
    x, y = staircase(10.0).sample(400, seed=0)
    found = estimate(x, y, critic="quadratic", steps=0)
    assert found.cap == pytest.approx(infonce_cap(100))
    assert found.value <= found.cap
    assert found.at_cap
    assert "At the cap" in found.notes[0]
    assert "cap 4.61" in str(found)
    low = estimate(*gaussian(400), **SHORT)
    assert not low.at_cap
    assert "At the cap" not in str(low)


def test_the_cap_counts_the_groups() -> None:
    x, y = gaussian(400)
    groups = torch.arange(400) // 2
    found = estimate(x, y, groups=groups, critic="quadratic", steps=0)
    assert found.cap == pytest.approx(math.log(99))  # 100 pairs, the own and one more left out


def test_more_than_the_pairs_can_vouch_for_is_said() -> None:
    x, y = staircase(10.0).sample(400, seed=0)
    found = estimate(x, y, method="dv", critic="quadratic", steps=0)
    assert found.value > math.log(100)
    assert any("log 100" in note for note in found.notes)


@pytest.mark.parametrize("method", ["smile", "demi", "doe"])
def test_what_is_no_bound_is_called_none(method: str) -> None:
    found = estimate(*gaussian(200), method=method, steps=0)
    assert any("no bound" in note for note in found.notes)


def test_an_unfinished_fit_is_said() -> None:
    found = estimate(*gaussian(1000), start="random", steps=50)
    assert any("more steps" in note for note in found.notes)


def test_a_mean_that_hangs_on_one_pair_is_said() -> None:
    x, y = task("student-identity-2-2-1").sample(4000, seed=0)
    heavy, ranked = (
        estimate(x, y, method="dv", scaling=how, steps=0) for how in ("standardise", "rank")
    )
    assert heavy.value < -10
    assert any("One pair has a part in 100%" in note for note in heavy.notes)
    assert not any("One pair" in note for note in ranked.notes)
    other = estimate(x, y, method="infonce", scaling="standardise", steps=0)
    assert not any("One pair" in note for note in other.notes)


def quadratic(splits: Splits) -> fitting.Critic:
    training = Training(steps=0)
    return fitting.fit_critic(
        splits, method="js", critic="quadratic", start="gaussian", training=training
    )[0]


def test_pooled_blocks_are_one_dv() -> None:
    """The terms of several blocks equal those of DV over all their pairs at once."""
    splits, _ = split(*check_pairs(*staircase(4.0).sample(1000, seed=0)), None)
    critic, report = quadratic(splits), splits.report
    found = module._terms(critic, splits, "js", size=90)
    blocks = blocks_of(report, 90)
    block = torch.cat([torch.full((len(one.x),), k) for k, one in enumerate(blocks)])
    with torch.no_grad():
        expected = dv_terms(critic(report.x, report.y), block[:, None] == block)
    assert len(blocks) == 3
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_no_block_of_scores_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A view of the diagonal would hold all K x K scores of its block."""
    splits, _ = split(*check_pairs(*gaussian(1000)), None)
    critic, kept = quadratic(splits), []
    pooled = module._pooled

    def watched(blocks: list[tuple[Tensor, Tensor, int]]) -> Tensor:
        kept.extend(tensor for matched, terms, _ in blocks for tensor in (matched, terms))
        return pooled(blocks)

    monkeypatch.setattr(module, "_pooled", watched)
    module._terms(critic, splits, "js", size=90)
    assert len(kept) == 6
    assert all(each.untyped_storage().nbytes() == each.nbytes for each in kept)


def test_tubas_baseline_is_of_the_stop_split() -> None:
    """log a of the pairs that are reported would make it DV, which no bound holds for."""
    splits, _ = split(*check_pairs(*gaussian(400)), None)
    critic = quadratic(splits)
    with torch.no_grad():
        stop, report = (critic(one.x, one.y).double() for one in (splits.stop, splits.report))

    def mean_of_mismatched(values: Tensor) -> Tensor:
        return values[~torch.eye(len(values), dtype=torch.bool)].mean()

    log_a = mean_of_mismatched(stop.exp()).log()
    of_report = mean_of_mismatched(report.exp()).log()
    expected = 1 + report.diagonal().mean() - log_a - mean_of_mismatched((report - log_a).exp())
    found = module._terms(critic, splits, "tuba", size=400)
    assert found.mean().item() == pytest.approx(expected.item(), abs=1e-4)
    assert abs(log_a - of_report) > 0.01  # the two can be told apart


def test_the_interval_resamples_groups() -> None:
    """Ten equal pairs of a patient say as much as one."""
    groups = torch.arange(40).repeat_interleave(10)
    terms = torch.randn(40, generator=torch.Generator().manual_seed(0)).repeat_interleave(10)
    widths = []
    for group in (groups, None):
        part = Part(torch.zeros(400, 1), torch.zeros(400, 1), group)
        found = module._result(
            terms, Splits(part, part, part), math.inf, "js", "separable", 0, Training(), ""
        )
        low, high = found.interval95
        widths.append(high - low)
    assert widths[0] / widths[1] == pytest.approx(math.sqrt(10), rel=0.15)


def test_pairs_of_a_group_are_never_mismatched_in_a_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = gaussian(200)
    group = np.arange(200) // 4
    splits, _ = split(*check_pairs(x, y), group)
    seen = []
    maximised = EstimatorInTraining.maximised

    def watched(self: EstimatorInTraining, scores: Tensor, allowed: Tensor | None) -> Tensor:
        seen.append(allowed)
        return maximised(self, scores, allowed)

    monkeypatch.setattr(EstimatorInTraining, "maximised", watched)
    fitting.fit_critic(
        splits,
        method="infonce",
        critic="separable",
        start="gaussian",
        training=Training(steps=1, batch_size=200),
    )
    assert len(seen) == 1
    assert seen[0] is not None
    assert (~seen[0]).sum() == 120 * 4  # each of the fit pairs, its group's four


def test_the_start_that_is_better_on_the_stop_split_is_taken() -> None:
    """15 + 15 columns of 90 pairs: the covariance as it is fits noise, the shrunk one less."""
    splits, _ = split(*check_pairs(*independent(150, dim=15)), None)
    row = ESTIMATORS["infonce"]
    starts = fitting._starts(splits.fit, "quadratic", "gaussian", row.shift, 0)
    first, shrunk = (
        fitting._mean_over_blocks(one, part=splits.stop, value=row.stopped_by, size=256)
        for one in starts
    )
    assert shrunk > first + 0.1
    taken, step = fitting.fit_critic(
        splits,
        method="infonce",
        critic="quadratic",
        start="gaussian",
        training=Training(steps=0),
    )
    assert step == 0
    report = splits.report
    with torch.no_grad():
        assert torch.equal(taken(report.x, report.y), starts[1](report.x, report.y))


def test_interval_covers_the_value_of_many_samples() -> None:
    """Of 20 independent splits of a critic that is exact, most intervals hold the truth."""
    held = 0
    for seed in range(20):
        x, y = gaussian(1000, seed=seed)
        low, high = estimate(x, y, method="js", critic="quadratic", steps=0, seed=seed).interval95
        held += low <= 0.41334 <= high
    assert held >= 16


# --- bad input ----------------------------------------------------------------------------------


def with_nan(x: Tensor) -> Tensor:
    x = x.clone()
    x[17, 0] = math.nan
    return x


BAD: dict[str, tuple[Callable[[Tensor, Tensor], tuple[Any, Any]], str]] = {
    "unequal lengths": (lambda x, y: (x, y[:-1]), "100 rows of x and 99 of y"),
    "nan": (lambda x, y: (with_nan(x), y), "x has NaN.*1 of 100 rows.*row 17"),
    "infinite": (lambda x, y: (x, y / 0), "y has NaN or infinite.*100 of 100"),
    "constant column": (
        lambda x, y: (torch.cat([x, torch.ones(100, 1)], 1), y),
        "x is constant in column 1",
    ),
    "too few": (lambda x, y: (x[:9], y[:9]), "9 pairs are too few"),
    "integers": (lambda x, y: ((10 * x).long(), y), "x holds int64.*one-hot"),
    "booleans": (lambda x, y: (x, y > 0), "y holds bool"),
    "strings": (lambda x, y: (np.full((100, 1), "a"), y), "x holds <U1"),
    "a dimension missing": (lambda x, y: (x, y[:, 0]), r"y must be.*\[100\].*y\[:, None\]"),
    "a dimension too many": (lambda x, y: (x[..., None], y), "flatten"),
    "no columns": (lambda x, y: (x[:, :0], y), "no columns"),
    "no rows": (lambda x, y: (x[:0], y[:0]), "0 pairs are too few"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_samples_are_refused(case: str) -> None:
    spoil, message = BAD[case]
    with pytest.raises(DataError, match=message):
        estimate(*spoil(*gaussian(100)))


def test_bad_groups_are_refused() -> None:
    x, y = gaussian(100)
    with pytest.raises(DataError, match=r"one group a pair.*\(99,\)"):
        estimate(x, y, groups=torch.arange(99))
    with pytest.raises(DataError, match="9 different"):
        estimate(x, y, groups=torch.arange(100) % 9)
    names = [f"patient {number}" for number in range(100)]
    for missing in (None, math.nan, "", "  "):
        with pytest.raises(DataError, match="groups is missing for 2 of 100 pairs.*row 40"):
            estimate(x, y, groups=[*names[:40], missing, *names[41:60], missing, *names[61:]])
    with pytest.raises(DataError, match="groups is missing for 1 of 100 pairs.*row 3"):
        estimate(x, y, groups=torch.arange(100.0).where(torch.arange(100) != 3, torch.nan))


def test_rows_that_are_like_their_neighbours_are_said() -> None:
    """Four near copies of each pair, side by side; with groups, or apart in x alone, no word."""
    x, y = independent(100, dim=2)
    noise = 0.1 * torch.randn(400, 2, generator=torch.Generator().manual_seed(3))
    copied = x.repeat_interleave(4, 0) + noise, y.repeat_interleave(4, 0) + noise
    groups = torch.arange(100).repeat_interleave(4)
    apart = copied[0], independent(400, dim=2, seed=1)[1]
    said = [
        any("name them by groups" in note for note in estimate(*pair, steps=0, **more).notes)
        for pair, more in [
            (copied, {}),
            (copied, {"groups": groups}),
            (apart, {}),
            (apart[::-1], {}),
        ]
    ]
    assert said == [True, False, False, False]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "nonsense"}, "Unknown method 'nonsense'; known are infonce"),
        ({"critic": "nonsense"}, "nonsense"),
        ({"start": "nonsense"}, "nonsense"),
        ({"scaling": "nonsense"}, "Unknown scaling 'nonsense'; known are rank"),
        ({"steps": -1}, "steps >= 0"),
        ({"batch_size": 1}, "batch_size >= 2"),
        ({"steps": "100"}, "steps must be a whole number, found '100'"),
        ({"steps": 10.5}, "steps must be a whole number, found 10.5"),
        ({"batch_size": 64.0}, "batch_size must be a whole number"),
        ({"seed": None}, "seed must be a whole number, found None"),
        ({"seed": True}, "seed must be a whole number"),
        ({"seed": -1}, "seed must lie in 0 to .*found -1"),
        ({"seed": 2**63}, "seed must lie in 0 to"),
        ({"learning_rate": "fast"}, "learning_rate must be a number, found 'fast'"),
        ({"device": "cud"}, "device='cud' cannot be used.*'auto', 'cpu' or 'cuda'"),
        ({"device": "cuda:99"}, "device='cuda:99' cannot be used"),
        ({"device": None}, "device=None cannot be used"),
        ({"method": "ba", "entropy": "one"}, "finite number of nats"),
        ({"learning_rate": math.nan}, "learning_rate > 0"),
        ({"method": "ba"}, "needs the entropy"),
        ({"entropy": 1.0}, "no other method takes one"),
        ({"method": "ba", "entropy": math.inf}, "finite number of nats"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        estimate(*gaussian(100), **arguments)


def test_a_fit_that_diverges_is_said() -> None:
    x, y = gaussian(200)
    with pytest.raises(TrainingError, match="Lower the learning rate"):
        estimate(x, y, method="dv", start="random", learning_rate=1e30, steps=20)


def test_estimate_is_frozen() -> None:
    found = estimate(*gaussian(100), steps=0)
    assert isinstance(found, Estimate)
    with pytest.raises(AttributeError):
        found.value = 1.0  # type: ignore[misc]
