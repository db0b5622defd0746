"""The steps of a plan, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .plan import Plan, batches


@dataclass(frozen=True)
class Turn:
    """One step of a plan: its batches, as numbers of pictures; none of them, if only the end of the
    epoch is left to do. `last` in its epoch.
    """

    epoch: int
    step: int
    group: Sequence[Sequence[int]]
    last: bool


def turns(plan: Plan, seed: int, since: int) -> Iterator[Turn]:
    """What is left of a plan after step `since`. An epoch that ended with that step ends again: the
    run may have been cut off before its file was written.
    """
    step = 0
    for epoch in range(1, plan.epochs + 1):
        groups = steps_of_epoch(plan, epoch, seed)[: plan.steps - step]  # max_steps ends it early
        for group in groups:
            step += 1
            if step > since:
                yield Turn(epoch, step, group, step == plan.steps or group is groups[-1])
        if step == since:
            yield Turn(epoch, step, (), True)


def steps_of_epoch(plan: Plan, epoch: int, seed: int) -> list[list[list[int]]]:
    """The batches of each step of an epoch: one, or several whose gradients are averaged."""
    made = batches(plan, epoch, seed)
    return [made[i : i + plan.accumulation] for i in range(0, len(made), plan.accumulation)]
