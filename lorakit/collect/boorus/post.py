"""A post of a booru, the same for every engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import urlsplit

RATINGS = "gsqe"  # general, sensitive, questionable, explicit
STILL = {".jpg", ".jpeg", ".png", ".webp", ".avif", ".bmp"}
MOVES = {
    *("animated", "animated_gif", "animated_png", "video", "ugoira", "animation"),
    *("webm", "mp4", "flash"),
}


@dataclass(frozen=True)
class File:
    """One size in which a picture is there: address, pixels (0: unknown), and the MD5 of the file
    if the site states it.
    """

    url: str
    width: int = 0
    height: int = 0
    md5: str = ""

    @property
    def suffix(self) -> str:
        return PurePosixPath(urlsplit(self.url).path).suffix.lower()

    @property
    def longer(self) -> int:
        return max(self.width, self.height)


@dataclass(frozen=True)
class Post:
    """`rating` holds letters of RATINGS ('gs' where a site has one word for both, '' if it is not
    told), `files` the sizes from the largest to the smallest (empty: none that can be fetched).
    """

    id: int
    tags: frozenset[str]
    rating: str
    score: int
    width: int
    height: int
    parent: int  # 0: none
    files: tuple[File, ...]
    preview: str = ""

    @property
    def moves(self) -> bool:
        """Whether it is a film or an animation."""
        odd = bool(self.files) and self.files[0].suffix not in STILL
        return odd or not MOVES.isdisjoint(self.tags)

    @property
    def family(self) -> int:
        """The post that it is a version of: its parent, or itself."""
        return self.parent or self.id

    def file(self, size: str, largest: int) -> File:
        """The file to fetch: for 'full' the largest whose longer side is at most `largest` pixels
        (0: any), for 'sample' the smallest; where all are larger, the smallest.
        """
        if size == "sample":
            return self.files[-1]
        fitting = [f for f in self.files if not largest or 0 < f.longer <= largest]
        return fitting[0] if fitting else self.files[-1]


def number(value: object) -> int:
    """A whole number out of what a site gives: null, '' and 'abc' are 0."""
    try:
        return int(float(str(value)))
    except (ValueError, OverflowError):
        return 0
