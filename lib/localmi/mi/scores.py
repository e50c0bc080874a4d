"""What all bounds share: scores in full precision, which pairs are mismatched, sums over them.

scores[i, j] = f(x_i, y_j), the matched pairs lie on the diagonal. `allowed[i, j]` says whether the
off-diagonal pair (i, j) may serve as a mismatched one; its diagonal is ignored. O is the set of
all mismatched pairs.
"""

import math

import torch
from torch import Tensor

from localmi.errors import ConfigError, NoNegativesError

ROWS_NAMED = 10  # how many rows an error message lists before it says "and so on"


def full_precision(scores: Tensor) -> Tensor:
    """Square scores in float32, because exp and its sum lose all in half precision.

    Float64 stays float64.

    Raises:
        ConfigError: the scores are not [K, K].
    """
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1]:
        raise ConfigError(
            f"A bound needs a square matrix of scores [K, K], found {list(scores.shape)}. "
            "For scores of regions [K, N, K], call select_regions first."
        )
    return scores if scores.dtype == torch.float64 else scores.float()


def may_mismatch(
    image_study: Tensor, text_study: Tensor, text: Tensor, *, same_text: bool = False
) -> Tensor:
    """Which pairs (image i, text j) may serve as mismatched ones: [M, M] bool.

    Never an image and a text of one study, which may have several images; nor, unless `same_text`,
    a text that reads as the matched one: "No acute process." of another patient is true here too.
    The second rule helps training but shifts the bound up a little, for the mismatched texts are
    then no longer drawn like the matched ones; a value that is reported keeps them (`same_text`).

    Args:
        image_study: [M], study of the image of each matched pair.
        text_study: [M], study that each text was written for.
        text: [M], equal where two texts read the same.
    """
    allowed = image_study[:, None] != text_study[None, :]
    if not same_text:
        allowed = allowed & (text[:, None] != text[None, :])
    return allowed


def mismatched_pairs(shape: torch.Size, allowed: Tensor | None) -> Tensor:
    """[K, K] bool: the off-diagonal pairs that may be used, where `allowed` lies.

    The check that follows reads the mask: one kept on the CPU spares a GPU the wait.

    Raises:
        ConfigError: the mask is not bool, or not as large as the scores.
    """
    if allowed is None:
        return ~torch.eye(shape[0], dtype=torch.bool)
    if allowed.shape != shape or allowed.ndim != 2 or shape[0] != shape[1]:
        raise ConfigError(
            f"The mask of allowed pairs has shape {list(allowed.shape)}; it must be square and "
            f"as large as the scores, {list(shape)}."
        )
    if allowed.dtype != torch.bool:
        raise ConfigError(f"The mask of allowed pairs must be bool, found {allowed.dtype}.")
    return allowed & ~torch.eye(shape[0], dtype=torch.bool, device=allowed.device)


def mask_mismatched(scores: Tensor, allowed: Tensor | None) -> tuple[Tensor, int]:
    """Scores with -inf wherever a pair is no mismatched one, [K, K], and the number of pairs in O.

    Raises:
        NoNegativesError: no mismatched pair is left in the whole matrix.
    """
    mismatched = mismatched_pairs(scores.shape, allowed)
    count = int(mismatched.sum())
    if count == 0:
        raise NoNegativesError(
            f"None of the {scores.numel()} pairs of this batch may serve as a mismatched one. "
            "The batch needs images of at least two studies: take larger batches, or data of more "
            "studies."
        )
    outside = ~mismatched.to(scores.device, non_blocking=True)
    return scores.masked_fill(outside, -math.inf), count


def log_mean_exp_mismatched(scores: Tensor, allowed: Tensor | None) -> Tensor:
    """log of the mean of e^f over all mismatched pairs: log E_O[e^f].

    Raises:
        NoNegativesError: no mismatched pair is left in the whole matrix.
    """
    masked, count = mask_mismatched(scores, allowed)
    return masked.flatten().logsumexp(dim=0) - math.log(count)


def log_mean_exp_shares(scores: Tensor, allowed: Tensor | None) -> tuple[Tensor, Tensor]:
    """log E_O[e^f], and the part that each matched pair has in the mean: scalar, [K].

    Matched pair i takes part in the mismatched pairs of its row and of its column, and carries
    (mean e^f of its row + mean e^f of its column) / E_O[e^f], which is 2 on average. For
    intervals of what contains E_O[e^f]. Errors as for `log_mean_exp_mismatched`.
    """
    masked, count = mask_mismatched(scores, allowed)
    log_mean = masked.flatten().logsumexp(dim=0) - math.log(count)
    ratio = (masked - log_mean).exp()
    return log_mean, len(scores) / count * (ratio.sum(dim=0) + ratio.sum(dim=1))


def log_choices(mismatched: Tensor) -> Tensor:
    """[K] log K_i: the mismatched pairs of row i (given as 0 and 1) and the matched one."""
    return mismatched.sum(dim=1).add(1).log()


def check_rows(mismatched: Tensor, rows: bool, columns: bool) -> None:
    """Refuse a row (a column) that has nothing to compare with.

    Raises:
        NoNegativesError: names the rows (columns), their number and what to do; or no rows at all.
    """
    if len(mismatched) == 0:
        raise NoNegativesError(
            "There are no pairs at all. The batch needs images of at least two studies."
        )
    for name, dim, used in (("Row", 1, rows), ("Column", 0, columns)):
        empty = (~mismatched.any(dim=dim)).nonzero().flatten().tolist() if used else []
        if empty:
            named = ", ".join(map(str, empty[:ROWS_NAMED]))
            more = "" if len(empty) <= ROWS_NAMED else " and so on"
            raise NoNegativesError(
                f"{name}(s) {named}{more} of {len(mismatched)} have no allowed mismatched pair "
                f"({len(empty)} in all). The batch needs images of at least two studies that "
                "read differently: take larger batches, or data of more studies, or allow pairs "
                "whose texts read the same."
            )
