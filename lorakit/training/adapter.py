"""The LoRA weights while training: put on the base, switched off and on, read off it under kohya's
names, and put on again from a file of any tool.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..errors import LoraFileError, TrainingError
from .config import AdapterSettings
from .dora import merged_weight
from .dropout import add_dropout
from .ema import Ema
from .foreign import Stored, read_lora, read_modules
from .layers import (
    NAME,
    Modules,
    checked_targets,
    expected_count,
    inject,
    lora_modules,
    named_weights,
    put,
    shapes,
    targets,
    trainable,
    weights,
)
from .names import kohya_name

__all__ = [
    "NAME",
    "Ema",
    "expected_count",
    "lora_modules",
    "merged_weight",
    "named_weights",
    "read_lora",
    "targets",
    "trainable",
]

log = logging.getLogger(__name__)


def add_adapter(parts: Modules, settings: AdapterSettings, seed: int) -> None:
    """Puts a LoRA on every target of `parts`; its weights are float32, the first half random
    (Kaiming, He et al. 2015), the second zero: no effect yet. With `continue_from` it is that
    file's LoRA instead.

    The weights are the same on every device and every release of peft. Raises TrainingError if a
    part has another number of targets than its configuration says, or LoraFileError.
    """
    if settings.continue_from:
        load_adapter(parts, Path(settings.continue_from).expanduser())
    else:
        generator = torch.Generator().manual_seed(seed)
        for part, module in parts.items():
            inject(module, checked_targets(part, module, settings.kind), settings.dora)
            for _, layer in lora_modules(module):
                _begin(part, layer, settings, generator)
    for module in parts.values():
        for _, layer in lora_modules(module):
            sizes = layer.lora_magnitude_vector
            add_dropout(layer.lora_A[NAME], settings, sizes[NAME] if NAME in sizes else None)


def _begin(
    part: str, layer: torch.nn.Module, settings: AdapterSettings, generator: torch.Generator
) -> None:
    """A LoRA without effect yet."""
    base = layer.get_base_layer()
    rank, alpha = rank_and_alpha(part, base, settings)
    first, second = shapes(base, rank)
    down = torch.nn.init.kaiming_uniform_(torch.empty(first), a=math.sqrt(5), generator=generator)
    put(layer, down, torch.zeros(second), alpha)


def rank_and_alpha(
    part: str, layer: torch.nn.Module, settings: AdapterSettings
) -> tuple[int, float]:
    """Rank and alpha of the LoRA on a layer. 1x1 convolutions count as linear, as in sd-scripts.

    Every reader takes alpha / rank for the strength, so the rank-stabilised alpha / sqrt(rank)
    (Kalajdzievski 2023) is had by a larger alpha.
    """
    if part != "unet":
        rank, alpha = settings.text_rank or settings.rank, settings.text_alpha or settings.alpha
        if part == "te2":
            rank, alpha = settings.text_2_rank or rank, settings.text_2_alpha or alpha
    elif isinstance(layer, torch.nn.Conv2d) and layer.kernel_size != (1, 1):
        rank, alpha = settings.conv_rank, settings.conv_alpha
    else:
        rank, alpha = settings.rank, settings.alpha
    return rank, alpha * math.sqrt(rank) if settings.rank_stabilized else alpha


def learning_rates(settings: AdapterSettings) -> dict[str, float]:
    """The full learning rate of each part; 0: not trained and not exported."""
    return {
        "unet": settings.unet_lr,
        "te1": settings.text_encoder_lr,
        "te2": settings.text_encoder_2_lr,
    }


def parameter_groups(parts: Modules, settings: AdapterSettings) -> list[dict[str, Any]]:
    """Groups for an optimiser: `params`, `lr` and `part`. With LoRA+ (Hayou et al. 2024) each part
    has two: the second halves' rate is `lora_plus` times the others'.
    """
    groups: list[dict[str, Any]] = []
    for part, module in parts.items():
        rate = learning_rates(settings)[part]
        fast = {id(layer.lora_B[NAME].weight) for _, layer in lora_modules(module)}
        if settings.lora_plus == 1:
            fast = set()
        everything = trainable(module)
        slow_ones = [p for p in everything if id(p) not in fast]
        fast_ones = [p for p in everything if id(p) in fast]
        groups.append({"params": slow_ones, "lr": rate, "part": part})
        groups.append({"params": fast_ones, "lr": rate * settings.lora_plus, "part": part})
    return [group for group in groups if group["params"]]


def tensors(parts: Modules, dtype: torch.dtype = torch.float16) -> dict[str, torch.Tensor]:
    """The LoRA under kohya's names: `lora_down.weight`, `lora_up.weight`, `alpha` and, with DoRA,
    `dora_scale` of every module. An alpha that `dtype` would round is written in float32.
    """
    ends = {"down": "lora_down.weight", "up": "lora_up.weight", "dora_scale": "dora_scale"}
    found = {}
    for part, module in parts.items():
        for path, layer in lora_modules(module):
            name = kohya_name(part, path)
            for which, weight in weights(layer).items():
                # A meta weight has a shape only: enough to list a file's layout.
                device = "meta" if weight.is_meta else "cpu"
                found[f"{name}.{ends[which]}"] = weight.detach().to(device, dtype).contiguous()
            alpha = torch.tensor(float(layer.lora_alpha[NAME]))
            exact = torch.equal(alpha.to(dtype).float(), alpha)
            found[f"{name}.alpha"] = alpha.to(dtype) if exact else alpha
    return dict(sorted(found.items()))


def state(parts: Modules) -> dict[str, torch.Tensor]:
    """The LoRA weights exactly as they are, under lorakit's own names; copies on the CPU."""
    return {
        name: weight.detach().to("cpu", copy=True).contiguous()
        for name, weight in named_weights(parts)
    }


