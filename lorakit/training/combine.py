"""LoRA files made of LoRA files, at a lower rank or several in one, and what these then say of
themselves.
"""

from __future__ import annotations

import functools
import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import SettingsError
from ..progress import Progress, silent
from .export import save_lora
from .factors import Factors, Tensors, checked, dora_error, network_details, pack
from .foreign import read_file, read_modules
from .merge import Goal, Reduced, merge, resize
from .metadata import modelspec, sdxl_lora, tag_counts
from .names import kohya_name
from .parts import empty
from .single_file import sdxl_configs

Details = Mapping[str, str]

# What is true of a merged file if all that went into it agree on it.
SHARED = (
    *("ss_sd_model_name", "ss_sd_model_hash", "ss_new_sd_model_hash", "ss_resolution"),
    *("ss_clip_skip", "ss_zero_terminal_snr", "modelspec.resolution", "modelspec.prediction_type"),
)
OUTDATED = ("lora_adapter_metadata", "modelspec.hash_sha256")  # what a changed file says wrongly


@dataclass(frozen=True)
class Made:
    """A file that was made of others. `ranks` are (how many modules have which); `least_kept` and
    `mean_kept` are shares of the modules' energy, 1 where nothing was cut off.
    """

    path: Path
    bytes: int
    ranks: dict[int, int]
    least_kept: float
    mean_kept: float
    notes: tuple[str, ...] = ()


def resize_file(
    source: Path,
    target: Path,
    goal: Goal,
    dtype: torch.dtype | None = None,
    progress: Progress = silent,
) -> Made:
    """Writes `source` (any tool's names) at a lower rank to `target` (kohya's names), in `dtype` or
    its own number format. Raises LoraFileError, SettingsError, SaveError.
    """
    check_target(target, [source])
    network, details = read(source)
    reduced = resize(network, goal, progress)
    if goal.energy >= 1 and all(f is reduced.network[name] for name, f in network.items()):
        highest = max(factors.rank for factors in network.values())
        raise SettingsError(
            f"No rank in {source} is above {goal.rank}, the highest is {highest}: there is nothing "
            "to make smaller. Choose a lower rank."
        )
    tensors = pack(reduced.network, dtype)
    before = network_details(pack(network))["ss_network_dim"]
    return _save(target, tensors, resized_details(details, before, tensors, target.stem), reduced)


def merge_files(
    sources: Sequence[tuple[Path, float]],
    target: Path,
    goal: Goal | None = None,
    dtype: torch.dtype | None = None,
    progress: Progress = silent,
) -> Made:
    """Writes the weighted sum of LoRA files (any tool's names) to `target` (kohya's names), then
    made smaller if there is a goal. Raises LoraFileError, SettingsError, SaveError.
    """
    for path, weight in sources:
        if not weight or not math.isfinite(weight):
            raise SettingsError(
                f"The weight of {path} is {weight:g}: give a number other than 0, or leave that "
                "file out."
            )
    check_target(target, [path for path, _ in sources])
    read_ones = [(path, weight, *read(path)) for path, weight in sources]
    merged = merge([(network, weight) for _, weight, network, _ in read_ones])
    reduced = resize(merged, goal, progress) if goal else Reduced(merged, {})
    tensors = pack(reduced.network, dtype)
    origins = [(path.stem, weight, details) for path, weight, _, details in read_ones]
    details = merged_details(origins, tensors, target.stem)
    return _save(target, tensors, details, reduced, disagreements(origins))


def read(path: Path) -> tuple[dict[str, Factors], dict[str, str]]:
    """The network of a LoRA file for SDXL, whichever tool named it, under kohya's names; and its
    metadata. Raises LoraFileError, also for a DoRA.
    """
    stored = read_modules(path, _sdxl())
    if any(module.dora_scale is not None for module in stored.values()):
        raise dora_error(path)
    network = {}
    for (part, place), module in stored.items():
        kernel = _sdxl()[part].get_submodule(place).weight.shape[2:]
        down, up = unflattened(module.down, kernel), unflattened(module.up, (1 for _ in kernel))
        network[kohya_name(part, place)] = checked(module.name, down, up, module.alpha, path)
    return network, read_file(path)[1]


def unflattened(half: torch.Tensor, kernel: Iterable[int]) -> torch.Tensor:
    """A half of a LoRA with as many axes as its layer has: where the kernel is 1x1 some tools write
    a matrix.
    """
    sides = tuple(kernel)
    if half.ndim < 2 or any(side != 1 for side in (*half.shape[2:], *sides)):
        return half
    return half.reshape(*half.shape[:2], *sides)


