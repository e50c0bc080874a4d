"""From a configuration to the networks, the device and the optimisers."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from localmi.errors import ConfigError
from localmi.mi.critics import Critic, build_critic
from localmi.model.alignment import Alignment
from localmi.model.image import build_image_encoder
from localmi.model.text import TextEncoder
from localmi.train.config import TrainConfig


def choose_device(name: str) -> torch.device:
    """ "auto" takes the GPU where there is one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device='cuda', but no GPU is visible to torch. Use 'cpu' or 'auto'.")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def choose_dtype(precision: str, device: torch.device) -> torch.dtype:
    """ "auto" takes bfloat16 where the hardware multiplies it, float32 elsewhere."""
    if precision == "auto":
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            capabilities = torch.cpu.get_capabilities()
            fast = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def build_critic_for(config: TrainConfig, dim_image: int, dim_text: int) -> Critic:
    """The critic of a configuration, for features of these lengths."""
    return build_critic(
        config.critic,
        dim_image,
        dim_text,
        hidden=config.critic_hidden,
        chunk=config.critic_chunk or None,
    )


def build_alignment(config: TrainConfig) -> Alignment:
    """Image encoder, text encoder and critic of a configuration, seeded by `config.seed`."""
    torch.manual_seed(config.seed)
    image_encoder = build_image_encoder(
        config.image_encoder,
        image_size=config.image_size,
        grid=config.grid,
        context=config.region_context,
        local_stage=config.local_stage,
    )
    text_encoder = TextEncoder(
        config.text_encoder, pooling=config.text_pooling, max_tokens=config.max_tokens
    )
    local = config.objective == "local"
    dim_image = image_encoder.region_dim if local else image_encoder.pooled_dim
    critic = build_critic_for(config, dim_image, text_encoder.dim)
    return Alignment(image_encoder, text_encoder, critic)


@dataclass(frozen=True)
class Optimisers:
    """Adam for image encoder and critic, AdamW with warm-up and linear decay for BERT."""

    image: Optimizer
    text: Optimizer
    text_schedule: LambdaLR

    def zero_grad(self) -> None:
        self.image.zero_grad(set_to_none=True)
        self.text.zero_grad(set_to_none=True)

    def step(self) -> None:
        self.image.step()
        self.text.step()
        self.text_schedule.step()

    def __iter__(self) -> Iterator[tuple[str, Optimizer | LambdaLR]]:
        """Name and object of everything that has a state to keep."""
        yield from (("image", self.image), ("text", self.text), ("schedule", self.text_schedule))


def build_optimisers(config: TrainConfig, alignment: Alignment) -> Optimisers:
    """As the paper, with the public code's learning rate and schedule for BERT."""
    others = [*alignment.image_encoder.parameters(), *alignment.critic.parameters()]
    image = Adam(others, lr=config.learning_rate, fused=True)
    text = AdamW(
        text_parameter_groups(alignment.text_encoder, config.text_weight_decay),
        lr=config.text_learning_rate,
        fused=True,
    )
    warm_up = config.warm_up * config.steps

    def factor(step: int) -> float:
        rising = (step + 1) / warm_up if warm_up else 1.0
        falling = (config.steps - step) / (config.steps - warm_up)
        return max(0.0, min(rising, falling, 1.0))

    return Optimisers(image, text, LambdaLR(text, factor))


def text_parameter_groups(encoder: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Weight decay for everything but biases and LayerNorm, as BERT is always tuned."""
    # These are the parameters of one dimension, whatever a BERT calls them.
    plain = [parameter for parameter in encoder.parameters() if parameter.ndim < 2]
    decayed = [parameter for parameter in encoder.parameters() if parameter.ndim >= 2]
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]


def annealed_temperature(config: TrainConfig, step: int) -> float:
    """From `temperature` to `temperature_end`, geometrically over the run."""
    share = step / max(1, config.steps - 1)
    start, end = math.log(config.temperature), math.log(config.temperature_end)
    return math.exp(start + share * (end - start))
