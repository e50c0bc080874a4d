"""Checks of the exercises of 14_full_mimic_cxr."""

import reprlib
from collections.abc import Callable
from typing import Any

import numpy as np

from localmi.course.check import exercise, expect, expect_close, expect_finite, expect_number

# images, batch_size, ranks: no two alike, a rest of images that fills no batch, uneven shares
SIZES = ((53, 12, 5), (31, 7, 3))
SEED = 4
FAR = 1e-6


@exercise
def exercise_14_1(my_rows: Callable[..., Any]) -> None:
    """The images of one process in a step: seed, step, images, batch_size, rank, ranks -> rows."""
    for images, size, ranks in SIZES:
        epoch = images // size  # steps
        batches = [_batch(my_rows, SEED, step, images, size) for step in range(2 * epoch)]
        _check_epochs(batches, epoch)
        for step in (epoch + 1, 0):  # not in their order
            shares = [
                _rows(my_rows, SEED, step, images, size, rank, ranks) for rank in range(ranks)
            ]
            _check_shares(shares, batches[step], ranks)
        other = [_batch(my_rows, SEED + 1, step, images, size) for step in range(epoch)]
        expect(other != batches[:epoch], "with another seed the order is the same: use the seed")


def _check_epochs(batches: list[list[int]], epoch: int) -> None:
    first, second = batches[:epoch], batches[epoch:]
    for part in (first, second):
        seen = [row for batch in part for row in batch]
        twice = len(seen) - len(set(seen))
        expect(
            not twice,
            f"in one epoch of {epoch} steps {twice} images come twice: shuffle once an epoch, and "
            "cut the order into batches",
        )
    expect(
        first != second,
        "the second epoch has the order of the first: step // steps of an epoch is the epoch, and "
        "the order must depend on it",
    )
    expect(
        any(sorted(batch) != list(range(batch[0], batch[0] + len(batch))) for batch in first),
        "the images of a batch are neighbours: shuffle them",
    )


def _check_shares(shares: list[list[int]], batch: list[int], ranks: int) -> None:
    together = [row for share in shares for row in share]
    expect(
        len(together) == len(set(together)),
        f"two of {ranks} processes take the same image: each needs rows of its own of one batch",
    )
    expect(
        sorted(together) == sorted(batch),
        f"{ranks} processes together have {len(together)} images, and not those that one process "
        f"has in this step ({len(batch)}): all must shuffle alike, and the order must not depend "
        "on the rank or on how many there are, nor on what was asked before",
    )
    lengths = [len(share) for share in shares]
    expect(
        max(lengths) - min(lengths) <= 1,
        f"of {len(batch)} images the {ranks} processes have {lengths}: none may have more than "
        "one more than another",
    )


def _batch(my_rows: Callable[..., Any], seed: int, step: int, images: int, size: int) -> list[int]:
    """What one process has."""
    rows = _rows(my_rows, seed, step, images, size, 0, 1)
    expect(
        len(rows) == size,
        f"one process alone has {len(rows)} images in step {step}, the batch has {size} (of "
        f"{images} images; an epoch has {images // size} steps)",
    )
    return rows


def _rows(my_rows: Callable[..., Any], *arguments: int) -> list[int]:
    answer = my_rows(*arguments)
    several = hasattr(answer, "__iter__") and not isinstance(answer, str | bytes | dict)
    expect(
        several, f"numbers of images are asked for, your function returned {reprlib.repr(answer)}"
    )
    array = np.asarray(list(answer)).ravel()
    whole = array.size == 0 or array.dtype.kind in "iu"
    expect(
        whole,
        f"numbers of images are whole numbers, your function returned {reprlib.repr(answer)}",
    )
    images = arguments[2]
    outside = [row for row in array.tolist() if not 0 <= row < images]
    expect(
        not outside, f"{images} images have the numbers 0 to {images - 1}, you give {outside[:3]}"
    )
    return [int(row) for row in array]


@exercise
def exercise_14_2(my_spread: Callable[[np.ndarray, int], Any]) -> None:
    """Entropy of the winning regions, as a share of log N: winners [S], regions N -> number."""
    words = "it gives {}: a region that never wins adds nothing (0 log 0 = 0), and N counts it too"
    for winners, regions in (
        ([7, 2, 2, 7, 2, 9], 16),  # most regions never win, the last ones among them
        ([0, 1, 1, 3, 3, 3, 3, 2, 0, 1, 3], 5),
        ([1, 0, 0], 25),
    ):
        found = expect_finite(my_spread, np.array(winners), regions, words=words)
        share = np.array([winners.count(region) for region in set(winners)]) / len(winners)
        nats = float(-(share * np.log(share)).sum())
        for wrong, words in (
            (nats, "this is the entropy in nats: divide by log N, the most it can be"),
            (
                nats / np.log(2),
                "this is the entropy in bits: divide by log2 N, the most it can be",
            ),
            (nats / np.log(len(share)), "N counts all regions, also those that never win"),
            (1 - nats / np.log(regions), "1 is where all win as often, 0 where one wins always"),
            (-nats / np.log(regions), "the sign: an entropy is not below 0"),
        ):
            expect(abs(found - wrong) > FAR, words)
        expect_close(found, nats / np.log(regions), f"winners {winners} of {regions} regions")
    even = expect_number(my_spread(np.array([4, 0, 3, 1, 2, 5, 5, 4, 3, 2, 1, 0]), 6))
    expect_close(even, 1.0, "each of 6 regions wins as often: the spread is 1")
    one = expect_finite(my_spread, np.array([3, 3, 3, 3, 3]), 9, words=words)
    expect_close(one, 0.0, "region 3 of 9 wins for every sentence: the spread is 0")


@exercise
def exercise_14_3(my_pairs: Callable[[float, float], Any]) -> None:
    """Pairs of a look whose cap leaves room above a bound: nats, room -> a power of two."""
    for nats, room in ((4.0, 1.0), (1.1, 0.5), (6.0, 0.0), (0.45, 2.3), (-0.3, 0.2)):
        pairs = expect_number(my_pairs(nats, room))
        asked = f"{nats} nats and {room} above them"
        expect(
            pairs >= 2 and float(np.log2(pairs)).is_integer(),
            f"{asked}: a power of two is asked for, 2 at least; yours is {pairs:g}",
        )
        cap = float(np.log(pairs))
        expect(
            cap >= nats + room,
            f"{asked}: {pairs:g} pairs have a cap of {cap:.2f}, the natural logarithm: too few",
        )
        expect(
            pairs == 2 or np.log(pairs / 2) < nats + room,
            f"{asked}: {pairs:g} pairs have a cap of {cap:.2f}: half of them would do",
        )
