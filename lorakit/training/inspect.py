"""What a .safetensors file is: a LoRA, what it was trained with, who will show it; or a base
checkpoint.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import LoraFileError
from ..settings import specs
from . import single_file
from .config import TrainingSettings
from .foreign import PARTS, role
from .metadata import stored, tag_counts
from .tensorfile import Entry, TensorFile

SHOWN = (
    "ss_output_name",
    "ss_sd_model_name",
    "ss_network_dim",
    "ss_network_alpha",
    "ss_steps",
    "ss_epoch",
    "ss_optimizer",
    "ss_unet_lr",
    "ss_text_encoder_lr",
    "ss_training_comment",
    "modelspec.trigger_phrase",
    "modelspec.prediction_type",
    "modelspec.merged_from",
    "lorakit.likeness",
)
KINDS = {  # by what only such files have in their tensors' names
    "hada_": "LoHa",
    "lokr_": "LoKr",
    "oft_": "OFT",
    ".dora_scale": "DoRA",
    ".lora_magnitude_vector": "DoRA",
    ".magnitude": "DoRA",
}
WIDTHS = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "SDXL"}
FORMATS = {"F16": "fp16", "BF16": "bf16", "F32": "fp32"}
BLOCKS = ("input_blocks", "middle_block", "output_blocks")
PART_NAMES = {"unet": "U-Net", "te1": "text encoder 1", "te2": "text encoder 2"}


def describe(path: Path) -> dict[str, Any]:
    """What the file is, as values, and as lines of text under "text". Raises LoraFileError or
    BaseModelError.
    """
    if not path.is_file():
        raise LoraFileError(f"There is no file at {path}. Give a .safetensors file.")
    with TensorFile(path) as file:
        entries, details = file.entries, file.metadata
        known: dict[str, Any] = {"kind": "base checkpoint"}
        if single_file.UNET + "input_blocks.0.0.weight" not in entries:
            alphas = {k: float(file.read(k)) for k in entries if role(k)[1] == "alpha"}
            known = _lora(path, entries, alphas, details)
    whole = {"file": path, "bytes": path.stat().st_size, "tensors": len(entries), **known}
    whole["metadata"] = details
    return {"text": "\n".join(_lines(whole)), **whole}


def _lora(
    path: Path,
    entries: Mapping[str, Entry],
    alphas: Mapping[str, float],
    details: Mapping[str, str],
) -> dict[str, Any]:
    downs = {role(key)[0]: entry for key, entry in entries.items() if role(key)[1] == "down"}
    names = set(downs) or {role(key)[0] for key in alphas}
    if not names:
        return {"kind": "neither a LoRA nor a base checkpoint"}
    shown, why = a1111(details)
    return {
        "kind": kind(entries, [entry.shape for entry in downs.values()]),
        "naming": naming(names),
        "modules": dict(Counter(part(name) for name in sorted(names))),
        "ranks": _counts(entry.shape[0] for entry in downs.values()),
        "alphas": _counts(f"{alpha:g}" for alpha in alphas.values()),
        "formats": _counts(FORMATS.get(e.kind, e.kind) for e in entries.values() if e.shape),
        "made_for": made_for(downs),
        "hashes": hashes(path, entries, details),
        "a1111": {"shown_for_sdxl": shown, "because": why},
        "settings": stored(details, "lorakit.settings"),
    }


def _counts(values: Iterable[Any]) -> dict[Any, int]:
    return dict(Counter(values).most_common())


def kind(keys: Iterable[str], shapes: Iterable[tuple[int, ...]]) -> str:
    """'LoRA', 'LoCon' where convolutions wider than 1 x 1 have one too, 'DoRA' and so on."""
    for word, found in KINDS.items():
        if any(word in key for key in keys):
            return found
    wide = any(len(shape) == 4 and shape[2:] != (1, 1) for shape in shapes)
    return "LoCon" if wide else "LoRA"


def part(name: str) -> str:
    """Which part of the base a module's name belongs to: 'unet', 'te1', 'te2' or 'other'."""
    return next((part for part, (begins, *_) in PARTS.items() if begins.match(name)), "other")


def naming(names: Iterable[str]) -> str:
    """Whose names these modules' names are, and who writes them."""
    unet = [name for name in names if part(name) == "unet"] or list(names)
    first = min(unet, default="")
    if first.startswith("lora_unet_") and not any(word in first for word in BLOCKS):
        return "kohya's with diffusers' block numbers (ai-toolkit, some diffusers scripts)"
    if first.startswith(("lora_unet_", "lora_te")) and "." not in first:
        return "kohya's"
    if first.startswith(("lora_unet.", "lora_te", "clip_")):
        return "OneTrainer's"
    if first.startswith(("unet.", "text_encoder")):
        return "diffusers'"
    if first.startswith(("diffusion_model.", "lycoris_")):
        return "ComfyUI's" if first.startswith("diff") else "LyCORIS'"
    return "unknown"


