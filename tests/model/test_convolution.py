import copy
import math
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from localmi.model.convolution import WIDE, Convolution
from localmi.model.image import BasicBlock, ResNet256, build_image_encoder

# What rounding alone explains, as a share of the norm, where it switches no ReLU: of 17 layers
# (found over twelve seeds: up to 1.4e-4 in float32, .094 in bfloat16), and of one convolution.
OF_NETWORK = {torch.float32: 2e-4, torch.bfloat16: 0.15}
OF_CONVOLUTION = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
SIZES = [  # (batch, side, grid, cells_after)
    (3, 64, 1, 0),
    (1, 64, 1, 0),
    (2, 75, 1, 0),  # odd: 75, 38, 19, 10, 5
    (3, 64, 4, 2),
    (1, 64, 4, 2),
    (2, 128, 4, 0),
]


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def plainly(network: ResNet256) -> ResNet256:
    """A copy out of torch's own convolutions, with a stride in the shortcut's, as published."""
    plain = copy.deepcopy(network)
    for module in plain.modules():
        if isinstance(module, BasicBlock) and module.downsample is not None:
            module.downsample[0].stride = (module.stride, module.stride)
            module.stride = 1
        if isinstance(module, Convolution):
            module.__class__ = nn.Conv2d
    return plain


def network_away_from_kinks() -> ResNet256:
    """Its ReLUs pass nearly everything: a gradient is then smooth in all that is rounded."""
    network = ResNet256(local_block=4)
    with torch.no_grad():
        network(torch.randn(4, 1, 64, 64))  # statistics that are not those of a new network
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.constant_(module.bias, 8)
    return network


def passes(
    network: ResNet256, images: Tensor, dtype: torch.dtype, grid: int, cells_after: int
) -> list[Tensor]:
    """The local block, and the gradients of images and weights: one vector each."""
    images = images.clone().requires_grad_()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        block = network.run(images, 1, 4, grid=grid, cells_after=cells_after)
    (block * torch.linspace(-1, 1, block.numel()).view(block.shape).to(block)).sum().backward()
    weights = [weight.grad for weight in network.parameters() if weight.grad is not None]
    return [torch.cat([x.flatten() for x in part]) for part in ([block], [images.grad], weights)]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", list(OF_NETWORK))
