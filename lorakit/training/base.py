"""Loading the base model: the SDXL checkpoint trained on, from a diffusers folder or an original
single file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from ..progress import Progress, silent
from . import detect, objective, parts, sources
from .checkpoint import FOLDERS, Checkpoint, open_checkpoint, open_vae
from .compact import Compact
from .config import BaseSettings
from .device import keep_no_reserve
from .sources import DEMO

ENCODERS = ("te1", "te2")


@dataclass(frozen=True)
class Store:
    """Where the parts of a base model are read from, and what they become: the VAE from `vae`, if
    there is one, else all from `path`.
    """

    path: Path
    vae: Path | None
    dtype: torch.dtype
    vae_dtype: torch.dtype
    device: str

    @contextmanager
    def open(self, *names: str) -> Iterator[dict[str, Checkpoint]]:
        """The checkpoint of each of these parts. Raises BaseModelError."""
        with ExitStack() as stack:
            whole = stack.enter_context(open_checkpoint(self.path))
            found = dict.fromkeys(names, whole)
            if self.vae and "vae" in names:
                config = whole.configs["vae"]
                found["vae"] = stack.enter_context(open_vae(self.vae, config))
            yield found

    def fill(
        self, part: str, model: torch.nn.Module, checkpoint: Checkpoint, progress: Progress
    ) -> None:
        """Reads a part's weights. Raises BaseModelError."""
        if any(isinstance(layer, Compact) for layer in model.modules()):
            keep_no_reserve(self.device)
        dtype = self.vae_dtype if part == "vae" else self.dtype
        parts.fill(model, part, checkpoint, dtype, self.device, progress)


@dataclass
class Base:
    """An SDXL model. `encoders` and `tokenizers` are CLIP-L's and bigG's, in this order; `notes`
    are sentences for the user about what was found in it and what was chosen.

    With a `store` its parts can be put down when they are not needed, and read again.
    """

    name: str
    path: Path
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    encoders: tuple[CLIPTextModel, CLIPTextModelWithProjection]
    tokenizers: tuple[CLIPTokenizer, CLIPTokenizer]
    scheduler: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    store: Store | None = None

    @property
    def parts(self) -> dict[str, torch.nn.Module]:
        """What an adapter can be put on, by the part's short name."""
        return {"unet": self.unet, "te1": self.encoders[0], "te2": self.encoders[1]}

    @property
    def prediction(self) -> str:
        """'epsilon' or 'v_prediction'."""
        return str(self.scheduler.get("prediction_type", "epsilon"))

    @property
    def dtype(self) -> torch.dtype:
        """The number format of the U-Net and the encoders. (diffusers' own `dtype` looks at every
        weight.)
        """
        return self.store.dtype if self.store else self.unet.dtype

    def fetch(self, *names: str, progress: Progress = silent) -> list[str]:
        """Reads the weights of those parts (unet, vae, te1, te2) that are not in memory; returns
        which these were. Raises BaseModelError.
        """
        modules = {**self.parts, "vae": self.vae}
        missing = [name for name in names if parts.is_empty(modules[name])]
        if missing and self.store:
            with self.store.open(*missing) as checkpoints:
                for name in missing:
                    self.store.fill(name, modules[name], checkpoints[name], progress)
        return missing

    def release(self, *names: str) -> None:
        """Gives back the memory of these parts, which must not be trained; `fetch` reads them
        again. A base that was not read from files keeps them.
        """
        if self.store:
            modules = {**self.parts, "vae": self.vae}
            for name in names:
                parts.release(modules[name])

    @contextmanager
    def present(self, *names: str, progress: Progress = silent) -> Iterator[None]:
        """These parts are in memory while the context lasts; those that were not before are given
        back.
        """
        fetched = self.fetch(*names, progress=progress)
        try:
            yield
        finally:
            self.release(*fetched)


def load_base(source: str, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Base:
    """The whole base model that `source` names, as every other setting's default has it. Raises
    BaseModelError.
    """
    base = open_base(BaseSettings(base_model=source), dtype, device)
    base.fetch(*FOLDERS)
    return base


def open_base(
    settings: BaseSettings,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    progress: Progress = silent,
) -> Base:
    """The base model of the settings, downloaded if it is not here and checked, but without its
    weights: `fetch` reads them, frozen, in `dtype` to `device`. Raises BaseModelError.

    The VAE is always in float32, unless the settings name the one that was mended for float16.
    Tensors go one by one from the file to their place: the checkpoint is never in memory twice.
    """
    path = sources.resolve(settings.base_model, settings.models_folder, progress)
    vae_path = None
    if settings.vae:
        vae_path = sources.resolve_vae(settings.vae, settings.models_folder, progress)
    listed = sources.listed(settings.base_model)
    kind = vae_dtype(settings.vae, dtype, device)
    store, modules = Store(path, vae_path, dtype, kind, device), {}
    with store.open(*FOLDERS) as checkpoints:
        scheduler, notes = detect.scheduler_of(checkpoints["unet"], settings, listed)
        objective.kept_signal(scheduler)  # refuses what it cannot train on
        for name, checkpoint in checkpoints.items():
            modules[name] = parts.empty(name, checkpoint.configs[name], settings.storage)
            parts.check(modules[name], name, checkpoint)
    whose = f"{settings.vae} in place of the base model's own" if vae_path else "its own"
    notes.append(f"VAE: {whose}, in {'fp32' if kind == torch.float32 else 'fp16'}.")
    if listed and listed.name != "demo":
        notes.append(f"Licence of {listed.name}: {listed.licence}.")
    return Base(
        settings.base_model,
        path,
        modules["unet"],
        modules["vae"],
        (modules["te1"], modules["te2"]),
        tokenizers(path),
        scheduler,
        notes,
        store,
    )


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
