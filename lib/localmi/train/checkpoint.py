"""Checkpoints that survive a kill: written aside, then moved into place in one step."""

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from localmi.configuration import differences
from localmi.errors import CheckpointError, ConfigError, TrainingError, shortened
from localmi.files import whole_file
from localmi.train.config import TrainConfig

CHECKPOINT = "checkpoint.pt"  # in the folder of a run
ALWAYS_THERE = ("config", "data_hash", "step")
COMPUTED_IN = "computed_in"  # device and precision; checkpoints of earlier versions do not say


def save_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Write `state` to `path`; until it is whole, what stood there before stays.

    Raises:
        CheckpointError: it could not be written (disk full, folder gone); the last one stands.
    """
    try:
        with whole_file(path) as file:
            torch.save(state, file)
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
        CheckpointError: no such file, damaged, or something else.
    """
    if not path.is_file():
        raise CheckpointError(f"No checkpoint {path}. Set the path of one, or pretrain first.")
    try:
        if zipfile.is_zipfile(path):  # what torch.save has written since torch 1.6
            with zipfile.ZipFile(path) as archive:
                if archive.testzip() is not None:
                    raise ValueError("a checksum is wrong")  # torch.load would not notice
        with warnings.catch_warnings(action="ignore"):  # of torch about files of another kind
            state = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # on random bytes an unpickler raises whatever it likes
        raise CheckpointError(
            f"Checkpoint {path} cannot be read ({type(error).__name__}): it is damaged, or holds "
            "more than tensors and plain values. Put back a copy; of a model of your own, save "
            "the state_dict, not the model itself."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise CheckpointError(
            f"{path} holds a {type(state).__name__}, not a state dict. Save model.state_dict()."
        )
    return state


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


def config_of(state: Mapping[str, Any], path: Path) -> TrainConfig:
    """The configuration in a checkpoint of ours.

    Raises:
        CheckpointError: this version does not know it.
    """
    try:
        return TrainConfig.of_record(state["config"])
    except (ConfigError, TypeError, AttributeError) as error:
        raise CheckpointError(f"Another version of localmi has written {path}. {error}") from error


def check_same_run(
    state: dict[str, Any], *, config: TrainConfig, data_hash: str, precision: str, path: Path
) -> None:
    """Refuse to go on with another configuration, in another precision, or with changed data.

    Args:
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
    if state["data_hash"] != data_hash:
        raise CheckpointError(
            f"The data changed since {path.name} was written (hash {state['data_hash'][:12]} "
            f"then, {data_hash[:12]} now). Restore them, or start a new run folder."
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
