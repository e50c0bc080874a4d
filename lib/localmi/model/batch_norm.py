"""BatchNorm over the images of all processes: what one process with the whole batch computes."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from localmi.processes import Processes


class GatheredBatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` whose statistics are those of all processes, on any device.

    `nn.SyncBatchNorm` does this on a GPU, and refuses a CPU. Each process sends two numbers a
    channel in each direction. Source: Ioffe and Szegedy 2015, with sums over the whole batch.
    """

    processes: Processes

    @classmethod
    def of(cls, module: nn.BatchNorm2d, processes: Processes) -> "GatheredBatchNorm":
        """The same parameters and running statistics."""
        made = cls(module.num_features, eps=module.eps, momentum=module.momentum)
        made.weight, made.bias = module.weight, module.bias
        made.running_mean, made.running_var = module.running_mean, module.running_var
        made.num_batches_tracked = module.num_batches_tracked
        made.processes = processes
        return made

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        mean, variance, count = self._statistics(x.detach())
        self._move_running(mean, variance * count / (count - 1))
        where = self.eps, self.processes
        out: Tensor = _Normalise.apply(x, self.weight, self.bias, mean, variance, count, *where)
        return out

    @torch.no_grad()
    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor, float]:
        """Mean and variance of all images, [C], and how many values a channel they are of."""
        affine = self.weight, self.bias, None, None
        _, mean, scale = torch.native_batch_norm(x, *affine, True, 0.0, self.eps)
        own = x.new_tensor([x.numel() / x.shape[1]], dtype=torch.float64)
        square = scale.double() ** -2 - self.eps + mean.double() ** 2
        sums = torch.cat([mean * own, square * own, own])
        self.processes.sum_in_place(sums)
        count = float(sums[-1])
        mean, square = (sums[:-1] / count).chunk(2)
        return mean.to(scale), (square - mean**2).to(scale), count

    @torch.no_grad()
    def _move_running(self, mean: Tensor, variance: Tensor) -> None:
        for running, now in ((self.running_mean, mean), (self.running_var, variance)):
            if running is not None:
                running.lerp_(now.to(running), self.momentum or 0.0)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, mean and variance functions of all x."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        count: float,
        eps: float,
        processes: Processes,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.count, ctx.eps, ctx.processes = count, eps, processes
        return nn.functional.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance = ctx.saved_tensors
        # As if mean and variance were constants; then what they add.
        of_x, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient.contiguous(memory_format=_layout(x)),
            x,
            weight,
            mean,
            variance,
            None,
            None,
            False,
            ctx.eps,
            [True] * 3,
        )
        sums = torch.stack([of_weight, of_bias])
        ctx.processes.sum_in_place(sums)
        slope, constant = -sums * weight * (variance + ctx.eps).rsqrt() / ctx.count  # [C]
        slope, still = slope * (variance + ctx.eps).rsqrt(), torch.ones_like(mean)
        of_x += nn.functional.batch_norm(x, mean, still, slope, constant, False, 0.0, 0.0)
        return of_x, of_weight, of_bias, *[None] * 5


def _layout(x: Tensor) -> torch.memory_format:
    planes = x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last)
    return torch.contiguous_format if planes else torch.channels_last


def synchronise(network: nn.Module, processes: Processes, device: torch.device) -> None:
    """Every BatchNorm of a network uses the statistics of all processes from here on."""
    if processes.size == 1:
        return
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(network, processes.group)
        return
    for parent in list(network.modules()):
        for name, module in list(parent.named_children()):
            if type(module) is nn.BatchNorm2d:
                setattr(parent, name, GatheredBatchNorm.of(module, processes))
