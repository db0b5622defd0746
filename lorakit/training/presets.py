"""What suits each machine that people train on, about how fast it is there, and what Colab asks for
an hour of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..progress import duration
from .plan import Plan

UNITS_OF = "March 2026"  # Colab changes its prices: `units` are those of then
PICTURE = 13.5  # TFLOP of a LoRA step for one picture of 1024 x 1024, forward and back


@dataclass(frozen=True)
class Preset:
    """Settings for a machine whose GPU's name `pattern` finds ('' for none) and that has at least
    `memory` GiB.

    `speed` is what training comes to there, in TFLOP a second: an estimate, of use until a run has
    been measured. `units` are Colab's compute units an hour, None where they are not known.
    """

    name: str
    pattern: str
    memory: int
    speed: float
    units: float | None
    changes: Mapping[str, Any] = field(default_factory=dict)


def _sized(batch: int, **more: Any) -> dict[str, Any]:
    kept = {"precision": "auto", "storage": "full", "checkpointing": "auto", "at_once": 0}
    return {"batch_size": batch, "resolution": 1024, "optimizer": "AdamW8bit", **kept, **more}


# Half precision's peak times what trainers get of it: 0.35 of 65 TFLOP/s on a T4, 0.4 to 0.5 of the
# others', facts that docs/benchmarks.md corrects where such a GPU was at hand.
PRESETS = (
    Preset("T4", r"\bT4\b", 14, 22, 1.19, _sized(2)),
    Preset("L4", r"\bL4\b", 21, 48, 1.71, _sized(4)),
    Preset("A100, 40 GB", r"\bA100\b", 39, 150, 5.40, _sized(4)),
    Preset("A100, 80 GB", r"\bA100\b", 78, 150, 7.52, _sized(8)),
    Preset("H100", r"\bH[12]00\b", 78, 400, None, _sized(8)),
    Preset("8 GB card", r".", 7, 20, None, _sized(1, storage="8bit")),
    Preset(
        "no GPU",
        "",
        0,
        0.15,
        None,
        _sized(1, resolution=512),
    ),
)


def preset_for(gpu: str, memory: float) -> Preset:
    """The preset of a GPU of this name with so many GiB; '' is no GPU. One that is not listed gets
    what suits the listed one with the nearest memory below its own.
    """
    if not gpu:
        return PRESETS[-1]
    fitting = [each for each in PRESETS if each.pattern and each.memory <= memory]
    named = [each for each in fitting if each.pattern != "." and re.search(each.pattern, gpu)]
    found = max(named or fitting, key=lambda each: each.memory, default=None)
    return found or next(each for each in PRESETS if each.pattern == ".")


def estimate(preset: Preset, plan: Plan, resolution: int) -> float:
    """About how many seconds the steps of a plan take on that machine."""
    shown = sum(plan.shown.values()) * plan.steps / plan.steps_per_epoch
    return shown * PICTURE * (resolution / 1024) ** 2 / preset.speed


def sentence(preset: Preset, plan: Plan, resolution: int) -> str:
    """What the preset sets, and what the plan, made with it, would take and cost."""
    sets = ", ".join(f"{name} {value}" for name, value in preset.changes.items())
    seconds = estimate(preset, plan, resolution)
    cost = ""
    if preset.units is not None:
        units = seconds / 3600 * preset.units
        cost = f" and {units:.2g} compute units (prices of {UNITS_OF})"
    return (
        f"{preset.name}: {sets}. {plan.steps} steps take about {duration(seconds)}{cost}, setting "
        "up not counted."
    )
