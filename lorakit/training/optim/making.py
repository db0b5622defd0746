"""An optimiser from its settings.

Packages beyond torch are imported only when an optimiser of theirs is chosen.
"""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.optim import Optimizer

from ...errors import SettingsError, TrainingError
from ...settings import nearest
from ..config import OptimizerSettings
from ..config.optimizer import ARGUMENTS, parse_arguments
from .stepping import ONE_DISTANCE

log = logging.getLogger(__name__)

Groups = Sequence[Mapping[str, Any]]

TWINS = {"AdamW8bit": "AdamW", "Lion8bit": "Lion"}
FROM_PYTORCH_OPTIMIZER = {
    "Prodigy": "Prodigy",
    "DAdaptAdam": "DAdaptAdam",
    "DAdaptLion": "DAdaptLion",
    "Lion": "Lion",
    "CAME": "CAME",
    "AdamWScheduleFree": "ScheduleFreeAdamW",
}
# What the same arguments are called in other trainers.
ALIASES = {"use_bias_correction": "bias_correction", "decouple": "weight_decouple"}
OWN_SETTINGS = {
    "lr": "settings of its own. Remove it here and set unet_lr, text_encoder_lr",
    "weight_decay": "a setting of its own. Remove it here and set that",
}
# lorakit decides these.
RESERVED = {
    *OWN_SETTINGS,
    "params",
    "maximize",
    "foreach",
    "fused",
    "capturable",
    "differentiable",
    "fused_back_pass",  # its step would move nothing, and wait for hooks on the backward pass
    "args",
}


def optimizer_class(name: str, device: str) -> tuple[type[Optimizer], str]:
    """The class of the optimiser `name`, and a sentence if another one takes its place on `device`.

    Raises TrainingError if its package is not installed.
    """
    if name in TWINS:
        return _eight_bit(name, device)
    if name == "AdamW":
        return torch.optim.AdamW, ""
    if name == "SGD":
        return torch.optim.SGD, ""
    if name == "Adafactor":
        return _found("transformers.optimization", "Adafactor", "transformers", name), ""
    if name == "ProdigyPlusScheduleFree":
        loud = _found("prodigyplus", name, "prodigy-plus-schedule-free", name)
        # It prints what it has to say, which would stand among a notebook's results.
        return type(name, (loud,), {"log": lambda self, message: log.info(message)}), ""
    if name in FROM_PYTORCH_OPTIMIZER:
        theirs = FROM_PYTORCH_OPTIMIZER[name]
        return _found("pytorch_optimizer", theirs, "pytorch-optimizer", name), ""
    raise ValueError(f"there is no optimiser '{name}'; there are: {', '.join(ARGUMENTS)}")


def _found(module: str, name: str, package: str, chosen: str) -> type[Optimizer]:
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise TrainingError(
            f"The optimiser {chosen} needs the package {package}, which cannot be imported "
            f"({error}). Run `pip install {package}`, or choose AdamW."
        ) from error


def _eight_bit(name: str, device: str) -> tuple[type[Optimizer], str]:
    twin = optimizer_class(TWINS[name], device)[0]
    if not device.startswith("cuda"):
        return twin, (
            f"{name} needs a GPU: using {TWINS[name]} in float32 instead; the result is the same "
            "or better."
        )
    try:
        return getattr(importlib.import_module("bitsandbytes.optim"), name), ""
    except (ImportError, OSError, RuntimeError) as error:
        return twin, (
            f"{name} needs bitsandbytes, which does not load here ({error}): using {TWINS[name]}, "
            "a little more memory."
        )


def check_arguments(settings: OptimizerSettings, device: str) -> None:
    """Tries the optimiser that `device` has, with its arguments, on a few numbers; needs nothing
    loaded.

    Raises SettingsError naming the argument that is unknown or has a value it does not take, and
    TrainingError if the optimiser's package is not installed.
    """
    cls, _ = optimizer_class(settings.optimizer, device)
    given, usual = _given(settings, cls), ARGUMENTS[settings.optimizer]
    alone = [{name: value} for name, value in given.items()]
    for some in (*alone, given):
        problem = _problem(cls, usual | some, device)
        if problem:
            written = " ".join(f"{name}={value}" for name, value in some.items())
            raise SettingsError(
                f"optimizer_arguments: {_name(settings, cls)} refuses {written} ({problem}). "
                "Correct or remove it."
            )


def _given(settings: OptimizerSettings, cls: type[Optimizer]) -> dict[str, Any]:
    """The user's arguments by the names that the optimiser takes. Raises SettingsError."""
    takes = [name for name in _parameters(cls) if name not in RESERVED]
    given = {}
    for name, value in parse_arguments(settings.optimizer_arguments).items():
        if name in OWN_SETTINGS:
            raise SettingsError(f"optimizer_arguments: {name} has {OWN_SETTINGS[name]}.")
        known = name if name in takes else ALIASES.get(name, name)
        if known not in takes:
            raise SettingsError(
                f"optimizer_arguments: {_name(settings, cls)} takes no '{name}'"
                f"{nearest(name, takes)}"
            )
        given[known] = value
    return given


def _name(settings: OptimizerSettings, cls: type[Optimizer]) -> str:
    """The optimiser's name, or that of the twin in its place."""
    twin = TWINS.get(settings.optimizer, "")
    return twin if cls.__name__ == twin else settings.optimizer


def _parameters(cls: type[Optimizer]) -> list[str]:
    return [
        name
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]


def _problem(cls: type[Optimizer], arguments: dict[str, Any], device: str) -> str:
    """What the optimiser says against these arguments when it is made and steps once, or ''."""
    weight = torch.nn.Parameter(torch.ones(2, 2, device=device))
    weight.grad = torch.ones_like(weight)
    try:
        cls([weight], lr=1e-3, **arguments).step()
    except (ArithmeticError, AssertionError, LookupError, RuntimeError, TypeError, ValueError) as e:
        return str(e) or type(e).__name__
    return ""


def make_optimizer(settings: OptimizerSettings, groups: Groups, device: str) -> Optimizer:
    """The optimiser named in the settings; each group has `params` and its full `lr`.

    Raises SettingsError and TrainingError as check_arguments does.
    """
    check_arguments(settings, device)
    cls, note = optimizer_class(settings.optimizer, device)
    if note:
        log.warning(note)
    arguments = ARGUMENTS[settings.optimizer] | _given(settings, cls)
    arguments |= {"fused": True} if cls is torch.optim.AdamW else {}
    fastest = max(group["lr"] for group in groups)
    own = [dict(group) for group in groups]
    if settings.optimizer in ONE_DISTANCE:  # decay goes with a group's own rate, as in AdamW
        for group in own:
            group["weight_decay"] = settings.weight_decay * group["lr"] / fastest
    return cls(own, lr=fastest, weight_decay=settings.weight_decay, **arguments)
