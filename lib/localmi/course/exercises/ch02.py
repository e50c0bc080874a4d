"""Checks of the exercises of 02_variational_bounds."""

import math
import reprlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from localmi.course.check import (
    exercise,
    expect,
    expect_array,
    expect_dictionary,
    expect_number,
    expect_numbers,
)
from localmi.mi import bounds


def _anna(scores: Tensor) -> Tensor:
    return scores.diagonal().mean() - (scores.flatten().logsumexp(0) - 2 * math.log(len(scores)))


def _ben(scores: Tensor) -> Tensor:
    others = scores.masked_fill(torch.eye(len(scores), dtype=torch.bool), -math.inf)
    return scores.diagonal().mean() - (others.logsumexp(1) - math.log(len(scores) - 1)).mean()


def _cleo(scores: Tensor) -> Tensor:
    others = scores.roll(1, dims=1).diagonal()
    return scores.diagonal().mean() - (others.logsumexp(0) - math.log(len(scores)))


# Of exercise 2.1: each version of DV, in which direction it can be wrong without end, and why.
VERSIONS: dict[str, tuple[Callable[[Tensor], Tensor], int, str]] = {
    "anna": (_anna, -1, "what can a matched pair in the denominator do? A large one makes the "
             "value too small, without end; a small one too large by log K/(K - 1) at most"),
    "ben": (_ben, 1, "a mean of logs is never above the log of the mean (Jensen), and it is taken "
            "off: can the value be too small?"),
    "cleo": (_cleo, 0, "the pairs are mismatched, but few: large scores may stand where they are "
             "looked for, or elsewhere. So both ways"),
}  # fmt: skip

# Of exercise 2.3: nats that K pairs lose by the best critic of the staircase, from 32,768 pairs or
# more, with standard errors of .003 to .007; and, by the rule that they show, pairs for 10 nats.
LOST = {
    2: {8: 0.74, 16: 0.48, 32: 0.31},
    3: {32: 0.72, 64: 0.49, 128: 0.31},
    4: {128: 0.65, 256: 0.46, 512: 0.31},
    5: {512: 0.62, 1024: 0.43, 2048: 0.29},
}
FOR_TEN = 2**18
ENOUGH = 0.55  # nats


@exercise
def exercise_2_1(my_answer: Any) -> None:
    """Three versions of DV: a table on which each errs by more than 2 nats, and its direction.

    A dictionary of pairs (scores [K, K], direction), or a function that returns it.
    """
    for name, pair in expect_dictionary(my_answer, VERSIONS).items():
        version, right, why = VERSIONS[name]
        two = isinstance(pair, tuple | list) and len(pair) == 2
        expect(two, f"{name}: a table and a direction are asked for, found {reprlib.repr(pair)}")
        expect(np.ndim(pair[0]) > 0, f"{name}: the table comes first, then the direction")
        table = torch.as_tensor(expect_array(pair[0])).double()
        square = table.ndim == 2 and table.shape[0] == table.shape[1] >= 2
        expect(square, f"{name}: scores are [K, K], of two pairs or more: {list(table.shape)}")
        expect(table.isfinite().all(), f"{name}: scores must be finite")
        error = float(version(table) - bounds.dv(table))
        expect(abs(error) > 2, f"{name}: on this table the value is off by {error:.2f} nats only")
        expect(not isinstance(pair[1], str), f"{name}: the direction is a number, no text")
        direction = expect_number(pair[1])
        expect(direction in (-1, 0, 1), f"{name}: the direction is +1, -1 or 0")
        shown = f"{name}: on your own table the value is off by {error:+.2f} nats"
        expect(error * direction >= 0, f"{shown}, against your direction")
        expect(direction == right, f"{name}: {why}")


@exercise
def exercise_2_2(my_answer: Any) -> None:
    """(shift that makes the log-ratio the best critic of NWJ, nats lost without the shift).

    Two numbers in any form (tuple, list, array, tensor), or a function that returns them.
    """
    my_answer = my_answer() if callable(my_answer) else my_answer
    shift, loss = expect_numbers(my_answer, 2, "two numbers are asked for, (shift, loss)")
    expect(
        not _same(shift, 0), "shift 0 is best for a = 1. NWJ has a = e: where does c - e^(c - 1) "
        "have its maximum?"
    )  # fmt: skip
    expect(not _same(shift, -1), "the sign: E e^(f - 1) must be 1, so f is above the log-ratio")
    expect(not _same(shift, math.e), "a = e means log a = 1: the shift is the logarithm")
    expect(
        _same(shift, 1), f"with f = log-ratio + c, NWJ is I + c - e^(c - 1): not best at {shift}"
    )
    expect(not _same(loss, 0), "NWJ, unlike DV, does change when a constant is added to f")
    expect(not _same(loss, 1), "the second term changes as well: E e^(f - 1) is 1/e, not 0")
    expect(
        not _same(loss, 1 - 1 / math.e),
        "this compares E e^(f - 1) with 1. Without the shift NWJ is I - E e^(f - 1), where "
        "E e^f = 1",
    )
    expect(not _same(loss, -1 / math.e), "a loss is asked for: a number above 0")
    expect(abs(loss - 1 / math.e) < 5e-3, f"I + c - e^(c - 1) at c = 0 is not I - {loss:g}")


@exercise
def exercise_2_3(my_answer: Any) -> None:
    """Pairs that lose .55 nats at most, by nats: {2: K, 3: K, 4: K, 5: K, 10: K}.

    A dictionary, or a function that returns it.
    """
    answer = expect_dictionary(my_answer, (*LOST, 10))
    for nats, lost in LOST.items():
        pairs = expect_number(answer[nats])
        power = pairs >= 2 and math.log2(pairs).is_integer()
        expect(power, f"{nats} nats: a power of two is asked for, found {pairs:g}")
        enough = min(pairs for pairs, loss in lost.items() if loss < ENOUGH)
        cap = f" (and the cap is {math.log(pairs):.2f})" if math.log(pairs) < nats else ""
        shown = f"{lost[int(pairs)]:.2f}" if pairs in lost else f"more than {ENOUGH}"
        expect(pairs >= enough, f"{nats} nats: {pairs:g} pairs lose {shown}{cap}")
        expect(pairs <= enough, f"{nats} nats: fewer pairs lose less than {ENOUGH}, too")
    many = expect_number(answer[10])
    rule = "by which factor does K grow from one nat to the next?"
    expect(many >= FOR_TEN / 8, f"10 nats: {many:g} pairs are too few; {rule}")
    expect(many <= FOR_TEN * 8, f"10 nats: {many:g} pairs are more than are needed; {rule}")


def _same(found: float, mistake: float) -> bool:
    return math.isclose(found, mistake, rel_tol=1e-5, abs_tol=1e-5)
