"""Scores of all pairs, block by block, in memory that does not grow with the number of blocks."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

ScoreBlock = Callable[[Tensor, Tensor], Tensor]  # [C, H], [B, H] -> [C, B]


def score_in_blocks(
    score_block: ScoreBlock,
    items: int,
    from_x: Tensor,
    from_y: Tensor,
    parameters: Sequence[nn.Parameter],
) -> Tensor:
    """Scores whose intermediate results are computed again for the gradient, not kept.

    Args:
        score_block: scores of some x with all y; deterministic.
        items: how many x at a time.
        from_x: [A, H].
        from_y: [B, H].
        parameters: all that `score_block` uses and that may need a gradient.

    Returns:
        [A, B], as `score_block(from_x, from_y)` in value and gradient.
    """
    scores: Tensor = _Recomputed.apply(score_block, items, from_x, from_y, *parameters)
    return scores


class _Recomputed(torch.autograd.Function):
    """One function for all blocks, where `torch.utils.checkpoint` would need one for each.

    Checkpoints leave small tensors between the large ones, and the heap of a CPU grows with
    every block: for the paper's critic at B = 128, 16 regions, by 530 MiB; this takes 80.
    """

    @staticmethod
    def forward(
        ctx: Any,
        score_block: ScoreBlock,
        items: int,
        from_x: Tensor,
        from_y: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(from_x, from_y, *parameters)
        ctx.score_block, ctx.items = score_block, items
        device = from_x.device.type
        ctx.autocast = device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
        scores = from_x.new_empty(len(from_x), len(from_y), dtype=sum_dtype(from_x))
        for block, target in zip(from_x.split(items), scores.split(items), strict=True):
            target.copy_(score_block(block, from_y))
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        from_x, from_y, *parameters = ctx.saved_tensors
        shared = [from_y.detach().requires_grad_()]
        shared += [parameter for parameter in parameters if parameter.requires_grad]
        sums = [torch.zeros_like(one, dtype=sum_dtype(one)) for one in shared]
        gradient_x = torch.empty_like(from_x)
        blocks = [tensor.split(ctx.items) for tensor in (from_x, gradient_x, gradient)]
        for block, target, weight in zip(*blocks, strict=True):
            leaf = block.detach().requires_grad_()
            with torch.enable_grad(), torch.autocast(*ctx.autocast):
                scores = ctx.score_block(leaf, shared[0])
            first, *others = torch.autograd.grad(scores, [leaf, *shared], weight)
            target.copy_(first)
            for total, other in zip(sums, others, strict=True):
                total += other
        gradient_y, *rest = sums
        of_parameters = iter(rest)
        return (
            *(None, None, gradient_x, gradient_y.to(from_y.dtype)),
            *(next(of_parameters) if one.requires_grad else None for one in parameters),
        )


def sum_dtype(tensor: Tensor) -> torch.dtype:
    """Many small numbers are not added up in half precision, nor scores kept in it."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32
