"""Checkpoints that survive a kill: written aside, then moved into place in one step."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from localmi.errors import CheckpointError
from localmi.files import whole_file
from localmi.train.config import differences

ALWAYS_THERE = ("config", "data_hash", "step")


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


def load_checkpoint(path: Path, *, map_location: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a checkpoint; tensors and plain values only, no code is run.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    if not path.is_file():
        raise CheckpointError(
            f"No checkpoint {path.name} in {path.parent}. Start without resuming."
        )
    try:
        return _read(path, map_location)
    except Exception as error:  # on random bytes an unpickler raises whatever it likes
        raise CheckpointError(
            f"Checkpoint {path} cannot be read ({type(error).__name__}): it is damaged or not one "
            "of ours. Remove it and start anew, or put back a copy."
        ) from error


def _read(path: Path, map_location: torch.device | str) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:  # which is what torch.save writes
        if archive.testzip() is not None:
            raise ValueError("a checksum is wrong")  # torch.load would not notice
    state: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
    if missing := [name for name in ALWAYS_THERE if name not in state]:
        raise ValueError(f"it does not hold {missing}")
    return state


def check_same_run(
    state: dict[str, Any], *, config: dict[str, Any], data_hash: str, path: Path
) -> None:
    """Refuse to go on with another configuration or with changed data.

    Raises:
        CheckpointError: names every parameter that differs, or says that the data did.
    """
    if changed := differences(state["config"], config):
        raise CheckpointError(
            f"{path.name} belongs to a run with other parameters:\n  "
            + "\n  ".join(changed)
            + "\nResume with the same parameters, or start a new run folder."
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
