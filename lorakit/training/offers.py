"""Which file to take of those that a repository or a model's page offers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..errors import BaseModelError
from .tensorfile import PICKLES

PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")


def choose(files: Mapping[str, Mapping[str, Any]], repo: str, wanted: str = "base") -> list[str]:
    """Which files of a repository to fetch for a base model ('base') or a VAE ('vae'): those of its
    diffusers folder (in half precision where it has both; model_index.json last, as the mark that
    all is there), or its one checkpoint. Raises BaseModelError.
    """
    if wanted == "base" and "model_index.json" in files:
        weights = {part: _weights_of(files, part) for part in PARTS}
        if all(weights.values()):
            small = r"(scheduler/.+\.json|tokenizer(_2)?/[^/]+\.(json|txt))"
            extra = [name for name in files if re.fullmatch(small, name)]
            heavy = [name for part in PARTS for name in (f"{part}/config.json", *weights[part])]
            return [*heavy, *sorted(extra), "model_index.json"]
    if wanted == "vae":
        for prefix in ("", "vae/"):
            found = [f"{prefix}config.json", f"{prefix}diffusion_pytorch_model.safetensors"]
            if all(name in files for name in found):
                return found
    singles = [name for name in files if name.endswith(".safetensors") and "/" not in name]
    large = [name for name in singles if int(files[name].get("size") or 2**40) > 10**9]
    chosen = large if wanted == "base" and large else singles
    if len(chosen) == 1:
        return chosen
    raise BaseModelError(_why_none(files, chosen, repo))


def _weights_of(files: Mapping[str, Any], part: str) -> list[str]:
    """A part's safetensors files. The VAE works in fp32, so it is fetched as fine as there is."""
    found = [f for f in files if re.fullmatch(rf"{part}/[\w.-]+\.safetensors", f)]
    half = [f for f in found if re.search(r"\.fp16[.-]", f)]
    plain = [f for f in found if not re.search(r"\.(fp16|bf16|non_ema|ema)[.-]", f)]
    return (plain or half) if part == "vae" else (half or plain)


def _why_none(files: Mapping[str, Any], several: list[str], repo: str) -> str:
    if several:
        rows = ", ".join(several[:12])
        return f"{repo} holds several checkpoints: {rows}. Name one: {repo}/{several[0]}"
    if any(name.lower().endswith(PICKLES) for name in files):
        return (
            f"{repo} holds pickles only (.ckpt, .bin), which can run code when opened. Choose one "
            "with .safetensors files."
        )
    return f"{repo} holds no SDXL checkpoint. Choose another base_model."


def newest_version(about: Mapping[str, Any], text: str) -> int:
    """The number of the newest version of a model that everybody can have. Raises
    BaseModelError.
    """
    versions = about.get("modelVersions") or []
    free = [each for each in versions if each.get("availability") != "EarlyAccess"]
    if not versions:
        raise BaseModelError(f"{text} has no version that can be downloaded.")
    return int((free or versions)[0]["id"])


def choose_civitai(about: Mapping[str, Any], options: Mapping[str, str], text: str) -> Any:
    """The file of a version that its link asks for, else its main one, as safetensors. Raises
    BaseModelError.
    """
    kind = (about.get("model") or {}).get("type", "Checkpoint")
    if kind not in ("Checkpoint", "VAE", "Upscaler", "Other"):
        raise BaseModelError(f"{text} is a {kind}, not a base model. Choose a checkpoint.")
    files = list(about.get("files") or [])
    safe = [f for f in files if _is_safe(f)]
    if files and not safe:
        raise BaseModelError(
            f"{text} is a pickle, which can run code when opened; choose a version with a "
            "SafeTensor file."
        )
    asked = [f for f in safe if _fits(f, options)]
    first = sorted(asked, key=lambda f: (f.get("type") != "Model", not f.get("primary")))
    if not first:
        wanted = ", ".join(f"{name} {value}" for name, value in options.items())
        raise BaseModelError(
            f"{text} has no file that can be downloaded{f' with {wanted}' if files else ''}."
        )
    return first[0]


def _is_safe(file: Mapping[str, Any]) -> bool:
    name, kind = str(file.get("name", "")).lower(), (file.get("metadata") or {}).get("format")
    named = name.endswith(".safetensors")
    return named or (kind in (None, "SafeTensor") and not name.endswith(PICKLES))


def _fits(file: Mapping[str, Any], options: Mapping[str, str]) -> bool:
    """Whether nothing that is known of a file speaks against what the link asks for."""
    values = {**(file.get("metadata") or {}), "type": file.get("type")}
    known = {name: str(values[name]).lower() for name in options if values.get(name)}
    return all(options[name].lower() == value for name, value in known.items())
