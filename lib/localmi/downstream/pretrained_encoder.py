"""Image encoders from files: our checkpoints, bare state dicts, the public code's `model.pt`.

Whatever the file, what comes out are weights under the names of `ResNet256`, and how many of its
blocks were trained. Taught in 08_downstream_tasks.
"""

import functools
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from localmi.errors import CheckpointError, ConfigError
from localmi.model.classifier import NUM_BLOCKS, parts_of
from localmi.model.image import ResNet256
from localmi.train.checkpoint import ALWAYS_THERE
from localmi.train.config import TrainConfig, checked

STEM_KEY = "conv1.weight"  # of the image encoder; the blocks have one too, below "layerN.M."
COUNTER = "num_batches_tracked"  # of BatchNorm, which old versions of torch did not keep
NAMED = 12  # keys that an error names


@dataclass(frozen=True)
class PretrainedEncoder:
    """Weights of the first blocks of a `ResNet256`, and what is known of where they come from.

    weights: by `ResNet256`'s names, `conv1`, `bn1` and `layer1` ... `layer<blocks>`.
    blocks: how many were trained (1..6). The local objective trains the blocks up to its regions.
    grid, cells_after, local_stage: blocks `cells_after` + 1 ... `local_stage` saw one cell of the
        grid at a time; grid is 1 where they saw the whole image.
    image_size: of the images it was trained on, in pixels; 0: the file does not say.
    data_hash: of the data it was trained on; "": the file does not say.
    origin: objective and step, in words.
    not_used: what else the file holds, in words.
    """

    weights: Mapping[str, Tensor]
    blocks: int
    grid: int = 1
    cells_after: int = 0
    local_stage: int = 5
    image_size: int = 0
    data_hash: str = ""
    origin: str = "weights without a record of their training"
    not_used: tuple[str, ...] = ()

    def __str__(self) -> str:
        """What is loaded, and what starts anew."""
        rest = [str(number) for number in range(self.blocks + 1, NUM_BLOCKS + 1)]
        anew = f"blocks {', '.join(rest)} and fc1 start" if rest else "fc1 starts"
        words = f"{self.origin}: blocks 1 to {self.blocks} are loaded; {anew} anew"
        return words + (f"; not used: {', '.join(self.not_used)}" if self.not_used else "")


def load_image_encoder(path: Path | str) -> PretrainedEncoder:
    """The `resnet256_6_2_1` of a file, whichever of these it is; no code of the file is run.

    - a checkpoint of ours (`checkpoint.pt` of a run), or its export (`trained.export_networks`);
    - a state dict with the names of `ResNet256`, whole or from `conv1` up to some block;
    - a state dict of a model around it, as the public code's `model.pt`: all names begin with
      `image_model.` (or anything else; `module.` of DataParallel too); other parts are not used.

    Raises:
        CheckpointError: no such file, damaged, or no such network: lists the missing and
            unexpected names, or the shapes that do not fit.

    Taught in 08_downstream_tasks.
    """
    path = Path(path).expanduser()
    state = read_state(path)
    if all(name in state for name in ALWAYS_THERE):
        return _ours(state, path)
    weights, not_used = _unwrapped(state, path)
    blocks = _check_names(weights, path)
    return PretrainedEncoder(_of_blocks(weights, blocks, path), blocks, not_used=not_used)


def read_state(path: Path) -> dict[str, Any]:
    """A dictionary of tensors and plain values; no code of the file is run.

    Raises:
        CheckpointError: no such file, damaged, or something else.
    """
    if not path.is_file():
        raise CheckpointError(f"No checkpoint {path}. Set the path of one, or pretrain first.")
    try:
        if zipfile.is_zipfile(path):  # what torch.save has written since torch 1.6
            with zipfile.ZipFile(path) as archive:
                if archive.testzip() is not None:
                    raise ValueError("a checksum is wrong")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # on random bytes an unpickler raises whatever it likes
        raise CheckpointError(
            f"{path} cannot be read ({type(error).__name__}): it is damaged, or holds more than "
            "tensors and plain values. Save the state_dict of the model, not the model itself."
        ) from error
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise CheckpointError(
            f"{path} holds a {type(state).__name__}, not a state dict. Save model.state_dict()."
        )
    return state


def config_of(state: Mapping[str, Any], path: Path) -> TrainConfig:
    """The configuration in a checkpoint of ours.

    Raises:
        CheckpointError: this version does not know it.
    """
    try:
        return checked(**state["config"])
    except (ConfigError, TypeError) as error:
        raise CheckpointError(f"Another version of localmi has written {path}. {error}") from error


