"""A run of any method: where it computes, its batches, its steps, what it saves.

A method adds one step and what it changes (`_train_step`, `_stateful`), and what it reports
(`evaluate`). The loop around the steps is `localmi.train.loop`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from localmi.data.augment import Augmentation
from localmi.data.batches import Batch, Batches
from localmi.data.cache.cache import Cache
from localmi.data.labels import check_test_patients
from localmi.errors import NotFiniteError
from localmi.evaluate.held_out import BoundAndControl
from localmi.mi.scores import may_mismatch
from localmi.processes import join
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
from localmi.train.config import RunConfig
from localmi.train.device import choose_device, choose_dtype, computed_in, if_it_diverges

CONTROL_EVERY = 4  # steps between two of the control critic's
READ_EVERY = 10  # steps on a GPU between two readings of the bound, for which it has to be waited


class TrainingRun(ABC):
    """One run of a method: networks, optimisers, and the step number.

    Args:
        config: of the run.
        cache: the prepared data.

    Attributes:
        step: steps done.
        computed_in: device and precision, by name.
        augmentation: of the images; None: they stay as they are.
        processes: that compute together; `ALONE` unless torchrun has started several.
        train_data, batches: what it is trained on; the method sets them.
        workers: processes that load batches ahead of time; the numbers are the same without.

    Raises:
        ConfigError: the images of the cache have another size.
        StudyLeakError: a test patient is in another split.
    """

    train_data: Any  # `SplitData`, or what else has a manifest
    batches: Batches[Any]
    workers: int = 0
    records_hash: str = ""  # of the patients' records, where they are read
    augmentation: Augmentation | None = None

    def __init__(self, config: RunConfig, cache: Cache) -> None:
        cache.check_image_size(config.image_size)
        check_test_patients(cache.manifest)
        self.config = config
        self.cache = cache
        self.device = choose_device(config.device)
        self.processes = join(self.device)
        self.dtype = choose_dtype(config.precision, self.device)
        self.computed_in = computed_in(self.device, self.dtype)
        self.step = 0

    @abstractmethod
    def _train_step(self, batch: Any) -> Tensor | None:
        """As `train_step`; the value is still on its device, None where the batch was skipped."""

    @abstractmethod
    def _stateful(self) -> dict[str, Any]:
        """What training changes, by the name in a checkpoint."""

    @abstractmethod
    def evaluate(self, data: Any) -> BoundAndControl:
        """What the method reports of a split, in nats, and its control."""

    def share_statistics(self) -> None:  # noqa: B027, most methods have nothing to share
        """Where each process has statistics of its own, all get the mean of them."""

    def train_step(self, batch: Any = None) -> float:
        """One gradient step on the batch of this step; the value of the bound on it, in nats.

        NaN, and no step, where the batch has nothing to compare: one study, or texts that all read
        the same.
        """
        (_, nats), *_ = self._read([(self.step, self._train_step(batch))])
        return nats

    def _allowed(self, batch: Batch, *, same_text: bool) -> Tensor:
        """`may_mismatch` of a batch, [M, M]."""
        study = batch.image_study[batch.owner]
        return may_mismatch(study, batch.text_study, batch.text, same_text=same_text)

    def augmented(self, pixels: Tensor, purpose: int = 1) -> Tensor:
        """Images [b, 1, H, W] of this process, each moved anew, as this step says."""
        if self.augmentation is None:
            return pixels
        generator = torch.Generator().manual_seed(self.step_seed(purpose))
        among = self.config.batch_size
        first = self.processes.share(among).start
        return self.augmentation(pixels, generator, among=among, first=first)

    def step_seed(self, purpose: int) -> int:
        """A seed of its own for every (seed, step, purpose)."""
        purpose = purpose if purpose >= 0 else 1 - purpose  # dropout: 0, -1, ...; augmentation: 1
        sequence = np.random.SeedSequence([self.config.seed, self.step, purpose])
        return int(sequence.generate_state(1, np.uint64)[0] >> 1)

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
        advice = if_it_diverges(self.config.learning_rate, self.dtype)
        check_weights(self._weights(), self.step, advice)
        write(
            {
                "config": self.config.as_record(),
                "data_hash": self.cache.data_hash,
                "records_hash": self.records_hash,
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
            records_hash=self.records_hash,
            precision=self.computed_in["precision"],
            path=path,
        )
        restore(self._stateful(), state, path=path)
        self.step = state["step"]

    def _weights(self) -> dict[str, Tensor]:
        """All weights that a checkpoint holds."""
        networks = {
            name: part for name, part in self._stateful().items() if isinstance(part, nn.Module)
        }
        return nn.ModuleDict(networks).state_dict()


def in_parts(rows: np.ndarray, at_once: int) -> list[np.ndarray]:
    """Rows, so many at a time; one part without any where there are none."""
    return np.array_split(rows, -(-len(rows) // at_once) or 1)
