"""Pictures from addresses, from pages, from pages saved in a browser, and from whatever gallery-dl
knows.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar
from urllib.parse import urlsplit

import requests

from ...errors import CollectError
from ...progress import Progress, silent, track
from ...settings import check, setting
from .. import Source
from ..finds import Find, Offer
from ..visitor import BROWSER, LARGEST, Call, Denied, Visitor, is_address
from . import gallery
from .page import Page, Shown, read_page
from .picture import Taker
from .robots import Robots
from .saved import ARCHIVES, PAGES, Bytes, decode, open_saved
from .variants import PICTURES, larger, suffix_of


@dataclass(frozen=True)
class LinkSettings:
    """Pictures from addresses and pages."""

    SECTION: ClassVar[str] = "links"

    limit: int = setting(500, "At most so many pictures of a page", unit="pictures", low=1)
    smallest: int = setting(
        256, "Leave out what has a shorter side than this; 0: nothing", unit="pixels", low=0
    )
    full_size: bool = setting(
        True, "Look for the full size of what a page shows small, before taking the small one"
    )
    gallery_dl: bool = setting(
        True, "Let gallery-dl, if it is installed, read the pages that it knows", advanced=True
    )
    pace: float = setting(
        1.0,
        "Time between two requests to the same site",
        unit="seconds",
        low=0.1,
        high=60,
        advanced=True,
    )

    def __post_init__(self) -> None:
        check(self)


def look(settings: LinkSettings, items: Sequence[str], progress: Progress = silent) -> Offer:
    """What the items have: addresses of pictures or pages, text files with such addresses, saved
    pages. Pages are fetched, pictures are not. Raises CollectError if there is nothing at all.
    """
    reader = _Reader(settings)
    places = [place for item in items for place in expand(item)]
    for place in track(places, "Reading pages", progress):
        try:
            reader.read(place)
        except CollectError as error:
            reader.problems.append(str(error))
    if not reader.finds:
        said = reader.problems or ["There is no picture in what was given.", *reader.notes]
        raise CollectError(" ".join(said))
    return Offer(reader.finds, [*reader.notes, *reader.problems])


def expand(item: str) -> list[str | Path]:
    """An item as addresses and saved pages; a text file is read. Raises CollectError."""
    if is_address(item):
        return [item]
    path = Path(item).expanduser()
    if not path.is_file():
        raise CollectError(
            f"'{item}' is no file, and no address that begins with https:// or http://. Give "
            "addresses, text files with an address a line, or saved pages (.html, .mhtml)."
        )
    if path.suffix.lower() in PAGES | ARCHIVES:
        return [path]
    if path.suffix.lower() in PICTURES | {".zip"}:
        raise CollectError(f"{path} is no list of addresses; 'collect archives' takes such files.")
    return list(_lines(path))


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CollectError(f"{path} cannot be read as a text file ({error}).") from error
    kept = []
    for number, line in enumerate(lines, 1):
        word = line.strip()
        if not word or word.startswith("#"):
            continue
        if not is_address(word):
            raise CollectError(f"{path}, line {number}: '{word[:80]}' is no address.")
        kept.append(word)
    return kept


@dataclass
class _Reader:
    """Reads one place after the other; what is found and said adds up."""

    settings: LinkSettings
    finds: list[Find] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.visitor = Visitor(self.settings.pace)
        self.robots = Robots(self.visitor)
        self.taker = Taker(self.visitor, self.settings.smallest)

    def read(self, place: str | Path) -> None:
        """Raises CollectError for a place that has nothing."""
        if isinstance(place, Path):
            self._saved_page(place)
        elif suffix_of(place):
            self.finds.append(self.taker.find(self._places((place,)), place))
        elif not (self.settings.gallery_dl and self._by_gallery(place)):
            self._page(place)

    def _by_gallery(self, url: str) -> bool:
        """Whether gallery-dl knows that address."""
        if not gallery.program():
            if gallery.needed(url):
                raise CollectError(f"{url} {gallery.INSTALL}")
            return False
        items = gallery.listed(url, self.settings.limit)
        if items is None:
            return False
        pictures = [item for item in items if item.suffix in PICTURES]
        self.finds += [self.taker.found_by_gallery(item) for item in pictures]
        others = len(items) - len(pictures)
        left = f"; {others} other files are left out" if others else ""
        self.notes.append(f"{url}: {len(pictures)} pictures, found by gallery-dl{left}.")
        return True

    def _page(self, url: str) -> None:
        self.robots.check(url)
        try:
            html, kind, final = self.visitor.visit(Call(url), _text)
        except Denied as denied:
            advice = f" {BROWSER}" if denied.status in (401, 403) else ""
            raise CollectError(f"{denied}{advice}") from denied
        if kind.startswith("image/"):
            suffix = mimetypes.guess_extension(kind) or ".png"
            self.finds.append(self.taker.find((url,), url, suffix=suffix))
        elif kind in ("text/html", "application/xhtml+xml"):
            self._pictures(read_page(html, final), url, lambda address: None)
        else:
            raise CollectError(f"{url} is neither a page nor a picture ({kind or 'no type'}).")

    def _saved_page(self, path: Path) -> None:
        opened = open_saved(path)
        self._pictures(opened.page, str(path), opened.saved)

    def _pictures(self, page: Page, name: str, saved: Callable[[str], Bytes | None]) -> None:
        """All that a page shows; `saved` has what a browser kept of it."""
        found = [find for shown in page.pictures if (find := self._find(shown, name, saved))]
        taken = found[: self.settings.limit]
        self.finds += taken
        said = f"{name}: {len(taken)} pictures"
        said += f" of {len(found)} (limit)" if len(found) > len(taken) else ""
        said += f"; {page.icons} icons are left out" if page.icons else ""
        if not found:
            said = f"{name} shows no pictures to a program. {BROWSER}"
        (self.notes if found else self.problems).append(said if not found else f"{said}.")

    def _find(self, shown: Shown, name: str, saved: Callable[[str], Bytes | None]) -> Find | None:
        """What was saved with the page is not fetched once more, but a larger one is."""
        places = self._places(shown.urls)
        kept = next((b for url in reversed(places) if (b := saved(url))), None)
        if kept and shown.urls[-1] in places:
            places = tuple(url for url in places if url != shown.urls[-1])
        urls = tuple(url for url in places if urlsplit(url).scheme)
        return self.taker.find(urls, name, kept) if urls or kept else None

    def _places(self, urls: tuple[str, ...]) -> tuple[str, ...]:
        """Where to look for a picture, the largest first."""
        if not self.settings.full_size:
            return urls[-1:]
        return tuple(dict.fromkeys([*larger(urls[0]), *urls]))


def _text(answer: requests.Response) -> tuple[str, str, str]:
    """A page's text, what kind of thing it is, and where it was found in the end. The body of
    anything else is not fetched.
    """
    kind, _, rest = answer.headers.get("Content-Type", "").partition(";")
    kind = kind.strip().lower()
    if not kind.endswith("html") and not kind.endswith("html+xml"):
        return "", kind, answer.url
    body = b""
    for chunk in answer.iter_content(1 << 16):
        body += chunk
        if len(body) > LARGEST:
            raise CollectError(f"{answer.url} is larger than a page should be.")
    return decode(body, rest.partition("charset=")[2].strip(" \"'")), kind, answer.url


SOURCE = Source(
    "links",
    "Links, saved pages, and what gallery-dl knows",
    "ADDRESS_OR_FILE",
    LinkSettings,
    look,
)
