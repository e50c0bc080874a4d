"""Checks of the exercises of 01_mutual_information."""

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

from localmi.course.check import (
    exercise,
    expect,
    expect_close,
    expect_dictionary,
    expect_finite,
    expect_number,
)
from localmi.mi.distributions import DiscreteWorld

Array = NDArray[np.float64]

TRUE = bool | np.bool_
CAN: dict[str, tuple[float | Literal[True], str]] = {  # exercise 1.3: the answer, and why
    "a": (math.log(3), "nobody tells more of a grade than is open of it, at most log K"),
    "b": (True, "a differential entropy depends on the unit, and may be below 0"),
    "c": (0.40, "a feature is computed from the image: data processing"),
    "d": (0.30, "both together know at least what the left one knows: the chain rule"),
    "e": (True, "parity: each alone knows nothing, and .69 is log 2"),
    "f": (float(digamma(500) - digamma(4)), "KSG never exceeds psi(N) - psi(k + 1)"),
    "g": (-10 * math.log(0.75), "pairs that are independent of each other add up, -1/2 log(1 - "
          "rho^2) each"),
    "h": (True, "fluctuations look like dependence: about (30 - 1)(30 - 1)/2N on average"),
    "i": (0.40, "in the fraction of densities units cancel"),
    "j": (True, "I is symmetric, what is left open is not: most of an image is not the finding"),
}  # fmt: skip


@exercise
def exercise_1_1(my_mi: Callable[[Array], float]) -> None:
    """I(X; Y) from the table p(x, y), in nats."""
    table = np.array([[0.4, 0.1], [0.2, 0.3]])
    world, ratio = _world(table), _world(table).log_ratio("x", "y")
    product = np.outer(world.marginal("x"), world.marginal("y"))
    truth = world.mi("x", "y")
    found = expect_number(my_mi(table))
    for mistake, words in (
        (truth / np.log(2), "this is in bits: take the natural logarithm for nats"),
        (-truth, "the sign: log of p(x, y) over p(x) p(y), not the other way round"),
        (-float((product * ratio).sum()), "this is D(p(x) p(y) || p(x, y)): KL is not "
         "symmetric, the average is over the joint distribution"),
        (float(ratio.mean()), "every cell counts alike: weigh it by p(x, y)"),
        (world.entropy(("x", "y")), "this is H(X, Y), what the two together leave open"),
        (world.entropy("x") + world.entropy("y"), "this is H(X) + H(Y): take H(X, Y) off"),
        (world.entropy("y") - truth, "this is H(Y | X), what x leaves open of y: I is "
         "H(Y) - H(Y | X)"),
        (world.entropy("x") - truth, "this is H(X | Y), what y leaves open of x: I is "
         "H(X) - H(X | Y)"),
    ):  # fmt: skip
        expect(not np.isclose(found, mistake, atol=1e-6), words)
    expect_close(found, truth, "[[.4, .1], [.2, .3]] has I(X; Y)")
    wide = np.array([[0.1, 0.25, 0.2], [0.3, 0.05, 0.1]])
    words = "of 2 states of x and 3 of y, all six cells count: I(X; Y)"
    expect_close(expect_number(my_mi(wide)), _world(wide).mi("x", "y"), words)
    never = np.array([[0.0, 0.5], [0.2, 0.3], [0.0, 0.0]])  # of x a state that never occurs
    words = "a probability of 0 gives {}: 0 log 0 counts as 0, leave such cells out"
    impossible = expect_finite(my_mi, never, words=words)
    words = "[[0, .5], [.2, .3], [0, 0]] has I(X; Y)"
    expect_close(impossible, _world(never).mi("x", "y"), words)
    tall = np.outer([0.2, 0.3, 0.5], [0.5, 0.5])
    expect_close(expect_number(my_mi(tall)), 0.0, "independent, with 3 and 2 states")


@exercise
def exercise_1_2(my_conditional_mi: Callable[[Array], float]) -> None:
    """I(X; Y | Z) from the table p(x, y, z), axes in this order."""
    table = (np.arange(60.0) * 7 % 11 + 1).reshape(3, 4, 5)  # all that could be mixed up differs
    table /= table.sum()
    world = DiscreteWorld(("x", "y", "z"), table)
    weight = world.marginal("z")
    inside = [_world(table[:, :, z] / weight[z]).mi("x", "y") for z in range(5)]
    truth, of_z = world.conditional_mi("x", "y", given="z"), world.entropy("z")
    found = expect_number(my_conditional_mi(table))
    for mistake, words in (
        (world.mi("x", "y"), "this is I(X; Y): z was summed out before anything was asked"),
        (np.mean(inside), "every z counts alike: weigh it by p(z)"),
        (np.sum(inside), "the values of the z are added: weigh each by p(z)"),
        (truth + of_z, "this is H(Z) too much: divide by p(z) inside a slice, or take H(Z) off"),
        (truth - of_z, "inside a slice, divide by p(z): this is H(Z) too little"),
        (world.mi(("x", "z"), "y"), "this is I(X, Z; Y), what x and z together say of y: take "
         "I(Z; Y) off"),
        (world.mi("x", ("y", "z")), "this is I(X; Y, Z), the whole: take I(X; Z) off"),
        (world.conditional_mi("y", "z", given="x"), "the condition is z, the last axis, not x"),
        (world.conditional_mi("x", "z", given="y"), "the condition is z, the last axis, not y"),
        (-truth, "the sign: log of p(x, y | z) over p(x | z) p(y | z)"),
        (truth / np.log(2), "this is in bits: take the natural logarithm for nats"),
    ):  # fmt: skip
        expect(not np.isclose(found, mistake, atol=1e-6), words)
    expect_close(found, truth, "x of 3 states, y of 4, z of 5")
    odd = np.zeros((2, 2, 3))
    for x in range(2):
        for y in range(2):
            odd[x, y, x ^ y] = 1 / 6  # z says whether x and y differ
    odd[0, :, 2] = 1 / 6  # or that x is 0
    words = "cells of probability 0 give {}: leave them out"
    parity = expect_finite(my_conditional_mi, odd, words=words)
    words = "where z says whether x and y differ, two times in three, given z they are one"
    expect_close(parity, np.log(2) * 2 / 3, words)


@exercise
def exercise_1_3(my_answer: Any) -> None:
    """Which of ten sentences can be true: True, or the nearest number that can be.

    A dictionary, or a function that returns it.
    """
    my_answer = expect_dictionary(my_answer, CAN)
    for key, (right, why) in CAN.items():
        found = my_answer[key]
        if right is True:
            expect(isinstance(found, TRUE) and found, f"{key} can be true: {why}")
        else:
            expect(not isinstance(found, TRUE), f"{key} cannot be true: {why}; which number can?")
            words = f"{key} cannot be true, but the nearest number that can is another: {why}"
            expect(abs(expect_number(found) - right) < 0.005, words)


def _world(table: Array) -> DiscreteWorld:
    return DiscreteWorld(("x", "y"), table)
