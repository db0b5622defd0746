"""The training loop. It yields what happens; whoever runs it decides what to show and to save."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch

from ..errors import TrainingError
from . import adapter, cache, objective
from .base import Base
from .captions import prior_caption, shown_caption
from .config import AdapterSettings, TrainingSettings
from .optim import make_optimizer, rate_factor
from .plan import Plan, batches
from .text import encode_captions


@dataclass(frozen=True)
class StepDone:
    """One step is done. `step` counts from 1 to `steps`; `seconds` is the time spent in steps so
    far.
    """

    step: int
    steps: int
    epoch: int
    loss: float
    lr: float
    gradient: float
    seconds: float


@dataclass(frozen=True)
class EpochDone:
    """All batches of `epoch` (from 1) are done."""

    epoch: int
    epochs: int
    step: int


Event = StepDone | EpochDone


def trained_parts(base: Base, settings: TrainingSettings) -> dict[str, torch.nn.Module]:
    """The parts that get a LoRA: those whose learning rate is not 0."""
    rates = learning_rates(settings)
    return {part: module for part, module in base.parts.items() if rates[part]}


def learning_rates(settings: AdapterSettings) -> dict[str, float]:
    """The full learning rate of each part."""
    return {
        "unet": settings.unet_lr,
        "te1": settings.text_encoder_lr,
        "te2": settings.text_encoder_2_lr,
    }


def train(
    base: Base,
    plan: Plan,
    latents: Sequence[torch.Tensor],
    captions: Sequence[str],
    settings: TrainingSettings,
    device: str = "cpu",
) -> Iterator[Event]:
    """Trains the LoRA that is already on `base`; an iterator of events.

    `latents` and `captions` belong to `plan.placements`, one each.
    Raises TrainingError when the loss stops being a number.
    """
    parts = trained_parts(base, settings)
    rates = learning_rates(settings)
    groups = [
        {"params": adapter.trainable(module), "lr": rates[part]} for part, module in parts.items()
    ]
    parameters = [p for module in parts.values() for p in adapter.trainable(module)]
    optimizer = make_optimizer(settings, groups, device)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: rate_factor(s, plan.steps, settings.warmup, settings.schedule)
    )
    scaler = torch.amp.GradScaler(device, enabled=base.unet.dtype == torch.float16)
    kept = objective.kept_signal(base.scheduler)
    generator = torch.Generator().manual_seed(settings.seed)
    _enter_training(base, parts, settings.checkpointing and device != "cpu")
    step, spent = 0, 0.0
    for epoch in range(1, plan.epochs + 1):
        for rows in batches(plan, epoch, settings.seed):
            began = time.monotonic()
            rng = random.Random(settings.seed * 1_000_003 + step)
            x = torch.stack(
                [cache.sample(latents[i], base.vae.config.scaling_factor, generator) for i in rows]
            )
            texts = [shown_caption(captions[i], settings, rng) for i in rows]
            ids = torch.tensor([plan.placements[i].time_ids for i in rows], dtype=torch.float32)
            if settings.prior_weight:
                texts += [prior_caption(captions[i], settings, rng) for i in rows]
            loss = batch_loss(base, x, texts, ids, kept, settings, generator, device)
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            gradient = adapter.gradient_norm(parameters, settings.gradient_clip)
            rate = schedule.get_last_lr()[0]
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
            step += 1
            _check(loss.item(), step)
            spent += time.monotonic() - began
            yield StepDone(step, plan.steps, epoch, loss.item(), rate, gradient, spent)
        yield EpochDone(epoch, plan.epochs, step)


def batch_loss(
    base: Base,
    x: torch.Tensor,
    captions: Sequence[str],
    time_ids: torch.Tensor,
    kept: torch.Tensor,
    settings: TrainingSettings,
    generator: torch.Generator,
    device: str,
) -> torch.Tensor:
    """The loss of one batch: `x` (batch, 4, h, w) scaled latents, `time_ids` (batch, 6).

    `captions` are one a picture; with a prior weight a second one each follows, and the batch is
    shown again with those: prior preservation (Ruiz et al. 2022, section 3.3), only that the target
    is not a picture drawn before but what the base itself guesses here.
    """
    noise = torch.randn(x.shape, generator=generator)
    t = torch.randint(0, len(kept), (len(x),), generator=generator)
    signal = kept[t]
    wanted = objective.target(x, noise, signal, base.prediction)
    weight = objective.min_snr_weight(
        objective.snr(kept)[t], settings.min_snr_gamma, base.prediction
    )
    noisy = objective.add_noise(x, noise, signal).to(device, base.unet.dtype)
    t, time_ids, count = t.to(device), time_ids.to(device), len(x)
    wanted, weight = wanted.to(device), weight.to(device)
    if settings.prior_weight:
        with torch.no_grad(), adapter.without(trained_parts(base, settings)):
            held = _guess(base, noisy, t, captions, time_ids, settings, slice(count, None))
        noisy, t, time_ids = noisy.repeat(2, 1, 1, 1), t.repeat(2), time_ids.repeat(2, 1)
        wanted = torch.cat([wanted, held.to(wanted)])
        weight = torch.cat([weight, settings.prior_weight * weight])
    guess = _guess(base, noisy, t, captions, time_ids, settings)
    return objective.loss(guess, wanted, weight) * (len(guess) / count)


def _guess(
    base: Base,
    noisy: torch.Tensor,
    t: torch.Tensor,
    captions: Sequence[str],
    time_ids: torch.Tensor,
    settings: TrainingSettings,
    part: slice = slice(None),
) -> torch.Tensor:
    """What the U-Net, as it is, makes of noisy latents under a part of these captions.

    All of them are encoded: a caption's hidden states are as long as the longest beside it.
    """
    device, dtype = noisy.device.type, base.unet.dtype
    with torch.autocast(device, dtype, enabled=dtype != torch.float32):
        with (
            nullcontext()
            if settings.text_encoder_lr or settings.text_encoder_2_lr
            else torch.no_grad()
        ):
            hidden, pooled = encode_captions(base.tokenizers, base.encoders, captions)
        conditions = {"text_embeds": pooled[part], "time_ids": time_ids}
        return base.unet(noisy, t, hidden[part], added_cond_kwargs=conditions).sample


def _enter_training(base: Base, parts: dict[str, torch.nn.Module], checkpointing: bool) -> None:
    """Training mode only matters for checkpointing: nothing in SDXL behaves otherwise while
    training.
    """
    for part, module in parts.items():
        module.train()
        if checkpointing:
            if part == "unet":
                module.enable_gradient_checkpointing()
            else:
                module.gradient_checkpointing_enable()


def _check(loss: float, step: int) -> None:
    if loss != loss or loss in (float("inf"), float("-inf")):
        raise TrainingError(
            f"The loss is not a number any more at step {step}. Lower unet_lr and text_encoder_lr "
            "to a third, or use precision fp32."
        )
