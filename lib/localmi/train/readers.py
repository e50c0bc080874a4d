"""What a record adds, asked by networks that read the same features beside the training."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from localmi.model.msn import Projection, Prototypes

IMAGE, RECORD, OTHER, SHUFFLED = "image", "record", "other record", "shuffled"


class Readers(nn.Module):
    """Networks of one build, each with its own thing to read. They learn nothing but to say the
    target's prototype, and no gradient of theirs reaches the image encoder or the prototypes.

    image: the anchor's feature; record: it and the patient's record; other record: it and that of
    another patient, the control of the record; shuffled: feature and record of another patient,
    the control of all: nothing to find.

    Args:
        dim: D, of the features. record_dim: R; 0: "image" and "shuffled" alone.
    """

    def __init__(self, dim: int, *, record_dim: int) -> None:
        super().__init__()
        self.record_dim = record_dim
        names = (IMAGE, SHUFFLED) if not record_dim else (IMAGE, RECORD, OTHER, SHUFFLED)
        self.heads = nn.ModuleDict(
            {name: Projection(dim, record_dim=record_dim) for name in names}
        )

    def logits(
        self, features: Tensor, record: Tensor, other: Tensor, prototypes: Prototypes
    ) -> dict[str, Tensor]:
        """What each says: [B, K].

        Args:
            features: [B, D]. record: [B, R].
            other: [B] int64, an image of another patient for each.
        """
        features = features.detach()
        reads: Mapping[str, tuple[Tensor, Tensor]] = {
            IMAGE: (features, torch.zeros_like(record)),
            RECORD: (features, record),
            OTHER: (features, record[other]),
            SHUFFLED: (features[other], record[other]),
        }
        return {
            name: prototypes.read(head(*(reads[name] if self.record_dim else reads[name][:1])))
            for name, head in self.heads.items()
        }


def cross_entropies(logits: Mapping[str, Tensor], log_q: Tensor) -> dict[str, Tensor]:
    """Of each reader's logits [B, K] to the targets, log q [B, K]: [B] nats."""
    q = log_q.exp()
    return {name: -(q * said.log_softmax(dim=1)).sum(dim=1) for name, said in logits.items()}
