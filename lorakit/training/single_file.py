"""SDXL checkpoints in the original single-file layout, read and written tensor by tensor without
the hub.

Which tensor of the file belongs to which of a model's parameters is computed from the model's own
parameter names, so nothing is loaded that is not used and nothing used can be missing unnoticed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import BaseModelError
from .names import unet_to_sgm
from .tensorfile import TensorFile

UNET = "model.diffusion_model."
VAE = "first_stage_model."
TE1 = "conditioner.embedders.0.transformer."
TE2 = "conditioner.embedders.1.model."
CONFIG_KEY = "lorakit.config"  # metadata of single files that are not full-size SDXL

OPEN_CLIP = {
    "embeddings.token_embedding": "token_embedding",
    "embeddings.position_embedding": "positional_embedding",
    "final_layer_norm": "ln_final",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
VAE_RESNET = {"conv_shortcut": "nin_shortcut"}
VAE_ATTENTION = {
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


def header(path: Path) -> tuple[list[str], dict[str, str]]:
    """Names of the tensors and metadata of a safetensors file, without reading the tensors. Raises
    BaseModelError.
    """
    with TensorFile(path) as file:
        return list(file.entries), file.metadata


def vae_name(name: str, blocks: int) -> str:
    """The original name of a VAE tensor; `blocks` is the number of resolutions (decoder blocks
    count backwards).
    """
    if not name.startswith(("encoder.", "decoder.")):
        return name
    side, rest = name.split(".", 1)
    match = re.match(
        r"(down_blocks|up_blocks)\.(\d+)\.(resnets|downsamplers|upsamplers)\.(\d+)\.(.+)", rest
    )
    if match:
        direction = match[1].split("_")[0]
        number = int(match[2]) if direction == "down" else blocks - 1 - int(match[2])
        if match[3] != "resnets":
            return (
                f"{side}.{direction}.{number}.{match[3][:-2].removesuffix('r')}.{match[5]}".replace(
                    "downsample.", "downsample."
                )
            )
        head, _, tail = match[5].partition(".")
        return f"{side}.{direction}.{number}.block.{match[4]}.{VAE_RESNET.get(head, head)}.{tail}"
    match = re.match(r"mid_block\.(resnets|attentions)\.(\d+)\.(.+)\.(weight|bias)", rest)
    if match:
        if match[1] == "attentions":
            return f"{side}.mid.attn_1.{VAE_ATTENTION[match[3]]}.{match[4]}"
        return (
            f"{side}.mid.block_{int(match[2]) + 1}.{VAE_RESNET.get(match[3], match[3])}.{match[4]}"
        )
    return f"{side}.{rest.replace('conv_norm_out', 'norm_out')}"


def open_clip_name(name: str) -> str:
    """The original (OpenCLIP) name of a tensor of the second text encoder, without
    `text_model.`.
    """
    name = name.replace("encoder.layers", "transformer.resblocks")
    for ours, theirs in OPEN_CLIP.items():
        name = name.replace(ours, theirs)
    if name in ("positional_embedding.weight", "text_projection.weight"):
        return name.removesuffix(".weight")
    return re.sub(r"self_attn\.[qkv]_proj\.(weight|bias)", r"attn.in_proj_\1", name)


@dataclass(frozen=True)
class Spot:
    """Where a checkpoint keeps a tensor: under the first of `names` that it has; of its rows the
    `third` (0 to 2), if it is one of three in one; turned round, if `transposed`.
    """

    names: tuple[str, ...]
    third: int | None = None
    transposed: bool = False


def spot(part: str, name: str, blocks: int) -> Spot:
    """Where the original layout keeps the tensor `name` (as transformers with `text_model.` or
    diffusers call it) of a part of the model.
    """
    if part == "unet":
        return Spot((UNET + unet_to_sgm(name),))
    if part == "vae":
        return Spot((VAE + vae_name(name, blocks),))
    if part == "te1":
        return Spot((TE1 + name,))
    name = name.removeprefix("text_model.")
    which = re.search(r"self_attn\.([qkv])_proj", name)
    third = "qkv".index(which[1]) if which else None
    return Spot((TE2 + open_clip_name(name),), third, name == "text_projection.weight")


def to_single_file(
    states: Mapping[str, Mapping[str, torch.Tensor]], blocks: int
) -> dict[str, torch.Tensor]:
    """All parts' tensors under their names in the original layout; the other way round of
    `spot`.
    """
    tensors = {UNET + unet_to_sgm(name): tensor for name, tensor in states["unet"].items()}
    tensors |= {
        VAE + vae_name(name, blocks): tensor[:, :, None, None] if is_conv(name) else tensor
        for name, tensor in states["vae"].items()
    }
    tensors |= {TE1 + name: tensor for name, tensor in states["te1"].items()}
    fused: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in states["te2"].items():
        name = name.removeprefix("text_model.")
        which = re.search(r"self_attn\.([qkv])_proj", name)
        if which:
            fused.setdefault(TE2 + open_clip_name(name), {})[which[1]] = tensor
        else:
            tensors[TE2 + open_clip_name(name)] = (
                tensor.T if name == "text_projection.weight" else tensor
            )
    tensors |= {name: torch.cat([parts[k] for k in "qkv"]) for name, parts in fused.items()}
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def is_conv(name: str) -> bool:
    """Whether a VAE tensor is a matrix in diffusers and a 1x1 convolution in the original layout:
    those of its attention are.
    """
    return bool(re.search(r"\.attentions\.\d+\.to_\w+(\.0)?\.weight$", name))


def configs_of(
    path: Path | str, keys: Collection[str], metadata: Mapping[str, str]
) -> dict[str, Any]:
    """The configurations of the parts: those stored in the file, or full-size SDXL's. Raises
    BaseModelError for what is not an SDXL checkpoint that can be trained.
    """
    kind = other_kind(keys)
    if kind:
        raise BaseModelError(
            f"{path} is not an SDXL checkpoint that lorakit trains: it {kind}. Choose an SDXL base "
            "(Illustrious, Pony, NoobAI, Animagine ...)."
        )
    return json.loads(metadata[CONFIG_KEY]) if CONFIG_KEY in metadata else sdxl_configs()


def other_kind(keys: Collection[str]) -> str:
    """What a file with these tensors is, as the rest of a sentence; '' if it is an SDXL
    checkpoint.
    """
    first, unet = UNET + "input_blocks.0.0.weight", UNET + "label_emb.0.0.weight"
    if any(key.startswith("cond_stage_model.") for key in keys):
        return "looks like Stable Diffusion 1 or 2"
    if any(key.startswith("edm_") for key in keys):
        return "is of the EDM kind (CosXL, Playground), which has another noise schedule"
    if any(".lora_" in key or key.startswith(("lora_", "lycoris_")) for key in keys):
        return "looks like a LoRA file"
    if any("double_blocks." in key or "joint_blocks." in key for key in keys):
        return "looks like Flux or Stable Diffusion 3"
    if first in keys and "conditioner.embedders.0.model.ln_final.weight" in keys:
        return "looks like the SDXL refiner"
    if unet in keys and TE2 + "token_embedding.weight" not in keys:
        return "lacks the text encoders"
    return "" if unet in keys else "holds other things"


def vae_of(path: Path | str, keys: Collection[str], metadata: Mapping[str, str]) -> str:
    """How a file names the tensors of a VAE: 'diffusers', 'original', or 'checkpoint' for an
    original one inside a whole checkpoint. Raises BaseModelError if it holds none.
    """
    if VAE + "encoder.conv_in.weight" in keys:
        return "checkpoint"
    if "encoder.conv_in.weight" in keys and "decoder.conv_in.weight" in keys:
        mid = "encoder.mid_block.resnets.0.norm1.weight"
        return "diffusers" if mid in keys else "original"
    raise BaseModelError(
        f"{path} holds no VAE for SDXL. Choose another one, or leave vae empty for the base "
        "model's own."
    )


def sdxl_configs() -> dict[str, Any]:
    """Full-size SDXL's own configurations of unet, vae, te1, te2 and scheduler."""
    return json.loads((Path(__file__).parent / "configs" / "sdxl.json").read_text(encoding="utf-8"))
