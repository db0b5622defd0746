"""Sheets in cells of one size: the grid is guessed from where nothing is cut or tiles meet."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .masks import Mask
from .pieces import Box
from .pixels import Pixels

LEAST_CELL = 8
MOST_CELLS = 64  # along one side
SLENDER = 3  # how much longer than wide a cell may be
TOUCH = 0.1  # of what lines elsewhere cut through: sprites that touch their neighbours a little
ALIKE = 0.12  # of a cell: how much the middles of sprites may stray in their cells
SEAM = 3.0  # times the usual change: tiles have 30, the blocks of a JPEG 2
SHARP = 6.0  # standard errors by which tiles' seams must stand out


@dataclass(frozen=True)
class Grid:
    """Cells of `width` x `height`, the first at (x, y), `spacing` between them. In pixels."""

    width: int
    height: int
    x: int = 0
    y: int = 0
    spacing: int = 0

    def cells(self, width: int, height: int) -> list[Box]:
        """The cells that begin on a sheet of that size, row by row; those at its edge may be cut
        short.
        """
        lefts = range(self.x, width, self.width + self.spacing)
        tops = range(self.y, height, self.height + self.spacing)
        return [
            (left, top, min(left + self.width, width), min(top + self.height, height))
            for top in tops
            for left in lefts
            if left + self.width // 2 < width and top + self.height // 2 < height
        ]


def free_grid(mask: Mask) -> Grid | None:
    """The finest grid whose lines cut through next to nothing and whose cells hold their sprites at
    much the same place; None if there is none.
    """
    heights = _free_sizes((mask[1:] & mask[:-1]).sum(1))
    found = [
        grid
        for width in _free_sizes((mask[:, 1:] & mask[:, :-1]).sum(0))
        for height in heights
        if max(width, height) <= SLENDER * min(width, height)
        and _is_regular(mask, grid := Grid(width, height))
    ]
    return min(found, key=lambda grid: grid.width * grid.height, default=None)


def _free_sizes(cut: NDArray[np.int64]) -> list[int]:
    """Sizes that divide a side and whose lines cut next to nothing; the whole side is one of them.
    `cut[i]` is how many pixels a line between pixel i and i + 1 cuts through.
    """
    few = TOUCH * float(cut.mean())
    return [size for size in _sizes(len(cut) + 1) if (cut[size - 1 :: size] <= few).all()]


def _sizes(length: int) -> list[int]:
    least = max(LEAST_CELL, -(-length // MOST_CELLS))
    return [size for size in range(least, length + 1) if length % size == 0]


def _is_regular(mask: Mask, grid: Grid) -> bool:
    """Whether at least four cells are filled, most of all, each around the same place."""
    cells = grid.cells(mask.shape[1], mask.shape[0])
    if len(cells) < 4:
        return False
    places = []
    for left, top, right, bottom in cells:
        cell = mask[top:bottom, left:right]
        columns, rows = np.flatnonzero(cell.any(0)), np.flatnonzero(cell.any(1))
        if len(columns):
            middle = (columns[0] + columns[-1]) / 2 / grid.width
            foot, centre = rows[-1] / grid.height, (rows[0] + rows[-1]) / 2 / grid.height
            places.append((middle, foot, centre))
    if len(places) < max(4, 0.4 * len(cells)):
        return False
    stray = np.std(places, axis=0)
    return bool(stray[0] < ALIKE and min(stray[1:]) < ALIKE)


def tile_grid(pixels: Pixels) -> Grid | None:
    """The grid of tiles that touch, from the lines along which colours change most; None if no
    lines stand out.
    """
    values = pixels.astype(np.int16)
    width = _seams(np.abs(np.diff(values, axis=1)).sum(-1).mean(0))
    height = _seams(np.abs(np.diff(values, axis=0)).sum(-1).mean(1))
    return Grid(width, height) if width and height else None


def _seams(change: NDArray[np.float64]) -> int:
    """The size whose lines show the most change, by how many standard errors it stands out; 0 if
    none does. `change[i]` is between pixel i and i + 1.
    """
    best, size = SHARP, 0
    usual, spread = float(np.mean(change)), float(np.std(change)) or 1.0
    for each in _sizes(len(change) + 1):
        lines = change[each - 1 :: each]
        if len(lines) >= 2 and np.median(lines) >= SEAM * usual:
            score = (float(np.median(lines)) - usual) / spread * np.sqrt(len(lines))
            if score > best:
                best, size = score, each
    return size
