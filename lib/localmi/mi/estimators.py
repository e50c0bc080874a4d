"""Every estimator in one table: what it maximises in training, what it reports, what limits it.

The same rows serve samples (`localmi.mi.samples`) and images (`localmi.train`). One more is a
function of scores, its name in `localmi.names.Bound`, and a row here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import torch
from torch import Tensor

from localmi.errors import check_name
from localmi.mi.bounds import MINE, dv, dv_terms, infonce, infonce_terms
from localmi.mi.density_ratio import demi, demi_terms, js_objective, smile, smile_terms
from localmi.mi.unnormalised import interpolated, interpolated_terms, nwj, nwj_terms, tuba_terms
from localmi.names import Bound, Direction

OfScores = Callable[..., Tensor]  # scores [K, K], allowed [K, K] or None -> scalar, or terms [K]
PERFECT = 50.0  # score of a matched pair by a critic that is never wrong; - of a mismatched one


@dataclass(frozen=True)
class Estimator:
    """One row: scores -> nats.

    maximised: a scalar, in training. value: a scalar, nats, of a batch in training. terms: [K]
    nats, whose mean is reported. stopped_by: the scalar that says when a fit to samples ends.
    directed: the three take `direction` (they compare along rows, columns, or both).
    gradient: "mine": the gradient of `maximised` has a moving average in its denominator.
    baseline: the report is TUBA's, with log a taken from other pairs than those reported.
    log_of_mean: the report has a log E_O[e^f]: blocks of it are pooled inside the log.
    capped: no critic brings the report of K pairs above a cap.
    free_constant: the same number added to all scores leaves the report as it is.
    shift: best critic = log density ratio + shift. bound: the report is a lower bound.
    """

    maximised: OfScores
    value: OfScores
    terms: OfScores
    stopped_by: OfScores
    directed: bool = False
    gradient: str = "own"
    baseline: bool = False
    log_of_mean: bool = False
    capped: bool = False
    free_constant: bool = False
    shift: float = 0.0
    bound: bool = True


ESTIMATORS: Mapping[str, Estimator] = {
    "infonce": Estimator(
        infonce, infonce, infonce_terms, infonce, directed=True, capped=True, free_constant=True
    ),
    "dv": Estimator(dv, dv, dv_terms, dv, log_of_mean=True, free_constant=True),
    "mine": Estimator(dv, dv, dv_terms, dv, gradient="mine", log_of_mean=True, free_constant=True),
    "nwj": Estimator(nwj, nwj, nwj_terms, nwj, shift=1.0),
    "tuba": Estimator(dv, dv, tuba_terms, dv, baseline=True),
    "interpolated": Estimator(
        interpolated, interpolated, interpolated_terms, interpolated, capped=True, shift=1.0
    ),
    # JS is stopped by what it reports: one mismatched pair far off costs JS little and DV all.
    "js": Estimator(js_objective, dv, dv_terms, dv, log_of_mean=True, free_constant=True),
    "smile": Estimator(
        js_objective, smile, smile_terms, js_objective, log_of_mean=True, bound=False
    ),
    "demi": Estimator(js_objective, demi, demi_terms, js_objective, bound=False),
}


def estimator(name: Bound | str) -> Estimator:
    """A row of the table.

    Raises:
        ConfigError: there is none of this name.
    """
    check_name("bound", name, ESTIMATORS)
    return ESTIMATORS[name]


def reported_terms(
    name: Bound | str, *, direction: Direction = "symmetric", log_baseline: Tensor | float = 0.0
) -> OfScores:
    """What an estimator reports: (scores [K, K], allowed) -> [K] nats, whose mean is the value.

    Args:
        name: of the estimator.
        direction: of those that compare along rows or columns.
        log_baseline: log a of TUBA, from other pairs than those that are reported.

    Raises:
        ConfigError: unknown name or direction.
    """
    row = estimator(name)
    check_name("direction", direction, get_args(Direction))
    if row.directed:
        return partial(row.terms, direction=direction)
    return partial(row.terms, log_baseline=log_baseline) if row.baseline else row.terms


def caps(name: Bound | str, allowed: Tensor, *, direction: Direction = "symmetric") -> Tensor:
    """What the terms of a critic without a fault would be, [K] nats; inf where nothing caps them.

    Args:
        name: of the estimator.
        allowed: [K, K] bool, pairs that may serve as mismatched ones.
        direction: as for `reported_terms`.

    Raises:
        NoNegativesError: a row (or column, by direction) has no mismatched pair.
        ConfigError: unknown name or direction.
    """
    terms = reported_terms(name, direction=direction)
    if not estimator(name).capped:
        return torch.full((len(allowed),), torch.inf)
    return terms(PERFECT * (2 * torch.eye(len(allowed)) - 1), allowed)


class EstimatorInTraining:
    """An estimator with what it remembers from step to step: MINE's average, TUBA's log a.

    Args:
        name: a row of the table.
        direction: of those that compare along rows or columns.
        decay: of MINE's moving average of E_O[e^f]; see `bounds.MINE`.

    Raises:
        ConfigError: unknown name or direction, or a decay outside [0, 1).
    """

    def __init__(
        self, name: Bound, *, direction: Direction = "symmetric", decay: float = 0.99
    ) -> None:
        self.name, self.direction = name, direction
        self.row = estimator(name)
        check_name("direction", direction, get_args(Direction))
        self._mine = MINE(decay)
        self._where: dict[str, Any] = {"direction": direction} if self.row.directed else {}

    def maximised(self, scores: Tensor, allowed: Tensor | None = None) -> Tensor:
        """The scalar that a training step climbs."""
        if self.row.gradient == "mine":
            return self._mine(scores, allowed).surrogate
        if self.row.baseline:
            self._mine(scores.detach(), allowed)
        return self.row.maximised(scores, allowed, **self._where)

    def __call__(self, scores: Tensor, allowed: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(value of the batch in nats, without gradient; the scalar that the step climbs)."""
        climbed = self.maximised(scores, allowed)
        if self.row.value is self.row.maximised and self.row.gradient == "own":
            return climbed.detach(), climbed
        return self.row.value(scores.detach(), allowed, **self._where), climbed

    @property
    def blind_to_constant(self) -> bool:
        """The same number added to all scores changes nothing of what a step climbs."""
        return self.row.maximised in (infonce, dv) and self.row.gradient == "own"

    @property
    def log_baseline(self) -> float:
        """TUBA's log a, the average over the training batches so far; 0 before the first."""
        average = self._mine.log_average
        return 0.0 if average is None else float(average)

    def state_dict(self) -> dict[str, Tensor | None]:
        """What is remembered, for a checkpoint."""
        return self._mine.state_dict()

    def load_state_dict(self, state: Mapping[str, Tensor | None]) -> None:
        """Restores what `state_dict` gave. Errors as `MINE.load_state_dict`."""
        self._mine.load_state_dict(state)
