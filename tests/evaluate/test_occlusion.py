import numpy as np

from localmi.evaluate.occlusion import move, paint_over


def square(size: int, rows: slice, columns: slice) -> np.ndarray:
    mask = np.zeros((size, size), dtype=bool)
    mask[rows, columns] = True
    return mask


def test_a_patch_gets_the_grey_of_its_rim_and_nothing_else_changes() -> None:
    image = np.full((20, 20), 100, dtype=np.uint8)
    patch = square(20, slice(5, 10), slice(5, 10))
    image[patch] = 255
    image[18:] = 7
    painted = paint_over(image, patch, rim=2)
    assert (painted[patch] == 100).all()
    assert np.array_equal(painted[~patch], image[~patch])
    assert (image[patch] == 255).all()
    assert painted.dtype == np.uint8


def test_no_patch_and_a_patch_without_a_rim_change_nothing() -> None:
    image = np.arange(100, dtype=np.uint8).reshape(10, 10)
    for patch in (np.zeros((10, 10), dtype=bool), np.ones((10, 10), dtype=bool)):
        assert np.array_equal(paint_over(image, patch), image)


def test_a_moved_shape_is_the_same_and_off_the_mask() -> None:
    mask = square(32, slice(0, 9), slice(20, 32))
    mask[0, 20] = False
    for seed in range(20):
        found = move(mask, np.random.default_rng(seed))
        assert found.sum() == mask.sum()
        assert not (found & mask).any()
        rows, columns = np.nonzero(found)
        corner = found[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert np.array_equal(corner, mask[:9, 20:])


def test_a_shape_that_cannot_leave_itself_moves_as_far_as_it_can() -> None:
    mask = square(10, slice(0, 10), slice(0, 8))
    found = move(mask, np.random.default_rng(0))
    assert (found & mask).sum() == 60  # by two columns to the right
    assert np.array_equal(
        move(np.ones((4, 4), dtype=bool), np.random.default_rng(0)), np.ones((4, 4))
    )
