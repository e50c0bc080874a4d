"""A trained model to be read, not trained on: its networks from a file, and nothing else.

Most of a checkpoint of notebook 07 is the optimisers' state, which training needs to go on;
`export_networks` keeps what was learnt. Taught in 09_reading_the_model.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from localmi.data.batches import SplitData
from localmi.data.cache.cache import Cache
from localmi.errors import CheckpointError, shortened
from localmi.model.alignment import Objective
from localmi.model.backbone import Backbone
from localmi.model.image import ImageEncoder, build_backbone
from localmi.record import METRICS, RESULTS
from localmi.train.checkpoint import (
    ALWAYS_THERE,
    COMPUTED_IN,
    config_of,
    read_state,
    write_state,
)
from localmi.train.checkpoint_files import CHECKPOINT
from localmi.train.config import TrainConfig
from localmi.train.networks import objective_of
from localmi.train.pretraining import Pretraining

NETWORKS = ("image_encoder", "critic", "control")
TEXT_ENCODER = "text_encoder"  # is there too where it was trained
READ_AS = {"device": "auto", "precision": "float32", "channels_last": False, "compile": False}
MEMORY = ("mine", "control_mine")  # of the estimators: TUBA reports with its log a


@dataclass(frozen=True)
class TrainedModel:
    """The networks of a finished run, on some data.

    training: they stand in it as they were at `training.step`, in float32 whatever the run
        computed in: so each machine reads the same numbers.
    same_data: the data are those that it was trained on.
    """

    training: Pretraining
    same_data: bool

    def scores(self, data: SplitData, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Every region of every image with every text, by the critic and the control.

        Returns:
            Twice [n, N, T] float32; N = 1 if the objective is global.
        """
        own, control = self.training.split_scores(data, list(texts))
        return own.numpy(), control.numpy()

    def maps(self, images: Tensor, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The score of each text in each region of its own image, by the critic and the control.

        Args:
            images: [S, 1, H, W] uint8, one for each text.
            texts: [S].

        Returns:
            Twice [S, G, G] float32; G = 1 if the objective is global.
        """
        features = self.training.encode_texts(list(texts))
        found: list[Tensor] = []
        for index in torch.arange(len(texts)).split(32):
            scores = torch.stack(self.training.region_scores(images[index], features[index]))
            found.append(scores.diagonal(dim1=1, dim2=3).transpose(1, 2))  # [2, s, N]
        own, control = torch.cat(found, dim=1).numpy()
        grid = round(own.shape[1] ** 0.5)
        return own.reshape(-1, grid, grid), control.reshape(-1, grid, grid)


def read_config(path: Path | str) -> TrainConfig:
    """The configuration of the run that wrote a checkpoint, or of which it is an export.

    Raises:
        CheckpointError: no file, damaged, not of notebook 07, or of another version.
    """
    return _read(Path(path))[1]


def load_trained_model(path: Path | str, cache: Cache) -> TrainedModel:
    """The networks of a checkpoint of notebook 07, or of its export, on these data.

    They compute in float32: the bound of a run in bfloat16 reads some .001 nats otherwise than in
    its record.

    Raises:
        CheckpointError: as `read_config`; or weights are missing, unexpected or of another shape.
        ConfigError: the images of the cache have another size than those it was trained on.

    Taught in 09_reading_the_model.
    """
    path = Path(path)
    state, config = _read(path)
    here = config.model_copy(update=READ_AS)
    training = Pretraining(here, cache)
    for name, network in _networks(training).items():
        _fill(network, state.get(name, {}), training, where=f"{name} of {path}")
    estimators = training.estimator, training.control_estimator
    for name, estimator in zip(MEMORY, estimators, strict=True):
        if name in state:
            estimator.load_state_dict(state[name])
    training.step = state["step"]
    return TrainedModel(training, same_data=state["data_hash"] == cache.data_hash)


def export_networks(checkpoint: Path, out: Path) -> None:
    """Writes what training has changed: the trained blocks of the image encoder, critic, control.

    A text encoder is in it where it was trained. `load_trained_model` and `load_image_encoder`
    take it as they take the checkpoint.

    Raises:
        CheckpointError: as `read_config`; `out` exists, or cannot be written.

    Taught in 09_reading_the_model.
    """
    state, config = _read(checkpoint)
    if out.exists():
        raise CheckpointError(
            f"{out} exists and is not replaced. Name another file, or remove it."
        )
    kept = {name: state[name] for name in (*ALWAYS_THERE, *NETWORKS)}
    backbone = build_backbone(
        config.image_encoder, image_size=config.image_size, local_block=config.local_stage
    )
    kept["image_encoder"] = {
        name: value
        for name, value in kept["image_encoder"].items()
        if _is_trained(name, objective_of(config), backbone)
    }
    also = (COMPUTED_IN, TEXT_ENCODER, *MEMORY)
    kept |= {name: state[name] for name in also if name in state}
    write_state(kept, out)


def export_run(run_dir: Path, out: Path) -> None:
    """Keeps of a finished run what can be shown of it: networks, curves, and record.

    `out` gets `networks.pt` (see `export_networks`), `metrics.jsonl` and `results.json`.

    Raises:
        CheckpointError: as `export_networks`; the run is not finished.
    """
    if missing := [name for name in (METRICS, RESULTS) if not (run_dir / name).is_file()]:
        raise CheckpointError(
            f"{run_dir} is no finished run: without {', '.join(missing)}. Go on with it: --resume."
        )
    out.mkdir(parents=True, exist_ok=True)
    export_networks(run_dir / CHECKPOINT, out / "networks.pt")
    for name in (METRICS, RESULTS):
        shutil.copyfile(run_dir / name, out / name)


def _read(path: Path) -> tuple[dict[str, Any], TrainConfig]:
    state = read_state(path)
    if missing := [name for name in (*ALWAYS_THERE, *NETWORKS) if name not in state]:
        raise CheckpointError(
            f"{path} is no checkpoint of notebook 07 and no export of one: without "
            f"{', '.join(missing)}. Give the {CHECKPOINT} of a run, or what localmi export made."
        )
    config = config_of(state, path)
    if not isinstance(config, TrainConfig):
        raise CheckpointError(f"{path} is a checkpoint of another method than local or global MI.")
    return state, config


def _networks(training: Pretraining) -> dict[str, nn.Module]:
    """The networks whose weights a checkpoint holds."""
    found = {
        "image_encoder": training.alignment.image_encoder,
        "critic": training.alignment.critic,
        "control": training.control,
    }
    if not training.config.text_is_frozen:
        found[TEXT_ENCODER] = training.alignment.text_encoder
    return found


def _is_trained(name: str, objective: Objective, backbone: Backbone) -> bool:
    """Whether training can have changed this weight of an image encoder."""
    if not name.startswith("backbone."):
        return True  # the places of the regions
    blocks = objective.trained_blocks(backbone)
    return backbone.holds(name.removeprefix("backbone."), blocks)


def _fill(
    network: nn.Module, weights: dict[str, Any], training: Pretraining, *, where: str
) -> None:
    """Gives a network its weights; only what training never touched may be missing."""
    try:
        found = network.load_state_dict(weights, strict=False)
    except (RuntimeError, TypeError) as error:
        raise CheckpointError(f"{where} does not fit its own configuration. {error}") from error
    missing, unexpected = found.missing_keys, found.unexpected_keys
    if isinstance(network, ImageEncoder):
        objective, backbone = training.objective, network.backbone
        missing = [name for name in missing if _is_trained(name, objective, backbone)]
    if missing or unexpected:
        raise CheckpointError(
            f"{where} does not fit its own configuration: it is damaged, or another version of "
            "localmi has written it. Put back a copy, or train it again.\n"
            f"{len(missing)} missing: {_words(missing)}.\n"
            f"{len(unexpected)} unexpected: {_words(unexpected)}."
        )


def _words(names: list[str]) -> str:
    return ", ".join(shortened(names)) or "none"
