"""Optimisers and the course of the learning rate."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch

from .config import TrainingSettings

log = logging.getLogger(__name__)

# The second moment forgets sooner than Adam's default: runs here have hundreds of steps, not
# millions.
BETAS = (0.9, 0.99)


def rate_factor(step: int, steps: int, warmup: float, schedule: str) -> float:
    """The learning rate at `step` (from 0) as a share of the full one; `warmup` is a share of all
    steps.
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    progress = (step - rising) / max(1, steps - rising)
    if schedule == "constant":
        return 1.0
    if schedule == "linear":
        return 1 - progress
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    raise ValueError(f"schedule is '{schedule}'; it must be 'constant', 'linear' or 'cosine'")


def make_optimizer(
    settings: TrainingSettings, groups: list[dict[str, Any]], device: str
) -> torch.optim.Optimizer:
    """The optimiser named in the settings; each group has `params` and `lr`."""
    if settings.optimizer == "AdamW8bit":
        if device.startswith("cuda"):
            try:
                from bitsandbytes.optim import AdamW8bit
            except (ImportError, OSError, RuntimeError) as error:
                log.warning(
                    "AdamW8bit needs bitsandbytes, which does not load here (%s): using AdamW, a "
                    "little more memory.",
                    error,
                )
            else:
                return AdamW8bit(groups, betas=BETAS, weight_decay=settings.weight_decay)
        else:
            log.warning(
                "AdamW8bit needs a GPU: using AdamW in float32 instead; the result is the same or "
                "better."
            )
    return torch.optim.AdamW(groups, betas=BETAS, weight_decay=settings.weight_decay)
