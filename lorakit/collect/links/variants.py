"""From the address of a small picture to those where its full size may be."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath
from urllib.parse import urlsplit

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".avif", ".tif", ".tiff"}
Replacement = str | Callable[[re.Match[str]], str]
# (what the address of a small picture looks like, the address of the large one); found by looking
# at what these sites and programs serve (facts/datasets.md, section 2, for fancaps)
RULES: tuple[tuple[str, Replacement], ...] = (
    # fancaps.net: small ones on hosts of their own, large ones by number on cdni
    (
        r"^https?://(anime|tv|movie)thumbs\.fancaps\.net/(\d+\.\w+)$",
        r"https://cdni.fancaps.net/file/fancaps-\1images/\2",
    ),
    (
        r"^https?://(anime|tv|movie)thumbs\.fancaps\.net/(\d+\.\w+)$",
        lambda found: (
            f"https://{ {'anime': 'an', 'tv': 'tv', 'movie': 'mv'}[found[1]] }cdn.fancaps.net/"
            f"{found[2]}"
        ),
    ),
    # MediaWiki: /thumb/a/ab/Name.png/300px-Name.png
    (r"^(.+)/thumb/(\w/\w\w/[^/]+)/[^/]*\d+px-[^/]+$", r"\1/\2"),
    # Fandom: .../Name.png/revision/latest/scale-to-width-down/300?cb=1
    (r"^(.+/revision/latest)/(?:scale-to|thumbnail|smart|top-crop|zoom-crop)[^?]*", r"\1"),
    # X and pinterest
    (r"^(https?://pbs\.twimg\.com/media/.+[?&]name=)\w+", r"\1orig"),
    (r"^(https?://i\.pinimg\.com)/\d+x\d*/", r"\1/originals/"),
    # WordPress: name-300x200.jpg
    (r"^(.+?)-\d{2,4}x\d{2,4}(\.\w+(?:\?.*)?)$", r"\1\2"),
    # words that many galleries put into names and folders
    (r"^(.+/)(?:thumb|thumbnail|small|preview)_([^/]+)$", r"\1\2"),
    (r"^(.+/[^/]+?)[_-](?:thumb|thumbnail|small|preview)(\.\w+(?:\?.*)?)$", r"\1\2"),
    (r"^(https?://[^/]+/.*?)/(?:thumbs|thumbnails|small)/(.+)$", r"\1/\2"),
    (r"^(https?://[^/]+/.*?)/(?:thumbs|thumbnails|small)/(.+)$", r"\1/images/\2"),
)


def larger(url: str) -> list[str]:
    """Addresses where a larger version may be, the likeliest first. None of them is sure."""
    found = [re.sub(pattern, to, url) for pattern, to in RULES if re.search(pattern, url)]
    return [each for each in dict.fromkeys(found) if each != url]


def suffix_of(url: str) -> str:
    """The suffix of a picture's address, '' where it does not look like one. MediaWiki and Fandom
    write more after the name.
    """
    path = urlsplit(url).path
    for step in reversed(PurePosixPath(path).parts):
        if (suffix := PurePosixPath(step).suffix.lower()) in PICTURES:
            is_name = path.endswith(step) or "/revision/" in path
            return suffix if is_name else ""
    return ""
