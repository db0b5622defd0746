"""One file from the net to its place: resumed where it broke off, checked, renamed when whole.

A file that is not what was asked for (a web page in place of a checkpoint, another kind of model)
is told from its first bytes, before the rest is fetched.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import requests

from ..errors import BaseModelError, SaveError
from ..progress import Progress, silent
from ..web import TRANSIENT, Again, Request, get, short
from .tensorfile import Header, NotSafetensors, read_header, whole_header
from .web import PAUSE, TRIES, refuse

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger(__name__)

CHUNK = 1 << 17  # bytes read at once: what a broken line loses
MEGABYTE = 1_000_000
SPARE = 500 * MEGABYTE  # of the disk, left for everything else
Check = Callable[[Header], object]


@dataclass(frozen=True)
class Download:
    """A file to fetch. `size` and `sha256` are what the source states, if it does; `check` looks at
    a safetensors header and raises BaseModelError.
    """

    request: Request
    target: Path
    size: int = 0
    sha256: str = ""
    check: Check | None = None

    @property
    def part(self) -> Path:
        """Where the bytes are while some are missing."""
        return self.target.with_name(f".{self.target.name}.part")


def fetch(download: Download, progress: Progress = silent) -> Path:
    """The file at its target, fetched if it is not there. Progress counts megabytes.

    An interrupted download goes on at the next call. Raises BaseModelError, or SaveError for a full
    disk; what was fetched stays, unless it is wrong.
    """
    target = download.target
    if target.exists():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target):
            if not target.exists():
                _Transfer(download, progress).run()
                os.replace(download.part, target)
                _tag(download.part).unlink(missing_ok=True)
    except requests.RequestException as error:
        raise BaseModelError(f"{download.request.url} cannot be fetched ({error}).") from error
    except OSError as error:
        raise SaveError(
            f"{target} could not be written ({error.strerror or error}). Free some space or choose "
            "another models_folder, then run again: the download goes on."
        ) from error
    return target


class _Wrong(BaseModelError):
    """What comes is not what was asked for: it is not kept."""


class _Transfer:
    """The bytes that are here, their running checksum, and getting the others."""

    def __init__(self, download: Download, progress: Progress) -> None:
        self.download, self.request, self.progress = download, download.request, progress
        self.part, self.done, self.digest = download.part, 0, hashlib.sha256()
        self.failed = 0  # tries in a row without a byte
        self.total, self.expected, self.checked = download.size, download.sha256.lower(), False
        if self.part.exists():
            self._take_up()

    def _take_up(self) -> None:
        """Goes on with what is here, if it can be told later whether it all fits together."""
        if not self.expected and not _tag(self.part).exists():
            return self._restart()
        with self.part.open("rb") as file:
            while chunk := file.read(CHUNK):
                self.digest.update(chunk)
                self.done += len(chunk)

    def run(self) -> None:
        """Tries until all bytes are here, then checks them; what is wrong is deleted."""
        try:
            while not self._try():
                pass
            self._finish()
        except _Wrong as error:
            self._restart()
            raise BaseModelError(str(error)) from error

    def _try(self) -> bool:
        """Whether all is here now. Raises BaseModelError after TRIES tries without a byte."""
        before = self.done
        try:
            self._attempt()
        except TRANSIENT as error:
            self.failed = 1 if self.done > before else self.failed + 1
            if self.failed == TRIES:
                raise BaseModelError(self._broken_off(error)) from error
            log.info("%s: %s; trying again", self.request.url, short(error))
            time.sleep(PAUSE * 2 ** (self.failed - 1))
            return False
        return True

    def _broken_off(self, error: Exception) -> str:
        here = f"; {self.done / 1e9:.1f} GB are here and are kept" if self.done > 1e8 else ""
        return (
            f"{self.request.url} could not be fetched ({short(error)}){here}. Run again when the "
            "connection is back: it goes on where it stopped."
        )

    def _attempt(self) -> None:
        tag = _tag(self.part)
        headers = {"Range": f"bytes={self.done}-"} if self.done else {}
        if self.done and tag.exists():
            headers["If-Range"] = tag.read_text()
        with get(self.request, headers) as answer:
            if answer.status_code == 416:
                return self._beyond_the_end(answer)
            refuse(answer, self.request)
            self._prepare(answer)
            self._receive(answer)

    def _beyond_the_end(self, answer: requests.Response) -> None:
        """There is nothing after what is here: all of it, or of another file."""
        self.total = _number(answer.headers.get("Content-Range", ""), r"/(\d+)$")
        if self.total != self.done:
            self._restart()
            raise Again("the file has changed")

    def _prepare(self, answer: requests.Response) -> None:
        """Learns from the headers what is coming, and whether it continues what is here."""
        if answer.status_code == 206:
            span = answer.headers.get("Content-Range", "")
            self.total = _number(span, r"/(\d+)$")
            goes_on = _number(span, r"bytes (\d+)-") == self.done
        else:
            self.total = int(answer.headers.get("Content-Length") or self.download.size)
            goes_on = not self.done
        for each in (*answer.history, answer):
            found = each.headers.get("X-Linked-Etag", "").strip('W/"').lower()
            if not self.expected and re.fullmatch(r"[0-9a-f]{64}", found):
                self.expected = found
        if not goes_on:
            self._restart()
            if answer.status_code == 206:
                raise Again("another part of the file came")
        if not self.done:
            mark = answer.headers.get("ETag", "") or answer.headers.get("Last-Modified", "")
            _keep_tag(self.part, "" if mark.startswith("W/") else mark)
        self._check_space()

    def _restart(self) -> None:
        self.done, self.digest, self.checked = 0, hashlib.sha256(), False
        self.part.unlink(missing_ok=True)
        _tag(self.part).unlink(missing_ok=True)

    def _check_space(self) -> None:
        free = shutil.disk_usage(self.part.parent).free
        need = self.total - self.done
        if self.total and free < need + min(SPARE, need):
            raise SaveError(
                f"{self.part.parent} has {free / 1e9:.1f} GB free, but {self.download.target.name} "
                f"needs {need / 1e9:.1f} GB and some to spare. Free some space or choose another "
                "models_folder."
            )

    def _receive(self, answer: requests.Response) -> None:
        with self.part.open("ab") as file:
            for chunk in answer.iter_content(CHUNK):
                file.write(chunk)
                self.digest.update(chunk)
                self.done += len(chunk)
                if not self.checked:
                    file.flush()
                    self.checked = self._look()
                self._tell()
        if self.total and self.done != self.total:
            if self.done > self.total:
                self._restart()
            raise Again(f"it ended after {self.done:,} of {self.total:,} bytes")

    def _tell(self) -> None:
        if max(self.total, self.done) > MEGABYTE:  # not every server says how much there is
            self.progress(
                f"Downloading {self.download.target.name} (MB)",
                self.done // MEGABYTE,
                self.total // MEGABYTE,
            )

    def _look(self) -> bool:
        """Whether the beginning is here and right; a wrong file is not fetched any further."""
        if self.download.target.suffix != ".safetensors":
            return True
        try:
            header = read_header(self.part)
            if header and self.download.check:
                self.download.check(header)
        except NotSafetensors as error:
            raise _Wrong(self._not_a_checkpoint(error)) from error
        except BaseModelError as error:
            raise _Wrong(str(error)) from error
        return header is not None

    def _not_a_checkpoint(self, error: Exception) -> str:
        advice = "Get a .safetensors version."
        if "web page" in str(error):
            advice = self.request.login or "Download it in a browser and give its path."
        return f"{self.request.url} gave no safetensors file: {error}. {advice}"

    def _finish(self) -> None:
        """Raises BaseModelError, and deletes what was fetched, if that is not the file."""
        self._look()
        problem = ""
        if self.expected and self.digest.hexdigest() != self.expected:
            problem = "its checksum (SHA-256) is not the one its source states"
        elif self.download.target.suffix == ".safetensors":
            try:
                whole_header(self.part)
            except NotSafetensors as error:
                problem = str(error)
        if problem:
            raise _Wrong(
                f"What came from {self.request.url} is damaged: {problem}. It is deleted; run "
                "again."
            )


def _number(text: str, pattern: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0


def _tag(part: Path) -> Path:
    """The file that keeps the server's mark (ETag) of a half-fetched file: what is added later must
    be of the same one.
    """
    return part.with_name(f"{part.name}.tag")


def _keep_tag(part: Path, mark: str) -> None:
    if mark:
        _tag(part).write_text(mark)
    else:
        _tag(part).unlink(missing_ok=True)


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Only one process at a time fetches a file; the others wait and find it there."""
    lock = target.with_name(f".{target.name}.lock")
    with lock.open("w") as handle:
        if fcntl:
            with suppress(OSError):  # some network drives cannot lock
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    lock.unlink(missing_ok=True)
