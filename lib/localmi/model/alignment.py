"""The paper's Eq. 3-5: scores of image regions and sentences.

    regions z^I [B, N, D], sentences z^R [M, E]
      -> critic: f of every region and every sentence [B, N, M]
      -> max over regions: one score for each image and sentence [M, M], matched on the diagonal
      -> a bound of `localmi.mi.bounds`, in nats

M = B where each image brings one sentence (Fig. 2), more where it brings all of them (Eq. 5).
"""

import torch
from torch import Tensor, nn

from localmi.mi.critics import Critic
from localmi.mi.names import RegionSelection
from localmi.mi.selection import select_regions
from localmi.model.image import ImageEncoder
from localmi.model.text import TextEncoder


def local_scores(
    critic: Critic,
    regions: Tensor,
    sentences: Tensor,
    owner: Tensor,
    *,
    region_select: RegionSelection = "per_pair_max",
    temperature: float = 1.0,
) -> Tensor:
    """Eq. 5: score of each image and sentence over the image's regions, [M, M].

    Args:
        critic: f, (regions [B, N, D], sentences [M, E]) -> [B, N, M].
        regions: [B, N, D], local image features.
        sentences: [M, E], sentence features.
        owner: [M], the image each sentence belongs to; row i of the result is image owner[i].
        region_select: reading of the max over regions; see `localmi.mi.selection`.
        temperature: of the soft reading.

    Taught in 07_train_local_mi.
    """
    scores = critic(regions, sentences)  # [B, N, M]
    return select_regions(scores[owner], region_select, temperature=temperature)


def winners_only_scores(
    critic: Critic, regions: Tensor, sentences: Tensor, owner: Tensor
) -> Tensor:
    """`local_scores` by "per_pair_max" with 1/N of the backward cost, and the same gradient.

    The max passes its gradient to the winning region alone. So: score every region without a
    gradient, take the argmax, and score the M x M winners again with one.
    """
    with torch.no_grad():
        winners = critic(regions, sentences).argmax(dim=1)  # [B, M]
    return critic.chosen(regions, sentences, winners)[owner]


def global_scores(critic: Critic, pooled: Tensor, reports: Tensor) -> Tensor:
    """Score of each image and report, [B, B], from pooled [B, P] and reports [B, E]."""
    scores: Tensor = critic(pooled, reports)
    return scores


class Alignment(nn.Module):
    """The three networks that are trained together, Eq. 2: image encoder, text encoder, critic."""

    def __init__(
        self, image_encoder: ImageEncoder, text_encoder: TextEncoder, critic: Critic
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.text_encoder = text_encoder
        self.critic = critic
