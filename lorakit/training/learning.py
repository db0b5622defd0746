"""All that changes while a LoRA is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property

import torch

from . import adapter, optim
from .base import Base
from .config import AdapterSettings, TrainingSettings
from .ema import Ema
from .material import trained_names

Modules = Mapping[str, torch.nn.Module]


@dataclass
class Learning:
    """All that changes while a LoRA is trained: what a run that was cut off needs to go on."""

    parts: Modules
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema: Ema | None
    step: int = 0
    first_losses: list[float] = field(default_factory=list)
    last_losses: list[float] = field(default_factory=list)
    skipped: int = 0  # steps in a row whose gradient was not a number

    whole: bool = True  # False in the middle of a step

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The weights as they are to be saved and drawn while the context lasts: the running
        average, or what a schedule-free optimiser has learnt.
        """
        with optim.eval_mode(self.optimizer), self.ema.averaged() if self.ema else nullcontext():
            yield

    @cached_property
    def parameters(self) -> list[torch.nn.Parameter]:
        """The LoRA's weights, in a fixed order; thousands of modules are looked at for them."""
        return [p for module in self.parts.values() for p in adapter.trainable(module)]


def trained_parts(base: Base, settings: AdapterSettings) -> dict[str, torch.nn.Module]:
    """The parts that get a LoRA: those whose learning rate is not 0."""
    return {part: base.parts[part] for part in trained_names(settings)}


def begin(base: Base, settings: TrainingSettings, device: str) -> Learning:
    """Optimiser and all for the LoRA that is already on `base`. Raises SettingsError for the
    optimiser's arguments.
    """
    parts = trained_parts(base, settings)
    if settings.lora_precision == "bf16":
        for module in parts.values():
            for parameter in adapter.trainable(module):
                parameter.data = parameter.data.bfloat16()
    optimizer = optim.make_optimizer(settings, adapter.parameter_groups(parts, settings), device)
    scaler = torch.amp.GradScaler(device, enabled=base.dtype == torch.float16)
    ema = Ema(parts, settings.ema) if settings.ema else None
    return Learning(parts, optimizer, scaler, ema)
