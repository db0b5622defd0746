"""What an optimiser remembers, as tensors and plain values: a run is kept without pickle."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.optim import Optimizer

from ...errors import TrainingError

# Options of a group that the settings decide, also when a run goes on with changed ones.
OF_THE_SETTINGS = ("params", "lr", "initial_lr", "weight_decay")


def state_tensors(optimizer: Optimizer) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """All that the optimiser remembers: tensors (copies on the CPU), and the rest for JSON.

    Options that are still as they were made are left out, and so are the learning rates: they
    follow the settings and the step.
    """
    tensors: dict[str, torch.Tensor] = {}
    plain: dict[str, Any] = {
        "optimizer": type(optimizer).__name__,
        "sizes": [len(group["params"]) for group in optimizer.param_groups],
        "values": {},
    }
    for place, values in _places(optimizer):
        for key, value in values.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{place}.{key}"] = value.detach().to("cpu", copy=True).contiguous()
            else:
                plain["values"].setdefault(place, {})[key] = _to_json(value)
    return tensors, plain


def _places(optimizer: Optimizer) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is remembered for each weight (`0`, `1`, ... over all groups) and group (`group0`)."""
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    for index, p in enumerate(weights):
        if p in optimizer.state:
            yield str(index), optimizer.state[p]
    for index, group in enumerate(optimizer.param_groups):
        yield (
            f"group{index}",
            {
                key: value
                for key, value in group.items()
                if key not in OF_THE_SETTINGS and _moved(value, optimizer.defaults.get(key))
            },
        )


def _moved(value: Any, made: Any) -> bool:
    return isinstance(value, torch.Tensor) or value != made


def load_state(
    optimizer: Optimizer, tensors: Mapping[str, torch.Tensor], plain: Mapping[str, Any]
) -> None:
    """Puts what state_tensors gave into a freshly made optimiser, each tensor in its own format.

    Raises TrainingError if it was another optimiser's, or that of other weights.
    """
    if plain["optimizer"] != type(optimizer).__name__:
        raise TrainingError(
            f"The saved state is one of {plain['optimizer']}, this run uses "
            f"{type(optimizer).__name__}. Go on with the same optimiser on the same kind of "
            "machine, or start anew."
        )
    if plain["sizes"] != [len(group["params"]) for group in optimizer.param_groups]:
        raise TrainingError(
            "The saved state is one of another LoRA: it has other parts or layers. Go on with the "
            "settings it was made with, or start anew."
        )
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.state.clear()

    def target(place: str) -> tuple[dict[str, Any], torch.device]:
        if place.startswith("group"):
            group = optimizer.param_groups[int(place.removeprefix("group"))]
            return group, group["params"][0].device
        return optimizer.state[weights[int(place)]], weights[int(place)].device

    for place, values in plain["values"].items():
        target(place)[0].update({key: _from_json(value) for key, value in values.items()})
    for name, tensor in tensors.items():
        place, _, key = name.partition(".")
        values, device = target(place)
        values[key] = tensor.to(device, copy=True)


def _to_json(value: Any) -> Any:
    """`value` for JSON, which knows neither tuples nor infinity."""
    if isinstance(value, tuple):
        return {"tuple": [_to_json(part) for part in value]}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"an optimiser remembers a {type(value).__name__}, which cannot be kept")


def _from_json(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if "tuple" in value:
        return tuple(_from_json(part) for part in value["tuple"])
    return float(value["float"])
