"""Sprites: sheets cut apart, pixel art enlarged by whole factors, figures before backgrounds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from PIL import Image

from ...dataset import SUFFIXES, scan
from ...errors import CollectError
from ...files import write_safely
from ...progress import Progress, track
from .. import Source
from ..finds import Find, Offer, Origin
from .config import SpritesSettings
from .slicing import Sheet, sliced
from .staging import Backdrop, backdrops, staged

__all__ = ["SOURCE", "SpritesSettings", "look"]

NAME = "sprites"
FOLDER = "sprites"  # below dataset/
RECIPE = ("side", "square", "standing")  # what makes another picture of the same sprite


def look(settings: SpritesSettings, items: Sequence[str], progress: Progress) -> Offer:
    """Cuts every sheet, to say what comes of it. One that cannot be read is noted. Raises
    CollectError when none can be.
    """
    stages, paths = backdrops(settings), _paths(items)
    finds: list[Find] = []
    notes: list[str] = []
    seen: set[str] = set()
    again = 0
    for path, sheet in _sheets(paths, settings, notes, progress):
        notes += _notes(path, sheet) if _is_sheet(sheet) else []
        for number, sprite in enumerate(sheet.sprites):
            if sprite.mark in seen:
                again += 1
                continue
            seen.add(sprite.mark)
            chosen = (
                stages if settings.every_background else [stages[(len(seen) - 1) % len(stages)]]
            )
            finds += [_find(path, number, sheet, stage, settings) for stage in chosen]
    notes += [f"{again} sprites are on several sheets and are taken once."] if again else []
    return Offer(finds, [*notes, *_advice(finds, settings)])


def _sheets(
    paths: Sequence[Path], settings: SpritesSettings, notes: list[str], progress: Progress
) -> Iterator[tuple[Path, Sheet]]:
    """Those that can be read, cut; of the others it is noted why. Raises CollectError when that
    leaves none.
    """
    failed = []
    for path in track(paths, "Cutting sheets", progress):
        try:
            sheet = sliced(path, settings)
        except CollectError as error:
            failed.append(str(error))
            continue
        yield path, sheet
    if failed and len(failed) == len(paths):
        raise CollectError(" ".join(failed[:3]) + (" ..." if len(failed) > 3 else ""))
    notes += failed


def _paths(items: Sequence[str]) -> list[Path]:
    """The picture files that are given, those in folders too. Raises CollectError."""
    found: list[Path] = []
    for item in items:
        path = Path(item).expanduser().resolve()
        if path.is_dir():
            inside = [picture.path for picture in scan(path)]
            if not inside:
                raise CollectError(f"There are no pictures in the folder {item}.")
            found += inside
        elif path.is_file() and path.suffix.lower() in SUFFIXES:
            found.append(path)
        elif path.is_file():
            raise CollectError(
                f"{item} is no picture file. Give sheets as PNG, GIF or WebP; a zip of sprites is "
                "for `collect archives`."
            )
        else:
            raise CollectError(f"There is no sheet or folder {item}. Check the path.")
    return list(dict.fromkeys(found))


def _find(
    path: Path, number: int, sheet: Sheet, stage: Backdrop, settings: SpritesSettings
) -> Find:
    sprite = sheet.sprites[number]
    recipe = [sprite.mark, str(stage.picture or stage.colour)]
    recipe += [str(getattr(settings, name)) for name in RECIPE]
    mark = hashlib.sha256("|".join(recipe).encode()).hexdigest()[:20]
    many = len(sheet.sprites) > 1 or sheet.empty
    parts = [path.stem, f"{number + 1:03d}" if many else ""]
    parts += [Path(stage.name).stem.strip("#")] if settings.every_background else []
    height, width = sprite.pixels.shape[:2]
    return Find(
        Origin(NAME, mark, str(path), ("pixel art", "sprite") if sprite.is_pixel_art else ()),
        "-".join(part for part in parts if part) + ".png",
        partial(_write, path, number, stage, settings),
        size=(width, height),
        thumbnail=partial(_picture, path, number, stage, settings),
        folder=FOLDER if settings.own_folder else "",
    )


def _picture(path: Path, number: int, stage: Backdrop, settings: SpritesSettings) -> Image.Image:
    return staged(sliced(path, settings).sprites[number], stage, settings)


def _write(
    path: Path, number: int, stage: Backdrop, settings: SpritesSettings, target: Path
) -> None:
    image = _picture(path, number, stage, settings)
    write_safely(target, lambda part: image.save(part, "PNG"))


def _is_sheet(sheet: Sheet) -> bool:
    return len(sheet.sprites) != 1 or sheet.size > 1 or sheet.how.startswith("one picture:")


def _notes(path: Path, sheet: Sheet) -> list[str]:
    """What became of a sheet, in a sentence, and what to look at."""
    said = f"{path.name}: {len(sheet.sprites)} sprites ({sheet.how})"
    more = [
        f"{sheet.empty} empty" if sheet.empty else "",
        f"{sheet.same} the same as another" if sheet.same else "",
        f"{sheet.tiny} too small" if sheet.tiny else "",
    ]
    dropped = [each for each in more if each]
    said += f"; dropped: {', '.join(dropped)}" if dropped else ""
    said += f"; its pixels were {sheet.size} pixels wide" if sheet.size > 1 else ""
    notes = [f"{said}."]
    if small := sheet.outliers():
        numbers = ", ".join(str(number + 1) for number in small[:12])
        notes.append(
            f"{path.name}: {len(small)} sprites are much smaller than the others, effects perhaps: "
            f"look at {numbers}{', ...' if len(small) > 12 else ''}."
        )
    return notes


def _advice(finds: Sequence[Find], settings: SpritesSettings) -> list[str]:
    art = sum("pixel art" in find.origin.tags for find in finds)
    said = []
    if art:
        said.append(
            f"{art} of them are pixel art: tag those 'pixel art' and 'sprite', so that their look "
            "is not learnt as the character's."
        )
    if finds and settings.own_folder:
        said.append(
            f"They go to dataset/{FOLDER}: to show them less often than other pictures, give that "
            "folder fewer repeats in a [[subset]]."
        )
    return said


SOURCE = Source(
    NAME,
    "Sprites: sheets cut apart, pixel art enlarged by whole factors",
    "SHEET_OR_FOLDER",
    SpritesSettings,
    look,
)
