"""Lower bounds on mutual information, computed from one square matrix of scores.

One orientation everywhere: scores[i, j] = f(x_i, y_j), row = image, column = text, and the
matched pairs lie on the diagonal. All values are in nats. `allowed[i, j]` says whether the
off-diagonal pair (i, j) may serve as a mismatched one (same study: no); its diagonal is ignored.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple, get_args

import torch
from torch import Tensor

from localmi.errors import CheckpointError, ConfigError, check_name
from localmi.mi.scores import (
    check_rows,
    full_precision,
    log_choices,
    log_mean_exp_mismatched,
    log_mean_exp_shares,
    mismatched_pairs,
)
from localmi.names import Direction


def dv(scores: Tensor, allowed: Tensor | None = None) -> Tensor:
    """Donsker-Varadhan bound on I(X; Y): mean f_ii - log mean exp f over mismatched pairs.

    On a batch it is biased *up* (the log of a mean); only on many fresh pairs is it a bound.
    Paper Eq. (3); Donsker and Varadhan 1983; Belghazi et al. 2018.

    Args:
        scores: [K, K], scores[i, j] = f(x_i, y_j).
        allowed: [K, K] bool, pairs that may serve as mismatched ones; default all.

    Returns:
        Scalar, nats. Computed in float32 (float64 stays float64), whatever the input.

    Raises:
        NoNegativesError: no mismatched pair is left in the whole matrix.

    Taught in 02_variational_bounds.
    """
    scores = full_precision(scores)
    return scores.diagonal().mean() - log_mean_exp_mismatched(scores, allowed)


def dv_terms(scores: Tensor, allowed: Tensor | None = None) -> Tensor:
    """What each matched pair adds to `dv`: [K] nats, whose mean is the bound, for intervals.

    log E_O[e^f] is no mean over matched pairs; it is linearised at its value (the delta method).
    Matched pair i has a part in the mismatched pairs of its row and of its column, and carries
    (mean e^f of its row + mean e^f of its column) / E_O[e^f] - 2, which is 0 on average.
    Arguments and errors as for `dv`.
    """
    scores = full_precision(scores)
    log_mean, shares = log_mean_exp_shares(scores, allowed)
    return scores.diagonal() - log_mean - (shares - 2)


def infonce(
    scores: Tensor, allowed: Tensor | None = None, direction: Direction = "symmetric"
) -> Tensor:
    """InfoNCE bound on I(X; Y): mean of f_ii - log sum_j exp f_ij + log K_i.

    Each row asks "which of these K_i texts belongs to image i?". The matched pair is one of
    the K_i, so the value never exceeds the mean of log K_i (`infonce_cap`).
    Paper Eq. (4) plus the log K that the print leaves out; Oord et al. 2018.

    Args:
        scores: [K, K], scores[i, j] = f(x_i, y_j).
        allowed: [K, K] bool, pairs that may serve as mismatched ones; default all.
        direction: "image_to_text" compares along rows, "text_to_image" along columns,
            "symmetric" is the mean of both.

    Returns:
        Scalar, nats. Computed in float32 (float64 stays float64), whatever the input.

    Raises:
        NoNegativesError: a row (or column, by direction) has no mismatched pair; names them.
        ConfigError: unknown direction.

    Taught in 02_variational_bounds.
    """
    return infonce_terms(scores, allowed, direction).mean()


def infonce_terms(
    scores: Tensor, allowed: Tensor | None = None, direction: Direction = "symmetric"
) -> Tensor:
    """What each matched pair adds to `infonce`: [K] nats, whose mean is the bound.

    For intervals: resample the terms. Arguments and errors as for `infonce`.
    """
    check_name("direction", direction, get_args(Direction))
    scores = full_precision(scores)
    mismatched = mismatched_pairs(scores.shape, allowed)
    image_to_text = direction != "text_to_image"
    text_to_image = direction != "image_to_text"
    check_rows(mismatched, rows=image_to_text, columns=text_to_image)
    mismatched = mismatched.to(scores.device, non_blocking=True)
    terms = []
    if image_to_text:
        terms.append(_infonce_rows(scores, mismatched))
    if text_to_image:
        terms.append(_infonce_rows(scores.T, mismatched.T))
    return torch.stack(terms).mean(dim=0)


def infonce_cap(allowed: Tensor | int, direction: Direction = "symmetric") -> float:
    """The highest value `infonce` can take: the mean of log K_i, in nats.

    Args:
        allowed: [K, K] bool as for `infonce`, or the number of pairs K when all are allowed.
        direction: as for `infonce`.

    Raises:
        NoNegativesError: a row (or column, by direction) has no mismatched pair; names them.
        ConfigError: unknown direction.

    Taught in 02_variational_bounds.
    """
    check_name("direction", direction, get_args(Direction))
    if isinstance(allowed, int):
        mismatched = mismatched_pairs(torch.Size((allowed, allowed)), None)
    else:
        mismatched = mismatched_pairs(allowed.shape, allowed)
    image_to_text = direction != "text_to_image"
    text_to_image = direction != "image_to_text"
    check_rows(mismatched, rows=image_to_text, columns=text_to_image)
    caps = []
    if image_to_text:
        caps.append(log_choices(mismatched.double()).mean().item())
    if text_to_image:
        caps.append(log_choices(mismatched.T.double()).mean().item())
    return sum(caps) / len(caps)


class MineEstimate(NamedTuple):
    """What MINE gives for one batch."""

    value: Tensor  # scalar, nats: the DV value, for reporting; carries no gradient
    surrogate: Tensor  # scalar: to be maximised; only its gradient has a meaning


class MINE:
    """DV with the bias of its mini-batch gradient reduced by a moving average.

    The gradient of log E[e^f] is E[e^f grad f] / E[e^f]; on a batch the denominator is a noisy
    mean. MINE divides by a moving average of it instead, kept here in log space and started
    at the first batch:

        average <- decay * average + (1 - decay) * E_O[e^f]
        gradient = mean grad f_ii - E_O[e^f grad f] / average

    Paper Eq. (3); Belghazi et al. 2018, Sec. 3.2. For held-out pairs, where nothing is
    trained, use `dv`: a call here moves the average.

    Args:
        decay: weight of the past, in [0, 1); 0 gives the gradient of DV.

    Raises:
        ConfigError: decay outside [0, 1).

    Taught in 03_neural_estimators.
    """

    def __init__(self, decay: float = 0.99) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"MINE's decay is {decay}; it must be at least 0 and less than 1.")
        self.decay = decay
        self.log_average: Tensor | None = None  # scalar, log of the moving average

    def __call__(self, scores: Tensor, allowed: Tensor | None = None) -> MineEstimate:
        """Update the average with this batch. Arguments and errors as for `dv`."""
        scores = full_precision(scores)
        matched = scores.diagonal().mean()
        log_mean = log_mean_exp_mismatched(scores, allowed)
        log_average = self._update(log_mean.detach())
        # d exp(log_mean - log_average) = E_O[e^f grad f] / average. It cannot overflow: the
        # average holds this batch with weight 1 - decay, so the ratio is at most 1/(1 - decay).
        surrogate = matched - (log_mean - log_average).exp()
        return MineEstimate(value=(matched - log_mean).detach(), surrogate=surrogate)

    def _update(self, log_mean: Tensor) -> Tensor:
        if self.log_average is None or self.decay == 0:
            self.log_average = log_mean
        else:
            past = self.log_average.to(log_mean) + math.log(self.decay)
            self.log_average = torch.logaddexp(past, log_mean + math.log1p(-self.decay))
        return self.log_average

    def state_dict(self) -> dict[str, Tensor | None]:
        """The moving average, for a checkpoint; training resumes to the same numbers."""
        return {"log_average": None if self.log_average is None else self.log_average.clone()}

    def load_state_dict(self, state: Mapping[str, Tensor | None]) -> None:
        """Restore what `state_dict` gave.

        Raises:
            CheckpointError: the state is not one of MINE's.
        """
        if set(state) != {"log_average"}:
            raise CheckpointError(
                f"MINE's state must hold 'log_average' and nothing else, found {sorted(state)}. "
                "The checkpoint was written with another bound or by another version."
            )
        average = state["log_average"]
        self.log_average = None if average is None else average.detach().clone()


def _infonce_rows(scores: Tensor, mismatched: Tensor) -> Tensor:
    """InfoNCE along rows: the choice of a row is its matched pair and its mismatched ones."""
    matched = scores.diagonal()
    outside = ~mismatched
    outside.fill_diagonal_(False)
    log_sum = scores.masked_fill(outside, -math.inf).logsumexp(dim=1)
    return matched - log_sum + log_choices(mismatched.to(scores.dtype))
