"""Representation learning, Eq. 2: one training step from its equations, in plain torch.

    batch -> encoders -> critic -> max over regions -> bound -> gradient step

A step depends on (config, data, step number, weights) alone: batch, augmentation and dropout draw
from streams seeded by the step. A checkpoint therefore needs no sampler or random state, and a run
that was killed goes on to the same numbers. The loop around the step is `localmi.train.loop`.
"""

import copy
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
from localmi.errors import NoNegativesError, TrainingError
from localmi.evaluate.held_out import SplitResult, SplitScores, best_region, held_out_bound
from localmi.mi.critics import Critic
from localmi.mi.estimators import EstimatorInTraining
from localmi.mi.scores import may_mismatch
from localmi.model.text import TokenTable
from localmi.names import Bound
from localmi.train.checkpoint import (
    COMPUTED_IN,
    check_same_run,
    check_weights,
    load_checkpoint,
    restore,
    save_checkpoint,
)
from localmi.train.config import TrainConfig
from localmi.train.device import autocast, choose_device, choose_dtype, computed_in, if_it_diverges
from localmi.train.networks import build_alignment, objective_of
from localmi.train.optimisers import (
    annealed_temperature,
    control_optimiser,
    image_optimiser,
    text_optimiser,
)
from localmi.train.text_features import TextFeatures

CONTROL_EVERY = 4  # steps between two of the control critic's
PAIRS_AT_ONCE = 2**19  # regions x texts in a look: the paper's critic needs 3 GB for them on a GPU


