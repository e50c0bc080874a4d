"""Representation learning, Eq. 2: one training step from its equations, in plain torch.

    batch -> encoders -> critic -> max over regions -> bound -> gradient step

A step depends on (config, data, step number, weights) alone: batch, augmentation and dropout draw
from streams seeded by the step. A checkpoint therefore needs no sampler or random state, and a run
that was killed goes on to the same numbers. The loop around the step is `localmi.train.loop`.
"""

import functools
from typing import Any

import torch
from torch import Tensor

from localmi.data.batches import Batch, SplitData, TrainingBatches, normalise
from localmi.data.cache.cache import Cache
from localmi.errors import NoNegativesError
from localmi.mi.critics import Critic
from localmi.model.text import TokenTable
from localmi.processes import MAKING_SECONDS
from localmi.ranks import rank_here
from localmi.train.config import TrainConfig
from localmi.train.device import autocast
from localmi.train.optimisers import (
    annealed_temperature,
    control_optimiser,
    image_optimiser,
    text_optimiser,
)
from localmi.train.scoring import ScoringNetworks
from localmi.train.text_features import TrainingTexts
from localmi.train.training_run import CONTROL_EVERY


class Pretraining(ScoringNetworks):
    """One run of representation learning: networks, optimisers, and the step number.

    Beside the critic a second one, of the same build, is trained on the same features with the
    texts of the batch shuffled: the control. There is nothing for it to find, so on held-out
    shuffled pairs its bound must be 0.

    Of several processes each has its share of the images and the texts of a batch, and all have
    the same [M, M] scores, weights and numbers: see `localmi.processes`.

    Args:
        config: of the run.
        cache: the prepared data.
        workers: processes that load batches ahead of time; the numbers are the same without.

    Attributes: as `ScoringNetworks`.

    Taught in 07_train_local_mi.
    """

    def __init__(self, config: TrainConfig, cache: Cache, *, workers: int = 0) -> None:
        super().__init__(config, cache)
        self.train_data = SplitData(cache, "train", unit=self.objective.unit)
        self.batches = TrainingBatches(
            self.train_data,
            size=config.batch_size,
            seed=config.seed,
            every=config.sentences == "all",
            several=config.sentences_drawn if config.sentences == "several" else 1,
            pixels_of=self.processes.share(config.batch_size),
        )
        self.workers = workers
        if self.estimator.blind_to_constant:  # no gradient: Adam would move it by chance
            for constant in self.alignment.critic.constants():
                constant.requires_grad_(False)
        self.image_optimiser = image_optimiser(config, self.alignment)
        self.text_optimiser = text_optimiser(config, self.alignment.text_encoder)
        self.control_optimiser = control_optimiser(config, self.control, every=CONTROL_EVERY)
        self.frozen_texts: Tensor | None = None
        if config.text_is_frozen:
            self.frozen_texts = self.encode_texts(self.train_data.texts)
            self.processes.meet("the first step")  # of many texts some may take minutes longer

    @functools.cached_property
    def tokens(self) -> TokenTable:
        """The word pieces of the training texts; made when they are first asked for."""
        return self.text_features.tokens(self.train_data.texts)

    @functools.cached_property
    def training_texts(self) -> TrainingTexts:
        """z^R of the training texts, as a step needs it; made in the first step, for which nobody
        has to be as fast as for others. What is kept of them one process of a machine makes."""
        made = TrainingTexts(
            self.text_features, self.train_data.texts, self.tokens, config=self.config
        )
        if rank_here() == 0:
            _ = made.kept
        self.processes.meet("what is kept of the texts", MAKING_SECONDS)
        _ = made.kept
        self.processes.meet("the first step")
        return made

    # --- The step ---

    def _train_step(self, batch: Batch | None) -> Tensor | None:
        """As `train_step`; the value is still on its device, None where the batch was skipped.

        No bound where equal texts are left out (`same_text_is_mismatch=False`: some .1 nats too
        high), or a report counts as often as it has sentences (`sentences="all"`).
        """
        batch = self.batches[self.step] if batch is None else batch
        if self.config.shuffle_pairs:
            batch, _ = batch.shuffled()
        allowed = self._allowed(batch, same_text=self.config.same_text_is_mismatch)  # [M, M]
        if not allowed.any():
            self.step += 1
            return None
        self.alignment.train()
        self.control.train()
        pixels = batch.images.to(self.device, non_blocking=True)
        pixels = self.augmented(normalise(pixels))  # [B, 1, H, W]
        torch.manual_seed(self.step_seed(-self.processes.rank))  # of dropout
        with autocast(self.device, self.dtype):
            images = self.objective.image_features(self.alignment.image_encoder, pixels)
            texts = self._text_features(batch.text)  # z^I [B, N, D] above, z^R [M, E] here
            scores = self._scores(self.alignment.critic, images, texts, batch.owner)  # Eq. 5
        try:
            value, bound = self.estimator(scores, allowed)  # Eq. 3 or 4, in nats
        except NoNegativesError:  # some texts have others to compare with, some have none
            self.step += 1
            return None
        if self.device.type == "cpu":  # a GPU would have to be waited for
            self._read([(self.step, value)])
        optimisers = self.image_optimiser, self.text_optimiser
        for optimiser in optimisers:
            optimiser.zero_grad()
        (-bound).backward()  # Eq. 2: encoders and critic climb the bound together
        self.processes.mean_gradients(self.alignment)
        for optimiser in optimisers:
            optimiser.step()
        if self.step % CONTROL_EVERY == 0:
            self._control_step(batch, images.detach(), texts.detach())
        self.step += 1
        return value

    def _text_features(self, text: Tensor) -> Tensor:
        """z^R of these texts of the split, [M] -> [M, E]; each process encodes its share."""
        if self.frozen_texts is not None:
            return self.frozen_texts[text]
        holders = self.processes.holders(len(text))
        own = text[holders == self.processes.rank]
        return self.processes.gather(self.training_texts(own), holders)

    def _scores(self, critic: Critic, images: Tensor, texts: Tensor, owner: Tensor) -> Tensor:
        """[M, M], the matched pairs on the diagonal; each process scores its own images.

        With several sentences [B, B], of images and sets: a set is a text like any other, scored
        by the sum over its sentences, and drawn without a look at the image. So what is maximised
        is a bound on I(image; set).
        """
        sizes: list[int] = []  # of the sets
        if self.config.sentences == "several":
            owner, counts = owner.unique_consecutive(return_counts=True)
            sizes = counts.tolist()
        holders = self.processes.holders(self.config.batch_size)[owner]  # of each row, [M]
        rows = (holders == self.processes.rank).nonzero().flatten()
        first = self.processes.share(self.config.batch_size).start
        own = self.objective.scores(
            critic,
            images,
            texts,
            owner[rows] - first,
            matched=rows,
            temperature=annealed_temperature(self.config, self.step),
        )
        if sizes:
            own = torch.stack([one.sum(dim=1) for one in own.split(sizes, dim=1)], dim=1)
        return self.processes.gather(own, holders, alike=True)

    def _allowed(self, batch: Batch, *, same_text: bool) -> Tensor:
        """Of a batch, or of its sets."""
        pairs = batch.in_sets() if self.config.sentences == "several" else batch
        return super()._allowed(pairs, same_text=same_text)

    def _control_step(self, batch: Batch, images: Tensor, texts: Tensor) -> None:
        """The control critic sees the same features, with the texts shuffled."""
        shuffled, kept = batch.shuffled()
        with autocast(self.device, self.dtype):
            scores = self._scores(self.control, images, texts[kept], shuffled.owner)
        allowed = self._allowed(shuffled, same_text=True)
        try:
            bound = self.control_estimator.maximised(scores, allowed)
        except NoNegativesError:  # two studies, shuffled, leave no third one to compare with
            return
        self.control_optimiser.zero_grad()
        (-bound).backward()
        self.processes.mean_gradients(self.control)
        self.control_optimiser.step()

    def _stateful(self) -> dict[str, Any]:
        """What training changes: not a text encoder that stays as it was loaded."""
        parts: dict[str, Any] = {
            "image_encoder": self.alignment.image_encoder,
            "critic": self.alignment.critic,
            "control": self.control,
            "image_optimiser": self.image_optimiser,
            "control_optimiser": self.control_optimiser,
            "mine": self.estimator,
        }
        if not self.estimator.row.free_constant:
            parts["control_mine"] = self.control_estimator
        if not self.config.text_is_frozen:
            parts["text_encoder"] = self.alignment.text_encoder
            parts["text_optimiser"] = self.text_optimiser
        return parts
