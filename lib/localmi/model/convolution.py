"""A convolution of few channels, in the layout of memory in which a CPU is fast."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

PLANES, PIXELS = torch.contiguous_format, torch.channels_last  # [B, C, H, W], [B, H, W, C]
WIDE = 16  # float32 numbers in a register of AVX-512


class Convolution(nn.Conv2d):
    """`nn.Conv2d`, with the same weights and the same result up to rounding.

    Of planes of fewer than 16 channels oneDNN makes 16 before a convolution, removes them after
    it, and has only a slow way to the gradient of bfloat16 weights. Of pixels it takes the
    channels that are there, where BatchNorm in turn is slow. So on a CPU a convolution of few
    channels is computed of pixels, and what comes before and after it of planes
    (`benchmarks/step.py`).

    Of maps one pixel wide only the kernel's middle column is multiplied: the others see padding
    alone, and what oneDNN gives as their gradient in bfloat16, at a stride of 2, is memory that
    nobody wrote.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W']."""
        if x.device.type != "cpu" or self.in_channels >= WIDE:
            return super().forward(x)
        pixels: Tensor = _Layout.apply(x, PIXELS, PLANES)
        planes: Tensor = _Layout.apply(super().forward(pixels), PLANES, PIXELS)
        return planes

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        down, across = map(int, self.padding)
        if x.shape[3] > 1 or not across:
            return super()._conv_forward(x, weight, bias)
        middle = weight[..., across : across + 1]
        return functional.conv2d(x, middle, bias, self.stride, (down, 0))


class _Layout(torch.autograd.Function):
    """The same numbers in another layout; their gradient has one of its own."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, layout: torch.memory_format, of_gradient: torch.memory_format
    ) -> Tensor:
        ctx.of_gradient = of_gradient
        return x.to(memory_format=layout)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient.to(memory_format=ctx.of_gradient), None, None
