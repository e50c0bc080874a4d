"""From a configuration to the networks, the device and the optimisers."""

import ctypes
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from localmi.errors import ConfigError
from localmi.mi.critics import Critic, build_critic
from localmi.model.alignment import Alignment
from localmi.model.image import build_image_encoder
from localmi.model.text import TextEncoder
from localmi.train.config import TrainConfig

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h: -1 never trims, 0 maps no block on its own


def choose_device(name: str) -> torch.device:
    """ "auto" takes the GPU where there is one; with the CPU, see `keep_freed_memory`."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device='cuda', but no GPU is visible to torch. Use 'cpu' or 'auto'.")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        keep_freed_memory()
    return torch.device(name)


def keep_freed_memory() -> None:
    """Lets the C library keep memory that was freed, for the rest of the process.

    By default glibc gives blocks of a step's size back to the system, which clears them and maps
    them anew at the next step: a fifth of a step's time (`benchmarks/freed_memory.py`). What a
    process holds at most stays the same. Elsewhere than under glibc nothing changes.

    Source: mallopt(3).
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(M_TRIM_THRESHOLD, -1)
        mallopt(M_MMAP_MAX, 0)


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


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Where matrices are multiplied in `dtype`; float32 changes nothing."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


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
        cells_after=config.cells_after,
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
class Scheduled:
    """An optimiser and its learning-rate schedule, stepped together."""

    optimiser: Optimizer
    schedule: LambdaLR

    def descend(self, loss: Tensor) -> None:
        """One step down the gradient of `loss`."""
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.step()

    def step(self) -> None:
        self.optimiser.step()
        self.schedule.step()

    def state_dict(self) -> dict[str, Any]:
        return {"optimiser": self.optimiser.state_dict(), "schedule": self.schedule.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])


def scheduled(
    optimiser: Optimizer, *, steps: int, warm_up: float = 0.0, end: float = 1.0
) -> Scheduled:
    """Linear warm-up over a share of the steps, then linear to `end` times the learning rate."""
    rising = warm_up * steps

    def factor(step: int) -> float:
        if step < rising:
            return min(1.0, (step + 1) / rising)
        return end + (1 - end) * max(0.0, (steps - step) / (steps - rising))

    return Scheduled(optimiser, LambdaLR(optimiser, factor))


def image_optimiser(config: TrainConfig, alignment: Alignment) -> Scheduled:
    """Adam for image encoder and critic (paper, Sec. 4); decoupled weight decay by option."""
    parameters = [*alignment.image_encoder.parameters(), *alignment.critic.parameters()]
    return scheduled(_adam(config, parameters), steps=config.steps, end=config.learning_rate_end)


def _adam(config: TrainConfig, parameters: Iterable[nn.Parameter]) -> AdamW:
    """Adam where there is no weight decay, which is the default."""
    return AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True)


def text_optimiser(config: TrainConfig, alignment: Alignment) -> Scheduled:
    """AdamW for BERT, with the public code's learning rate, warm-up and linear decay."""
    groups = text_parameter_groups(alignment.text_encoder, config.text_weight_decay)
    adam = AdamW(groups, lr=config.text_learning_rate, fused=True)
    return scheduled(adam, steps=config.steps, warm_up=config.warm_up, end=0.0)


def control_optimiser(config: TrainConfig, control: Critic, *, every: int) -> Scheduled:
    """As for the critic; the critic of the shuffled pairs makes one step in `every`."""
    steps = -(-config.steps // every)
    return scheduled(
        _adam(config, control.parameters()), steps=steps, end=config.learning_rate_end
    )


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
