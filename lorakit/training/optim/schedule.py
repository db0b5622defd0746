"""The course of the learning rate: a share of the full rate for every step of a run.

All schedules begin with one linear warm-up over a share of the run's true number of steps and share
out the rest, so that the last step of a falling one is its smallest. None ends below zero or at a
rate of its own, so the same course holds for every group of weights.
"""

from __future__ import annotations

import math

from ..config import OptimizerSettings
from ..config.optimizer import SCHEDULES

# REX as the SDXL trainers know it (OneTrainer and kohya's plug-ins): nearly straight, steep at its
# end. Chen et al. 2021 have 0.5.
REX_DEPTH = 0.9
REX_PEAK = 0.9  # of the last cycle's


def rate_factor(step: int, steps: int, settings: OptimizerSettings) -> float:
    """The learning rate at `step` (from 0) of a run of `steps`, as a share of the full one.

    Raises ValueError for a schedule that does not exist.
    """
    rising = round(settings.warmup * steps)
    if step < rising:
        return (step + 1) / rising
    done, length = step - rising, max(1, steps - rising)
    return 1.0 if settings.schedule_free else falling(done, length, settings)


def falling(done: int, length: int, settings: OptimizerSettings) -> float:
    """The schedule alone: the rate after `done` of `length` steps, as a share of its peak."""
    schedule, left = settings.schedule, 1 - done / length
    # Whole numbers: a cycle's first step must not fall to the one before by rounding.
    cycle, of_cycle = divmod(done * settings.schedule_cycles, length)
    if schedule == "constant":
        return 1.0
    if schedule == "linear":
        return left
    if schedule == "polynomial":
        return left**settings.schedule_power
    if schedule == "cosine":  # Loshchilov & Hutter 2017, equation 5
        return 0.5 * (1 - math.cos(math.pi * left))
    if schedule == "restarts":
        return 0.5 * (1 + math.cos(math.pi * of_cycle / length))
    if schedule == "rex":  # Chen, Wolfe & Kyrillidis 2021, equation 2
        left = 1 - of_cycle / length
        return REX_PEAK**cycle * left / (1 - REX_DEPTH + REX_DEPTH * left)
    raise ValueError(f"there is no schedule '{schedule}'; there are: {', '.join(SCHEDULES)}")
