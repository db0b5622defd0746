"""LoRA files of other tools: under which names they keep which module, and how strong it is.

Read are the names of kohya's sd-scripts, of diffusers and peft, of OneTrainer (all its formats),
of ai-toolkit and of ComfyUI's own nodes. No name is taken apart: every spelling of every layer that
the base has is listed, and a name in the file is one of these or it is refused.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ..errors import LoraFileError
from .dora import columns
from .layers import Modules, layers
from .names import unet_to_sgm, with_text_model, without_text_model

Tensors = Mapping[str, torch.Tensor]
Spot = tuple[str, str]  # part, path

FOLDERS = {"unet": "unet", "te1": "text_encoder", "te2": "text_encoder_2"}
ROLES = {
    "down": re.compile(r"(\.lora_down|\.lora_A(\.\w+)?|[._]lora(_linear_layer)?\.down)\.weight$"),
    "up": re.compile(r"(\.lora_up|\.lora_B(\.\w+)?|[._]lora(_linear_layer)?\.up)\.weight$"),
    "alpha": re.compile(r"\.alpha$"),
    "dora_scale": re.compile(r"\.(dora_scale|magnitude|lora_magnitude_vector(\.\w+)*)$"),
}
OTHER_KINDS = {
    "a LoHa": r"\.hada_",
    "a LoKr": r"\.lokr_",
    "an OFT": r"\.(oft_|boft_)",
    "a LoCon with Tucker decomposition": r"\.lora_mid\.",
    "a GLoRA": r"\.[ab][12]\.weight$",
    "an IA3": r"\.on_input$",
    "a LoRA with trained biases": r"\.lora_[AB](\.\w+)?\.bias$",
    "a LoRA with whole trained weights": r"\.(diff|diff_b|w_norm|b_norm|set_weight)$",
    "a LyCORIS file with scalars": r"\.scalar$",
    "a LoRA with trained words": r"^bundle_emb",
}
HALVES = {"down", "up"}
LISTED = 20  # names in a message; a file for another base has hundreds
PARTS = {  # how names of a part begin, what it is called, the setting that trains it
    "unet": (re.compile(r"(lora_)?unet[._]|diffusion_model\.|lycoris_"), "the U-Net", "unet_lr"),
    "te1": (
        re.compile(r"lora_te1[._]|text_encoder\.|clip_l\."),
        "the first text encoder",
        "text_encoder_lr",
    ),
    "te2": (
        re.compile(r"lora_te2[._]|text_encoder_2\.|clip_g\."),
        "the second text encoder",
        "text_encoder_2_lr",
    ),
}


@dataclass(frozen=True)
class Stored:
    """The LoRA of one module as a file has it; `name` is the module's name there.

    `dora_scale` has the shape (1, in, ...) or (out, 1, ...), or is None without DoRA.
    """

    name: str
    down: torch.Tensor
    up: torch.Tensor
    alpha: float
    dora_scale: torch.Tensor | None


def read_lora(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a LoRA file. Raises LoraFileError."""
    return read_file(path)[0]


