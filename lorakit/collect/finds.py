"""What a source offers: pictures that are not fetched yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image


@dataclass(frozen=True)
class Origin:
    """Where a picture came from: the source ('danbooru'), what it is called there (two pictures of
    a source never share it), its page or file, and the tags it came with.
    """

    source: str
    id: str
    link: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Find:
    """A picture that can be had.

    `name` is the file name it gets, with suffix; it is made from source and id, so that the same
    picture has the same name every time. `write(path)` fetches or makes it: it writes the file, or
    raises CollectError saying why this one cannot be had. `size` is (width, height) if it is known,
    `thumbnail` gives a small picture for the preview; `caption`, and the mask that `mask(path)`
    writes, come along if there are any.
    """

    origin: Origin
    name: str
    write: Callable[[Path], object]
    size: tuple[int, int] | None = None
    thumbnail: Callable[[], Image.Image] | None = None
    caption: str | None = None
    mask: Callable[[Path], object] | None = None
    folder: str = ""  # below dataset/, '' for dataset/ itself


@dataclass(frozen=True)
class Offer:
    """All that a source offers, in the order in which it is best fetched; `notes` are sentences for
    the user: what was left out and why, licences, what to do next.
    """

    finds: list[Find]
    notes: list[str] = field(default_factory=list)
