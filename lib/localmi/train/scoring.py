"""What the networks of a run say of a split: scores of regions and texts, the held-out bound."""

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from localmi.data.augment import Augmentation
from localmi.data.batches import SplitData, normalise
from localmi.data.cache.cache import Cache
from localmi.errors import ConfigError, NoNegativesError
from localmi.evaluate.held_out import SplitResult, SplitScores, best_region, held_out_bound
from localmi.mi.critics import Critic
from localmi.mi.estimators import EstimatorInTraining
from localmi.model.batch_norm import synchronise
from localmi.names import Bound
from localmi.train.config import TrainConfig
from localmi.train.device import autocast
from localmi.train.networks import build_alignment, compute_as_configured, objective_of
from localmi.train.text_features import TextFeatures
from localmi.train.training_run import TrainingRun, in_parts

PAIRS_AT_ONCE = 2**19  # regions x texts in a look: the paper's critic needs 3 GB for them on a GPU
# Of a critic, features [b, N, D] and texts [t, E]: [b, any, t].
Look = Callable[[Critic, Tensor, Tensor], Tensor]


class ScoringNetworks(TrainingRun):
    """The networks of a configuration, on a device, and what they say of images and texts.

    Attributes: as `TrainingRun`, and
        alignment: image encoder, text encoder, critic.
        control: a second critic of the same build, for the shuffled pairs.

    Raises:
        ConfigError: a batch has fewer images than there are processes, or several would compile.
        TrainingError: they have not begun alike.
    """

    config: TrainConfig

    def __init__(self, config: TrainConfig, cache: Cache) -> None:
        super().__init__(config, cache)
        if config.augment:
            self.augmentation = Augmentation(crop=config.smallest_crop)
        self.objective = objective_of(config)
        self.alignment = build_alignment(config, self.objective).to(self.device)
        if config.batch_statistics == "all":
            synchronise(self.alignment, self.processes, self.device)
        compute_as_configured(self.alignment.image_encoder, config)
        self.alignment.critic.processes = self.processes
        self.control = copy.deepcopy(self.alignment.critic)
        self.estimator = self._estimator(config.bound)
        # Where a constant added to all scores changes nothing, any critic of the control will do.
        free = self.estimator.row.free_constant
        self.control_estimator = self._estimator("infonce" if free else config.bound)
        self.text_features = TextFeatures(
            self.alignment.text_encoder,
            frozen=config.text_is_frozen,
            cache=cache.folder,
            dtype=self.dtype,
        )
        self._check_processes(cache)

    def _check_processes(self, cache: Cache) -> None:
        """Several processes begin with the same weights and data, and an image for each."""
        size, images = self.processes.size, self.config.batch_size
        if size == 1:
            return
        if images < size:
            raise ConfigError(
                f"batch_size={images} images for {size} processes: each needs one at least. Raise "
                "batch_size, or start fewer."
            )
        if self.config.compile:
            raise ConfigError(
                f"compile=True on {size} processes: BatchNorm then waits for others within the "
                "image encoder, and only one process was tested. Use compile=False."
            )
        self.processes.meet("the first step")  # some may have had data to read
        weights = sum(one.detach().double().sum().item() for one in self.alignment.parameters())
        start = torch.tensor([weights, int(cache.data_hash[:12], 16)], dtype=torch.float64)
        self.processes.check_equal(start, "start (weights, data)")

    def _estimator(self, name: Bound) -> EstimatorInTraining:
        config = self.config
        return EstimatorInTraining(name, direction=config.direction, decay=config.mine_decay)

    def share_statistics(self) -> None:
        """Where each process has BatchNorm statistics of its own, all get the mean of them."""
        if self.config.batch_statistics == "own":
            buffers = self.alignment.image_encoder.buffers()
            self.processes.mean_in_place(one for one in buffers if one.is_floating_point())

    def evaluate(self, data: SplitData, *, batch_size: int = 128, rounds: int = 50) -> SplitResult:
        """The held-out bound of a split by `score_split`, in nats, and the control.

        Of each image one text, however many a step takes, so that runs can be compared. What is
        reported is what the bound of the run reports (`mi.estimators`): a critic that was
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
        """Every image of a split against every distinct text of it, by the hard max over regions;
        a critic that was trained by attention, by the mean of that and of the attended regions.

        Of no region scores are held for longer than they are looked at.

        Returns:
            Scores of the critic, and of the control: the critic of the shuffled pairs.
        """
        self.share_statistics()
        size = len(data), len(data.texts)
        patient = data.manifest["patient_id"].to_numpy()
        own, control = (
            SplitScores(
                scores=torch.zeros(size),
                winners=torch.zeros(size, dtype=torch.int16),
                study=data.study,
                patient=patient,
                text_ids=data.text_ids,
            )
            for _ in range(2)
        )
        mine = np.arange(len(data))[self.processes.share(len(data))]
        features = self.encode_texts(data.texts)
        for part in in_parts(mine, images_at_once):
            both = self._scored(data.images(part), features, self._reported)
            for found, scores in zip((own, control), both, strict=True):
                found.scores[part], winners = scores.unbind(1)
                found.winners[part] = winners.to(torch.int16)
        for found in (own, control):  # each process has filled rows of its own
            self.processes.sum_in_place(found.scores)
            self.processes.sum_in_place(found.winners.view(torch.uint8))
        return own, control

    def split_scores(
        self, data: SplitData, texts: list[str], *, images_at_once: int = 32
    ) -> tuple[Tensor, Tensor]:
        """`region_scores` of all images of a split: twice [n, N, T], for few texts."""
        features, every = self.encode_texts(texts), np.arange(len(data))
        parts = in_parts(every, images_at_once)
        found = [self.region_scores(data.images(part), features) for part in parts]
        own, control = map(torch.cat, zip(*found, strict=True))
        return own, control

    def region_scores(self, images: Tensor, texts: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of every region of images with text features, without gradient.

        Args:
            images: [b, 1, H, W] uint8.
            texts: [T, E].

        Returns:
            [b, N, T] float32 of the critic, and of the control; N = 1 if the objective is global.
        """
        return self._scored(images, texts, lambda critic, *pair: critic(*pair))

    def _reported(self, critic: Critic, features: Tensor, texts: Tensor) -> Tensor:
        """[b, 2, t]: the scores that are reported, and the numbers of the regions that won."""
        scores = critic(features, texts).float()
        best, winners = best_region(scores)
        if self.config.region_select == "attention":  # what was trained is a bound, and no maximum
            best = critic.attend(features, texts, scores, best)
        return torch.stack([best, winners.to(best)], dim=1)

    @torch.no_grad()
    def _scored(self, images: Tensor, texts: Tensor, how: Look) -> tuple[Tensor, Tensor]:
        """`how` of these images and all texts, some at a time, by the critic and the control."""
        self.alignment.eval()
        self.control.eval()
        pixels = normalise(images.to(self.device))
        with autocast(self.device, self.dtype):
            features = self.objective.image_features(self.alignment.image_encoder, pixels)
            at_once = max(1, PAIRS_AT_ONCE // features.shape[:2].numel())
            own, control = (
                torch.cat(
                    [how(critic, features, some).float().cpu() for some in texts.split(at_once)],
                    -1,
                )
                for critic in (self.alignment.critic, self.control)
            )
        return own, control

    def encode_texts(self, texts: list[str]) -> Tensor:
        """Text features of many texts, [T, E], without gradient or dropout."""
        return self.text_features(texts)
