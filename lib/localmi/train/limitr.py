"""LIMITR: one training step from its losses.

    batch (images, laterals, texts) -> encoders -> head -> three scores -> losses -> gradient step

    L = w_ext / 2 (L(10 S^txt) + L(10 S^img)) + w_glob L(10 cos) + w_int L_int
    L(s) = cross entropy of the rows + of the columns = 2 (log K - InfoNCE)

As in `localmi.train.pretraining`, a step depends on (config, data, step number, weights) alone.
Source: see `localmi.model.limitr`. Taught in 11_limitr.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from localmi.data.batches import Batch, TrainingBatches, normalise
from localmi.data.cache.cache import Cache
from localmi.data.views import ViewBatch
from localmi.errors import DataError, NoNegativesError
from localmi.mi.bounds import infonce
from localmi.model.limitr import GAMMA_SCORES
from localmi.model.limitr_head import LimitrHead, View
from localmi.model.words import Words
from localmi.train.device import autocast
from localmi.train.limitr_config import LimitrConfig
from localmi.train.limitr_networks import LimitrNetworks
from localmi.train.optimisers import Scheduled, adam, text_optimiser
from localmi.train.training_run import CONTROL_EVERY
from localmi.train.words import WordTable


class LimitrTraining(LimitrNetworks):
    """One run of LIMITR.

    Beside the head a second one is trained on the same features, with the texts of the batch
    shuffled: the control, as in `Pretraining`.

    Args:
        config: of the run.
        cache: the prepared data.
        workers: processes that load batches ahead of time; the numbers are the same without.

    Attributes: as `LimitrNetworks`.
    """

    def __init__(self, config: LimitrConfig, cache: Cache, *, workers: int = 0) -> None:
        super().__init__(config, cache)
        self.train_data = self.data("train")
        self.batches = TrainingBatches(
            self.train_data,
            size=config.batch_size,
            seed=config.seed,
            every=config.sentences == "all",
        )
        self.workers = workers
        beta = config.adam_beta
        self.optimiser = adam(config, self._trained(), beta=beta)
        self.control_optimiser = adam(
            config, self.control.parameters(), every=CONTROL_EVERY, beta=beta
        )
        self.text_optimiser: Scheduled | None = None
        self.known_words: WordTable | None = None
        if config.text_is_frozen:
            self.known_words = self.word_table(self.train_data.texts)
        else:
            self.text_optimiser = text_optimiser(config, self.text_encoder)

    def _trained(self) -> list[torch.nn.Parameter]:
        """All that has the learning rate of the images."""
        networks = (self.image_encoder, self.lateral_encoder, self.head)
        return [one for part in networks if part is not None for one in part.parameters()]

    def _train_step(self, batch: Batch | None) -> Tensor | None:
        batch = self.batches[self.step] if batch is None else batch
        if not isinstance(batch, ViewBatch):
            raise DataError("LIMITR takes batches with laterals: of data('train') of the run.")
        if self.config.shuffle_pairs:
            batch, _ = batch.shuffled()
        allowed = self._allowed(batch, same_text=self.config.same_text_is_mismatch)
        if not allowed.any():
            self.step += 1
            return None
        for network in self.networks().values():
            network.train()
        images, laterals = (
            self.augmented(normalise(some.to(self.device, non_blocking=True)), purpose)
            for purpose, some in ((1, batch.images), (2, batch.laterals))
        )
        torch.manual_seed(self.step_seed(0))  # of dropout
        try:
            with autocast(self.device, self.dtype):
                views = self.views(images, laterals, batch.has_lateral)
                words = self._words(batch.text)
                loss, value = self._loss(self.head, views, words, batch, allowed)
        except NoNegativesError:
            self.step += 1
            return None
        if self.device.type == "cpu":  # a GPU would have to be waited for
            self._read([(self.step, value)])
        self._step(loss)
        if self.step % CONTROL_EVERY == 0:
            self._control_step(batch, [view.detach() for view in views], words)
        self.step += 1
        return value

    def _words(self, text: Tensor) -> Words:
        """The words of these texts of the split, [M]; with gradient where they are trained."""
        if self.known_words is not None:
            return self.known_words.select(text)
        texts = [self.train_data.texts[number] for number in text.tolist()]
        return self.text_encoder.words(self.text_encoder.tokenize(texts).to(self.device))

    def _loss(
        self, head: LimitrHead, views: list[View], words: Words, batch: Batch, allowed: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The loss, and the mean of the bounds in it, in nats.

        Raises:
            NoNegativesError: a text of the batch has nothing to be compared with.
        """
        config = self.config
        nats = {
            name: infonce(GAMMA_SCORES * scores[batch.owner], allowed)
            for name, scores in self.scored(head, views, words).items()
        }
        weights = dict.fromkeys(nats, config.external_weight)
        weights["whole"] = 2 * config.global_weight
        loss = -sum((weights[name] * bound for name, bound in nats.items()), torch.zeros(()))
        if config.internal_weight:
            matched = [view.take(batch.owner.to(self.device)) for view in views]
            loss = loss + config.internal_weight * head.internal_loss(matched, words)
        return loss, torch.stack([*nats.values()]).mean().detach()

    def _step(self, loss: Tensor) -> None:
        optimisers = [self.optimiser, *([self.text_optimiser] if self.text_optimiser else [])]
        for optimiser in optimisers:
            optimiser.zero_grad()
        loss.backward()
        every = [*self._trained(), *self.text_encoder.parameters()]
        clip_grad_norm_(every, self.config.gradient_clip)
        for optimiser in optimisers:
            optimiser.step()

    def _control_step(self, batch: ViewBatch, views: list[View], words: Words) -> None:
        """The control sees the same features, with the texts shuffled."""
        shuffled, kept = batch.shuffled()
        there = kept.nonzero().flatten().to(words.mask.device)
        some = Words(words.vectors.detach()[there], words.mask[there])
        try:
            with autocast(self.device, self.dtype):
                allowed = self._allowed(shuffled, same_text=True)
                loss, _ = self._loss(self.control, views, some, shuffled, allowed)
        except NoNegativesError:
            return
        self.control_optimiser.zero_grad()
        loss.backward()
        clip_grad_norm_(self.control.parameters(), self.config.gradient_clip)
        self.control_optimiser.step()

    def _stateful(self) -> dict[str, Any]:
        parts: dict[str, Any] = {**self.networks(), "optimiser": self.optimiser}
        parts["control_optimiser"] = self.control_optimiser
        if self.text_optimiser is not None:
            parts["text_optimiser"] = self.text_optimiser
        return parts
