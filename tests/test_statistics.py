import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import permutation_test
from sklearn.metrics import roc_auc_score

from localmi.errors import DataError
from localmi.evaluate import weighted_statistics as weighted
from localmi.statistics import (
    CHUNK,
    Statistic,
    bootstrap,
    holm,
    mean_interval,
    over_seeds,
    paired_permutation,
    partners,
)


def test_the_mean_weighs_every_value_alike() -> None:
    found = mean_interval(np.array([1.0, 2.0, 6.0]), np.array(["a", "a", "b"]))
    assert found.value == pytest.approx(3.0)
    assert found.low <= found.value <= found.high


def test_the_interval_has_the_width_of_the_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=400)
    found = mean_interval(values, np.arange(400))
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_repeated_values_of_one_patient_do_not_narrow_it() -> None:
    values = np.random.default_rng(0).normal(size=50)
    once = mean_interval(values, np.arange(50))
    ten_times = mean_interval(np.repeat(values, 10), np.repeat(np.arange(50), 10))
    assert ten_times.high - ten_times.low == pytest.approx(once.high - once.low, rel=0.1)


def test_one_patient_has_no_interval_and_no_value_is_an_error() -> None:
    assert np.isnan(mean_interval(np.ones(3), np.zeros(3)).low)
    with pytest.raises(ValueError, match="0 values"):
        mean_interval(np.array([]), np.array([]))
    with pytest.raises(ValueError, match="2 values and 3 groups"):
        mean_interval(np.ones(2), np.ones(3))


def test_a_mean_of_many_is_resampled_in_parts_without_a_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    values, patients = np.random.default_rng(0).normal(size=20_000), np.arange(20_000)
    tracemalloc.start()
    found = mean_interval(values, patients)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 10 * CHUNK * values.itemsize  # all 2,000 resamples at once are 20 chunks
    monkeypatch.setattr("localmi.statistics.CHUNK", 2000 * len(values))
    assert mean_interval(values, patients) == found


def mean(values: np.ndarray) -> Statistic:
    return lambda weights: weights @ values / weights.sum(axis=1)


def mean_of_rows(rows: np.ndarray, values: np.ndarray) -> Statistic:
    return mean(values)


def test_bootstrap_of_a_mean_is_the_interval_of_the_mean() -> None:
    values = np.random.default_rng(0).normal(size=120)
    patients = np.repeat(np.arange(40), 3)
    found = bootstrap(mean(values), patients)
    wanted = mean_interval(values, patients)
    assert found.interval.value == pytest.approx(wanted.value)
    assert found.interval.low == pytest.approx(wanted.low, abs=0.03)
    assert found.interval.high == pytest.approx(wanted.high, abs=0.03)
    assert found.left_out == 0


def test_bootstrap_equals_the_loop_over_resamples() -> None:
    rng = np.random.default_rng(3)
    targets, scores = np.tile([0, 1], 15), rng.normal(size=30)
    patients = rng.integers(8, size=30)
    found = bootstrap(weighted.auc(targets, scores), patients, resamples=50, seed=7)
    names = np.unique(patients)
    counts = np.random.default_rng(7).multinomial(len(names), np.full(8, 1 / 8), size=50)
    loop = []
    for times in counts:
        rows = [
            row
            for name, many in zip(names, times, strict=True)
            for _ in range(many)
            for row in np.flatnonzero(patients == name)
        ]
        loop.append(roc_auc_score(targets[rows], scores[rows]))
    low, high = np.percentile(loop, [2.5, 97.5])
    assert found.interval.low == pytest.approx(low, abs=1e-9)
    assert found.interval.high == pytest.approx(high, abs=1e-9)


def test_resamples_without_one_class_are_counted() -> None:
    targets, scores = np.array([1, 0, 0, 0]), np.array([0.9, 0.1, 0.2, 0.3])
    found = bootstrap(weighted.auc(targets, scores), np.array(["a", "b", "c", "d"]))
    # no draw of the positive: (3/4)^4; only draws of it: (1/4)^4
    assert found.left_out / 2000 == pytest.approx(0.75**4 + 0.25**4, abs=0.04)
    assert (found.interval.low, found.interval.high) == (1.0, 1.0)


def test_one_patient_or_no_value_has_no_interval() -> None:
    targets, scores = np.array([1, 0]), np.array([0.9, 0.1])
    alone = bootstrap(weighted.auc(targets, scores), np.zeros(2)).interval
    assert alone.value == 1.0
    assert np.isnan(alone.low)
    assert np.isnan(bootstrap(weighted.auc(np.ones(2), scores), np.arange(2)).interval.value)


def test_memory_is_used_in_pieces_without_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    values, patients = np.random.default_rng(0).normal(size=20), np.arange(20)
    whole = bootstrap(mean(values), patients, resamples=100)
    monkeypatch.setattr("localmi.statistics.CHUNK", 60)
    pieces = bootstrap(mean(values), patients, resamples=100)
    assert pieces.interval.low == pytest.approx(whole.interval.low, abs=1e-12)
    assert pieces.interval.high == pytest.approx(whole.interval.high, abs=1e-12)


