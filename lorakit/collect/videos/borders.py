"""Black bars around the picture: letterbox and pillarbox."""

from __future__ import annotations

import numpy as np

DARK = 30  # grey levels up to which a point counts as black
LIT = 0.01  # share of a line that must be brighter for the line to show something
SEEN = 0.05  # share of a frame that must be brighter for the frame to tell anything
RARELY = 0.03  # a line of a bar may show something in this share of the frames: a logo, a fault
TRIM = 2  # points cut off further where there is a bar: its edge is soft
LEAST = 0.4  # of height or width; what would leave less of the picture is no bar


class Borders:
    """Collects, over a film, how often each line of the frame shows anything."""

    def __init__(self) -> None:
        self._size = (0, 0)
        self._frames = 0
        self._rows = self._columns = np.zeros(0)

    def add(self, grey: np.ndarray) -> None:
        """A frame (height, width) of 0..255. Dark ones are passed over, and those of another size
        than the first.
        """
        bright = grey > DARK
        if not self._size[0]:
            self._size = grey.shape[1], grey.shape[0]
            self._rows, self._columns = np.zeros(grey.shape[0]), np.zeros(grey.shape[1])
        if (grey.shape[1], grey.shape[0]) != self._size or bright.mean() < SEEN:
            return
        self._frames += 1
        self._rows += bright.mean(1) > LIT
        self._columns += bright.mean(0) > LIT

    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the picture within its bars."""
        left, right = _span(self._columns, self._frames)
        top, bottom = _span(self._rows, self._frames)
        return left, top, right, bottom


def _span(shown: np.ndarray, frames: int) -> tuple[int, int]:
    """From the middle outwards, up to the first line that (nearly) never shows anything: what is
    beyond it, as a subtitle in the bar, is not the picture.
    """
    whole, middle = (0, len(shown)), len(shown) // 2
    black = shown <= RARELY * frames
    if not frames or black[middle]:
        return whole
    before, after = np.flatnonzero(black[:middle]), np.flatnonzero(black[middle:])
    start = int(before[-1]) + 1 + TRIM if len(before) else 0
    end = middle + int(after[0]) - TRIM if len(after) else len(shown)
    return (start, end) if end - start >= LEAST * len(shown) else whole