def _ours(state: dict[str, Any], path: Path) -> PretrainedEncoder:
    """From a checkpoint of `Pretraining`, whose configuration says what was trained."""
    config = config_of(state, path)
    if config.image_encoder != "resnet256_6_2_1":
        raise CheckpointError(
            f"{path} holds the image encoder {config.image_encoder!r}. Downstream classifiers "
            "are 'resnet256_6_2_1', as in the paper: pretrain that one."
        )
    weights, not_used = _unwrapped(state.get("image_encoder", {}), path)
    _check_names(weights, path)
    is_local = config.objective == "local"
    blocks = config.local_stage if is_local else NUM_BLOCKS
    return PretrainedEncoder(
        weights=_of_blocks(weights, blocks, path),
        blocks=blocks,
        grid=config.grid if is_local and config.region_context == "region" else 1,
        cells_after=config.cells_after,
        local_stage=config.local_stage,
        image_size=config.image_size,
        data_hash=state["data_hash"],
        origin=f"{config.objective} {config.bound}, step {state['step']}",
        not_used=not_used,
    )


def _unwrapped(state: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The names below the prefix of the image encoder, without it; and what is not below it."""
    ends = [name.removesuffix(STEM_KEY) for name in state if name.endswith(STEM_KEY)]
    prefixes = [prefix for prefix in ends if "layer" not in prefix]
    if len(prefixes) != 1 or not (prefixes[0] == "" or prefixes[0].endswith(".")):
        found = f"{len(prefixes)} networks that begin with" if prefixes else "no network with"
        raise CheckpointError(
            f"{path} has {found} {STEM_KEY}, and one image encoder is looked for.\n"
            + _differences(_expected(), state)
        )
    prefix = prefixes[0]
    inside = {
        name.removeprefix(prefix): value
        for name, value in state.items()
        if name.startswith(prefix)
    }
    others = sorted({name.split(".")[0] for name in state if not name.startswith(prefix)})
    return inside, tuple(others)


@functools.cache
def _expected() -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):  # new weights are drawn, and nobody else should know
        return ResNet256().state_dict()


def _check_names(weights: Mapping[str, Any], path: Path) -> int:
    """How many blocks there are, one after the other; refuses names and shapes of another net."""
    expected = _expected()
    blocks = NUM_BLOCKS
    while blocks and not any(name.startswith(f"layer{blocks}.") for name in weights):
        blocks -= 1
    needed = {
        name: value for name, value in expected.items() if name.split(".")[0] in parts_of(blocks)
    }
    missing = [name for name in needed if name not in weights and not name.endswith(COUNTER)]
    if not blocks or missing or any(name not in expected for name in weights):
        raise CheckpointError(
            f"{path} does not hold a resnet256_6_2_1.\n"
            + _differences(needed or expected, weights)
        )
    unfit = [
        f"{name} is {_shape(weights[name])}, must be {_shape(value)}"
        for name, value in needed.items()
        if name in weights and _shape(weights[name]) != _shape(value)
    ]
    if unfit:
        raise CheckpointError(
            f"{path} holds a network of other sizes than resnet256_6_2_1:\n  "
            + "\n  ".join(shortened(unfit))
        )
    return blocks


def _shape(value: Any) -> str:
    return str(list(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def _of_blocks(weights: Mapping[str, Tensor], blocks: int, path: Path) -> dict[str, Tensor]:
    """The weights of these blocks, in float32."""
    own = {
        name: value.float() if value.is_floating_point() else value
        for name, value in weights.items()
        if name.split(".")[0] in parts_of(blocks)
    }
    broken = [name for name, value in own.items() if not torch.isfinite(value).all()]
    if broken:
        raise CheckpointError(
            f"{path} has values that are not numbers in {', '.join(shortened(broken))}: the "
            "training has failed. Take an earlier checkpoint."
        )
    return own


def _differences(expected: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    missing = [name for name in expected if name not in found and not name.endswith(COUNTER)]
    unexpected = [name for name in found if name not in _expected()]
    return "\n".join(
        f"{len(names)} {word}: {', '.join(shortened(names)) or 'none'}."
        for word, names in (("missing", missing), ("unexpected", unexpected))
    )


def shortened(names: Iterable[str]) -> list[str]:
    """The first few of a long list."""
    names = list(names)
    return [*names[:NAMED], f"and {len(names) - NAMED} more"] if len(names) > NAMED else names
