import numpy as np
import pytest

from localmi.evaluate.grounding import pointing_game, region_centres


def test_centres_of_a_four_by_four_grid() -> None:
    centres = region_centres(np.array([0, 3, 15]), grid=4, image_size=256)
    assert centres.tolist() == [[32, 32], [32, 224], [224, 224]]


def test_pointing_equals_the_loop_over_regions() -> None:
    rng = np.random.default_rng(0)
    masks = np.zeros((6, 64, 64), dtype=bool)
    for mask in masks:
        row, column = rng.integers(0, 44, size=2)
        mask[row : row + 20, column : column + 20] = True
    winners = rng.integers(0, 16, size=6)
    found = pointing_game(winners, masks, grid=4, tolerance=4)
    for number, mask in enumerate(masks):
        pixels = np.argwhere(mask)
        hits = []
        for region in range(16):
            centre = np.array([8 + 16 * (region // 4), 8 + 16 * (region % 4)])
            hits.append(np.linalg.norm(pixels - centre, axis=1).min() <= 4)
        assert found.hit[number] == hits[winners[number]]
        assert found.chance[number] == pytest.approx(np.mean(hits))
        assert found.mask_share[number] == pytest.approx(400 / 4096)


def test_a_random_choice_hits_by_chance() -> None:
    rng = np.random.default_rng(0)
    masks = np.zeros((400, 32, 32), dtype=bool)
    masks[:, :16, :8] = True
    found = pointing_game(rng.integers(0, 16, size=400), masks, grid=4, tolerance=0)
    assert found.chance.mean() == pytest.approx(2 / 16)
    assert found.hit.mean() == pytest.approx(2 / 16, abs=0.05)


def test_empty_mask_and_unequal_lengths() -> None:
    with pytest.raises(ValueError, match="empty"):
        pointing_game(np.array([0]), np.zeros((1, 8, 8), dtype=bool), grid=4)
    with pytest.raises(ValueError, match="2 winners for 1 masks"):
        pointing_game(np.array([0, 1]), np.ones((1, 8, 8), dtype=bool), grid=4)
