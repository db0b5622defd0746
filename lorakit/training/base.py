"""Loading the base model: the SDXL checkpoint trained on, from a diffusers folder or an original
single file.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from ..errors import BaseModelError
from ..files import write_safely
from . import single_file

log = logging.getLogger(__name__)

DEMO = Path(__file__).parents[1] / "demo" / "assets" / "base"
FOLDERS = {"unet": "unet", "vae": "vae", "te1": "text_encoder", "te2": "text_encoder_2"}


@dataclass
class Base:
    """An SDXL model in memory. `encoders` and `tokenizers` are CLIP-L's and bigG's, in this
    order.
    """

    name: str
    path: Path
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    encoders: tuple[CLIPTextModel, CLIPTextModelWithProjection]
    tokenizers: tuple[CLIPTokenizer, CLIPTokenizer]
    scheduler: dict[str, Any]

    @property
    def parts(self) -> dict[str, torch.nn.Module]:
        """What an adapter can be put on, by the part's short name."""
        return {"unet": self.unet, "te1": self.encoders[0], "te2": self.encoders[1]}

    @property
    def prediction(self) -> str:
        """'epsilon' or 'v_prediction'."""
        return str(self.scheduler.get("prediction_type", "epsilon"))


def locate(source: str) -> Path:
    """The folder or file that `base_model` names. Raises BaseModelError."""
    path = DEMO if source == "demo" else Path(source).expanduser()
    if source == "demo" and not path.exists():
        raise BaseModelError(
            f"The embedded base model is missing ({path}). Install lorakit again, or make it: "
            "python -m lorakit demo build"
        )
    if not path.exists():
        raise BaseModelError(
            f"There is no base model at {path}. Give a diffusers folder, a .safetensors file, or "
            "'demo' as base_model."
        )
    if path.is_dir() and not (path / "unet").is_dir():
        raise BaseModelError(
            f"{path} is not a diffusers folder (it has no 'unet' inside). Give the folder that "
            "model_index.json lies in."
        )
    return path


