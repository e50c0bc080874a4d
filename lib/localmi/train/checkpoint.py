"""Checkpoints that survive a kill: written aside, then moved into place in one step.

The one before stays beside it, so that a damaged one costs the steps between two, not the run.
"""

import os
import warnings
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from localmi.configuration import differences
from localmi.errors import (
    CheckpointError,
    ConfigError,
    TrainingError,
    machine_failed,
    shortened,
)
from localmi.files import patiently, whole_file
from localmi.train.checkpoint_files import (
    KEEP,
    by_age,
    going_on_from,
    is_whole,
    kept_before,
    last_whole,
    name_by_step,
)
from localmi.train.config import RunConfig, TrainConfig
from localmi.train.limitr_config import LimitrConfig
from localmi.train.msn_config import MsnConfig

ALWAYS_THERE = ("config", "data_hash", "step")
METHODS: Mapping[str, type[RunConfig]] = {
    "": TrainConfig,
    "limitr": LimitrConfig,
    "msn": MsnConfig,
}
Write = Callable[[dict[str, Any], Path], None]  # of a state to a path
COMPUTED_IN = "computed_in"  # device and precision; checkpoints of earlier versions do not say


def save_checkpoint(state: dict[str, Any], path: Path, *, keep: int = KEEP) -> None:
    """Write the checkpoint of a run; of those before it the last are kept, by their step.

    Killed at any moment, it leaves a whole one. One that is damaged, or of a later step (the run
    fell back, or began anew), has to go when the new one stands, and is not counted.

    Args:
        state: with its "step".
        path: of the newest; those before lie beside it: see `checkpoint_files`.
        keep: checkpoints in all, the newest among them.

    Raises:
        CheckpointError: as `write_state`.
    """
    step = state["step"]
    write_state(state, path, before=lambda: _keep_old(path, step))
    if _step_of(path) == step:  # it can be opened
        kept = kept_before(path)
        last = [old for old in kept if old < step][: keep - 1]
        for old in kept.keys() - last:
            with suppress(OSError):
                kept[old].unlink()


def _keep_old(path: Path, step: int) -> None:
    """A second name for the checkpoint that one of this step is about to replace."""
    old = _step_of(path) if is_whole(path) else None
    if old is None or old >= step:
        return
    name_by_step(path, old).unlink(missing_ok=True)
    try:
        os.link(path, name_by_step(path, old))
    except OSError as error:
        if machine_failed(error):
            raise
        os.replace(path, name_by_step(path, old))  # this disk has no links


def _step_of(path: Path) -> int | None:
    """Of a checkpoint, without reading its tensors; None where it cannot be opened."""
    try:
        return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["step"])
    except Exception:  # see `read_state`
        return None


def write_state(
    state: dict[str, Any], path: Path, *, before: Callable[[], None] = lambda: None
) -> None:
    """Write `state` to `path`, patiently; until it is whole, what stood there before stays.

    Args:
        before: see `whole_file`.

    Raises:
        CheckpointError: it could not be written (disk full, folder gone); the last one stands.
    """

    def write() -> None:
        with whole_file(path, before=before) as file:
            try:
                torch.save(state, file)
            except RuntimeError as error:  # torch fails again in closing what it could not write
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise

    try:
        patiently(write, f"{path.name} could not be written")
    except (OSError, RuntimeError) as error:
        kept = "The one before it is untouched." if path.exists() else "There was none before it."
        raise CheckpointError(
            f"Checkpoint {path.name} could not be written: {error}. {kept} "
            "Free some disk space and start again with --resume."
        ) from error


def check_weights(weights: Mapping[str, torch.Tensor], step: int, advice: str) -> None:
    """Raises TrainingError where some are not numbers, which the bound tells only a step later."""
    if spoilt := [name for name, values in weights.items() if not values.isfinite().all()]:
        names = ", ".join(shortened(spoilt))
        raise TrainingError(
            f"After step {step} there are weights that are not numbers, in {names}. {advice}"
        )


