"""Images with known information: the findings can be read without error, the rest is counting."""

import math

import numpy as np
import pytest
import torch

from localmi.errors import ConfigError
from localmi.mi.distributions import GridImages, Task
from localmi.mi.distributions.images import CONTRAST, NOISE, PIXELS, STRIPES
from localmi.mi.samples.baselines import gaussian_mi


def check_by_samples(known: Task, number: int, tolerance: float) -> None:
    """Mean log-ratio = I, and E[ratio] = 1 for mismatched pairs."""
    x, y = known.sample(number, seed=0)
    assert x.shape == (number, known.dim_x)
    assert y.shape == (number, known.dim_y)
    matched = known.paired_log_ratio(x, y)
    error = matched.std().item() / math.sqrt(number)
    assert matched.mean().item() == pytest.approx(known.true_mi, abs=4 * error + 1e-6)
    ratio = known.paired_log_ratio(x, y.roll(1, dims=0)).exp()
    assert ratio.mean().item() == pytest.approx(1, abs=tolerance)


@pytest.mark.parametrize("states", [2, len(STRIPES)])
def test_findings_are_read_without_error(states: int) -> None:
    grid = GridImages(side=3, states=states)
    images, findings, _ = grid.sample(500, seed=0)
    assert images.shape == (500, 1, 3 * PIXELS, 3 * PIXELS)
    assert findings.unique().tolist() == list(range(states))
    regions = grid.cut(images.double().numpy().reshape(500, -1))
    np.testing.assert_array_equal(grid.read(regions), findings)


def test_no_noise_within_the_limits_can_hide_a_finding() -> None:
    """The worst noise takes from the true wave and gives to another, at the least contrast."""
    grid, place = GridImages(states=len(STRIPES)), 2 * math.pi * np.arange(PIXELS) / PIXELS
    waves = [down * place[:, None] + across * place for down, across in STRIPES]
    for true, wave in enumerate(waves):
        for other in (one for one in waves if one is not wave):
            for phase in (0.0, 0.4, 1.1):
                noise = NOISE * np.sign(np.cos(other + phase) - np.cos(wave + phase))
                region = CONTRAST[0] * np.cos(wave + phase) + noise
                assert grid.read(region) == true
    assert CONTRAST[0] / 4 > NOISE


def test_local_information_is_that_of_a_noisy_copy() -> None:
    for states, flip in ((4, 0.1), (2, 0.0), (3, 0.3)):
        lost = -(1 - flip) * math.log(1 - flip)
        lost -= flip * math.log(flip / (states - 1)) if flip else 0
        found = GridImages(states=states, flip=flip).local_mi
        assert found == pytest.approx(math.log(states) - lost, abs=1e-12)
    assert GridImages(states=4, flip=0.75).local_mi == pytest.approx(0, abs=1e-12)


def test_each_task_has_its_information() -> None:
    grid = GridImages(side=2, states=3, flip=0.3)
    assert grid.report_task().true_mi == pytest.approx(4 * grid.local_mi)
    assert grid.region_task(3).true_mi == grid.local_mi
    for shown in range(5):
        assert grid.pair_task(shown).true_mi == pytest.approx(shown * grid.local_mi)
    for known in (grid.report_task(), grid.region_task(2), grid.pair_task(0), grid.pair_task(3)):
        check_by_samples(known, number=4000, tolerance=0.15)


def test_sentences_name_the_finding_and_sometimes_another() -> None:
    grid = GridImages(states=4, flip=0.2)
    _, findings, sentences = grid.sample(5000, seed=0)
    assert (findings != sentences).float().mean().item() == pytest.approx(0.2, abs=0.01)


def test_same_seed_same_images_in_every_task() -> None:
    grid = GridImages(side=3)
    images, _, sentences = grid.sample(20, seed=5)
    x, y = grid.report_task().sample(20, seed=5)
    assert torch.equal(x, images.reshape(20, -1))
    for region in range(9):
        part_x, part_y = grid.region_task(region).sample(20, seed=5)
        row, column = divmod(region, 3)
        rows = slice(row * PIXELS, (row + 1) * PIXELS)
        columns = slice(column * PIXELS, (column + 1) * PIXELS)
        assert torch.equal(part_x, images[:, 0, rows, columns].reshape(20, -1))
        assert torch.equal(part_y, y[:, 4 * region : 4 * region + 4])
        assert torch.equal(part_y.argmax(dim=1), sentences[:, region])
    assert torch.equal(grid.pair_task(2).sample(20, seed=5).x, x)


def test_the_second_image_is_noise_where_it_shows_nothing() -> None:
    grid = GridImages(side=2)
    second = grid.pair_task(1).sample(50, seed=0).y.numpy()
    loudest = np.abs(grid.cut(second)).max(axis=(0, 2, 3))
    assert loudest[0] > 0.8
    assert (loudest[1:] <= NOISE).all()


def test_nothing_linear_is_to_be_seen() -> None:
    known = GridImages(side=1, flip=0.0).region_task()
    x, y = known.sample(5000, seed=0)
    assert known.true_mi == pytest.approx(math.log(4))
    assert gaussian_mi(x, y[:, :3]) == pytest.approx(0, abs=0.02)  # the fourth is 1 - the others


def test_impossible_images_are_refused() -> None:
    for bad in ({"side": 0}, {"states": 1}, {"states": 9}, {"flip": 1.5}):
        with pytest.raises(ConfigError, match="side >= 1, 2 to 8 states and 0 <= flip <= 1"):
            GridImages(**bad)  # type: ignore[arg-type]
    grid = GridImages()
    with pytest.raises(ConfigError, match="There are 4 regions, from 0; found 4"):
        grid.region_task(4)
    with pytest.raises(ConfigError, match="There are 4 regions, from 0; found 4"):
        grid.pair_task(5)
    with pytest.raises(ConfigError, match="at least one image, found 0"):
        grid.sample(0, seed=0)
