"""What a .safetensors file is: a LoRA or a base checkpoint, read from its header alone."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from safetensors import safe_open

from ..errors import LoraFileError
from . import single_file

SHOWN = (
    "ss_output_name",
    "ss_network_dim",
    "ss_network_alpha",
    "ss_steps",
    "ss_epoch",
    "ss_sd_model_name",
    "modelspec.trigger_phrase",
    "modelspec.prediction_type",
)


def describe(path: Path) -> dict[str, Any]:
    """Kind, size, number of modules by part, ranks and metadata. Raises LoraFileError or
    BaseModelError.
    """
    if not path.is_file():
        raise LoraFileError(f"There is no file at {path}. Give a .safetensors file.")
    keys, metadata = single_file.header(path)
    if single_file.UNET + "input_blocks.0.0.weight" in keys:
        kind: dict[str, Any] = {"kind": "base checkpoint", "tensors": len(keys)}
    else:
        kind = {"kind": "LoRA", "tensors": len(keys), **_lora(path, keys)}
    result = {"file": path, "bytes": path.stat().st_size, **kind, "metadata": metadata}
    return {"text": _text(result), **result}


def _lora(path: Path, keys: list[str]) -> dict[str, Any]:
    modules = Counter(key.split("_", 2)[1] for key in keys if key.endswith(".lora_down.weight"))
    with safe_open(path, framework="pt") as file:
        ranks = Counter(
            file.get_slice(key).get_shape()[0] for key in keys if key.endswith(".lora_down.weight")
        )
    return {"modules": dict(modules), "ranks": dict(ranks)}


def _text(result: dict[str, Any]) -> str:
    lines = [
        f"{result['file']}: {result['kind']}, {result['bytes'] / 1e6:.1f} MB, {result['tensors']} "
        "tensors"
    ]
    for name in ("modules", "ranks"):
        if name in result:
            lines.append(f"  {name}: " + ", ".join(f"{k} ({v})" for k, v in result[name].items()))
    lines += [f"  {key}: {result['metadata'][key]}" for key in SHOWN if key in result["metadata"]]
    frequency = json.loads(result["metadata"].get("ss_tag_frequency") or "{}")
    tags = Counter({tag: count for folder in frequency.values() for tag, count in folder.items()})
    if tags:
        lines.append(
            "  tags: " + ", ".join(f"{tag} ({count})" for tag, count in tags.most_common(12))
        )
    return "\n".join(lines)