def made_for(downs: Mapping[str, Entry]) -> str:
    """Which model the U-Net's part fits, by the width of its cross-attention ('' if unknown)."""
    widths = {e.shape[1] for n, e in downs.items() if n.endswith(("attn2_to_k", "attn2.to_k"))}
    return WIDTHS.get(min(widths), "") if len(widths) == 1 else ""


def a1111(details: Mapping[str, str]) -> tuple[bool, str]:
    """Whether A1111 and Forge list the file while an SDXL model is loaded, and why (the rule of
    their network.py).
    """
    base = details.get("ss_base_model_version", "")
    if base.startswith("sdxl_"):
        return True, f"ss_base_model_version is {base}"
    if details.get("ss_v2") == "True":
        return False, "ss_v2 is True: taken for Stable Diffusion 2"
    if details:
        return False, "it has metadata without ss_base_model_version: taken for Stable Diffusion 1"
    return True, "it has no metadata, so it is shown for every model"


def hashes(path: Path, entries: Mapping[str, Entry], details: Mapping[str, str]) -> dict[str, Any]:
    """The hashes by which others know the file, computed anew; `agrees` says whether the two that
    the file holds of itself are right (None: it holds none).

    `sha256` is of the whole file (its first ten digits are Civitai's AutoV2), `sshs_model_hash` of
    the tensors alone (its first twelve are AutoV3), `sshs_legacy_hash` kohya's old one.
    """
    start = min((entry.start for entry in entries.values()), default=0)
    whole, body = hashlib.sha256(), hashlib.sha256()
    with path.open("rb") as file:
        head = file.read(start)
        whole.update(head)
        while block := file.read(1 << 20):
            whole.update(block)
            body.update(block)
        ours = {key: text for key, text in details.items() if key.startswith("ss_")}
        file.seek(start + max(0, 0x100000 - _header_size(entries, ours, start)))
        legacy = hashlib.sha256(file.read(0x10000)).hexdigest()[:8]
    found = {"sshs_model_hash": body.hexdigest(), "sshs_legacy_hash": legacy}
    said = {key: details[key] for key in found if key in details}
    return {
        "sha256": whole.hexdigest(),
        "AutoV2": whole.hexdigest()[:10].upper(),
        "AutoV3": body.hexdigest()[:12].upper(),
        **found,
        "agrees": all(found[key] == text for key, text in said.items()) if said else None,
    }


def _header_size(entries: Mapping[str, Entry], details: Mapping[str, str], start: int) -> int:
    """How long the file's header is with these metadata only, which is what kohya hashes."""
    values: dict[str, Any] = {
        name: {
            "dtype": entry.kind,
            "shape": list(entry.shape),
            "data_offsets": [entry.start - start, entry.end - start],
        }
        for name, entry in entries.items()
    }
    text = json.dumps(
        {"__metadata__": dict(details), **values}, ensure_ascii=False, separators=(",", ":")
    ).encode()
    return 8 + len(text) + -len(text) % 8


# --- as text --------------------------------------------------------------------------------------


def _lines(known: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{known['file']}: {known['kind']}, {known['bytes'] / 1e6:.1f} MB, {known['tensors']} "
        "tensors"
    ]
    if "naming" in known:
        lines += _lora_lines(known)
    details = known["metadata"]
    shown = [k for k in SHOWN if details.get(k) not in (None, "", "None")]
    lines += [f"  {key}: {details[key]}" for key in shown]
    changed = _changed(known.get("settings") or {})
    lines += [f"  settings that are not the default: {changed}"] if changed else []
    tags = sum((Counter(folder) for folder in tag_counts(details).values()), Counter[str]())
    top = ", ".join(f"{tag} ({count})" for tag, count in tags.most_common(12))
    return lines + ([f"  tags: {top}"] if top else [])


def _lora_lines(known: Mapping[str, Any]) -> list[str]:
    modules = {PART_NAMES.get(name, name): count for name, count in known["modules"].items()}
    found, shown = known["hashes"], known["a1111"]
    agrees = {None: "none stored", True: "as stored", False: "NOT as stored: it was changed since"}
    rows = {
        "made for": known["made_for"],
        "names": known["naming"],
        "modules": _counted(modules),
        "ranks": _counted(known["ranks"]),
        "alphas": _counted(known["alphas"]) or "none: strength 1",
        "number format": _counted(known["formats"]),
        "A1111 and Forge": ("show it" if shown["shown_for_sdxl"] else "do NOT show it")
        + f" for SDXL: {shown['because']}",
        "hashes": f"AutoV2 {found['AutoV2']}, AutoV3 {found['AutoV3']} ({agrees[found['agrees']]})",
    }
    return [f"  {name}: {text}" for name, text in rows.items() if text]


def _counted(counts: Mapping[Any, int]) -> str:
    return ", ".join(f"{value} ({count})" for value, count in counts.items())


def _changed(settings: Mapping[str, Any]) -> str:
    """The settings of a run that were not at their default, as one would type them."""
    defaults = {spec.name: spec.default for spec in specs(TrainingSettings)}
    return " ".join(
        f"{name}={value}"
        for name, value in settings.items()
        if name in defaults and value != defaults[name]
    )
