"""What of a sheet is sprite and what is background."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from ...errors import CollectError
from ...images import UNREADABLE
from .pixels import Pixels, packed

Mask = NDArray[np.bool_]

CLEAR = 0.02  # share of transparent pixels from which a sheet counts as transparent
EVEN = 0.6  # share of the border that has one colour on a sheet with a key colour
FAINT = 8  # alpha below this is dust that nobody sees
VIVID = 96  # chroma of a key colour that no character has


def read(path: Path) -> Pixels:
    """A sheet as RGBA, upright, what is transparent all zero. Raises CollectError."""
    try:
        with Image.open(path) as image:
            pixels = np.array(ImageOps.exif_transpose(image).convert("RGBA"))
    except UNREADABLE as error:
        raise CollectError(
            f"{path} cannot be read as a picture ({error}). Remove or replace it."
        ) from error
    pixels[pixels[..., 3] < FAINT] = 0
    return pixels


def is_transparent(pixels: Pixels) -> bool:
    """Whether a good part of it is transparent."""
    return bool(np.count_nonzero(pixels[..., 3] == 0) > CLEAR * pixels[..., 3].size)


def key_colour(pixels: Pixels) -> tuple[int, int, int] | None:
    """The commonest colour of the border; None if the border has no common one."""
    edge = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    colours, counts = np.unique(packed(edge[None])[0], return_counts=True)
    best = int(np.argmax(counts))
    if counts[best] < EVEN * len(edge):
        return None
    red, green, blue, _ = colours[best : best + 1].view(np.uint8).tolist()
    return red, green, blue


def without_key(pixels: Pixels, key: tuple[int, int, int], tolerance: int) -> Pixels:
    """The sheet with that colour made transparent. Of a colour that characters have too, such as
    white, only what is connected with the border: eyes stay white.
    """
    background = np.ones(pixels.shape[:2], bool)
    for channel in range(3):
        # numpy 2.0 crashes on some comparisons of bytes with numbers that are none
        low, high = max(0, key[channel] - tolerance), min(255, key[channel] + tolerance)
        background &= (pixels[..., channel] >= low) & (pixels[..., channel] <= high)
    if max(key) - min(key) < VIVID:
        background = _from_border(background)
    clear = pixels.copy()
    clear[background] = 0
    return clear


def _from_border(background: Mask) -> Mask:
    """The parts of it that reach the border."""
    from scipy import ndimage

    labels, count = ndimage.label(background)
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    outside = np.zeros(count + 1, bool)
    outside[edge] = True
    outside[0] = False
    kept: Mask = outside[labels]
    return kept
