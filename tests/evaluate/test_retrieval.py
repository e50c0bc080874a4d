import tracemalloc
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom
from sklearn.metrics import label_ranking_average_precision_score

from localmi.errors import ConfigError, DataError
from localmi.evaluate.retrieval import (
    class_retrieval,
    first_ranks,
    random_ranks,
    retrieval,
    zero_shot_scores,
)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_the_rank_is_the_mean_over_all_orders_of_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, relevant = rng.integers(3, size=5), rng.integers(2, size=5).astype(bool)
    relevant[rng.integers(5)] = True
    ranks = [
        1 + next(place for place, candidate in enumerate(order) if relevant[candidate])
        for order in permutations(range(5))
        if (np.diff(scores[list(order)]) <= 0).all()
    ]
    assert first_ranks(scores[None], relevant[None])[0] == pytest.approx(np.mean(ranks))


def test_ranks_equal_scikit_learns() -> None:
    """With one right candidate and no ties the label ranking precision is 1 / rank."""
    rng = np.random.default_rng(0)
    scores, relevant = rng.normal(size=(20, 9)), np.eye(9)[rng.integers(9, size=20)]
    wanted = label_ranking_average_precision_score(relevant, scores)
    assert (1 / first_ranks(scores, relevant)).mean() == pytest.approx(wanted, abs=1e-9)


def test_a_monotone_map_leaves_ranks_and_constant_scores_gain_nothing() -> None:
    rng = np.random.default_rng(0)
    scores, relevant = rng.normal(size=(6, 6)), np.eye(6, dtype=bool)
    assert (first_ranks(np.exp(scores), relevant) == first_ranks(scores, relevant)).all()
    assert (first_ranks(np.zeros((6, 6)), relevant) == 3.5).all()


def test_ranks_of_impossible_input() -> None:
    with pytest.raises(DataError, match="queries, candidates"):
        first_ranks(np.zeros((2, 3)), np.ones((3, 2)))
    with pytest.raises(DataError, match="2 scores are NaN"):
        first_ranks(np.full((1, 2), np.nan), np.ones((1, 2)))
    with pytest.raises(DataError, match="1 queries have no right candidate, the first is 1"):
        first_ranks(np.zeros((2, 2)), [[1, 0], [0, 0]])


def test_reports_without_duplicates_equal_the_loop() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(30, 30)) + 2 * np.eye(30)
    for direction, matrix in (("image_to_text", scores), ("text_to_image", scores.T)):
        found = retrieval(
            scores,
            np.eye(30, dtype=bool),
            np.arange(30),
            direction=direction,
            draws=1,
            resamples=50,
        )
        ranks = np.array([1 + (row > row[i]).sum() for i, row in enumerate(matrix)])
        for k in (1, 5, 10):
            assert found.recall[k].value == pytest.approx((ranks <= k).mean())
            assert found.chance[k] == pytest.approx(k / 30)
        assert found.median_rank.value == np.median(ranks)
        assert found.pool == 30


def test_duplicates_are_hits() -> None:
    """Images 0 and 1 have the same report, text 0; each finds it, though its pair is the other."""
    own = np.array([[1, 0], [1, 0], [0, 1]], bool)
    scores = np.array([[1.0, 0], [1, 0], [0, 1]])
    found = retrieval(scores, own, np.arange(3), ks=(1, 2), draws=1, resamples=20)
    assert found.recall[1].value == 1
    # Two different texts, one of them right: it is first as often as not. Otherwise it is second
    # for images 0 and 1, and third for image 2, behind the two copies of text 0.
    assert found.chance[1] == pytest.approx(1 / 2)
    assert found.chance[2] == pytest.approx((1 + 1 + 1 / 2) / 3)
    assert found.median_rank.value == pytest.approx(1)


def test_the_ranks_of_random_scores_are_those_of_all_orders_of_the_different_texts() -> None:
    candidates = np.array([7, 3, 7, 5, 9, 9, 7, 4])  # five different texts
    for right in ([3, 5], [7], [9, 4], [7, 9]):
        relevant = np.isin(candidates, right)[None]
        scores = [
            dict(zip([3, 4, 5, 7, 9], order, strict=True)) for order in permutations(range(5))
        ]
        ranks = [first_ranks([[one[text] for text in candidates]], relevant)[0] for one in scores]
        wanted = [np.mean(np.array(ranks) == rank) for rank in range(1, 9)]
        assert random_ranks(relevant, candidates, 8)[0] == pytest.approx(wanted, abs=1e-12)
        assert random_ranks(relevant, candidates, 2)[0] == pytest.approx(wanted[:2], abs=1e-12)


def test_random_ranks_of_large_pools_do_not_overflow() -> None:
    relevant = np.arange(5000)[None] < 10
    found = random_ranks(relevant, np.arange(5000), 300)[0].cumsum()
    assert found == pytest.approx(hypergeom.sf(0, 5000, 10, np.arange(1, 301)), abs=1e-9)


@pytest.mark.parametrize("direction", ["image_to_text", "text_to_image"])
def test_random_scores_find_as_much_as_chance_says(direction) -> None:
    """Two texts a report, many of them in several reports: the mean of 300 random critics."""
    rng = np.random.default_rng(0)
    own = np.zeros((40, 25), bool)
    for image in own:
        image[np.minimum(rng.geometric(0.15, size=2), 25) - 1] = True
    excess = []
    for seed in range(300):
        found = retrieval(
            rng.normal(size=own.shape),
            own,
            np.arange(40),
            direction=direction,
            draws=1,
            resamples=2,
            seed=seed,
        )
        excess.append([found.recall[k].value - found.chance[k] for k in (1, 5, 10)])
    error = np.std(excess, axis=0) / 300**0.5
    assert (error < 0.01).all()
    assert (np.abs(np.mean(excess, axis=0)) < 3 * error).all()


