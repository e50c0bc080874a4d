"""The loop around the step: train, look at the validation split, keep a checkpoint.

One loop for every method, notebook, script and number of processes: whatever is a `Run` can be
fitted. Taught in 07_train_local_mi.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from localmi.errors import CheckpointError, NotFiniteError, StoppedError, TrainingError
from localmi.evaluate.held_out import BoundAndControl
from localmi.files import write_json
from localmi.processes import Processes
from localmi.record import MetricsLog, keeps_record
from localmi.train.checkpoint import Write
from localmi.train.checkpoint_files import CHECKPOINT
from localmi.train.checkpoint_writer import beside_training
from localmi.train.stop import noticed

NOT_FINITE = "not_finite.json"  # in the folder of a run: the batch whose bound is not a number


class Run(Protocol):
    """What can be fitted; `step` counts what is done."""

    step: int

    @property
    def processes(self) -> Processes: ...
    @property
    def config(self) -> Any: ...  # with `steps` and `evaluate_every`
    def run(self) -> Iterator[tuple[int, float]]: ...  # (step, nats), NaN: it was skipped
    def evaluate(self, data: Any) -> BoundAndControl: ...
    def save(self, path: Path, write: Write = ...) -> None: ...
    def load(self, path: Path) -> None: ...


def fit(
    training: Run, validate: Any, *, run_dir: Path | None = None, resume: bool = False
) -> MetricsLog:
    """All steps of a run, with a look at the validation split every `evaluate_every`.

    Nothing is chosen by what the looks find: the model is that of the last step. With a run folder
    SIGTERM and Ctrl-C end the step, save, and stop. Checkpoints are written while the steps go on;
    when this returns, or says that it has saved, the last one is whole.

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
        CheckpointError: nothing to resume from, another run's checkpoint, or a full disk, of which
            a later step may be the first to know.
        TrainingError: the bound is not a number (then `not_finite.json` in `run_dir` says of which
            images), or no batch had texts that differ.
        StoppedError: it was asked to stop, and has saved.
    """
    if resume:
        if run_dir is None:
            raise CheckpointError("Nothing to resume from: name the run_dir of the run.")
        training.load(run_dir / CHECKPOINT)
    log = MetricsLog(run_dir, resume_at=training.step)
    steps = training.config.steps
    bar = tqdm(training.run(), total=steps, initial=training.step, desc="steps")
    with (
        noticed() if run_dir else nullcontext(bool) as asked_to_stop,
        kept_batch(run_dir),
        beside_training(training.processes) as checkpoints,
    ):
        for step, nats in bar:
            checkpoints.check()
            done = step + 1
            log.write(done, **({"skipped": 1} if math.isnan(nats) else {"training": nats}))
            look = done % training.config.evaluate_every == 0 or done == steps
            if look:
                found = training.evaluate(validate)
                bound = found.held_out.bound
                log.write(done, held_out=bound.value, low=bound.low, high=bound.high)
                log.write(done, shuffled=found.shuffled.bound.value, cap=found.held_out.cap)
                bar.set_postfix(held_out=str(bound), shuffled=str(found.shuffled.bound))
            if not run_dir or done < training.step:
                continue
            stop = training.processes.any(asked_to_stop())
            if look or stop:
                training.save(run_dir / CHECKPOINT, checkpoints.save_checkpoint)
            if stop:
                checkpoints.finish()
                raise StoppedError(f"Stopped as asked at step {done} of {steps}, and saved.")
    if not log.column("training")[0]:
        raise TrainingError(
            f"None of the {steps} batches had texts that differ: nothing was trained. Begin anew "
            "with a larger batch_size."
        )
    return log


@contextmanager
def kept_batch(run_dir: Path | None) -> Iterator[None]:
    """Where a bound is not a number, the run folder says of which step, and of which images."""
    try:
        yield
    except NotFiniteError as error:
        if run_dir and keeps_record():
            write_json({"step": error.step, "rows_of_the_cache": error.rows}, run_dir / NOT_FINITE)
        raise
