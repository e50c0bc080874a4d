"""Where a run computes, and how exactly."""

import ctypes
import sys
from typing import get_args

import torch

from localmi.errors import ConfigError, check_name
from localmi.names import Device, Precision

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h: -1 never trims, 0 maps no block on its own


def choose_device(name: Device) -> torch.device:
    """ "auto" takes the GPU where there is one; with the CPU, see `keep_freed_memory`.

    On a GPU float32 is float32 from here on, not TF32 with its 10 bits, which is torch's default
    for convolutions.

    Raises:
        ConfigError: unknown name, or no GPU is there.
    """
    check_name("device", name, get_args(Device))
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device='cuda', but no GPU is visible to torch. Use 'cpu' or 'auto'.")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        keep_freed_memory()
    else:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
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


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """ "auto" takes bfloat16 where the hardware multiplies it, float32 elsewhere.

    Raises:
        ConfigError: unknown precision.
    """
    check_name("precision", precision, get_args(Precision))
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


def computed_in(device: torch.device, dtype: torch.dtype) -> dict[str, str]:
    """Device and precision by name, for the record of a run: "auto" says neither."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"device": name, "precision": str(dtype).removeprefix("torch.")}


def if_it_diverges(learning_rate: float, dtype: torch.dtype) -> str:
    """What to do about a value that is no number; a run itself goes on only as it began."""
    also = "" if dtype == torch.float32 else ", or with precision=float32"
    return f"Begin a run anew with a learning_rate lower than {learning_rate:g}{also}."
