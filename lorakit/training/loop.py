"""The training loop. It yields what happens; whoever runs it decides what to show and to save."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch

from ..errors import SettingsError, TrainingError
from . import adapter, chance, objective, optim, parallel
from .base import Base
from .batch import make_batch, picture_losses
from .checkpointing import set_checkpointing
from .config import AdapterSettings, TrainingSettings
from .ema import Ema
from .material import Material, trained_names
from .parallel import World
from .plan import Plan, batches
from .planner import Way, Ways

Modules = Mapping[str, torch.nn.Module]

OutOfMemory = torch.OutOfMemoryError
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


@dataclass(frozen=True)
class Shrunk:
    """Memory ran out in `step`, which is done again in another way."""

    way: Way
    step: int


Event = StepDone | EpochDone | Shrunk


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
    return {part: base.parts[part] for part in trained_names(settings)}


def begin(base: Base, settings: TrainingSettings, device: str) -> Learning:
    """Optimiser and all for the LoRA that is already on `base`. Raises SettingsError if it could
    not be saved as the settings want it, or for the optimiser's arguments.
    """
    parts = trained_parts(base, settings)
    dora = any(name.endswith("dora_scale") for name, _ in adapter.named_weights(parts))
    if settings.save_diffusers and dora:
        raise SettingsError(
            f"training: save_diffusers is on, but continue_from ({settings.continue_from}) is a "
            "DoRA, for which diffusers' names have no place. Turn save_diffusers off or go on from "
            "another file."
        )
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
    ways: Ways | None = None,
) -> Iterator[Event]:
    """Trains the LoRA that is already on `base`, from `learning.step` on; an iterator of events.
    Batches are computed in the best of `ways`, or in one go; out of memory, in a smaller one.

    Raises TrainingError when the loss stops being a number or explodes.
    """
    world = world or World()
    way = ways.best() if ways else Way(plan.batch_size, (), 0, 0.0)
    kept = objective.kept_signal(base.scheduler)
    rates = [group["lr"] for group in learning.optimizer.param_groups]
    for module in learning.parts.values():  # for the LoRA's dropout, and for checkpointing
        module.train()
    set_checkpointing(learning.parts, way.stages)
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
            while True:
                try:
                    loss = _gradients(
                        base, material, group, kept, settings, learning, device, world, way.at_once
                    )
                    break
                except OutOfMemory as error:
                    way = _smaller(ways, way, world, error)
                    yield Shrunk(way, step)
                _forget(learning, device)
                set_checkpointing(learning.parts, way.stages)
            gradient = _follow(learning, settings, loss, device)
            spent, learning.whole = spent + time.monotonic() - began, True
            rate = optim.effective_rate(learning.optimizer)
            yield StepDone(step, plan.steps, epoch, loss, rate, gradient, spent, since)
        if (
            step >= since
        ):  # cut off just before its end, an epoch ends again: its file may be missing
            yield EpochDone(epoch, plan.epochs, step)


def _smaller(ways: Ways | None, way: Way, world: World, error: RuntimeError) -> Way:
    """The next smaller way. Raises TrainingError if there is none; where several processes wait for
    one another, one alone cannot change it.
    """
    smaller = ways.smaller(way) if ways and world.count == 1 else None
    if smaller is None:
        raise TrainingError(
            "The memory does not suffice for one step. Set at_once to 1 and checkpointing to full, "
            "or lower resolution or rank, or free memory that other programs hold."
        ) from error
    return smaller


def _forget(learning: Learning, device: str) -> None:
    """Takes back what a step that was not finished has left behind."""
    learning.optimizer.zero_grad(set_to_none=True)
    if device == "cuda":
        torch.cuda.empty_cache()


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
    at_once: int,
) -> float:
    """Adds up the gradients of a step's batches over all processes, so many pictures at a time;
    returns the mean loss of its pictures.
    """
    step, pictures = learning.step + 1, sum(map(len, group))
    value = torch.zeros((), device=device)
    for index, rows in enumerate(group):
        place = (settings.seed, "step", step, index)
        torch.manual_seed(chance.number(*place, "dropout", world.rank))
        batch = make_batch(
            material, rows, base, settings, chance.generator(*place), chance.dice(*place)
        ).part(world.share(len(rows)))
        for start in range(0, len(batch), at_once):
            some = batch.part(slice(start, start + at_once))
            loss = picture_losses(base, some, kept, settings, device).sum() / pictures
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
