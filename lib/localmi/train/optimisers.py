"""The optimisers of representation learning, each with its learning-rate schedule."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from localmi.mi.critics import Critic
from localmi.model.alignment import Alignment
from localmi.train.config import PairsConfig, RunConfig, TrainConfig


@dataclass(frozen=True)
class Scheduled:
    """An optimiser and its learning-rate schedule, stepped together."""

    optimiser: Optimizer
    schedule: LambdaLR

    def zero_grad(self) -> None:
        self.optimiser.zero_grad(set_to_none=True)

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
    return adam(config, parameters)


def adam(
    config: RunConfig, parameters: Iterable[nn.Parameter], *, every: int = 1, beta: float = 0.9
) -> Scheduled:
    """Adam where there is no weight decay, which is the default; it makes one step in `every`.

    `beta`: of its mean gradient.
    """
    optimiser = AdamW(
        parameters,
        lr=config.learning_rate,
        betas=(beta, 0.999),
        weight_decay=config.weight_decay,
        fused=True,
    )
    return scheduled(optimiser, steps=-(-config.steps // every), end=config.learning_rate_end)


def text_optimiser(config: PairsConfig, text_encoder: nn.Module) -> Scheduled:
    """AdamW for BERT, with the public code's learning rate, warm-up and linear decay."""
    groups = text_parameter_groups(text_encoder, config.text_weight_decay)
    optimiser = AdamW(groups, lr=config.text_learning_rate, fused=True)
    return scheduled(optimiser, steps=config.steps, warm_up=config.warm_up, end=0.0)


def control_optimiser(config: TrainConfig, control: Critic, *, every: int) -> Scheduled:
    """As for the critic; the critic of the shuffled pairs makes one step in `every`."""
    return adam(config, control.parameters(), every=every)


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
