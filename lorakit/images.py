"""Image files as they are meant to be seen: upright, the first frame, nothing transparent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageOps

from .errors import DatasetError

TRANSPARENT = ("RGBA", "LA", "PA")  # Pillow's modes with an alpha channel
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    RuntimeError,
    Image.DecompressionBombError,
)  # what Pillow raises
ORIENTATION = 0x0112  # the EXIF tag that says how a picture is to be turned


def open_image(path: Path, backdrop: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    """The picture as RGB: first frame, turned as its EXIF says, transparency laid over `backdrop`.

    Raises DatasetError for a file that is not a whole picture.
    """
    return flatten(_upright(path), backdrop)


def open_alpha(path: Path) -> Image.Image | None:
    """How opaque the picture is, as an 8-bit grey picture turned as its EXIF says; None if it has
    no transparency. Raises DatasetError.
    """
    image = _upright(path)
    return image.convert("RGBA").getchannel("A") if _transparent(image) else None


def _upright(path: Path) -> Image.Image:
    with _opened(path) as image:
        image.load()
        return ImageOps.exif_transpose(image)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image file, its header read. What goes wrong with it is a DatasetError."""
    try:
        with Image.open(path) as image:
            yield image
    except UNREADABLE as error:
        raise DatasetError(
            f"{path} cannot be read as a picture ({error}). Remove or replace it."
        ) from error


def _transparent(image: Image.Image) -> bool:
    return image.mode in TRANSPARENT or "transparency" in image.info


def flatten(image: Image.Image, backdrop: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    """`image` as RGB, what is transparent laid over `backdrop` (dropping alpha would show the
    colours it hides).
    """
    if _transparent(image):
        rgba = image.convert("RGBA")
        flat = Image.new("RGBA", rgba.size, (*backdrop, 255))
        return Image.alpha_composite(flat, rgba).convert("RGB")
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would cut off at 255: all white
        return image.convert("I").point(lambda value: value * (1 / 257)).convert("L").convert("RGB")
    return image.convert("RGB")


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height as the picture is meant to be seen, read from its header alone. Raises
    DatasetError.
    """
    with _opened(path) as image:
        turned = image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8)
        return (image.height, image.width) if turned else image.size


def has_alpha(path: Path) -> bool:
    """Whether the picture may be transparent somewhere, from its header alone. Raises
    DatasetError.
    """
    with _opened(path) as image:
        return _transparent(image)
