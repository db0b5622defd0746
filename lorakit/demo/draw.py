"""Draws the dolls of `world.py` with Pillow: flat colours, dark outlines, big eyes, one doll a
picture.

The doll lives in its own units: the middle of the head is (0, 0), the chin is at y = 1, the hips at
2.3 and the soles at about 4. `draw` picks the window of those units that the framing asks for,
draws three times too large and reduces, so that outlines come out smooth.
"""

from __future__ import annotations

import colorsys
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from .world import COLORS, Character, Shot

Point = tuple[float, float]
Color = tuple[int, int, int]

SUPERSAMPLE = 3
LINE = 0.055  # width of an outline in doll units


def _color(channels: Iterable[float]) -> Color:
    red, green, blue = (min(255, round(c)) for c in channels)
    return red, green, blue


def shade(color: Color, factor: float) -> Color:
    """`color` made darker (factor < 1) or lighter (factor > 1)."""
    if factor <= 1:
        return _color(c * factor for c in color)
    return _color(255 - (255 - c) / factor for c in color)


def named(name: str, rng: random.Random) -> Color:
    """The colour called `name`, a little different each time."""
    hue, saturation, value = COLORS[name]
    hue = (hue + rng.uniform(-6, 6)) / 360 % 1
    saturation = min(1, max(0, saturation * rng.uniform(0.92, 1.06)))
    value = min(1, max(0, value * rng.uniform(0.94, 1.04)))
    return _color(255 * c for c in colorsys.hsv_to_rgb(hue, saturation, value))


def smooth(points: Sequence[Point], steps: int = 6) -> list[Point]:
    """A closed Catmull-Rom curve through `points`."""
    curve: list[Point] = []
    for i in range(len(points)):
        a, b, c, d = (points[(i + k) % len(points)] for k in (-1, 0, 1, 2))
        for step in range(steps):
            t = step / steps
            x, y = (_catmull_rom(*axis, t) for axis in zip(a, b, c, d, strict=True))
            curve.append((x, y))
    return curve


def _catmull_rom(a: float, b: float, c: float, d: float, t: float) -> float:
    return 0.5 * (
        2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
    )


@dataclass
class Pen:
    """An ImageDraw that speaks doll units; `mirror` draws the second of two mirrored limbs."""

    draw: ImageDraw.ImageDraw
    scale: float
    origin: Point

    def at(self, points: Sequence[Point]) -> list[Point]:
        ox, oy = self.origin
        return [(ox + x * self.scale, oy + y * self.scale) for x, y in points]

    def shape(
        self, points: Sequence[Point], fill: Color, curved: bool = True, line: Color | None = None
    ) -> None:
        outline = self.at(smooth(points) if curved else points)
        self.draw.polygon(outline, fill=fill)
        width = max(1, round(LINE * self.scale))
        self.draw.line(
            [*outline, outline[0], outline[1]],
            fill=line or shade(fill, 0.45),
            width=width,
            joint="curve",
        )

    def pair(self, points: Sequence[Point], fill: Color, curved: bool = True) -> None:
        """`points` and its mirror image."""
        self.shape(points, fill, curved)
        self.shape([(-x, y) for x, y in points], fill, curved)

    def oval(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        fill: Color,
        line: Color | None | bool = None,
    ) -> None:
        box = [self.at([(x - rx, y - ry)])[0], self.at([(x + rx, y + ry)])[0]]
        width = max(1, round(LINE * self.scale)) if line is not False else 0
        self.draw.ellipse(box, fill=fill, outline=line or shade(fill, 0.45), width=width)

    def stroke(self, points: Sequence[Point], color: Color, width: float = LINE) -> None:
        self.draw.line(
            self.at(points), fill=color, width=max(1, round(width * self.scale)), joint="curve"
        )

    def arc(
        self,
        x: float,
        y: float,
        rx: float,
        ry: float,
        start: int,
        end: int,
        color: Color,
        width: float = LINE,
    ) -> None:
        box = [self.at([(x - rx, y - ry)])[0], self.at([(x + rx, y + ry)])[0]]
        self.draw.arc(box, start, end, fill=color, width=max(1, round(width * self.scale)))


@dataclass(frozen=True)
class Palette:
    """The colours of one picture of one character."""

    hair: Color
    eyes: Color
    skin: Color
    top: Color
    bottom: Color
    accent: Color  # bows, scarf, belt
    legs: Color
    shoes: Color


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
    skin = _color(c * jitter for c in skin)
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


# --- backgrounds ----------------------------------------------------------------------------------


