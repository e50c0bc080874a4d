"""Image encoders from files: our checkpoints, bare state dicts, the public code's `model.pt`.

Whatever the file, what comes out are weights under the names of their backbone, and how many of
its blocks were trained. Taught in 08_downstream_tasks.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from localmi.downstream.config import RANDOM, DownstreamConfig
from localmi.errors import CheckpointError, shortened
from localmi.model.backbone import Backbone
from localmi.model.image import PAPERS, build_backbone
from localmi.train.checkpoint import config_of, is_ours, read_state
from localmi.train.config import PairsConfig, RunConfig, TrainConfig
from localmi.train.limitr_config import LimitrConfig
from localmi.train.msn_config import MsnConfig
from localmi.train.networks import objective_of

STEM_KEY = "conv1.weight"  # of the paper's encoder; the blocks have one too, below "layerN.M."
COUNTER = "num_batches_tracked"  # of BatchNorm, which old versions of torch did not keep


@dataclass(frozen=True)
class PretrainedEncoder:
    """Weights of the first blocks of a backbone, and what is known of where they come from.

    weights: by the backbone's names; of the paper's `conv1`, `bn1`, `layer1` ... `layer<blocks>`.
    blocks: how many were trained. The local objective trains the blocks up to its regions.
    architecture: name of the backbone, as `model.image.build_backbone` knows it.
    grid, cells_after, local_block: blocks `cells_after` + 1 ... `local_block` saw one cell of the
        grid at a time; grid is 1 where they saw the whole image.
    image_size: of the images it was trained on, in pixels; 0: the file does not say.
    data_hash: of the data it was trained on; "": the file does not say.
    objective, bound: that it was trained by; "": the file does not say. `RANDOM` and "": by none.
    step: that it was trained to.
    not_used: what else the file holds, in words.
    """

    weights: Mapping[str, Tensor]
    blocks: int
    architecture: str = PAPERS
    grid: int = 1
    cells_after: int = 0
    local_block: int = 5
    image_size: int = 0
    data_hash: str = ""
    objective: str = ""
    bound: str = ""
    step: int = 0
    not_used: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """Architecture, objective and step, in words."""
        if not self.objective:
            return "weights without a record of their training"
        network = "" if self.architecture == PAPERS else f"{self.architecture}, "
        if self.objective == RANDOM:
            return f"{network}random weights"
        return f"{network}{self.objective} {self.bound}, step {self.step}"

    def __str__(self) -> str:
        """What is loaded, and what starts anew."""
        last = _backbone(self.architecture, self.image_size).num_blocks
        rest = [str(number) for number in range(self.blocks + 1, last + 1)]
        anew = f"blocks {', '.join(rest)} and fc1 start" if rest else "fc1 starts"
        words = f"{self.origin}: blocks 1 to {self.blocks} are loaded; {anew} anew"
        return words + (f"; not used: {', '.join(self.not_used)}" if self.not_used else "")


def initial_encoder(config: DownstreamConfig) -> PretrainedEncoder | None:
    """What a run starts from, by its `init`: a file, random weights, or nothing.

    Random weights are those of blocks 1 to `frozen_blocks`, drawn by the seed: what a probe of a
    trained encoder has to beat.

    Raises:
        CheckpointError: as `load_image_encoder`.
        ConfigError: unknown `image_encoder`.
    """
    if not config.init:
        return None
    if config.init != RANDOM:
        return load_image_encoder(config.init)
    architecture = config.image_encoder or PAPERS
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        backbone = build_backbone(architecture, image_size=config.image_size)
    blocks = min(config.frozen_blocks, backbone.num_blocks)
    return PretrainedEncoder(
        _of_blocks(backbone.state_dict(), blocks, backbone, Path(RANDOM)),
        blocks,
        architecture,
        image_size=config.image_size,
        objective=RANDOM,
    )


def load_image_encoder(path: Path | str) -> PretrainedEncoder:
    """The image encoder of a file, whichever of these it is; no code of the file is run.

    - a checkpoint of ours (`checkpoint.pt` of a run), or its export (`localmi export`), of any
      architecture;
    - a state dict with the names of `ResNet256`, whole or from `conv1` up to some block;
    - a state dict of a model around it, as the public code's `model.pt`: all names begin with
      `image_model.` (or anything else; `module.` of DataParallel too); other parts are not used;
    - a checkpoint that holds such a state dict, as `state_dict`, `model` or by any other name.

    Raises:
        CheckpointError: no such file, damaged, or no such network: lists the missing and
            unexpected names, or the shapes that do not fit.

    Taught in 08_downstream_tasks.
    """
    path = Path(path).expanduser()
    state = read_state(path)
    if is_ours(state):
        return _ours(state, path)
    weights, not_used = _unwrapped(state, path)
    backbone = _backbone(PAPERS)
    blocks = _check_names(weights, PAPERS, backbone, path)
    return PretrainedEncoder(
        _of_blocks(weights, blocks, backbone, path), blocks, not_used=not_used
    )


def _ours(state: dict[str, Any], path: Path) -> PretrainedEncoder:
    """From a checkpoint of a run, whose configuration says what was trained."""
    config = config_of(state, path)
    regions = config if isinstance(config, PairsConfig) else None
    local_block = regions.local_stage if regions else 5
    backbone = _backbone(config.image_encoder, config.image_size, local_block)
    found = state.get("image_encoder", {})
    if config.image_encoder == PAPERS:
        weights, not_used = _unwrapped(found, path)
    else:
        prefix = "backbone."
        weights = {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}
        not_used = tuple(sorted({name for name in found if not name.startswith(prefix)}))
    _check_names(weights, config.image_encoder, backbone, path)
    blocks, objective, bound = _trained(config, backbone)
    cut = regions and regions.region_context == "region" and blocks == backbone.local_block
    return PretrainedEncoder(
        weights=_of_blocks(weights, blocks, backbone, path),
        blocks=blocks,
        architecture=config.image_encoder,
        grid=regions.grid if regions and cut else 1,
        cells_after=regions.cells_after if regions else 0,
        local_block=backbone.local_block,
        image_size=config.image_size,
        data_hash=state["data_hash"],
        objective=objective,
        bound=bound,
        step=state["step"],
        not_used=not_used,
    )


def _trained(config: RunConfig, backbone: Backbone) -> tuple[int, str, str]:
    """How many blocks of the image encoder a run trains, by what objective and bound."""
    if isinstance(config, TrainConfig):
        blocks = objective_of(config).trained_blocks(backbone)
        return blocks, config.objective, config.bound
    if isinstance(config, MsnConfig):
        whose = "" if config.record_of == "own" else "another patient's "
        record = f"with {whose}{', '.join(config.record)}" if config.record else "without record"
        return backbone.num_blocks, config.objective, record
    assert isinstance(config, LimitrConfig)
    whole = config.global_weight > 0
    return backbone.num_blocks if whole else backbone.local_block, config.method, "infonce"


def _unwrapped(state: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The names below the prefix of the image encoder, without it; and what is not below it."""
    state = dict(_flat(state))
    ends = [name.removesuffix(STEM_KEY) for name in state if name.endswith(STEM_KEY)]
    prefixes = [
        prefix
        for prefix in ends
        if "layer" not in prefix and (prefix == "" or prefix.endswith("."))
    ]
    if len(prefixes) > 1:
        names = ", ".join(shortened(prefix + STEM_KEY for prefix in prefixes))
        raise CheckpointError(
            f"{path} has {len(prefixes)} networks that begin with {STEM_KEY}, and one image "
            f"encoder is looked for: {names}. Save the state dict of that one alone."
        )
    if not prefixes:
        raise CheckpointError(
            f"{path} has no network with {STEM_KEY}, and one image encoder is looked for.\n"
            + _differences(_backbone(PAPERS).state_dict(), state)
        )
    prefix = prefixes[0]
    inside = {
        name.removeprefix(prefix): value
        for name, value in state.items()
        if name.startswith(prefix)
    }
    depth = prefix.count(".")
    beside = (name for name in state if not name.startswith(prefix))
    return inside, tuple(sorted({".".join(name.split(".")[:depth]) for name in beside}))


