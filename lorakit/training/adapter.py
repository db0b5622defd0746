"""The LoRA weights while training: put on the base through peft, read off it and back in under
kohya's names.

Modules are targeted by their path, never by class name: transformers renames classes, and a trainer
that went by them once left all text-encoder attention untrained without a word (sd-scripts issue
1952).
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import layer as lora_layer
from safetensors import SafetensorError, safe_open

from ..errors import LoraFileError, TrainingError
from .names import kohya_name

log = logging.getLogger(__name__)

NAME = "lorakit"  # peft's name for the adapter
UNET_TARGET = re.compile(
    r".*attentions\.\d+\.(proj_in|proj_out|transformer_blocks\.\d+\.(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ff\.net\.(0\.proj|2)))"
)
TEXT_TARGET = re.compile(
    r"(text_model\.)?encoder\.layers\.\d+\.(self_attn\.(q|k|v|out)_proj|mlp\.fc[12])"
)

Modules = Mapping[str, torch.nn.Module]


def targets(part: str, module: torch.nn.Module) -> list[str]:
    """The paths of the modules of a part that get a LoRA: attention, feed-forward and
    projections.
    """
    pattern = UNET_TARGET if part == "unet" else TEXT_TARGET
    return [
        path
        for path, child in module.named_modules()
        if pattern.fullmatch(path) and isinstance(child, torch.nn.Linear)
    ]


def expected_count(part: str, config: Mapping[str, object]) -> int:
    """How many modules a part of this configuration must have: 722 for SDXL's U-Net, 72 and 192 for
    its encoders.
    """
    if part != "unet":
        return 6 * int(config["num_hidden_layers"])  # type: ignore[call-overload]
    depths = list(config["transformer_layers_per_block"])  # type: ignore[call-overload]
    per_stage = list(config["down_block_types"])  # type: ignore[call-overload]
    layers = int(config["layers_per_block"])  # type: ignore[call-overload]
    stages = [
        depth for depth, kind in zip(depths, per_stage, strict=True) if kind.startswith("CrossAttn")
    ]
    transformers = [(depth, 2 * layers + 1) for depth in stages] + [
        (depths[-1], 1)
    ]  # down, up (one more), and the middle
    return sum(count * (10 * depth + 2) for depth, count in transformers)


def add_adapter(parts: Modules, rank: int, alpha: float, seed: int) -> None:
    """Puts a LoRA on every target of `parts`; its weights are float32, A random (Kaiming), B zero:
    no effect yet.

    Raises TrainingError if a part has another number of targets than its configuration says.
    """
    torch.manual_seed(seed)
    for part, module in parts.items():
        paths = targets(part, module)
        config = module.config if isinstance(module.config, dict) else module.config.to_dict()
        wanted = expected_count(part, config)
        if len(paths) != wanted:
            raise TrainingError(
                f"{part} has {len(paths)} trainable modules where {wanted} were expected; this "
                "release of its library is not supported."
            )
        inject(module, paths, rank, alpha)


def inject(module: torch.nn.Module, paths: list[str], rank: int, alpha: float) -> None:
    """One LoRA of `rank` on each of `paths`."""
    config = LoraConfig(
        r=rank, lora_alpha=alpha, target_modules=paths, lora_dropout=0.0, bias="none"
    )
    # peft asks every quantisation library it knows before it takes its own layer, and its question
    # about torchao raises on Colab's image (torchao 0.10). Registering the layer is peft's
    # documented way to be asked first.
    config._register_custom_module({torch.nn.Linear: lora_layer.Linear})
    inject_adapter_in_model(config, module, adapter_name=NAME)
    for name, parameter in module.named_parameters():
        if ".lora_" in name:
            parameter.data = parameter.data.float()


def lora_modules(module: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """Path and layer of every module that carries a LoRA."""
    for path, child in module.named_modules():
        if isinstance(child, lora_layer.LoraLayer):
            yield path, child


def trainable(module: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The LoRA weights of a part, in a fixed order."""
    return [
        p
        for _, layer in lora_modules(module)
        for p in (layer.lora_A[NAME].weight, layer.lora_B[NAME].weight)
    ]


