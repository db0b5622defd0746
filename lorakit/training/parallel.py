"""Several processes training one LoRA: `accelerate launch -m lorakit train PROJECT`.

Every process draws the whole batch's randomness and works on its own share of the pictures; the
gradients are added up. So many GPUs give what one gives for the same batch, but for rounding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class World:
    """The processes of a run. `rank` 0 is the one that saves, draws and speaks."""

    rank: int = 0
    count: int = 1

    @property
    def main(self) -> bool:
        return self.rank == 0

    def share(self, pictures: int) -> slice:
        """Which of a batch's pictures are this process's; may be none."""
        return slice(self.rank * pictures // self.count, (self.rank + 1) * pictures // self.count)


def join() -> World:
    """Joins the processes that `accelerate launch` started; alone, a world of one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return World()
    from accelerate import PartialState  # reads the launcher's variables, starts gloo or nccl

    # The others wait while the first encodes all pictures; ten thousand take longer than the half
    # hour that torch would wait.
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=1))
    return World(state.process_index, state.num_processes)


@torch.no_grad()
def sum_gradients(parameters: Sequence[torch.nn.Parameter], world: World) -> None:
    """Every process's gradients become the sum of all; a process that had no pictures adds zeros.
    A weight that has a gradient nowhere is left without: zeros would let it decay.

    One message for each number format: a LoRA has many small tensors.
    """
    if world.count == 1:
        return
    here = torch.tensor([float(p.grad is not None) for p in parameters]).to(parameters[0].device)
    counts = total(here, world).tolist()
    learning = [p for p, count in zip(parameters, counts, strict=True) if count]
    for parameter in learning:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for dtype in sorted({p.dtype for p in learning}, key=str):
        grads = [p.grad for p in learning if p.dtype == dtype and p.grad is not None]
        flat = torch.cat([grad.flatten() for grad in grads])
        dist.all_reduce(flat)
        for grad, part in zip(grads, flat.split([g.numel() for g in grads]), strict=True):
            grad.copy_(part.view_as(grad))


def total(value: torch.Tensor, world: World) -> torch.Tensor:
    """The sum of a value over all processes."""
    if world.count > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value


def anywhere(flag: bool, world: World) -> bool:
    """Whether `flag` is set in any process; all of them must ask, and all get the same answer."""
    if world.count == 1:
        return flag
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    return bool(total(torch.tensor(float(flag), device=device), world) > 0)


@contextmanager
def main_first(world: World) -> Iterator[None]:
    """The first process does what is inside, then all others at once."""
    if not world.main:
        wait(world)
    yield
    if world.main:
        wait(world)


def wait(world: World) -> None:
    """Goes on when every process has come here."""
    if world.count > 1:
        dist.barrier()
