"""The loss and its randomness: noise or velocity prediction over SDXL's schedule, weighted by
signal-to-noise ratio. Pure functions; draws come from a CPU generator and are the same everywhere.

x_t = sqrt(kept) x_0 + sqrt(1 - kept) noise (Ho et al. 2020, eq. 4), `kept` being the cumulative
product of alphas. Tables over all timesteps are float64; what a picture's loss is made of is
float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from ..errors import BaseModelError
from .config import ObjectiveSettings

STEPS = 1000  # timesteps of the schedule


def kept_signal(scheduler: Mapping[str, Any]) -> torch.Tensor:
    """The share of signal variance at each timestep, shape (1000,), float64, of the base model's
    schedule: "scaled linear" betas, rescaled where `rescale_betas_zero_snr` is true.

    Raises BaseModelError for another kind of schedule.
    """
    name = str(scheduler.get("_class_name", ""))
    kind = (
        "EDM" if "EDM" in name else scheduler.get("beta_schedule", "linear")
    )  # diffusers' default
    kind = kind if scheduler.get("trained_betas") is None else "trained"
    count = scheduler.get("num_train_timesteps", STEPS)
    if kind != "scaled_linear" or count != STEPS:
        raise BaseModelError(
            f"The base model's scheduler has {count} steps of '{kind}' noise; SDXL's has {STEPS} "
            "of 'scaled_linear', and lorakit trains only that. Choose another base model."
        )
    start, end = scheduler["beta_start"], scheduler["beta_end"]
    betas = torch.linspace(start**0.5, end**0.5, STEPS, dtype=torch.float64) ** 2
    kept = torch.cumprod(1 - betas, 0)
    return zero_terminal_snr(kept) if scheduler.get("rescale_betas_zero_snr") else kept


def zero_terminal_snr(kept: torch.Tensor) -> torch.Tensor:
    """The schedule shifted and scaled so that the last timestep is pure noise and the first stays
    as it is (Lin et al. 2023, algorithm 1).
    """
    root = kept.sqrt()
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


def snr(kept: torch.Tensor) -> torch.Tensor:
    """Signal-to-noise ratio: kept / (1 - kept); 0 where nothing is kept."""
    return kept / (1 - kept)


def draw_timesteps(
    count: int, settings: ObjectiveSettings, generator: torch.Generator
) -> torch.Tensor:
    """Timesteps to train, shape (count,), long, from timestep_low up to below timestep_high.

    With u from 0 to 1 across that range: uniform, u is; logit_normal, logit(u) is normal around the
    bias (Esser et al. 2024, section 3.1); biased, u has the density exp(bias u), scaled.
    """
    low, high, bias = settings.timestep_low, settings.timestep_high, settings.timestep_bias
    if settings.timesteps == "uniform":
        return torch.randint(low, high, (count,), generator=generator)
    if settings.timesteps == "logit_normal":
        normal = torch.randn(count, generator=generator, dtype=torch.float64)
        u = torch.sigmoid(bias + normal)
    elif settings.timesteps == "biased":
        even = torch.rand(count, generator=generator, dtype=torch.float64)
        strength = torch.tensor(bias, dtype=torch.float64)
        u = torch.log1p(even * torch.expm1(strength)) / strength  # the inverse of the density's sum
    else:
        raise ValueError(
            f"timesteps is '{settings.timesteps}'; it must be 'uniform', 'logit_normal' or 'biased'"
        )
    # A u that was rounded up to 1 belongs to the last timestep, not to the one behind it.
    return (low + (u * (high - low)).long()).clamp(max=high - 1)


def draw_noise(
    shape: Sequence[int], settings: ObjectiveSettings, generator: torch.Generator
) -> torch.Tensor:
    """Noise for latents of `shape` (batch, channels, height, width), float32; each picture's is
    drawn and normalised by itself.

    The offset, one number for each picture and channel, is added behind the normalisation, so that
    it is as large as the setting says.
    """
    batch, channels, height, width = shape
    if settings.multires_iterations:
        size = (channels, height, width)
        noise = torch.stack([pyramid_noise(size, settings, generator) for _ in range(batch)])
    else:
        noise = torch.randn(batch, channels, height, width, generator=generator)
    if settings.noise_offset:
        shift = torch.randn(batch, channels, 1, 1, generator=generator)
        noise = noise + settings.noise_offset * shift
    return noise


def pyramid_noise(
    size: tuple[int, int, int], settings: ObjectiveSettings, generator: torch.Generator
) -> torch.Tensor:
    """Multi-resolution noise of one picture, (channels, height, width), mean square 1.

    White noise plus, for i = 0, 1, ..., noise that is ratio^i times coarser and discount^i times as
    strong, the ratio being drawn anew from 2 to 4 (Whitaker 2023, "Multi-resolution noise for
    diffusion model training"); it ends when a side is down to one value.
    """
    channels, height, width = size
    noise = torch.randn(size, generator=generator)
    for level in range(settings.multires_iterations):
        coarser = (2 + 2 * torch.rand((), generator=generator).item()) ** level
        sides = (max(1, int(height / coarser)), max(1, int(width / coarser)))
        coarse = torch.randn(1, channels, *sides, generator=generator)
        wide = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)[0]
        noise = noise + settings.multires_discount**level * wide
        if 1 in sides:
            break
    return noise / noise.square().mean().sqrt()


def input_noise(
    noise: torch.Tensor, settings: ObjectiveSettings, generator: torch.Generator
) -> torch.Tensor:
    """The noise that the U-Net's input gets while the target keeps `noise`: a little more of it
    (input perturbation, Ning et al. 2023).
    """
    if not settings.input_noise:
        return noise
    return noise + settings.input_noise * torch.randn(noise.shape, generator=generator)


def add_noise(x: torch.Tensor, noise: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """Noisy latents; `kept` has one value a picture."""
    signal, rest = _amplitudes(kept, x)
    return signal * x + rest * noise


def target(
    x: torch.Tensor, noise: torch.Tensor, kept: torch.Tensor, prediction: str
) -> torch.Tensor:
    """What to predict: the noise, or the velocity sqrt(kept) noise - sqrt(1 - kept) x (Salimans &
    Ho 2022).
    """
    if not _is_velocity(prediction):
        return noise
    signal, rest = _amplitudes(kept, x)
    return signal * noise - rest * x


def _amplitudes(kept: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """sqrt(kept) and sqrt(1 - kept) as (batch, 1, 1, 1); only the roots are rounded to x's type."""
    kept = kept.view(-1, 1, 1, 1)
    return kept.sqrt().to(x), (1 - kept).sqrt().to(x)


def _is_velocity(prediction: str) -> bool:
    if prediction not in ("epsilon", "v_prediction"):
        raise ValueError(f"prediction is '{prediction}'; it must be 'epsilon' or 'v_prediction'")
    return prediction == "v_prediction"


def weights(ratio: torch.Tensor, settings: ObjectiveSettings, prediction: str) -> torch.Tensor:
    """The weight of a loss at each signal-to-noise ratio; finite everywhere, ratio 0 included.

    A velocity at a ratio below 1 weighs 1 by default, and whatever gamma is more than 1/2, unless
    min_snr_form is 'paper'.
    """
    if settings.debiased:
        return debiased_weight(ratio, prediction)
    return min_snr_weight(ratio, settings.min_snr_gamma, prediction, settings.min_snr_form)


def min_snr_weight(
    ratio: torch.Tensor, gamma: float, prediction: str, form: str = "hard"
) -> torch.Tensor:
    """min-SNR-gamma weights; ones if gamma is 0.

    A mean squared error of the noise weighs the error of the picture by snr, min-SNR by min(snr,
    gamma) instead (Hang et al. 2023): for noise it is min(snr, gamma) / snr. 'soft' has
    snr gamma / (snr + gamma) in place of the minimum (Crowson et al. 2024).

    A velocity's error weighs the picture's by snr + 1 of its own. 'paper', min(snr, gamma) /
    (snr + 1), takes the 1 away, and with it the noisy half: 0.08 at timestep 500, 0.005 and with
    zero-terminal SNR 0 at the last. 'hard' and 'soft' keep it: (min(snr, gamma) + 1) / (snr + 1).
    """
    velocity = _is_velocity(prediction)
    if not gamma:
        return torch.ones_like(ratio)
    if form == "soft":
        limited = ratio * gamma / (ratio + gamma)
    elif form in ("hard", "paper"):
        limited = ratio.clamp(max=gamma)
    else:
        raise ValueError(f"min_snr_form is '{form}'; it must be 'hard', 'soft' or 'paper'")
    if velocity:
        return (limited + (form != "paper")) / (ratio + 1)
    return torch.where(ratio > 0, limited / ratio, 1.0)


def debiased_weight(ratio: torch.Tensor, prediction: str) -> torch.Tensor:
    """Debiased estimation (Yu et al. 2023): the square root of what the target itself weighs the
    picture's error by, over that weight.

    That is 1 / sqrt(snr) for noise, here from 1/1000 to 1000 so that the ends stay finite; and
    1 / sqrt(snr + 1) for velocity, which tends to the same at clean timesteps and to 1 at noisy
    ones. (sd-scripts divides by snr + 1 itself, which all but stops clean timesteps: 0.001 at the
    first.)
    """
    if _is_velocity(prediction):
        return (ratio + 1).rsqrt()
    return ratio.clamp(1e-3, 1e3).rsqrt()


def huber_thresholds(kept: torch.Tensor, settings: ObjectiveSettings) -> torch.Tensor:
    """From which error on huber and smooth_l1 count linearly, at each timestep of the schedule;
    shape and type of `kept`, the whole schedule (Khrapov et al. 2024).

    Constant, or from about 1 at the cleanest timestep to huber_threshold c at the noisiest:
    c + (1 - c) / (1 + sigma)^2 with sigma = sqrt(1 / snr), or c^(t / 1000).
    """
    c = settings.huber_threshold
    if settings.huber_schedule == "constant":
        return torch.full_like(kept, c)
    if settings.huber_schedule == "snr":
        signal, rest = kept.sqrt(), (1 - kept).sqrt()
        return c + (1 - c) * (signal / (signal + rest)) ** 2  # sigma may be infinite, this is not
    if settings.huber_schedule == "exponential":
        return c ** (torch.arange(len(kept), dtype=kept.dtype) / len(kept))
    raise ValueError(
        f"huber_schedule is '{settings.huber_schedule}'; it must be 'snr', 'exponential' or "
        "'constant'"
    )


def losses(
    guess: torch.Tensor,
    wanted: torch.Tensor,
    settings: ObjectiveSettings,
    threshold: torch.Tensor,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """The loss of each picture before weighting, (batch,), float32 whatever comes in.

    `threshold` (batch,) are huber_thresholds at the pictures' timesteps, unused by l2 and l1.
    `mask` (batch, 1, h, w), 0 to 1, weighs the latents' pixels: the loss is the mean over what it
    shows, however little that is; 0 if it shows nothing.
    """
    each = _distance(guess.float() - wanted.float(), settings, threshold)
    if mask is None:
        return each.mean(dim=(1, 2, 3))
    mask = mask.to(each)
    shown = mask.mean(dim=(1, 2, 3)).clamp(min=torch.finfo(torch.float32).tiny)
    return (each * mask).mean(dim=(1, 2, 3)) / shown


def _distance(
    error: torch.Tensor, settings: ObjectiveSettings, threshold: torch.Tensor
) -> torch.Tensor:
    """How much an error counts; huber and smooth_l1 in their pseudo-Huber form.

    These are 2 c (sqrt(error^2 + c^2) - c), near error^2 for small errors, and that over c; written
    without the difference of two nearly equal numbers.
    """
    if settings.loss == "l2":
        return error.square()
    if settings.loss == "l1":
        return error.abs()
    c = threshold.float().to(error.device).view(-1, 1, 1, 1)  # float first: MPS has no float64
    smooth = 2 * error.square() / ((error.square() + c.square()).sqrt() + c)
    if settings.loss == "smooth_l1":
        return smooth
    if settings.loss == "huber":
        return c * smooth
    raise ValueError(f"loss is '{settings.loss}'; it must be 'l2', 'l1', 'huber' or 'smooth_l1'")
