"""How the LoRA's weights follow their gradients, and what each optimiser is best given."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any

from ...errors import SettingsError
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

# The second moment forgets sooner than Adam's default: runs here have hundreds of steps, not
# millions.
_ADAM = {"betas": (0.9, 0.99)}
_LION = {"betas": (0.95, 0.98)}  # what its authors advise where it is unstable (Chen et al. 2023)

# What each optimiser is given where `optimizer_arguments` does not say otherwise; all else is its
# library's default. Adafactor's own rates would contradict the learning rates and the schedule.
# Prodigy starts at ten times its d0: from a millionth it needs a hundred steps to find its rate.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "AdamW8bit": _ADAM,
    "AdamW": _ADAM,
    "Prodigy": _ADAM | {"d0": 1e-5, "safeguard_warmup": True},
    "ProdigyPlusScheduleFree": {},
    "DAdaptAdam": _ADAM | {"weight_decouple": True},
    "DAdaptLion": {"weight_decouple": True},
    "Lion": _LION,
    "Lion8bit": _LION,
    "Adafactor": {"scale_parameter": False, "relative_step": False, "warmup_init": False},
    "CAME": {},
    "SGD": {"momentum": 0.9, "nesterov": True},
    "AdamWScheduleFree": _ADAM,
}


def _advice(unet: float, text: float, schedule: str, decay: float, **more: Any) -> dict[str, Any]:
    rates = {"unet_lr": unet, "text_encoder_lr": text, "text_encoder_2_lr": text}
    return rates | {"schedule": schedule, "weight_decay": decay} | more


# Learning rates stand to AdamW's as they do on the embedded base, where likeness after 448 steps is
# 0.86 with AdamW, 0.79 with Adafactor at the same, 0.80 with Lion at a sixth and with CAME at a
# twentieth (its steps are several times as long: it corrects no bias), 0.83 with Prodigy:
# docs/effects.md. Those that find their own rate start at a tiny one, which the rounding of bf16
# would drown.
#
# Of the DAdapt family there are two: on a toy LoRA with noisy gradients AdaGrad's found no rate in
# 450 steps and Adan's one that blew up; SGD's learnt, but it sets weights by their distance from
# the start, which undoes max_norm and decoupled weight decay.
RECOMMENDED: dict[str, dict[str, Any]] = {
    "AdamW8bit": _advice(3e-4, 6e-5, "cosine", 0.01),
    "AdamW": _advice(3e-4, 6e-5, "cosine", 0.01),
    "Prodigy": _advice(1.0, 0.5, "cosine", 0.01, lora_precision="fp32"),
    "ProdigyPlusScheduleFree": _advice(1.0, 0.5, "constant", 0.0, lora_precision="fp32"),
    "DAdaptAdam": _advice(1.0, 0.5, "cosine", 0.01, lora_precision="fp32"),
    "DAdaptLion": _advice(1.0, 0.5, "cosine", 0.01, lora_precision="fp32"),
    "Lion": _advice(5e-5, 1e-5, "cosine", 0.05),
    "Lion8bit": _advice(5e-5, 1e-5, "cosine", 0.05),
    "Adafactor": _advice(3e-4, 6e-5, "cosine", 0.01),
    "CAME": _advice(1.5e-5, 3e-6, "cosine", 0.04),
    "SGD": _advice(1.0, 0.2, "cosine", 0.0),
    "AdamWScheduleFree": _advice(6e-4, 1.2e-4, "constant", 0.01),
}


def recommended(optimizer: str) -> dict[str, Any]:
    """The values that suit `optimizer`, by setting; to be shown, never applied in silence."""
    return dict(RECOMMENDED[optimizer])


def departures(settings: Any) -> str:
    """One sentence naming the settings (of a TrainingSettings) that are not as recommended for
    their optimiser, or ''.

    A learning rate of 0 is a choice of what is trained, not a departure.
    """
    different = [
        f"{name} {_shown(value)} (now {_shown(getattr(settings, name))})"
        for name, value in recommended(settings.optimizer).items()
        if getattr(settings, name) != value
        and not (name.endswith("_lr") and getattr(settings, name) == 0)
    ]
    return f"Recommended for {settings.optimizer}: {', '.join(different)}." if different else ""


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def parse_arguments(text: str) -> dict[str, Any]:
    """The arguments written in `text`, like `betas=0.9,0.99 d_coef=2 use_bias_correction=true`.

    A value is a number, true, false, none or several numbers; kohya's `betas=[0.9, 0.99]` and
    commas between arguments are understood too. Nothing is evaluated. Raises SettingsError.
    """
    first, *rest = re.split(r"([A-Za-z_]\w*)\s*=(?!=)", text)
    if first.strip():
        raise SettingsError(
            f"optimizer_arguments: '{first.strip()}' is no argument. Write name=value, like "
            "betas=0.9,0.99 d_coef=2."
        )
    found: dict[str, Any] = {}
    for name, written in zip(rest[::2], rest[1::2], strict=True):
        if name in found:
            raise SettingsError(f"optimizer_arguments: {name} is given twice. Remove one.")
        found[name] = _value(name, written.strip().rstrip(",;"))
    return found


def _value(name: str, written: str) -> Any:
    words = {"true": True, "false": False, "none": None, "inf": float("inf")}
    if written.lower() in words:
        return words[written.lower()]
    try:
        value = ast.literal_eval(written)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = ""
    several = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not several or not all(isinstance(part, int | float) for part in several):
        raise SettingsError(
            f"optimizer_arguments: {name} is '{written}'; it takes a number, true, false, none, or "
            "several numbers like 0.9,0.99."
        )
    return several if isinstance(value, list | tuple) else value


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
        "Further arguments for the optimiser, like betas=0.9,0.99 d_coef=2; one it does not take "
        "is refused",
        advanced=True,
    )
    weight_decay: float = setting(
        0.01, "Pull of the adapter's weights towards zero", low=0, high=1, advanced=True
    )
    schedule: str = setting(
        "cosine",
        "How the learning rate goes on after the warm-up; the schedule-free optimisers hold it",
        choices=SCHEDULES,
        advanced=True,
    )
    schedule_cycles: int = setting(
        3,
        "How often restarts and rex start from the top, after one warm-up",
        unit="cycles",
        low=1,
        high=100,
        advanced=True,
    )
    schedule_power: float = setting(
        2.0, "Power of the polynomial schedule; 1 is linear", low=0.1, high=10, advanced=True
    )
    warmup: float = setting(
        0.05,
        "Share of all steps in which the learning rate rises from zero, once, at the start of any "
        "schedule",
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

    @property
    def schedule_free(self) -> bool:
        """Whether the optimiser learns a running average of its own, in the place of a schedule."""
        if self.optimizer == "ProdigyPlusScheduleFree":
            return bool(parse_arguments(self.optimizer_arguments).get("use_schedulefree", True))
        return self.optimizer == "AdamWScheduleFree"

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_arguments(self.optimizer_arguments)
