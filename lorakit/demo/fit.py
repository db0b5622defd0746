"""Trains every network of the embedded world: AdamW, warm-up, cosine, running average."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

log = logging.getLogger(__name__)


def train_loop(
    name: str,
    module: torch.nn.Module,
    loss_of: Callable[[int], torch.Tensor],
    steps: int,
    lr: float,
    folder: Path,
    decay: float,
) -> torch.nn.Module:
    """Trains `module` with AdamW, warm-up and cosine; returns its exponential moving average.
    Resumes from `folder`.
    """
    module.train()
    average = copy.deepcopy(module).requires_grad_(False)
    optimizer = torch.optim.AdamW(
        module.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True
    )
    path, first = folder / f"{name}.ckpt", 0
    if path.exists():
        saved = torch.load(path, weights_only=True)
        module.load_state_dict(saved["module"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        first = saved["step"]
    started, recent = time.time(), []
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = (
                lr
                * min(1, (step + 1) / 100)
                * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * step / steps)))
            )
        loss = loss_of(step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        _follow(average, module, min(decay, (step + 1) / (step + 10)))
        recent.append(loss.item())
        if step % 50 == 49:
            pace = (time.time() - started) / (step + 1 - first)
            log.info(
                "%s step %d/%d loss %.4f, %.2f s a step, %.0f min left",
                name,
                step + 1,
                steps,
                np.mean(recent[-50:]),
                pace,
                pace * (steps - step) / 60,
            )
        if step % 250 == 249 or step == steps - 1:
            state = {
                "module": module.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step + 1,
            }
            torch.save(state, path.with_suffix(".tmp"))
            path.with_suffix(".tmp").rename(path)
    return average.eval()


@torch.no_grad()
def _follow(average: torch.nn.Module, module: torch.nn.Module, decay: float) -> None:
    """One step of the exponential moving average of the weights."""
    torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), 1 - decay)


def as_tensor(pixels: np.ndarray) -> torch.Tensor:
    """uint8 NHWC to float NCHW in -1..1."""
    return (
        torch.from_numpy(np.ascontiguousarray(pixels))
        .permute(0, 3, 1, 2)
        .float()
        .div_(127.5)
        .sub_(1)
    )