class Pretraining:
    """One run of representation learning: networks, optimisers, and the step number.

    Beside the critic a second one, of the same build, is trained on the same features with the
    texts of the batch shuffled: the control. There is nothing for it to find, so on held-out
    shuffled pairs its bound must be 0.

    Args:
        config: of the run.
        cache: the prepared data.
        workers: processes that load batches ahead of time; the numbers are the same without.

    Attributes:
        alignment: image encoder, text encoder, critic.
        control: the critic of the shuffled pairs.
        step: steps done.
        computed_in: device and precision, by name.

    Taught in 07_train_local_mi.
    """

    def __init__(self, config: TrainConfig, cache: Cache, *, workers: int = 0) -> None:
        cache.check_image_size(config.image_size)
        check_test_patients(cache.manifest)
        self.config = config
        self.cache = cache
        self.device = choose_device(config.device)
        self.dtype = choose_dtype(config.precision, self.device)
        self.computed_in = computed_in(self.device, self.dtype)
        self.objective = objective_of(config)
        self.train_data = SplitData(cache, "train", unit=self.objective.unit)
        self.batches = TrainingBatches(
            self.train_data,
            size=config.batch_size,
            seed=config.seed,
            every=config.sentences == "all",
        )
        self.workers = workers
        self.alignment = build_alignment(config, self.objective).to(self.device)
        self.control = copy.deepcopy(self.alignment.critic)
        self.estimator = self._estimator(config.bound)
        # Where a constant added to all scores changes nothing, any critic of the control will do.
        free = self.estimator.row.free_constant
        self.control_estimator = self._estimator("infonce" if free else config.bound)
        self.image_optimiser = image_optimiser(config, self.alignment)
        self.text_optimiser = text_optimiser(config, self.alignment)
        self.control_optimiser = control_optimiser(config, self.control, every=CONTROL_EVERY)
        self.augmentation = Augmentation(crop=config.smallest_crop) if config.augment else None
        self.text_features = TextFeatures(
            self.alignment.text_encoder,
            frozen=config.text_is_frozen,
            cache=cache.folder,
            dtype=self.dtype,
        )
        self.frozen_texts: Tensor | None = None
        if config.text_is_frozen:
            self.frozen_texts = self.encode_texts(self.train_data.texts)
        self.step = 0

    def _estimator(self, name: Bound) -> EstimatorInTraining:
        config = self.config
        return EstimatorInTraining(name, direction=config.direction, decay=config.mine_decay)

    @functools.cached_property
    def tokens(self) -> TokenTable:
        """The word pieces of the training texts; made when they are first asked for."""
        return self.text_features.tokens(self.train_data.texts)

    # --- The step ---

    def train_step(self, batch: Batch | None = None) -> float:
        """One gradient step on the batch of this step; the value of the bound on it, in nats.

        No bound where equal texts are left out (`same_text_is_mismatch=False`: some .1 nats too
        high), or a report counts as often as it has sentences (`sentences="all"`). NaN, and no
        step, where the batch has nothing to compare: one study, or texts that all read the same.
        """
        batch = self.batches[self.step] if batch is None else batch
        if self.config.shuffle_pairs:
            batch, _ = batch.shuffled()
        allowed = may_mismatch(
            batch.image_study[batch.owner],
            batch.text_study,
            batch.text,
            same_text=self.config.same_text_is_mismatch,
        )  # [M, M]
        if not allowed.any():
            return self._skipped()
        self.alignment.train()
        self.control.train()
        pixels = self._augmented(normalise(batch.images.to(self.device)))  # [B, 1, H, W]
        torch.manual_seed(_step_seed(self.config.seed, self.step, purpose=0))
        with autocast(self.device, self.dtype):
            images = self.objective.image_features(self.alignment.image_encoder, pixels)
            texts = self._text_features(batch)  # z^I [B, N, D] above, z^R [M, E] here
            scores = self._scores(self.alignment.critic, images, texts, batch.owner)  # Eq. 5
        try:
            value, bound = self.estimator(scores, allowed)  # Eq. 3 or 4, in nats
        except NoNegativesError:  # some texts have others to compare with, some have none
            return self._skipped()
        nats = self._finite(value)
        for optimiser in (self.image_optimiser, self.text_optimiser):
            optimiser.zero_grad()
        (-bound).backward()  # Eq. 2: encoders and critic climb the bound together
        for optimiser in (self.image_optimiser, self.text_optimiser):
            optimiser.step()
        if self.step % CONTROL_EVERY == 0:
            self._control_step(batch, images.detach(), texts.detach())
        self.step += 1
        return nats

    def _skipped(self) -> float:
        self.step += 1
        return math.nan

    def _augmented(self, pixels: Tensor) -> Tensor:
        if self.augmentation is None:
            return pixels
        seed = _step_seed(self.config.seed, self.step, purpose=1)
        return self.augmentation(pixels, torch.Generator().manual_seed(seed))

    def _text_features(self, batch: Batch) -> Tensor:
        """z^R of the batch's texts, [M, E]."""
        if self.frozen_texts is not None:
            return self.frozen_texts[batch.text]
        features: Tensor = self.alignment.text_encoder(
            self.tokens.select(batch.text).to(self.device)
        )
        return features

    def _scores(self, critic: Critic, images: Tensor, texts: Tensor, owner: Tensor) -> Tensor:
        """[M, M], the matched pairs on the diagonal."""
        temperature = annealed_temperature(self.config, self.step)
        return self.objective.scores(critic, images, texts, owner, temperature=temperature)

    def _finite(self, value: Tensor) -> float:
        """The bound in nats: all that a step copies from the device, which has to wait for it."""
        nats = value.item()
        if not math.isfinite(nats):
            advice = if_it_diverges(self.config.learning_rate, self.dtype)
            raise TrainingError(f"The bound is {nats} at step {self.step}. {advice}")
        return nats

    def _control_step(self, batch: Batch, images: Tensor, texts: Tensor) -> None:
        """The control critic sees the same features, with the texts shuffled."""
        shuffled, kept = batch.shuffled()
        with autocast(self.device, self.dtype):
            scores = self._scores(self.control, images, texts[kept], shuffled.owner)
        allowed = may_mismatch(
            shuffled.image_study[shuffled.owner],
            shuffled.text_study,
            shuffled.text,
            same_text=True,
        )
        try:
            bound = self.control_estimator.maximised(scores, allowed)
        except NoNegativesError:  # two studies, shuffled, leave no third one to compare with
            return
        self.control_optimiser.zero_grad()
        (-bound).backward()
        self.control_optimiser.step()

    def run(self, until: int | None = None) -> Iterator[tuple[int, float]]:
        """Train to step `until` (default: all steps); yields (step, training bound in nats), NaN
        where the batch was skipped.

        Raises:
            TrainingError: the bound is not a number; names the step.
        """
        end = self.config.steps if until is None else until
        for batch in self.batches.steps(self.step, end, workers=self.workers):
            yield self.step, self.train_step(batch)

    # --- What was learnt ---

    def evaluate(self, data: SplitData, *, batch_size: int = 128, rounds: int = 50) -> SplitResult:
        """The held-out bound of a split by the hard max over regions, in nats, and the control.

        What is reported is what the bound of the run reports (`mi.estimators`): a critic that was
        trained by MINE or DV is measured by DV, one trained by InfoNCE by InfoNCE.

        Taught in 07_train_local_mi.
        """
        scores, control = self.score_split(data)
        free = self.estimator.row.free_constant
        of_control = self.estimator if free else self.control_estimator
        try:
            held_out, shuffled = (
                held_out_bound(
                    found,
                    bound=estimator.name,
                    direction=estimator.direction,
                    log_baseline=estimator.log_baseline,
                    batch_size=batch_size,
                    rounds=rounds,
                    shuffled=is_control,
                    seed=self.config.seed,
                )
                for found, estimator, is_control in (
                    (scores, self.estimator, False),
                    (control, of_control, True),
                )
            )
        except NoNegativesError as error:
            raise NoNegativesError(f"Split {data.split!r}: {error} (batch_size)") from error
        return SplitResult(held_out=held_out, shuffled=shuffled, scores=scores)

    def score_split(
        self, data: SplitData, *, images_at_once: int = 32
    ) -> tuple[SplitScores, SplitScores]:
        """Every image of a split against every distinct text of it, by the hard max over regions.

        Of all regions only the scores of `images_at_once` images are held.

        Returns:
            Scores of the critic, and of the control: the critic of the shuffled pairs.
        """
        size = len(data), len(data.texts)
        patient = data.manifest["patient_id"].to_numpy()
        own, control = (
            SplitScores(
                scores=torch.empty(size),
                winners=torch.empty(size, dtype=torch.int16),
                study=data.study,
                patient=patient,
                text_ids=data.text_ids,
            )
            for _ in range(2)
        )
        for part, *both in self._scores_in_parts(data, data.texts, images_at_once):
            for found, scores in zip((own, control), both, strict=True):
                found.scores[part], found.winners[part] = best_region(scores)
        return own, control

    def split_scores(
        self, data: SplitData, texts: list[str], *, images_at_once: int = 32
    ) -> tuple[Tensor, Tensor]:
        """`region_scores` of all images of a split: twice [n, N, T], for few texts."""
        _, *found = zip(*self._scores_in_parts(data, texts, images_at_once), strict=True)
        own, control = map(torch.cat, found)
        return own, control

    def _scores_in_parts(
        self, data: SplitData, texts: list[str], images_at_once: int
    ) -> Iterator[tuple[np.ndarray, Tensor, Tensor]]:
        """Some images of a split at a time: their rows, and `region_scores` of them."""
        features = self.encode_texts(texts)
        for part in np.array_split(np.arange(len(data)), -(-len(data) // images_at_once)):
            yield part, *self.region_scores(data.images(part), features)

    @torch.no_grad()
    def region_scores(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of every region of images with text features, without gradient.

        Args:
            images: [b, 1, H, W] uint8.
            texts: [T, E].

        Returns:
            [b, N, T] float32 of the critic, and of the control; N = 1 if the objective is global.
        """
        self.alignment.eval()
        self.control.eval()
        pixels = normalise(images.to(self.device))
        with autocast(self.device, self.dtype):
            features = self.objective.image_features(self.alignment.image_encoder, pixels)
            at_once = max(1, PAIRS_AT_ONCE // features.shape[:2].numel())
            own, control = (
                torch.cat(
                    [critic(features, some).float().cpu() for some in texts.split(at_once)], -1
                )
                for critic in (self.alignment.critic, self.control)
            )
        return own, control

    def encode_texts(self, texts: list[str]) -> Tensor:
        """Text features of many texts, [T, E], without gradient or dropout."""
        return self.text_features(texts)

    # --- Checkpoints ---

    def save(self, path: Path) -> None:
        """Write everything that a later `load` needs to go on to the same numbers.

        Raises:
            TrainingError: weights that are not numbers, of which the bound does not tell before
                the next step; the checkpoint before stays.
            CheckpointError: it could not be written.
        """
        networks = self.alignment.state_dict() | self.control.state_dict(prefix="control.")
        check_weights(networks, self.step, if_it_diverges(self.config.learning_rate, self.dtype))
        save_checkpoint(
            {
                "config": self.config.as_record(),
                "data_hash": self.cache.data_hash,
                "step": self.step,
                COMPUTED_IN: self.computed_in,
                **{name: part.state_dict() for name, part in self._stateful().items()},
            },
            path,
        )

    def load(self, path: Path) -> None:
        """Go on from a checkpoint of the same configuration on the same data.

        Raises:
            CheckpointError: missing, damaged, of another run or version, or the data changed.
        """
        state = load_checkpoint(path, map_location=self.device)
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
    return int(np.random.SeedSequence([seed, step, purpose]).generate_state(1, np.uint64)[0] >> 1)
