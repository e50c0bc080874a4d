"""What a view, and what is known beside it, tell of the prototype of another view: in nats.

    H(mean of q) - mean of CE(q_i, p_i) <= I(K; what p sees)

q_i is the assignment of image i's target view, p_i what a reader says of it. The entropy is that
of the split's own mean, which is a little too low: so is the bound. Taught in 12_records.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import entr

from localmi.statistics import Interval, mean_interval


@dataclass(frozen=True)
class HeldOutAssignments:
    """The assignments of n images of a split, and what each reader makes of them.

    mean: [K], the mean of q. own_entropy: of q, in the mean, nats.
    cross_entropy: reader -> [n] nats; NaN: it could not be asked. patient: [n].
    """

    mean: np.ndarray
    own_entropy: float
    cross_entropy: Mapping[str, np.ndarray]
    patient: np.ndarray

    @property
    def entropy(self) -> float:
        """Of the mean assignment, nats; 0 where all images have one prototype."""
        return float(entr(self.mean).sum())

    @property
    def cap(self) -> float:
        """log K: no reader reaches more."""
        return math.log(len(self.mean))

    @property
    def ceiling(self) -> float:
        """What a reader that knew q would reach, nats."""
        return self.entropy - self.own_entropy

    def nats(self, reader: str, *, seed: int = 0) -> Interval:
        """The bound of a reader, with its interval over patients."""
        return known_mean(self.entropy - self.cross_entropy[reader], self.patient, seed=seed)

    def gain(self, reader: str, over: str, *, seed: int = 0) -> Interval:
        """What a reader has more than another one, with the interval of the difference."""
        more = self.cross_entropy[over] - self.cross_entropy[reader]
        return known_mean(more, self.patient, seed=seed)


def known_mean(values: np.ndarray, patient: np.ndarray, *, seed: int = 0) -> Interval:
    """Mean with its interval over patients, of the values [n] that are known; NaN without any."""
    known = ~np.isnan(values)
    if not known.any():
        return Interval(math.nan, math.nan, math.nan)
    return mean_interval(values[known], patient[known], seed=seed)
