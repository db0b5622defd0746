"""Sprites that stand apart: connected pixels, and the bits that belong to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .masks import Mask

Box = tuple[int, int, int, int]  # left, top, right, bottom

SMALL = 0.08  # of a typical sprite's area: what is smaller is a bit of another
REACH = 0.25  # of a sprite's smaller side: how far its bits fly
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
    owner = np.arange(len(found.areas))
    typical = _typical(found.areas)
    order = np.argsort(-found.areas, kind="stable")
    large = [n for n in order if found.areas[n] >= SMALL * typical]
    for part in order:
        others = [n for n in large if found.areas[n] > found.areas[part] or n < part]
        others = [n for n in others if n != part and owner[n] == n]
        if others and (near := _nearest(found, part, np.array(others), typical)) is not None:
            owner[part] = near
    return [np.flatnonzero(owner == n).tolist() for n in order if owner[n] == n]


def _typical(areas: NDArray[np.int64]) -> float:
    """The area of the part in which a pixel drawn by lot lies, in the middle of such draws: dust
    does not pull it down.
    """
    ordered = np.sort(areas)
    share = np.cumsum(ordered) / ordered.sum()
    return float(ordered[int(np.searchsorted(share, 0.5))])


def _nearest(found: Parts, part: int, others: NDArray[np.int64], typical: float) -> int | None:
    """Which of the others a part belongs to; None if it stands for itself."""
    box, boxes = found.boxes[part], found.boxes[others]
    apart_x = np.maximum(boxes[:, 0] - box[2], box[0] - boxes[:, 2])
    apart_y = np.maximum(boxes[:, 1] - box[3], box[1] - boxes[:, 3])
    apart = np.maximum(np.maximum(apart_x, apart_y), 0)
    inside = (boxes[:, :2] <= box[:2]).all(1) & (boxes[:, 2:] >= box[2:]).all(1)
    if inside.any():
        return int(others[np.argmax(inside)])
    best = int(np.argmin(apart))
    reach = REACH * min(boxes[best, 2] - boxes[best, 0], boxes[best, 3] - boxes[best, 1])
    small = found.areas[part] < SMALL * typical
    return int(others[best]) if small and apart[best] <= reach else None


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