def test_the_permutation_test_equals_scipy() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal([[0.5], [0.0]], size=(2, 12))
    found = paired_permutation(mean_of_rows, a[None], b[None], np.arange(12))
    exact = permutation_test(  # all 4,096 swaps
        (a, b),
        lambda x, y, axis: (x - y).mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
    )
    assert found.difference.value == pytest.approx(exact.statistic)
    assert found.p_value == pytest.approx(exact.pvalue, abs=0.015)


def test_a_patient_is_swapped_whole_and_with_all_seeds() -> None:
    """Two patients: of four swaps two give the observed difference, with either sign."""
    a, b = np.ones((3, 20)), np.zeros((3, 20))
    patients = np.repeat(["left", "right"], 10)
    found = paired_permutation(mean_of_rows, a, b, patients, permutations=2000)
    assert found.difference.value == 1.0
    assert found.p_value == pytest.approx(0.5, abs=0.05)
    images = paired_permutation(mean_of_rows, a, b, np.arange(20), permutations=2000)
    assert images.p_value == pytest.approx(1 / 2001)  # never 0


def test_seeds_are_averaged() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 3, 15))
    found = paired_permutation(mean_of_rows, a, b, np.arange(15), permutations=10)
    assert found.difference.value == pytest.approx(a.mean() - b.mean())
    swapped = paired_permutation(mean_of_rows, b, a, np.arange(15), permutations=10)
    assert swapped.difference.value == pytest.approx(-found.difference.value)


def test_a_model_is_not_another_than_itself() -> None:
    a = np.random.default_rng(0).normal(size=(2, 15))
    found = paired_permutation(mean_of_rows, a, a, np.arange(15), permutations=50)
    assert found.difference.value == pytest.approx(0, abs=1e-12)
    assert found.p_value == 1.0


def test_p_values_are_uniform_where_nothing_differs() -> None:
    rng = np.random.default_rng(0)
    p_values = []
    for _ in range(200):
        patient = rng.normal(size=(1, 20))  # what both models share
        a, b = (np.repeat(patient + rng.normal(size=(1, 20)), 2, axis=1) for _ in range(2))
        found = paired_permutation(
            mean_of_rows, a, b, np.repeat(np.arange(20), 2), permutations=200, resamples=2
        )
        p_values.append(found.p_value)
    assert np.mean(np.array(p_values) <= 0.05) == pytest.approx(0.05, abs=0.04)
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.07)


def test_a_paired_test_of_unequal_shapes_or_one_class() -> None:
    ones = np.ones((1, 4))
    with pytest.raises(DataError, match="same seeds and images"):
        paired_permutation(mean_of_rows, ones, np.ones((2, 4)), np.arange(4))
    with pytest.raises(DataError, match="for 3 patients"):
        paired_permutation(mean_of_rows, ones, ones, np.arange(3))
    found = paired_permutation(
        lambda rows, values: weighted.auc(np.ones(len(rows)), values), ones, ones, np.arange(4)
    )
    assert np.isnan(found.p_value)
    assert "class is missing" in found.note


