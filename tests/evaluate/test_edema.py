import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from localmi.errors import DataError
from localmi.evaluate.edema import EDEMA_TASKS, edema_metrics, edema_tails, edema_targets


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)


def graded(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Levels, some not graded, and the probabilities of two seeds."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(4, size=60).astype(float)
    probabilities = softmax(2 * np.eye(4)[levels.astype(int)] + rng.normal(size=(2, 60, 4)))
    levels[::7] = np.nan
    return levels, probabilities


def test_tails_and_targets_ask_the_papers_three_questions() -> None:
    assert edema_tails([[0.1, 0.2, 0.3, 0.4]])[0] == pytest.approx([0.9, 0.7, 0.4])
    targets, mask = edema_targets([0, 1, 2, 3, np.nan])
    assert targets[:4].astype(int).tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert mask.all(axis=1).tolist() == [True] * 4 + [False]


def test_the_three_aucs_and_kappa_equal_scikit_learn() -> None:
    levels, probabilities = graded()
    found = edema_metrics(levels, probabilities, np.arange(60), resamples=200)
    rows = ~np.isnan(levels)
    truth = levels[rows].astype(int)
    for threshold, name in enumerate(EDEMA_TASKS, start=1):
        tail = probabilities[:, rows, threshold:].sum(axis=2)
        wanted = np.mean([roc_auc_score(truth >= threshold, one) for one in tail])
        assert found.tails.tasks[name].auc.value == pytest.approx(wanted, abs=1e-9)
    kappas = [
        cohen_kappa_score(truth, one[rows].argmax(axis=1), weights="quadratic")
        for one in probabilities
    ]
    assert found.kappa.value == pytest.approx(np.mean(kappas), abs=1e-9)
    assert found.kappa.low < found.kappa.value < found.kappa.high
    assert found.note == ""


def test_levels_that_are_absent_are_reported() -> None:
    levels, probabilities = graded()
    mild = np.where(levels > 1, np.nan, levels)
    found = edema_metrics(mild, probabilities[0], np.arange(60), resamples=50)
    assert "without 0-1 v 2-3, 0-2 v 3" in found.tails.note
    assert found.tails.tasks["0-2 v 3"].note.startswith("no positive")
    none = edema_metrics(np.full(60, np.nan), probabilities, np.arange(60))
    assert none.note == "no graded image"
    one = edema_metrics(np.zeros(3), np.tile([1.0, 0, 0, 0], (3, 1)), np.arange(3))
    assert one.note.startswith("no kappa")
    assert np.isnan(one.kappa.value)


def test_the_same_guess_for_all_has_no_kappa_above_chance() -> None:
    levels, _ = graded()
    same = np.tile([0.1, 0.2, 0.3, 0.4], (60, 1))
    found = edema_metrics(levels, same, np.arange(60), resamples=50)
    assert found.kappa.value == pytest.approx(0)
    assert found.tails.mean_auc.value == 0.5
    assert all("constant" in one.note for one in found.tails.tasks.values())


def test_impossible_levels_and_logits() -> None:
    with pytest.raises(DataError, match="a level of 4"):
        edema_targets([0, 4])
    with pytest.raises(DataError, match=r"shape \(1, 2\)"):
        edema_targets([[0, 1]])
    with pytest.raises(DataError, match="not the logits"):
        edema_tails([[1.0, 2.0, 3.0, 4.0]])
    with pytest.raises(DataError, match=r"found \(1, 3\)"):
        edema_tails([[0.2, 0.3, 0.5]])
