"""The layers of a base that carry a LoRA: which they are, and how one is put on them through peft.

Layers are found by their path, never by class name: transformers renames classes, and a trainer
that went by them once left all text-encoder attention untrained without a word (sd-scripts issue
1952).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora.layer import LoraLayer

from ..errors import TrainingError
from .dora import Dora
from .lora_layers import NAME, Conv2d, ConvHalf, Linear, LinearHalf
from .names import without_text_model

UNET_TARGET = re.compile(
    r".*attentions\.\d+\.(proj_in|proj_out|transformer_blocks\.\d+\.(attn[12]\.(to_q|to_k|to_v|to_out\.0)|ff\.net\.(0\.proj|2)))"
)
LOCON_TARGET = re.compile(
    r".*(resnets\.\d+\.(conv1|conv2|time_emb_proj|conv_shortcut)|(down|up)samplers\.\d+\.conv)"
)
TEXT_TARGET = re.compile(
    r"(text_model\.)?encoder\.layers\.\d+\.(self_attn\.(q|k|v|out)_proj|mlp\.fc[12])"
)

Modules = Mapping[str, torch.nn.Module]


def targets(part: str, module: torch.nn.Module, kind: str = "lora") -> list[str]:
    """The paths of the layers of a part that get a LoRA: attention, feed-forward and projections;
    with kind 'locon' the U-Net's ResNets and resamplers too.
    """
    patterns = [UNET_TARGET] if part == "unet" else [TEXT_TARGET]
    if part == "unet" and kind == "locon":
        patterns.append(LOCON_TARGET)
    return [path for path in layers(module) if any(p.fullmatch(path) for p in patterns)]


def layers(module: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """Every layer that a LoRA could be put on, by path."""
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    return {path: child for path, child in module.named_modules() if isinstance(child, kinds)}


def checked_targets(part: str, module: torch.nn.Module, kind: str) -> list[str]:
    """`targets`. Raises TrainingError if there are more or fewer than the configuration says."""
    paths = targets(part, module, kind)
    config = module.config if isinstance(module.config, dict) else module.config.to_dict()
    wanted = expected_count(part, config, kind)
    if len(paths) != wanted:
        raise TrainingError(
            f"{part} has {len(paths)} trainable modules where {wanted} were expected; this "
            "release of its library is not supported."
        )
    return paths


def expected_count(part: str, config: Mapping[str, Any], kind: str = "lora") -> int:
    """How many modules a part of this configuration must have: 722 for SDXL's U-Net (788 with kind
    'locon'), 72 and 192 for its encoders.
    """
    if part != "unet":
        return 6 * int(config["num_hidden_layers"])
    per_stage = int(config["layers_per_block"])
    depths = list(config["transformer_layers_per_block"])
    deep = [
        depth
        for depth, stage in zip(depths, config["down_block_types"], strict=True)
        if stage.startswith("CrossAttn")
    ]
    # A stage has one transformer more on the way up than on the way down; the middle has one.
    transformers = [(2 * per_stage + 1, depth) for depth in deep] + [(1, depths[-1])]
    count = sum(many * (10 * depth + 2) for many, depth in transformers)
    return count + (_convolutions(config, per_stage) if kind == "locon" else 0)


def _convolutions(config: Mapping[str, Any], per_stage: int) -> int:
    """What a LoCon has more: two convolutions and the time projection of every ResNet, a shortcut
    where the number of channels changes (on the way up it always does), a resampler between stages.
    """
    widths = list(config["block_out_channels"])
    up, down = (per_stage + 1) * len(widths), per_stage * len(widths)
    changes = sum(a != b for a, b in zip(widths, widths[1:], strict=False))
    return 3 * (up + down + 2) + up + changes + 2 * (len(widths) - 1)


def inject(module: torch.nn.Module, paths: Collection[str], dora: bool = False) -> None:
    """Turns the layers at `paths` into peft's LoRA layers; `put` gives them their weights."""
    if not paths:
        return
    if hasattr(module, "peft_config"):  # a file with and without DoRA takes two calls, and peft
        del module.peft_config  # would warn that the second one adds another adapter
    config = LoraConfig(
        r=1, lora_alpha=1, target_modules="|".join(re.escape(path) for path in paths), use_dora=dora
    )
    # peft asks every quantisation library it knows before it takes its own layer, and its question
    # about torchao raises on Colab's image (torchao 0.10). Registering the layers is peft's
    # documented way to be asked first.
    config._register_custom_module({torch.nn.Linear: Linear, torch.nn.Conv2d: Conv2d})
    inject_adapter_in_model(config, module, adapter_name=NAME)


def shapes(layer: torch.nn.Module, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of the two halves of a LoRA of `rank` on a layer: a convolution's first half is
    as large as itself, its second 1x1.
    """
    if isinstance(layer, torch.nn.Linear):  # whose weight may be packed
        return (rank, layer.in_features), (layer.out_features, rank)
    outputs, inputs, *kernel = layer.weight.shape
    return (rank, inputs, *kernel), (outputs, rank, *(1 for _ in kernel))


def put(
    layer: torch.nn.Module,
    down: torch.Tensor,
    up: torch.Tensor,
    alpha: float,
    dora_scale: torch.Tensor | None = None,
) -> None:
    """Gives a LoRA layer its two halves in float32; their strength is alpha / rank.

    `dora_scale` is for layers injected with DoRA; None begins at the sizes of the base's weight.
    """
    base, rank = layer.get_base_layer(), len(down)
    if isinstance(base, torch.nn.Conv2d):
        geometry = (base.kernel_size, base.stride, base.padding, base.dilation)
        first = ConvHalf(base.in_channels, rank, *geometry, bias=False, device="meta")
        second = ConvHalf(rank, base.out_channels, 1, bias=False, device="meta")
    else:
        first = LinearHalf(base.in_features, rank, bias=False, device="meta")
        second = LinearHalf(rank, base.out_features, bias=False, device="meta")
    for half, weight in ((first, down), (second, up)):
        half.weight = torch.nn.Parameter(weight.to(base.weight.device, torch.float32))
        half.train(base.training)
    layer.lora_A[NAME], layer.lora_B[NAME] = first, second
    layer.r[NAME], layer.lora_alpha[NAME], layer.scaling[NAME] = rank, alpha, alpha / rank
    if NAME in layer.lora_magnitude_vector:
        layer.lora_magnitude_vector[NAME] = Dora(base, dora_scale)


def lora_modules(module: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """Path and layer of every module that carries a LoRA."""
    for path, child in module.named_modules():
        if isinstance(child, LoraLayer):
            yield path, child


def weights(layer: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """What is trained in one layer: `down`, `up` and, with DoRA, `dora_scale`."""
    found = {"down": layer.lora_A[NAME].weight, "up": layer.lora_B[NAME].weight}
    if NAME in layer.lora_magnitude_vector:
        found["dora_scale"] = layer.lora_magnitude_vector[NAME].weight
    return found


def trainable(module: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The LoRA weights of a part, in a fixed order."""
    return [weight for _, layer in lora_modules(module) for weight in weights(layer).values()]


def named_weights(parts: Modules) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """The LoRA weights under lorakit's own names: part, path, which one. They are the same on
    every release of transformers.
    """
    for part, module in parts.items():
        for path, layer in lora_modules(module):
            for which, weight in weights(layer).items():
                yield f"{part}.{without_text_model(path)}.{which}", weight
