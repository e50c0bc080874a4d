"""One call: how many nats do these samples share, measured on pairs that nothing was fitted to?

    >>> print(estimate(x, y))
    1.01 [0.96, 1.05] nats (infonce, held out: 2,500 of 10,000 pairs, cap 7.13)

A critic is fitted on one split, stopped by a second, and the value is computed once, on a third.
No value of training, and no best one of several reported, ever leaves this module.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from localmi.errors import ConfigError, check_name
from localmi.mi.critics import Critic
from localmi.mi.estimators import ESTIMATORS, caps, reported_terms
from localmi.mi.samples.fitting import (
    CriticName,
    Start,
    Training,
    blocks_of,
    check_start,
    fit_critic,
)
from localmi.mi.samples.generative import GENERATIVE, held_out_densities
from localmi.mi.samples.inputs import (
    Part,
    Samples,
    Scaling,
    Splits,
    check_groups,
    check_pairs,
    neighbours_alike,
    split,
)
from localmi.mi.scores import log_mean_exp_mismatched, mismatched_pairs
from localmi.statistics import Interval, mean_interval

Terms = NDArray[np.float64]
BLOCK, BLOCK_CONCAT = 2048, 256  # pairs reported at once; a concat critic scores each pair apart
CARRIED = 0.1  # share of E_O[e^f] with one pair in it, above which a reader should know
AT_CAP = 1.0  # nats: a capped value nearer to its cap than this says little about the truth


class Sizes(NamedTuple):
    """Pairs in each split."""

    fit: int
    stop: int
    report: int


@dataclass(frozen=True)
class Estimate:
    """Mutual information of samples, in nats, from pairs that nothing was fitted to.

    value: of the report split. interval95: bootstrap over its groups; of this critic and this
    split, not of another fit. cap: what the method cannot exceed; inf where nothing caps it.
    at_cap: the value is so near the cap that the truth may be far above. step: the training step
    whose critic was taken, 0 being the start. notes: what a reader should know.
    """

    value: float
    interval95: tuple[float, float]
    method: str
    critic: str
    split: Sizes
    cap: float
    at_cap: bool
    step: int
    notes: tuple[str, ...]

    def __str__(self) -> str:
        interval = Interval(self.value, *self.interval95)
        cap = f", cap {self.cap:.2f}" if math.isfinite(self.cap) else ""
        held_out = f"held out: {self.split.report:,} of {sum(self.split):,} pairs"
        return "\n".join([f"{interval} nats ({self.method}, {held_out}{cap})", *self.notes])


def estimate(
    x: Samples,
    y: Samples,
    *,
    method: str = "infonce",
    critic: CriticName = "separable",
    groups: Samples | Sequence[int] | Sequence[str] | None = None,
    scaling: Scaling = "rank",
    start: Start = "gaussian",
    steps: int = 2000,
    batch_size: int = 256,
    learning_rate: float = 5e-3,
    entropy: float | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Estimate:
    """I(X; Y) of samples: fits on 60 %, stops by 15 %, reports from the other 25 %.

    Lower bounds, apart from sampling error: "infonce" (at most log K), "interpolated" (capped),
    "nwj", "tuba" (with a from the stop split), "dv", "mine", "js" (all three report DV over all
    mismatched pairs at once: many, so the log of their mean is nearly unbiased), "ba" (needs the
    entropy of y). No bounds: "smile", "demi", "doe". For much information, beyond the log of the
    number of pairs, only "doe" and "ba" can follow.

    By default the critic begins as the exact one of a Gaussian copula with the correlations of
    the fit split, and a network learns the rest; what is no better on the stop split is dropped.

    Args:
        x: [N, dim_x] float, N at least 10.
        y: [N, dim_y] float; row i belongs to row i of x.
        method: see above.
        critic: "separable" (fast, the best on most tasks), "concat", "bilinear" (no start from a
            Gaussian), "quadratic" (Gaussians only). "doe" and "ba" have none.
        groups: [N] pairs of one group (patient, study) stay in one split, are never mismatched
            with each other, and are resampled together; default each its own. Rows that are not
            independent (images of one patient, moments of one recording) need it: otherwise what
            is fitted to is reported again, and the interval is too narrow.
        scaling: "rank" turns columns into normal scores, "standardise" only scales them (and
            "ba" never more). Neither changes MI, both are fitted on the fit split.
        start: "gaussian" as above; "random" is the plain network.
        steps: at most; training ends when the stop split gains no more.
        batch_size: pairs of a training step.
        learning_rate: of Adam.
        entropy: of y, in nats, in the units of y; for "ba".
        seed: of the split, the network and the batches.
        device: "auto" takes a GPU if there is one.

    Raises:
        DataError: input that cannot be used; says what, where, and what to do.
        ConfigError: an unknown name or an impossible number.
        NoNegativesError: groups so large that a row has nothing to be compared with.
        TrainingError: the objective became infinite or no number.

    Taught in 03_neural_estimators.
    """
    _check_method(method, entropy)
    check_start(critic, start)
    check_name("scaling", scaling, get_args(Scaling))
    place = _device(device)
    scaling = "standardise" if method == "ba" else scaling
    arrays = check_pairs(x, y)
    group = None if groups is None else check_groups(groups, len(x))
    training = Training(steps, batch_size, learning_rate, seed)
    alike = "" if groups is not None else neighbours_alike(*arrays)
    splits, scale_y = split(*arrays, group, scaling=scaling, seed=seed)
    splits = Splits(*(_to(part, place) for part in splits))
    if method in GENERATIVE:
        in_units = None if entropy is None else entropy - scale_y.log_volume()
        terms, step = held_out_densities(splits, entropy=in_units, training=training)
        return _result(terms, splits, math.inf, method, "", step, training, alike)
    fitted, step = fit_critic(splits, method=method, critic=critic, start=start, training=training)
    size = BLOCK_CONCAT if critic == "concat" else BLOCK
    terms = _terms(fitted, splits, method, size)
    cap = _cap(method, splits.report, size)
    return _result(terms, splits, cap, method, critic, step, training, alike)


def _check_method(method: str, entropy: float | None) -> None:
    check_name("method", method, (*ESTIMATORS, *GENERATIVE))
    if (method == "ba") != (entropy is not None):
        raise ConfigError(
            "method 'ba' needs the entropy of y in nats, and no other method takes one. Where it "
            "is not known use 'doe', which estimates it."
        )
    if entropy is not None and not (isinstance(entropy, Real) and math.isfinite(entropy)):
        raise ConfigError(f"The entropy of y is {entropy!r}; it must be a finite number of nats.")


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=torch.device(name)).device
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"device={name!r} cannot be used ({reason}). Give 'auto', 'cpu' or 'cuda'."
        ) from None


def _to(part: Part, place: torch.device) -> Part:
    group = None if part.group is None else part.group.to(place)
    return Part(part.x.to(place), part.y.to(place), group)


@torch.no_grad()
def _terms(critic: Critic, splits: Splits, method: str, size: int) -> Tensor:
    """[n] what each report pair adds to the value, which is their mean."""
    row, log_baseline = ESTIMATORS[method], torch.tensor(0.0)
    if row.baseline:
        log_baseline = _log_mean_exp(critic, blocks_of(splits.stop, size))
    terms = reported_terms(method, log_baseline=log_baseline)
    blocks = blocks_of(splits.report, size)
    found = []
    for block in blocks:
        scores = critic(block.x, block.y)
        found.append((scores.diagonal().clone(), terms(scores, block.allowed()), _count(block)))
    if row.log_of_mean:
        return _pooled(found)
    return torch.cat([of_block for _, of_block, _ in found])


def _pooled(blocks: list[tuple[Tensor, Tensor, int]]) -> Tensor:
    """Terms of DV (SMILE) over all blocks with one log E_O[e^f], not a mean of several logs.

    A block's terms are f_ii - log_mean - (share_i - 2), and the shares are 2 on average.
    """
    log_means = torch.stack([(matched - terms).mean() for matched, terms, _ in blocks])
    counts = log_means.new_tensor([count for _, _, count in blocks])
    log_mean = _log_of_mean(log_means, counts)
    number = sum(len(matched) for matched, _, _ in blocks)
    pooled = []
    for (matched, terms, count), own in zip(blocks, log_means, strict=True):
        share = matched - own - terms + 2
        weight = number * count / (len(matched) * counts.sum()) * (own - log_mean).exp()
        pooled.append(matched - log_mean - (weight * share - 2))
    return torch.cat(pooled)


def _log_mean_exp(critic: Critic, blocks: list[Part]) -> Tensor:
    """log E_O[e^f] over the mismatched pairs of all blocks."""
    log_means = [
        log_mean_exp_mismatched(critic(block.x, block.y), block.allowed()) for block in blocks
    ]
    counts = log_means[0].new_tensor([_count(block) for block in blocks])
    return _log_of_mean(torch.stack(log_means), counts)


def _log_of_mean(log_means: Tensor, counts: Tensor) -> Tensor:
    """log of the mean over all pairs, from the logs of the means of blocks."""
    return (log_means + counts.log()).logsumexp(dim=0) - counts.sum().log()


def _count(block: Part) -> int:
    """Mismatched pairs of a block."""
    shape = torch.Size((len(block.x), len(block.x)))
    return int(mismatched_pairs(shape, block.allowed()).sum())


def _cap(method: str, report: Part, size: int) -> float:
    """What the value cannot exceed, nats: the mean over the pairs; inf where nothing caps it."""
    found = []
    for block in blocks_of(report, size):
        allowed = block.allowed()
        every = torch.ones(len(block.x), len(block.x), dtype=torch.bool)
        found.append(caps(method, every if allowed is None else allowed.cpu()))
    return float(torch.cat(found).double().mean())


def _result(
    terms: Tensor,
    splits: Splits,
    cap: float,
    method: str,
    critic: str,
    step: int,
    training: Training,
    alike: str,
) -> Estimate:
    """The value, once, with its interval and what is to be said about it."""
    values = terms.double().cpu().numpy()
    group = splits.report.group
    units = np.arange(len(values)) if group is None else group.cpu().numpy()
    interval = mean_interval(values, units, seed=training.seed)
    at_cap = interval.value > cap - min(AT_CAP, cap / 2)
    return Estimate(
        value=interval.value,
        interval95=(interval.low, interval.high),
        method=method,
        critic=critic,
        split=Sizes(*(len(part.x) for part in splits)),
        cap=cap,
        at_cap=at_cap,
        step=step,
        notes=(
            *_notes(interval.value, cap, at_cap, method, values, step == training.steps > 0),
            *([alike] if alike else []),
        ),
    )


def _notes(
    value: float, cap: float, at_cap: bool, method: str, terms: Terms, unfinished: bool
) -> tuple[str, ...]:
    number = len(terms)
    notes = []
    if at_cap:
        notes.append(
            f"At the cap: {value:.2f} of at most {cap:.2f} nats. The truth may be far above; give "
            "more pairs, or use js (DV) or doe."
        )
    if method in ESTIMATORS and not ESTIMATORS[method].bound:
        notes.append(f"{method} is no bound: the truth may lie below or above.")
    if method in ESTIMATORS and ESTIMATORS[method].log_of_mean:
        # A pair with a share s of E_O[e^f] has -s * number in its term (`dv_terms`).
        share = (np.median(terms) - terms.min()) / number
        if share > CARRIED:
            notes.append(
                f"One pair has a part in {min(share, 1):.0%} of the mean of e^f over mismatched "
                "pairs: the value may be far below the truth. infonce hangs on no single pair."
            )
    if method == "doe":
        notes.append(
            "doe is no bound: the difference of two upper bounds of entropies. It needs a density "
            "of y: no column that others determine, no values that repeat."
        )
    elif method != "ba" and value > math.log(number):
        notes.append(
            f"More than log {number} = {math.log(number):.2f} nats: {number} pairs cannot vouch "
            "for that, whatever the distribution; doe can follow."
        )
    if unfinished:
        notes.append("The last step was the best: more steps may find more.")
    return tuple(notes)
