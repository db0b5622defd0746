"""How the LoRA's weights follow their gradients."""

from __future__ import annotations

from dataclasses import dataclass

from ...settings import setting
from .subject import SubjectSettings

OPTIMIZERS = (
    "AdamW8bit",
    "AdamW",
    "Prodigy",
    "ProdigyPlusScheduleFree",
    "DAdaptAdam",
    "DAdaptLion",
    "Lion",
    "Lion8bit",
    "Adafactor",
    "CAME",
    "SGD",
    "AdamWScheduleFree",
)
SCHEDULES = ("constant", "cosine", "restarts", "linear", "polynomial", "rex")
LORA_PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class OptimizerSettings(SubjectSettings):
    """The optimiser and the course of the learning rate."""

    optimizer: str = setting(
        "AdamW8bit",
        "Optimiser; the 8-bit ones need bitsandbytes and a GPU, else their 32-bit twin takes their "
        "place and says so",
        choices=OPTIMIZERS,
        advanced=True,
    )
    optimizer_arguments: str = setting(
        "",
        "Further arguments for the optimiser, like betas=0.9,0.99 d_coef=2",
        advanced=True,
    )
    weight_decay: float = setting(
        0.01, "Pull of the adapter's weights towards zero", low=0, high=1, advanced=True
    )
    schedule: str = setting(
        "cosine",
        "How the learning rate goes on after the warm-up",
        choices=SCHEDULES,
        advanced=True,
    )
    schedule_cycles: int = setting(
        3, "Cycles of restarts and rex", unit="cycles", low=1, high=100, advanced=True
    )
    schedule_power: float = setting(
        2.0, "Power of the polynomial schedule; 1 is linear", low=0.1, high=10, advanced=True
    )
    warmup: float = setting(
        0.05,
        "Share of all steps in which the learning rate rises from zero",
        low=0,
        high=0.9,
        advanced=True,
    )
    accumulation: int = setting(
        1,
        "Batches whose gradients are averaged into one step",
        unit="batches",
        low=1,
        high=256,
        advanced=True,
    )
    gradient_clip: float = setting(
        1.0,
        "Largest norm of the gradient in one step; 0 turns it off",
        low=0,
        high=1000,
        advanced=True,
    )
    lora_precision: str = setting(
        "fp32",
        "Number format of the LoRA while it is trained; bf16 rounds at random so that small "
        "changes are not lost",
        choices=LORA_PRECISIONS,
        advanced=True,
    )
