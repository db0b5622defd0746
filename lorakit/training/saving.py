"""Writing a base model: as a diffusers folder, or as one file in the original SDXL layout."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ..files import write_safely
from . import detect, single_file, sources
from .base import Base
from .checkpoint import FOLDERS, Checkpoint, open_checkpoint
from .parts import canonical, empty


def save_folder(base: Base, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Writes the base as a diffusers folder that every transformers release reads; tokenizers must
    be there.
    """
    modules = {**base.parts, "vae": base.vae}
    for part, name in FOLDERS.items():
        target = folder / name
        target.mkdir(parents=True, exist_ok=True)
        state = {
            canonical(part, k): v.detach().to(dtype).contiguous()
            for k, v in modules[part].state_dict().items()
        }
        weights = (
            "model.safetensors" if part.startswith("te") else "diffusion_pytorch_model.safetensors"
        )
        write_safely(target / weights, partial(save_file, state, metadata={"format": "pt"}))
        (target / "config.json").write_text(
            json.dumps(_plain_config(modules[part], type(modules[part]).__name__), indent=1) + "\n",
            "utf-8",
        )
    (folder / "scheduler").mkdir(exist_ok=True)
    scheduler = {"_class_name": "EulerDiscreteScheduler", **base.scheduler}
    (folder / "scheduler" / "scheduler_config.json").write_text(
        json.dumps(scheduler, indent=1) + "\n", "utf-8"
    )
    index: dict[str, Any] = {
        "_class_name": "StableDiffusionXLPipeline",
        "_diffusers_version": "0.34.0",
        "force_zeros_for_empty_prompt": False,
    }
    index |= {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    }
    index |= {
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    }
    index |= {
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=1) + "\n", "utf-8")


def _plain_config(module: Any, name: str) -> dict[str, Any]:
    """What is needed to build the module again, without what only this release knows."""
    if hasattr(module.config, "to_dict"):
        keep = [
            *(
                "vocab_size",
                "hidden_size",
                "intermediate_size",
                "projection_dim",
                "num_hidden_layers",
            ),
            *("num_attention_heads", "max_position_embeddings", "hidden_act"),
            *("bos_token_id", "eos_token_id", "pad_token_id"),
        ]
        values = {k: getattr(module.config, k) for k in keep}
        return {"architectures": [name], "model_type": "clip_text_model", **values}
    return {
        "_class_name": name,
        **{k: v for k, v in module.config.items() if not k.startswith("_") and v is not None},
    }


def save_single_file(source: str, path: Path) -> Path:
    """Writes a base model as one file in the original SDXL layout, with its configuration in the
    metadata and the marker tensors of v-prediction and zero-terminal SNR, where it has them.
    """
    with open_checkpoint(sources.resolve(source)) as checkpoint:
        configs = checkpoint.configs
        states = {part: _state(part, checkpoint) for part in FOLDERS}
        marked = detect.markers(checkpoint)
    tensors = single_file.to_single_file(states, len(configs["vae"]["block_out_channels"]))
    tensors |= {name: torch.zeros(0) for name in marked}
    metadata = {
        "format": "pt",
        "modelspec.architecture": "stable-diffusion-xl-v1-base",
        single_file.CONFIG_KEY: json.dumps(configs),
    }
    return write_safely(path, lambda temporary: save_file(tensors, temporary, metadata=metadata))


def _state(part: str, checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    shapes = empty(part, checkpoint.configs[part]).state_dict()
    names = [canonical(part, name) for name in shapes]
    return {name: checkpoint.read(part, name) for name in names}
