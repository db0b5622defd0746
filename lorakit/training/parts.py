"""One part of SDXL at a time (U-Net, VAE, text encoder): its shape alone, filled from a checkpoint,
and emptied again.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from ..errors import BaseModelError
from ..progress import Progress, silent, track
from .checkpoint import Checkpoint
from .compact import Compact, compact

LABELS = {
    "unet": "the U-Net",
    "vae": "the VAE",
    "te1": "the first text encoder",
    "te2": "the second text encoder",
}
NOT_FOR_CLIP = ("architectures", "model_type", "dtype", "torch_dtype", "transformers_version")


def empty(part: str, config: dict[str, Any], storage: str = "full") -> torch.nn.Module:
    """A part, frozen, whose weights are on the meta device: shapes only, no memory. The U-Net's
    linear layers are compact if `storage` says so.
    """
    with torch.device("meta"):
        model = _made(part, config)
    if part == "unet" and storage != "full":
        compact(model, storage)
    return model.requires_grad_(False).eval()


def build(
    part: str, config: dict[str, Any], checkpoint: Checkpoint, dtype: torch.dtype, device: str
) -> torch.nn.Module:
    """A part with its weights. Raises BaseModelError."""
    model = empty(part, config)
    fill(model, part, checkpoint, dtype, device)
    return model


def fill(
    model: torch.nn.Module,
    part: str,
    checkpoint: Checkpoint,
    dtype: torch.dtype,
    device: str,
    progress: Progress = silent,
) -> None:
    """Reads a part's weights, one by one from the file to their place. Raises BaseModelError."""
    check(model, part, checkpoint)
    shapes = wanted(model)
    places = {name: checkpoint.position(part, canonical(part, name)) for name in shapes}
    in_order = sorted(places, key=lambda name: places[name])
    state: dict[str, torch.Tensor] = {}
    for name in track(in_order, f"Loading {LABELS[part]}", progress):
        tensor = checkpoint.read(part, canonical(part, name), dtype, device).reshape(shapes[name])
        path, _, last = name.rpartition(".")
        layer = model.get_submodule(path)
        small = isinstance(layer, Compact) and last == "weight"
        made = layer.packed(tensor) if small else {last: tensor}  # type: ignore[operator]
        state |= {f"{path}.{each}".lstrip("."): value for each, value in made.items()}
    model.load_state_dict(state, assign=True)
    state.clear()  # or every convolution would be there twice for a moment
    if dtype != torch.float32:  # what matrix units take: 5 % of a step on a CPU, nothing in float32
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for module in model.modules():  # the only buffers that no file holds
        if getattr(module, "position_ids", None) is not None:
            module.position_ids = torch.arange(module.position_ids.shape[-1], device=device)[None]
    model.requires_grad_(False)


def wanted(model: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    """Name and shape of every weight that a part reads from a checkpoint."""
    found = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for path, layer in model.named_modules():
        if isinstance(layer, Compact):
            del found[f"{path}.scale"]
            found[f"{path}.weight"] = (layer.out_features, layer.in_features)
    return found


def check(model: torch.nn.Module, part: str, checkpoint: Checkpoint) -> None:
    """Raises BaseModelError if the checkpoint lacks a weight of this part or has it in another
    shape; reads nothing but the file's header.

    A matrix where the other has a 1x1 convolution is the same numbers, and checkpoints differ in
    which they keep.
    """
    for name, ours in wanted(model).items():
        shape = checkpoint.shape(part, canonical(part, name))
        ones = (*shape[2:], *ours[2:])
        if shape != ours and (shape[:2] != ours[:2] or any(side != 1 for side in ones)):
            raise BaseModelError(
                f"{checkpoint.path} is of another shape than SDXL ({part}: {name} is "
                f"{'x'.join(map(str, shape))}, not {'x'.join(map(str, ours))}). Choose an SDXL "
                "checkpoint."
            )


def release(model: torch.nn.Module) -> None:
    """Gives back the memory of a part's weights; only its shape stays."""
    model.to("meta")


def is_empty(model: torch.nn.Module) -> bool:
    """Whether a part has no weights in memory."""
    return next(model.parameters()).is_meta


def canonical(part: str, name: str) -> str:
    """A parameter's name with the `text_model.` level that transformers 5.6 dropped from the first
    encoder.
    """
    if part in ("te1", "te2") and not name.startswith(("text_model.", "text_projection.")):
        return f"text_model.{name}"
    return name


def _made(part: str, config: dict[str, Any]) -> torch.nn.Module:
    if part == "unet":
        return UNet2DConditionModel.from_config(config)
    if part == "vae":
        return AutoencoderKL.from_config(config)
    kind = CLIPTextModel if part == "te1" else CLIPTextModelWithProjection
    return kind(CLIPTextConfig(**{k: v for k, v in config.items() if k not in NOT_FOR_CLIP}))
