"""The loss: noise or velocity prediction over SDXL's schedule, weighted by signal-to-noise ratio.
Pure functions.

x_t = sqrt(kept) x_0 + sqrt(1 - kept) noise (Ho et al. 2020, eq. 4), `kept` being the cumulative
product of alphas.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def kept_signal(scheduler: Mapping[str, Any]) -> torch.Tensor:
    """The share of signal variance at each timestep, shape (1000,), float64; SDXL's "scaled linear"
    betas.
    """
    start, end, count = (
        scheduler["beta_start"],
        scheduler["beta_end"],
        scheduler["num_train_timesteps"],
    )
    betas = torch.linspace(start**0.5, end**0.5, count, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0)


def snr(kept: torch.Tensor) -> torch.Tensor:
    """Signal-to-noise ratio: kept / (1 - kept)."""
    return kept / (1 - kept)


def add_noise(x: torch.Tensor, noise: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Noisy latents; `kept` has one value a picture."""
    kept = kept.view(-1, 1, 1, 1).to(x.dtype)
    return kept.sqrt() * x + (1 - kept).sqrt() * noise


def target(
    x: torch.Tensor, noise: torch.Tensor, kept: torch.Tensor, prediction: str
) -> torch.Tensor:
    """What to predict: the noise, or the velocity sqrt(kept) noise - sqrt(1 - kept) x (Salimans &
    Ho 2022).
    """
    if prediction == "epsilon":
        return noise
    if prediction == "v_prediction":
        kept = kept.view(-1, 1, 1, 1).to(x.dtype)
        return kept.sqrt() * noise - (1 - kept).sqrt() * x
    raise ValueError(f"prediction is '{prediction}'; it must be 'epsilon' or 'v_prediction'")


def min_snr_weight(ratio: torch.Tensor, gamma: float, prediction: str) -> torch.Tensor:
    """min-SNR-gamma weights (Hang et al. 2023): min(snr, gamma) / snr for noise, / (snr + 1) for
    velocity.
    """
    if not gamma:
        return torch.ones_like(ratio)
    return ratio.clamp(max=gamma) / (ratio if prediction == "epsilon" else ratio + 1)


def loss(guess: torch.Tensor, wanted: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Mean squared error in float32, per picture, times its weight, averaged."""
    each = (guess.float() - wanted.float()).pow(2).mean(dim=(1, 2, 3))
    return (each * weight.to(each)).mean()
