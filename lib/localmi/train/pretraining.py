"""Representation learning, Eq. 2: one training step from its equations, in plain torch.

    batch -> encoders -> critic -> max over regions -> bound -> gradient step

A step depends on (config, data, step number, weights) alone: batch, augmentation and dropout draw
from streams seeded by the step. A checkpoint therefore needs no sampler or random state, and a run
that was killed goes on to the same numbers. The loop around the step is `localmi.train.loop`.
"""

import functools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from localmi.data.augment import Augmentation
from localmi.data.batches import Batch, SplitData, TrainingBatches, normalise
from localmi.data.cache.cache import Cache
from localmi.data.labels import check_test_patients
from localmi.errors import NoNegativesError, NotFiniteError
from localmi.mi.critics import Critic
from localmi.mi.scores import may_mismatch
from localmi.model.text import TokenTable
from localmi.processes import MAKING_SECONDS
from localmi.ranks import rank_here
from localmi.record import keeps_record
from localmi.train.checkpoint import (
    COMPUTED_IN,
    Write,
    check_same_run,
    check_weights,
    load_last_whole,
    restore,
    save_checkpoint,
)
from localmi.train.config import TrainConfig
from localmi.train.device import autocast, if_it_diverges
from localmi.train.optimisers import (
    annealed_temperature,
    control_optimiser,
    image_optimiser,
    text_optimiser,
)
from localmi.train.scoring import ScoringNetworks
from localmi.train.text_features import TrainingTexts

CONTROL_EVERY = 4  # steps between two of the control critic's
READ_EVERY = 10  # steps on a GPU between two readings of the bound, for which it has to be waited


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

    Attributes: as `ScoringNetworks`, and
        step: steps done.

    Taught in 07_train_local_mi.
    """

    def __init__(self, config: TrainConfig, cache: Cache, *, workers: int = 0) -> None:
        cache.check_image_size(config.image_size)
        check_test_patients(cache.manifest)
        super().__init__(config, cache)
        self.cache = cache
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
        self.text_optimiser = text_optimiser(config, self.alignment)
        self.control_optimiser = control_optimiser(config, self.control, every=CONTROL_EVERY)
        self.augmentation = Augmentation(crop=config.smallest_crop) if config.augment else None
        self.frozen_texts: Tensor | None = None
        if config.text_is_frozen:
            self.frozen_texts = self.encode_texts(self.train_data.texts)
            self.processes.meet("the first step")  # of many texts some may take minutes longer
        self.step = 0

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

    def train_step(self, batch: Batch | None = None) -> float:
        """One gradient step on the batch of this step; the value of the bound on it, in nats.

        No bound where equal texts are left out (`same_text_is_mismatch=False`: some .1 nats too
        high), or a report counts as often as it has sentences (`sentences="all"`). NaN, and no
        step, where the batch has nothing to compare: one study, or texts that all read the same.
        """
        (_, nats), *_ = self._read([(self.step, self._train_step(batch))])
        return nats

    def _train_step(self, batch: Batch | None) -> Tensor | None:
        """As `train_step`; the value is still on its device, None where the batch was skipped."""
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
        pixels = self._augmented(normalise(pixels))  # [B, 1, H, W]
        torch.manual_seed(_step_seed(self.config.seed, self.step, purpose=-self.processes.rank))
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

    def _augmented(self, pixels: Tensor) -> Tensor:
        if self.augmentation is None:
            return pixels
        seed = _step_seed(self.config.seed, self.step, purpose=1)
        among = self.config.batch_size
        first = self.processes.share(among).start
        generator = torch.Generator().manual_seed(seed)
        return self.augmentation(pixels, generator, among=among, first=first)

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
        """`may_mismatch` of a batch, or of its sets."""
        pairs = batch.in_sets() if self.config.sentences == "several" else batch
        study = pairs.image_study[pairs.owner]
        return may_mismatch(study, pairs.text_study, pairs.text, same_text=same_text)

    def _read(self, values: list[tuple[int, Tensor | None]]) -> list[tuple[int, float]]:
        """The bounds of some steps in nats: all that they copy from the device.

        Raises:
            TrainingError: one is not a number.
        """
        found = [value for _, value in values if value is not None]
        numbers = iter(torch.stack(found).tolist() if found else [])
        read = [(step, math.nan if value is None else next(numbers)) for step, value in values]
        for (step, value), (_, nats) in zip(values, read, strict=True):
            if value is not None and not math.isfinite(nats):
                advice = if_it_diverges(self.config.learning_rate, self.dtype)
                rows = self.batches.rows(step)
                stored = self.train_data.manifest["index_in_cache"].to_numpy()[rows].tolist()
                told = f"The bound is {nats} at step {step}. {advice}"
                raise NotFiniteError(told, step=step, rows=stored)
        return read

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

    def run(self, until: int | None = None) -> Iterator[tuple[int, float]]:
        """Train to step `until` (default: all steps); yields (step, training bound in nats), NaN
        where the batch was skipped.

        On a GPU the bounds of `READ_EVERY` steps are read at once, and at each look.

        Raises:
            TrainingError: the bound is not a number; names the step.
        """
        end = self.config.steps if until is None else until
        at_once = READ_EVERY if self.device.type == "cuda" else 1
        values: list[tuple[int, Tensor | None]] = []
        pin = self.device.type == "cuda"
        for batch in self.batches.steps(self.step, end, workers=self.workers, pin=pin):
            values.append((self.step, self._train_step(batch)))
            looks = self.step % self.config.evaluate_every == 0
            if len(values) == at_once or looks or self.step == end:
                yield from self._read(values)
                values = []

    # --- Checkpoints ---

    def save(self, path: Path | str, write: Write = save_checkpoint) -> None:
        """Write everything that a later `load` needs to go on to the same numbers.

        Of several processes the first one writes; the others wait for it.

        Args:
            path: of the newest checkpoint, see `save_checkpoint`.
            write: what writes the state to it: at once, or beside the training.

        Raises:
            TrainingError: weights that are not numbers, of which the bound does not tell before
                the next step; the checkpoint before stays. Or the first process has not written.
            CheckpointError: it could not be written.
        """
        self.share_statistics()
        if keeps_record():
            self._save(Path(path), write)
        self.processes.meet(f"the checkpoint of step {self.step}")

    def _save(self, path: Path, write: Write) -> None:
        networks = self.alignment.state_dict() | self.control.state_dict(prefix="control.")
        check_weights(networks, self.step, if_it_diverges(self.config.learning_rate, self.dtype))
        write(
            {
                "config": self.config.as_record(),
                "data_hash": self.cache.data_hash,
                "step": self.step,
                COMPUTED_IN: self.computed_in,
                **{name: part.state_dict() for name, part in self._stateful().items()},
            },
            path,
        )

    def load(self, path: Path | str) -> None:
        """Go on from a checkpoint of the same configuration on the same data.

        Raises:
            CheckpointError: missing, all damaged, of another run or version, or the data changed.
        """
        state, path = load_last_whole(Path(path), map_location=self.device)
        check_same_run(
            state,
            config=self.config,
            data_hash=self.cache.data_hash,
            precision=self.computed_in["precision"],
            path=path,
        )
        restore(self._stateful(), state, path=path)
        self.step = state["step"]

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


def _step_seed(seed: int, step: int, *, purpose: int) -> int:
    """A seed of its own for every (seed, step, purpose)."""
    purpose = purpose if purpose >= 0 else 1 - purpose  # dropout: 0, -1, ...; augmentation: 1
    return int(np.random.SeedSequence([seed, step, purpose]).generate_state(1, np.uint64)[0] >> 1)
