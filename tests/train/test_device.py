import platform
from collections.abc import Callable

import pytest
import torch

from localmi.errors import ConfigError
from localmi.train.device import autocast, choose_device, choose_dtype, if_it_diverges

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def test_devices_without_a_gpu(no_gpu: None) -> None:
    assert choose_device("auto") == CPU
    assert choose_device("cpu") == CPU
    with pytest.raises(ConfigError, match="device='cuda', but no GPU.*'cpu' or 'auto'"):
        choose_device("cuda")


def test_devices_with_a_gpu(gpu: None) -> None:
    assert choose_device("auto") == CUDA
    assert choose_device("cuda") == CUDA
    assert choose_device("cpu") == CPU


def test_on_a_gpu_float32_is_not_tf32(gpu: None) -> None:
    backends = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = True
        choose_device("cuda")
        assert not any(backend.allow_tf32 for backend in backends)
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_a_run_on_the_cpu_keeps_the_memory_it_frees() -> None:
    resource = pytest.importorskip("resource")

    def faults(of: Callable[[], object]) -> int:
        """Pages that the system had to map meanwhile."""
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        of()
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    def blocks() -> None:
        for _ in range(10):
            torch.ones(10_000_000)  # 40 MB: more than glibc ever keeps by itself

    choose_device("cpu")
    blocks()
    pages = 40_000_000 // resource.getpagesize()
    assert faults(blocks) < pages


def test_precision_by_name() -> None:
    for device in (CPU, CUDA):
        assert choose_dtype("float32", device) == torch.float32
        assert choose_dtype("bfloat16", device) == torch.bfloat16


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"avx2": True, "avx512_bf16": False}, torch.float32),
        ({}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
    ],
)
def test_auto_precision_asks_the_hardware(monkeypatch, capabilities, dtype) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert choose_dtype("auto", CPU) == dtype
    has = dtype == torch.bfloat16
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has)
    assert choose_dtype("auto", CUDA) == dtype


def test_matrices_are_multiplied_in_the_chosen_precision() -> None:
    weight = torch.ones(2, 2)
    for dtype in (torch.float32, torch.bfloat16):
        with autocast(CPU, dtype):
            assert (weight @ weight).dtype == dtype


def test_what_to_do_when_it_diverges_is_what_was_not_done_already() -> None:
    lower = "Begin a run anew with a learning_rate lower than 0.002"
    assert if_it_diverges(0.002, torch.float32) == f"{lower}."
    assert if_it_diverges(0.002, torch.bfloat16) == f"{lower}, or with precision=float32."
