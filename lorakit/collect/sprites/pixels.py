"""Pixel art: how large its pixels truly are, and enlarging it so that they stay sharp.

Pictures are RGBA arrays (height, width, 4) of uint8 in which what is transparent is all zero.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

COLOURS = 256  # of pixel art; painted sprites have thousands
HARD = 0.35  # share of an outline where opaque meets transparent: blended ones have next to none
EVIDENCE = 8  # places where colours change that a pixel size is believed from
LARGEST = 64


def packed(pixels: Pixels) -> NDArray[np.uint32]:
    """Each pixel as one number, (height, width)."""
    return np.ascontiguousarray(pixels).view(np.uint32)[..., 0]


def pixel_size(pixels: Pixels) -> tuple[int, int, int]:
    """(size, x, y): how many pixels across one pixel of the artist is, and where the first whole
    one begins; (1, 0, 0) if nothing was enlarged.

    Colours change only where pixels of the artist meet, so that all distances between such places
    are multiples of the size. It is their greatest common divisor.
    """
    numbers = packed(pixels)
    columns = 1 + np.flatnonzero((numbers[:, 1:] != numbers[:, :-1]).any(0))
    rows = 1 + np.flatnonzero((numbers[1:] != numbers[:-1]).any(1))
    if min(len(columns), len(rows)) < EVIDENCE:
        return 1, 0, 0
    size = int(np.gcd.reduce([*(columns - columns[0]), *(rows - rows[0])]))
    if not 1 < size <= LARGEST:
        return 1, 0, 0
    return size, int(columns[0] % size), int(rows[0] % size)


def shrunk(pixels: Pixels, size: int, x: int, y: int) -> Pixels:
    """One pixel for each of the artist's. Those cut off at an edge count too."""
    middle = size // 2
    columns = _middles(pixels.shape[1], size, x, middle)
    rows = _middles(pixels.shape[0], size, y, middle)
    return np.ascontiguousarray(pixels[rows][:, columns])


def _middles(length: int, size: int, start: int, middle: int) -> NDArray[np.intp]:
    """A place inside each of the artist's pixels along one side."""
    first = start - size if start else 0
    return np.clip(np.arange(first, length, size) + middle, 0, length - 1)


def enlarged(pixels: Pixels, factor: int) -> Pixels:
    """Each pixel as a square of `factor` (nearest neighbour)."""
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def whole_factor(pixels: Pixels, side: int) -> int:
    """The largest whole factor with which the longer side stays within `side`; at least 1."""
    return max(1, side // max(pixels.shape[:2]))


def is_pixel_art(pixels: Pixels) -> bool:
    """Whether it has few colours and a hard outline (a shadow may be soft). Painted pictures blend
    along their outlines, and into thousands of colours.
    """
    colours = np.unique(packed(pixels)[pixels[..., 3] == 255])
    return len(colours) <= COLOURS and hardness(pixels) >= HARD


def hardness(pixels: Pixels) -> float:
    """Share of the places where an opaque pixel ends that have a transparent one beside it, none
    that is in between; 1 where there is no outline.
    """
    opaque, clear = pixels[..., 3] == 255, pixels[..., 3] == 0
    ends = hard = 0
    for one, two in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
        for here, there in ((one, two), (two, one)):
            ends += int(np.count_nonzero(opaque[here] & ~opaque[there]))
            hard += int(np.count_nonzero(opaque[here] & clear[there]))
    return hard / ends if ends else 1.0
