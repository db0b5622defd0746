"""A LoRA so small that an optimiser's steps on it take no time: a bowl with a bottom nearby."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from lorakit.training import optim
from lorakit.training.config import OptimizerSettings, TrainingSettings

# Up and down matrices as a LoRA has them: one starts at zero, one is large enough for 8 bits, one
# belongs to a convolution. The last two are the text encoder's.
SHAPES = ((8, 600), (64, 8), (4, 6, 3, 3), (16, 4))
TEXT = 2

Weights = list[torch.nn.Parameter]
OFF = torch.amp.GradScaler("cpu", enabled=False)


def weights(dtype: torch.dtype = torch.float32) -> Weights:
    """The same each time."""
    dice = torch.Generator().manual_seed(5)
    values = [0.1 * torch.randn(shape, generator=dice) for shape in SHAPES]
    values[1].zero_()
    return [torch.nn.Parameter(value.to(dtype)) for value in values]


def aims(distance: float = 0.01) -> list[torch.Tensor]:
    """Where the bottom of the bowl is: `distance` away for the U-Net's, a fifth of it for the text
    encoder's.
    """
    dice = torch.Generator().manual_seed(6)
    return [
        w.detach() + distance * (0.2 if i >= TEXT else 1) * torch.randn(w.shape, generator=dice)
        for i, w in enumerate(weights())
    ]


def loss(values: Sequence[torch.Tensor], goal: Sequence[torch.Tensor]) -> torch.Tensor:
    """A bowl that is ten times steeper in some directions than in others."""
    return sum(
        (
            (torch.linspace(0.1, 1, w.numel()).view(w.shape) * (w.float() - aim) ** 2).sum()
            for w, aim in zip(values, goal, strict=True)
        ),
        torch.zeros(()),
    )


def groups(values: Weights, settings: TrainingSettings) -> list[dict[str, Any]]:
    return [
        {"params": values[:TEXT], "lr": settings.unet_lr, "part": "unet"},
        {"params": values[TEXT:], "lr": settings.text_encoder_lr, "part": "te1"},
    ]


def settings_for(optimizer: str, **changes: Any) -> TrainingSettings:
    return TrainingSettings(
        **({"optimizer": optimizer, "warmup": 0.0} | optim.recommended(optimizer) | changes)
    )


def learner(values: Weights, settings: TrainingSettings) -> torch.optim.Optimizer:
    return optim.make_optimizer(settings, groups(values, settings), "cpu")


def go(
    optimizer: torch.optim.Optimizer,
    values: Weights,
    settings: OptimizerSettings,
    steps: range,
    of: int,
    distance: float = 0.01,
    slope: Callable[[Weights], torch.Tensor] | None = None,
) -> None:
    """Takes `steps` of a run of `of` steps down the bowl (or another `slope`)."""
    goal = aims(distance)
    full = {"unet": settings.unet_lr, "te1": settings.text_encoder_lr}  # type: ignore[attr-defined]
    for number in steps:
        for group in optimizer.param_groups:
            group["lr"] = full[group["part"]] * optim.rate_factor(number, of, settings)
        (slope(values) if slope else loss(values, goal)).backward()
        optim.step(optimizer, OFF, settings, number + 1)  # type: ignore[arg-type]
        optimizer.zero_grad(set_to_none=True)
