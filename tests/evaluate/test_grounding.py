import numpy as np
import pytest

from localmi.errors import ConfigError, DataError
from localmi.evaluate.grounding import (
    THRESHOLDS,
    best_threshold,
    by_group,
    contrast_to_noise,
    find_lenders,
    overlap,
    place_names,
    pointing_game,
    region_centres,
    region_confusion,
    region_coverage,
    resize_masks,
    size_names,
)
from localmi.statistics import mean_interval


def test_centres_of_a_four_by_four_grid() -> None:
    centres = region_centres(np.array([0, 3, 15]), grid=4, image_size=256)
    assert centres.tolist() == [[32, 32], [32, 224], [224, 224]]
    wide = region_centres(np.array([0, 3, 15]), grid=4, image_size=(128, 256))
    assert wide.tolist() == [[16, 32], [16, 224], [112, 224]]


@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 64), (64, 96)])
@pytest.mark.parametrize("tolerance", [4, None])
def test_pointing_equals_the_loop_over_regions(height, width, tolerance) -> None:
    rng = np.random.default_rng(0)
    masks = np.zeros((6, height, width), dtype=bool)
    for mask in masks:
        row, column = rng.integers(0, 44, size=2)
        mask[row : row + 20, column : column + 20] = True
    winners = rng.integers(0, 16, size=6)
    found = pointing_game(winners, masks, grid=4, tolerance=tolerance)
    reach = tolerance or 15 * max(height, width) / 256
    for number, mask in enumerate(masks):
        pixels = np.argwhere(mask)
        hits = []
        for region in range(16):
            place = np.array(divmod(region, 4)) + 0.5
            centre = (place * [height, width] / 4).astype(int)
            hits.append(np.linalg.norm(pixels - centre, axis=1).min() <= reach)
        assert found.hit[number] == hits[winners[number]]
        assert found.chance[number] == pytest.approx(np.mean(hits))
        assert found.mask_share[number] == pytest.approx(400 / (height * width))


@pytest.mark.parametrize("grid", [2, 4, 5, 7])
def test_the_share_of_a_region_equals_the_loop_over_pixels(grid: int) -> None:
    """Of any grid: a pixel belongs to the region in which its left upper corner lies."""
    masks = np.random.default_rng(0).random((3, 64, 64)) < 0.3
    found = region_coverage(masks, grid=grid)
    region = np.arange(64) * grid // 64
    for row in range(grid):
        for column in range(grid):
            cells = masks[:, region == row][:, :, region == column]
            np.testing.assert_allclose(found[:, row, column], cells.mean(axis=(1, 2)))


@pytest.mark.parametrize("size", [16, 48, 64, 80, 128])
def test_a_resized_mask_lies_where_the_mask_does(size: int) -> None:
    masks = np.zeros((2, 64, 64), dtype=bool)
    masks[0, 16:32, 32:48] = masks[1, 48:, :16] = True
    quarter = size // 4
    expected = np.zeros((2, size, size), dtype=bool)
    expected[0, quarter : 2 * quarter, 2 * quarter : 3 * quarter] = True
    expected[1, 3 * quarter :, :quarter] = True
    assert (resize_masks(masks, size) == expected).all()


def test_masks_at_half_their_size_are_every_second_pixel() -> None:
    masks = np.random.default_rng(0).random((3, 64, 64)) < 0.3
    assert (resize_masks(masks, 32) == masks[:, ::2, ::2]).all()
    assert (resize_masks(masks, 64) == masks).all()


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