def holm_by_loop(p_values: list[float], alpha: float) -> list[bool]:
    """Step down: the smallest against alpha / m, the next against alpha / (m - 1), ..."""
    rejected = [False] * len(p_values)
    for step, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] > alpha / (len(p_values) - step):
            break
        rejected[index] = True
    return rejected


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 999).map(lambda n: n / 999), min_size=1, max_size=12))
def test_holm_rejects_what_the_loop_rejects(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert (adjusted >= np.array(p_values)).all()
    assert (adjusted <= 1).all()
    for alpha in (0.0213, 0.1007, 0.5003):
        assert (adjusted <= alpha).tolist() == holm_by_loop(p_values, alpha)


def test_holm_of_known_numbers_and_of_no_test() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    found = holm([0.02, np.nan, 0.04])
    assert found[[0, 2]].tolist() == pytest.approx([0.04, 0.04])
    assert np.isnan(found[1])
    with pytest.raises(DataError, match="outside"):
        holm([0.5, 1.2])


@given(st.lists(st.integers(0, 3), max_size=12))
def test_partners_are_of_another_group_where_there_are_enough(groups: list[int]) -> None:
    rows = np.array(groups, np.int64)
    found = partners(rows)
    assert sorted(found) == list(range(len(rows)))
    largest = max((groups.count(group) for group in groups), default=0)
    if 2 * largest <= len(rows):
        assert (rows[found] != rows).all()
    else:
        assert (rows[found] != rows).sum() == 2 * (len(rows) - largest)


def test_the_partner_of_a_row_that_is_a_group_of_its_own_is_the_next() -> None:
    assert partners(np.array(["d", "a", "c", "b"])).tolist() == [1, 2, 3, 0]


# --- Seeds and patients -----------------------------------------------------------------------


def a_study(rng, *, seeds: int, patients: int, of_seed: float, of_patient: float, noise: float):
    """[S, n] values: an effect of 0, and what seed, patient, and both together add to it."""
    return (
        of_seed * rng.standard_normal((seeds, 1))
        + of_patient * rng.standard_normal((1, patients))
        + noise * rng.standard_normal((seeds, patients))
    )


def the_method(values: np.ndarray, rng) -> tuple[float, float, float]:
    """Low, high and p of the mean by `over_seeds`, the patients resampled."""
    number = values.shape[1]
    weights = rng.multinomial(number, np.full(number, 1 / number), size=200) / number
    interval, p_value = over_seeds(values.mean(axis=1), weights @ values.T)
    return interval.low, interval.high, p_value


@pytest.mark.parametrize(
    "spread",
    [
        {"of_seed": 0.3, "of_patient": 0.5, "noise": 0.5},
        {"of_seed": 0.05, "of_patient": 1.0, "noise": 0.5},
        {"of_seed": 0.0, "of_patient": 1.0, "noise": 1.0},
    ],
)
@pytest.mark.parametrize("seeds", [3, 5])
def test_an_interval_over_seeds_and_patients_covers_the_method(spread, seeds: int) -> None:
    """Of 600 studies without an effect at most 5 % may find one, by p and interval alike."""
    rng = np.random.default_rng(0)
    studies = [
        the_method(a_study(rng, seeds=seeds, patients=40, **spread), rng) for _ in range(600)
    ]
    found = np.array(studies)
    missed = (found[:, 0] > 0) | (found[:, 1] < 0)
    assert np.array_equal(missed, found[:, 2] < 0.05)
    assert missed.mean() < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 600)


def test_patients_alone_would_not_cover_it() -> None:
    """What the interval of three trained networks misses."""
    rng = np.random.default_rng(0)
    missed = 0
    for _ in range(300):
        values = a_study(rng, seeds=3, patients=40, of_seed=0.3, of_patient=0.5, noise=0.5)
        found = mean_interval(values.mean(axis=0), np.arange(40), resamples=200)
        missed += found.low > 0 or found.high < 0
    assert missed > 0.3 * 300


def test_over_seeds_by_hand() -> None:
    by_seed = np.array([0.1, 0.2, 0.6])
    drawn = np.array([[0.0, 0.1, 0.4], [0.2, 0.3, 0.9], [0.1, 0.2, 0.5], [np.nan, 0.0, 0.0]])
    pairs = [(0, 1), (0, 2), (1, 2)]
    shared = np.mean([np.cov(drawn[:3, i], drawn[:3, j])[0, 1] for i, j in pairs])
    of_seeds = np.var(by_seed, ddof=1) / 3
    degrees = (of_seeds + shared) ** 2 / (of_seeds**2 / 2)
    interval, p_value = over_seeds(by_seed, drawn)
    half = stats.t.ppf(0.975, degrees) * np.sqrt(of_seeds + shared)
    assert interval.value == pytest.approx(0.3)
    assert (interval.low, interval.high) == pytest.approx((0.3 - half, 0.3 + half))
    assert p_value == pytest.approx(2 * stats.t.cdf(-0.3 / np.sqrt(of_seeds + shared), degrees))


def test_over_seeds_where_there_is_nothing_to_tell() -> None:
    one, p_value = over_seeds(np.array([0.3]), np.full((5, 1), 0.3))
    assert one.value == 0.3
    assert np.isnan([one.low, one.high, p_value]).all()
    same, p_value = over_seeds(np.array([0.0, 0.0]), np.zeros((5, 2)))
    assert (same.low, same.high, p_value) == (0, 0, 1)
    surely, p_value = over_seeds(np.array([0.5, 0.5]), np.full((5, 2), 0.5))
    assert (surely.low, surely.high, p_value) == (0.5, 0.5, 0)


def test_a_paired_test_says_what_holds_of_the_method_too() -> None:
    """Two networks that are ahead and one that is behind: sure of these, not of the method."""
    rng = np.random.default_rng(0)
    targets = np.tile([0, 1], 200)
    base = rng.standard_normal((3, 400))
    better = base + np.array([[1.2], [1.0], [-0.4]]) * (targets - 0.5)

    def statistic(rows: np.ndarray, scores: np.ndarray) -> Statistic:
        return weighted.auc(targets[rows], scores)

    found = paired_permutation(statistic, better, base, np.arange(400), permutations=999)
    assert found.p_value < 0.01
    assert found.p_method > 0.1
    assert found.method.value == found.difference.value
    assert found.method.low < 0 < found.difference.low
    alone = paired_permutation(statistic, better[:1], base[:1], np.arange(400), permutations=99)
    assert np.isnan(alone.p_method)
