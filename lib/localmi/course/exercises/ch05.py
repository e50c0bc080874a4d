"""Checks of the exercises of 05_radiographs_and_reports."""

import math
import re
import reprlib
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor, tensor

from localmi.course.check import (
    exercise,
    expect,
    expect_array,
    expect_close,
    expect_finite,
    expect_number,
)

Splitter = Callable[[str], list[str]]
Policy = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


@exercise
def exercise_5_1(my_split: Splitter) -> None:
    """A report's body into sentences: decimals, wrapped lines, list markers."""
    two = _sentences(my_split, "No effusion. Heart size is normal.")
    expect(
        two == ["No effusion", "Heart size is normal"],
        f"'No effusion. Heart size is normal.' are two sentences, you found {two}",
    )
    tube = _sentences(my_split, "The tube ends 2.5 cm above the carina.")
    expect(len(tube) == 1, f"the period of 2.5 cm ends no sentence, but you found {tube}")
    expect("2.5" in tube[0], f"2.5 cm is no longer 2.5 cm: {tube[0]!r}")
    wrapped = _sentences(my_split, " There is\n mild edema.")
    expect(
        wrapped == ["There is mild edema"],
        f"a line's end is white space, not the end of a sentence: you found {wrapped}",
    )
    listed = _sentences(my_split, " 9. No effusion.\n 10. Mild edema.")
    expect(
        all(re.search("[A-Za-z]", sentence) for sentence in listed),
        f"a list's number is no sentence: you found {listed}",
    )
    expect(
        listed == ["No effusion", "Mild edema"],
        f"'9. No effusion. 10. Mild edema.' are two sentences without numbers, you found {listed}",
    )
    for place in ("Wedge fracture at T12", "Fracture of rib 12"):
        level = _sentences(my_split, f"{place}. No effusion.")
        expect(
            level == [place, "No effusion"],
            f"'{place}. No effusion.' are two sentences, and 12 is no number of a list: "
            f"you found {level}",
        )


def _sentences(split: Splitter, text: str) -> list[str]:
    """What a splitter finds, without final periods: whether they stay is a matter of taste."""
    found = split(text)
    several = hasattr(found, "__iter__") and not isinstance(found, str)
    pieces = list(found) if several else []
    is_list = several and all(isinstance(piece, str) for piece in pieces)
    expect(
        is_list, f"a list of strings is asked for, your function returned {reprlib.repr(found)}"
    )
    return [piece.strip().removesuffix(".") for piece in pieces]


@exercise
def exercise_5_2(my_mi: Callable[[float, float], float]) -> None:
    """I(finding; what is said of it) in nats, of a binary finding that is flipped at times."""
    found = expect_number(my_mi(0.3, 0.1))
    wanted = 0.3159525
    marginal = 0.3 * 0.9 + 0.7 * 0.1
    for mistake, words in (
        (wanted / math.log(2), "these are bits: use the natural logarithm"),
        (_entropy(marginal), "this is h(said) alone: what the noise adds, h(e), comes off it"),
        (_entropy(0.3) - _entropy(0.1), "h(p) - h(e) forgets that flips change how often it is "
         "said: p(1 - e) + (1 - p)e"),
        (-wanted, "the sign is wrong: h(said) - h(said | finding)"),
    ):  # fmt: skip
        expect(not math.isclose(found, mistake, rel_tol=1e-3), words)
    expect_close(found, wanted, "p = .3, e = .1", tolerance=1e-4)
    words = "without noise, e = 0, it is {}: 0 log 0 counts as 0"
    never_wrong = expect_finite(my_mi, 0.2, 0.0, words=words)
    expect_close(never_wrong, _entropy(0.2), "without noise all of h(p) is left", tolerance=1e-4)
    expect_close(
        expect_number(my_mi(0.3, 0.5)),
        0.0,
        "a coin that says yes or no tells nothing",
        tolerance=1e-4,
    )


def _entropy(p: float) -> float:
    """h(p), nats."""
    return -p * math.log(p) - (1 - p) * math.log(1 - p)


