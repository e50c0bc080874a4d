"""Checks of the exercises of 04_local_mutual_information."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from localmi.course.check import (
    exercise,
    expect,
    expect_array,
    expect_close,
    expect_dictionary,
    expect_finite,
    expect_number,
)
from localmi.mi.bounds import dv
from localmi.mi.distributions import DiscreteWorld
from localmi.mi.selection import select_regions
from localmi.names import RegionSelection

Array = NDArray[np.float64]


@exercise
def exercise_4_1(my_gap: Callable[[Array], float]) -> None:
    """What the rest of the image adds, I(z2; H | z1), from p[h, z1, z2]."""
    xor = np.zeros((2, 3, 2))  # h = z1 xor z2: known only together
    for z1, z2 in np.ndindex(2, 2):
        xor[z1 ^ z2, z1, z2] = 1 / 6
    xor[0, 2] = 1 / 6  # and 0 where z1 = 2
    p = np.arange(1, 61, dtype=float).reshape(3, 4, 5) ** 2  # all that could be mixed up differs
    p /= p.sum()
    found = expect_number(my_gap(p.copy()))
    world = DiscreteWorld(("h", "z1", "z2"), p)
    wanted = world.conditional_mi("z2", "h", given="z1")
    for mistake, words in (
        (wanted / math.log(2), "these are bits: use the natural logarithm"),
        (-wanted, "the sign is wrong: H(h, z1) + H(z1, z2) - H(h, z1, z2) - H(z1)"),
        (world.mi("z2", "h"), "this is I(z2; H), without the condition: what z2 adds to z1 can be "
         "more or less than what it knows alone"),
        (world.mi(("z1", "z2"), "h"), "this is I(z; H), all that the image knows: take off "
         "I(z1; H)"),
        (world.mi("z1", "h"), "this is I(z1; H), what the region knows itself: subtract it from "
         "I(z; H)"),
        (world.conditional_mi("z1", "h", given="z2"), "the roles of z1 and z2 are swapped: z1 is "
         "the condition"),
        (world.conditional_mi("z1", "z2", given="h"), "this is I(z1; z2 | H): the condition is "
         "z1, not H"),
        (0.0, "this is 0, as I(z1; H | z) is: z contains z1. Asked for is the rest of the image, "
         "I(z2; H | z1)"),
    ):  # fmt: skip
        expect(not math.isclose(found, mistake, rel_tol=1e-4, abs_tol=1e-9), words)
    expect_close(found, wanted, "I(z2; H | z1) of p proportional to 1, 4, 9, ..., 3600")
    pure = expect_finite(
        my_gap, xor, words="where a case cannot occur it is {}: 0 log 0 counts as 0"
    )
    words = "H = z1 xor z2 two times in three: the rest of the image adds 2/3 log 2"
    expect_close(pure, math.log(2) * 2 / 3, words)


@exercise
def exercise_4_2(my_answer: Any) -> None:
    """Two tables p[h, z1, z2]: the sum of the regions' nats is above, and below, that of both.

    A tuple, or a function that returns it.
    """
    my_answer = my_answer() if callable(my_answer) else my_answer
    two = hasattr(my_answer, "__len__") and len(my_answer) == 2 and not isinstance(my_answer, dict)
    expect(two, "two tables are asked for, (more, less)")
    for table, name, sign in zip(my_answer, ("more", "less"), (1, -1), strict=True):
        p = np.asarray(expect_array(table), dtype=float)
        expect(
            p.ndim == 3, f"{name}: the table is [H, Z1, Z2], yours has the shape {list(p.shape)}"
        )
        expect(p.min() > -1e-9, f"{name}: a probability is below 0, {p.min():g}")
        total = p.sum()
        expect(math.isclose(total, 1, abs_tol=1e-6), f"{name}: the sum is {total:g}, not 1")
        world = DiscreteWorld(("h", "z1", "z2"), p.clip(0) / p.clip(0).sum())
        alone = world.mi("z1", "h"), world.mi("z2", "h")
        both, least = world.mi(("z1", "z2"), "h"), min(alone)
        expect(least >= 0.05, f"{name}: a region tells {abs(least):.3f} nats only, alone")
        left = world.entropy("h") - both
        expect(
            left >= 0.05, f"{name}: both together leave {abs(left):.3f} nats of the finding open"
        )
        shown = f"the regions tell {alone[0]:.3f} and {alone[1]:.3f} nats, together {both:.3f}"
        apart = f"{name}: {shown}; what do they have in common, what do they know only together?"
        swapped = sign * (sum(alone) - both) <= -0.1
        expect(not swapped, f"{name}: {shown}: this is the other kind, (more, less) are asked for")
        expect(sign * (sum(alone) - both) >= 0.1, apart)


def _reader(selection: RegionSelection) -> Callable[[Tensor], Tensor]:
    return lambda f: dv(select_regions(f, selection))


# Of exercise 4.3: which reading each reader has.
READINGS: dict[str, RegionSelection] = {
    "b1": "matched_max", "b2": "positive_argmax", "b3": "per_pair_max", "b4": "soft",
}  # fmt: skip
WHO = {"A": "b3", "B": "b1", "C": "b4", "D": "b2"}
readers = {name: _reader(READINGS[reading]) for name, reading in WHO.items()}
SEEN = {
    frozenset({"b1", "b2"}): "let the score of a region be the same for all sentences: then b2's "
    "matched and mismatched pairs are alike",
    frozenset({"b3", "b4"}): "let all regions of a matched pair score high, and one of each "
    "mismatched pair: a hard maximum does not see the difference",
}


@exercise
def exercise_4_3(my_answer: Any) -> None:
    """Which of four readers reads the maximum over regions how: {"A": "b1", ...}.

    A dictionary, or a function that returns it.
    """
    answer = expect_dictionary(my_answer, WHO)
    for name, said in answer.items():
        expect(
            isinstance(said, str) and said in READINGS,
            f"{name}: one of b1 to b4 is asked for, found {said!r}",
        )
    for name, said in answer.items():
        words = SEEN.get(frozenset({said, WHO[name]}), "two of the four find nats in pure noise")
        expect(said == WHO[name], f"{name} is not {said}: {words}")
