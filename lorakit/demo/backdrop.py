"""The backgrounds of the drawn world."""

from __future__ import annotations

import random

from PIL import Image, ImageDraw

from .pen import SUPERSAMPLE, Color, named, shade


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