def _flat(state: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its name; those of a state dict in a checkpoint below that one's name."""
    for name, value in state.items():
        if isinstance(value, Mapping) and all(isinstance(inner, str) for inner in value):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


@functools.cache
def _backbone(architecture: str, image_size: int = 0, local_block: int = 5) -> Backbone:
    """A network of this name, for the names and shapes of its weights."""
    with torch.random.fork_rng(devices=[]):  # new weights are drawn, and nobody else should know
        return build_backbone(architecture, image_size=image_size or 256, local_block=local_block)


def _check_names(
    weights: Mapping[str, Any], architecture: str, backbone: Backbone, path: Path
) -> int:
    """How many blocks there are, one after the other; refuses names and shapes of another net."""
    expected = backbone.state_dict()
    blocks = backbone.num_blocks
    while blocks and not any(_begins(name, backbone, blocks) for name in weights):
        blocks -= 1
    needed = {name: value for name, value in expected.items() if backbone.holds(name, blocks)}
    missing = [name for name in needed if name not in weights and not name.endswith(COUNTER)]
    if not blocks or missing or any(name not in expected for name in weights):
        raise CheckpointError(
            f"{path} does not hold a {architecture}.\n"
            + _differences(needed or expected, weights, expected)
        )
    unfit = [
        f"{name} is {_shape(weights[name])}, must be {_shape(value)}"
        for name, value in needed.items()
        if name in weights and _shape(weights[name]) != _shape(value)
    ]
    if unfit:
        raise CheckpointError(
            f"{path} holds a network of other sizes than {architecture}:\n  "
            + "\n  ".join(shortened(unfit))
        )
    return blocks


def _begins(name: str, backbone: Backbone, block: int) -> bool:
    """Whether a name belongs to this block and to none before it."""
    return backbone.holds(name, block) and not backbone.holds(name, block - 1)


def _shape(value: Any) -> str:
    return str(list(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def _of_blocks(
    weights: Mapping[str, Tensor], blocks: int, backbone: Backbone, path: Path
) -> dict[str, Tensor]:
    """The weights of these blocks, in float32."""
    own = {
        name: value.float() if value.is_floating_point() else value
        for name, value in weights.items()
        if backbone.holds(name, blocks)
    }
    broken = [name for name, value in own.items() if not torch.isfinite(value).all()]
    if broken:
        raise CheckpointError(
            f"{path} has values that are not numbers in {', '.join(shortened(broken))}: the "
            "training has failed. Take another file."
        )
    return own


def _differences(
    expected: Mapping[str, Any],
    found: Mapping[str, Any],
    known: Mapping[str, Any] | None = None,
) -> str:
    missing = [name for name in expected if name not in found and not name.endswith(COUNTER)]
    unexpected = [name for name in found if name not in (known or expected)]
    return "\n".join(
        f"{len(names)} {word}: {', '.join(shortened(names)) or 'none'}."
        for word, names in (("missing", missing), ("unexpected", unexpected))
    )