@pytest.mark.parametrize(("batch", "side", "grid", "cells_after"), SIZES)
def test_the_papers_network_is_the_one_of_plain_convolutions(
    batch: int, side: int, grid: int, cells_after: int, dtype: torch.dtype, training: bool
) -> None:
    network = network_away_from_kinks().train(training)
    plain, images = plainly(network), torch.randn(batch, 1, side, side)
    found = passes(network, images, dtype, grid, cells_after)
    expected = passes(plain, images, dtype, grid, cells_after)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).norm() <= OF_NETWORK[dtype] * theirs.norm()
    buffers, others = dict(network.named_buffers()), dict(plain.named_buffers())
    assert buffers.keys() == others.keys()
    for name, value in buffers.items():
        torch.testing.assert_close(value, others[name], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("dtype", list(OF_CONVOLUTION))
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("channels", [1, 3, WIDE - 1, WIDE])
def test_a_convolution_is_torchs(
    channels: int, kernel: int, stride: int, dtype: torch.dtype
) -> None:
    ours = Convolution(channels, 5, kernel, stride, padding=kernel // 2).to(dtype)
    theirs = nn.Conv2d(channels, 5, kernel, stride, padding=kernel // 2).to(dtype)
    theirs.load_state_dict(ours.state_dict())
    rounding = OF_CONVOLUTION[dtype]
    for size in ((2, channels, 7, 10), (1, channels, 2, 2)):
        x = torch.randn(size, dtype=dtype)
        gradients = []
        for convolution in (ours, theirs):
            inside = x.clone().requires_grad_()
            y = convolution(inside)
            weight = torch.linspace(-1, 1, y.numel()).view(y.shape).to(y)
            gradients.append(torch.autograd.grad((y * weight).sum(), (inside, convolution.weight)))
        for found, expected in ((ours(x), theirs(x)), *zip(*gradients, strict=True)):
            torch.testing.assert_close(found, expected, rtol=rounding, atol=rounding)


def spoil_freed_memory() -> None:
    """What is not written after this is likely no number."""
    for _ in range(3):
        [torch.full((4**power,), math.nan) for power in range(3, 11)]


@pytest.mark.parametrize("dtype", list(OF_CONVOLUTION))
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [8, 64])
@pytest.mark.parametrize("size", [(1, 1), (4, 1), (1, 4), (2, 2), (3, 3)])
def test_weights_that_see_padding_alone_have_no_gradient(
    size: tuple[int, int], channels: int, stride: int, dtype: torch.dtype
) -> None:
    """oneDNN's bfloat16 gave them what lay in memory: one training in a dozen lost itself."""
    convolution = Convolution(channels, 2 * channels, 3, stride, padding=1, bias=False)
    exact, x = copy.deepcopy(convolution).double(), torch.randn(8, channels, *size)
    exact(x.double()).square().sum().backward()
    for _ in range(5):
        convolution.zero_grad()
        spoil_freed_memory()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            y = convolution(x)
        spoil_freed_memory()
        y.float().square().sum().backward()
        error = (convolution.weight.grad - exact.weight.grad).norm() / exact.weight.grad.norm()
        assert error < OF_CONVOLUTION[dtype]  # which a NaN is not


@pytest.mark.parametrize("name", ["resnet256_6_2_1", "resnet18", "resnet50"])
def test_regions_of_a_few_pixels_are_trained_in_bfloat16(name: str) -> None:
    """Cells of 8 x 8 pixels shrink to one before the last convolution with a stride."""
    local_block = {"local_block": 5} if name == "resnet256_6_2_1" else {}
    encoder = build_image_encoder(name, image_size=64, grid=8, context="region", **local_block)
    network, narrow = encoder.backbone, []
    for layer, module in network.named_modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
            module.register_forward_hook(
                lambda module, inputs, _, layer=layer: (
                    narrow.append((layer, module)) if inputs[0].shape[3] == 1 else None
                )
            )
    spoil_freed_memory()
    with torch.autocast("cpu", torch.bfloat16):
        regions = encoder.regions(torch.randn(2, 1, 64, 64))
    spoil_freed_memory()
    regions.float().square().mean().backward()
    assert narrow
    for layer, module in narrow:
        assert module.weight.grad[..., 1].count_nonzero(), layer
        assert not module.weight.grad[..., [0, 2]].count_nonzero(), layer


@pytest.mark.parametrize("channels", [1, WIDE - 1, WIDE])
def test_few_channels_are_convolved_by_pixels_between_planes(
    channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There and back: what is fast is a matter of the layouts alone."""
    layouts: list[bool] = []
    plain = nn.Conv2d._conv_forward

    def spy(self: nn.Conv2d, x: Tensor, *rest: Tensor) -> Tensor:
        layouts.append(x.stride(1) == 1)
        y = plain(self, x, *rest)
        y.register_hook(lambda gradient: layouts.append(gradient.stride(1) == 1))
        return y

    monkeypatch.setattr(nn.Conv2d, "_conv_forward", spy)
    x = torch.randn(2, channels, 6, 6, requires_grad=True)
    x.register_hook(lambda gradient: layouts.append(gradient.stride(3) == 1))
    y = Convolution(channels, 8, 3, padding=1)(x.clone())
    assert y.is_contiguous()
    y.backward(torch.randn(y.shape))
    assert layouts == [channels < WIDE, channels < WIDE, True]


CHANNELS_LAST = """
import torch
from localmi.model.image import build_image_encoder

torch.manual_seed(0)
for dtype in (torch.float32, torch.bfloat16):
    for cut in ({"context": "region", "cells_after": 2, "local_block": 4}, {}):
        encoder = build_image_encoder(image_size=128, **cut)
        images = torch.randn(4, 1, 128, 128)
        features = []
        for layout in (torch.contiguous_format, torch.channels_last):
            encoder.to(memory_format=layout)
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                found = encoder.regions(images.to(memory_format=layout))
                pooled = encoder.pooled(images.to(memory_format=layout))
            (found.sum() + pooled.sum()).backward()
            features.append(found.float())
        error = (features[0] - features[1]).norm() / features[0].norm()
        assert error < (1e-4 if dtype == torch.float32 else 0.1), error
print("all equal")
"""


def test_an_encoder_runs_in_channels_last() -> None:
    """In a process of its own: oneDNN once crashed there, in a 1 x 1 convolution with a stride."""
    ran = subprocess.run(
        [sys.executable, "-c", CHANNELS_LAST], capture_output=True, text=True, timeout=120
    )
    assert (ran.returncode, ran.stdout) == (0, "all equal\n"), ran.stderr