def tensors(parts: Modules, dtype: torch.dtype = torch.float16) -> dict[str, torch.Tensor]:
    """The LoRA under kohya's names: `lora_down.weight`, `lora_up.weight` and `alpha` of every
    module.
    """
    found = {}
    for part, module in parts.items():
        for path, layer in lora_modules(module):
            name = kohya_name(part, path)
            for ours, theirs in ((layer.lora_A, "lora_down"), (layer.lora_B, "lora_up")):
                weight = ours[NAME].weight.detach()
                device = (
                    "meta" if weight.is_meta else "cpu"
                )  # a meta weight has a shape only: enough to list a file's layout
                found[f"{name}.{theirs}.weight"] = weight.to(device, dtype).contiguous()
            found[f"{name}.alpha"] = torch.tensor(float(layer.lora_alpha[NAME]), dtype=dtype)
    return dict(sorted(found.items()))


def set_strength(parts: Modules, strength: float) -> None:
    """Scales the LoRA's effect: 1 as trained, 0 none."""
    for module in parts.values():
        for _, layer in lora_modules(module):
            layer.scaling[NAME] = strength * layer.lora_alpha[NAME] / layer.r[NAME]


@contextmanager
def without(parts: Modules) -> Iterator[None]:
    """The base as it is, while the context lasts."""
    set_strength(parts, 0.0)
    try:
        yield
    finally:
        set_strength(parts, 1.0)


def read_lora(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a LoRA file. Raises LoraFileError."""
    if not path.exists():
        raise LoraFileError(f"There is no LoRA file at {path}. Check the path.")
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError) as error:
        raise LoraFileError(
            f"{path} is not a safetensors file ({error}). Choose a LoRA ending in .safetensors."
        ) from error


def load_adapter(parts: Modules, path: Path) -> None:
    """Puts a LoRA file (kohya names) on the base, rank and alpha read from it.

    Raises LoraFileError unless every tensor of the file finds its place.
    """
    stored = read_lora(path)
    left = set(stored)
    for part, module in parts.items():
        paths = {kohya_name(part, p): p for p in targets(part, module)}
        ours = {name: p for name, p in paths.items() if f"{name}.lora_down.weight" in stored}
        ranks = {name: stored[f"{name}.lora_down.weight"].shape[0] for name in ours}
        for rank in sorted(set(ranks.values())):
            inject(module, [p for name, p in ours.items() if ranks[name] == rank], rank, rank)
        layers = dict(lora_modules(module))
        for name, p in ours.items():
            _fill(layers[p], stored, name, path)
            left -= {f"{name}.lora_down.weight", f"{name}.lora_up.weight", f"{name}.alpha"}
    if left:
        some = ", ".join(sorted(left)[:5])
        raise LoraFileError(
            f"{path} has {len(left)} tensors that this base has no place for ({some} ...). It was "
            "made for another kind of model."
        )


def _fill(layer: torch.nn.Module, stored: dict[str, torch.Tensor], name: str, path: Path) -> None:
    down, up = stored[f"{name}.lora_down.weight"], stored.get(f"{name}.lora_up.weight")
    weight_a, weight_b = layer.lora_A[NAME].weight, layer.lora_B[NAME].weight
    if up is None or down.shape != weight_a.shape or up.shape != weight_b.shape:
        raise LoraFileError(
            f"{path}: {name} does not fit this base (its shapes differ). It was made for another "
            "kind of model."
        )
    weight_a.data.copy_(down)
    weight_b.data.copy_(up)
    alpha = stored.get(f"{name}.alpha")
    layer.lora_alpha[NAME] = float(alpha) if alpha is not None else float(layer.r[NAME])
    layer.scaling[NAME] = layer.lora_alpha[NAME] / layer.r[NAME]


@torch.no_grad()
def merged_weight(
    weight: torch.Tensor, down: torch.Tensor, up: torch.Tensor, alpha: float
) -> torch.Tensor:
    """What every other tool makes of a LoRA: weight + up @ down * alpha / rank (Hu et al. 2021,
    section 4.1).
    """
    return weight + (up.to(weight) @ down.to(weight)) * (alpha / down.shape[0])


def gradient_norm(parameters: list[torch.nn.Parameter], limit: float) -> float:
    """Clips the gradients' joint norm to `limit` (0: only measures) and returns what it was."""
    return float(torch.nn.utils.clip_grad_norm_(parameters, limit if limit else math.inf))