def read_file(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a LoRA file. Raises LoraFileError."""
    if not path.exists():
        raise LoraFileError(f"There is no LoRA file at {path}. Check the path.")
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise LoraFileError(
            f"{path} is not a safetensors file ({error}). Choose a LoRA ending in .safetensors."
        ) from error


def spellings(part: str, path: str) -> Iterator[str]:
    """Every name that some tool gives a module, without the tensor's name behind it."""
    if part == "unet":
        sgm = unet_to_sgm(path)
        old = path.removesuffix(".0") if path.endswith(".to_out.0") else path  # diffusers of 2023
        yield path  # peft, of a U-Net by itself
        yield from (f"{head}.{p}" for head in ("unet", "lora_unet") for p in (path, sgm, old))
        yield f"diffusion_model.{sgm}"
        for head in ("lora_unet", "lycoris"):
            yield from (f"{head}_{p.replace('.', '_')}" for p in (path, sgm))
        return
    head, clip = f"lora_{part}", {"te1": "clip_l", "te2": "clip_g"}[part]
    short, long = without_text_model(path), with_text_model(path)
    old = re.sub(r"self_attn\.(q|k|v|out)_proj$", r"self_attn.to_\1", long)
    for dotted in (FOLDERS[part], head, clip, f"text_encoders.{clip}.transformer"):
        yield from (f"{dotted}.{p}" for p in (short, long, old))
    yield from (f"{head}_{p.replace('.', '_')}" for p in (short, long))


def places(parts: Modules) -> dict[str, Spot]:
    """Part and path of every layer a LoRA could be on, by all its spellings."""
    return {
        name: (part, path)
        for part, module in parts.items()
        for path in layers(module)
        for name in spellings(part, path)
    }


def role(key: str) -> tuple[str, str]:
    """The module's name in a tensor's name, and what the tensor is to it ('' if not of a LoRA).

    >>> role("unet.base_model.model.mid_block.attentions.0.proj_in.lora_A.weight")
    ('unet.mid_block.attentions.0.proj_in', 'down')
    """
    for which, pattern in ROLES.items():
        end = pattern.search(key)
        if end:
            name = key[: end.start()].replace("base_model.model.", "")
            return name.replace(".processor.", "."), which
    return key, ""


def read_modules(path: Path, parts: Modules) -> dict[Spot, Stored]:
    """The LoRA of every module in a file, by part and path in `parts`.

    Raises LoraFileError unless every tensor has a place; LoHa, LoKr and the like are refused by
    their name.
    """
    tensors, metadata = read_file(path)
    spots, left = places(parts), []
    found: dict[Spot, dict[str, str]] = {}
    for key in tensors:
        name, which = role(key)
        if not which or name not in spots or which in found.get(spots[name], {}):
            left.append(key)
        else:
            found.setdefault(spots[name], {})[which] = key
    halved = [key for keys in found.values() for key in keys.values() if not HALVES <= set(keys)]
    if left or halved or not found:
        raise LoraFileError(f"{path} {_reason(left, halved, parts)}")
    config = _peft_config(path, metadata)
    modules = {}
    for spot, keys in found.items():
        own = {which: tensors[key] for which, key in keys.items()}
        rank = len(own["down"])
        alpha = float(own["alpha"]) if "alpha" in own else peft_alpha(config, spot, rank)
        weight = parts[spot[0]].get_submodule(spot[1]).weight if "dora_scale" in keys else None
        scale = None if weight is None else _sizes(path, keys["dora_scale"], tensors, weight)
        modules[spot] = Stored(role(keys["down"])[0], own["down"], own["up"], alpha, scale)
    return modules


def _sizes(path: Path, key: str, tensors: Tensors, weight: torch.Tensor) -> torch.Tensor:
    """DoRA's sizes in the shape that says what they are of: columns (1, in, ...) or rows (out, 1,
    ...). Only LyCORIS' name can mean columns, and then says so by its shape.
    """
    scale = tensors[key]
    of_columns = key.endswith(".dora_scale") and scale.ndim > 1 and len(scale) == 1
    rows = (weight.shape[0], *(1 for _ in weight.shape[1:]))
    shape = columns(weight) if of_columns else rows
    if scale.numel() != math.prod(shape):
        raise LoraFileError(
            f"{path}: {key} does not fit this base (its shape differs). It was made for another "
            "kind of model."
        )
    return scale.reshape(shape)


def _reason(left: Sequence[str], halved: Sequence[str], parts: Modules) -> str:
    """Why a file is refused, as the rest of a sentence."""
    for kind, pattern in OTHER_KINDS.items():
        odd = [key for key in left if re.search(pattern, key)]
        if odd:
            return (
                f"is {kind} ({odd[0]} ...). lorakit goes on from LoRA, LoCon and DoRA files only; "
                "choose one of those."
            )
    absent = {part for key in left for part in PARTS if PARTS[part][0].match(key)} - set(parts)
    if absent and all(any(PARTS[part][0].match(key) for part in absent) for key in left):
        what, setting = PARTS[min(absent)][1:]
        return (
            f"has {len(left)} tensors for {what}, which is not trained here ({listed(left)}). Set "
            f"{setting} above 0, or choose a file without them."
        )
    if left:
        return (
            f"has {len(left)} tensors that this base has no place for ({listed(left)}). It was "
            "made for another kind of model."
        )
    if halved:
        return (
            f"is damaged: {len(halved)} of its tensors lack the other half of their LoRA "
            f"({listed(halved)}). Fetch the file again."
        )
    return "has no LoRA in it. Choose another file."


def listed(names: Sequence[str]) -> str:
    """The names in order, and how many more there are where that would be too long to read."""
    more = len(names) - LISTED
    return ", ".join(sorted(names)[:LISTED]) + (f" and {more} more" if more > 0 else "")


def peft_alpha(config: Mapping[str, Any], spot: Spot, rank: int) -> float:
    """The alpha of a module whose file has none for it: what the metadata of diffusers say, else
    the rank (strength 1), as every reader takes it.
    """
    part, path = spot
    head = FOLDERS[part]
    alpha = config.get(f"{head}.lora_alpha", rank)
    for pattern, value in (config.get(f"{head}.alpha_pattern") or {}).items():
        if re.search(rf"(^|\.)({pattern.removeprefix('^')})$", path):
            alpha = value
    return float(alpha) * (math.sqrt(rank) if config.get(f"{head}.use_rslora") else 1.0)


def _peft_config(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """What diffusers says of the adapters of a file it saved: peft's settings by part."""
    try:
        return dict(json.loads(metadata.get("lora_adapter_metadata", "{}")))
    except (ValueError, TypeError) as error:
        raise LoraFileError(
            f"{path}: lora_adapter_metadata in its header is not JSON ({error}), so its strength "
            "is not known. Save the LoRA again."
        ) from error
