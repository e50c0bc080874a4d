"""Classifiers on top of pretrained encoders: image-only, frozen, tuned, or a linear probe.

    labelled images -> frozen blocks (once) -> trained blocks and fc1 -> masked loss -> step
    each epoch: AUC on the validation split; its best epoch predicts the test split, once

A run depends on (config, data, number of threads) alone. Taught in 08_downstream_tasks.
"""

import copy
import functools
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from localmi.data.augment import Augmentation
from localmi.data.batches import GROUP_BYTES, epoch_order, normalise
from localmi.data.cache.cache import Cache
from localmi.downstream.config import DownstreamConfig
from localmi.downstream.network import build_classifier, class_weights, origin, task_loss
from localmi.downstream.pretrained_encoder import PretrainedEncoder, initial_encoder
from localmi.downstream.probe import fit_probe
from localmi.downstream.result import DownstreamResult, Fitted, store_result, stored_result
from localmi.downstream.tasks import LabelledImages, labelled_images, mean_auc
from localmi.errors import TrainingError
from localmi.mi.recompute import sum_dtype
from localmi.record import MetricsLog
from localmi.train.checkpoint import check_weights
from localmi.train.device import (
    autocast,
    choose_device,
    choose_dtype,
    computed_in,
    if_it_diverges,
)

AT_ONCE = 128  # images, where there is no gradient


def run_downstream(
    cache: Cache, config: DownstreamConfig, run_dir: Path | None = None
) -> DownstreamResult:
    """Trains one variant on one task, selects it on validation, and predicts the test split.

    Args:
        cache: the prepared data, with the labels of the task.
        config: of the run.
        run_dir: folder of this run alone, made if need be; a finished run is read from there, not
            repeated. None keeps nothing.

    Raises:
        StudyLeakError: a test patient of either task is in training or validation.
        DataError: labels are missing, or a split has none.
        CheckpointError: `init` is not an encoder that fits.
        ConfigError: image_size is not that of the data, or `run_dir` holds another run.
        TrainingError: the loss is not a number, or there is nothing to learn or select from.

    Source: paper, Sec. 4. Taught in 08_downstream_tasks.
    """
    cache.check_image_size(config.image_size)
    if run_dir is not None:
        run_dir.mkdir(parents=True, exist_ok=True)
        if known := stored_result(run_dir, cache, config):
            return known
    start = time.perf_counter()
    encoder = initial_encoder(config)
    parts = labelled_images(cache, config)
    training = Finetuning(cache, config, parts, encoder)
    if config.mode == "probe":
        features = {split: training.features(split) for split in parts}
        fitted = fit_probe(config.task, features, parts)
    else:
        fitted = training.fit(MetricsLog(run_dir))
    return store_result(
        run_dir,
        cache=cache,
        config=config,
        started_from=origin(encoder, training.network, cache),
        encoder=encoder,
        parts=parts,
        fitted=fitted,
        seconds=time.perf_counter() - start,
        computed_in=training.computed_in,
    )


