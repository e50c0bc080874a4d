import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from localmi.errors import DataError
from localmi.evaluate.classification import binary_metrics, compare, multi_label_metrics

QUICK = {"resamples": 200}


def task(number: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets, scores of three seeds that know something, two images a patient."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(2, size=number)
    return targets, targets + rng.normal(size=(3, number)), np.arange(number) // 2


def test_binary_metrics_are_scikit_learns_mean_over_seeds() -> None:
    targets, scores, patients = task()
    found = binary_metrics(targets, scores, patients, **QUICK)
    auc = np.mean([roc_auc_score(targets, one) for one in scores])
    assert found.auc.value == pytest.approx(auc, abs=1e-9)
    auprc = np.mean([average_precision_score(targets, one) for one in scores])
    assert found.auprc.value == pytest.approx(auprc, abs=1e-9)
    assert found.auc.low < auc < found.auc.high
    assert found.prevalence == pytest.approx(targets.mean())
    assert (found.number, found.left_out, found.note) == (60, 0, "")


def test_ignored_labels_do_not_count() -> None:
    targets, scores, patients = task()
    mask = np.arange(60) % 3 > 0
    other = np.where(mask, targets, -1)
    found = binary_metrics(other, scores[0], patients, mask, **QUICK)
    assert found == binary_metrics(targets[mask], scores[0][mask], patients[mask], **QUICK)
    assert found.number == 40


def test_a_constant_predictor_gets_a_half_and_is_named() -> None:
    targets, scores, patients = task()
    found = binary_metrics(targets, np.full(60, 0.3), patients, **QUICK)
    assert (found.auc.value, found.auc.low, found.auc.high) == (0.5, 0.5, 0.5)
    assert found.auprc.value == pytest.approx(found.prevalence)
    assert found.note.startswith("constant predictor:")
    scores[1] = 0.3
    some = binary_metrics(targets, scores, patients, **QUICK)
    assert "in 1 of 3 seeds" in some.note


@pytest.mark.parametrize(
    ("targets", "mask", "note"),
    [
        (np.zeros(6), None, "no positive among 6"),
        (np.ones(6), None, "no negative among 6"),
        ([0, 0, 0, 1, 1, 1], [True] * 3 + [False] * 3, "no positive among 3"),
        (np.zeros(6), np.zeros(6, bool), "no labelled image"),
    ],
)
def test_an_absent_class_is_reported(
    targets: np.ndarray, mask: np.ndarray | None, note: str
) -> None:
    found = binary_metrics(targets, np.arange(6.0), np.arange(6), mask)
    assert np.isnan([found.auc.value, found.auprc.value, found.auc.low]).all()
    assert note in found.note
    assert found.number == (6 if mask is None else sum(mask))


def test_several_tasks_and_their_mean() -> None:
    targets, scores, patients = task()
    both = np.stack([targets, 1 - targets, np.zeros(60)], axis=1)
    mask = np.ones((60, 3), bool)
    mask[:10, 1] = False
    columns = np.stack([scores, scores**2, scores], axis=2)  # [3, 60, 3]
    names = ["Edema", "Pneumonia", "Fracture"]
    found = multi_label_metrics(both, columns, patients, mask, names=names, **QUICK)
    assert list(found.tasks) == names
    alone = binary_metrics(both[:, 1], columns[:, :, 1], patients, mask[:, 1], **QUICK)
    assert found.tasks["Pneumonia"] == alone
    mean = (found.tasks["Edema"].auc.value + alone.auc.value) / 2
    assert found.mean_auc.value == pytest.approx(mean)
    assert found.mean_auc.low < mean < found.mean_auc.high
    assert found.note.startswith("without Fracture:")
    assert found.tasks["Fracture"].note.startswith("no positive")


def test_no_task_has_both_classes() -> None:
    nothing = np.zeros((4, 2))
    found = multi_label_metrics(nothing, nothing, np.arange(4), names=["a", "b"])
    assert np.isnan(found.mean_auc.value)
    assert found.note.startswith("no value")
    test = compare(nothing, nothing, nothing, np.arange(4))
    assert np.isnan(test.p_value)
    assert test.note.startswith("no value")


def test_shapes_that_do_not_fit() -> None:
    two = np.zeros((4, 2))
    with pytest.raises(DataError, match="use multi_label_metrics"):
        binary_metrics(two, two, np.arange(4))
    with pytest.raises(DataError, match="1 names for 2 columns"):
        multi_label_metrics(two, two, np.arange(4), names=["a"])
    with pytest.raises(DataError, match="same seeds and images"):
        compare(np.tile([0, 1], 2), np.zeros(4), np.zeros((2, 4)), np.arange(4))


def test_the_better_model_wins_and_scale_does_not() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(2, size=80)
    good = targets + 0.5 * rng.normal(size=(2, 80))
    bad = targets + 3 * rng.normal(size=(2, 80))
    quick = {"permutations": 500, "resamples": 200}
    found = compare(targets, good, bad, np.arange(80), **quick)
    auc = [np.mean([roc_auc_score(targets, one) for one in model]) for model in (good, bad)]
    assert found.difference.value == pytest.approx(auc[0] - auc[1], abs=1e-9)
    assert found.p_value < 0.01
    assert found.difference.low > 0
    scaled = compare(targets, 1000 + 50 * good, bad, np.arange(80), **quick)
    assert scaled == found
    same = compare(targets, good, np.exp(good), np.arange(80), **quick)
    assert (same.difference.value, same.p_value) == (0.0, 1.0)


def test_the_paired_test_equals_the_loop_over_swaps() -> None:
    """AUPRC of two tasks, one with ignored labels: each permutation with scikit-learn."""
    rng = np.random.default_rng(2)
    targets = rng.integers(2, size=(24, 2))
    mask = np.ones((24, 2), bool)
    mask[:5, 1] = False
    a, b = targets + rng.normal(size=(2, 24, 2))
    patients = np.arange(24) // 3
    found = compare(
        targets, a, b, patients, mask, metric="auprc", permutations=40, resamples=2, seed=5
    )
    ranks = [np.zeros((24, 2)) for _ in range(2)]
    for rank, scores in zip(ranks, (a, b), strict=True):
        for column in range(2):
            rows = mask[:, column]
            rank[rows, column] = scores[rows, column].argsort().argsort()

    def score(model: np.ndarray) -> float:
        return float(
            np.mean(
                [
                    average_precision_score(targets[rows, column], model[rows, column])
                    for column, rows in enumerate(mask.T)
                ]
            )
        )

    observed = score(ranks[0]) - score(ranks[1])
    assert found.difference.value == pytest.approx(observed, abs=1e-9)
    extreme = 0
    for swap in np.random.default_rng([5, 1]).integers(2, size=(40, 8))[:, patients]:
        first = np.where(swap[:, None], ranks[1], ranks[0])
        second = np.where(swap[:, None], ranks[0], ranks[1])
        extreme += abs(score(first) - score(second)) >= abs(observed) - 1e-12
    assert found.p_value == pytest.approx((1 + extreme) / 41)


def test_a_task_without_both_classes_is_left_out_of_the_test() -> None:
    targets, scores, patients = task()
    both = np.stack([np.zeros(60), targets], axis=1)
    a, b = (np.stack([one, one], axis=1) for one in scores[:2])
    quick = {"permutations": 100, "resamples": 50}
    found = compare(both, a, b, patients, **quick)
    alone = compare(targets, scores[0], scores[1], patients, **quick)
    assert found.difference == alone.difference
    assert found.p_value == alone.p_value
    assert found.note.startswith("without 0:")


def test_the_seed_draws_every_interval_anew() -> None:
    targets, scores, patients = task()
    both, columns = np.stack([targets, 1 - targets], axis=1), np.stack([scores, -scores], axis=2)
    first, again, other = (
        multi_label_metrics(both, columns, patients, names=["a", "b"], seed=seed, **QUICK)
        for seed in (0, 0, 1)
    )
    assert first == again
    for one, of_other in zip(first.tasks.values(), other.tasks.values(), strict=True):
        assert (one.auc.low, one.auprc.low) != (of_other.auc.low, of_other.auprc.low)
    assert first.mean_auc.low != other.mean_auc.low
    assert first.mean_auprc.low != other.mean_auprc.low
