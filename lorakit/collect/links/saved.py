"""Pages that a browser saved: `.html` with a folder of pictures beside it, or one `.mhtml`."""

from __future__ import annotations

import email
import re
from collections.abc import Callable
from dataclasses import dataclass
from email.message import Message
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from ...errors import CollectError
from ..visitor import is_address
from .page import Page, read_page

PAGES = {".html", ".htm", ".xhtml"}
ARCHIVES = {".mhtml", ".mht"}
Bytes = Callable[[], bytes]


@dataclass(frozen=True)
class SavedPage:
    """What the page shows; `saved` gives what reads a picture that was saved with it, or None."""

    page: Page
    saved: Callable[[str], Bytes | None]


def open_saved(path: Path) -> SavedPage:
    """Raises CollectError for what is no saved page."""
    try:
        return _open_mhtml(path) if path.suffix.lower() in ARCHIVES else _open_html(path)
    except OSError as error:
        raise CollectError(f"{path} cannot be read ({error.strerror}).") from error


def _open_html(path: Path) -> SavedPage:
    page = read_page(decode(path.read_bytes()))
    folder = path.parent.resolve()

    def saved(url: str) -> Bytes | None:
        """Of a relative address only, and never from outside the page's folder."""
        parts = urlsplit(url)
        if parts.scheme or parts.netloc or not parts.path:
            return None
        place = (folder / unquote(parts.path)).resolve()
        return place.read_bytes if place.is_relative_to(folder) and place.is_file() else None

    return SavedPage(page, saved)


def _open_mhtml(path: Path) -> SavedPage:
    message = email.message_from_bytes(path.read_bytes())
    pictures: dict[str, bytes] = {}
    html, base = "", _location(message, "Snapshot-Content-Location")
    for part in message.walk():
        place = _location(part, "Content-Location")
        body = part.get_payload(decode=True)
        if not isinstance(body, bytes):
            continue
        if part.get_content_type() == "text/html" and not html:
            html, base = decode(body, part.get_content_charset() or ""), base or place
        elif part.get_content_maintype() == "image":
            pictures[urljoin(base, place)] = body
    if not html:
        raise CollectError(f"{path} holds no page. Save it again as 'complete page' (.html).")
    page = read_page(html, base)
    return SavedPage(
        page, lambda url: partial(pictures.__getitem__, url) if url in pictures else None
    )


def _location(part: Message, header: str) -> str:
    """An address in a header, where long ones go over several lines; '' for none."""
    text = "".join(str(part.get(header, "")).split())
    return text if is_address(text) else ""


def decode(body: bytes, charset: str = "") -> str:
    """A page's text: as the server says, as the page says, else UTF-8."""
    told = re.search(rb"""charset=["']?([\w-]+)""", body[:2048])
    for name in (charset, told[1].decode("ascii") if told else "", "utf-8"):
        try:
            return body.decode(name) if name else body.decode("utf-8")
        except (LookupError, UnicodeDecodeError):
            continue
    return body.decode("latin-1")
