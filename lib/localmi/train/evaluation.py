"""What a model reached on a split it was not trained on: bound, control, and where it looks."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from localmi.data.batches import SplitData
from localmi.evaluate.grounding import Pointing, find_lenders, pointing_game
from localmi.evaluate.held_out import HeldOutBound, SplitScores, held_out_bound
from localmi.phantom.read import Truth
from localmi.train.pretraining import Pretraining


@dataclass(frozen=True)
class SplitResult:
    """The bound on matched pairs, and the control: the same on shuffled pairs, by the critic
    that was trained on shuffled pairs."""

    held_out: HeldOutBound
    shuffled: HeldOutBound
    scores: SplitScores


def evaluate_split(
    training: Pretraining, data: SplitData, *, batch_size: int = 128, rounds: int = 50
) -> SplitResult:
    """The held-out bound of a split by the hard max over regions, in nats.

    A critic that was trained by MINE or DV is measured by DV, one trained by InfoNCE by InfoNCE.

    Taught in 07_train_local_mi.
    """
    config = training.config
    scores, control = training.score_split(data)
    held_out, shuffled = (
        held_out_bound(
            found,
            bound="infonce" if config.bound == "infonce" else "dv",
            direction=config.direction,
            batch_size=batch_size,
            rounds=rounds,
            shuffled=is_control,
            seed=config.seed,
        )
        for found, is_control in ((scores, False), (control, True))
    )
    return SplitResult(held_out=held_out, shuffled=shuffled, scores=scores)


def point(sentences: pd.DataFrame, truth: Truth, winners: Tensor, *, grid: int) -> Pointing:
    """The pointing game of sentences that speak of a present finding.

    Args:
        sentences: rows of `finding_sentences` whose finding is present in their image.
        winners: [n, T] the winning region of each image and text (`SplitScores.winners`).
        grid: regions a side.
    """
    return _point(sentences, sentences["image_id"], truth, winners, grid)


def point_elsewhere(
    denials: pd.DataFrame, present: pd.DataFrame, truth: Truth, winners: Tensor, *, grid: int
) -> tuple[Pointing, pd.DataFrame]:
    """The negation control: do sentences that deny a finding point where it would be?

    The denied finding has no mask in its own image, so its mask in another patient stands in
    (`grounding.find_lenders`): what the finding's usual place alone would explain.

    Args:
        denials, present: rows of `finding_sentences`.

    Returns:
        The pointing game, and the rows of `denials` that were asked: those of findings that
        `present` shows in another patient.
    """
    lender = find_lenders(
        denials["finding"], denials["patient_id"], present["finding"], present["patient_id"]
    )
    asked, lender = denials[lender >= 0], lender[lender >= 0]
    lent = present["image_id"].to_numpy()[lender]
    return _point(asked, lent, truth, winners, grid), asked


def _point(
    sentences: pd.DataFrame, outlined: Iterable[str], truth: Truth, winners: Tensor, grid: int
) -> Pointing:
    """The region each sentence chose, against its finding's mask in the image `outlined`."""
    chosen = winners.numpy()[sentences["image"], sentences["number"]]
    masks = [
        truth.mask(image, finding)
        for image, finding in zip(outlined, sentences["finding"], strict=True)
    ]
    return pointing_game(chosen, np.stack(masks), grid=grid)
