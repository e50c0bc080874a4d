"""Self-checks of 07_train_local_mi."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from localmi.course.check import exercise, expect, expect_close
from localmi.evaluate.grounding import pointing_game
from localmi.mi.selection import select_regions


@exercise
def exercise_7_1(my_soft_max: Callable[[Tensor, float], Tensor]) -> None:
    """The soft maximum over regions: scores [B, N, B] -> [B, B]."""
    scores = torch.randn(3, 5, 3, generator=torch.Generator().manual_seed(0))
    found, wanted = my_soft_max(scores, 0.5), select_regions(scores, "soft", temperature=0.5)
    expect(
        tuple(found.shape) == (3, 3),
        f"the result has shape {list(found.shape)}: sum over the regions, dimension 1, alone",
    )
    excess = found - wanted
    expect(
        not torch.allclose(excess, torch.full_like(excess, 0.5 * math.log(5)), atol=1e-4),
        "it is tau log N too high: subtract log N, so that equal regions give their own score",
    )
    expect(
        not torch.allclose(found, scores.amax(dim=1)),
        "that is the hard maximum: the temperature has no effect",
    )
    expect_close(found, wanted, "soft maximum at temperature 0.5")
    expect_close(my_soft_max(scores, 2.0), select_regions(scores, "soft", 2.0), "at temperature 2")


@exercise
def exercise_7_2(my_chance: Callable[[np.ndarray, int], float]) -> None:
    """Chance of the pointing game: share of the regions whose centre lies on the mask."""
    mask = np.zeros((64, 64), dtype=bool)
    mask[4:30, 4:14] = True  # centres (8, 8) and (24, 8) of the 16 cells of a 4 x 4 grid
    found = float(my_chance(mask, 4))
    wanted = pointing_game(np.array([0]), mask[None], grid=4, tolerance=0).chance[0]
    expect(
        abs(found - mask.mean()) > 1e-6,
        "that is the share of the pixels; the model can only choose among the regions' centres",
    )
    expect(
        abs(found - 16 * wanted) > 1e-6,
        "that is a number of regions: divide by how many there are",
    )
    expect_close(found, wanted, "share of the regions with their centre on the mask")
