"""Checks of the exercises of 01_mutual_information."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from localmi.course.check import exercise, expect, expect_close, expect_finite, expect_number
from localmi.mi.distributions import DiscreteWorld

Array = NDArray[np.float64]


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
        (truth + of_z, "inside a slice, divide by p(z): this is H(Z) too much"),
        (truth - of_z, "inside a slice, divide by p(z): this is H(Z) too little"),
        (world.mi(("x", "z"), "y"), "this is I(X, Z; Y), what x and z together say of y: take "
         "I(Z; Y) off"),
        (world.mi("x", ("y", "z")), "this is I(X; Y, Z), the whole: take I(X; Z) off"),
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
def exercise_1_3(my_gaussian_mi: Callable[[Array, int], float]) -> None:
    """I(X; Y) of a joint Gaussian from its covariance, the first dim_x coordinates being x."""
    covariance = np.array([[2.0, 0.3, 0.8], [0.3, 1.0, 0.5], [0.8, 0.5, 1.5]])
    x, y = covariance[:2, :2], covariance[2:, 2:]
    dets = [float(np.linalg.det(block)) for block in (x, y, covariance)]
    truth = float(np.log(dets[0] * dets[1] / dets[2])) / 2
    found = expect_number(my_gaussian_mi(covariance, 2))
    scale = np.sqrt(covariance.diagonal())
    squares = np.square(covariance / np.outer(scale, scale))[:2, 2]
    turned = np.log(covariance[0, 0] * np.linalg.det(covariance[1:, 1:]) / dets[2]) / 2
    independent = np.log(covariance.diagonal().prod() / dets[2]) / 2
    for mistake, words in (
        (2 * truth, "half of it: entropies of Gaussians are halves of log-determinants"),
        (-truth, "the sign: what is known of the parts is more than of the whole"),
        (truth / np.log(2), "this is in bits: take the natural logarithm for nats"),
        ((dets[0] + dets[1] - dets[2]) / 2, "these are determinants: their logarithms are asked"),
        (dets[0] * dets[1] / dets[2], "the logarithm is missing, and the half"),
        (-np.log1p(-squares).sum() / 2, "this adds the information of single pairs of "
         "coordinates, as if they were independent: the two x are correlated"),
        (independent, "the variances alone also take the correlation inside x for information: "
         "the determinant of the block of x"),
        (turned, "x are the first dim_x coordinates, here two, and y the last one"),
    ):  # fmt: skip
        expect(not np.isclose(found, mistake, atol=1e-6), words)
    expect_close(found, truth, "x of two dimensions, y of one")
    many = np.eye(300)  # the first hundred, x, each with one of the next hundred
    many[:200, :200] += 0.5 * (np.eye(200, k=100) + np.eye(200, k=-100))
    words = (
        "in 300 dimensions a determinant is below the smallest number, and I(X; Y) comes out as "
        "{}: use np.linalg.slogdet"
    )
    found = expect_finite(my_gaussian_mi, 1e-3 * many, 100, words=words)
    expect_close(found, -50 * np.log(0.75), "x of 100 dimensions, y of 200")


def _world(table: Array) -> DiscreteWorld:
    return DiscreteWorld(("x", "y"), table)
