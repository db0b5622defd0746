"""The device a run is on, and the number format of the base there."""

from __future__ import annotations

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