def background(name: str, size: tuple[int, int], rng: random.Random) -> Image.Image:
    """The backdrop called `name`, `SUPERSAMPLE` times `size`."""
    width, height = size[0] * SUPERSAMPLE, size[1] * SUPERSAMPLE
    if name.endswith(" background"):
        color = named(name.removesuffix(" background"), rng)
        pale = color if name.startswith(("white", "grey")) else shade(color, rng.uniform(1.5, 2.0))
        return Image.new("RGB", (width, height), pale)
    top, bottom = {
        "night sky": ((14, 16, 48), (44, 40, 96)),
        "outdoors": ((120, 190, 250), (200, 228, 252)),
        "indoors": ((232, 214, 186), (214, 190, 156)),
        "sunset": ((250, 140, 92), (252, 214, 138)),
    }[name]
    picture = _gradient(top, bottom, (width, height))
    pen = ImageDraw.Draw(picture)
    if name == "night sky":
        _stars(pen, width, height, rng)
    elif name == "outdoors":
        _meadow(pen, width, height, rng)
    elif name == "indoors":
        _room(pen, width, height, rng)
    else:
        _low_sun(pen, width, height, rng)
    return picture


def _gradient(top: Color, bottom: Color, size: tuple[int, int]) -> Image.Image:
    column = Image.new("RGB", (1, 2))
    column.putdata([top, bottom])
    return column.resize(size, Image.Resampling.BILINEAR)


def _stars(pen: ImageDraw.ImageDraw, width: int, height: int, rng: random.Random) -> None:
    for _ in range(14):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.006, 0.012) * width
        pen.ellipse([x - r, y - r, x + r, y + r], fill=(250, 246, 210))
    x, r = rng.choice((0.13, 0.87)) * width, 0.09 * width
    pen.ellipse([x - r, 0.12 * height - r, x + r, 0.12 * height + r], fill=(250, 240, 190))


def _meadow(pen: ImageDraw.ImageDraw, width: int, height: int, rng: random.Random) -> None:
    horizon = rng.uniform(0.6, 0.72) * height
    pen.rectangle([0, horizon, width, height], fill=(112, 182, 84))
    for _ in range(3):
        x, y, r = (
            rng.uniform(0, width),
            rng.uniform(0.05, 0.35) * height,
            rng.uniform(0.05, 0.09) * width,
        )
        for dx in (-1, 0, 1):
            pen.ellipse(
                [x + dx * r - r, y - r * 0.7, x + dx * r + r, y + r * 0.7], fill=(250, 252, 255)
            )