@functools.cache
def _sdxl() -> dict[str, torch.nn.Module]:
    """Full-size SDXL without weights: every module that a LoRA could be on."""
    configs = sdxl_configs()
    parts = ("unet", "te1", "te2")
    return {part: empty(part, configs[part]) for part in parts}


def check_target(target: Path, sources: Sequence[Path]) -> None:
    """Raises SettingsError if writing to `target` would lose a file, or make one nobody opens."""
    if target.suffix != ".safetensors":
        raise SettingsError(f"{target} does not end in .safetensors; LoRA files have to.")
    if any(target.resolve() == source.resolve() for source in sources):
        raise SettingsError(f"{target} is what is read from; give the result another name.")
    if target.exists():
        raise SettingsError(f"{target} is there already; give another name or move it away.")


def _save(
    target: Path,
    tensors: Tensors,
    details: Details,
    reduced: Reduced,
    notes: Sequence[str] = (),
) -> Made:
    save_lora(target, tensors, details)
    ranks = Counter(factors.rank for factors in reduced.network.values())
    return Made(
        target,
        target.stat().st_size,
        dict(sorted(ranks.items())),
        reduced.least,
        reduced.mean,
        tuple(notes),
    )


def resized_details(
    details: Details, before: object, tensors: Tensors, name: str
) -> dict[str, str]:
    """The metadata of a resized file: all that the old one said, but for its ranks, name and
    hashes; the comment is worded as sd-scripts words it.
    """
    network = _as_text(network_details(tensors))
    comment = details.get("ss_training_comment", "").removeprefix("None")
    kept = {k: v for k, v in details.items() if k not in OUTDATED and not k.startswith("sshs_")}
    return kept | {
        **sdxl_lora(),
        **network,
        "ss_output_name": name,
        "ss_training_comment": (
            f"dimension is resized from {before} to {network['ss_network_dim']}; {comment}"
        ),
        "modelspec.title": name,
    }


Origin = tuple[str, float, Details]  # name, weight, metadata


def merged_details(origins: Sequence[Origin], tensors: Tensors, name: str) -> dict[str, str]:
    """The metadata of a merged file. Of its sources only that is said which is true of the whole:
    what all agree on, their tags and triggers, and which they were with which weight.
    """
    all_details = [details for _, _, details in origins]
    shared = {
        key: all_details[0][key]
        for key in SHARED
        if key in all_details[0] and len({d.get(key) for d in all_details}) == 1
    }
    titles = [details.get("modelspec.title") or stem for stem, _, details in origins]
    triggers = dict.fromkeys(
        d["modelspec.trigger_phrase"] for d in all_details if d.get("modelspec.trigger_phrase")
    )
    recipe = ", ".join(f"{stem} x {weight:g}" for stem, weight, _ in origins)
    values = {
        **shared,
        **sdxl_lora(),
        **_as_text(network_details(tensors)),
        "ss_output_name": name,
        "ss_training_comment": f"merged: {recipe}",
        "ss_tag_frequency": json.dumps(_all_tags(all_details), ensure_ascii=False),
        **modelspec(name, time.time()),
        "modelspec.merged_from": ", ".join(titles),
        "lorakit.merged": json.dumps([_origin(*origin) for origin in origins], ensure_ascii=False),
    }
    return values | ({"modelspec.trigger_phrase": ", ".join(triggers)} if triggers else {})


def _as_text(values: Mapping[str, Any]) -> dict[str, str]:
    return {k: json.dumps(v) if isinstance(v, dict) else str(v) for k, v in values.items()}


def _origin(stem: str, weight: float, details: Details) -> dict[str, Any]:
    found = details.get("sshs_model_hash")
    return {"name": stem, "weight": weight, **({"sshs_model_hash": found} if found else {})}


def _all_tags(all_details: Sequence[Details]) -> dict[str, dict[str, int]]:
    """The sources' `ss_tag_frequency` in one; what another tool wrote wrongly is left out."""
    total: dict[str, Counter[str]] = {}
    for details in all_details:
        for folder, tags in tag_counts(details).items():
            total.setdefault(folder, Counter()).update(tags)
    return {folder: dict(tags.most_common()) for folder, tags in total.items()}


def disagreements(origins: Sequence[Origin]) -> list[str]:
    """What the user should know of files that were trained for different things."""
    notes = []
    for key, what in (
        ("modelspec.prediction_type", "kinds of prediction"),
        ("ss_sd_model_name", "base models"),
    ):
        found = dict.fromkeys(details[key] for _, _, details in origins if details.get(key))
        if len(found) > 1:
            notes.append(f"These LoRAs were trained for different {what}: {', '.join(found)}.")
    return notes
