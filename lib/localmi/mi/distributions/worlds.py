"""Worlds small enough to enumerate: every entropy and every information exact, by summing.

`paper_world` is the paper's Section 3 and Fig. 3: hidden findings, an image, a report.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from string import ascii_letters

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from localmi.errors import ConfigError
from localmi.mi.distributions.base import Array, Task

Names = str | Sequence[str]  # one variable, or several taken together
MOST_ENTRIES = 10_000_000  # of a joint table


@dataclass(frozen=True, eq=False)
class DiscreteWorld:
    """Named discrete variables and the table of their joint probabilities.

    Every question takes one name or several: `mi("Z1", ("S1", "S2"))`. All values in nats.

    Args:
        names: one for each axis of the table.
        table: probabilities, not negative, summing to 1; table[a, b, ...] = P(first = a, ...).

    Raises:
        ConfigError: no distribution, or names that do not fit its axes.

    Taught in 01_mutual_information.
    """

    names: tuple[str, ...]
    table: Array

    def __post_init__(self) -> None:
        if len(self.names) != self.table.ndim or len(set(self.names)) != len(self.names):
            raise ConfigError(
                f"A world has one name for each of its {self.table.ndim} variables, all "
                f"different; found {', '.join(self.names)}."
            )
        _check_distribution("the world", self.table, axes=tuple(range(self.table.ndim)))

    def marginal(self, *names: str) -> Array:
        """P of some variables, axes in the order asked for."""
        axes = self._axes(names)
        rest = tuple(set(range(self.table.ndim)) - set(axes))
        kept = self.table.sum(axis=rest)
        marginal: Array = kept.transpose([sorted(axes).index(axis) for axis in axes])
        return marginal

    def entropy(self, names: Names) -> float:
        """H(names) = -sum p log p."""
        p = self.marginal(*_tuple(names))
        p = p[p > 0]
        return -float((p * np.log(p)).sum())

    def mi(self, a: Names, b: Names) -> float:
        """I(a; b) = H(a) + H(b) - H(a, b)."""
        return self.conditional_mi(a, b, given=())

    def conditional_mi(self, a: Names, b: Names, given: Names) -> float:
        """I(a; b | given) = H(a, given) + H(b, given) - H(a, b, given) - H(given)."""
        of_a, of_b, of_given = (set(_tuple(names)) for names in (a, b, given))
        first = self._entropy_of(of_a | of_given) + self._entropy_of(of_b | of_given)
        return first - self._entropy_of(of_a | of_b | of_given) - self._entropy_of(of_given)

    def log_ratio(self, a: str, b: str) -> Array:
        """log p(a, b) / p(a)p(b) as a table [states of a, states of b]; -inf where p(a, b) = 0."""
        return _log_ratio(self.marginal(a, b))

    def sample(self, number: int, seed: int) -> Tensor:
        """States of all variables, [number, variables] int64, columns in the order of `names`."""
        generator = np.random.default_rng(seed)
        flat = generator.choice(self.table.size, size=number, p=self.table.ravel())
        return torch.from_numpy(np.stack(np.unravel_index(flat, self.table.shape), axis=1))

    def task(self, a: Names, b: Names) -> "DiscreteTask":
        """Estimate I(a; b) from samples, each variable as one-hot numbers."""
        of_a, of_b = _tuple(a), _tuple(b)
        joint = self.marginal(*of_a, *of_b)
        states_x, states_y = joint.shape[: len(of_a)], joint.shape[len(of_a) :]
        table = joint.reshape(math.prod(states_x), math.prod(states_y))
        label = f"{', '.join(of_a)} and {', '.join(of_b)}"
        name = f"{'-'.join(of_a)}--{'-'.join(of_b)}"
        return DiscreteTask(name, label, sum(states_x), sum(states_y), table, states_x, states_y)

    def _entropy_of(self, names: set[str]) -> float:
        return self.entropy(sorted(names))

    def _axes(self, names: Sequence[str] | set[str]) -> list[int]:
        unknown = sorted(set(names) - set(self.names))
        if unknown:
            raise ConfigError(
                f"This world has no variable {', '.join(unknown)}; known: {', '.join(self.names)}."
            )
        return [self.names.index(name) for name in names]


@dataclass(frozen=True, eq=False)
class DiscreteTask(Task):
    """Two groups of discrete variables, each variable written as one-hot numbers.

    Args:
        table: [all states of x, all states of y], the joint probabilities.
        states_x: the states of each variable in x; their sum is dim_x.
        states_y: the same of y.
    """

    table: Array
    states_x: tuple[int, ...]
    states_y: tuple[int, ...]

    @property
    def true_mi(self) -> float:
        return DiscreteWorld(("x", "y"), self.table).mi("x", "y")

    def draw(self, number: int, generator: np.random.Generator) -> tuple[Array, Array]:
        flat = generator.choice(self.table.size, size=number, p=self.table.ravel())
        row, column = np.unravel_index(flat, self.table.shape)
        return one_hot(row, self.states_x), one_hot(column, self.states_y)

    def score(self, x: Array, y: Array) -> Array:
        rows, columns = from_one_hot(x, self.states_x), from_one_hot(y, self.states_y)
        scores: Array = _log_ratio(self.table)[rows[:, None], columns]
        return scores


def noisy_copy(states: int, flip: float) -> Array:
    """[states, states], p(shown | hidden): right with 1 - flip, else any other state."""
    if states < 2 or not 0 <= flip <= 1:
        raise ConfigError(f"A copy needs two states and 0 <= flip <= 1: {states}, {flip}.")
    return (1 - flip) * np.eye(states) + flip / (states - 1) * (1 - np.eye(states))


def paper_world(
    hidden: Array,
    image: Array,
    text: Array,
    *,
    acquisition: Array | None = None,
    reader: Array | None = None,
    shuffled: bool = False,
) -> DiscreteWorld:
    """The paper's generative model (Sec. 3, Fig. 3), with all of its variables.

    H1..HN, hidden status of each region; VI, how the image was acquired; VR, who reads it; Zn
    given Hn and VI, the feature of region n; M, which order the sentences have; Sm given the
    H of the region that sentence m is about, and VR. Eq. (6) is, with Z-n all other regions,
    I(Z, Hn) = I(Zn, Hn) + I(Z-n, Hn | Zn).

    Args:
        hidden: [K, ..., K], one axis a region, p(h1, ..., hN): regions may depend on each other.
        image: [V, K, states] or [K, states], p(z | vi, h).
        text: [W, K, states] or [K, states], p(s | vr, h).
        acquisition: [V], p(vi); default uniform.
        reader: [W], p(vr); default uniform.
        shuffled: sentences come in any order, each as likely, and M says which; otherwise
            sentence n is about region n, and there is no M.

    Raises:
        ConfigError: a table that is no distribution, or of another shape; or too many entries.

    Taught in 04_local_mutual_information.
    """
    image, text = (table[None] if table.ndim == 2 else table for table in (image, text))
    acquisition, reader = (
        np.full(len(table), 1 / len(table)) if given is None else given
        for table, given in ((image, acquisition), (text, reader))
    )
    _check_parts(hidden, image, text, acquisition, reader)
    N = hidden.ndim
    orders = list(permutations(range(N))) if shuffled else [tuple(range(N))]
    _check_size(hidden, image, text, orders)
    worlds = [_in_order(hidden, image, text, acquisition, reader, order) for order in orders]
    table = np.stack(worlds, axis=-1) / len(orders)
    parts = [[f"{letter}{n + 1}" for n in range(N)] for letter in "HZS"]
    names = (*parts[0], "VI", "VR", *parts[1], *parts[2])
    if shuffled:
        return DiscreteWorld((*names, "M"), table)
    return DiscreteWorld(names, table[..., 0])


def one_hot(index: NDArray[np.intp], states: tuple[int, ...]) -> Array:
    """[n] of all states together -> [n, sum of states]."""
    parts = np.unravel_index(index, states)
    coded = [np.eye(count)[part] for part, count in zip(parts, states, strict=True)]
    return np.hstack(coded)


def from_one_hot(points: Array, states: tuple[int, ...]) -> NDArray[np.intp]:
    """The way back of `one_hot`."""
    parts = np.split(points, np.cumsum(states)[:-1], axis=1)
    return np.ravel_multi_index([part.argmax(axis=1) for part in parts], states)


def _in_order(
    hidden: Array,
    image: Array,
    text: Array,
    acquisition: Array,
    reader: Array,
    order: tuple[int, ...],
) -> Array:
    """p(h, vi, vr, z, s) where sentence m is about region order[m]."""
    N, letters = hidden.ndim, iter(ascii_letters)
    h, z, s = ("".join(next(letters) for _ in range(N)) for _ in range(3))
    vi, vr = next(letters), next(letters)
    seen = [f"{vi}{h[n]}{z[n]}" for n in range(N)]
    told = [f"{vr}{h[order[m]]}{s[m]}" for m in range(N)]
    formula = f"{','.join([h, vi, vr, *seen, *told])}->{h}{vi}{vr}{z}{s}"
    parts = [hidden, acquisition, reader, *[image] * N, *[text] * N]
    joint: Array = np.einsum(formula, *parts, optimize=True)
    return joint


def _log_ratio(table: Array) -> Array:
    """[a, b] probabilities -> log of each over the product of its margins."""
    with np.errstate(divide="ignore", invalid="ignore"):
        of_a, of_b = table.sum(axis=1, keepdims=True), table.sum(axis=0)
        ratio: Array = np.where(table > 0, np.log(table) - np.log(of_a) - np.log(of_b), -np.inf)
    return ratio


def _tuple(names: Names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _check_distribution(what: str, table: Array, axes: tuple[int, ...]) -> None:
    total = table.sum(axis=axes)
    if table.size == 0 or table.min() < 0 or not np.allclose(total, 1, rtol=0, atol=1e-9):
        raise ConfigError(
            f"Probabilities of {what} are not negative and sum to 1; found a sum of {total}."
        )


def _check_parts(
    hidden: Array, image: Array, text: Array, acquisition: Array, reader: Array
) -> None:
    _check_distribution("hidden", hidden, axes=tuple(range(hidden.ndim)))
    states = hidden.shape[0] if hidden.ndim else 0
    for what, table, cause in (("image", image, acquisition), ("text", text, reader)):
        if set(hidden.shape) != {states} or table.shape[:2] != (len(cause), states):
            raise ConfigError(
                f"{what} must be [{len(cause)}, {states}, states] for hidden of shape "
                f"{hidden.shape}, the same states on each axis; found {table.shape}."
            )
        _check_distribution(what, table, axes=(2,))
        _check_distribution(f"what {what} also depends on", cause, axes=(0,))


def _check_size(
    hidden: Array, image: Array, text: Array, orders: Sequence[tuple[int, ...]]
) -> None:
    per_region = hidden.shape[0] * image.shape[2] * text.shape[2]
    entries = per_region**hidden.ndim * len(image) * len(text) * len(orders)
    if entries > MOST_ENTRIES:
        raise ConfigError(
            f"This world has {entries:,} cases, more than the {MOST_ENTRIES:,} that are "
            "enumerated here. Take fewer regions or states."
        )
