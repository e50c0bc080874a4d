import random

import numpy as np
import torch

from localmi.course.start import set_up


def test_set_up_seeds_everything_and_shows_nothing_of_the_machine() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    first = set_up(seed=3, threads=1)
    drawn = draw()
    assert repr(first) == "ready, seed 3"
    assert first.threads == torch.get_num_threads() == 1
    set_up(seed=3)
    assert draw() == drawn
    set_up(seed=4)
    assert draw() != drawn
