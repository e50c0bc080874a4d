"""What others compute, in few lines of our own: the baselines of `make bench`.

Written from what the papers and READMEs say; no line is copied.
"""

from collections.abc import Callable

import torch
from critic import grown
from torch import Tensor
from torch.nn import functional

from localmi.data.batches import Batch, TrainingBatches, normalise
from localmi.data.cache.cache import Cache
from localmi.mi.bounds import infonce
from localmi.model.text import TextEncoder, Tokens
from localmi.train.config import REPORT_TOKENS
from localmi.train.device import autocast
from localmi.train.pretraining import Pretraining

SHARPER_REGIONS, SHARPER_WORDS, SHARPER_PAIRS = 4.0, 5.0, 10.0  # GLoRIA's three temperatures
CHANGES = {  # from a configuration of ours
    "objective": "global",
    "critic": "concat",
    "critic_hidden": (1024, 512),
    "text_learning_rate": 2e-5,
    "text_frozen_layers": 0,
    "max_tokens": REPORT_TOKENS,
}


def clip_loss(scores: Tensor) -> Tensor:
    """open_clip's: the cross entropies of a similarity matrix [K, K] and of its transpose.

    Source: Radford et al. 2021, Sec. 2.3; Ilharco et al. 2021, open_clip.
    """
    matched = torch.arange(len(scores), device=scores.device)
    rows, columns = (functional.cross_entropy(one, matched) for one in (scores, scores.T))
    return (rows + columns) / 2


def word_region_scores(regions: Tensor, words: Tensor) -> Tensor:
    """GLoRIA's local similarity of each image and report: [B, N, D], [M, T, D] -> [B, M].

    Each word looks at the regions of an image with attention of its own; the cosine of the word
    and of what it saw; the log of the sum of exponentials over the words.

    Source: Huang et al. 2021, ICCV, Sec. 3.2.
    """
    logits = torch.einsum("bnd,mtd->bmtn", regions, words)
    attention = (SHARPER_REGIONS * logits).softmax(dim=3)
    seen = torch.einsum("bmtn,bnd->bmtd", attention, regions)
    cosine = functional.cosine_similarity(seen, words, dim=-1)  # [B, M, T]
    return (SHARPER_WORDS * cosine).logsumexp(dim=2)


def gloria_loss(regions: Tensor, words: Tensor) -> Tensor:
    """The similarities of all pairs, in both directions."""
    return clip_loss(SHARPER_PAIRS * word_region_scores(regions, words))


class PublicStep:
    """A training step in the manner of the paper's public code: whole images, pairs one by one.

    The features of a whole image and a whole report, which is padded to `REPORT_TOKENS` word
    pieces; all pairs in a tensor that grows by one pair at a time; the paper's critic; InfoNCE
    along rows; Adam. No regions, no control. All else is that of our own step, which it is
    compared with.

    Args:
        own: our step, and with it configuration and precision.
        cache: the data of both.

    Source: Liao et al. 2021, Sec. 4, and the README of its public code.
    """

    def __init__(self, own: Pretraining, cache: Cache) -> None:
        config = type(own.config).checked(**own.config.as_record() | CHANGES)
        self._own, self.training = own, Pretraining(config, cache)
        self._sentences = TrainingBatches(own.train_data, size=config.batch_size, seed=config.seed)

    def whole_reports(self) -> float:
        """One step; the bound on its batch, in nats."""
        batch = self.training.batches[self.training.step]
        return self._step(batch, lambda: self._encoded(self.padded(batch.text)))

    def equal_tokens(self) -> float:
        """The same on texts as our step has them: sentences, and features that stay are kept."""
        batch, own = self._sentences[self.training.step], self._own
        if own.frozen_texts is not None:
            features = own.frozen_texts[batch.text]
            return self._step(batch, lambda: features)
        return self._step(batch, lambda: self._encoded(own.tokens.select(batch.text)))

    def padded(self, report: Tensor) -> Tokens:
        """Word pieces of these reports, [B] -> [B, 320]."""
        tokens = self.training.tokens.select(report)
        width = 0, REPORT_TOKENS - tokens.input_ids.shape[1]
        ids, mask = tokens.input_ids, tokens.attention_mask
        return Tokens(functional.pad(ids, width), functional.pad(mask, width))

    def scores(self, images: Tensor, texts: Tensor) -> Tensor:
        """[B, B] of whole images [B, P] and texts [B, E], each pair appended to all before it."""
        return grown(self.training.alignment.critic, images[:, None], texts)

    def _encoded(self, tokens: Tokens) -> Tensor:
        encoder: TextEncoder = self.training.alignment.text_encoder
        return encoder(tokens.to(self.training.device))

    def _step(self, batch: Batch, texts: Callable[[], Tensor]) -> float:
        training, networks = self.training, self.training.alignment
        networks.train()
        pixels = training.augmented(normalise(batch.images.to(training.device)))
        with autocast(training.device, self._own.dtype):
            scores = self.scores(networks.image_encoder.pooled(pixels), texts())
        nats = infonce(scores, direction="image_to_text")
        optimisers = training.image_optimiser, training.text_optimiser
        for optimiser in optimisers:
            optimiser.zero_grad()
        (-nats).backward()
        for optimiser in optimisers:
            optimiser.step()
        training.step += 1
        return nats.item()
