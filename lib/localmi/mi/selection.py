"""The max over regions (paper, Eq. 5): from scores of regions to scores of image-text pairs.

scores[i, n, j] = f(region n of image i, text j); text i belongs to image i. The paper does not
say what the max does to mismatched pairs, so its four readings stand here side by side. Only
`per_pair_max` and `soft` leave a critic g(image, text) that knows nothing of who is matched with
whom: with them every bound stays a bound on I(image; text). So does "attention", which needs more
than scores: `Critic.attend`.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from localmi.errors import ConfigError, check_name
from localmi.names import BY_MATCH, RegionSelection


def select_regions(
    scores: Tensor,
    how: RegionSelection = "per_pair_max",
    temperature: float = 1.0,
    *,
    matched: Tensor | None = None,
) -> Tensor:
    """Scores of image-text pairs from scores of their regions.

    * "per_pair_max" (reported): every pair, matched or not, takes its own best region.
    * "soft": temperature * (LSE_n(f / temperature) - log N), which every region gets a gradient
      from; it goes to "per_pair_max" as the temperature goes to 0. For training.
    * "positive_argmax": the best region for the matched text also scores the other texts.
    * "matched_max": the matched pair takes its best region, a mismatched pair any region: each
      (region, text) is a mismatched sample of its own. LSE_n f - log N stands for the N of
      them, so that `bounds.dv` on the result takes its log mean exp over them all.

    Warning: "positive_argmax" and "matched_max" are **not** lower bounds on mutual information.
    They select with the matched text only, and so report up to log N nats where there are none
    (see 04_local_mutual_information). They are here to be taught, not to be reported.

    Args:
        scores: [B_img, N, B_txt].
        how: the reading of the max.
        temperature: of "soft", above 0; the others do not use it.
        matched: [B_img] int64, the text that each image is matched with, for the two that need
            to know; default text i with image i, of equally many.

    Returns:
        [B_img, B_txt]. "soft" and "matched_max" give float32 for float16 and bfloat16.

    Raises:
        ConfigError: unknown reading, wrong shape, or a temperature that is not above 0.

    Taught in 04_local_mutual_information.
    """
    _check(scores, how, temperature, matched)
    if matched is None:
        matched = torch.arange(len(scores))
    return SELECTIONS[how](scores, temperature, matched.to(scores.device))


def _soft_max(scores: Tensor, temperature: float, matched: Tensor) -> Tensor:
    """temperature * log mean_n exp(f / temperature)."""
    scores = scores if scores.dtype == torch.float64 else scores.float()
    log_sum = (scores / temperature).logsumexp(dim=1)
    return temperature * (log_sum - math.log(scores.shape[1]))


def _per_pair_max(scores: Tensor, temperature: float, matched: Tensor) -> Tensor:
    """The best region of each pair."""
    return scores.max(dim=1).values


def _positive_argmax(scores: Tensor, temperature: float, matched: Tensor) -> Tensor:
    """The region of an image that suits its matched text best, for every text."""
    images = torch.arange(len(scores), device=scores.device)
    region = scores[images, :, matched].argmax(dim=1)  # [B_img, N] -> [B_img]
    return scores[images, region]


def _matched_max(scores: Tensor, temperature: float, matched: Tensor) -> Tensor:
    """Best region for the matched text, all regions pooled for the others."""
    pooled = _soft_max(scores, 1.0, matched)
    is_matched = torch.arange(scores.shape[2], device=scores.device) == matched[:, None]
    return torch.where(is_matched, scores.max(dim=1).values.to(pooled), pooled)


SELECTIONS: Mapping[str, Callable[[Tensor, float, Tensor], Tensor]] = {
    "per_pair_max": _per_pair_max,
    "soft": _soft_max,
    "positive_argmax": _positive_argmax,
    "matched_max": _matched_max,
}


def _check(scores: Tensor, how: str, temperature: float, matched: Tensor | None) -> None:
    check_name("region selection", how, SELECTIONS)
    if scores.ndim != 3 or scores.shape[1] == 0:
        raise ConfigError(
            "Region selection needs scores [images, regions, texts] with at least one region, "
            f"found {list(scores.shape)}."
        )
    if how in BY_MATCH and matched is None and scores.shape[0] != scores.shape[2]:
        raise ConfigError(
            f"{how} needs text i to belong to image i: as many texts as images, found "
            f"{scores.shape[0]} images and {scores.shape[2]} texts."
        )
    if not temperature > 0:
        raise ConfigError(
            f"The temperature of soft selection must be above 0, found {temperature}."
        )
