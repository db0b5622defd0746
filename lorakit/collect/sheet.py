"""The preview of an offer: a contact sheet of the first pictures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

from PIL import Image, ImageDraw

from ..errors import CollectError
from ..files import write_safely
from ..images import flatten
from ..progress import Progress, silent, track
from .finds import Find

COUNT = 24
SIDE, LINE, COLUMNS = 180, 16, 6


def thumbnails(
    finds: Sequence[Find], count: int = COUNT, progress: Progress = silent
) -> list[tuple[Find, Image.Image]]:
    """A small picture of each of the first `count` finds that have one; one that cannot be had is
    left out.
    """
    shown = []
    having = [find for find in finds if find.thumbnail][:count]
    for find in track(having, "Fetching small pictures", progress):
        try:
            image = flatten(find.thumbnail())  # type: ignore[misc]
        except CollectError:
            continue
        image.thumbnail((SIDE, SIDE))
        shown.append((find, image))
    return shown


def contact_sheet(shown: Sequence[tuple[Find, Image.Image]]) -> Image.Image:
    """Small pictures in rows, each row as high as its highest, each picture with its name below."""
    rows = [shown[i : i + COLUMNS] for i in range(0, len(shown), COLUMNS)]
    heights = [max(image.height for _, image in row) + LINE for row in rows]
    width = SIDE * max(map(len, rows), default=1)
    sheet = Image.new("RGB", (width, max(1, sum(heights))), "white")
    drawer = ImageDraw.Draw(sheet)
    for row, high, y in zip(rows, heights, accumulate(heights, initial=0), strict=False):
        for number, (find, image) in enumerate(row):
            x, space = number * SIDE, high - LINE
            place = (x + (SIDE - image.width) // 2, y + (space - image.height) // 2)
            sheet.paste(image, place)
            drawer.text((x + 3, y + space + 2), find.name[:30], fill="black")
    return sheet


def save_sheet(shown: Sequence[tuple[Find, Image.Image]], path: Path) -> Path:
    """Writes the contact sheet as JPEG. Raises SaveError."""
    return write_safely(path, lambda part: contact_sheet(shown).save(part, "JPEG", quality=85))
