"""What is made of every picture once, before training: latents, kept in a packed file, and masks.

Latents are the VAE posterior's mean and deviation, keyed by the picture's content, its placement
and the VAE, so a stale one is never used. At every step a fresh sample is drawn from the posterior.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image, ImageOps

from ..ahead import ahead
from ..dataset import Picture
from ..errors import DatasetError
from ..files import caches
from ..images import open_alpha, open_image
from ..progress import Progress, silent, track
from . import packed
from .plan import Placement

VERSION = "2"
folder = caches


def pixels(path: Path, placement: Placement, mirrored: bool = False) -> torch.Tensor:
    """The picture as its bucket shows it: (3, height, width) float32 in -1..1."""
    image = open_image(path).resize(placement.resized, Image.Resampling.LANCZOS)
    width, height = placement.bucket
    image = image.crop(
        (placement.left, placement.top, placement.left + width, placement.top + height)
    )
    image = ImageOps.mirror(image) if mirrored else image
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div_(127.5).sub_(1)


def key(content: bytes, placement: Placement, vae_id: str, mirrored: bool = False) -> str:
    """The name of a picture's latents in the cache; `content` is the digest of its file, so that
    the file's name does not matter.
    """
    place = f"{placement.resized}{placement.left},{placement.top}{placement.bucket}"
    place += "mirrored" * mirrored
    return hashlib.sha256(content + place.encode() + vae_id.encode() + VERSION.encode()).hexdigest()


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def vae_identity(vae: AutoencoderKL) -> str:
    """Tells VAEs apart by all that decides their latents: the encoder's weights and their number
    format.
    """
    digest = hashlib.sha256(str(vae.dtype).encode())
    for name, weight in vae.named_parameters():
        if name.startswith(("encoder.", "quant_conv.")):
            digest.update(weight.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()


def latents(
    pictures: Sequence[Picture],
    placements: Sequence[Placement],
    vae: AutoencoderKL,
    store: Path,
    progress: Progress = silent,
    flips: Collection[int] = (),
) -> tuple[list[torch.Tensor], dict[int, torch.Tensor]]:
    """For each picture a tensor (2, 4, height / 8, width / 8): mean and deviation, unscaled,
    float16, mapped from the file; and the same of the mirrored pictures for the numbers in `flips`.

    What `store` has is not made again, and what is made is kept at once. Each picture is encoded
    alone, so that its neighbours change nothing. Raises DatasetError naming a picture whose latents
    are not finite.
    """
    vae_id, paths = vae_identity(vae), [picture.path for picture in pictures]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        contents = list(pool.map(_digest, paths))
    views = [(i, False) for i in range(len(paths))] + [(i, True) for i in sorted(flips)]
    keys = {(i, turned): key(contents[i], placements[i], vae_id, turned) for i, turned in views}
    packed.tidy(store, set(keys.values()))
    known = packed.read(store, set(keys.values()))
    missing = {keys[view]: view for view in views if keys[view] not in known}
    todo = sorted(missing.values(), key=lambda view: placements[view[0]].bucket)
    loaded = ahead(lambda view: pixels(paths[view[0]], placements[view[0]], view[1]), todo)
    shown = track(loaded, "Encoding pictures", progress, len(todo))
    for view, image in zip(todo, shown, strict=True):
        latent = _finite(_encode(vae, image[None])[0], paths[view[0]])
        packed.append(store, keys[view], latent)
    known |= packed.read(store, set(missing))
    plain = [known[keys[i, False]] for i in range(len(paths))]
    return plain, {i: known[keys[i, True]] for i in sorted(flips)}


@torch.no_grad()
def _encode(vae: AutoencoderKL, images: torch.Tensor) -> torch.Tensor:
    posterior = vae.encode(images.to(vae.device, vae.dtype)).latent_dist
    return torch.stack([posterior.mean, posterior.std], dim=1).to("cpu", torch.float16)


def _finite(latent: torch.Tensor, path: Path) -> torch.Tensor:
    if not torch.isfinite(latent).all():
        raise DatasetError(
            f"{path} gives latents that are not numbers with this VAE. Remove the picture, or use "
            "a VAE in fp32."
        )
    return latent


def sample(latent: torch.Tensor, scaling: float, generator: torch.Generator) -> torch.Tensor:
    """A fresh draw from the posterior, scaled for the U-Net: (4, height / 8, width / 8) float32."""
    mean, deviation = latent.float()
    return (mean + deviation * torch.randn(mean.shape, generator=generator)) * scaling


# --- masks ----------------------------------------------------------------------------------------


def masks(
    pictures: Sequence[Picture],
    placements: Sequence[Placement],
    kind: str,
    unmasked_weight: float,
    progress: Progress = silent,
) -> list[torch.Tensor | None]:
    """For each picture how much each place of its latents counts, (1, height / 8, width / 8)
    float32 from `unmasked_weight` to 1; None where all of it counts the same.

    `kind` is 'none', 'alpha' (what is opaque counts) or 'files' (what is white in NAME.mask.png).
    Raises DatasetError for a mask of another shape than its picture, or one that leaves nothing.
    """
    if kind == "none" or unmasked_weight == 1:
        return [None] * len(pictures)
    load = open_alpha if kind == "alpha" else _mask_file
    paths = [picture.path if kind == "alpha" else picture.mask_path for picture in pictures]
    pairs = list(zip(paths, placements, strict=True))
    read = ahead(lambda i: _mask(load, *pairs[i], unmasked_weight), range(len(pairs)))
    return list(track(read, "Reading masks", progress, len(pairs)))


def _mask_file(path: Path) -> Image.Image | None:
    """A mask as a grey picture; what is transparent in it does not count."""
    return open_image(path, (0, 0, 0)).convert("L") if path.exists() else None


def _mask(
    load: Callable[[Path], Image.Image | None],
    path: Path,
    placement: Placement,
    unmasked_weight: float,
) -> torch.Tensor | None:
    image = load(path)
    if image is None:
        return None
    values = np.asarray(image, np.float32) / 255
    (width, height), (true_width, true_height) = image.size, placement.original
    if abs(math.log(width / height * true_height / true_width)) > 0.02:
        raise DatasetError(
            f"{path} is {width}x{height}, its picture {true_width}x{true_height}: the mask has "
            "another shape. Make it as large as the picture."
        )
    small = area_resized(values, placement).clip(0, 1)
    weights = unmasked_weight + (1 - unmasked_weight) * small
    if not weights.any():
        raise DatasetError(
            f"{path} masks all that is trained of its picture. Correct the mask, remove the "
            "picture, or set unmasked_weight above 0."
        )
    return None if weights.min() > 1 - 1e-6 else torch.from_numpy(weights)[None]


def area_resized(values: np.ndarray, placement: Placement) -> np.ndarray:
    """The placement's crop of a mask (height, width) of any size at the size of latents, each value
    the mean over the area that it stands for.
    """
    rows = _shares(values.shape[0], placement.resized[1], placement.top, placement.bucket[1] // 8)
    columns = _shares(
        values.shape[1], placement.resized[0], placement.left, placement.bucket[0] // 8
    )
    return rows @ values @ columns.T


def _shares(length: int, resized: int, start: int, count: int) -> np.ndarray:
    """How much of each of `length` pixels is in each of `count` cells, (count, length), rows adding
    up to 1: cells are 8 pixels wide after resizing to `resized`, the first begins at `start`.
    """
    edges = (start + 8 * np.arange(count + 1)) * (length / resized)
    pixel = np.arange(length)
    low = np.maximum(edges[:-1, None], pixel)
    high = np.minimum(edges[1:, None], pixel + 1)
    covered = np.clip(high - low, 0, None)
    return (covered / covered.sum(axis=1, keepdims=True)).astype(np.float32)
