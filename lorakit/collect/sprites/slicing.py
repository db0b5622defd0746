"""A sheet becomes sprites: background found, cut apart, empty and repeated ones dropped."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from . import masks, pixels
from .config import SpritesSettings
from .grids import Grid, free_grid, tile_grid
from .masks import Mask
from .pieces import Box, Parts, groups, in_rows, parts
from .pixels import Pixels

WHOLE = 0.6  # of the pixels: a part this large is the figure itself, if nothing else is like it
NO_EDGE = "one picture: it has no transparency and no even border"
NO_GRID = "one picture: no grid was found; give cell_width and cell_height"
OUTLIER = 0.3  # of the median side: an effect, perhaps, or a lone limb


@dataclass(frozen=True)
class Sprite:
    """A sprite in its true pixels, cut to its outline; `mark` is a hash of them."""

    pixels: Pixels
    mark: str
    is_pixel_art: bool


@dataclass(frozen=True)
class Sheet:
    """What a sheet holds, in the order of reading. `how` says how it was cut, `size` how large its
    pixels were, `empty` and `same` count the cells that were dropped, `tiny` those too small.
    """

    sprites: list[Sprite]
    how: str
    size: int = 1
    empty: int = 0
    same: int = 0
    tiny: int = 0

    def outliers(self) -> list[int]:
        """The numbers of sprites that are much smaller than the others."""
        sides = [max(sprite.pixels.shape[:2]) for sprite in self.sprites]
        usual = float(np.median(sides)) if len(sides) >= 5 else 0.0
        return [number for number, side in enumerate(sides) if side < OUTLIER * usual]


@dataclass
class _Cut:
    """Boxes on a sheet, and how they were found. Where `found` is given, only the parts listed for
    a box belong to it.
    """

    boxes: list[Box]
    how: str
    found: Parts | None = None
    members: list[list[int]] = field(default_factory=list)


@lru_cache(maxsize=2)
def sliced(path: Path, settings: SpritesSettings) -> Sheet:
    """The sprites of a sheet; the last sheets are kept. Raises CollectError."""
    whole = masks.read(path)
    size, x, y = (1, 0, 0) if settings.style == "painted" else pixels.pixel_size(whole)
    if size > 1:
        whole = pixels.shrunk(whole, size, x, y)
    clear = _cleared(whole, settings)
    cut = _cut(clear, settings, size)
    return _sheet(clear, cut, size, settings)


def _cleared(whole: Pixels, settings: SpritesSettings) -> Pixels:
    """The sheet with its background transparent, if it has one."""
    if settings.mode in ("transparency", "single"):
        return whole
    if settings.mode != "key" and masks.is_transparent(whole):
        return whole
    key = masks.key_colour(whole)
    return masks.without_key(whole, key, settings.tolerance) if key else whole


def _cut(clear: Pixels, settings: SpritesSettings, size: int) -> _Cut:
    height, width = clear.shape[:2]
    mask = clear[..., 3] > 0
    if settings.mode == "single":
        return _Cut([(0, 0, width, height)], "one picture")
    if settings.cell_width or settings.mode == "grid":
        grid = _given(settings, size) or free_grid(mask) or tile_grid(clear)
        return _gridded(grid, width, height) if grid else _Cut([(0, 0, width, height)], NO_GRID)
    if mask.all():
        grid = tile_grid(clear) if settings.mode == "auto" else None
        return _gridded(grid, width, height) if grid else _Cut([(0, 0, width, height)], NO_EDGE)
    return _apart(clear, mask, settings)


def _given(settings: SpritesSettings, size: int) -> Grid | None:
    """The grid that the settings give, in pixels of the file, on a sheet that was shrunk."""
    if not settings.cell_width:
        return None
    numbers = (
        settings.cell_width,
        settings.cell_height,
        settings.offset_x,
        settings.offset_y,
        settings.spacing,
    )
    return Grid(*(round(number / size) for number in numbers))


def _gridded(grid: Grid, width: int, height: int) -> _Cut:
    said = f"cells of {grid.width} x {grid.height}"
    return _Cut(grid.cells(width, height), said)


def _apart(clear: Pixels, mask: Mask, settings: SpritesSettings) -> _Cut:
    """Cut where it is transparent; in cells where sprites are in pieces or touch."""
    found = parts(mask, settings.gap)
    members = groups(found)
    boxes = [_around(found, group) for group in members]
    height, width = mask.shape
    if settings.mode == "auto":
        grid = free_grid(mask)
        if grid and not _agree(grid, boxes, mask) and _one_each(grid, found, mask):
            return _gridded(grid, width, height)
        if boxes and _largest(boxes) > 0.1 * width * height:
            tiles = tile_grid(clear)
            if tiles and _largest(boxes) >= 4 * tiles.width * tiles.height:
                return _gridded(tiles, width, height)
        if not members or _is_one(found, members):
            return _Cut([(0, 0, width, height)], "one figure")
    return _Cut(boxes, "sprites that stand apart", found, members)


def _around(found: Parts, group: list[int]) -> Box:
    boxes = found.boxes[group]
    left, top = boxes[:, :2].min(0)
    right, bottom = boxes[:, 2:].max(0)
    return int(left), int(top), int(right), int(bottom)


def _largest(boxes: list[Box]) -> int:
    return max((right - left) * (bottom - top) for left, top, right, bottom in boxes)


def _agree(grid: Grid, boxes: list[Box], mask: Mask) -> bool:
    """Whether there is one box to each filled cell: then nothing is in pieces."""
    height, width = mask.shape
    filled = [c for c in grid.cells(width, height) if mask[c[1] : c[3], c[0] : c[2]].any()]
    return len(filled) == len(boxes)


def _one_each(grid: Grid, found: Parts, mask: Mask) -> bool:
    """Whether a cell mostly has one large part: cells with many sprites in each are no cells."""
    shares = []
    for left, top, right, bottom in grid.cells(mask.shape[1], mask.shape[0]):
        counts = np.bincount(found.labels[top:bottom, left:right].ravel())[1:]
        if counts.sum():
            shares.append(counts.max() / counts.sum())
    return bool(np.mean(np.array(shares) >= 0.7) >= 0.8)


def _is_one(found: Parts, members: list[list[int]]) -> bool:
    """Whether one figure is nearly all there is."""
    areas = [int(found.areas[group].sum()) for group in members]
    return max(areas) > WHOLE * sum(areas) and sum(a > 0.2 * max(areas) for a in areas) == 1


def _sheet(clear: Pixels, cut: _Cut, size: int, settings: SpritesSettings) -> Sheet:
    sprites: dict[str, Sprite] = {}
    empty = same = tiny = 0
    for crop in _crops(clear, cut):
        tight = trimmed(crop, is_cell=cut.found is None and len(cut.boxes) > 1)
        if tight is None:
            empty += 1
            continue
        sprite = _sprite(tight, size, settings)
        if max(tight.shape[:2]) < settings.smallest:
            tiny += 1
        elif sprite.mark in sprites:
            same += 1
        else:
            sprites[sprite.mark] = sprite
    return Sheet(_alike(list(sprites.values())), cut.how, size, empty, same, tiny)


def _alike(sprites: list[Sprite]) -> list[Sprite]:
    """The sprites of a sheet as most of them are, pixel art or painted: a blow that blurs does not
    change how they were made.
    """
    art = 2 * sum(sprite.is_pixel_art for sprite in sprites) > len(sprites)
    return [replace(sprite, is_pixel_art=art) for sprite in sprites]


def _crops(clear: Pixels, cut: _Cut) -> Iterator[Pixels]:
    """Each box's pixels in the order of reading, without those of its neighbours."""
    for number in in_rows(cut.boxes):
        left, top, right, bottom = cut.boxes[number]
        crop = clear[top:bottom, left:right].copy()
        if cut.found is not None:
            labels = cut.found.labels[top:bottom, left:right]
            crop[~np.isin(labels, np.array(cut.members[number]) + 1)] = 0
        yield crop


def trimmed(crop: Pixels, is_cell: bool) -> Pixels | None:
    """Without the empty rows and columns around it; None if it is all empty, or a cell of one
    colour from edge to edge: an empty one on a sheet without a background.
    """
    seen = crop[..., 3] > 0
    columns, rows = np.flatnonzero(seen.any(0)), np.flatnonzero(seen.any(1))
    if not len(columns):
        return None
    tight = np.ascontiguousarray(crop[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    numbers = pixels.packed(tight)
    even = is_cell and tight.shape == crop.shape and bool((numbers == numbers.flat[0]).all())
    return None if even else tight


def _sprite(tight: Pixels, size: int, settings: SpritesSettings) -> Sprite:
    """A sprite that was enlarged by itself, beside others that were not, is shrunk too."""
    art = settings.style == "pixel" or size > 1
    if settings.style != "painted" and size == 1:
        own, x, y = pixels.pixel_size(tight)
        art = art or own > 1
        tight = pixels.shrunk(tight, own, x, y) if own > 1 else tight
    art = art or (settings.style == "auto" and pixels.is_pixel_art(tight))
    digest = hashlib.sha256(repr(tight.shape).encode() + tight.tobytes())
    return Sprite(tight, digest.hexdigest()[:20], art)
