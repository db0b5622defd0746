"""The training loop. It yields what happens; whoever runs it decides what to show and to save."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from ..ahead import ahead
from ..errors import TrainingError
from . import adapter, chance, objective, optim, parallel
from .base import Base
from .batch import Batch, make_batch, picture_losses
from .checkpointing import set_checkpointing
from .config import TrainingSettings
from .learning import Learning, begin, trained_parts
from .ledger import Ledger, StepDone
from .material import Material
from .parallel import World
from .plan import Plan
from .planner import Way, Ways
from .turns import Turn, turns

__all__ = [
    "EpochDone",
    "Event",
    "Learning",
    "Shrunk",
    "StepDone",
    "begin",
    "train",
    "trained_parts",
]

NO_MEMORY = re.compile("out of memory|ALLOC_FAILED|can't allocate memory")
PATIENCE = {"cpu": 0.0, "cuda": 2.0}  # seconds after which steps that are done are told


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


def train(
    base: Base,
    plan: Plan,
    material: Material,
    settings: TrainingSettings,
    learning: Learning,
    device: str = "cpu",
    world: World | None = None,
    ways: Ways | None = None,
    looks: Callable[[int], bool] = lambda step: True,
) -> Iterator[Event]:
    """Trains the LoRA that is already on `base`, from `learning.step` on; an iterator of events.
    Batches are computed in the best of `ways`, or in one go; out of memory, in a smaller one.

    On a GPU, which works on while nobody asks what it has come to, several steps may be told at
    once; after those that `looks` is true for and at the end of an epoch nothing is left untold.

    Raises TrainingError when the loss stops being a number or explodes.
    """
    world = world or World()
    way = ways.best() if ways else Way(plan.batch_size, (), 0, 0.0)
    kept = objective.kept_signal(base.scheduler).to(device)
    rates = [group["lr"] for group in learning.optimizer.param_groups]
    passed = {**learning.parts, "unet": base.unet}  # gradients of the encoders pass it too
    for module in passed.values():  # for the LoRA's dropout, and for checkpointing
        module.train()
    set_checkpointing(passed, way.stages)
    since, ledger = learning.step, Ledger(plan.steps, learning.step)
    patience = 0.0 if world.count > 1 else PATIENCE[device]  # clocks differ; all tell at one place
    # On the CPU nothing would be gained: while a second thread computes, OpenMP puts the others to
    # sleep between operations, which doubles a small step's time.
    prepare = partial(ahead, workers=1, waiting=2) if device == "cuda" else map
    made = partial(_batches, base, material, settings, world, device)
    for turn, group in prepare(made, turns(plan, settings.seed, since)):
        if group:
            ledger.start()
            learning.whole = False
            factor = optim.rate_factor(turn.step - 1, plan.steps, settings)
            for values, rate in zip(learning.optimizer.param_groups, rates, strict=True):
                values["lr"] = rate * factor
            _hold_text(learning, settings, turn.step, plan.steps)
            while True:
                try:
                    loss = _gradients(base, turn, group, kept, settings, learning, world, way)
                    break
                except RuntimeError as error:
                    if not out_of_memory(error):
                        raise
                    way = _smaller(ways, way, world, error)
                    yield Shrunk(way, turn.step)
                _forget(learning, device)
                set_checkpointing(passed, way.stages)
            gradient = _follow(learning, settings)
            learning.whole = True
            rate = optim.effective_rate(learning.optimizer)
            unread = ledger.enter(turn, loss, rate, gradient)
            first = turn.step == since + 1  # a person waits to see it begin
            if first or turn.last or looks(turn.step) or unread >= patience:
                yield from ledger.read(learning)
        if turn.last:
            yield EpochDone(turn.epoch, plan.epochs, turn.step)


def out_of_memory(error: RuntimeError) -> bool:
    """Whether it is that: cuBLAS, cuDNN and the CPU have words of their own for it."""
    return isinstance(error, torch.OutOfMemoryError) or bool(NO_MEMORY.search(str(error)))


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


def _batches(
    base: Base,
    material: Material,
    settings: TrainingSettings,
    world: World,
    device: str,
    turn: Turn,
) -> tuple[Turn, list[Batch]]:
    """A turn with this process's part of its batches, every random choice made."""
    made = []
    for index, rows in enumerate(turn.group):
        place = (settings.seed, "step", turn.step, index)
        batch = make_batch(
            material, rows, base, settings, chance.generator(*place), chance.dice(*place)
        ).part(world.share(len(rows)))
        made.append(batch.moved(torch.Tensor.pin_memory) if device == "cuda" else batch)
    return turn, made


def _gradients(
    base: Base,
    turn: Turn,
    group: Sequence[Batch],
    kept: torch.Tensor,
    settings: TrainingSettings,
    learning: Learning,
    world: World,
    way: Way,
) -> torch.Tensor:
    """Adds up the gradients of a step's batches over all processes, so many pictures at a time;
    returns the mean loss of its pictures.
    """
    device, pictures = kept.device, sum(map(len, turn.group))
    value = torch.zeros((), device=device)
    for index, pinned in enumerate(group):
        torch.manual_seed(
            chance.number(settings.seed, "step", turn.step, index, "dropout", world.rank)
        )
        batch = pinned.moved(lambda each: each.to(device, non_blocking=True))
        for start in range(0, len(batch), way.at_once):
            some = batch.part(slice(start, start + way.at_once))
            loss = picture_losses(base, some, kept, settings).sum() / pictures
            learning.scaler.scale(loss).backward()
            value += loss.detach()
    parallel.sum_gradients([p for p in learning.parameters if p.requires_grad], world)
    return parallel.total(value, world)


def _follow(learning: Learning, settings: TrainingSettings) -> torch.Tensor:
    """Moves the LoRA along its gradients; returns their norm."""
    step = learning.step + 1
    learning.scaler.unscale_(learning.optimizer)
    learned = [p for p in learning.parameters if p.requires_grad]
    gradient = adapter.gradient_norm(learned, settings.gradient_clip)
    optim.step(learning.optimizer, learning.scaler, settings, step)
    learning.optimizer.zero_grad(set_to_none=True)
    if settings.max_norm:
        adapter.limit_norms(learning.parts, settings.max_norm)
    if learning.ema:
        learning.ema.update()
    learning.step = step
    return gradient


def _hold_text(learning: Learning, settings: TrainingSettings, step: int, steps: int) -> None:
    """Stops the text encoders' learning after their share of the steps."""
    if step > settings.text_encoder_share * steps:
        for part in ("te1", "te2"):
            if part in learning.parts:
                for parameter in adapter.trainable(learning.parts[part]):
                    parameter.requires_grad_(False)
