"""The doll's head: face, hair, ears, eyewear, headwear and ornaments."""

from __future__ import annotations

import math

from .pen import Color, Palette, Pen, shade, smooth
from .world import Character, Shot


def skull(pen: Pen, skin: Color) -> None:
    """The bare head; from behind it is all hair."""
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


def back_hair(pen: Pen, look: Character, palette: Palette) -> None:
    """What falls behind the head and shoulders, by length and style."""
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


def hair_style_front(pen: Pen, look: Character, palette: Palette) -> None:
    """Buns on top of the head, ties of twintails."""
    if look.hair_style == "single hair bun":
        pen.oval(0, -1.38, 0.42, 0.34, palette.hair)
    elif look.hair_style == "double bun":
        pen.oval(-0.82, -1.05, 0.38, 0.36, palette.hair)
        pen.oval(0.82, -1.05, 0.38, 0.36, palette.hair)
    elif look.hair_style == "twintails":
        pen.oval(-0.98, -0.68, 0.15, 0.17, palette.accent)
        pen.oval(0.98, -0.68, 0.15, 0.17, palette.accent)


def front_hair(pen: Pen, look: Character, palette: Palette, turn: float) -> None:
    """Bangs and side locks, over the face."""
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


def face(pen: Pen, look: Character, shot: Shot, palette: Palette, turn: float) -> None:
    """Eyes, brows, cheeks and mouth; `turn` moves them to the side."""
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


def eyewear(pen: Pen, look: Character, turn: float) -> None:
    """Glasses or an eyepatch."""
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


def ears_behind(pen: Pen, look: Character, palette: Palette) -> None:
    """Ears that the head covers in part."""
    if look.ears == "rabbit ears":
        pen.pair(
            [(0.2, -0.9), (0.25, -1.8), (0.45, -2.15), (0.62, -1.8), (0.55, -0.9)], (250, 246, 246)
        )
        pen.pair(
            [(0.32, -1.0), (0.36, -1.7), (0.45, -1.95), (0.52, -1.7), (0.45, -1.0)], (250, 186, 196)
        )


def ears_front(pen: Pen, look: Character, palette: Palette) -> None:
    """Ears and horns that sit on the hair."""
    if look.ears == "cat ears":
        pen.pair([(0.32, -1.08), (0.78, -1.62), (0.98, -0.72)], palette.hair, curved=False)
        pen.pair([(0.5, -1.08), (0.75, -1.42), (0.86, -0.88)], (250, 176, 186), curved=False)
    elif look.ears == "horns":
        pen.pair(
            [(0.4, -1.0), (0.62, -1.28), (0.58, -1.68), (0.9, -1.3), (0.74, -0.86)], (226, 206, 160)
        )


def headwear(pen: Pen, look: Character, palette: Palette) -> None:
    """Hats, a crown or a hairband."""
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


def ornament(pen: Pen, look: Character, palette: Palette) -> None:
    """What is pinned into the hair."""
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
