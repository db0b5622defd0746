"""The device a run is on, the number format of the base there, and its free memory."""

from __future__ import annotations

import ctypes

import psutil
import torch

from .config import BaseSettings


def choose_device(settings: BaseSettings, rank: int = 0) -> tuple[str, torch.dtype, str]:
    """Device, number format of the base, and why; `rank` counts this machine's processes."""
    formats = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if not torch.cuda.is_available():
        # Attention that has made up its mind fills the backward pass with denormal numbers, which
        # made it 2.5 times slower. Threads take this over when they start: it must come early.
        torch.set_flush_denormal(True)
        wanted = "fp32" if settings.precision == "auto" else settings.precision
        return "cpu", formats[wanted], f"no GPU found: training on the CPU in {wanted}"
    torch.cuda.set_device(rank % torch.cuda.device_count())
    name, memory = (
        torch.cuda.get_device_name(),
        torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory / 2**30,
    )
    best = "bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp16"
    wanted = best if settings.precision == "auto" else settings.precision
    why = "" if best == "bf16" else " (it has no bf16)"
    return "cuda", formats[wanted], f"{name}, {memory:.0f} GB: base in {wanted}{why}, LoRA in fp32"


def free_memory(device: str) -> int:
    """Bytes that this process may still take: on the GPU, or on a machine without one. What was
    freed and is only held in reserve is given back first.
    """
    if device == "cpu":
        _ask_libc("malloc_trim", 0)
        return int(psutil.virtual_memory().available)
    torch.cuda.empty_cache()
    free, whole = torch.cuda.mem_get_info()
    share = getattr(torch.cuda, "get_per_process_memory_fraction", lambda: 1.0)()  # torch >= 2.8
    return int(min(free, share * whole - torch.cuda.memory_reserved()))


def keep_no_reserve(device: str) -> None:
    """From now on large tensors that are freed on the CPU are given back at once. For weights that
    are unpacked all the time: glibc would come to hold more of such memory than it saves.
    """
    if device == "cpu":
        threshold = -3  # M_MMAP_THRESHOLD of malloc.h
        _ask_libc("mallopt", threshold, 2**20)


def _ask_libc(name: str, *numbers: int) -> None:
    """Calls a function that only glibc has."""
    try:
        getattr(ctypes.CDLL(None), name)(*numbers)
    except (AttributeError, OSError, TypeError):  # another C library; TypeError: Windows
        return
