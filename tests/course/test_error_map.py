from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest

from localmi.course.error_map import mean_errors, plot_errors
from localmi.errors import DataError

TASK, OTHER = "1v1-normal-0.75", "1v1-additive-0.1"


def row(task: str, method: str, seed: int, value: float | None, truth: float = 1.0) -> Any:
    return {"task": task, "truth": truth, "method": method, "seed": seed, "value": value}


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    plt.close("all")


def test_errors_are_means_over_the_seeds() -> None:
    found = mean_errors([row(TASK, "js", 0, 1.5), row(TASK, "js", 1, 0.7)])
    assert found.shape == (1, 1)
    assert found.iloc[0, 0] == pytest.approx(0.1)


def test_a_row_that_occurs_twice_counts_once() -> None:
    rows = [row(TASK, "ksg", 0, 1.5), row(TASK, "ksg", 0, 1.5), row(TASK, "ksg", 1, 1.0)]
    assert mean_errors(rows).iloc[0, 0] == pytest.approx(0.25)


def test_tasks_and_methods_stand_in_one_order_with_label_and_truth() -> None:
    rows = [row(OTHER, "doe", 0, 1.0), row("own", "mine", 0, 1.0), row(TASK, "ksg", 0, 1.0, 0.41)]
    found = mean_errors(rows)
    assert list(found.index) == [
        "Bivariate normal 1 × 1: 0.41",
        "Uniform 1 × 1 (additive noise=0.1): 1.00",
        "own: 1.00",
    ]
    assert list(found.columns) == ["KSG", "MINE", "DoE"]


def test_a_draw_that_was_refused_leaves_no_mean_of_the_others() -> None:
    found = mean_errors([row(TASK, "doe", 0, 1.0), row(TASK, "doe", 1, None)])
    assert np.isnan(found.iloc[0, 0])


def test_without_rows_there_is_nothing_to_draw() -> None:
    with pytest.raises(DataError, match="no rows"):
        mean_errors([])


def test_the_map_says_each_error_and_what_was_refused() -> None:
    rows = [row(TASK, "ksg", 0, 0.5), row(TASK, "js", 0, -5.2), row(TASK, "doe", 0, None)]
    axes = plot_errors(mean_errors(rows)).axes[0]
    assert [text.get_text() for text in axes.texts] == ["−0.50", "−6.2", "refused"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["KSG", "JS,\nthen DV", "DoE"]
    assert axes.images[0].get_array().mask.tolist() == [[False, False, True]]
