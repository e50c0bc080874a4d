"""Data processing and additivity: the truth of the composed tasks, and who sees it."""

import math

import pytest
import torch

from localmi.errors import ConfigError
from localmi.mi.distributions import GridImages, Task, processed, stacked, staircase, task
from localmi.mi.samples.baselines import gaussian_mi, ksg

IMAGES = GridImages(side=2, states=2, flip=0.2)
BASES = (task("asinh-student-identity-2-2-1"), IMAGES.pair_task(2), IMAGES.report_task())


@pytest.mark.parametrize("base", BASES, ids=lambda base: base.name)
def test_truth_of_the_composed_tasks(base: Task) -> None:
    for known, times in ((processed(base, 2), 1), (stacked(base), 2), (stacked(base, 3), 3)):
        assert known.true_mi == pytest.approx(times * base.true_mi)
        x, y = known.sample(4000, seed=0)
        assert (known.dim_x, known.dim_y) == (x.shape[1], y.shape[1])
        matched = known.paired_log_ratio(x, y)
        error = matched.std().item() / math.sqrt(4000)
        assert matched.mean().item() == pytest.approx(known.true_mi, abs=4 * error)
        assert error < 0.04


def test_processed_holds_the_base_and_copies_of_it() -> None:
    base = task("multinormal-dense-3-3-0.5")
    (x, y), (both_x, both_y) = (known.sample(7, seed=1) for known in (base, processed(base, 2)))
    assert torch.equal(both_x, torch.hstack([x, x]))
    assert torch.equal(both_y, torch.hstack([y, y[:, :2]]))
    torch.testing.assert_close(processed(base, 2).log_ratio(both_x, both_y), base.log_ratio(x, y))


def test_stacked_pairs_stay_together() -> None:
    base = task("multinormal-dense-3-3-0.5")
    x, y = stacked(base).sample(5, seed=0)
    parts = [base.log_ratio(x[:, part], y[:, part]) for part in (slice(3), slice(3, 6))]
    torch.testing.assert_close(stacked(base).log_ratio(x, y), parts[0] + parts[1])


def test_an_estimator_that_passes() -> None:
    """KSG in one dimension, and correlations of Gaussians: 0, 1 and 2."""
    base = task("wiggly-1v1-normal-0.75")
    value = ksg(*base.sample(4000, seed=0))
    assert ksg(*processed(base, 1).sample(4000, seed=0)) == pytest.approx(value, abs=0.05)
    assert ksg(*staircase(0.0, dim=1).sample(4000, seed=0)) == pytest.approx(0, abs=0.03)
    gaussian = task("multinormal-dense-3-3-0.5")
    single = gaussian_mi(*gaussian.sample(20_000, seed=0))
    assert gaussian_mi(*stacked(gaussian).sample(20_000, seed=0)) / single == pytest.approx(
        2, abs=0.05
    )


def test_an_estimator_that_fails() -> None:
    """KSG is additive for two pairs of one dimension; of eight it sees about half."""
    base = task("1v1-normal-0.75")
    single = ksg(*base.sample(2000, seed=0))
    assert ksg(*stacked(base, 2).sample(2000, seed=0)) / single == pytest.approx(2, abs=0.1)
    assert ksg(*stacked(base, 8).sample(2000, seed=0)) / single < 5


def test_impossible_compositions_are_refused() -> None:
    base = task("multinormal-dense-3-3-0.5")
    for kept in (0, 4):
        with pytest.raises(ConfigError, match=f"kept must be in 1 to 3, found {kept}"):
            processed(base, kept)
    with pytest.raises(ConfigError, match="at least one copy, found 0"):
        stacked(base, 0)
