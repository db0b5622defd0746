"""A picture of a page as something that can be had: from one of several places, the best first."""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from PIL import Image, ImageOps

from ...errors import CollectError, Refused, SaveError
from ...files import write_safely
from ...images import UNREADABLE, picture_size
from ..finds import Find, Origin
from ..transfer import fetch, small
from ..visitor import Call, Visitor
from . import gallery
from .saved import Bytes
from .variants import suffix_of


@dataclass
class Taker:
    """Fetches pictures; what is smaller than `smallest` (pixels, shorter side) is none. Hosts that
    were only guessed and do not answer are not asked again.
    """

    visitor: Visitor
    smallest: int
    silent_hosts: set[str] = field(default_factory=set)

    def find(
        self, urls: tuple[str, ...], page: str, saved: Bytes | None = None, suffix: str = ""
    ) -> Find:
        """A picture at the first of `urls` that has it, else as it was saved with the page."""
        origin = Origin("links", urls[0] if urls else _sum(saved), page)
        shown = partial(_decoded, saved) if saved else self._shown(urls, page)
        name = unquote(PurePosixPath(urlsplit(urls[0]).path).name) if urls else "saved"
        suffix = suffix or next((s for url in urls if (s := suffix_of(url))), "") or ".png"
        write = partial(self._write, urls, page, saved)
        return Find(origin, file_name(name, origin.id, suffix), write, thumbnail=shown)

    def found_by_gallery(self, item: gallery.Item) -> Find:
        """A picture that gallery-dl found."""
        origin = Origin(item.site, item.id, item.page, item.tags)
        name = file_name(f"{item.site}_{item.id}", item.id, item.suffix)
        call = Call(item.url, headers=item.headers)
        return Find(
            origin,
            name,
            partial(self._write_gallery, item),
            thumbnail=partial(small, self.visitor, call),
        )

    def _shown(self, urls: tuple[str, ...], page: str) -> partial[Image.Image]:
        return partial(small, self.visitor, Call(urls[-1], headers=_from(page)))

    def _write(self, urls: tuple[str, ...], page: str, saved: Bytes | None, path: Path) -> None:
        """Raises CollectError with the reason of the last place: the surest."""
        problem: CollectError | None = None
        for place, url in enumerate(urls):
            last = place + 1 == len(urls) and saved is None
            host = urlsplit(url).netloc
            if host in self.silent_hosts and not last:
                continue
            try:
                fetch(self.visitor, Call(url, headers=_from(page)), path)
                return self._check(path)
            except CollectError as error:
                if last:
                    raise
                if isinstance(error, Refused):
                    self.silent_hosts.add(host)
                problem = error
        if saved is None:
            raise problem or CollectError("There is no address of this picture.")
        _decoded(saved)
        try:
            path.write_bytes(saved())
        except OSError as error:
            raise SaveError(f"{path} could not be written ({error.strerror}).") from error
        self._check(path)

    def _write_gallery(self, item: gallery.Item, path: Path) -> None:
        """Fetched as any other picture; where the site does not let us, by gallery-dl."""
        try:
            fetch(self.visitor, Call(item.url, headers=item.headers), path)
        except CollectError:
            gallery.download(item, path)
        self._check(path)

    def _check(self, path: Path) -> None:
        width, height = picture_size(path)
        if min(width, height) < self.smallest:
            path.unlink()
            raise CollectError(f"it has {width} x {height} pixels, less than smallest")
        with Image.open(path) as image:  # an address without a suffix does not tell its kind
            if path.suffix == ".png" and image.format != "PNG":
                upright = ImageOps.exif_transpose(image)
                write_safely(path, lambda part: upright.save(part, "PNG"))


def file_name(text: str, id: str, suffix: str) -> str:
    """A name that any file system takes, made from what the picture is called and its id."""
    stem = re.sub(r"[^\w.()-]+", "_", text.removesuffix(suffix)).strip("._") or "picture"
    mark = hashlib.sha256(id.encode()).hexdigest()[:8]
    return f"{stem[:60]}-{mark}{'.jpg' if suffix == '.jpeg' else suffix}"


def _from(page: str) -> dict[str, str]:
    return {"Referer": page} if page.startswith("http") else {}


def _sum(saved: Bytes | None) -> str:
    """What tells a saved picture from others: pages call theirs image1.jpg, all of them."""
    return "sha256:" + hashlib.sha256(saved() if saved else b"").hexdigest()


def _decoded(saved: Bytes) -> Image.Image:
    """Raises CollectError for what is not a whole picture."""
    try:
        with Image.open(io.BytesIO(saved())) as image:
            image.load()
            return image.copy()
    except UNREADABLE as error:
        raise CollectError(
            f"What was saved with the page is no whole picture ({error})."
        ) from error
