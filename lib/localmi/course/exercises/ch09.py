"""Checks of the exercises of 09_reading_the_model."""

from collections.abc import Callable

import numpy as np

from localmi.course.check import exercise, expect, expect_close, expect_number
from localmi.evaluate.grounding import contrast_to_noise


def _example() -> tuple[np.ndarray, np.ndarray]:
    """A map [2, 2] and a mask [8, 8] that covers one region and some of another."""
    heat = np.array([[-5.0, -9.0], [-8.0, -13.0]])
    mask = np.zeros((8, 8), dtype=bool)
    mask[:4, :6] = True
    return heat, mask


def _larger() -> tuple[np.ndarray, np.ndarray]:
    """A map [3, 3], and a mask [15, 15] that covers two regions and a part of two more."""
    mask = np.zeros((15, 15), dtype=bool)
    mask[5:, :8] = True
    return np.array([[0.0, 1.0, 3.0], [8.0, 4.0, 2.0], [6.0, 7.0, 5.0]]), mask


@exercise
def exercise_9_1(my_cnr: Callable[[np.ndarray, np.ndarray], float]) -> None:
    """Contrast-to-noise ratio of a map [G, G] and a mask [H, H]."""
    heat, mask = _example()
    pixels = np.kron(heat, np.ones((4, 4)))
    inside, outside = pixels[mask], pixels[~mask]
    wanted = float(contrast_to_noise(heat[None], mask[None])[0])
    found = expect_number(my_cnr(heat, mask))
    difference = inside.mean() - outside.mean()
    per_region = heat.ravel()[:2].mean() - heat.ravel()[2:].mean()
    mistakes = {
        -wanted: "the sign is turned: inside minus outside",
        difference: "that is the contrast; divide it by the noise",
        difference / (inside.var() + outside.var()): "the noise is the root of the variances' sum",
        difference / (inside.std() + outside.std()): "add the variances, then take one root",
        difference / np.sqrt((inside.var() + outside.var()) / 2): "the sum of the two variances, "
        "not their mean",
        difference / pixels.std(): "the noise is that inside and that outside, not of all pixels: "
        "those hold the contrast itself",
        difference
        / np.sqrt(inside.var(ddof=1) + outside.var(ddof=1)): "these variances divide by "
        "n - 1, as for a sample. The pixels are all there are: divide by n (`np.var`; of torch "
        "`var(correction=0)`)",
        per_region: "count pixels, not regions: a region that is half covered counts half",
    }
    for value, words in mistakes.items():
        expect(not np.isclose(found, value), words)
    expect_close(found, wanted, "a map of four regions, one and a half of them covered")
    turned = expect_number(my_cnr(-heat, mask))
    expect(
        not np.isclose(turned, wanted),
        "no absolute value: a map that is low on the finding is wrong, not right",
    )
    expect_close(turned, -wanted, "the map upside down has the CNR with the other sign")
    heat, mask = _larger()
    wanted = float(contrast_to_noise(heat[None], mask[None])[0])
    expect_close(expect_number(my_cnr(heat, mask)), wanted, "a map of nine regions")


@exercise
def exercise_9_2(my_iou: Callable[[np.ndarray, np.ndarray, float], float]) -> None:
    """Intersection over union of a mask [H, H] and a map [G, G] above a threshold."""
    heat = np.array([[-5.0, -13.0], [-7.0, -8.0]])  # scaled: 1, 0, 6/8, 5/8
    mask = np.zeros((8, 8), dtype=bool)
    mask[:4, 1:6] = True  # 20 pixels: 12 of the first region, 8 of the second
    found = expect_number(my_iou(heat, mask, 0.6))
    mistakes = {
        12
        / 48: "that is the share of the marked pixels that lie in the mask: divide by the union",
        12 / 20: "that is the share of the mask that is marked: divide by the union",
        2 * 12 / (20 + 48): "that is Dice: intersection over union is asked for",
        12 / 68: "the union counts what both share once",
        12
        / 40: "the two highest of four are marked, by their rank: the threshold is no quantile, "
        "but a share of the way from the lowest score to the highest",
        12
        / 24: "the winner alone is marked: scale evenly, the lowest score to 0, the highest to 1",
        20 / 64: "the lowest score becomes 0 as the highest becomes 1: subtract the minimum first",
    }
    for value, words in mistakes.items():
        expect(not np.isclose(found, value), words)
    expect(found > 0, "scale the map to [0, 1] by its own lowest and highest score first")
    expect_close(found, 12 / 56, "a mask of 20 pixels, 48 marked, 12 of them in both")
    top = expect_number(my_iou(heat, mask, 1.0))
    expect(top > 0, "the highest region reaches a threshold of 1: use >=")
    expect_close(top, 12 / 24, "at the threshold 1 the winner alone is marked")
    marked = expect_number(my_iou(*_larger(), 0.7))  # 8, 7 and 6 of 0 to 8: 75 pixels
    expect_close(marked, 65 / 90, "a map of nine regions")


@exercise
def exercise_9_3(my_recall: Callable[[np.ndarray, np.ndarray, int], float]) -> None:
    """R@k of images that look for a text: scores and right [n, T], duplicates are hits."""
    scores = np.array(
        [
            [0.9, 0.1, 0.8, 0.2, 0.3],  # its first text comes first
            [0.8, 0.5, 0.9, 0.1, 0.2],  # its own text is third, a duplicate of it first
            [0.1, 0.9, 0.2, 0.7, 0.6],  # its own is fourth
            [0.2, 0.3, 0.9, 0.8, 0.1],  # its own is second
        ]
    )
    right = np.array(
        [
            [True, False, False, False, False],
            [False, True, True, False, False],
            [False, False, True, False, False],
            [False, False, False, True, False],
        ]
    )
    first, second = (expect_number(my_recall(scores, right, k)) for k in (1, 2))
    expect(max(first, second) <= 1, "that is the number of hits: their share is asked for")
    mistakes = {
        (0.25, 0.5): "a text that stands in two reports is right for both: any right text among "
        "the first k is a hit, not only the one on the diagonal",
        (0.75, 0.75): "ranks begin with 1: the best text is within the first 1, the next is not",
        (0.0, 0.25): "those are the lowest scores: the highest come first",
        (0.375, 0.625): "one right text among the first k is a hit: not the share of the right "
        "texts that are found",
        (0.5, 0.375): "one right text among the first k is a hit: not the share of the k that are "
        "right, which is the precision",
        (0.6, 0.8): "an image, a row, looks for a text; in yours a text looks for an image",
    }
    for values, words in mistakes.items():
        expect(not np.allclose((first, second), values), words)
    expect_close(first, 0.5, "R@1 of four images")
    expect_close(second, 0.75, "R@2 of four images")
    expect_close(expect_number(my_recall(scores, right, 5)), 1.0, "R@5 of five texts")
    third = expect_number(my_recall(scores, right, 3))
    expect_close(third, 0.75, "R@3 of four images and five texts")
    some = expect_number(my_recall(scores[:3, :4], right[:3, :4], 1))
    expect_close(some, 2 / 3, "R@1 of three images and four texts")
