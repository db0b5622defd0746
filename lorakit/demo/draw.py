"""Draws the dolls of `world.py` with Pillow: flat colours, dark outlines, big eyes, one doll a
picture.

The doll lives in its own units: the middle of the head is (0, 0), the chin is at y = 1, the hips at
2.3 and the soles at about 4. `draw` picks the window of those units that the framing asks for,
draws three times too large and reduces, so that outlines come out smooth.
"""

from __future__ import annotations

import random

from PIL import Image, ImageDraw

from . import clothes, head
from .backdrop import background
from .pen import SUPERSAMPLE, Palette, Pen, Point, named, rgb, shade
from .world import Character, Shot


def draw(look: Character, shot: Shot, size: tuple[int, int], rng: random.Random) -> Image.Image:
    """One RGB picture of `size` (width, height)."""
    picture = background(shot.background, size, rng)
    _draw_doll(picture, look, shot, rng)
    return picture.resize(size, Image.Resampling.BOX)


def draw_sprite(
    look: Character, shot: Shot, size: tuple[int, int], rng: random.Random
) -> Image.Image:
    """The same doll as an RGBA cut-out on nothing."""
    large = (size[0] * SUPERSAMPLE, size[1] * SUPERSAMPLE)
    picture = Image.new("RGBA", large, (0, 0, 0, 0))
    _draw_doll(picture, look, shot, rng)
    return picture.resize(size, Image.Resampling.BOX)


def _draw_doll(
    picture: Image.Image, look: Character, shot: Shot, rng: random.Random, at: float | None = None
) -> None:
    pen = Pen(ImageDraw.Draw(picture), *_window(look, shot, picture.size, rng))
    if at is not None:
        pen.origin = (picture.size[0] * at, pen.origin[1])
    pen.draw.fontmode = "L"
    palette = _palette(look, rng)
    turn = {"from side": 0.34, "from behind": 0.0}.get(shot.view, rng.uniform(-0.05, 0.05))
    one_eyed = (
        look.bangs == "hair over one eye" or look.eyewear == "eyepatch"
    )  # keep the free eye in sight
    turn = -turn if shot.flip and not one_eyed else turn
    if shot.view == "from behind":
        _figure_from_behind(pen, look, shot, palette)
    else:
        _figure(pen, look, shot, palette, turn)


def draw_pair(
    one: Character, other: Character, shot: Shot, size: tuple[int, int], rng: random.Random
) -> Image.Image:
    """Two dolls side by side, as in a picture that still needs cleaning."""
    picture = background(shot.background, size, rng)
    for look, at in ((one, 0.28), (other, 0.72)):
        _draw_doll(picture, look, shot, rng, at)
    return picture.resize(size, Image.Resampling.BOX)


def _window(
    look: Character, shot: Shot, size: tuple[int, int], rng: random.Random
) -> tuple[float, Point]:
    """Scale (pixels a unit) and origin (pixels of the middle of the head) for the framing."""
    top = {"witch hat": -2.25, "rabbit ears": -2.2}.get(look.headwear or look.ears, -1.6)
    feet = 2.3 + 1.75 * look.leg_length
    low, high, half = {
        "portrait": (top, 1.45, 1.45),
        "upper body": (top, 2.28, 1.75),
        "full body": (top, feet + 0.1, 1.95),
    }[shot.framing]
    width, height = size[0], size[1]
    margin = rng.uniform(1.02, 1.12) if shot.framing == "full body" else rng.uniform(0.97, 1.04)
    scale = min(height / ((high - low) * margin), width / (2 * half))
    spare = width / scale - 2 * half
    x = width / 2 + rng.uniform(-0.3, 0.3) * max(0, spare) * scale
    bottom_gap = (margin - 1) / 2 * (high - low) if shot.framing == "full body" else 0
    y = height - (high + bottom_gap) * scale
    return scale, (x, y)


def _palette(look: Character, rng: random.Random) -> Palette:
    skin = (139, 90, 60) if look.skin == "dark skin" else (252, 223, 200)
    jitter = rng.uniform(0.97, 1.02)
    skin = rgb(c * jitter for c in skin)
    legs = {"black": (45, 44, 54), "white": (240, 240, 245)}.get(
        look.legwear.split(" ")[0], (60, 66, 96)
    )
    shoes = {"boots": (116, 70, 42), "shoes": (52, 46, 56), "sandals": (176, 122, 66)}.get(
        look.footwear, skin
    )
    keyed = random.Random(
        look.hair_color + look.top_color
    )  # a character wears the same accent in every picture
    accent = named(keyed.choice(("red", "blue", "yellow", "green")), keyed)
    return Palette(
        hair=named(look.hair_color, rng),
        eyes=named(look.eye_color, rng),
        skin=skin,
        top=named(look.top_color, rng),
        bottom=named(look.bottom_color or look.top_color, rng),
        accent=accent,
        legs=legs,
        shoes=shoes,
    )


def _figure(pen: Pen, look: Character, shot: Shot, palette: Palette, turn: float) -> None:
    if look.tail:
        clothes.tail(pen, palette)
    head.back_hair(pen, look, palette)
    if look.trim == "cape":
        clothes.cape(pen, palette)
    clothes.legs(pen, look, palette)
    clothes.torso(pen, look, palette)
    if look.trim == "apron":
        clothes.apron(pen, look)
    clothes.arms(pen, look, shot, palette)
    clothes.neck(pen, look, palette)
    head.ears_behind(pen, look, palette)
    head.skull(pen, palette.skin)
    if look.ears == "pointy ears":
        pen.pair([(0.78, -0.1), (1.3, -0.3), (0.82, 0.2)], palette.skin, curved=False)
    head.face(pen, look, shot, palette, turn)
    head.front_hair(pen, look, palette, turn)
    head.eyewear(pen, look, turn)
    head.hair_style_front(pen, look, palette)
    head.ears_front(pen, look, palette)
    head.headwear(pen, look, palette)
    head.ornament(pen, look, palette)


def _figure_from_behind(pen: Pen, look: Character, shot: Shot, palette: Palette) -> None:
    clothes.legs(pen, look, palette)
    clothes.torso_back(pen, look, palette)
    clothes.arms(pen, look, shot, palette)
    if look.tail:
        clothes.tail(pen, palette)
    if look.trim == "cape":
        clothes.cape(pen, palette)
    if look.neck == "scarf":
        pen.shape(
            [(-0.62, 1.0), (0, 1.12), (0.62, 1.0), (0.66, 1.32), (0, 1.46), (-0.66, 1.32)],
            palette.accent,
        )
    head.ears_behind(pen, look, palette)
    if look.ears == "pointy ears":
        pen.pair([(0.78, -0.1), (1.3, -0.3), (0.82, 0.2)], palette.skin, curved=False)
    head.skull(pen, palette.hair)
    head.back_hair(pen, look, palette)
    pen.arc(0, -0.45, 0.75, 0.5, 215, 325, shade(palette.hair, 1.7), 0.09)
    head.hair_style_front(pen, look, palette)
    head.ears_front(pen, look, palette)
    head.headwear(pen, look, palette)
    head.ornament(pen, look, palette)
