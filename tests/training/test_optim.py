"""The course of the learning rate."""

import math

import pytest

from lorakit.training.optim import rate_factor


@pytest.mark.parametrize("schedule", ["constant", "cosine", "linear"])
def test_the_rate_rises_over_the_warm_up_to_its_full_height(schedule: str) -> None:
    factors = [rate_factor(step, 200, 0.1, schedule) for step in range(200)]
    assert factors[:20] == pytest.approx([(k + 1) / 20 for k in range(20)])
    assert max(factors) == 1


def test_constant_stays_and_the_others_fall_to_nothing() -> None:
    assert rate_factor(199, 200, 0.1, "constant") == 1
    assert rate_factor(199, 200, 0.1, "linear") == pytest.approx(1 / 180)
    assert rate_factor(199, 200, 0.1, "cosine") == pytest.approx(
        0.5 * (1 + math.cos(math.pi * 179 / 180))
    )


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(ValueError, match="'sawtooth'"):
        rate_factor(5, 10, 0, "sawtooth")
