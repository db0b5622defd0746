"""The pictures that a page shows, each with the addresses where it may be had."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

from ..visitor import is_address
from .variants import suffix_of

SMALL = 100  # pixels, as the page states it: what is smaller is an icon
ICONS = re.compile(
    r"favicon|[/_-]icons?[/_.-]|[/_-]logo|spacer|/emoji|/smil(?:ey|ie)s?/|blank\.gif|pixel\.gif",
    re.IGNORECASE,
)
NO_PICTURES = (".svg", ".ico")
LARGE = ("data-full", "data-original", "data-large", "data-zoom-image")
LAZY = ("data-src", "data-lazy-src", "data-image")  # what is shown once it is scrolled to
SOCIAL = ("og:image", "og:image:url", "twitter:image")


@dataclass(frozen=True)
class Shown:
    """A picture on a page: its addresses from the largest to the one that is shown, which is the
    last. Addresses are full, unless the page does not know where it is from.
    """

    urls: tuple[str, ...]


@dataclass
class Page:
    """What was found: pictures in the order of the page, and how many icons were skipped."""

    pictures: list[Shown] = field(default_factory=list)
    icons: int = 0


def read_page(html: str, base: str = "") -> Page:
    """The pictures of a page that lies at `base`; a saved page may say itself where it is from."""
    reader = _Reader(base)
    reader.feed(html)
    reader.close()
    return reader.result()


class _Reader(HTMLParser):
    def __init__(self, base: str) -> None:
        super().__init__(convert_charrefs=True)
        self.base = base
        self.link = ""  # of the <a> that is open
        self.linked = False  # whether that link was taken by a picture in it
        self.sources: list[str] = []  # of the <picture> that is open
        self.found: dict[str, Shown] = {}  # by the address that is shown
        self.social: list[str] = []
        self.icons = 0

    def handle_comment(self, data: str) -> None:
        """Browsers note where a page was saved from."""
        if found := re.match(r"\s*saved from url=\(\d+\)(https?://\S+)", data):
            self.base = self.base or found[1]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: (value or "").strip() for name, value in attrs}
        if tag == "base" and values.get("href"):
            self.base = self._full(values["href"]) or self.base
        elif tag == "a":
            self.link, self.linked = values.get("href", ""), False
        elif tag == "picture":
            self.sources = []
        elif tag == "source":
            self.sources += _widest_first(values.get("srcset", ""))
        elif tag == "img":
            self._image(values)
        elif tag == "meta" and values.get("property", values.get("name")) in SOCIAL:
            self.social.append(values.get("content", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            if self.link and not self.linked and suffix_of(self._full(self.link)):
                self._add([self.link])
            self.link = ""
        elif tag == "picture":
            self.sources = []

    def _image(self, values: dict[str, str]) -> None:
        linked = bool(suffix_of(self._full(self.link)))
        if _small(values) and not linked:
            self.icons += 1
            return
        src, lazy = values.get("src", ""), [values[name] for name in LAZY if values.get(name)]
        if lazy and urlsplit(self._full(src)).scheme:
            src = ""  # a placeholder; in a saved page it is the picture that was scrolled to
        urls = [self.link] if linked else []
        urls += [values[name] for name in LARGE if values.get(name)]
        urls += _widest_first(values.get("srcset", "") or values.get("data-srcset", ""))
        self.linked = self._add([*urls, *self.sources, *lazy, src]) or self.linked

    def _add(self, urls: list[str]) -> bool:
        """Notes a picture; False if none of its addresses is one."""
        full = [self._full(url) for url in urls if url and not url.startswith("data:")]
        kept = [url for url in dict.fromkeys(full) if url and _may_be_picture(url)]
        self.icons += bool(full) and not kept
        if kept:
            self.found.setdefault(kept[-1], Shown(tuple(kept)))
        return bool(kept)

    def _full(self, url: str) -> str:
        """A full address as far as the page knows where it is; '' for what is none."""
        try:
            full = urljoin(self.base, url) if url else ""
            return full if is_address(full) or not urlsplit(full).scheme else ""
        except ValueError:
            return ""

    def result(self) -> Page:
        """The page's own choice of a picture counts where it shows no other."""
        if not self.found:
            for url in self.social:
                self._add([url])
        return Page(
            list({shown.urls[0]: shown for shown in self.found.values()}.values()), self.icons
        )


def _widest_first(srcset: str) -> list[str]:
    """The addresses of `a.jpg 1x, b.jpg 2x` or `a.jpg 300w, b.jpg 900w`, the largest first."""
    rows = []
    for part in re.split(r",\s+", srcset.strip()):
        url, _, size = part.strip().rstrip(",").partition(" ")
        number = re.match(r"\d+(?:\.\d+)?", size.strip())
        if url:
            rows.append((float(number[0]) if number else 1.0, url))
    return [url for _, url in sorted(rows, key=lambda row: -row[0])]


def _small(values: dict[str, str]) -> bool:
    sides = [re.match(r"\d+", values.get(side, "")) for side in ("width", "height")]
    return any(side and int(side[0]) < SMALL for side in sides)


def _may_be_picture(url: str) -> bool:
    return not urlsplit(url).path.lower().endswith(NO_PICTURES) and not ICONS.search(url)
