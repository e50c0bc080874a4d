"""The paper's Eq. 3-5: scores of image regions and sentences, and what local and global MI align.

    regions z^I [B, N, D], sentences z^R [M, E]
      -> critic: f of every region and every sentence [B, N, M]
      -> max over regions: one score for each image and sentence [M, M], matched on the diagonal
      -> a bound of `localmi.mi.bounds`, in nats

M = B where each image brings one sentence (Fig. 2), more where it brings all of them (Eq. 5).
A further objective is a class here, a row of `OBJECTIVES`, and a name in `localmi.names`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch import Tensor, nn

from localmi import names
from localmi.errors import check_name
from localmi.mi.critics import Critic
from localmi.mi.selection import select_regions
from localmi.model.backbone import Backbone
from localmi.model.image import ImageEncoder
from localmi.model.text import TextEncoder
from localmi.names import BY_MATCH, RegionSelection, Unit


def local_scores(
    critic: Critic,
    regions: Tensor,
    sentences: Tensor,
    owner: Tensor,
    *,
    matched: Tensor | None = None,
    region_select: RegionSelection = "per_pair_max",
    temperature: float = 1.0,
) -> Tensor:
    """Eq. 5: score of each image and sentence over the image's regions, [M, M].

    Args:
        critic: f, (regions [B, N, D], sentences [M, E]) -> [B, N, M].
        regions: [B, N, D], local image features.
        sentences: [M, E], sentence features.
        owner: [M], the image each sentence belongs to; row i of the result is image owner[i].
        matched: [m], the sentence that each row is matched with, where `owner` [m] is that of
            some sentences only: the result is [m, M].
        region_select: reading of the max over regions; see `localmi.mi.selection`.
        temperature: of the soft maximum, in "soft" and "attention".

    Taught in 07_train_local_mi.
    """
    scores = critic(regions, sentences)  # [B, N, M]
    if region_select in BY_MATCH:
        return select_regions(
            scores[owner], region_select, temperature=temperature, matched=matched
        )
    if region_select == "attention":
        best = select_regions(scores, "soft", temperature=temperature)
        return critic.attend(regions, sentences, scores, best)[owner]
    return select_regions(scores, region_select, temperature=temperature)[owner]


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


@dataclass(frozen=True)
class Objective(ABC):
    """What is aligned: all that differs between local and global MI is asked of it.

    unit: what a text is, one "sentence" or the whole "report".
    region_select, winners_only: see `local_scores` and `winners_only_scores`.
    """

    unit: ClassVar[Unit]
    region_select: RegionSelection = "per_pair_max"
    winners_only: bool = False

    @abstractmethod
    def image_dim(self, encoder: ImageEncoder) -> int:
        """Length of the image features that the critic gets."""

    @abstractmethod
    def image_features(self, encoder: ImageEncoder, images: Tensor) -> Tensor:
        """z^I of images [B, 1, H, W]: [B, N, D], N = 1 for a whole image."""

    @abstractmethod
    def scores(
        self,
        critic: Critic,
        images: Tensor,
        texts: Tensor,
        owner: Tensor,
        *,
        matched: Tensor | None = None,
        temperature: float,
    ) -> Tensor:
        """[M, M] of z^I [B, N, D] and z^R [M, E], the matched pairs on the diagonal.

        With `matched` [m] only the rows of these texts, [m, M]; `owner` [m] then is of them.
        """

    @abstractmethod
    def trained_blocks(self, backbone: Backbone) -> int:
        """How many blocks of the backbone, from the first on, get a gradient."""


class LocalMI(Objective):
    """Regions and sentences: Eq. 5."""

    unit = "sentence"

    def image_dim(self, encoder: ImageEncoder) -> int:
        return encoder.region_dim

    def image_features(self, encoder: ImageEncoder, images: Tensor) -> Tensor:
        return encoder.regions(images)

    def scores(
        self,
        critic: Critic,
        images: Tensor,
        texts: Tensor,
        owner: Tensor,
        *,
        matched: Tensor | None = None,
        temperature: float,
    ) -> Tensor:
        if self.winners_only:
            return winners_only_scores(critic, images, texts, owner)
        return local_scores(
            critic,
            images,
            texts,
            owner,
            matched=matched,
            region_select=self.region_select,
            temperature=temperature,
        )

    def trained_blocks(self, backbone: Backbone) -> int:
        return backbone.local_block


class GlobalMI(Objective):
    """Whole images and whole reports: Eq. 3 and 4 as they stand."""

    unit = "report"

    def image_dim(self, encoder: ImageEncoder) -> int:
        return encoder.pooled_dim

    def image_features(self, encoder: ImageEncoder, images: Tensor) -> Tensor:
        return encoder.pooled(images)[:, None]

    def scores(
        self,
        critic: Critic,
        images: Tensor,
        texts: Tensor,
        owner: Tensor,
        *,
        matched: Tensor | None = None,
        temperature: float,
    ) -> Tensor:
        scores: Tensor = critic(images[owner, 0], texts)
        return scores

    def trained_blocks(self, backbone: Backbone) -> int:
        return backbone.num_blocks


OBJECTIVES: Mapping[str, type[Objective]] = {"local": LocalMI, "global": GlobalMI}


def build_objective(
    name: names.Objective,
    *,
    region_select: RegionSelection = "per_pair_max",
    winners_only: bool = False,
) -> Objective:
    """An objective by name.

    Raises:
        ConfigError: unknown name, or reading of the max.
    """
    check_name("objective", name, OBJECTIVES)
    check_name("region selection", region_select, get_args(RegionSelection))
    return OBJECTIVES[name](region_select=region_select, winners_only=winners_only)


class Alignment(nn.Module):
    """The three networks that are trained together, Eq. 2: image encoder, text encoder, critic."""

    def __init__(
        self, image_encoder: ImageEncoder, text_encoder: TextEncoder, critic: Critic
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.text_encoder = text_encoder
        self.critic = critic