def boxes(number: int, *, size: int = 32, width: int = 0, seed: int = 0) -> np.ndarray:
    """[number, size, width or size] bool, a box somewhere in each."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((number, size, width or size), dtype=bool)
    for mask in masks:
        row, column = rng.integers(0, size - 10, size=2)
        mask[row : row + rng.integers(2, 10), column : column + rng.integers(2, 10)] = True
    return masks


def pixels_of(one: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """[G, G] -> [H, W]: every pixel gets the score of its region."""
    return one[np.ix_(*(np.arange(size) * len(one) // size for size in shape))]


@pytest.mark.parametrize("width", [32, 48])
@pytest.mark.parametrize("grid", [4, 5, 32])  # 5 does not divide 32
def test_cnr_and_iou_equal_the_loop_over_pixels(grid: int, width: int) -> None:
    masks, maps = boxes(5, width=width), np.random.default_rng(1).normal(size=(5, grid, grid))
    found = contrast_to_noise(maps, masks)
    threshold = best_threshold(maps, masks, split="validate", thresholds=np.array([0.3]))
    iou = overlap(maps, masks, threshold=threshold, split="test")
    for number, (one, mask) in enumerate(zip(maps, masks, strict=True)):
        values = pixels_of(one, mask.shape)
        inside, outside = values[mask], values[~mask]
        wanted = (inside.mean() - outside.mean()) / np.sqrt(inside.var() + outside.var())
        assert found[number] == pytest.approx(wanted, abs=1e-9)
        chosen = (values - one.min()) / np.ptp(one) >= 0.3
        union = (chosen | mask).sum()
        assert iou[number] == pytest.approx((chosen & mask).sum() / union, abs=1e-9)
    assert threshold.mean_iou == pytest.approx(iou.mean())


def test_cnr_does_not_depend_on_scale_and_knows_its_sign() -> None:
    masks, maps = boxes(4), np.random.default_rng(1).normal(size=(4, 8, 8))
    found = contrast_to_noise(maps, masks)
    assert contrast_to_noise(1e6 + 3 * maps, masks) == pytest.approx(found, abs=1e-6)
    assert contrast_to_noise(-maps, masks) == pytest.approx(-found)
    assert contrast_to_noise(np.full((4, 8, 8), 2.0), masks).tolist() == [0] * 4
    assert np.isposinf(contrast_to_noise(masks[:1].astype(float), masks[:1])[0])
    assert np.isnan(contrast_to_noise(maps[:1], np.ones((1, 32, 32), bool))[0])


def test_cnr_of_scores_far_from_zero_is_that_of_their_differences() -> None:
    """Neighbouring numbers there are 2e-6 apart: means of them are no better, differences are."""
    masks = boxes(4)
    far = 1e10 + np.random.default_rng(1).normal(size=(4, 8, 8))
    near = contrast_to_noise(far - 1e10, masks)  # without rounding
    assert contrast_to_noise(far, masks) == pytest.approx(near, rel=64 * np.finfo(float).eps)


def test_the_threshold_is_chosen_on_another_split() -> None:
    masks = boxes(20)
    smooth = masks.astype(float) + 0.4 * np.random.default_rng(0).random((20, 32, 32))
    threshold = best_threshold(smooth, masks, split="validate")
    means = [
        overlap(
            smooth,
            masks,
            threshold=best_threshold(smooth, masks, split="x", thresholds=np.array([one])),
            split="test",
        ).mean()
        for one in THRESHOLDS
    ]
    assert threshold.value == THRESHOLDS[int(np.argmax(means))]
    assert threshold.mean_iou == pytest.approx(max(means))
    assert threshold.mean_iou > 0.9
    with pytest.raises(ConfigError, match="chosen on split 'validate'"):
        overlap(smooth, masks, threshold=threshold, split="validate")


def test_the_highest_threshold_leaves_the_best_region() -> None:
    masks, maps = np.zeros((1, 8, 8), bool), np.zeros((1, 4, 4))
    masks[0, 2:4, 4:6], maps[0, 1, 2] = True, 5
    threshold = best_threshold(maps, masks, split="validate", thresholds=np.array([1.0]))
    assert overlap(maps, masks, threshold=threshold, split="test").tolist() == [1]


def test_a_map_that_is_the_same_everywhere_marks_nothing() -> None:
    masks = boxes(2)
    threshold = best_threshold(np.ones((2, 4, 4)), masks, split="validate")
    assert overlap(np.ones((2, 4, 4)), masks, threshold=threshold, split="test").tolist() == [0, 0]


def test_maps_and_masks_that_do_not_fit() -> None:
    masks, maps = boxes(2, size=16), np.zeros((2, 4, 4))
    with pytest.raises(DataError, match=r"\[S, G, G\]"):
        contrast_to_noise(maps[:1], masks)
    with pytest.raises(DataError, match="finer than masks"):
        contrast_to_noise(np.zeros((2, 17, 17)), masks)
    with pytest.raises(DataError, match="not finite"):
        contrast_to_noise(np.full((2, 4, 4), np.nan), masks)
    with pytest.raises(DataError, match="empty"):
        contrast_to_noise(maps, np.zeros((2, 16, 16), bool))


def test_borrowed_masks_are_of_the_same_finding_in_another_patient() -> None:
    lent = np.array(["edema", "edema", "effusion", "edema"])
    lenders = np.array(["a", "b", "a", "c"])
    findings = np.array(["edema", "edema", "edema", "effusion", "fracture", "edema"])
    patients = np.array(["a", "d", "d", "a", "a", "d"])
    found = find_lenders(findings, patients, lent, lenders)
    for number, index in enumerate(found):
        if index >= 0:
            assert lent[index] == findings[number]
            assert lenders[index] != patients[number]
    assert found[[3, 4]].tolist() == [-1, -1]  # only a's own mask; no such finding
    assert set(found[[1, 2, 5]]) == {0, 1, 3}  # in turn


def test_a_map_of_the_usual_place_alone_is_found_by_the_control() -> None:
    """Findings lie on one side; a model that always looks there gains nothing on its own masks."""
    rng = np.random.default_rng(0)
    masks = np.zeros((60, 16, 16), dtype=bool)
    for mask in masks:
        row = rng.integers(12)
        mask[row : row + 4, :6] = True
    usual = np.tile(masks.mean(axis=0), (60, 1, 1))
    patients, finding = np.arange(60), np.full(60, "effusion")
    borrowed = masks[find_lenders(finding, patients, finding, patients)]
    own, control = contrast_to_noise(usual, masks), contrast_to_noise(usual, borrowed)
    assert own.mean() > 1
    assert control.mean() == pytest.approx(own.mean(), rel=0.1)
    seen = contrast_to_noise(usual + masks, borrowed).mean()
    assert seen < contrast_to_noise(usual + masks, masks).mean() - 1


def test_groups_have_the_interval_of_their_mean() -> None:
    rng = np.random.default_rng(0)
    values, patients = rng.random(20), np.arange(20) // 2
    side = np.array(["left", "right", "", "left"] * 5)
    found = by_group(values, patients, {"side": side}, resamples=100)
    assert [(group.by, group.name) for group in found] == [
        ("all", "all"),
        ("side", "left"),
        ("side", "right"),
    ]
    rows = side == "left"
    assert found[1].mean == mean_interval(values[rows], patients[rows], resamples=100)
    assert (found[1].sentences, found[1].patients) == (10, 10)
    with pytest.raises(DataError, match="'side': 3"):
        by_group(values, patients, {"side": side[:3]})
    with pytest.raises(DataError, match="at least one"):
        by_group(values[:0], patients[:0], {})


def test_sizes() -> None:
    assert size_names(np.array([0.001, 0.03, 0.05, 0.3, 1.0])).tolist() == [
        "small",
        "small",
        "medium",
        "large",
        "large",
    ]


def test_confusion_equals_the_loop_over_sentences() -> None:
    masks, winners = boxes(6, size=16), np.random.default_rng(0).integers(16, size=6)
    found = region_confusion(winners, masks, grid=4)
    loop = np.zeros((16, 16))
    for winner, mask in zip(winners, masks, strict=True):
        for row, column in np.argwhere(mask):
            loop[4 * (row // 4) + column // 4, winner] += 1 / mask.sum()
    assert found == pytest.approx(loop, abs=1e-9)
    assert found.sum() == pytest.approx(6)


def test_places() -> None:
    """The finding lies in region 4 of a 4 x 4 grid: second row, first column."""
    mask = np.zeros((1, 16, 16), dtype=bool)
    mask[0, 5:8, 0:3] = True
    winners = [4, 5, 0, 9, 7, 6, 15]
    names = place_names(np.array(winners), np.repeat(mask, 7, axis=0), grid=4)
    assert names.tolist() == ["on", *["beside"] * 3, "mirror", "elsewhere", "elsewhere"]
    with pytest.raises(DataError, match="empty"):
        place_names(np.array([0]), np.zeros((1, 16, 16), bool), grid=4)
