"""Everything one downstream run depends on, in one object that is checked at the door."""

from dataclasses import replace
from typing import Literal, Self

from pydantic import Field, model_validator

from localmi import names
from localmi.configuration import Configuration
from localmi.names import Policy

RANDOM = "random"  # instead of a checkpoint: weights that nothing has trained


class DownstreamConfig(Configuration):
    """Parameters of a classifier. Paper: Sec. 4.

    `init` and `mode` make the paper's variants: "" and "tuned" is image-only; a checkpoint of
    {global, local} x {MINE, CPC} with "frozen" or "tuned" are the other eight.
    """

    # The variant
    task: names.Task = "pathology9"
    init: str = ""  # checkpoint of an image encoder, random, or "": image-only, all starts anew
    mode: Literal["tuned", "frozen", "probe"] = "tuned"  # all, the last blocks, or logistic
    frozen_blocks: int = Field(5, ge=1)  # at most; never one that was not pretrained, nor the last
    region_context: names.RegionContext = "image"  # what pretrained blocks see
    image_encoder: str = ""  # of image-only, "" is the paper's; with init it is that of the file

    # Labels
    fraction: float = Field(1.0, gt=0, le=1)  # of the training patients with labels
    label_policy: Policy = "explicit"
    test_labels: Literal["report", "expert"] = "report"  # of the findings
    class_weights: bool = False

    # Optimisation
    image_size: int = Field(256, ge=32)
    epochs: int = Field(50, ge=1)
    steps_per_epoch: int = Field(0, ge=0)  # 0: every image once
    batch_size: int = Field(32, ge=2)
    learning_rate: float = Field(5e-4, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    augment: bool = False
    precision: names.Precision = "auto"
    device: names.Device = "auto"
    seed: int = Field(0, ge=0)  # of new weights, the order, and which patients are a fraction

    def check(self) -> None:
        """Reads the file of `init`, and builds the network without weights.

        Raises:
            CheckpointError: the file holds no image encoder.
            ConfigError: no such network, or it and the file do not fit.
        """
        import torch

        from localmi.downstream.network import build_classifier
        from localmi.downstream.pretrained_encoder import load_image_encoder

        encoder = None
        if self.init not in ("", RANDOM):
            encoder = replace(load_image_encoder(self.init), weights={})
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            build_classifier(self, encoder)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not self.init and self.mode != "tuned":
            raise ValueError(f"mode='{self.mode}' needs init, the checkpoint of an encoder")
        if self.init in ("", RANDOM) and self.region_context == "region":
            raise ValueError("region_context='region' needs init, an encoder pretrained that way")
        if self.init == RANDOM and self.mode == "tuned":
            raise ValueError("init='random' is for a probe; all anew and tuned is init=''")
        if self.mode == "probe" and (self.augment or self.class_weights):
            raise ValueError("mode='probe' goes without augment and class_weights")
        return self
