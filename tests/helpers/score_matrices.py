"""Random score matrices and masks, and gradients, that the tests of all bounds share."""

from collections.abc import Callable

import torch
from torch import Tensor


def random_scores(size: int, seed: int = 0, scale: float = 3.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(size, size, generator=generator, dtype=torch.float64)


def random_mask(size: int, seed: int = 0) -> Tensor:
    """Roughly half of the pairs, and at least one in every row and column."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(size, size, generator=generator) < 0.5
    return mask | torch.eye(size, dtype=torch.bool).roll(1, dims=1)


def value_and_gradient(function: Callable[[Tensor], Tensor], scores: Tensor) -> tuple:
    scores = scores.clone().requires_grad_()
    value = function(scores)
    return value.detach(), torch.autograd.grad(value, scores)[0]