def load_base(source: str, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Base:
    """The base model with frozen weights in `dtype` on `device`; the VAE always in float32. Raises
    BaseModelError.

    Tensors go straight from the file to their place: the whole checkpoint is never in memory twice.
    """
    path = locate(source)
    with open_checkpoint(path) as (configs, read):
        parts = {
            part: build(
                part, configs[part], read, dtype if part != "vae" else torch.float32, device
            )
            for part in FOLDERS
        }
    # Every SDXL has CLIP's vocabulary: a file, or a folder without it, borrows the embedded one.
    folders = [path / n if (path / n).is_dir() else DEMO / n for n in ("tokenizer", "tokenizer_2")]
    tokenizers = tuple(CLIPTokenizer.from_pretrained(str(f)) for f in folders)
    return Base(
        source,
        path,
        parts["unet"],
        parts["vae"],
        (parts["te1"], parts["te2"]),
        tokenizers,
        configs["scheduler"],
    )


Reader = Callable[[str, str], torch.Tensor]


@contextmanager
def open_checkpoint(path: Path) -> Iterator[tuple[dict[str, Any], Reader]]:
    """Configurations of the parts, and a function that reads a tensor by part and name. Raises
    BaseModelError.
    """
    with ExitStack() as stack:
        if path.is_dir():
            configs = {
                part: _json(path / folder / "config.json") for part, folder in FOLDERS.items()
            }
            configs["scheduler"] = _json(path / "scheduler" / "scheduler_config.json")
            files = {
                part: _tensors(stack, _weights(path / folder)) for part, folder in FOLDERS.items()
            }
            yield (
                configs,
                lambda part, name: _first(
                    files[part],
                    (name, name.removeprefix("text_model."), f"text_model.{name}"),
                    path,
                ),
            )
        else:
            keys, metadata = single_file.header(path)
            configs = single_file.configs_of(path, keys, metadata)
            tensors = _tensors(stack, [path])
            blocks = len(configs["vae"]["block_out_channels"])
            yield (
                configs,
                lambda part, name: single_file.read_tensor(
                    part, name, lambda key: _first(tensors, (key,), path), blocks
                ),
            )


def _json(path: Path) -> dict[str, Any]:
    try:
        return {k: v for k, v in json.loads(path.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError) as error:
        raise BaseModelError(
            f"{path} cannot be read ({error}). The base model is incomplete: download it again."
        ) from error


def _weights(folder: Path) -> list[Path]:
    """The safetensors files of a part; a half-precision variant only if there is nothing else."""
    files = sorted(folder.glob("*.safetensors"))
    plain = [f for f in files if ".fp16." not in f.name and ".non_ema." not in f.name]
    if not files:
        raise BaseModelError(
            f"{folder} holds no .safetensors file. lorakit does not open pickles (.bin): get the "
            "safetensors version."
        )
    return plain or files


def _tensors(stack: ExitStack, files: list[Path]) -> dict[str, Callable[[], torch.Tensor]]:
    """A function for each tensor of the files, which reads just that one."""
    found: dict[str, Callable[[], torch.Tensor]] = {}
    for path in files:
        try:
            file = stack.enter_context(safe_open(path, framework="pt"))
        except (SafetensorError, OSError) as error:
            raise BaseModelError(
                f"{path} is not a safetensors file ({error}). Download the base model again."
            ) from error
        found |= {key: (lambda file=file, key=key: file.get_tensor(key)) for key in file.keys()}
    return found


def _first(
    tensors: dict[str, Callable[[], torch.Tensor]], names: tuple[str, ...], path: Path
) -> torch.Tensor:
    for name in names:
        if name in tensors:
            return tensors[name]()
    raise BaseModelError(
        f"{path} lacks the tensor '{names[0]}'. The file is damaged or not SDXL: download it again."
    )


def build(
    part: str, config: dict[str, Any], read: Reader | None, dtype: torch.dtype, device: str
) -> torch.nn.Module:
    """One part of the model, frozen; without `read` its weights stay on the meta device (shapes
    only).
    """
    with torch.device("meta"):
        model = _empty(part, config)
    model.requires_grad_(False).eval()
    if read is None:
        return model
    state = {
        name: read(part, canonical(part, name)).to(device=device, dtype=dtype)
        for name in model.state_dict()
    }
    try:
        model.load_state_dict(state, assign=True)
    except RuntimeError as error:
        raise BaseModelError(
            f"The base model's {part} does not fit its configuration: {error}"
        ) from error
    for module in model.modules():  # the only buffers that no file holds
        if getattr(module, "position_ids", None) is not None:
            module.position_ids = torch.arange(module.position_ids.shape[-1], device=device)[None]
    return model.requires_grad_(False)


def _empty(part: str, config: dict[str, Any]) -> torch.nn.Module:
    if part == "unet":
        return UNet2DConditionModel.from_config(config)
    if part == "vae":
        return AutoencoderKL.from_config(config)
    kind = CLIPTextModel if part == "te1" else CLIPTextModelWithProjection
    return kind(
        CLIPTextConfig(
            **{
                k: v
                for k, v in config.items()
                if k
                not in (
                    "architectures",
                    "model_type",
                    "dtype",
                    "torch_dtype",
                    "transformers_version",
                )
            }
        )
    )


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
    """Writes a diffusers folder as one file in the original SDXL layout, with its configuration in
    the metadata.
    """
    with open_checkpoint(locate(source)) as (configs, read):
        states = {part: _state(part, configs[part], read) for part in FOLDERS}
    tensors = single_file.to_single_file(states, len(configs["vae"]["block_out_channels"]))
    metadata = {
        "format": "pt",
        "modelspec.architecture": "stable-diffusion-xl-v1-base",
        single_file.CONFIG_KEY: json.dumps(configs),
    }
    return write_safely(path, lambda temporary: save_file(tensors, temporary, metadata=metadata))


def _state(part: str, config: dict[str, Any], read: Reader) -> dict[str, torch.Tensor]:
    names = [
        canonical(part, name)
        for name in build(part, config, None, torch.float32, "cpu").state_dict()
    ]
    return {name: read(part, name) for name in names}
