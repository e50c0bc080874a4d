"""What an estimate says where there is nothing to find, and what it would say of more samples.

Both ask any estimator of samples, (x, y) -> nats: `ksg`, `partial(histogram_mi, bins=10)`, or
`lambda x, y: estimate(x, y).value`, which is fitted anew each time. Taught in
01_mutual_information.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from localmi.errors import ConfigError, DataError
from localmi.mi.samples.inputs import Samples, check_pairs

Array = NDArray[np.float64]
Estimator = Callable[[Array, Array], float]


class Null(NamedTuple):
    """An estimate beside what it is where there is nothing.

    value: nats. shuffled: [P] nats, with y in another order. p_value: of "they are independent".
    """

    value: float
    shuffled: Array
    p_value: float


class Extrapolation(NamedTuple):
    """An estimate for infinitely many samples.

    value: nats. sizes: [S] samples that were taken; means: [S] nats, what they said on average.
    """

    value: float
    sizes: NDArray[np.intp]
    means: Array


def permutation_null(
    x: Samples, y: Samples, estimator: Estimator, *, permutations: int = 99, seed: int = 0
) -> Null:
    """An estimate, and the same of pairs that were torn apart: y in a random order.

    p = (1 + #{shuffled >= value}) / (1 + P): exact for any estimator, if the N pairs are
    independent (of several images of a patient take one).

    Args:
        x, y: [N, dim] each, N at least 10.
        permutations: P, at least 1; p is no smaller than 1 / (1 + P).

    Raises:
        ConfigError: no permutation. DataError: x and y are no pairs of finite numbers, or the
            estimator gives no finite number.

    Source: Phipson and Smyth 2010, https://doi.org/10.2202/1544-6115.1585
    """
    if permutations < 1:
        raise ConfigError(f"permutations is {permutations}: take at least 1, say 99.")
    x, y = check_pairs(x, y)
    rng = np.random.default_rng(seed)
    value = _asked(estimator, x, y)
    orders = (rng.permutation(len(y)) for _ in range(permutations))
    shuffled = np.array([_asked(estimator, x, y[order]) for order in orders])
    as_large = np.count_nonzero(shuffled >= value)
    return Null(value, shuffled, (1 + as_large) / (1 + permutations))


def extrapolate(
    x: Samples,
    y: Samples,
    estimator: Estimator,
    *,
    shares: Sequence[float] = (0.4, 0.55, 0.7, 0.85, 1.0),
    repeats: int = 8,
    seed: int = 0,
) -> Extrapolation:
    """The estimate at N = infinity, if its bias goes with 1/N: the line value + a/n, from subsets.

    The bias of counts does (chapter 1, section 6), where cells are well filled; that of a critic
    that has not learnt enough does not. So look at `means`: on a line over 1 / `sizes`, or not?

    Args:
        x, y: [N, dim] each, N at least 10.
        shares: of N, of which the estimator is asked; two or more, above 0 and at most 1.
        repeats: subsets of each size, drawn without replacement; of all N there is one.

    Raises:
        ConfigError: shares that are too few or outside, or repeats below 1. DataError: as
            `permutation_null`.

    Source: Strong et al. 1998, https://doi.org/10.1103/PhysRevLett.80.197
    """
    if len(set(shares)) < 2 or not all(0 < share <= 1 for share in shares):
        raise ConfigError(f"shares are {tuple(shares)}: take two or more, above 0 and at most 1.")
    if repeats < 1:
        raise ConfigError(f"repeats is {repeats}: take at least 1.")
    x, y = check_pairs(x, y)
    rng = np.random.default_rng(seed)
    sizes = np.unique([max(1, round(share * len(x))) for share in shares])
    means = []
    for size in sizes:
        subsets = [rng.permutation(len(x))[:size] for _ in range(repeats if size < len(x) else 1)]
        means.append(np.mean([_asked(estimator, x[some], y[some]) for some in subsets]))
    _, value = np.polyfit(1 / sizes, means, deg=1)
    return Extrapolation(float(value), sizes, np.array(means))


def _asked(estimator: Estimator, x: Array, y: Array) -> float:
    value = float(estimator(x, y))
    if not math.isfinite(value):
        raise DataError(f"The estimator says {value} of {len(x):,} pairs: no number of nats.")
    return value
