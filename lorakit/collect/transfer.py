"""One picture from the net to its place: gone on with where it broke off, and whole."""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path

import requests
from PIL import Image

from ..errors import CollectError, DatasetError, SaveError
from ..images import UNREADABLE, open_image
from ..web import Again
from .visitor import Call, Visitor

CHUNK = 1 << 16  # bytes read at once: what a broken line loses
WRONG = 3  # whole files with another checksum, after which it is believed that there is no other


def fetch(visitor: Visitor, call: Call, path: Path, md5: str = "") -> None:
    """Writes the picture at that address to `path`. With `md5` (what the source states) what is
    there from an earlier run is gone on with; without, the picture is decoded to see that it is
    whole. Raises CollectError, SaveError.
    """
    try:
        _Transfer(visitor, call, path, md5.lower()).run()
    except OSError as error:
        raise SaveError(
            f"{path} could not be written ({error.strerror or error}). Free some space, then run "
            "again: it goes on."
        ) from error


def small(visitor: Visitor, call: Call) -> Image.Image:
    """A small picture, kept in memory. Raises CollectError."""
    body, _ = visitor.read(call)
    try:
        with Image.open(io.BytesIO(body)) as image:
            image.load()
            return image.copy()
    except UNREADABLE as error:
        raise CollectError(f"{_place(call)} is no picture ({error}).") from error


class _Transfer:
    """The bytes that are at `path`, and getting the others."""

    def __init__(self, visitor: Visitor, call: Call, path: Path, md5: str) -> None:
        self.visitor, self.call, self.path, self.md5 = visitor, call, path, md5
        self.mark = ""  # entity tag or date of the file whose beginning is here
        self.wrong = 0
        if not md5:  # what is here could be the beginning of anything
            path.unlink(missing_ok=True)

    def run(self) -> None:
        self.visitor.persist(self.call.host, self._attempt, self._here)
        if not self.md5:
            self._decode()

    def _here(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def _attempt(self) -> None:
        here = self._here()
        if here and self._right():
            return
        headers = dict(self.call.headers)
        if here:
            headers["Range"] = f"bytes={here}-"
            headers |= {"If-Range": self.mark} if self.mark else {}
        call = Call(self.call.url, self.call.params, headers, self.call.auth, self.call.login)
        try:
            self.visitor.once(call, self._receive)
        except CollectError as error:
            if getattr(error, "status", 0) != 416:
                raise
            self._unfit("it ended sooner than what is here")
        if self.md5 and not self._right():
            self._unfit("its checksum (MD5) is not the one that the site states")

    def _right(self) -> bool:
        """Whether what is here has the checksum that it should have."""
        if not self.md5:
            return False
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest() == self.md5

    def _unfit(self, reason: str) -> None:
        """Begins anew; raises CollectError where that was of no use before."""
        self.path.unlink(missing_ok=True)
        self.wrong += 1
        if self.wrong >= WRONG:
            raise CollectError(f"{_place(self.call)} is not what it should be: {reason}.")
        raise Again(reason)

    def _receive(self, answer: requests.Response) -> None:
        kind = answer.headers.get("Content-Type", "")
        if kind.startswith("text/html"):
            raise CollectError(f"{_place(self.call)} gave a web page in place of a picture.")
        span = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
        goes_on = answer.status_code == 206 and span and int(span[1]) == self._here()
        self.mark = answer.headers.get("ETag", "") or answer.headers.get("Last-Modified", "")
        self.mark = "" if self.mark.startswith("W/") else self.mark
        if not goes_on and answer.status_code == 206:
            self.path.unlink(missing_ok=True)
            raise Again("another part of the file came")
        length, got = int(answer.headers.get("Content-Length") or 0), 0
        with self.path.open("ab" if goes_on else "wb") as file:
            for chunk in answer.iter_content(CHUNK):
                file.write(chunk)
                got += len(chunk)
        if length and got != length:
            raise Again(f"it ended after {got:,} of {length:,} bytes")

    def _decode(self) -> None:
        try:
            open_image(self.path)
        except DatasetError as error:
            self.path.unlink(missing_ok=True)
            raise CollectError(f"{_place(self.call)} is no whole picture.") from error


def _place(call: Call) -> str:
    return call.url.partition("?")[0]
