"""The loop around the step: train, look at the validation split, keep a checkpoint.

One loop for every method, notebook, script and number of processes: whatever is a `Run` can be
fitted. Taught in 07_train_local_mi.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from localmi.data.batches import SplitData
from localmi.errors import CheckpointError, TrainingError
from localmi.evaluate.held_out import SplitResult
from localmi.record import MetricsLog
from localmi.train.checkpoint import CHECKPOINT


class Run(Protocol):
    """What can be fitted; `step` counts what is done."""

    step: int

    @property
    def config(self) -> Any: ...  # with `steps` and `evaluate_every`
    def run(self) -> Iterator[tuple[int, float]]: ...  # (step, nats), NaN: it was skipped
    def evaluate(self, data: SplitData) -> SplitResult: ...
    def save(self, path: Path) -> None: ...
    def load(self, path: Path) -> None: ...


def fit(
    training: Run, validate: SplitData, *, run_dir: Path | None = None, resume: bool = False
) -> MetricsLog:
    """All steps of a run, with a look at the validation split every `evaluate_every`.

    Nothing is chosen by what the looks find: the model is that of the last step.

    Args:
        training: is trained to its last step.
        validate: the split that is looked at.
        run_dir: where `metrics.jsonl` and, at each look, `checkpoint.pt` are written; or None.
        resume: go on from the checkpoint in `run_dir`.

    Returns:
        By step: "training" (nats of the batch, no bound: see `train_step`), or "skipped", 1, where
        a batch had nothing to compare; at each look "held_out", "low", "high", "cap" and
        "shuffled".

    Raises:
        CheckpointError: nothing to resume from, another run's checkpoint, or a full disk.
        TrainingError: the bound is not a number, or no batch had texts that differ.
    """
    if resume:
        if run_dir is None:
            raise CheckpointError("Nothing to resume from: name the run_dir of the run.")
        training.load(run_dir / CHECKPOINT)
    log = MetricsLog(run_dir, resume_at=training.step)
    steps = training.config.steps
    bar = tqdm(training.run(), total=steps, initial=training.step, desc="steps")
    for _, nats in bar:
        done = training.step
        log.write(done, **({"skipped": 1} if math.isnan(nats) else {"training": nats}))
        if done % training.config.evaluate_every == 0 or done == steps:
            found = training.evaluate(validate)
            bound = found.held_out.bound
            log.write(done, held_out=bound.value, low=bound.low, high=bound.high)
            log.write(done, shuffled=found.shuffled.bound.value, cap=found.held_out.cap)
            bar.set_postfix(held_out=str(bound), shuffled=str(found.shuffled.bound))
            if run_dir:
                training.save(run_dir / CHECKPOINT)
    if not log.column("training")[0]:
        raise TrainingError(
            f"None of the {steps} batches had texts that differ: nothing was trained. Begin anew "
            "with a larger batch_size."
        )
    return log