@exercise
def exercise_5_3(my_targets: Policy) -> None:
    """Targets and mask of the policy "zeros": uncertain counts as 0, blank does not count."""
    values = np.array([[1.0, 0.0, -1.0, np.nan], [np.nan, -1.0, 1.0, 0.0]])
    targets, mask = _targets_and_mask(my_targets(values.copy()))
    shapes = f"{list(targets.shape)} and {list(mask.shape)}"
    expect(
        targets.shape == mask.shape == values.shape,
        f"targets and mask have the shape of the values, {list(values.shape)}; yours: {shapes}",
    )
    swapped = np.array_equal(targets, ~np.isnan(values)) and np.array_equal(mask, values == 1)
    expect(not swapped, "targets come first, then the mask: yours are the other way round")
    mask = mask.astype(bool)
    expect(
        not np.array_equal(mask, np.isnan(values)),
        "the mask is the wrong way round: True is to mean that a label counts",
    )
    expect(
        not mask[np.isnan(values)].any(),
        "a blank counts, and should not: nobody has denied the finding (that is "
        "zeros_blank_zero). NaN equals nothing, not even NaN: ask np.isnan",
    )
    expect(
        bool(mask[values == -1].any()),
        "an uncertain label does not count: that is the policy explicit",
    )
    expect(bool(mask[~np.isnan(values)].all()), "every label that is not blank counts")
    uncertain = targets[values == -1]
    expect(not (uncertain == 1).any(), "an uncertain label is 1: that is the policy ones")
    expect(
        not (uncertain == -1).any(),
        "an uncertain label is still -1: a target is 0 or 1, and -1 is no low kind of 0",
    )
    expect(
        np.array_equal(targets[mask], (values == 1)[mask]),
        f"targets that count are 1 where a label is 1, else 0; yours: {targets[mask]}",
    )
    more = np.resize(values, (3, 5))
    targets, mask = _targets_and_mask(my_targets(more.copy()))
    expect_close(mask.astype(bool), ~np.isnan(more), "the mask of three images")
    expect_close(targets[mask.astype(bool)], (more == 1)[~np.isnan(more)], "their targets")


def _targets_and_mask(answer: Any) -> tuple[np.ndarray, np.ndarray]:
    is_pair = isinstance(answer, tuple | list) and len(answer) == 2
    expect(is_pair, f"two arrays are asked for, targets and mask; found {reprlib.repr(answer)}")
    targets, mask = map(expect_array, answer)
    return targets, mask


@exercise
def exercise_5_4(my_allowed: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Which pairs of a batch may be mismatched: neither the same study nor the same words."""
    study, text = tensor([0, 0, 1, 2]), tensor([5, 6, 7, 5])
    allowed = expect_array(my_allowed(study, text))
    expect(
        allowed.shape == (4, 4),
        f"for 4 pairs the mask is [4, 4], yours is {list(allowed.shape)}: compare every row with "
        "every column, study[:, None] with study[None, :]",
    )
    allowed = allowed.astype(bool)
    wanted = np.array([[0, 0, 1, 0], [0, 0, 1, 1], [1, 1, 0, 1], [0, 1, 1, 0]], dtype=bool)
    turned = "the mask is the wrong way round: True is to mean that a pair is allowed"
    expect(not np.array_equal(allowed, ~wanted), turned)
    expect(
        not np.array_equal(allowed | allowed.T, wanted) or np.array_equal(allowed, wanted),
        "half of the pairs is missing: the mask of i and j is that of j and i",
    )
    expect(not allowed.diagonal().any(), "the diagonal holds the matched pairs: not allowed")
    expect(
        not allowed[0, 1] and not allowed[1, 0],
        "images 0 and 1 are of one study: its report is true of both",
    )
    expect(
        not allowed[0, 3] and not allowed[3, 0],
        "sentences 0 and 3 read the same: what is true of image 0 is true of image 3",
    )
    expect(
        np.array_equal(allowed, wanted),
        "a pair is forbidden if EITHER the studies or the words are equal; all others are allowed",
    )
    allowed = expect_array(my_allowed(tensor([3, 4, 3]), tensor([1, 2, 2]))).astype(bool)
    expect_close(allowed, [[0, 1, 0], [1, 0, 0], [0, 0, 0]], "the mask of three pairs")
