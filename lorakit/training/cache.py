"""Latents of every picture, made once: the posterior's mean and deviation, kept in one packed file.

Each is keyed by the picture's content, its placement and the VAE, so a stale one is never used. At
every step a fresh sample is drawn from the posterior.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..dataset import Picture, open_image
from ..errors import DatasetError
from ..files import write_safely
from ..progress import Progress, silent
from .plan import Placement

VERSION = "1"


def folder() -> Path:
    """Where caches live: on the local disk, never on Drive."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "lorakit"


def pixels(path: Path, placement: Placement) -> torch.Tensor:
    """The picture as its bucket shows it: (3, height, width) float32 in -1..1."""
    image = open_image(path).resize(placement.resized, Image.Resampling.LANCZOS)
    width, height = placement.bucket
    image = image.crop(
        (placement.left, placement.top, placement.left + width, placement.top + height)
    )
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div_(127.5).sub_(1)


def key(content: bytes, placement: Placement, vae_id: str) -> str:
    """The name of a picture's latents in the cache."""
    place = f"{placement.resized}{placement.left},{placement.top}{placement.bucket}"
    return hashlib.sha256(content + place.encode() + vae_id.encode() + VERSION.encode()).hexdigest()


def vae_identity(vae: AutoencoderKL) -> str:
    """Tells VAEs apart by their first and last encoder weights."""
    ends = (vae.encoder.conv_in.weight, vae.encoder.conv_out.weight, vae.quant_conv.weight)
    return hashlib.sha256(
        b"".join(w.detach().float().cpu().numpy().tobytes() for w in ends)
    ).hexdigest()


def latents(
    pictures: Sequence[Picture],
    placements: Sequence[Placement],
    vae: AutoencoderKL,
    store: Path,
    progress: Progress = silent,
    batch: int = 4,
) -> list[torch.Tensor]:
    """For each picture a tensor (2, 4, height / 8, width / 8): mean and deviation, unscaled,
    float16.

    What `store` holds already is not made again. Raises DatasetError naming a picture whose latents
    are not finite.
    """
    vae_id = vae_identity(vae)
    keys = [
        key(p.path.read_bytes(), placement, vae_id)
        for p, placement in zip(pictures, placements, strict=True)
    ]
    known = _read(store, set(keys))
    by_bucket: dict[tuple[int, int], list[int]] = {}
    for i, placement in enumerate(placements):
        if keys[i] not in known:
            by_bucket.setdefault(placement.bucket, []).append(i)
    missing, done = sum(map(len, by_bucket.values())), 0
    for indices in by_bucket.values():
        for start in range(0, len(indices), batch):
            rows = indices[start : start + batch]
            made = _encode(
                vae, torch.stack([pixels(pictures[i].path, placements[i]) for i in rows])
            )
            for i, latent in zip(rows, made, strict=True):
                if not torch.isfinite(latent).all():
                    raise DatasetError(
                        f"{pictures[i].path} gives latents that are not numbers with this VAE. "
                        "Remove the picture, or use a VAE in fp32."
                    )
                known[keys[i]] = latent
            done += len(rows)
            progress("Encoding pictures", done, missing)
    if missing:
        write_safely(
            store, lambda path: save_file({k: known[k] for k in dict.fromkeys(keys)}, path)
        )
    return [known[k] for k in keys]


@torch.no_grad()
def _encode(vae: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    posterior = vae.encode(images.to(vae.device, vae.dtype)).latent_dist
    return torch.stack([posterior.mean, posterior.std], dim=1).to("cpu", torch.float16)


def _read(store: Path, wanted: set[str]) -> dict[str, torch.Tensor]:
    """The wanted latents that the file has; a damaged file counts as empty, its content can be made
    again.
    """
    if not store.exists():
        return {}
    try:
        with safe_open(store, framework="pt") as file:
            return {k: file.get_tensor(k) for k in file.keys() if k in wanted}
    except SafetensorError:
        return {}


def sample(latent: torch.Tensor, scaling: float, generator: torch.Generator) -> torch.Tensor:
    """A fresh draw from the posterior, scaled for the U-Net: (4, height / 8, width / 8) float32."""
    mean, deviation = latent.float()
    return (mean + deviation * torch.randn(mean.shape, generator=generator)) * scaling
