"""Presets: what suits which machine, how long it takes there and what it costs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lorakit.training.config import TrainingSettings
from lorakit.training.plan import make_plan
from lorakit.training.presets import PRESETS, estimate, preset_for, sentence

BY_NAME = {each.name: each for each in PRESETS}


@pytest.mark.parametrize(
    "gpu, memory, name",
    [
        ("Tesla T4", 15, "T4"),
        ("NVIDIA L4", 22.5, "L4"),
        ("NVIDIA A100-SXM4-40GB", 40, "A100, 40 GB"),
        ("NVIDIA A100-SXM4-80GB", 80, "A100, 80 GB"),
        ("NVIDIA H100 80GB HBM3", 80, "H100"),
        ("NVIDIA RTX PRO 6000 Blackwell", 96, "A100, 80 GB"),
        ("NVIDIA GeForce RTX 4090", 24, "L4"),
        ("NVIDIA GeForce RTX 4060", 8, "8 GB card"),
        ("NVIDIA GeForce GTX 1660", 6, "8 GB card"),
        ("", 0, "no GPU"),
    ],
)
def test_a_machine_gets_what_suits_it(gpu: str, memory: float, name: str) -> None:
    assert preset_for(gpu, memory).name == name


@pytest.mark.parametrize("preset", PRESETS, ids=lambda each: each.name)
def test_a_preset_sets_nothing_but_settings_and_in_their_range(preset) -> None:  # type: ignore[no-untyped-def]
    changed = replace(TrainingSettings(), **preset.changes)
    assert {name: getattr(changed, name) for name in preset.changes} == preset.changes
    assert {tuple(each.changes)[:7] for each in PRESETS} == {tuple(preset.changes)[:7]}, (
        "one preset undoes what another has set"
    )


def test_time_and_cost_grow_with_what_is_shown() -> None:
    settings = TrainingSettings(batch_size=2, repeats=10, epochs=10)
    plan = make_plan([(1024, 1024)] * 9, settings)
    t4 = BY_NAME["T4"]
    assert plan.steps == 450
    assert estimate(t4, plan, 1024) == pytest.approx(900 * 13.5 / 22)
    assert estimate(t4, plan, 512) == pytest.approx(900 * 13.5 / 22 / 4)
    half = replace(plan, max_steps=225)
    assert estimate(t4, half, 1024) == pytest.approx(450 * 13.5 / 22)
    told = sentence(t4, plan, 1024)
    assert told.startswith("T4: batch_size 2, resolution 1024, optimizer AdamW8bit, precision auto")
    assert told.endswith(
        "450 steps take about 9 min and 0.18 compute units (prices of March 2026), setting up not "
        "counted."
    )
    assert "compute units" not in sentence(BY_NAME["H100"], plan, 1024)
