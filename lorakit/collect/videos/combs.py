"""Interlaced films: each frame is woven of two moments, its even lines one and its odd lines the
other. What moves in it looks like a comb.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TOOTH = 12  # grey levels by which a line differs from both its neighbours in a comb
COMBED = 0.004  # share of a frame's points that are combs in an interlaced one where it moves
OFTEN = 0.15  # share of a film's frames that must be combed: the rest may stand still


def teeth(grey: np.ndarray) -> float:
    """The share of the points of a frame (height, width) that are part of a comb: four lines, each
    brighter or darker than both its neighbours.
    """
    steps = np.diff(grey.astype(np.int16), axis=0)
    up, down = steps > TOOTH, steps < -TOOTH
    zigzag = (up[:-2] & down[1:-1] & up[2:]) | (down[:-2] & up[1:-1] & down[2:])
    return float(zigzag.mean()) if zigzag.size else 0.0


def combed(looks: Sequence[Sequence[np.ndarray]]) -> bool:
    """Whether the frames of a film, some from each of several places, are interlaced."""
    flat = [teeth(frame) > COMBED and _is_of_time(frame) for frames in looks for frame in frames]
    return bool(flat) and sum(flat) >= max(2, OFTEN * len(flat))


def _is_of_time(frame: np.ndarray) -> bool:
    """Whether the combs go away when one field is taken: a picture of fine lines keeps them."""
    return teeth(frame[::2]) < 0.5 * teeth(frame)


def first_field(looks: Sequence[Sequence[np.ndarray]]) -> str:
    """'top' or 'bottom', whichever field is the earlier: the later field of a frame fits the
    earlier field of the next better than the other two fit.
    """
    top = bottom = 0.0
    for frames in looks:
        for one, other in zip(frames, frames[1:], strict=False):
            if one.shape == other.shape:
                top += teeth(_woven(other, one))
                bottom += teeth(_woven(one, other))
    return "bottom" if bottom < top else "top"


def _woven(even: np.ndarray, odd: np.ndarray) -> np.ndarray:
    frame = even.copy()
    frame[1::2] = odd[1::2]
    return frame
