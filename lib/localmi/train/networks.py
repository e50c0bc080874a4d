"""The networks of a configuration."""

import torch

from localmi.mi.critics import build_critic
from localmi.model.alignment import Alignment, Objective, build_objective
from localmi.model.image import ImageEncoder
from localmi.train.config import TrainConfig


def objective_of(config: TrainConfig) -> Objective:
    """Local or global MI, as configured."""
    return build_objective(
        config.objective, region_select=config.region_select, winners_only=config.winners_only
    )


def build_alignment(config: TrainConfig, objective: Objective) -> Alignment:
    """Image encoder, text encoder and critic of a configuration, seeded by `config.seed`."""
    torch.manual_seed(config.seed)
    image_encoder = config.new_image_encoder()
    text_encoder = config.new_text_encoder()
    critic = build_critic(
        config.critic,
        objective.image_dim(image_encoder),
        text_encoder.dim,
        hidden=config.critic_hidden,
        chunk=config.critic_chunk or None,
    )
    return Alignment(image_encoder, text_encoder, critic)


def compute_as_configured(encoder: ImageEncoder, config: TrainConfig) -> None:
    """Layout of memory and compilation: the same weights, names and numbers up to rounding.

    Compiled are the two functions that are called, so the state dict knows nothing of it.
    """
    if config.channels_last:
        encoder.to(memory_format=torch.channels_last)
    if config.compile:
        for function in ("regions", "pooled"):
            setattr(encoder, function, torch.compile(getattr(encoder, function)))
