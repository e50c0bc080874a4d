"""Bounds with e^f under no logarithm: TUBA, NWJ, and I_alpha between them and InfoNCE.

Scores, masks, orientation and units are those of `localmi.mi.bounds`. Donsker-Varadhan's
log E[e^f] is replaced by E[e^f] / a + log a - 1, which is never less, whatever a > 0: so the mean
over batches is a lower bound, however small they are. The price is the variance of e^f: for
Gaussians and the optimal critic, Var(p(x, y) / p(x)p(y)) = e^(2 I) - 1 over mismatched pairs.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from localmi.errors import ConfigError
from localmi.mi.scores import (
    check_rows,
    full_precision,
    log_mean_exp_mismatched,
    log_mean_exp_shares,
    mismatched_pairs,
)

# A mean above e^40 is continued by its tangent: no value or gradient, nor the square of one that
# Adam takes, leaves float32; and scores that are far too high are still pushed down.
EXP_LIMIT = 40.0


def tuba(
    scores: Tensor, allowed: Tensor | None = None, log_baseline: Tensor | float = 1.0
) -> Tensor:
    """TUBA bound on I(X; Y): 1 + mean(f_ii - log a(y_i)) - E_O[e^f_ij / a(y_j)].

    A lower bound whatever a is; tight for f = log p(x, y) / p(x)p(y) + c(y) with a = e^c(y). The
    same shift of f and of log a changes nothing. Poole et al. 2019, Sec. 2.2 (I_TUBA).

    Args:
        scores: [K, K], scores[i, j] = f(x_i, y_j).
        allowed: [K, K] bool, pairs that may serve as mismatched ones; default all.
        log_baseline: log a: one number, or [K], log a(y_j) of column j. May carry a gradient.

    Returns:
        Scalar, nats. Computed in float32 (float64 stays float64), whatever the input. Exact up
        to a mean e^f / a of e^40, finite beyond.

    Raises:
        NoNegativesError: no mismatched pair is left in the whole matrix.
        ConfigError: a baseline of another shape, or a mask that does not fit.

    Taught in 02_variational_bounds.
    """
    log_ratio = _over_baseline(scores, log_baseline)
    log_mean = log_mean_exp_mismatched(log_ratio, allowed)
    return 1 + log_ratio.diagonal().mean() - _exp(log_mean)


def tuba_terms(
    scores: Tensor, allowed: Tensor | None = None, log_baseline: Tensor | float = 1.0
) -> Tensor:
    """What each matched pair adds to `tuba`: [K] nats, whose mean is the bound, for intervals.

    E_O[e^f / a] is shared out as in `dv_terms`: pair i carries what its row and its column have
    beyond their part. Arguments and errors as for `tuba`.
    """
    log_ratio = _over_baseline(scores, log_baseline)
    return 1 + log_ratio.diagonal() - _mean_exp_terms(log_ratio, allowed)


def nwj(scores: Tensor, allowed: Tensor | None = None) -> Tensor:
    """NWJ bound on I(X; Y), also called f-GAN KL or MINE-f: mean f_ii - E_O[e^(f - 1)].

    TUBA with a = e; tight for f = 1 + log p(x, y) / p(x)p(y), no other. Nguyen, Wainwright and
    Jordan 2010; Poole et al. 2019, Sec. 2.2. Arguments, result and errors as for `tuba`.

    Taught in 02_variational_bounds.
    """
    return tuba(scores, allowed, log_baseline=1.0)


def nwj_terms(scores: Tensor, allowed: Tensor | None = None) -> Tensor:
    """What each matched pair adds to `nwj`; as `tuba_terms`."""
    return tuba_terms(scores, allowed, log_baseline=1.0)


def interpolated(
    scores: Tensor,
    allowed: Tensor | None = None,
    alpha: float = 0.5,
    log_baseline: Tensor | float = 1.0,
) -> Tensor:
    """I_alpha: TUBA whose baseline is alpha * m(y) + (1 - alpha) * a(y), m a mean of e^f over x.

    alpha = 0 is TUBA: no cap, high variance. alpha = 1 is InfoNCE along columns ("which image
    belongs to text j?") over K - 1 of the x, the mean of all ways to leave one mismatched x out:
    never above log(K - 1). Between them a batch gives at most 1 + log((K - 1) / alpha). That it is
    a bound depends on who is left out of m:

        matched pair (x_j, y_j):     any other x_l, in turn; x_j stays in; mean over l
        mismatched pair (x_i, y_j):  x_j, which knows of y_j; x_i stays in

    Under a mask column j has its own mismatched x, N_j of them in place of K - 1.
    `interpolated(scores.T, allowed.T, ...)` compares texts in place of images, with a(x).
    Poole et al. 2019, Sec. 2.4.

    Args:
        scores: [K, K], scores[i, j] = f(x_i, y_j).
        allowed: [K, K] bool, pairs that may serve as mismatched ones; default all.
        alpha: weight of m, in [0, 1].
        log_baseline: log a: one number, or [K], log a(y_j) of column j. May carry a gradient.

    Returns:
        Scalar, nats; precision as `tuba`.

    Raises:
        NoNegativesError: a column has no mismatched pair; names them.
        ConfigError: alpha outside [0, 1], a baseline of another shape, a mask that does not fit.

    Taught in 02_variational_bounds.
    """
    matched, log_ratio = _over_mean_of_others(scores, allowed, alpha, log_baseline)
    return 1 + matched.mean() - _exp(log_mean_exp_mismatched(log_ratio, allowed))


def interpolated_terms(
    scores: Tensor,
    allowed: Tensor | None = None,
    alpha: float = 0.5,
    log_baseline: Tensor | float = 1.0,
) -> Tensor:
    """What each matched pair adds to `interpolated`: [K] nats, whose mean is the bound.

    For intervals, as `tuba_terms` with the baseline as it is. What x_i does to the baseline of
    other y cancels where E[e^f] / a(y) = 1 for every y: at alpha = 1, and with a good critic.
    Arguments and errors as for `interpolated`.
    """
    matched, log_ratio = _over_mean_of_others(scores, allowed, alpha, log_baseline)
    return 1 + matched - _mean_exp_terms(log_ratio, allowed)


def _over_baseline(scores: Tensor, log_baseline: Tensor | float) -> Tensor:
    """[K, K] f_ij - log a(y_j)."""
    scores = full_precision(scores)
    return scores - _baseline(log_baseline, scores)


def _over_mean_of_others(
    scores: Tensor, allowed: Tensor | None, alpha: float, log_baseline: Tensor | float
) -> tuple[Tensor, Tensor]:
    """f - log(alpha m + (1 - alpha) a) of matched pairs, [K], and of mismatched ones, [K, K]."""
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha is {alpha}; it must be at least 0 (TUBA) and at most 1.")
    scores = full_precision(scores)
    mismatched = mismatched_pairs(scores.shape, allowed)
    check_rows(mismatched, rows=False, columns=True)
    mismatched = mismatched.to(scores.device, non_blocking=True)
    number = mismatched.sum(dim=0).to(scores.dtype)  # [K] N_j, of column j
    outside = (~mismatched).fill_diagonal_(False)
    log_mean = _log_sum_without(scores.masked_fill(outside, -math.inf)) - number.log()
    log_alpha, log_rest = scores.new_tensor([alpha, 1 - alpha]).log()
    # [K, K] entry (l, j): log(alpha m + (1 - alpha) a) of y_j, with x_l left out of m
    mixed = torch.logaddexp(log_alpha + log_mean, log_rest + _baseline(log_baseline, scores))
    of_matched = (mixed * mismatched).sum(dim=0) / number
    return scores.diagonal() - of_matched, scores - mixed.diagonal()


def _log_sum_without(scores: Tensor) -> Tensor:
    """[K, K] entry (l, j): log of the sum of e^f_kj over all k but l; -inf is left out anyway.

    The difference log(sum - e^f_lj) is safe where e^f_lj is at most half of the sum: everywhere
    but at the largest of a column, without which the sum is taken anew.
    """
    largest = torch.zeros_like(scores, dtype=torch.bool)
    largest.scatter_(0, scores.argmax(dim=0, keepdim=True), True)
    log_sum = scores.logsumexp(dim=0)
    share = (scores - log_sum).exp().masked_fill(largest, 0)
    without_largest = scores.masked_fill(largest, -math.inf).logsumexp(dim=0)
    return torch.where(largest, without_largest, log_sum + torch.log1p(-share))


def _mean_exp_terms(log_ratio: Tensor, allowed: Tensor | None) -> Tensor:
    """[K] What each matched pair adds to E_O[e^log_ratio], whose mean it is."""
    log_mean, shares = log_mean_exp_shares(log_ratio, allowed)
    return _exp(log_mean) * (shares - 1)


def _exp(log_mean: Tensor) -> Tensor:
    """exp, and beyond EXP_LIMIT its tangent there."""
    beyond = functional.relu(log_mean - EXP_LIMIT)
    return log_mean.clamp(max=EXP_LIMIT).exp() * (1 + beyond)


def _baseline(log_baseline: Tensor | float, scores: Tensor) -> Tensor:
    """log a as a scalar or [K], where the scores lie and as precise as they are."""
    baseline = torch.as_tensor(log_baseline).to(scores)
    if baseline.ndim == 0 or baseline.shape == scores.shape[1:]:
        return baseline
    raise ConfigError(
        f"log_baseline has shape {list(baseline.shape)}; it must be one number, or [K] with "
        f"log a(y_j) for each of the {scores.shape[1]} columns."
    )