def _room(pen: ImageDraw.ImageDraw, width: int, height: int, rng: random.Random) -> None:
    floor = rng.uniform(0.7, 0.8) * height
    pen.rectangle([0, floor, width, height], fill=(150, 104, 66))
    x, w = rng.choice((0.04, 0.66)) * width, 0.3 * width
    pen.rectangle(
        [x, 0.1 * height, x + w, 0.5 * height],
        fill=(170, 216, 246),
        outline=(120, 84, 56),
        width=max(2, width // 50),
    )
    pen.line(
        [x + w / 2, 0.1 * height, x + w / 2, 0.5 * height],
        fill=(120, 84, 56),
        width=max(2, width // 60),
    )


def _low_sun(pen: ImageDraw.ImageDraw, width: int, height: int, rng: random.Random) -> None:
    x, y, r = rng.uniform(0.1, 0.9) * width, 0.68 * height, 0.16 * width
    pen.ellipse([x - r, y - r, x + r, y + r], fill=(255, 244, 196))
    pen.rectangle([0, 0.74 * height, width, height], fill=(96, 62, 104))


# --- the doll, from the front ---------------------------------------------------------------------


def _figure(pen: Pen, look: Character, shot: Shot, palette: Palette, turn: float) -> None:
    if look.tail:
        _tail(pen, palette)
    _back_hair(pen, look, palette)
    if look.trim == "cape":
        pen.shape(
            [
                (-0.5, 1.1),
                (0.5, 1.1),
                (0.85, 1.8),
                (1.0, 2.7),
                (0, 2.85),
                (-1.0, 2.7),
                (-0.85, 1.8),
            ],
            palette.accent,
        )
    _legs(pen, look, palette)
    _torso(pen, look, palette)
    if look.trim == "apron":
        _apron(pen, look)
    _arms(pen, look, shot, palette)
    _neck(pen, look, palette)
    _ears_behind(pen, look, palette)
    _head(pen, palette.skin)
    if look.ears == "pointy ears":
        pen.pair([(0.78, -0.1), (1.3, -0.3), (0.82, 0.2)], palette.skin, curved=False)
    _face(pen, look, shot, palette, turn)
    _front_hair(pen, look, palette, turn)
    _eyewear(pen, look, turn)
    _hair_style_front(pen, look, palette)
    _ears_front(pen, look, palette)
    _headwear(pen, look, palette)
    _ornament(pen, look, palette)


def _head(pen: Pen, skin: Color) -> None:
    pen.shape(
        [
            (0, -1),
            (0.72, -0.72),
            (0.94, 0),
            (0.72, 0.62),
            (0, 1),
            (-0.72, 0.62),
            (-0.94, 0),
            (-0.72, -0.72),
        ],
        skin,
    )


def _back_hair(pen: Pen, look: Character, palette: Palette) -> None:
    hair = shade(palette.hair, 0.88)
    tied = look.hair_style in (
        "twintails",
        "ponytail",
        "single hair bun",
        "double bun",
        "twin braids",
    )
    low = {"short hair": 0.85, "long hair": 2.0, "very long hair": 3.3}[look.hair_length]
    if tied:
        low = min(low, 0.85)
    wide = 1.12 if low < 1 else 1.22
    pen.shape(
        [
            (0, -1.28),
            (0.85, -0.95),
            (wide, 0),
            (wide, low * 0.7),
            (wide * 0.72, low),
            (0, low - 0.12),
        ]
        + [(-wide * 0.72, low), (-wide, low * 0.7), (-wide, 0), (-0.85, -0.95)],
        hair,
    )
    length = {"short hair": 0.9, "long hair": 1.9, "very long hair": 3.0}[look.hair_length]
    if look.hair_style == "twintails":
        pen.pair(
            [(0.85, -0.6), (1.45, -0.75), (1.75, length * 0.4), (1.5, length), (1.2, length * 0.5)],
            palette.hair,
        )
    elif look.hair_style == "ponytail":
        pen.shape(
            [
                (0.2, -1.2),
                (0.7, -1.6),
                (1.4, -1.2),
                (1.7, length * 0.4),
                (1.45, length),
                (1.15, length * 0.4),
            ],
            palette.hair,
        )
    elif look.hair_style == "twin braids":
        for i in range(round(3 + length * 2)):
            pen.pair(
                [
                    (0.82, 0.55 + i * 0.3),
                    (1.14, 0.55 + i * 0.3),
                    (1.14, 0.9 + i * 0.3),
                    (0.82, 0.9 + i * 0.3),
                ],
                palette.hair,
            )


def _hair_style_front(pen: Pen, look: Character, palette: Palette) -> None:
    if look.hair_style == "single hair bun":
        pen.oval(0, -1.38, 0.42, 0.34, palette.hair)
    elif look.hair_style == "double bun":
        pen.oval(-0.82, -1.05, 0.38, 0.36, palette.hair)
        pen.oval(0.82, -1.05, 0.38, 0.36, palette.hair)
    elif look.hair_style == "twintails":
        pen.oval(-0.98, -0.68, 0.15, 0.17, palette.accent)
        pen.oval(0.98, -0.68, 0.15, 0.17, palette.accent)


def _front_hair(pen: Pen, look: Character, palette: Palette, turn: float) -> None:
    hair = palette.hair
    if look.bangs == "blunt bangs":
        edge = [
            (0.98, 0.3),
            (0.8, 0.28),
            (0.76, -0.26),
            (0, -0.28),
            (-0.76, -0.26),
            (-0.8, 0.28),
            (-0.98, 0.3),
        ]
    elif look.bangs == "parted bangs":
        edge = [
            (0.98, 0.45),
            (0.78, 0.4),
            (0.72, -0.1),
            (0.1 + turn, -0.85),
            (-0.1 + turn, -0.85),
            (-0.72, -0.1),
            (-0.78, 0.4),
            (-0.98, 0.45),
        ]
    else:
        edge = [
            (0.98, 0.35),
            (0.8, 0.3),
            (0.62, -0.3),
            (0.25, -0.5),
            (-0.02, 0.1),
            (-0.3, 0.52),
            (-0.8, 0.6),
            (-0.98, 0.45),
        ]
    crown = [(-1.06, -0.2), (-0.86, -0.88), (0, -1.22), (0.86, -0.88), (1.06, -0.2)]
    pen.shape([*smooth(crown, 4)[:-3], *edge], hair, curved=False)
    pen.arc(0, -0.55, 0.7, 0.4, 215, 325, shade(hair, 1.7), 0.09)


def _face(pen: Pen, look: Character, shot: Shot, palette: Palette, turn: float) -> None:
    dark = (48, 32, 40)
    side = shot.view == "from side"
    for sign in (-1, 1):
        if side and sign * turn > 0.2:
            continue  # turned away: only the near eye is seen
        x = sign * 0.42 + turn * (1.0 if not side else 1.6)
        _eye(pen, shot, palette.eyes, x, 0.16, look.eye_size, dark)
        brow = 0.08 if shot.expression == "frown" else -0.02
        pen.stroke(
            [(x - sign * 0.2, -0.22 + brow), (x + sign * 0.2, -0.22 - brow)],
            shade(palette.hair, 0.6),
            0.06,
        )
        if shot.cheeks == "blush":
            pen.oval(x + sign * 0.2, 0.52, 0.2, 0.1, (246, 142, 142), line=False)
    _mouth(pen, shot.expression, turn * 1.6, dark)


def _eye(pen: Pen, shot: Shot, iris: Color, x: float, y: float, size: float, dark: Color) -> None:
    if shot.eyes == "closed eyes":
        pen.arc(x, y, 0.24, 0.18, 10, 170, dark, 0.09)
        return
    rx, ry = 0.25 * size, 0.33 * size
    pen.oval(x, y, rx, ry, (255, 255, 255), line=dark)
    pen.oval(x, y + 0.03, rx * 0.8, ry * 0.86, iris, line=False)
    pen.oval(x, y + 0.05, rx * 0.3, ry * 0.36, shade(iris, 0.3), line=False)
    pen.oval(x - rx * 0.3, y - ry * 0.4, rx * 0.28, ry * 0.24, (255, 255, 255), line=False)
    pen.arc(x, y, rx * 1.1, ry * 1.05, 190, 350, dark, 0.12)


def _mouth(pen: Pen, expression: str, x: float, dark: Color) -> None:
    if expression == "smile":
        pen.arc(x, 0.56, 0.22, 0.17, 15, 165, dark, 0.07)
    elif expression == "open mouth":
        pen.oval(x, 0.7, 0.17, 0.16, (196, 60, 70), line=dark)
    elif expression == "frown":
        pen.arc(x, 0.86, 0.22, 0.17, 200, 340, dark, 0.07)
    else:
        pen.stroke([(x - 0.12, 0.7), (x + 0.12, 0.7)], dark, 0.06)


def _eyewear(pen: Pen, look: Character, turn: float) -> None:
    if look.eyewear == "glasses":
        frame = (150, 40, 48)
        for sign in (-1, 1):
            pen.arc(sign * 0.42 + turn * 1.3, 0.17, 0.36, 0.34, 0, 360, frame, 0.07)
        pen.stroke([(-0.08 + turn * 1.3, 0.12), (0.08 + turn * 1.3, 0.12)], frame, 0.07)
    elif look.eyewear == "eyepatch":
        pen.stroke([(-0.9, -0.4), (0.9, 0.2)], (30, 26, 34), 0.07)
        pen.shape(
            [(-0.75, -0.12), (-0.12, -0.1), (-0.16, 0.4), (-0.44, 0.56), (-0.72, 0.36)],
            (40, 36, 46),
        )


def _ears_behind(pen: Pen, look: Character, palette: Palette) -> None:
    if look.ears == "rabbit ears":
        pen.pair(
            [(0.2, -0.9), (0.25, -1.8), (0.45, -2.15), (0.62, -1.8), (0.55, -0.9)], (250, 246, 246)
        )
        pen.pair(
            [(0.32, -1.0), (0.36, -1.7), (0.45, -1.95), (0.52, -1.7), (0.45, -1.0)], (250, 186, 196)
        )


def _ears_front(pen: Pen, look: Character, palette: Palette) -> None:
    if look.ears == "cat ears":
        pen.pair([(0.32, -1.08), (0.78, -1.62), (0.98, -0.72)], palette.hair, curved=False)
        pen.pair([(0.5, -1.08), (0.75, -1.42), (0.86, -0.88)], (250, 176, 186), curved=False)
    elif look.ears == "horns":
        pen.pair(
            [(0.4, -1.0), (0.62, -1.28), (0.58, -1.68), (0.9, -1.3), (0.74, -0.86)], (226, 206, 160)
        )


def _headwear(pen: Pen, look: Character, palette: Palette) -> None:
    if look.headwear == "witch hat":
        pen.shape(
            [(-0.72, -0.8), (-0.3, -1.5), (0.15, -2.15), (0.4, -1.4), (0.72, -0.8)],
            (66, 46, 96),
            curved=False,
        )
        pen.oval(0, -0.78, 1.4, 0.24, (66, 46, 96))
        pen.shape(
            [(-0.7, -0.84), (-0.62, -1.04), (0.62, -1.04), (0.7, -0.84)],
            (230, 176, 60),
            curved=False,
        )
    elif look.headwear == "beret":
        pen.shape(
            [(-1.0, -0.75), (-1.1, -1.1), (-0.3, -1.5), (0.75, -1.4), (1.2, -0.95), (0.9, -0.72)],
            (190, 44, 54),
        )
        pen.stroke([(0.05, -1.45), (0.1, -1.65)], (120, 26, 34), 0.1)
    elif look.headwear == "crown":
        points = [
            (-0.6, -0.9),
            (-0.66, -1.5),
            (-0.32, -1.2),
            (0, -1.58),
            (0.32, -1.2),
            (0.66, -1.5),
            (0.6, -0.9),
        ]
        pen.shape(points, (250, 204, 62), curved=False)
    elif look.headwear == "hairband":
        pen.arc(0, 0.05, 1.02, 1.12, 205, 335, (240, 240, 248), 0.2)
    elif look.headwear == "straw hat":
        pen.oval(0, -0.82, 1.5, 0.32, (232, 200, 120))
        pen.shape(
            [(-0.78, -0.8), (-0.72, -1.4), (0, -1.56), (0.72, -1.4), (0.78, -0.8)], (232, 200, 120)
        )
        pen.shape(
            [(-0.8, -0.84), (-0.78, -1.04), (0.78, -1.04), (0.8, -0.84)],
            (196, 60, 60),
            curved=False,
        )


def _ornament(pen: Pen, look: Character, palette: Palette) -> None:
    x, y = -0.72, -0.62
    if look.ornament == "hair bow":
        for sign in (-1, 1):
            pen.shape(
                [(x, y), (x + sign * 0.42, y - 0.3), (x + sign * 0.42, y + 0.26)],
                (226, 48, 76),
                curved=False,
            )
        pen.oval(x, y, 0.12, 0.12, (226, 48, 76))
    elif look.ornament == "hair flower":
        for k in range(5):
            angle = 2 * math.pi * k / 5
            pen.oval(
                x + 0.2 * math.cos(angle), y + 0.2 * math.sin(angle), 0.16, 0.16, (252, 150, 186)
            )
        pen.oval(x, y, 0.12, 0.12, (252, 226, 90), line=False)
    elif look.ornament == "star hair ornament":
        star = [
            (x + r * math.sin(math.pi * k / 5), y - r * math.cos(math.pi * k / 5))
            for k, r in enumerate((0.4, 0.17) * 5)
        ]
        pen.shape(star, (252, 214, 50), curved=False)
    elif look.ornament == "x hair ornament":
        for sign in (-1, 1):
            pen.stroke(
                [(x - 0.24, y - sign * 0.24), (x + 0.24, y + sign * 0.24)], (60, 30, 70), 0.22
            )
            pen.stroke(
                [(x - 0.22, y - sign * 0.22), (x + 0.22, y + sign * 0.22)], (240, 244, 252), 0.12
            )
    elif look.ornament == "crescent hair ornament":
        outer = [(x + 0.46 * math.cos(a / 10), y + 0.46 * math.sin(a / 10)) for a in range(8, 56)]
        inner = [
            (x + 0.2 + 0.33 * math.cos(a / 10), y + 0.33 * math.sin(a / 10))
            for a in range(52, 11, -1)
        ]
        pen.shape([*outer, *inner], (120, 236, 250), curved=False, line=(18, 70, 120))


# --- body and clothes -----------------------------------------------------------------------------


def _neck(pen: Pen, look: Character, palette: Palette) -> None:
    pen.shape(
        [(-0.18, 0.8), (0.18, 0.8), (0.2, 1.26), (-0.2, 1.26)],
        shade(palette.skin, 0.95),
        curved=False,
    )
    accent = palette.accent
    if look.neck == "scarf":
        pen.shape(
            [(-0.62, 1.0), (0, 1.12), (0.62, 1.0), (0.66, 1.32), (0, 1.46), (-0.66, 1.32)], accent
        )
        pen.shape([(0.16, 1.36), (0.46, 1.32), (0.5, 2.0), (0.2, 2.0)], accent, curved=False)
    elif look.neck == "choker":
        pen.shape(
            [(-0.2, 1.0), (0.2, 1.0), (0.21, 1.18), (-0.21, 1.18)], (36, 30, 40), curved=False
        )
    elif look.neck == "necktie":
        pen.shape(
            [(-0.1, 1.24), (0.1, 1.24), (0.17, 1.85), (0, 2.05), (-0.17, 1.85)],
            accent,
            curved=False,
        )
    elif look.neck == "bowtie":
        for sign in (-1, 1):
            pen.shape([(0, 1.32), (sign * 0.36, 1.14), (sign * 0.36, 1.52)], accent, curved=False)
        pen.oval(0, 1.33, 0.09, 0.1, accent)


def _torso(pen: Pen, look: Character, palette: Palette) -> None:
    w = look.width
    body = [
        (-0.5 * w, 1.2),
        (0.5 * w, 1.2),
        (0.42 * w, 1.8),
        (0.5 * w, 2.32),
        (-0.5 * w, 2.32),
        (-0.42 * w, 1.8),
    ]
    top = palette.top
    if look.bottom in ("pants", "shorts", "skirt"):
        _bottom(pen, look, palette)
    pen.shape(body, top, curved=False)
    if look.top == "shirt":
        pen.pair([(0.02, 1.2), (0.3, 1.14), (0.24, 1.42)], shade(top, 1.6), curved=False)
        for y in (1.55, 1.8, 2.05):
            pen.oval(0, y, 0.045, 0.045, shade(top, 0.4), line=False)
    elif look.top == "sweater":
        pen.shape([(-0.26, 1.02), (0.26, 1.02), (0.28, 1.3), (-0.28, 1.3)], top, curved=False)
        pen.shape(
            [(-0.52 * w, 2.16), (0.52 * w, 2.16), (0.52 * w, 2.36), (-0.52 * w, 2.36)],
            shade(top, 0.8),
            curved=False,
        )
        for x in (-0.2, 0, 0.2):
            pen.stroke([(x, 1.4), (x, 2.1)], shade(top, 0.7), 0.04)
    elif look.top == "dress":
        _dress(pen, look, palette)
    elif look.top == "kimono":
        _kimono(pen, look, palette)


def _dress(pen: Pen, look: Character, palette: Palette) -> None:
    w = look.width
    hem = 2.3 + 0.62
    pen.shape(
        [(-0.44 * w, 1.86), (0.44 * w, 1.86), (0.98 * w, hem), (0, hem + 0.1), (-0.98 * w, hem)],
        palette.top,
        curved=False,
    )
    pen.shape(
        [(-0.43 * w, 1.78), (0.43 * w, 1.78), (0.44 * w, 1.96), (-0.44 * w, 1.96)],
        shade(palette.top, 0.55),
        curved=False,
    )
    pen.pair([(0.0, 1.2), (0.4, 1.16), (0.3, 1.4)], (250, 250, 252), curved=False)
    if look.trim == "frills":
        _frills(pen, 0.98 * w, hem)


def _kimono(pen: Pen, look: Character, palette: Palette) -> None:
    w, hem = look.width, 2.3 + 1.15 * look.leg_length
    pen.shape(
        [(-0.46 * w, 1.9), (0.46 * w, 1.9), (0.62 * w, hem), (-0.62 * w, hem)],
        palette.top,
        curved=False,
    )
    pen.stroke([(0.12, 2.1), (0.2, hem)], shade(palette.top, 0.5), 0.05)
    pen.stroke([(0.28, 1.18), (-0.16, 1.75)], (250, 250, 252), 0.13)
    pen.stroke([(-0.28, 1.18), (0.16, 1.75)], (250, 250, 252), 0.13)
    pen.shape(
        [(-0.47 * w, 1.74), (0.47 * w, 1.74), (0.47 * w, 2.12), (-0.47 * w, 2.12)],
        palette.accent,
        curved=False,
    )
    if look.trim == "frills":
        _frills(pen, 0.62 * w, hem)


def _bottom(pen: Pen, look: Character, palette: Palette) -> None:
    w, color = look.width, palette.bottom
    if look.bottom == "skirt":
        pen.shape(
            [(-0.48 * w, 2.15), (0.48 * w, 2.15), (0.86 * w, 2.86), (0, 2.94), (-0.86 * w, 2.86)],
            color,
            curved=False,
        )
        for x in (-0.4, 0, 0.4):
            pen.stroke([(x * 0.6, 2.36), (x * w, 2.86)], shade(color, 0.65), 0.04)
        if look.trim == "frills":
            _frills(pen, 0.86 * w, 2.86)
    else:
        low = 2.3 + (1.5 * look.leg_length if look.bottom == "pants" else 0.4)
        pen.shape(
            [(-0.5 * w, 2.15), (0.5 * w, 2.15), (0.52 * w, 2.5), (-0.52 * w, 2.5)],
            color,
            curved=False,
        )
        pen.pair([(0.02, 2.35), (0.52 * w, 2.35), (0.5 * w, low), (0.06, low)], color, curved=False)


def _frills(pen: Pen, half: float, y: float) -> None:
    count = 7
    for k in range(count):
        pen.oval(
            -half + half * (2 * k + 1) / count, y + 0.02, half / count * 1.15, 0.11, (252, 252, 255)
        )


def _apron(pen: Pen, look: Character) -> None:
    low = 2.75 if look.top == "dress" or look.bottom == "skirt" else 2.6
    white = (250, 250, 252)
    pen.shape(
        [
            (-0.28, 1.5),
            (0.28, 1.5),
            (0.3, 1.85),
            (0.46, 1.9),
            (0.6, low),
            (-0.6, low),
            (-0.46, 1.9),
            (-0.3, 1.85),
        ],
        white,
        curved=False,
    )


def _tail(pen: Pen, palette: Palette) -> None:
    pen.shape(
        [
            (0.1, 2.4),
            (0.9, 2.8),
            (1.25, 2.3),
            (1.5, 1.7),
            (1.72, 1.85),
            (1.5, 2.6),
            (1.05, 3.1),
            (0.2, 2.7),
        ],
        palette.hair,
    )


def _legs(pen: Pen, look: Character, palette: Palette) -> None:
    long = look.leg_length
    sole = 2.3 + 1.6 * long
    pen.pair(
        [
            (0.06, 2.2),
            (0.46, 2.2),
            (0.38, 2.3 + 0.8 * long),
            (0.34, sole),
            (0.1, sole),
            (0.08, 2.3 + 0.8 * long),
        ],
        palette.skin,
        curved=False,
    )
    if look.legwear:
        high = {"black pantyhose": 2.2, "kneehighs": 2.3 + 0.85 * long}.get(
            look.legwear, 2.3 + 0.5 * long
        )
        sock = [
            (0.06, high),
            (0.44 if high < 2.5 else 0.4, high),
            (0.38, 2.3 + 0.95 * long),
            (0.34, sole),
            (0.1, sole),
        ]
        pen.pair(sock, palette.legs, curved=False)
        if look.legwear == "striped thighhighs":
            y = high + 0.1
            while y < sole - 0.1:
                pen.pair(
                    [(0.09, y), (0.38, y), (0.38, y + 0.12), (0.09, y + 0.12)],
                    (246, 246, 250),
                    curved=False,
                )
                y += 0.3
    _feet(pen, look, palette, sole)


def _feet(pen: Pen, look: Character, palette: Palette, sole: float) -> None:
    foot = [
        (0.06, sole - 0.12),
        (0.36, sole - 0.12),
        (0.5, sole + 0.1),
        (0.42, sole + 0.16),
        (0.04, sole + 0.14),
    ]
    if look.footwear == "boots":
        pen.pair(
            [
                (0.04, sole - 0.62),
                (0.42, sole - 0.62),
                (0.4, sole - 0.1),
                (0.54, sole + 0.16),
                (0.02, sole + 0.16),
            ],
            palette.shoes,
            curved=False,
        )
    elif look.footwear == "sandals":
        bare = palette.legs if look.legwear else palette.skin
        pen.pair(foot, bare, curved=False)
        pen.pair(
            [(0.0, sole + 0.1), (0.54, sole + 0.1), (0.54, sole + 0.2), (0.0, sole + 0.2)],
            palette.shoes,
            curved=False,
        )
        pen.stroke([(0.08, sole - 0.02), (0.44, sole + 0.08)], palette.shoes, 0.08)
        pen.stroke([(-0.08, sole - 0.02), (-0.44, sole + 0.08)], palette.shoes, 0.08)
    else:
        pen.pair(foot, palette.shoes, curved=False)


ARMS: dict[str, tuple[tuple[Point, Point, Point], tuple[Point, Point, Point]]] = {
    # shoulder, elbow, hand: of the arm on the left of the picture, then of the other (both given on
    # the right)
    "": (((0.5, 1.32), (0.72, 1.8), (0.76, 2.3)), ((0.5, 1.32), (0.72, 1.8), (0.76, 2.3))),
    "arms up": (((0.5, 1.32), (1.12, 0.95), (1.4, 0.25)), ((0.5, 1.32), (1.12, 0.95), (1.4, 0.25))),
    "hand on own hip": (
        ((0.5, 1.32), (1.12, 1.72), (0.6, 2.12)),
        ((0.5, 1.32), (0.72, 1.8), (0.76, 2.3)),
    ),
    "waving": (((0.5, 1.32), (0.72, 1.8), (0.76, 2.3)), ((0.5, 1.32), (1.15, 1.25), (1.42, 0.5))),
    "arms behind back": (
        ((0.5, 1.32), (0.78, 1.8), (0.48, 2.1)),
        ((0.5, 1.32), (0.78, 1.8), (0.48, 2.1)),
    ),
}


def _arms(pen: Pen, look: Character, shot: Shot, palette: Palette) -> None:
    for sign, joints in zip((-1, 1), ARMS[shot.pose], strict=True):
        if shot.flip:
            joints = ARMS[shot.pose][0 if sign == 1 else 1]
        shoulder, elbow, hand = ((sign * x, y) for x, y in joints)
        if shot.pose == "arms behind back":
            hand = elbow
        _limb(pen, [shoulder, elbow, hand], palette.skin, 0.26)
        if shot.pose != "arms behind back":
            pen.oval(*hand, 0.16, 0.16, palette.skin)
        _sleeve(pen, look, palette, shoulder, elbow, hand)


def _sleeve(
    pen: Pen, look: Character, palette: Palette, shoulder: Point, elbow: Point, hand: Point
) -> None:
    cuff = _between(elbow, hand, 0.82)
    if look.sleeves == "long sleeves":
        _limb(pen, [shoulder, elbow, cuff], palette.top, 0.34)
    elif look.sleeves == "short sleeves":
        _limb(pen, [shoulder, _between(shoulder, elbow, 0.7)], palette.top, 0.42)
    elif look.sleeves == "detached sleeves":
        _limb(pen, [_between(shoulder, elbow, 0.75), elbow, cuff], palette.top, 0.4)
    elif look.sleeves == "wide sleeves":
        _limb(pen, [shoulder, elbow], palette.top, 0.38)
        (ex, ey), (cx, cy) = elbow, cuff
        dx, dy = 0.34, 0.3
        pen.shape(
            [(ex - 0.17, ey - 0.1), (ex + 0.17, ey - 0.1), (cx + dx, cy + dy), (cx - dx, cy + dy)],
            palette.top,
            curved=False,
        )


def _limb(pen: Pen, joints: Sequence[Point], color: Color, width: float) -> None:
    """A rounded limb through `joints`: the outline first, the colour over it."""
    for extra, tint in ((2 * LINE, shade(color, 0.45)), (0.0, color)):
        pen.stroke(joints, tint, width + extra)
        for x, y in joints:
            pen.oval(x, y, (width + extra) / 2, (width + extra) / 2, tint, line=False)


def _between(a: Point, b: Point, t: float) -> Point:
    return a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t


# --- the doll, from behind ------------------------------------------------------------------------


def _figure_from_behind(pen: Pen, look: Character, shot: Shot, palette: Palette) -> None:
    _legs(pen, look, palette)
    _torso_back(pen, look, palette)
    _arms(pen, look, shot, palette)
    if look.tail:
        _tail(pen, palette)
    if look.trim == "cape":
        pen.shape(
            [
                (-0.5, 1.1),
                (0.5, 1.1),
                (0.85, 1.8),
                (1.0, 2.7),
                (0, 2.85),
                (-1.0, 2.7),
                (-0.85, 1.8),
            ],
            palette.accent,
        )
    if look.neck == "scarf":
        pen.shape(
            [(-0.62, 1.0), (0, 1.12), (0.62, 1.0), (0.66, 1.32), (0, 1.46), (-0.66, 1.32)],
            palette.accent,
        )
    _ears_behind(pen, look, palette)
    if look.ears == "pointy ears":
        pen.pair([(0.78, -0.1), (1.3, -0.3), (0.82, 0.2)], palette.skin, curved=False)
    _head(pen, palette.hair)
    _back_hair(pen, look, palette)
    pen.arc(0, -0.45, 0.75, 0.5, 215, 325, shade(palette.hair, 1.7), 0.09)
    _hair_style_front(pen, look, palette)
    _ears_front(pen, look, palette)
    _headwear(pen, look, palette)
    _ornament(pen, look, palette)


def _torso_back(pen: Pen, look: Character, palette: Palette) -> None:
    w = look.width
    if look.bottom:
        _bottom(pen, look, palette)
    body = [
        (-0.5 * w, 1.2),
        (0.5 * w, 1.2),
        (0.42 * w, 1.8),
        (0.5 * w, 2.32),
        (-0.5 * w, 2.32),
        (-0.42 * w, 1.8),
    ]
    pen.shape(body, palette.top, curved=False)
    if look.top == "dress":
        _dress(pen, look, palette)
    elif look.top == "kimono":
        _kimono(pen, look, palette)
