"""What happens around each step of an optimiser, whichever it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.optim import Optimizer

from .. import chance
from ..config import RunningSettings

# These estimate one distance d for all groups, and take the first group's rate for all of them.
ONE_DISTANCE = ("Prodigy", "DAdaptAdam", "DAdaptLion")


def effective_rate(optimizer: Optimizer) -> float:
    """The rate that the first group moves at: its learning rate, times the estimated distance d of
    those that find their own.
    """
    first = optimizer.param_groups[0]
    return float(first["lr"] * first.get("d", 1.0))


def step(
    optimizer: Optimizer, scaler: torch.amp.GradScaler, settings: RunningSettings, number: int
) -> None:
    """One step of the optimiser and of the scaler, whose gradients are unscaled already.

    Weights in bf16 are moved in float32 and rounded at random, by dice that the seed and the step's
    `number` decide.
    """
    with _widened(optimizer, chance.number(settings.seed, "rounding", number)):
        with _one_rate(optimizer):
            scaler.step(optimizer)
    scaler.update()


@contextmanager
def _widened(optimizer: Optimizer, seed: int) -> Iterator[None]:
    """Weights in bf16 and their gradients are float32 while the context lasts."""
    low = [
        p
        for group in optimizer.param_groups
        for p in group["params"]
        if p.dtype == torch.bfloat16 and p.grad is not None
    ]
    for p in low:
        gradient, p.grad = p.grad, None
        p.data = p.data.float()
        p.grad = gradient.float()
    try:
        yield
    finally:
        generator = torch.Generator(low[0].device).manual_seed(seed) if low else None
        for p in low:
            p.grad = None
            p.data = round_randomly(p.data, generator)


def round_randomly(values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """float32 as bf16, up or down with odds such that the mean is the value (Gupta et al. 2015).

    bf16 is the upper half of a float32: a random number added to the lower half carries over as
    often as that half is large.
    """
    chances = torch.randint(
        0, 1 << 16, values.shape, generator=generator, device=values.device, dtype=torch.int32
    )
    bits = values.view(torch.int32) + chances
    return (bits & -(1 << 16)).view(torch.float32).to(torch.bfloat16)


@contextmanager
def _one_rate(optimizer: Optimizer) -> Iterator[None]:
    """Lets groups of a one-distance optimiser have rates of their own, as shares of the largest.

    Those optimisers follow one rate and know one scale of distance. A group that is to move at a
    share s of it is shown in a unit 1/s times as large: weights w/s, gradients s*g. Adam's and
    Lion's steps do not depend on that unit, so w moves at s times the rate, and d is measured in
    the distances that are really gone. A group at rate 0 takes no part.
    """
    if type(optimizer).__name__ not in ONE_DISTANCE:
        yield
        return
    rates = [group["lr"] for group in optimizer.param_groups]
    full, shown = max(rates), []
    try:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = full
            for p in group["params"]:
                if p.grad is None or rate == full > 0:
                    continue
                if rate:
                    shown.append((p, rate / full))
                    p.data.div_(rate / full)
                    p.grad.mul_(rate / full)
                else:
                    p.grad = None
        yield
    finally:
        for p, share in shown:
            p.data.mul_(share)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate


@contextmanager
def eval_mode(optimizer: Optimizer) -> Iterator[None]:
    """Shows the weights that a schedule-free optimiser has learnt, while the context lasts; nothing
    happens for the others.

    It trains at y = (1 - beta) z + beta x and learns the average x (Defazio et al. 2024, equation
    4). Afterwards y is back bit for bit, which the optimisers' own train() after eval() is not.
    """
    trained = []
    for group in optimizer.param_groups:
        for p in group["params"]:
            z = optimizer.state.get(p, {}).get("z")
            if z is not None:
                trained.append((p, p.data.clone()))
                p.data.copy_(p.data.float().lerp(z, 1 - 1 / group["betas"][0]))
    try:
        yield
    finally:
        for p, kept in trained:
            p.data.copy_(kept)
