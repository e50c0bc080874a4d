"""Two networks that look at views of one image: the one is trained, the other is its average.

`Siamese` is a masked siamese network (see `localmi.model.msn`), `Dino` the baseline with two whole
views and a centre instead of Sinkhorn and the mean entropy. Taught in 12_records.
"""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from localmi.errors import ConfigError
from localmi.model.msn import (
    MsnTerms,
    Projection,
    Prototypes,
    entropy,
    kept_patches,
    move_average,
    msn_terms,
    sharpened,
)
from localmi.model.torchvision_backbones import TorchvisionViT


class ViewsOfImage(NamedTuple):
    """Views of B images, normalised: target and anchor [B, 1, f, f], focal [V * B, 1, c, c]."""

    target: Tensor
    anchor: Tensor
    focal: Tensor


class Step(NamedTuple):
    """What a batch gives: the loss, and its value, detached: in nats; of MAE a share.

    features: [B, D] of the anchors, and log_q: [B, K] of the targets, detached, for readers
        beside the training; None of a method that assigns nothing.
    """

    loss: Tensor
    value: Tensor
    features: Tensor | None = None
    log_q: Tensor | None = None


class Siamese(nn.Module):
    """A masked siamese network.

    Args:
        encoder: that is trained.
        prototypes: K. record_dim: R, 0 without a record.
        mask: share of the anchor's patches that are dropped. mask_focal: of small crops as well.
        temperature, sharpening, iterations, mean_entropy_weight, train_prototypes,
            fuse_from_identity: see `msn`.

    Attributes:
        target_encoder: the average, which is used afterwards.
        terms: of the last loss, detached.
    """

    terms: MsnTerms

    def __init__(
        self,
        encoder: TorchvisionViT,
        *,
        prototypes: int,
        record_dim: int = 0,
        mask: float = 0.15,
        mask_focal: bool = False,
        temperature: float = 0.1,
        sharpening: float = 0.25,
        iterations: int = 3,
        mean_entropy_weight: float = 1.0,
        train_prototypes: bool = True,
        fuse_from_identity: bool = True,
    ) -> None:
        super().__init__()
        dim = encoder.pooled_dim
        self.encoder = encoder
        self.projection = Projection(dim, record_dim=record_dim, from_identity=fuse_from_identity)
        self.prototypes = Prototypes(
            prototypes, dim, temperature=temperature, trained=train_prototypes
        )
        self.target_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.target_projection = copy.deepcopy(self.projection.project).requires_grad_(False)
        self.mask, self.mask_focal = mask, mask_focal
        self.sharpening, self.iterations = sharpening, iterations
        self.mean_entropy_weight = mean_entropy_weight

    @property
    def learnt(self) -> TorchvisionViT:
        """The image encoder that is used afterwards."""
        return self.target_encoder

    def loss(self, views: ViewsOfImage, record: Tensor | None, generator: torch.Generator) -> Step:
        """The loss of a batch.

        Args:
            record: [B, R]; None without one.
            generator: draws the patches that are dropped.
        """
        targets = self.target_logits(views.target)
        features = [self.features(views.anchor, generator)]
        if len(views.focal):
            features.append(self.features(views.focal, generator, masked=self.mask_focal))
        anchors = self.prototypes(self.projection(torch.cat(features), record))
        terms = msn_terms(anchors, targets, sharpening=self.sharpening, iterations=self.iterations)
        self.terms = MsnTerms(*(value.detach() for value in vars(terms).values()))
        log_q = sharpened(targets, self.sharpening)
        loss = terms.loss(self.mean_entropy_weight)
        return Step(loss, self.terms.nats, features[0].detach(), log_q)

    def features(
        self, images: Tensor, generator: torch.Generator, *, masked: bool = True
    ) -> Tensor:
        """[CLS] of images whose patches are dropped in part, [B, 1, H, W] -> [B, D]."""
        patches = (images.shape[-1] // self.encoder.patch) ** 2
        dropped = self.mask if masked else 0.0
        keep = kept_patches(len(images), patches, dropped, generator)
        return self.encoder.tokens(images, keep)[:, 0]

    @torch.no_grad()
    def target_logits(self, images: Tensor) -> Tensor:
        """The average network's logits of whole views, [B, 1, H, W] -> [B, K]."""
        logits: Tensor = self.prototypes(
            self.target_projection(self.target_encoder.tokens(images)[:, 0])
        )
        return logits

    def assignment(self, images: Tensor) -> Tensor:
        """log q+ of views, which the bound is of: [B, 1, H, W] -> [B, K]."""
        return sharpened(self.target_logits(images), self.sharpening)

    def after_step(self, momentum: float) -> None:
        """Moves the average."""
        move_average(self.target_encoder, self.encoder, momentum)
        move_average(self.target_projection, self.projection.project, momentum)


class Dino(Siamese):
    """DINO: the teacher sees the two whole views, the student all views; each of the teacher's is
    compared with the student's others. A moving centre takes from the teacher's cosines what all
    images share.

        L = mean over t != s of H(softmax((cos_t - c) / (tau T)), softmax(cos_s / tau))

    Source: Caron et al. 2021, https://arxiv.org/abs/2104.14294, Alg. 1. The last layer are the
    prototypes of `Siamese`: cosines, as DINO's with its normalised weights.
    """

    centre: Tensor

    def __init__(
        self, encoder: TorchvisionViT, *, centre_momentum: float = 0.9, **how: object
    ) -> None:
        super().__init__(encoder, **how)  # type: ignore[arg-type]
        self.centre_momentum = centre_momentum
        self.register_buffer("centre", torch.zeros(len(self.prototypes.weight)))

    def loss(self, views: ViewsOfImage, record: Tensor | None, generator: torch.Generator) -> Step:
        """As of `Siamese`."""
        if record is not None:
            raise ConfigError("DINO reads no record.")
        whole = torch.cat([views.target, views.anchor])
        teacher = self.target_logits(whole)  # [2 B, K]
        features = [self.features(whole, generator)]
        if len(views.focal):
            features.append(self.features(views.focal, generator, masked=self.mask_focal))
        student = self.prototypes(self.projection(torch.cat(features)))  # [S B, K]
        batch = len(views.target)
        log_q = self._centred(teacher)
        loss = dino_loss(log_q.unflatten(0, (2, batch)), student.unflatten(0, (-1, batch)))
        self.terms = _terms(log_q, student.detach(), loss.detach())
        if self.training:
            self.centre.lerp_(teacher.mean(dim=0), 1 - self.centre_momentum)
        return Step(loss, self.terms.nats, features[0].detach()[batch:], log_q[:batch])

    def _centred(self, logits: Tensor) -> Tensor:
        return sharpened(logits - self.centre, self.sharpening)

    def assignment(self, images: Tensor) -> Tensor:
        """log q+ of views: [B, 1, H, W] -> [B, K]."""
        return self._centred(self.target_logits(images))


def dino_loss(log_q: Tensor, student: Tensor) -> Tensor:
    """The mean cross entropy of the teacher's views to all other views of the student.

    Args:
        log_q: [T, B, K] of the teacher. student: [S, B, K] logits; its first T views are the
            teacher's.
    """
    teachers, batch = log_q.shape[:2]
    each = -torch.einsum("tbk,sbk->ts", log_q.exp(), student.log_softmax(dim=-1)) / batch
    other = ~torch.eye(teachers, len(student), dtype=torch.bool, device=each.device)
    return each[other].mean()


def _terms(log_q: Tensor, student: Tensor, cross_entropy: Tensor) -> MsnTerms:
    return MsnTerms(
        cross_entropy=cross_entropy,
        mean_entropy=entropy(student.softmax(dim=1).mean(dim=0)),
        target_entropy=entropy(log_q.exp().mean(dim=0)),
        own_entropy=entropy(log_q.exp()).mean(),
    )
