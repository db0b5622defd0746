"""Loading the base model: the SDXL checkpoint trained on, from a diffusers folder or an original
single file.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from ..errors import BaseModelError
from ..files import write_safely
from ..progress import Progress, silent
from . import detect, single_file, sources
from .checkpoint import FOLDERS, Checkpoint, open_checkpoint, open_vae
from .config import BaseSettings
from .sources import DEMO

NOT_FOR_CLIP = ("architectures", "model_type", "dtype", "torch_dtype", "transformers_version")


@dataclass
class Base:
    """An SDXL model in memory. `encoders` and `tokenizers` are CLIP-L's and bigG's, in this order;
    `notes` are sentences for the user about what was found in it and what was chosen.
    """

    name: str
    path: Path
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    encoders: tuple[CLIPTextModel, CLIPTextModelWithProjection]
    tokenizers: tuple[CLIPTokenizer, CLIPTokenizer]
    scheduler: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    @property
    def parts(self) -> dict[str, torch.nn.Module]:
        """What an adapter can be put on, by the part's short name."""
        return {"unet": self.unet, "te1": self.encoders[0], "te2": self.encoders[1]}

    @property
    def prediction(self) -> str:
        """'epsilon' or 'v_prediction'."""
        return str(self.scheduler.get("prediction_type", "epsilon"))


def load_base(source: str, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Base:
    """The base model that `source` names, as every other setting's default has it. Raises
    BaseModelError.
    """
    return open_base(BaseSettings(base_model=source), dtype, device)


def open_base(
    settings: BaseSettings,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    progress: Progress = silent,
) -> Base:
    """The base model of the settings, downloaded if it is not here, with frozen weights in `dtype`
    on `device`. Raises BaseModelError.

    The VAE is always in float32, unless the settings name the one that was mended for float16.
    Tensors go one by one from the file to their place: the checkpoint is never in memory twice.
    """
    path = sources.resolve(settings.base_model, settings.models_folder, progress)
    vae_path = None
    if settings.vae:
        vae_path = sources.resolve_vae(settings.vae, settings.models_folder, progress)
    listed = sources.listed(settings.base_model)
    kind, parts = vae_dtype(settings.vae, dtype, device), {}
    with open_checkpoint(path) as checkpoint:
        scheduler, notes = detect.scheduler_of(checkpoint, settings, listed)
        for done, part in enumerate(FOLDERS):
            progress("Loading the base model", done, len(FOLDERS))
            if part == "vae":
                parts[part] = _vae(vae_path, checkpoint, kind, device)
            else:
                parts[part] = build(part, checkpoint.configs[part], checkpoint, dtype, device)
    progress("Loading the base model", len(FOLDERS), len(FOLDERS))
    whose = f"{settings.vae} in place of the base model's own" if vae_path else "its own"
    notes.append(f"VAE: {whose}, in {'fp32' if kind == torch.float32 else 'fp16'}.")
    if listed and listed.name != "demo":
        notes.append(f"Licence of {listed.name}: {listed.licence}.")
    return Base(
        settings.base_model,
        path,
        parts["unet"],
        parts["vae"],
        (parts["te1"], parts["te2"]),
        tokenizers(path),
        scheduler,
        notes,
    )


def _vae(
    path: Path | None, checkpoint: Checkpoint, dtype: torch.dtype, device: str
) -> torch.nn.Module:
    """The VAE at `path`, or the checkpoint's own."""
    own = checkpoint.configs["vae"]
    if path is None:
        return build("vae", own, checkpoint, dtype, device)
    with open_vae(path, own) as other:
        return build("vae", other.configs["vae"], other, dtype, device)


def vae_dtype(choice: str, dtype: torch.dtype, device: str) -> torch.dtype:
    """The number format of the VAE: SDXL's own overflows in float16, so float32, but on a GPU with
    a half-precision base float16 for the VAE that was mended for it (called fp16-fix everywhere).
    """
    mended = re.search(r"fp16[-_. ]?fix", choice, re.I)
    half = mended and dtype != torch.float32 and torch.device(device).type != "cpu"
    return torch.float16 if half else torch.float32


def tokenizers(path: Path) -> tuple[CLIPTokenizer, CLIPTokenizer]:
    """Both tokenizers. Every SDXL has CLIP's vocabulary: a file, or a folder without it, borrows
    the embedded base's.
    """
    first, second = (
        CLIPTokenizer.from_pretrained(str(path / n if (path / n).is_dir() else DEMO / n))
        for n in ("tokenizer", "tokenizer_2")
    )
    return first, second


def build(
    part: str,
    config: dict[str, Any],
    checkpoint: Checkpoint | None,
    dtype: torch.dtype,
    device: str,
) -> torch.nn.Module:
    """One part of the model, frozen; without `checkpoint` its weights stay on the meta device
    (shapes only). Raises BaseModelError.
    """
    with torch.device("meta"):
        model = _empty(part, config)
    model.requires_grad_(False).eval()
    if checkpoint is None:
        return model
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    places = {name: checkpoint.position(part, canonical(part, name)) for name in shapes}
    state = {
        name: _shaped(checkpoint.read(part, canonical(part, name), dtype, device), shapes[name])
        for name in sorted(places, key=lambda name: places[name])
    }
    try:
        model.load_state_dict(state, assign=True)
    except RuntimeError as error:
        first = str(error).partition("\n\t")[2].partition("\n")[0] or str(error)
        raise BaseModelError(
            f"{checkpoint.path} is of another shape than SDXL ({part}: {first}). Choose an SDXL "
            "checkpoint."
        ) from error
    for module in model.modules():  # the only buffers that no file holds
        if getattr(module, "position_ids", None) is not None:
            module.position_ids = torch.arange(module.position_ids.shape[-1], device=device)[None]
    return model.requires_grad_(False)


def _shaped(tensor: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """A matrix where the file has a 1x1 convolution, and the other way round: they are the same
    numbers, and checkpoints differ in which they keep.
    """
    plain, wanted = tensor.shape[:2], shape[:2]
    ones = (*tensor.shape[2:], *shape[2:])
    if tensor.shape != shape and plain == wanted and all(side == 1 for side in ones):
        return tensor.reshape(shape)
    return tensor


def _empty(part: str, config: dict[str, Any]) -> torch.nn.Module:
    if part == "unet":
        return UNet2DConditionModel.from_config(config)
    if part == "vae":
        return AutoencoderKL.from_config(config)
    kind = CLIPTextModel if part == "te1" else CLIPTextModelWithProjection
    return kind(CLIPTextConfig(**{k: v for k, v in config.items() if k not in NOT_FOR_CLIP}))


def canonical(part: str, name: str) -> str:
    """A parameter's name with the `text_model.` level that transformers 5.6 dropped from the first
    encoder.
    """
    if part in ("te1", "te2") and not name.startswith(("text_model.", "text_projection.")):
        return f"text_model.{name}"
    return name


def save_folder(base: Base, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Writes the base as a diffusers folder that every transformers release reads; tokenizers must
    be there.
    """
    classes = {
        "unet": UNet2DConditionModel,
        "vae": AutoencoderKL,
        "te1": CLIPTextModel,
        "te2": CLIPTextModelWithProjection,
    }
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
            json.dumps(_plain_config(modules[part], classes[part].__name__), indent=1) + "\n",
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
    empty = build(part, checkpoint.configs[part], None, torch.float32, "cpu")
    names = [canonical(part, name) for name in empty.state_dict()]
    return {name: checkpoint.read(part, name) for name in names}
