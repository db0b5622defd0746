"""Draws the sample project: a new character, in pictures as they come from the wild.

Astrid wears what the base model has seen, but never together (horns with twintails), and one
ornament that it has never seen at all (the crescent). Among the pictures are two near-duplicates,
one letterboxed, one blurred, one broken, one with a second character, and a sprite sheet on
nothing, so that cleaning has something to do.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

from PIL import Image, ImageFilter

from ..progress import Progress, silent, track
from ..project import Project
from .draw import draw, draw_pair, draw_sprite
from .world import Character, Shot, possible, random_character, random_shot

ACTIVATION_TAG = "astrid"  # one token of CLIP's vocabulary that the base's training never touched
BASE_TAGS = (
    "kimono",
    "red kimono",
    "wide sleeves",
    "horns",
    "crescent hair ornament",
    "yellow eyes",
    "purple hair",
    "long hair",
    "twintails",
    "blunt bangs",
)
ASTRID = possible(
    Character(
        hair_color="purple",
        hair_length="long hair",
        hair_style="twintails",
        bangs="blunt bangs",
        eye_color="yellow",
        ears="horns",
        headwear="",
        ornament="crescent hair ornament",
        eyewear="",
        skin="",
        neck="",
        top="kimono",
        top_color="red",
        sleeves="wide sleeves",
        trim="",
        bottom="",
        bottom_color="",
        legwear="",
        footwear="sandals",
        tail="",
    )
)
SIZES = ((512, 768), (640, 640), (600, 900), (768, 768), (480, 640), (800, 640))
FRAMINGS = (
    *("upper body", "full body", "upper body", "upper body"),
    *("full body", "upper body", "portrait", "upper body"),
)
GOOD = 24  # clean pictures; the faulty ones come on top


def _shot(rng: random.Random, size: tuple[int, int], number: int) -> Shot:
    shot = random_shot(rng, size[0] / size[1])
    framing = FRAMINGS[number % len(FRAMINGS)]
    if framing == "full body" and size[0] > size[1]:
        framing = "upper body"
    view = shot.view if number % 8 == 3 else ""
    eyes = shot.eyes if number % 12 == 5 else ""
    return Shot(
        shot.expression,
        eyes,
        shot.cheeks,
        shot.background if number % 3 else "white background",  # where official art stands
        framing,
        shot.pose if framing != "portrait" else "",
        view,
        shot.flip,
    )


def good_picture(number: int, seed: int = 7) -> Image.Image:
    """The clean picture `number` of Astrid."""
    rng = random.Random(seed * 1000 + number)
    size = SIZES[number % len(SIZES)]
    return draw(ASTRID, _shot(rng, size, number), size, rng)


def make_sample(project: Project, seed: int = 7, progress: Progress = silent) -> list[Path]:
    """Draws the project's pictures into its dataset folder; existing files are left as they are."""
    project.create()
    jobs: list[tuple[str, Callable[[], Image.Image]]] = [
        (f"astrid_{i:02d}.{'png' if i % 3 else 'jpg'}", partial(good_picture, i, seed))
        for i in range(GOOD)
    ]
    jobs += [
        (
            "astrid_copy_small.jpg",
            lambda: good_picture(1, seed).resize((480, 480), Image.Resampling.LANCZOS),
        ),
        ("astrid_copy_light.jpg", lambda: good_picture(6, seed).point(lambda v: min(255, v + 6))),
        ("letterboxed.png", lambda: _letterboxed(good_picture(9, seed + 1))),
        ("blurred.jpg", lambda: good_picture(10, seed + 1).filter(ImageFilter.GaussianBlur(7))),
        ("with_a_friend.png", lambda: _pair(seed)),
        ("sprite_sheet.png", lambda: _sprite_sheet(seed)),
    ]
    paths = []
    for name, picture in track(jobs, "Drawing the sample project", progress):
        path = project.dataset / name
        if not path.exists():
            picture().save(path, quality=92)
        paths.append(path)
    paths.append(_broken(project.dataset / "broken.png", seed))
    return paths


def _letterboxed(picture: Image.Image) -> Image.Image:
    framed = Image.new("RGB", (picture.width, picture.height + 240), "black")
    framed.paste(picture, (0, 120))
    return framed


def _pair(seed: int) -> Image.Image:
    rng = random.Random(seed)
    shot = Shot("smile", "", "", "outdoors", "full body", "", "", False)
    return draw_pair(ASTRID, random_character(rng), shot, (900, 640), rng)


def _sprite_sheet(seed: int) -> Image.Image:
    rng, cell = random.Random(seed), (256, 384)
    sheet = Image.new("RGBA", (4 * cell[0], cell[1]), (0, 0, 0, 0))
    for i, pose in enumerate(("", "arms up", "waving", "hand on own hip")):
        shot = Shot("smile", "", "", "", "full body", pose, "", False)
        sheet.paste(draw_sprite(ASTRID, shot, cell, rng), (i * cell[0], 0))
    return sheet


def _broken(path: Path, seed: int) -> Path:
    """A file whose second half was lost on the way."""
    if not path.exists():
        good_picture(3, seed).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path
