"""The training loop. It yields what happens; whoever runs it decides what to show and to save."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch

from ..errors import TrainingError
from . import adapter, chance, objective, optim, parallel
from .base import Base
from .batch import make_batch, picture_losses
from .config import AdapterSettings, TrainingSettings
from .ema import Ema
from .material import Material
from .parallel import World
from .plan import Plan, batches

Modules = Mapping[str, torch.nn.Module]

ALARM = 20  # steps whose mean loss is compared with that of the first so many
EXPLODED = 10  # times the loss of the beginning
SKIPPED = 30  # steps in a row without a gradient: over fp16 its scale is a billionth by then


@dataclass(frozen=True)
class StepDone:
    """One step is done. `step` counts from 1 to `steps`; `seconds` is the time spent in steps of
    this run so far, `since` the step it began or was resumed at.
    """

    step: int
    steps: int
    epoch: int
    loss: float
    lr: float
    gradient: float
    seconds: float
    since: int = 0


@dataclass(frozen=True)
class EpochDone:
    """All batches of `epoch` (from 1) are done, or in the last one those up to max_steps."""

    epoch: int
    epochs: int
    step: int


Event = StepDone | EpochDone


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

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """The LoRA's weights, in a fixed order."""
        return [p for module in self.parts.values() for p in adapter.trainable(module)]


def trained_parts(base: Base, settings: AdapterSettings) -> dict[str, torch.nn.Module]:
    """The parts that get a LoRA: those whose learning rate is not 0."""
    rates = adapter.learning_rates(settings)
    return {part: module for part, module in base.parts.items() if rates[part]}


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
    scaler = torch.amp.GradScaler(device, enabled=base.unet.dtype == torch.float16)
    ema = Ema(parts, settings.ema) if settings.ema else None
    return Learning(parts, optimizer, scaler, ema)


def train(
    base: Base,
    plan: Plan,
    material: Material,
    settings: TrainingSettings,
    learning: Learning,
    device: str = "cpu",
    world: World | None = None,
) -> Iterator[Event]:
    """Trains the LoRA that is already on `base`, from `learning.step` on; an iterator of events.

    Raises TrainingError when the loss stops being a number or explodes.
    """
    world = world or World()
    kept = objective.kept_signal(base.scheduler)
    rates = [group["lr"] for group in learning.optimizer.param_groups]
    _enter_training(base, learning.parts, settings.checkpointing and device != "cpu")
    spent, since, step = 0.0, learning.step, 0
    for epoch in range(1, plan.epochs + 1):
        for group in steps_of_epoch(plan, epoch, settings.seed):
            if step == plan.steps:  # max_steps ends the last epoch early
                break
            step += 1
            if step <= since:  # done before the run was cut off
                continue
            began, learning.whole = time.monotonic(), False
            factor = optim.rate_factor(step - 1, plan.steps, settings)
            for values, rate in zip(learning.optimizer.param_groups, rates, strict=True):
                values["lr"] = rate * factor
            _hold_text(learning, settings, step, plan.steps)
            loss = _gradients(base, material, group, kept, settings, learning, device, world)
            gradient = _follow(learning, settings, loss, device)
            spent, learning.whole = spent + time.monotonic() - began, True
            rate = optim.effective_rate(learning.optimizer)
            yield StepDone(step, plan.steps, epoch, loss, rate, gradient, spent, since)
        if (
            step >= since
        ):  # cut off just before its end, an epoch ends again: its file may be missing
            yield EpochDone(epoch, plan.epochs, step)


def steps_of_epoch(plan: Plan, epoch: int, seed: int) -> list[list[list[int]]]:
    """The batches of each step of an epoch: one, or several whose gradients are averaged."""
    made = batches(plan, epoch, seed)
    return [made[i : i + plan.accumulation] for i in range(0, len(made), plan.accumulation)]


