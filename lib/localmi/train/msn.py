"""Masked siamese networks, with or without the patient's record, and their baselines: one run.

    batch (images, records) -> crops -> networks -> loss -> gradient step -> moving average

As in `localmi.train.pretraining`, a step depends on (config, data, step number, weights) alone.
Source: see `localmi.model.msn`. Taught in 12_records.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from localmi.data.batches import normalise
from localmi.data.cache.cache import Cache
from localmi.data.crops import Crops
from localmi.data.unpaired import ImageBatch, ImageBatches, ImageData
from localmi.errors import ConfigError, TrainingError
from localmi.evaluate.assignments import HeldOutAssignments, known_mean
from localmi.evaluate.held_out import BoundAndControl, HeldOutBound
from localmi.model.mae import Mae
from localmi.model.msn import entropy
from localmi.model.siamese import Dino, Siamese, Step, ViewsOfImage
from localmi.names import RecordOf, Split
from localmi.statistics import Interval, partners
from localmi.train.device import autocast
from localmi.train.msn_config import MsnConfig
from localmi.train.optimisers import Scheduled, scheduled
from localmi.train.readers import OTHER, SHUFFLED, Readers, cross_entropies
from localmi.train.training_run import TrainingRun, in_parts

METHOD = "method"  # the reader that is trained with the encoder
COLLAPSED = 0.02  # share of log K that the entropy of the mean assignment must have
ALIKE = (
    0.01  # share of log K that whoever knew the assignments must know, in the run's second half
)
AT_ONCE = 64  # images in a look


class MsnPretraining(TrainingRun):
    """One run on images, and on records where there are some.

    Args:
        config: of the run.
        cache: the prepared data; its test and validation patients are not trained on.
        workers: processes that load batches ahead of time; the numbers are the same without.

    Attributes: as `TrainingRun`, and
        method: the networks that are trained.
        readers: those beside them; None for MAE, which assigns nothing.

    Raises:
        ConfigError: several processes, which this method has not.
    """

    config: MsnConfig

    def __init__(self, config: MsnConfig, cache: Cache, *, workers: int = 0) -> None:
        super().__init__(config, cache)
        if self.processes.size > 1:
            raise ConfigError(
                f"{self.processes.size} processes: a siamese network is trained by one. Start it "
                "without launch or torchrun."
            )
        self.train_data = self.data("train")
        self.batches = ImageBatches(self.train_data, size=config.batch_size, seed=config.seed)
        self.workers = workers
        self.records_hash = cache.records_hash if config.record else ""
        torch.manual_seed(config.seed)
        self.method = self._new_method(self.train_data.records.shape[1]).to(self.device)
        self.optimiser = self._optimiser()
        self.readers: Readers | None = None
        if isinstance(self.method, Siamese):
            dim, record_dim = self.method.encoder.pooled_dim, self.train_data.records.shape[1]
            self.readers = Readers(dim, record_dim=record_dim).to(self.device)
            readers = AdamW(self.readers.parameters(), lr=config.learning_rate, weight_decay=0.0)
            self.readers_optimiser = self._scheduled(readers)
        self.crops = Crops(
            full=config.image_size,
            focal=config.focal_size,
            num_focal=config.focal_views,
            full_scale=config.full_scale,
            focal_scale=config.focal_scale,
            flip=config.flip,
        )

    def data(self, split: Split, *, record_of: RecordOf | None = None) -> ImageData:
        """A split as this run takes it."""
        return ImageData(
            self.cache,
            split,
            views=self.config.views,
            record=self.config.record,
            record_of=record_of or self.config.record_of,
        )

    def _new_method(self, record_dim: int) -> Siamese | Mae:
        config = self.config
        encoder = config.new_image_encoder()
        if config.objective == "mae":
            return Mae(encoder, image_size=config.image_size, mask=config.mask)
        how: dict[str, Any] = {
            "prototypes": config.prototypes,
            "mask": config.mask,
            "mask_focal": config.mask_focal,
            "temperature": config.temperature,
            "sharpening": config.sharpening,
            "train_prototypes": config.train_prototypes,
        }
        if config.objective == "dino":
            return Dino(encoder, centre_momentum=config.centre_momentum, **how)
        return Siamese(
            encoder,
            record_dim=record_dim,
            fuse_from_identity=config.fuse_from_identity,
            iterations=config.sinkhorn,
            mean_entropy_weight=config.mean_entropy_weight,
            **how,
        )

    def _optimiser(self) -> Scheduled:
        """AdamW; matrices decay, but for prototypes, [CLS] and places."""
        kept = ("prototypes.weight", "class_token", "pos_embedding", "hidden", "place")
        decayed: list[nn.Parameter] = []
        plain: list[nn.Parameter] = []
        for name, one in self.method.named_parameters():
            if one.requires_grad:
                (plain if one.ndim < 2 or name.endswith(kept) else decayed).append(one)
        groups = [
            {"params": decayed, "weight_decay": self.config.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        return self._scheduled(AdamW(groups, lr=self.config.learning_rate, fused=True))

    def _scheduled(self, optimiser: AdamW) -> Scheduled:
        config = self.config
        return scheduled(
            optimiser, steps=config.steps, warm_up=config.warm_up, end=config.learning_rate_end
        )

    def momentum(self, step: int) -> float:
        """What the average keeps of itself at a step: from `ema` to `ema_end`, linearly."""
        share = step / max(1, self.config.steps - 1)
        return self.config.ema + share * (self.config.ema_end - self.config.ema)

    def _generator(self, purpose: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.step_seed(purpose))

    def _train_step(self, batch: ImageBatch | None) -> Tensor:
        batch = self.batches[self.step] if batch is None else batch
        self.method.train()
        pixels = normalise(batch.images.to(self.device, non_blocking=True))
        views = ViewsOfImage(*self.crops(pixels, self._generator(1)))
        record = batch.record.to(self.device) if self.config.record else None
        with autocast(self.device, self.dtype):
            done = self.method.loss(views, record, self._generator(2))
        if self.device.type == "cpu":  # a GPU would have to be waited for
            self._read([(self.step, done.value)])
        self.optimiser.zero_grad()
        done.loss.backward()
        clip_grad_norm_(self.method.parameters(), self.config.gradient_clip)
        self.optimiser.step()
        if self.readers is not None:
            self._read_along(self.readers, done, batch)
        self.method.after_step(self.momentum(self.step))
        self.step += 1
        return done.value

    def _read_along(self, readers: Readers, done: Step, batch: ImageBatch) -> None:
        """One step of the readers."""
        assert done.features is not None
        assert done.log_q is not None
        readers.train()
        with autocast(self.device, self.dtype):
            said = self._said(readers, done.features, batch.record, batch.patient)
            each = cross_entropies(said, done.log_q).values()
            loss = torch.stack([one.mean() for one in each]).sum()
        self.readers_optimiser.zero_grad()
        loss.backward()
        self.readers_optimiser.step()

    def _said(
        self, readers: Readers, features: Tensor, record: Tensor, patient: Tensor
    ) -> dict[str, Tensor]:
        """The logits of all readers, [B, K] each."""
        assert isinstance(self.method, Siamese)
        other = torch.from_numpy(partners(patient.numpy())).to(self.device)
        return readers.logits(features, record.to(self.device), other, self.method.prototypes)

    # --- What it says of a split ---

    def evaluate(self, data: ImageData) -> BoundAndControl:
        """The held-out bound of the method, in nats, beside that of the readers of other patients;
        of MAE the share of the variance of hidden patches, from the image and from another one.

        Raises:
            TrainingError: all images have the same prototype, or, when half of the steps are made,
                the same assignment.
        """
        if isinstance(self.method, Mae):
            own, other = (self._painted(data, shuffled=shuffled) for shuffled in (False, True))
            return BoundAndControl(_held(own, 1.0, data), _held(other, 1.0, data))
        found = self.assignments(data)
        half = self.step >= self.config.steps / 2  # new networks find all images alike
        told = ""
        if found.entropy < COLLAPSED * found.cap:
            told = f"prototype: the entropy of the mean assignment is {found.entropy:.3f}"
        elif half and found.ceiling < ALIKE * found.cap:
            told = f"assignment: whoever knew it would know {found.ceiling:.4f}"
        if told:
            raise TrainingError(
                f"All images have nearly the same {told} nats, of log {len(found.mean)} = "
                f"{found.cap:.2f}. The networks have collapsed. Begin anew with sinkhorn and "
                "mean_entropy_weight above 0 (of DINO centre_momentum), sharpening well below 1, "
                "or a lower learning_rate."
            )
        seed = self.config.seed
        return BoundAndControl(
            _held(found.nats(METHOD, seed=seed), found.cap, data),
            _held(found.nats(SHUFFLED, seed=seed), found.cap, data),
        )

    @torch.no_grad()
    def assignments(self, data: ImageData, *, rounds: int = 2) -> HeldOutAssignments:
        """The prototypes of a split's images, and what the method and each reader say of them.

        Args:
            rounds: views that are drawn of each image; the same ones at each look.

        Raises:
            ConfigError: of MAE, which assigns nothing.
        """
        if not isinstance(self.method, Siamese) or self.readers is None:
            raise ConfigError("objective='mae' assigns no prototypes: nothing can be read.")
        self.method.eval()
        self.readers.eval()
        number = len(data)
        mean, own = np.zeros(self.config.prototypes), 0.0
        found: dict[str, np.ndarray] = {}
        for turn in range(rounds):
            generator = torch.Generator().manual_seed(turn)
            for index in _looks(number):
                batch = data.batch(index)
                with autocast(self.device, self.dtype):
                    log_q, said = self._look(self.method, self.readers, batch, generator)
                q = log_q.exp()
                mean += q.sum(dim=0).cpu().numpy() / number / rounds
                own += float(entropy(q).sum()) / number / rounds
                for name, each in cross_entropies(said, log_q).items():
                    nats = each.cpu().numpy() / rounds
                    if name in (OTHER, SHUFFLED):
                        nats[_without_another(data.patient[index])] = np.nan
                    found.setdefault(name, np.zeros(number))[index] += nats
        return HeldOutAssignments(mean, own, found, data.manifest["patient_id"].to_numpy())

    def _look(
        self, method: Siamese, readers: Readers, batch: ImageBatch, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """log q of the targets, and the logits of all that say something of them."""
        pixels = normalise(batch.images.to(self.device))
        views = ViewsOfImage(*self.crops(pixels, generator))
        features = method.features(views.anchor, generator)
        record = batch.record.to(self.device) if self.config.record else None
        said = self._said(readers, features, batch.record, batch.patient)
        said[METHOD] = method.prototypes(method.projection(features, record))
        return method.assignment(views.target), said

    @torch.no_grad()
    def _painted(self, data: ImageData, *, shuffled: bool) -> Interval:
        """The share of the variance of hidden patches that MAE paints."""
        assert isinstance(self.method, Mae)
        self.method.eval()
        generator = torch.Generator().manual_seed(0)
        shares = np.zeros(len(data))
        for index in _looks(len(data)):
            pixels = normalise(data.images(index).to(self.device))
            seen = pixels[partners(data.patient[index])] if shuffled else pixels
            with autocast(self.device, self.dtype):
                shares[index] = self.method.shares(seen, pixels, generator).cpu().numpy()
            if shuffled:
                shares[index[_without_another(data.patient[index])]] = np.nan
        patient = data.manifest["patient_id"].to_numpy()
        return known_mean(shares, patient, seed=self.config.seed)

    def _stateful(self) -> dict[str, Any]:
        """The networks, and the encoder that is used afterwards once more, by its usual name."""
        parts: dict[str, Any] = {
            "image_encoder": nn.ModuleDict({"backbone": self.method.learnt}),
            METHOD: self.method,
            "optimiser": self.optimiser,
        }
        if self.readers is not None:
            parts |= {"readers": self.readers, "readers_optimiser": self.readers_optimiser}
        return parts


def _looks(number: int) -> list[np.ndarray]:
    """The rows of each look, in no order: where rows stand by patients, a look has several."""
    return in_parts(np.random.default_rng(0).permutation(number), AT_ONCE)


def _without_another(patient: np.ndarray) -> np.ndarray:
    """Which rows have no partner of another patient: bool [n]."""
    alone: np.ndarray = patient[partners(patient)] == patient
    return alone


def _held(bound: Interval, cap: float, data: ImageData) -> HeldOutBound:
    return HeldOutBound(bound, cap=cap, batch_size=len(data), rounds=1)
