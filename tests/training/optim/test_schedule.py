"""The course of the learning rate, against references worked out apart from the code."""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
import torch
from diffusers import optimization as diffusers

from lorakit.training.config import OptimizerSettings
from lorakit.training.config.optimizer import OPTIMIZERS, SCHEDULES
from lorakit.training.optim import rate_factor

LENGTHS = [(200, 0.1, 3), (451, 0.05, 3), (1000, 0.0, 7), (30, 0.5, 4), (7, 0.0, 3), (1, 0.0, 1)]


def course(steps: int, **changes: object) -> list[float]:
    settings = OptimizerSettings(**changes)  # type: ignore[arg-type]
    return [rate_factor(step, steps, settings) for step in range(steps)]


def reference(schedule: str, steps: int, warmup: float, cycles: int, power: float) -> np.ndarray:
    """The definitions, in exact fractions as long as they are rational and in float64 after."""
    rising = round(warmup * steps)
    curve = [Fraction(k + 1, rising) for k in range(rising)]
    for k in range(steps - rising):
        p = Fraction(k, steps - rising)
        cycle = math.floor(p * cycles)
        within = p * cycles - cycle
        peak, depth = Fraction(9, 10), Fraction(9, 10)
        curve.append(
            {
                "constant": Fraction(1),
                "linear": 1 - p,
                "cosine": (1 + np.cos(np.pi * np.float64(p))) / 2,
                "restarts": (1 + np.cos(np.pi * np.float64(within))) / 2,
                "polynomial": np.power(np.float64(1 - p), power),
                "rex": peak**cycle * (1 - within) / ((1 - depth) + depth * (1 - within)),
            }[schedule]
        )
    return np.array(curve, dtype=np.float64)


@pytest.mark.parametrize(("steps", "warmup", "cycles"), LENGTHS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_is_its_definition(
    schedule: str, steps: int, warmup: float, cycles: int
) -> None:
    ours = course(
        steps, schedule=schedule, warmup=warmup, schedule_cycles=cycles, schedule_power=1.7
    )
    assert np.allclose(ours, reference(schedule, steps, warmup, cycles, 1.7), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("linear", diffusers.get_linear_schedule_with_warmup),
        ("cosine", diffusers.get_cosine_schedule_with_warmup),
        (
            "restarts",
            partial(diffusers.get_cosine_with_hard_restarts_schedule_with_warmup, num_cycles=4),
        ),
        (
            "polynomial",
            partial(diffusers.get_polynomial_decay_schedule_with_warmup, lr_end=0, power=2),
        ),
    ],
)
def test_after_the_warm_up_the_rate_is_that_of_diffusers(ours: str, theirs: Callable) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = theirs(optimizer, num_warmup_steps=30, num_training_steps=300)
    curve = []
    for _ in range(300):
        curve.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    mine = course(300, schedule=ours, warmup=0.1, schedule_cycles=4, schedule_power=2)
    assert mine[30:] == pytest.approx(curve[30:], abs=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", ["AdamW", "AdamWScheduleFree", "ProdigyPlusScheduleFree"])
def test_the_rate_rises_over_the_warm_up_to_its_full_height(schedule: str, optimizer: str) -> None:
    factors = course(200, schedule=schedule, optimizer=optimizer, warmup=0.1)
    assert factors[:20] == pytest.approx([(k + 1) / 20 for k in range(20)])
    assert factors[20] == max(factors) == 1


@pytest.mark.parametrize("schedule", ["cosine", "restarts", "linear", "polynomial", "rex"])
def test_the_last_step_is_small_but_not_nothing(schedule: str) -> None:
    last = course(400, schedule=schedule, schedule_cycles=2)[-1]
    assert 0 < last < 0.06


def test_rex_starts_each_cycle_a_tenth_lower_and_falls_late() -> None:
    factors = course(300, schedule="rex", warmup=0, schedule_cycles=3)
    assert [factors[0], factors[100], factors[200]] == pytest.approx([1, 0.9, 0.81])
    assert factors[50] == pytest.approx(0.5 / 0.55), "half way down the cycle most is left"
    assert factors[50] > factors[99] and factors[100] > factors[99]


def test_restarts_start_each_cycle_from_the_top() -> None:
    factors = course(300, schedule="restarts", warmup=0, schedule_cycles=3)
    assert [factors[0], factors[100], factors[200]] == [1, 1, 1]
    assert factors[99] < 0.001 and factors[150] == pytest.approx(0.5)


def test_cycles_and_power_change_the_course_they_are_for() -> None:
    assert course(90, schedule="rex", schedule_cycles=2) != course(90, schedule="rex")
    assert course(90, schedule="polynomial", schedule_power=1) == course(90, schedule="linear")


def test_only_the_schedule_free_optimisers_hold_their_rate() -> None:
    free = {name for name in OPTIMIZERS if OptimizerSettings(optimizer=name).schedule_free}
    assert free == {"AdamWScheduleFree", "ProdigyPlusScheduleFree"}
    assert course(50, optimizer="AdamWScheduleFree", schedule="cosine", warmup=0)[-1] == 1


@pytest.mark.parametrize("no", ["false", "0", "False"])
def test_prodigy_plus_told_not_to_be_schedule_free_follows_the_schedule(no: str) -> None:
    factors = course(
        50,
        optimizer="ProdigyPlusScheduleFree",
        optimizer_arguments=f"use_schedulefree={no}",
        schedule="cosine",
    )
    assert factors[-1] < 0.01