def _gradients(
    base: Base,
    material: Material,
    group: Sequence[Sequence[int]],
    kept: torch.Tensor,
    settings: TrainingSettings,
    learning: Learning,
    device: str,
    world: World,
) -> float:
    """Adds up the gradients of a step's batches over all processes; returns the mean loss of its
    pictures.
    """
    step, pictures = learning.step + 1, sum(map(len, group))
    value = torch.zeros((), device=device)
    for index, rows in enumerate(group):
        place = (settings.seed, "step", step, index)
        torch.manual_seed(chance.number(*place, "dropout", world.rank))
        batch = make_batch(
            material, rows, base, settings, chance.generator(*place), chance.dice(*place)
        ).part(world.share(len(rows)))
        if len(batch):
            loss = picture_losses(base, batch, kept, settings, device).sum() / pictures
            learning.scaler.scale(loss).backward()
            value += loss.detach()
    parallel.sum_gradients([p for p in learning.parameters if p.requires_grad], world)
    return float(parallel.total(value, world))


def _follow(learning: Learning, settings: TrainingSettings, loss: float, device: str) -> float:
    """Moves the LoRA along its gradients, unless the loss says that all is lost; returns their
    norm.
    """
    step = learning.step + 1
    _check(learning, loss, step)
    learning.scaler.unscale_(learning.optimizer)
    learned = [p for p in learning.parameters if p.requires_grad]
    gradient = adapter.gradient_norm(learned, settings.gradient_clip)
    _check_gradient(learning, gradient, step)
    optim.step(learning.optimizer, learning.scaler, settings, step)
    learning.optimizer.zero_grad(set_to_none=True)
    if settings.max_norm:
        adapter.limit_norms(learning.parts, settings.max_norm)
    if learning.ema:
        learning.ema.update()
    learning.step = step
    return gradient


ADVICE = (
    "Lower unet_lr and the text encoders' learning rates, or choose another precision; the LoRA "
    "files saved before are good."
)


def _check(learning: Learning, loss: float, step: int) -> None:
    """Raises TrainingError if the loss is no number, or many times what it was at the beginning."""
    if not math.isfinite(loss):
        raise TrainingError(f"The loss is not a number any more at step {step}. {ADVICE}")
    first, last = learning.first_losses, learning.last_losses
    if len(first) < ALARM:
        first.append(loss)
    last.append(loss)
    del last[:-ALARM]
    if len(first) == ALARM and sum(last) > EXPLODED * sum(first):
        raise TrainingError(
            f"The loss has exploded: {sum(last) / ALARM:.3g} at step {step}, "
            f"{sum(first) / ALARM:.3g} at the beginning. {ADVICE}"
        )


def _check_gradient(learning: Learning, gradient: float, step: int) -> None:
    """Raises TrainingError if the gradient is no number. Over a base in fp16 that is no more than
    the sign for the scaler to skip the step, unless smaller and smaller scales do not help either.
    """
    learning.skipped = 0 if math.isfinite(gradient) else learning.skipped + 1
    if learning.skipped >= (SKIPPED if learning.scaler.is_enabled() else 1):
        raise TrainingError(f"The gradient is not a number any more at step {step}. {ADVICE}")


def _hold_text(learning: Learning, settings: TrainingSettings, step: int, steps: int) -> None:
    """Stops the text encoders' learning after their share of the steps."""
    if step > settings.text_encoder_share * steps:
        for part in ("te1", "te2"):
            if part in learning.parts:
                for parameter in adapter.trainable(learning.parts[part]):
                    parameter.requires_grad_(False)


def _enter_training(base: Base, parts: Modules, checkpointing: bool) -> None:
    """Training mode matters for checkpointing and the adapter's dropout: nothing else in SDXL
    behaves otherwise while training.
    """
    for part, module in parts.items():
        module.train()
        if checkpointing:
            if part == "unet":
                module.enable_gradient_checkpointing()
            elif hasattr(module, "activation_checkpointing_enable"):  # its name from release 6 on
                module.activation_checkpointing_enable()
            else:  # re-entrant, which transformers 4 takes by itself, no gradient comes through
                module.gradient_checkpointing_enable({"use_reentrant": False})