@torch.no_grad()
def load_state(parts: Modules, stored: Mapping[str, torch.Tensor]) -> None:
    """Puts a `state` back. Raises TrainingError unless it is this adapter's to the last tensor."""
    ours = dict(named_weights(parts))
    wrong = sorted(set(ours) ^ set(stored)) or sorted(
        name for name, weight in ours.items() if weight.shape != stored[name].shape
    )
    if wrong:
        raise TrainingError(
            f"The saved state belongs to another adapter ({len(wrong)} of its tensors differ, the "
            f"first is {wrong[0]}). Keep kind, ranks and learning rates of the run, or begin it "
            "anew."
        )
    for name, weight in ours.items():
        weight.data = stored[name].to(weight.device, copy=True)


def set_strength(parts: Modules, strength: float) -> None:
    """Scales the LoRA's effect: 1 as trained, 0 none."""
    for module in parts.values():
        for _, layer in lora_modules(module):
            full = layer.lora_alpha[NAME] / layer.r[NAME]
            if NAME in layer.lora_magnitude_vector:
                layer.lora_magnitude_vector[NAME].strength = strength
                layer.scaling[NAME] = full
            else:
                layer.scaling[NAME] = strength * full


@contextmanager
def without(parts: Modules) -> Iterator[None]:
    """The base as it is, while the context lasts."""
    set_strength(parts, 0.0)
    try:
        yield
    finally:
        set_strength(parts, 1.0)


def load_adapter(parts: Modules, path: Path) -> None:
    """Puts a LoRA file of any tool's naming on the base, with its own ranks, alphas and DoRA
    scales; it can be trained on.

    Raises LoraFileError unless every tensor of the file finds its place.
    """
    found = read_modules(path, parts)
    for part, module in parts.items():
        ours = {spot: stored for (owner, spot), stored in found.items() if owner == part}
        if not ours:
            log.warning("%s has no LoRA for %s: that part stays as the base has it.", path, part)
        inject(module, [spot for spot, stored in ours.items() if stored.dora_scale is None])
        inject(
            module, [spot for spot, stored in ours.items() if stored.dora_scale is not None], True
        )
        layers = dict(lora_modules(module))
        for spot, stored in ours.items():
            _fill(layers[spot], stored, path)


def _fill(layer: torch.nn.Module, stored: Stored, path: Path) -> None:
    first, second = shapes(layer.get_base_layer(), len(stored.down))
    if not (_alike(stored.down.shape, first) and _alike(stored.up.shape, second)):
        raise LoraFileError(
            f"{path}: {stored.name} does not fit this base (its shapes differ). It was made for "
            "another kind of model."
        )
    put(
        layer,
        stored.down.reshape(first),
        stored.up.reshape(second),
        stored.alpha,
        stored.dora_scale,
    )


def _alike(shape: torch.Size, wanted: tuple[int, ...]) -> bool:
    """Whether they differ in axes of length 1 at most: some tools flatten 1x1 convolutions."""
    return [n for n in shape if n != 1] == [n for n in wanted if n != 1]


@torch.no_grad()
def limit_norms(parts: Modules, max_norm: float) -> torch.Tensor:
    """Scales both halves of every LoRA down whose change of the weight has a Euclidean norm above
    `max_norm` (sd-scripts' scale_weight_norms); how many there were.

    The norm needs no change of full size: |BA|^2 is the sum over (B'B) * (AA').
    """
    scaled = []
    for module in parts.values():
        for _, layer in lora_modules(module):
            down, up = layer.lora_A[NAME].weight, layer.lora_B[NAME].weight
            a, b = down.float().flatten(1), up.float().flatten(1)
            square = ((b.T @ b) * (a @ a.T)).sum().clamp(min=0)
            norm = square.sqrt() * (layer.lora_alpha[NAME] / layer.r[NAME])
            factor = (max_norm / norm.clamp(min=1e-12)).clamp(max=1).sqrt()
            down.mul_(factor)
            up.mul_(factor)
            scaled.append(factor < 1)
    return torch.stack(scaled).sum()


def gradient_norm(parameters: list[torch.nn.Parameter], limit: float) -> torch.Tensor:
    """Clips the gradients' joint norm to `limit` (0: only measures) and returns what it was."""
    return torch.nn.utils.clip_grad_norm_(parameters, limit if limit else math.inf)
