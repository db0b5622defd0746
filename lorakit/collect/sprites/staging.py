"""From a sprite to a picture: enlarged, padded, and put before a background."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageColor

from ...dataset import scan
from ...errors import SettingsError
from ...images import open_image
from .config import SpritesSettings
from .pixels import enlarged, whole_factor
from .slicing import Sprite

TRANSPARENT = "transparent"


@dataclass(frozen=True)
class Backdrop:
    """What is behind a sprite: a colour (red, green, blue, alpha), or a picture file."""

    name: str
    colour: tuple[int, int, int, int] = (0, 0, 0, 0)
    picture: Path | None = None


def backdrops(settings: SpritesSettings) -> list[Backdrop]:
    """What the setting `background` names, in order. Raises SettingsError."""
    found: list[Backdrop] = []
    for name in settings.background:
        path = Path(name).expanduser()
        if name == TRANSPARENT:
            found.append(Backdrop(name))
        elif path.is_dir():
            inside = scan(path)
            if not inside:
                raise SettingsError(f"sprites: background is {name}, a folder without pictures.")
            found += [Backdrop(each.name, picture=each.path) for each in inside]
        elif path.is_file():
            found.append(Backdrop(path.name, picture=path))
        else:
            found.append(Backdrop(name, _colour(name)))
    return found


def _colour(name: str) -> tuple[int, int, int, int]:
    try:
        red, green, blue, *_ = ImageColor.getrgb(name)
    except ValueError as error:
        raise SettingsError(
            f"sprites: background '{name}' is no colour and no file or folder. Give a colour "
            "(white, #88aacc), 'transparent', or the path of a picture."
        ) from error
    return red, green, blue, 255


def staged(sprite: Sprite, backdrop: Backdrop, settings: SpritesSettings) -> Image.Image:
    """The picture to train on, RGB, or RGBA where it stays transparent. Raises DatasetError."""
    if backdrop.picture:
        return _standing(sprite, open_image(backdrop.picture), settings)
    figure = scaled(sprite, settings.side)
    width, height = figure.size
    if settings.square:
        width = height = max(width, height, settings.side if sprite.is_pixel_art else 0)
    stage = Image.new("RGBA", (width, height), backdrop.colour)
    stage.alpha_composite(figure, ((width - figure.width) // 2, (height - figure.height) // 2))
    return stage if backdrop.name == TRANSPARENT else stage.convert("RGB")


def scaled(sprite: Sprite, side: int) -> Image.Image:
    """The sprite with its longer side near `side`: pixel art by a whole factor, painted ones with
    Lanczos. 0 leaves it as it is.
    """
    image = Image.fromarray(sprite.pixels)
    if not side:
        return image
    if sprite.is_pixel_art:
        return Image.fromarray(enlarged(sprite.pixels, whole_factor(sprite.pixels, side)))
    ratio = side / max(image.size)
    return _resized(image, ratio)


def _resized(image: Image.Image, ratio: float) -> Image.Image:
    """With Lanczos. Colours are weighted by opacity, or what is transparent would darken the
    outline.
    """
    size = (max(1, round(image.width * ratio)), max(1, round(image.height * ratio)))
    return image.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")


def _standing(sprite: Sprite, scene: Image.Image, settings: SpritesSettings) -> Image.Image:
    """The sprite on the lower edge of a picture, in the middle, as visual novels show it."""
    room = settings.standing * scene.height
    if sprite.is_pixel_art:
        factor = max(1, int(room // sprite.pixels.shape[0]))
        figure = Image.fromarray(enlarged(sprite.pixels, factor))
    else:
        image = Image.fromarray(sprite.pixels)
        figure = _resized(image, room / image.height)
    left, top = (scene.width - figure.width) // 2, scene.height - figure.height
    stage = Image.new("RGBA", scene.size)
    stage.paste(figure, (left, top))
    return Image.alpha_composite(scene.convert("RGBA"), stage).convert("RGB")
