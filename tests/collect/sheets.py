"""Sheets laid out as those on the web are, from the real frames of Wesnoth's units."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

CELL = 72  # of Wesnoth's units


def frames(folder: Path, unit: str) -> list[Image.Image]:
    """A unit's frames of one cell, in name order: 'archer-*.png' and 'archer.png'."""
    paths = sorted([*folder.glob(f"{unit}-*.png"), *folder.glob(f"{unit}.png")])
    images = [Image.open(path).convert("RGBA") for path in paths]
    return [image for image in images if image.size == (CELL, CELL)]


def in_cells(images: Sequence[Image.Image], columns: int, colour: str = "") -> Image.Image:
    """Frames in cells of one size, the last row half empty; on a colour if one is given."""
    rows = -(-len(images) // columns)
    sheet = Image.new("RGBA", (columns * CELL, rows * CELL), colour or (0, 0, 0, 0))
    for number, image in enumerate(images):
        sheet.alpha_composite(image, (number % columns * CELL, number // columns * CELL))
    return sheet.convert("RGB") if colour else sheet


def packed(images: Sequence[Image.Image], width: int, gap: int, colour: str = "") -> Image.Image:
    """Frames cut to their outline, side by side in rows of their own heights, as rips are."""
    places, x, y, tall = [], gap, gap, 0
    for image in images:
        box = image.getbbox()
        assert box
        image = image.crop(box)
        if x + image.width + gap > width:
            x, y, tall = gap, y + tall + gap, 0
        places.append((image, (x, y)))
        x, tall = x + image.width + gap, max(tall, image.height)
    sheet = Image.new("RGBA", (width, y + tall + gap), colour or (0, 0, 0, 0))
    for image, place in places:
        sheet.alpha_composite(image, place)
    return sheet.convert("RGB") if colour else sheet
