"""A checkpoint on disk: its parts' configurations, and their tensors by part and name, whether it
is a diffusers folder, one file in the original SDXL layout, or a VAE of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from ..errors import BaseModelError
from . import single_file
from .single_file import Spot
from .tensorfile import TensorFile

FOLDERS = {"unet": "unet", "vae": "vae", "te1": "text_encoder", "te2": "text_encoder_2"}
# what older releases of diffusers called the parts of the VAE's attention; many files still do
OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
VARIANT = re.compile(r"\.(fp16|bf16|non_ema|ema)[.-]")


class Checkpoint:
    """Open files. `configs` are those of the parts (and the scheduler), `configured` says whether
    they came with the files; `spot` says where a tensor lies.
    """

    def __init__(
        self,
        path: Path,
        configs: dict[str, Any],
        files: Mapping[str, list[TensorFile]],
        spot: Callable[[str, str], Spot],
        configured: bool = True,
    ) -> None:
        self.path, self.configs, self.configured = path, configs, configured
        self._files, self._spot = files, spot

    @property
    def keys(self) -> set[str]:
        """Names of all tensors, as the files have them."""
        return {name for files in self._files.values() for file in files for name in file.entries}

    @property
    def metadata(self) -> dict[str, str]:
        """What the files say of themselves."""
        found: dict[str, str] = {}
        for files in self._files.values():
            for file in files:
                found |= file.metadata
        return found

    def position(self, part: str, name: str) -> int:
        """Where in its file a tensor lies: reading in this order is quickest. Raises
        BaseModelError.
        """
        file, found, _ = self._find(part, name)
        return file.entries[found].start

    def shape(self, part: str, name: str) -> tuple[int, ...]:
        """The shape that `read` would give a tensor; reads nothing. Raises BaseModelError."""
        file, found, spot = self._find(part, name)
        shape = file.entries[found].shape
        if spot.third is not None:
            shape = (shape[0] // 3, *shape[1:])
        return shape[::-1] if spot.transposed else shape

    def read(
        self, part: str, name: str, dtype: torch.dtype | None = None, device: str = "cpu"
    ) -> torch.Tensor:
        """The tensor that a part of the model calls `name` (the encoders with `text_model.`), in
        `dtype` (None: as stored) on `device`. Raises BaseModelError.
        """
        file, found, spot = self._find(part, name)
        tensor = file.read(found, dtype, device, spot.third)
        return tensor.T.contiguous() if spot.transposed else tensor

    def _find(self, part: str, name: str) -> tuple[TensorFile, str, Spot]:
        spot = self._spot(part, name)
        for file in self._files[part]:
            for found in spot.names:
                if found in file.entries:
                    return file, found, spot
        raise BaseModelError(
            f"{self.path} lacks the tensor '{spot.names[0]}'. The file is damaged or not SDXL: "
            "download it again."
        )


@contextmanager
def open_checkpoint(path: Path) -> Iterator[Checkpoint]:
    """A base model: a diffusers folder or a file in the original layout. Raises BaseModelError."""
    with ExitStack() as stack:
        yield _folder(path, stack) if path.is_dir() else _file(path, stack)


@contextmanager
def open_vae(path: Path, config: dict[str, Any]) -> Iterator[Checkpoint]:
    """A VAE alone: a diffusers folder (or the folder of a whole model), or a file with one in it.
    `config` is the base model's own VAE's, which a file is held to. Raises BaseModelError.
    """
    with ExitStack() as stack:
        if path.is_dir():
            yield _vae_folder(path, config, stack)
        else:
            yield _vae_file(path, config, stack)


def _folder(path: Path, stack: ExitStack) -> Checkpoint:
    if not (path / FOLDERS["te2"]).is_dir():
        raise BaseModelError(
            f"{path} is not SDXL: it has no second text encoder ({FOLDERS['te2']}). Choose an SDXL "
            "base (Illustrious, Pony, NoobAI, Animagine ...)."
        )
    configs = {part: _json(path / name / "config.json") for part, name in FOLDERS.items()}
    configs["scheduler"] = _json(path / "scheduler" / "scheduler_config.json")
    files = {part: _open(stack, _weights(path / name)) for part, name in FOLDERS.items()}
    return Checkpoint(path, configs, files, _diffusers_spot)


def _file(path: Path, stack: ExitStack) -> Checkpoint:
    (file,) = _open(stack, [path])
    configs = single_file.configs_of(path, file.entries.keys(), file.metadata)
    blocks = len(configs["vae"]["block_out_channels"])
    return Checkpoint(
        path,
        configs,
        dict.fromkeys(FOLDERS, [file]),
        lambda part, name: single_file.spot(part, name, blocks),
        configured=single_file.CONFIG_KEY in file.metadata,
    )


def _vae_folder(path: Path, config: dict[str, Any], stack: ExitStack) -> Checkpoint:
    folder = path if (path / "config.json").is_file() else path / "vae"
    own = _json(folder / "config.json")
    for name in ("latent_channels", "scaling_factor"):
        ours, wanted = own.get(name), config.get(name)
        if ours != wanted:
            raise BaseModelError(
                f"{folder} holds a VAE for another kind of model: its {name} is {ours}, the base "
                f"model's {wanted}. Choose a VAE for SDXL."
            )
    return Checkpoint(
        folder, {"vae": own}, {"vae": _open(stack, _weights(folder))}, _diffusers_spot
    )


def _vae_file(path: Path, config: dict[str, Any], stack: ExitStack) -> Checkpoint:
    (file,) = _open(stack, [path])
    layout = single_file.vae_of(path, file.entries.keys(), file.metadata)
    blocks = len(config["block_out_channels"])

    def spot(part: str, name: str) -> Spot:
        if layout == "diffusers":
            return _diffusers_spot(part, name)
        original = single_file.spot(part, name, blocks).names[0]
        return Spot((original.removeprefix(single_file.VAE) if layout == "original" else original,))

    return Checkpoint(path, {"vae": config}, {"vae": [file]}, spot)


def _diffusers_spot(part: str, name: str) -> Spot:
    """The name itself, or as other releases of diffusers and transformers write it."""
    if part != "vae":
        return Spot((name, name.removeprefix("text_model."), f"text_model.{name}"))
    head, attention, tail = name.partition(".attentions.0.")
    for new, old in OLD_ATTENTION.items():
        if attention and tail.startswith(f"{new}."):
            return Spot((name, f"{head}{attention}{old}{tail[len(new) :]}"))
    return Spot((name,))


def _json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BaseModelError(
            f"{path} cannot be read ({error}). The model is incomplete: download it again."
        ) from error


def _weights(folder: Path) -> list[Path]:
    """The safetensors files of a part; a half-precision variant only if there is nothing else."""
    files = sorted(f for f in folder.glob("*.safetensors") if not f.name.startswith("."))
    plain = [f for f in files if not VARIANT.search(f.name)]
    if not files:
        raise BaseModelError(
            f"{folder} holds no .safetensors file. lorakit does not open pickles (.bin): get the "
            "safetensors version."
        )
    return plain or [f for f in files if ".fp16" in f.name] or files


def _open(stack: ExitStack, files: list[Path]) -> list[TensorFile]:
    return [stack.enter_context(TensorFile(path)) for path in files]