def test_sentences_one_of_several_is_drawn_and_any_of_them_is_right() -> None:
    """Three sentences a report; only the first is ever recognised."""
    number = 12
    own = np.repeat(np.eye(number, dtype=bool), 3, axis=1)
    scores = np.zeros((number, 3 * number))
    scores[np.arange(number), 3 * np.arange(number)] = 1
    found = retrieval(scores, own, np.arange(number), ks=(1,), draws=400, resamples=20)
    assert found.recall[1].value == pytest.approx(1 / 3, abs=0.03)


def test_a_fixed_pool_is_drawn_by_its_seed() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(40, 40)) + np.eye(40)
    own, patients = np.eye(40, dtype=bool), np.arange(40) // 2
    options = {"pool": 10, "draws": 30, "resamples": 50}
    found = retrieval(scores, own, patients, seed=1, **options)
    assert found == retrieval(scores, own, patients, seed=1, **options)
    assert found != retrieval(scores, own, patients, seed=2, **options)
    assert found.recall[10].value == 1
    everyone = retrieval(scores, own, patients, resamples=50)
    assert found.recall[1].value > everyone.recall[1].value  # a smaller pool is easier


def test_scores_of_texts_outside_the_pool_are_not_copied() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(10, 50_000)).astype(np.float32)
    own = np.arange(50_000) == np.arange(10)[:, None]
    options = {"ks": (1,), "draws": 2, "resamples": 20}
    expected = retrieval(scores.astype(float), own, np.arange(10), **options)
    tracemalloc.start()
    assert retrieval(scores, own, np.arange(10), **options) == expected
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < scores.nbytes / 2


def test_retrieval_of_impossible_input() -> None:
    own, patients = np.eye(3, dtype=bool), np.arange(3)
    with pytest.raises(DataError, match=r"own \(2, 3\)"):
        retrieval(np.zeros((3, 3)), own[:2], patients)
    with pytest.raises(DataError, match="1 of 3 images have no own text"):
        retrieval(np.zeros((3, 2)), own[:, :2], patients, ks=(1,))
    with pytest.raises(ConfigError, match="pool=3"):
        retrieval(np.zeros((3, 3)), own, patients)  # k = 5, 10
    with pytest.raises(ConfigError, match="pool=4"):
        retrieval(np.zeros((3, 3)), own, patients, pool=4, ks=(1,))


def test_class_retrieval_equals_the_loop() -> None:
    rng = np.random.default_rng(0)
    present = rng.random((30, 3)) < [0.2, 0.5, 0]
    scores = present + rng.normal(size=(30, 3))
    names = ["Edema", "Pneumonia", "Fracture"]
    found = class_retrieval(scores, present, np.arange(30), names=names, ks=(1, 5), resamples=100)
    for k in (1, 5):
        loop = [present[np.argsort(-scores[:, c])[:k], c].mean() for c in range(2)]
        for name, wanted in zip(names, loop, strict=False):
            assert found.by_class[name][k].value == pytest.approx(wanted)
        assert found.mean[k].value == pytest.approx(np.mean(loop))
        assert np.isnan(found.by_class["Fracture"][k].value)
    assert found.mean[5].low <= found.mean[5].value <= found.mean[5].high
    assert found.prevalence["Edema"] == pytest.approx(present[:, 0].mean())
    assert found.note == "without Fracture: no image has it, or all have"


def test_class_retrieval_of_nothing_and_of_impossible_input() -> None:
    nothing = class_retrieval(
        np.zeros((3, 1)), np.zeros((3, 1)), np.arange(3), names=["a"], ks=[1]
    )
    assert np.isnan(nothing.mean[1].value)
    with pytest.raises(DataError, match=r"expected \(3, 2\)"):
        class_retrieval(np.zeros((3, 1)), np.zeros((3, 1)), np.arange(3), names=["a", "b"])
    with pytest.raises(ConfigError, match="of 3 images"):
        class_retrieval(np.zeros((3, 1)), np.zeros((3, 1)), np.arange(3), names=["a"])


def test_zero_shot_scores_are_log_odds_of_a_perfect_critic() -> None:
    """Sentences 0, 1 affirm, 2, 3 deny, 4 is another topic; all are as frequent as each other."""
    rng = np.random.default_rng(0)
    posterior = rng.dirichlet(np.ones(5), size=7)  # p(s | x)
    critic = np.log(posterior / 0.2) + rng.normal(size=(7, 1))  # + a constant of the image
    found = zero_shot_scores(critic, {"Edema": [0, 1]}, {"Edema": [2, 3]})
    odds = np.log(posterior[:, :2].sum(axis=1) / posterior[:, 2:4].sum(axis=1))
    assert found[:, 0] == pytest.approx(odds)
    twice = zero_shot_scores(critic, {"Edema": [0, 1, 0, 1]}, {"Edema": [2, 3]})
    assert twice == pytest.approx(found)  # how many sentences speak for it does not count


def test_zero_shot_needs_sentences_of_both_sides() -> None:
    scores = np.zeros((2, 3))
    with pytest.raises(DataError, match="Edema"):
        zero_shot_scores(scores, {"Edema": [0]}, {})
    with pytest.raises(DataError, match="from 0 to 2"):
        zero_shot_scores(scores, {"Edema": [0]}, {"Edema": [3]})