class Finetuning:
    """The training of one classifier.

    Args:
        cache: the prepared data.
        config: of the run.
        parts: the labelled images of each split; for `features` and `probabilities` of a split,
            it alone will do.
        encoder: what it starts from; None: image-only.

    Attributes:
        network: after `fit`, with the weights of the best epoch.
        computed_in: device and precision, by name.

    Taught in 08_downstream_tasks.
    """

    def __init__(
        self,
        cache: Cache,
        config: DownstreamConfig,
        parts: Mapping[str, LabelledImages],
        encoder: PretrainedEncoder | None,
    ) -> None:
        self.cache, self.config, self.parts = cache, config, parts
        self.device = choose_device(config.device)
        self.dtype = choose_dtype(config.precision, self.device)
        self.computed_in = computed_in(self.device, self.dtype)
        self.network = build_classifier(config, encoder).to(self.device)
        self.augmentation = Augmentation() if config.augment else None
        self._stored: dict[str, Tensor] = {}

    @functools.cached_property
    def targets(self) -> Tensor:
        """Of the training images: [n, C]."""
        return torch.from_numpy(self.parts["train"].targets).to(self.device)

    @functools.cached_property
    def mask(self) -> Tensor:
        """Which of them count: [n, C]."""
        return torch.from_numpy(self.parts["train"].mask).to(self.device)

    @functools.cached_property
    def weights(self) -> Tensor | None:
        """Of positives, or of the grades; None: all weigh the same."""
        if not self.config.class_weights:
            return None
        return class_weights(self.config.task, self.targets, self.mask)

    def fit(self, log: MetricsLog) -> Fitted:
        """All epochs; the best of them by validation AUC predicts the test split."""
        trained = [part for part in self.network.parameters() if part.requires_grad]
        optimiser = torch.optim.AdamW(
            trained,
            lr=self.config.learning_rate,
            weight_decay=self.config.weight_decay,
            fused=True,
        )
        best_auc, best_epoch, best = -1.0, 0, {}
        for epoch, losses in self._epochs(optimiser):
            auc = mean_auc(
                self.config.task, self.parts["validate"], self.probabilities("validate")
            )
            log.write(epoch, train_loss=float(np.mean(losses)), validation_auc=auc)
            if auc > best_auc:
                best_auc, best_epoch = auc, epoch
                best = copy.deepcopy(self.network.state_dict())
        self.network.load_state_dict(best)
        return Fitted(
            chosen={"epoch": best_epoch},
            validation_auc=best_auc,
            history=log.rows,
            probabilities=self.probabilities("test"),
        )

    def _epochs(self, optimiser: torch.optim.Optimizer) -> Iterator[tuple[int, list[float]]]:
        """(1, losses of its steps), (2, ...), ..."""
        number = len(self.parts["train"])
        size = min(self.config.batch_size, number)
        in_a_pass = number // size
        steps = self.config.steps_per_epoch or in_a_pass
        at_once = GROUP_BYTES // self.cache.image_size**2
        losses: list[float] = []
        for step in range(steps * self.config.epochs):
            turn, position = divmod(step, in_a_pass)
            if position == 0:
                rng = np.random.default_rng([self.config.seed, turn])
                order = epoch_order(number, rng, at_once=at_once)
            index = order[position * size : (position + 1) * size]
            losses.append(self._step(optimiser, index, step))
            if len(losses) == steps:
                check_weights(self.network.state_dict(), step + 1, self._advice())
                yield (step + 1) // steps, losses
                losses = []

    def _step(self, optimiser: torch.optim.Optimizer, index: np.ndarray, step: int) -> float:
        """One gradient step on these training images; the loss on them."""
        self.network.train()
        with autocast(self.device, self.dtype):
            scores = self.network.trained_scores(self._inputs("train", index, step))
        chosen = torch.from_numpy(index).to(self.device)
        loss = task_loss(
            self.config.task,
            scores.to(sum_dtype(scores)),
            self.targets[chosen],
            self.mask[chosen],
            self.weights,
        )
        if not torch.isfinite(loss):
            raise TrainingError(f"The loss is {loss.item()} at step {step}. {self._advice()}")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        return loss.item()

    def _advice(self) -> str:
        return if_it_diverges(self.config.learning_rate, self.dtype)

    def _inputs(self, split: str, index: np.ndarray, step: int | None = None) -> Tensor:
        """What the trained blocks take; `step` for training images, which may be augmented."""
        if self.network.frozen_blocks and not (self.augmentation and split == "train"):
            return self._stored_features(split)[torch.from_numpy(index).to(self.device)]
        return self._frozen(split, index, step)

    @torch.no_grad()
    def _frozen(self, split: str, index: np.ndarray, step: int | None = None) -> Tensor:
        """What the frozen blocks make of these images."""
        rows = self.parts[split].rows["index_in_cache"].to_numpy()[index]
        pixels = normalise(torch.from_numpy(self.cache.images[rows]).to(self.device))
        if self.augmentation and step is not None:
            seed = np.random.SeedSequence([self.config.seed, step]).generate_state(1)[0]
            pixels = self.augmentation(pixels, torch.Generator().manual_seed(int(seed)))
        with autocast(self.device, self.dtype):
            return self.network.frozen_features(pixels)

    def _stored_features(self, split: str) -> Tensor:
        """Of every labelled image of a split, [n, w, h, w]: computed once, and kept in memory.

        Block 5 at 256 pixels takes 32 kB an image, in bfloat16 half of it.
        """
        if split not in self._stored:
            parts = [self._frozen(split, index) for index in self._chunks(split)]
            self._stored[split] = torch.cat(parts)
        return self._stored[split]

    def _chunks(self, split: str) -> list[np.ndarray]:
        number = len(self.parts[split])
        return np.array_split(np.arange(number), -(-number // AT_ONCE))

    def features(self, split: str, *, grid: int = 0) -> np.ndarray:
        """Features of a linear probe: the frozen blocks, pooled as for `fc1`: [n, P].

        In float64, as the probe computes: in float32 its probabilities sum to 1 to 7 digits.

        Args:
            grid: 0, or the map that the last frozen block gives is averaged in grid x grid cells,
                whose vectors stand one after the other by channel: [n, C * grid * grid].
        """
        block, backbone = self._stored_features(split).double(), self.network.backbone
        if grid:
            cells = functional.adaptive_avg_pool2d(backbone.local_map(block), grid)
            return cells.flatten(1).cpu().numpy()
        return backbone.pool(block).cpu().numpy()

    @torch.no_grad()
    def probabilities(self, split: str) -> np.ndarray:
        """[n, C] of the labelled images of a split."""
        self.network.eval()
        parts = []
        for index in self._chunks(split):
            with autocast(self.device, self.dtype):
                scores = self.network.trained_scores(self._inputs(split, index))
            parts.append(scores)
        scores = torch.cat(parts).double()
        found = scores.softmax(dim=1) if self.config.task == "edema" else scores.sigmoid()
        return found.cpu().numpy()
