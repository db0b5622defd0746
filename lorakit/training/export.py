"""The LoRA file: kohya's SDXL names, as A1111, Forge, ComfyUI, InvokeAI and Civitai read it, and
on request diffusers' own.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save

from ..errors import LoraFileError, SaveError
from ..files import write_safely
from .factors import Factors, Tensors, finite, modules
from .names import kohya_name, with_text_model

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
DIFFUSERS = {"unet": "unet", "te1": "text_encoder", "te2": "text_encoder_2"}

Modules = Mapping[str, torch.nn.Module]


def serialize(tensors: Tensors, details: Mapping[str, str]) -> bytes:
    """A safetensors file, byte for byte the same each time: the library itself writes the metadata
    in an order that changes from call to call.
    """
    data = save(dict(tensors), dict(details))
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(details.items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[end:]


def hashes(tensors: Tensors, details: Mapping[str, str]) -> dict[str, str]:
    """Kohya's two hashes: sha256 of the tensor data alone (the "addnet hash", Civitai's AutoV3
    begins with it), and the legacy one, eight digits of a fixed window of the file. Both are taken
    over the file with `ss_*` metadata only.
    """
    data = serialize(tensors, {k: v for k, v in details.items() if k.startswith("ss_")})
    body = data[8 + int.from_bytes(data[:8], "little") :]
    window = data[0x100000 : 0x100000 + 0x10000]
    return {
        "sshs_model_hash": hashlib.sha256(body).hexdigest(),
        "sshs_legacy_hash": hashlib.sha256(window).hexdigest()[:8],
    }


def save_lora(path: Path, tensors: Tensors, details: Mapping[str, str]) -> Path:
    """Writes the LoRA file whole or not at all, its hashes beside `details`. Raises SaveError, also
    for values that no program could use.
    """
    bad = finite(tensors)
    if bad:
        raise SaveError(
            f"{path} was not written: {bad} holds values that are not numbers or too large for "
            f"{tensors[bad].dtype}. Choose another save_precision, or train with a lower rate."
        )
    data = serialize(tensors, {**details, **hashes(tensors, details)})
    return write_safely(path, lambda temporary: temporary.write_bytes(data))


def save_diffusers(
    path: Path, tensors: Tensors, details: Mapping[str, str], parts: Modules
) -> Path:
    """Writes the LoRA (`tensors`, kohya's names) under the names that diffusers' own scripts use.

    `parts` is the base it is for. diffusers' load_lora_weights gives the strength it was trained
    with. Where transformers is 5.6 or newer, diffusers before 0.41 cannot put the first encoder's
    part on (its issue 13984), whichever way a file names it; the U-Net's and the second encoder's
    parts work. Raises SaveError, and LoraFileError for a DoRA.
    """
    return save_lora(path, diffusers_tensors(tensors, diffusers_paths(parts)), details)


def diffusers_paths(parts: Modules) -> dict[str, str]:
    """For each kohya name of a module of the base its name in a diffusers file, with the
    `text_model.` level that files have whether or not transformers does.
    """
    found = {}
    for part, module in parts.items():
        for path, _ in module.named_modules():
            with contextlib.suppress(KeyError):  # what no LoRA file has a name for
                level = path if part == "unet" else with_text_model(path)
                found[kohya_name(part, path)] = f"{DIFFUSERS[part]}.{level}"
    return found


def diffusers_tensors(tensors: Tensors, paths: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """The LoRA under diffusers' names. Raises LoraFileError for a module that `paths` lacks.

    Such files have no alpha, so it is multiplied into `lora_B`; and diffusers takes one rank for a
    whole part (its issue 14409), so smaller ones are filled up with zeros, which change nothing.
    """
    stored = modules(tensors, "This LoRA")
    missing = sorted(set(stored) - set(paths))
    if missing:
        raise LoraFileError(f"{missing[0]} of this LoRA is not a module of this base model.")
    ranks: dict[str, int] = {}
    for name, factors in stored.items():
        part = paths[name].partition(".")[0]
        ranks[part] = max(ranks.get(part, 0), factors.rank)
    result = {}
    for name, factors in stored.items():
        down, up = _padded(factors, ranks[paths[name].partition(".")[0]])
        result[f"{paths[name]}.lora_A.weight"] = down
        result[f"{paths[name]}.lora_B.weight"] = up
    return dict(sorted(result.items()))


def _padded(factors: Factors, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The two factors at `rank`, strength 1."""
    up = (factors.up.float() * factors.scale).to(factors.up.dtype)
    more = rank - factors.rank
    down = torch.cat([factors.down, factors.down.new_zeros(more, *factors.down.shape[1:])])
    up = torch.cat([up, up.new_zeros(up.shape[0], more, *up.shape[2:])], dim=1)
    return down.contiguous(), up.contiguous()
