"""What the dolls are drawn with: colours, curves, and a pen that speaks doll units."""

from __future__ import annotations

import colorsys
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import ImageDraw

from .world import COLORS

Point = tuple[float, float]
Color = tuple[int, int, int]

SUPERSAMPLE = 3
LINE = 0.055  # width of an outline in doll units


def rgb(channels: Iterable[float]) -> Color:
    red, green, blue = (min(255, round(c)) for c in channels)
    return red, green, blue


def shade(color: Color, factor: float) -> Color:
    """`color` made darker (factor < 1) or lighter (factor > 1)."""
    if factor <= 1:
        return rgb(c * factor for c in color)
    return rgb(255 - (255 - c) / factor for c in color)


def named(name: str, rng: random.Random) -> Color:
    """The colour called `name`, a little different each time."""
    hue, saturation, value = COLORS[name]
    hue = (hue + rng.uniform(-6, 6)) / 360 % 1
    saturation = min(1, max(0, saturation * rng.uniform(0.92, 1.06)))
    value = min(1, max(0, value * rng.uniform(0.94, 1.04)))
    return rgb(255 * c for c in colorsys.hsv_to_rgb(hue, saturation, value))


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
