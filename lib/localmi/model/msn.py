"""Masked siamese networks: from an image that is partly hidden, and its patient's record, to the
prototype that another view of the image belongs to.

    p_m = softmax(cos(z_m, q) / tau)                 anchor m: masked or small, with the record
    p+  = Sinkhorn(softmax(cos(z+, q) / (tau T)))    target: another view, by the averaged network
    L   = 1 / (M B) sum_im H(p+_i, p_im) - lambda H(p_mean)

q are K prototypes, T < 1 sharpens, H(., .) is the cross entropy, p_mean the mean over all anchors.
Its entropy keeps them from all falling on one prototype; Sinkhorn keeps the targets from it.

In nats. Let the prototype K of a target view be drawn from q+ (p+ without Sinkhorn). Then

    H(mean of q+) - CE <= I(K; anchor, record) <= I(target view; anchor view, record)

(Barber and Agakov 2003; data processing). On a batch Sinkhorn makes the entropy of the mean target
log K, which no mean of anchors has more of: so - L with lambda = 1 is below the bound.

Source: Assran et al. 2022, https://arxiv.org/abs/2204.07141, for L; CXR-EHR-MSN,
https://doi.org/10.1038/s41598-024-74043-x, for the record. Taught in 12_records.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from localmi.errors import ConfigError
from localmi.mi.critics import widened, without_autocast

RECORD_WIDTH = 128  # of a record beside the image's feature, as the public code has it


class Projection(nn.Module):
    """From the feature of a view, and the record of its patient, to the space of the prototypes.

        f' = W [f; V r + c] + b            where there is a record
        z  = Linear(GELU(BN(Linear(GELU(BN(Linear(f')))))))      D -> 4D -> 4D -> D

    Args:
        dim: D, of the features.
        record_dim: R, numbers of a record; 0: there is none.
        from_identity: at first W passes f on, and nothing of the record, as if there were none. As
            W is drawn otherwise, and in the public code, the record stands in the image's way.
    """

    def __init__(self, dim: int, *, record_dim: int = 0, from_identity: bool = True) -> None:
        super().__init__()
        self.record_dim = record_dim
        if record_dim:
            self.record = nn.Linear(record_dim, RECORD_WIDTH)
            self.fuse = nn.Linear(dim + RECORD_WIDTH, dim)
            if from_identity:
                nn.init.zeros_(self.fuse.bias)
                nn.init.eye_(self.fuse.weight)
        hidden = 4 * dim
        self.project = nn.Sequential(
            *(nn.Linear(dim, hidden, bias=False), nn.BatchNorm1d(hidden), nn.GELU()),
            *(nn.Linear(hidden, hidden, bias=False), nn.BatchNorm1d(hidden), nn.GELU()),
            nn.Linear(hidden, dim),
        )

    def forward(self, features: Tensor, record: Tensor | None = None) -> Tensor:
        """Features [V * B, D], all B images of a view after the other, and records [B, R] of the
        patients -> [V * B, D].

        Raises:
            ConfigError: a record is missing, or not of that length.
        """
        if self.record_dim:
            found = None if record is None else record.shape[-1]
            if record is None or found != self.record_dim:
                raise ConfigError(
                    f"This network reads records of {self.record_dim} numbers, found {found}."
                )
            views = len(features) // len(record)
            beside = self.record(record.to(features)).repeat(views, 1)
            features = self.fuse(torch.cat([features, beside], dim=1))
        projected: Tensor = self.project(features)
        return projected


class Prototypes(nn.Module):
    """K directions that views are assigned to, uniform in a cube at first.

    Args:
        number: K. dim: D. temperature: tau.
        trained: they learn, as Assran et al. have it. lightly's examples and the public code of
            CXR-EHR-MSN leave them as they were drawn.
    """

    def __init__(
        self, number: int, dim: int, *, temperature: float = 0.1, trained: bool = True
    ) -> None:
        super().__init__()
        self.temperature = temperature
        drawn = torch.empty(number, dim).uniform_(-1, 1) / math.sqrt(dim)
        self.weight = nn.Parameter(drawn, requires_grad=trained)

    def forward(self, projected: Tensor) -> Tensor:
        """Cosines with the prototypes / tau, of [M, D]: [M, K]."""
        return prototype_logits(projected, self.weight, self.temperature)

    def read(self, projected: Tensor) -> Tensor:
        """The same; the prototypes do not learn of it."""
        return prototype_logits(projected, self.weight.detach(), self.temperature)


def prototype_logits(projected: Tensor, prototypes: Tensor, temperature: float = 0.1) -> Tensor:
    """cos(z, q) / tau of z [M, D] and q [K, D]: [M, K], in float32 at least."""
    with without_autocast(projected):
        z = functional.normalize(widened(projected), dim=1)
        q = functional.normalize(widened(prototypes), dim=1)
        return z @ q.T / temperature


def sharpened(logits: Tensor, sharpening: float = 0.25) -> Tensor:
    """log of the targets before Sinkhorn, log softmax(logits / T): [B, K]; no gradient."""
    return (logits.detach() / sharpening).log_softmax(dim=1)


def sinkhorn(log_p: Tensor, iterations: int = 3) -> Tensor:
    """Assignments whose prototypes are all used alike, from log p [B, K]: [B, K].

    In turn columns are scaled to equal sums, then rows to 1. At the end rows sum to 1, and columns
    nearly to B / K. In logs, because a column may hold nothing that float32 can tell from 0.

    Args:
        iterations: 0 leaves p as it is.

    Source: Cuturi 2013, https://arxiv.org/abs/1306.0895.
    """
    for _ in range(iterations):
        log_p = (log_p - log_p.logsumexp(dim=0, keepdim=True)).log_softmax(dim=1)
    return log_p.exp()


@dataclass(frozen=True)
class MsnTerms:
    """The parts of the loss of a batch, in nats, and what tells a collapse.

    cross_entropy: of the anchors to their targets. mean_entropy: of the mean anchor.
    target_entropy: of the mean target before Sinkhorn; 0 where all have one prototype.
    own_entropy: of a target before Sinkhorn, in the mean; log K where none prefers any.
    """

    cross_entropy: Tensor
    mean_entropy: Tensor
    target_entropy: Tensor
    own_entropy: Tensor

    @property
    def nats(self) -> Tensor:
        """- L with lambda = 1: below the information, on the batch."""
        return self.mean_entropy - self.cross_entropy

    def loss(self, weight: float = 1.0) -> Tensor:
        """L, with lambda."""
        return self.cross_entropy - weight * self.mean_entropy


def msn_terms(
    anchors: Tensor, targets: Tensor, *, sharpening: float = 0.25, iterations: int = 3
) -> MsnTerms:
    """The terms of the loss from the logits of `Prototypes`.

    Args:
        anchors: [V * B, K], all B images of a view after the other.
        targets: [B, K].
        sharpening: T of the targets. iterations: of Sinkhorn.

    Raises:
        ConfigError: shapes that do not fit each other.

    Taught in 12_records.
    """
    if anchors.ndim != 2 or anchors.shape[1:] != targets.shape[1:] or len(anchors) % len(targets):
        raise ConfigError(
            f"Anchors of shape {list(anchors.shape)} for targets of {list(targets.shape)}: "
            "[V * B, K] and [B, K] are needed."
        )
    log_own = sharpened(targets, sharpening)
    own = log_own.exp()
    wanted = sinkhorn(log_own, iterations).repeat(len(anchors) // len(targets), 1)
    log_p = anchors.log_softmax(dim=1)
    return MsnTerms(
        cross_entropy=-(wanted * log_p).sum(dim=1).mean(),
        mean_entropy=entropy(log_p.exp().mean(dim=0)),
        target_entropy=entropy(own.mean(dim=0)),
        own_entropy=entropy(own).mean(),
    )


def entropy(p: Tensor) -> Tensor:
    """H of distributions [..., K] in nats: [...]."""
    return torch.special.entr(p).sum(dim=-1)


def kept_patches(
    images: int, patches: int, dropped: float, generator: torch.Generator
) -> Tensor | None:
    """Which patches of each image stay: [images, k] int64 in order, k = patches - round(dropped *
    patches), at least 1; each is dropped as often as any other. None: all stay.

    The public code draws from the indices 0 to patches - 1 of a sequence that begins with [CLS]:
    there the last patch, at the bottom right, is never seen.
    """
    stay = max(1, patches - round(dropped * patches))
    if stay == patches:
        return None
    order = torch.rand(images, patches, generator=generator).argsort(dim=1)
    return order[:, :stay].sort(dim=1).values


@torch.no_grad()
def move_average(average: nn.Module, network: nn.Module, momentum: float) -> None:
    """average <- momentum * average + (1 - momentum) * network, weight by weight."""
    for own, new in zip(average.parameters(), network.parameters(), strict=True):
        own.lerp_(new, 1 - momentum)
