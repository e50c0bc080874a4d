"""Estimates by way of a classifier: is a pair matched or mismatched? JS, SMILE, DEMI.

Scores, masks, orientation and units are those of `localmi.mi.bounds`. A classifier whose logit is
f(x, y) is trained on as many matched as mismatched pairs (`js_objective`: no e^f anywhere, so a
steady gradient); its best logit is the log density ratio log p(x, y) / p(x)p(y). What is reported
is computed from the logits afterwards, and of the reports here only `nwj_of_js` is a bound; `dv`
serves as well.
"""

import math

from torch import Tensor
from torch.nn import functional

from localmi.errors import ConfigError, NoNegativesError
from localmi.mi.scores import (
    full_precision,
    log_mean_exp_mismatched,
    log_mean_exp_shares,
    mask_mismatched,
    mismatched_pairs,
)
from localmi.mi.unnormalised import tuba, tuba_terms


def js_objective(scores: Tensor, allowed: Tensor | None = None) -> Tensor:
    """What JS, SMILE and DEMI train with: -mean softplus(-f_ii) - E_O[softplus(f)], to maximise.

    **Not** mutual information: plus 2 log 2 it is at most twice the Jensen-Shannon divergence of
    p(x, y) and p(x)p(y). It is minus the cross-entropy of the classifier, matched and mismatched
    pairs with equal weight. Nowozin et al. 2016; Hjelm et al. 2019, Eq. (4).

    Args:
        scores: [K, K], scores[i, j] = f(x_i, y_j), a logit.
        allowed: [K, K] bool, pairs that may serve as mismatched ones; default all.

    Returns:
        Scalar, at most 0; 0 for a perfect classifier, -2 log 2 for one that knows nothing.
        Computed in float32 (float64 stays float64), whatever the input.

    Raises:
        NoNegativesError: no mismatched pair is left in the whole matrix.

    Taught in 03_neural_estimators.
    """
    scores = full_precision(scores)
    masked, count = mask_mismatched(scores, allowed)  # -inf adds log sigmoid(inf) = 0
    matched = functional.logsigmoid(scores.diagonal()).mean()
    return matched + functional.logsigmoid(-masked).sum() / count


def nwj_of_js(scores: Tensor, allowed: Tensor | None = None) -> Tensor:
    """NWJ bound at f + 1, for a critic that was trained with `js_objective`, in nats.

    The best logit is the log density ratio, the best critic of NWJ is that plus 1:
    1 + mean f_ii - E_O[e^f]. A lower bound on I(X; Y). Poole et al. 2019.
    Arguments, result and errors as for `nwj`.

    Taught in 03_neural_estimators.
    """
    return tuba(scores, allowed, log_baseline=0.0)


def nwj_of_js_terms(scores: Tensor, allowed: Tensor | None = None) -> Tensor:
    """What each matched pair adds to `nwj_of_js`; as `tuba_terms`."""
    return tuba_terms(scores, allowed, log_baseline=0.0)


def smile(scores: Tensor, allowed: Tensor | None = None, clip: float = 5.0) -> Tensor:
    """SMILE: mean f_ii - log E_O[e^clip(f, -tau, tau)], for a critic trained by `js_objective`.

    Clipping the mismatched pairs, and them only, tames the variance of DV. **No bound** at finite
    tau: at tau = 5 the optimal critic gives 2.03 for 2 nats and 12 for 10. tau = inf is DV. Other
    than DV, it changes with a shift of all scores. Song and Ermon 2020.

    Args:
        scores: [K, K], scores[i, j] = f(x_i, y_j), an estimate of the log density ratio.
        allowed: [K, K] bool, pairs that may serve as mismatched ones; default all.
        clip: tau, above 0.

    Returns:
        Scalar, nats. Computed in float32 (float64 stays float64), whatever the input.

    Raises:
        NoNegativesError: no mismatched pair is left in the whole matrix.
        ConfigError: clip is not above 0.

    Taught in 03_neural_estimators.
    """
    scores = full_precision(scores)
    return scores.diagonal().mean() - log_mean_exp_mismatched(_clipped(scores, clip), allowed)


def smile_terms(scores: Tensor, allowed: Tensor | None = None, clip: float = 5.0) -> Tensor:
    """What each matched pair adds to `smile`: [K] nats, whose mean it is, for intervals.

    The log of the mean is linearised as in `dv_terms`. Arguments and errors as for `smile`.
    """
    scores = full_precision(scores)
    log_mean, shares = log_mean_exp_shares(_clipped(scores, clip), allowed)
    return scores.diagonal() - log_mean - (shares - 2)


def demi(scores: Tensor, allowed: Tensor | None = None, log_prior_odds: float = 0.0) -> Tensor:
    """DEMI, the plug-in: mean logit of the matched pairs, less the log prior odds, in nats.

    Consistent for a calibrated classifier, **no bound**: scale the logits up and it grows. No
    e^f is averaged, so it has the lowest variance of all. Liao et al. 2020 (DEMI).

    Args:
        scores: [K, K], scores[i, j] = f(x_i, y_j), the logit of "matched".
        allowed: as for every estimator, checked; the value needs matched pairs only.
        log_prior_odds: log of (weight of matched / weight of mismatched pairs) in training:
            0 after `js_objective`; -log(K - 1) after cross-entropy over all K x K pairs alike.

    Returns:
        Scalar, nats. Computed in float32 (float64 stays float64), whatever the input.

    Raises:
        NoNegativesError: there are no pairs at all.
        ConfigError: log_prior_odds is not finite, or the mask does not fit.

    Taught in 03_neural_estimators.
    """
    return demi_terms(scores, allowed, log_prior_odds).mean()


def demi_terms(
    scores: Tensor, allowed: Tensor | None = None, log_prior_odds: float = 0.0
) -> Tensor:
    """What each matched pair adds to `demi`: [K] nats, whose mean it is, for intervals."""
    scores = full_precision(scores)
    mismatched_pairs(scores.shape, allowed)  # the check of the mask
    if not math.isfinite(log_prior_odds):
        raise ConfigError(f"log_prior_odds is {log_prior_odds}; it must be a finite number.")
    if len(scores) == 0:
        raise NoNegativesError("There are no pairs: the scores are [0, 0]. Give at least one.")
    return scores.diagonal() - log_prior_odds


def _clipped(scores: Tensor, clip: float) -> Tensor:
    if not clip > 0:
        raise ConfigError(f"SMILE's clip is {clip}; it must be above 0 (infinite: DV).")
    return scores.clamp(-clip, clip)
