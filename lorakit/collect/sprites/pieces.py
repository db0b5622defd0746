"""Sprites that stand apart: connected pixels, and the bits that belong to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .masks import Mask

Box = tuple[int, int, int, int]  # left, top, right, bottom

SMALL = 0.16  # of a typical sprite's area: what is smaller is a bit of another
REACH = 0.35  # of the side of a square of a typical sprite's area: how far bits fly
MOST = 20_000  # parts of a sheet: beyond, it is noise or a photograph


@dataclass(frozen=True)
class Parts:
    """The connected parts of a sheet: `labels` has a number from 1 for each pixel's part, `boxes`
    (n, 4) and `areas` (n,) are theirs, in the order of the numbers.
    """

    labels: NDArray[np.int32]
    boxes: NDArray[np.int64]
    areas: NDArray[np.int64]


def parts(mask: Mask, gap: int) -> Parts:
    """Parts with no more than `gap` pixels between them are one."""
    from scipy import ndimage

    labels, count = ndimage.label(_grown(mask, gap), np.ones((3, 3)))
    labels[~mask] = 0
    slices = ndimage.find_objects(labels, count)
    boxes = [(x.start, y.start, x.stop, y.stop) for y, x in slices]
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return Parts(labels, np.array(boxes, np.int64).reshape(-1, 4), areas)


def _grown(mask: Mask, gap: int) -> Mask:
    """The mask with each gap of up to `gap` pixels closed, by growing it to the right and down."""
    grown = mask.copy()
    for step in range(1, gap + 1):
        grown[:, step:] |= mask[:, :-step]
    wide = grown.copy()
    for step in range(1, gap + 1):
        grown[step:] |= wide[:-step]
    return grown


def groups(found: Parts) -> list[list[int]]:
    """The parts (from 0) of each sprite. What lies within another's box, and small bits near a
    large part, belong to it.
    """
    if not 0 < len(found.areas) <= MOST:
        return []
    typical = _typical(found.areas)
    sprites: list[list[int]] = []
    boxes = np.empty_like(found.boxes)  # of those sprites that are large, which come first
    large = 0
    for part in np.argsort(-found.areas, kind="stable").tolist():
        small = bool(found.areas[part] < SMALL * typical)
        reach = REACH * typical**0.5 if small else -1.0
        near = _nearest(found.boxes[part], boxes[:large], reach) if large else None
        if near is not None:
            sprites[near].append(part)
        else:
            sprites.append([part])
            if not small:
                boxes[large] = found.boxes[part]
                large += 1
    return sprites


def _typical(areas: NDArray[np.int64]) -> float:
    """The area of the part in which a pixel drawn by lot lies, in the middle of such draws: dust
    does not pull it down.
    """
    ordered = np.sort(areas)
    share = np.cumsum(ordered) / ordered.sum()
    return float(ordered[int(np.searchsorted(share, 0.5))])


def _nearest(box: NDArray[np.int64], boxes: NDArray[np.int64], reach: float) -> int | None:
    """The first of `boxes` in which a part lies, else the nearest within `reach`; None if it stands
    for itself.
    """
    inside = (boxes[:, :2] <= box[:2]).all(1) & (boxes[:, 2:] >= box[2:]).all(1)
    if inside.any():
        return int(np.argmax(inside))
    apart = np.maximum(boxes[:, :2] - box[2:], box[:2] - boxes[:, 2:]).max(1).clip(0)
    best = int(np.argmin(apart))
    return best if apart[best] <= reach else None


def in_rows(boxes: list[Box]) -> list[int]:
    """The order of reading: rows from the top, each from the left. Boxes that overlap by half of
    the lower one's height share a row.
    """
    rows: list[list[int]] = []
    for number in sorted(range(len(boxes)), key=lambda n: boxes[n][1]):
        _, top, _, bottom = boxes[number]
        for row in rows:
            first = boxes[row[0]]
            shared = min(bottom, first[3]) - max(top, first[1])
            if shared >= 0.5 * min(bottom - top, first[3] - first[1]):
                row.append(number)
                break
        else:
            rows.append([number])
    return [number for row in rows for number in sorted(row, key=lambda n: boxes[n][0])]