def read_state(path: Path, *, map_location: torch.device | str = "cpu") -> dict[str, Any]:
    """A dictionary of tensors and plain values from a file; no code of the file is run.

    Raises:
        CheckpointError: no such file, damaged, or something else; names the checkpoint before it,
            where that one is whole.
    """
    if not path.is_file():
        raise CheckpointError(
            f"No checkpoint {path}. Set the path of one, or pretrain first.{_instead(path)}"
        )
    try:
        # What torch.save has written since torch 1.6 is an archive; is_whole reads no other.
        if zipfile.is_zipfile(path) and not is_whole(path):
            raise ValueError("a checksum is wrong")
        with warnings.catch_warnings(action="ignore"):  # of torch about files of another kind
            state = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # on random bytes an unpickler raises whatever it likes
        raise CheckpointError(
            f"Checkpoint {path} cannot be read ({type(error).__name__}): it is damaged, or holds "
            "more than tensors and plain values. Put back a copy; of a model of your own, save "
            f"the state_dict, not the model itself.{_instead(path)}"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise CheckpointError(
            f"{path} holds a {type(state).__name__}, not a state dict. Save model.state_dict()."
        )
    return state


def _instead(path: Path) -> str:
    """For an error: which checkpoint before this one is whole."""
    whole = last_whole(list(kept_before(path).values()))
    return f" The one before it is whole: {whole}." if whole else ""


def is_ours(state: Mapping[str, Any]) -> bool:
    """Whether a file was written by `save_checkpoint` for a run, or is an export of one."""
    return all(name in state for name in ALWAYS_THERE)


def load_checkpoint(path: Path, *, map_location: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint of a run.

    Raises:
        CheckpointError: there is none, it is damaged, or not one of ours.
    """
    if not path.is_file():
        raise CheckpointError(
            f"No checkpoint {path.name} in {path.parent}. Start without resuming."
        )
    state = read_state(path, map_location=map_location)
    if not is_ours(state):
        missing = [name for name in ALWAYS_THERE if name not in state]
        raise CheckpointError(
            f"Checkpoint {path} is not one of ours: it does not hold {', '.join(missing)}. "
            "Remove it and start anew, or put back a copy."
        )
    return state


def load_last_whole(
    newest: Path, *, map_location: torch.device | str = "cpu"
) -> tuple[dict[str, Any], Path]:
    """The newest checkpoint of a run that is whole, and which it is; says so, if an earlier one.

    Raises:
        CheckpointError: as `load_checkpoint`, of the newest, where all are damaged.
    """
    errors = []
    for path in by_age(newest) or [newest]:
        try:
            state = load_checkpoint(path, map_location=map_location)
        except CheckpointError as error:
            errors.append(error)
            continue
        if said := going_on_from(path, newest):
            print(said, flush=True)
        return state, path
    raise errors[0]


def config_of(state: Mapping[str, Any], path: Path) -> RunConfig:
    """The configuration in a checkpoint of ours: of the method that wrote it.

    Raises:
        CheckpointError: this version does not know it.
    """
    try:
        return METHODS[state["config"].get("method", "")].of_record(state["config"])
    except (ConfigError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"Another version of localmi has written {path}. {error}") from error


def check_same_run(
    state: dict[str, Any],
    *,
    config: RunConfig,
    data_hash: str,
    records_hash: str = "",
    precision: str,
    path: Path,
) -> None:
    """Refuse to go on with another configuration, in another precision, or with changed data.

    Args:
        records_hash: of the patients' records, where the run reads them.
        precision: that the run would go on in. "auto" is what each machine is fast in, so what it
            was is compared, where the checkpoint knows.

    Raises:
        CheckpointError: names every parameter that differs, says that the data did, or that
            another version has written it.
    """
    then, now = config_of(state, path).as_record(), config.as_record()
    advice = "Resume with the same parameters, or start a new run folder."
    if COMPUTED_IN in state:
        was = state[COMPUTED_IN]["precision"]
        then, now = then | {"precision": was}, now | {"precision": precision}
        if was != precision:
            advice += (
                f' "auto" is the precision that a machine is fast in; {was} can be set on any: '
                f"-p precision {was}."
            )
    if changed := differences(then, now):
        raise CheckpointError(
            f"{path.name} belongs to a run with other parameters:\n  "
            + "\n  ".join(changed)
            + f"\n{advice}"
        )
    records_then = state.get("records_hash", "")
    for what, was, is_now in (
        ("data", state["data_hash"], data_hash),
        ("patients' records", records_then, records_hash),
    ):
        if was != is_now:
            raise CheckpointError(
                f"The {what} changed since {path.name} was written (hash {was[:12] or 'none'} "
                f"then, {is_now[:12] or 'none'} now). Restore them, or start a new run folder."
            )


def restore(parts: Mapping[str, Any], state: Mapping[str, Any], *, path: Path) -> None:
    """Give every part (network, optimiser, ...) its own state back.

    Raises:
        CheckpointError: a part is not in the checkpoint, or its state does not fit.
    """
    for name, part in parts.items():
        try:
            part.load_state_dict(state[name])
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"{path.name}: the state of {name!r} is missing or does not fit. Another version "
                "of localmi has written it; resume with that version, or start a new run folder."
            ) from error
