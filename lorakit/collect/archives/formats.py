"""Kinds of picture files: which can be read here, and which become PNG because training cannot."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from PIL import Image, ImageOps, UnidentifiedImageError, features

from ...dataset import SUFFIXES
from ...errors import CollectError, LorakitError
from ...images import UNREADABLE
from ...install import ensure
from ...progress import Progress
from .members import Member

HEIF = (".heic", ".heif", ".hif")
CONVERTED = {*HEIF, ".jxl", ".gif"}  # a GIF may move: its first frame is kept
PICTURES = SUFFIXES | CONVERTED
VIDEOS = {".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".wmv", ".flv", ".mpg", ".mpeg", ".ts"}
OTHER_ARCHIVES = {".rar", ".7z", ".tar", ".gz", ".tgz", ".xz", ".bz2", ".zst", ".cbr", ".lzh"}
PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I")


def unreadable(suffixes: Iterable[str], progress: Progress) -> dict[str, str]:
    """Those of `suffixes` that cannot be read here, each with the reason. What HEIC and JPEG XL
    need is installed.
    """
    found = set(suffixes)
    reasons = {}
    if ".avif" in found and not features.check("avif"):
        reasons[".avif"] = "AVIF files, which this Pillow cannot read: update it to 11.3 or newer"
    for suffix in found & set(HEIF):
        if reason := _install("pillow-heif>=0.22", "10 MB", "HEIC", progress):
            reasons[suffix] = reason
    if ".jxl" in found and (
        reason := _install("pillow-jxl-plugin>=1.3", "4 MB", "JPEG XL", progress)
    ):
        reasons[".jxl"] = reason
    return reasons


def _install(requirement: str, size: str, kind: str, progress: Progress) -> str:
    """Makes Pillow read a kind; returns '' or why it cannot."""
    try:
        ensure(requirement, size, progress)
        if kind == "HEIC":
            import pillow_heif

            pillow_heif.register_heif_opener()
        else:
            import pillow_jxl  # noqa: F401  importing it registers it
    except (LorakitError, ImportError) as error:
        return f"{kind} files, which need the package {requirement}: {error}".rstrip(".")
    return ""


def target_name(name: str) -> str:
    """The file name that a picture gets in the dataset."""
    path = Path(name)
    return path.stem + ".png" if path.suffix.lower() in CONVERTED else name


def copy(member: Member, path: Path) -> None:
    """Writes the member's picture to `path`: byte for byte, or as PNG. Raises CollectError and
    leaves nothing half.
    """
    try:
        with member.open() as stream, path.open("wb") as file:
            if member.suffix in CONVERTED:
                _as_png(member, stream, file)
            else:
                shutil.copyfileobj(stream, file, 1 << 20)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _as_png(member: Member, stream: IO[bytes], file: IO[bytes]) -> None:
    """The first frame, upright."""
    try:
        with Image.open(io.BytesIO(stream.read())) as image:
            upright = ImageOps.exif_transpose(image)
            mode = "RGBA" if upright.mode in ("PA", "La", "RGBa") else "RGB"
            plain = upright if upright.mode in PNG_MODES else upright.convert(mode)
            plain.save(file, "PNG")
    except UNREADABLE as error:
        raise _damaged(member, error) from error


def _damaged(member: Member, error: Exception) -> CollectError:
    """Pillow names the object that it reads from when it knows no format: that is left out."""
    known = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
    return CollectError(f"{member.link} is no picture, or damaged{known}")


def thumbnail(member: Member, side: int = 360) -> Image.Image:
    """A small picture, upright. Raises CollectError."""
    with member.open() as stream:
        content = io.BytesIO(stream.read())
    try:
        with Image.open(content) as image:
            image.draft("RGB", (side, side))
            image.thumbnail((side, side))
            return ImageOps.exif_transpose(image)
    except UNREADABLE as error:
        raise _damaged(member, error) from error
