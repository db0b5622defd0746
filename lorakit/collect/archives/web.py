"""Zip files behind ordinary links."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from ... import __version__
from ...errors import CollectError
from ...progress import Progress
from .config import ArchivesSettings
from .members import GB, MB
from .store import place

if TYPE_CHECKING:
    import requests

AGENT = {"User-Agent": f"lorakit/{__version__}"}
TIMEOUT = 60


def fetched(link: str, settings: ArchivesSettings, progress: Progress) -> Path:
    """The zip behind a link, on this machine; a download that was cut off goes on. Raises
    CollectError.
    """
    import requests

    path = place(link).with_suffix(".zip")
    part = path.with_suffix(".part")
    if not path.exists():
        try:
            _download(link, part, settings.max_gb * GB, progress)
        except (requests.RequestException, OSError) as error:
            raise CollectError(
                f"{link} could not be fetched ({error}). What came is kept: run again to go on."
            ) from error
        _keep(link, part, path)
    return path


def _keep(link: str, part: Path, path: Path) -> None:
    """Puts a whole download among the fetched. Raises CollectError for one that is no zip, which is
    deleted: it would be taken for the zip ever after.
    """
    _etag(part).unlink(missing_ok=True)
    if not zipfile.is_zipfile(part):
        part.unlink()
        raise CollectError(
            f"What {link} gives is no zip file, or damaged. Open it in a browser; if the zip is "
            "right there, run again."
        )
    part.replace(path)


def _etag(part: Path) -> Path:
    """The file that tells which version on the site a part is of."""
    return part.with_suffix(".etag")


def _download(link: str, part: Path, most: float, progress: Progress) -> None:
    import requests

    have = part.stat().st_size if part.exists() else 0
    headers = {**AGENT, "Accept-Encoding": "identity"}
    version = _etag(part)
    if have:
        headers["Range"] = f"bytes={have}-"
        if version.exists():  # another version by now comes whole
            headers["If-Range"] = version.read_text()
    with requests.get(link, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == 416:
            _check_whole(answer, part)
            return
        _check(link, answer, have)
        have = have if answer.status_code == 206 else 0
        if not have:
            _note(version, answer.headers.get("ETag", ""))
        total = have + int(answer.headers.get("Content-Length") or 0)
        with part.open("ab" if have else "wb") as file:
            for piece in answer.iter_content(1 << 16):
                have += file.write(piece)
                if max(have, total) > most:
                    raise CollectError(f"{link} has over {most / GB:g} GB; raise max_gb for it.")
                progress("Fetching the zip, MB", have // MB, total // MB)
    if have < total:
        raise requests.ConnectionError(f"it broke off after {have:,} of {total:,} bytes")


def _note(version: Path, etag: str) -> None:
    """Keeps the ETag; a weak one (W/) does not promise the same bytes and must not be sent back."""
    if etag and not etag.startswith("W/"):
        version.write_text(etag)
    else:
        version.unlink(missing_ok=True)


def _check_whole(answer: requests.Response, part: Path) -> None:
    """The site has nothing after what is here: all of it is here, if the sizes agree. If they do
    not, the part is of something else and is deleted. Raises ConnectionError.
    """
    import requests

    size = answer.headers.get("Content-Range", "").rpartition("/")[2]
    if size != str(part.stat().st_size):
        part.unlink()
        _etag(part).unlink(missing_ok=True)
        raise requests.ConnectionError("the file has changed there; it must be fetched anew")


def _check(link: str, answer: requests.Response, have: int) -> None:
    """Raises CollectError for an answer that is no file."""
    if not answer.ok:
        raise CollectError(
            f"{link} answers {answer.status_code} ({answer.reason}). Open it in a browser: if it "
            "asks you to log in, download the zip there and give the file."
        )
    if answer.headers.get("Content-Type", "").startswith(("text/html", "image/")):
        raise CollectError(
            f"{link} is no zip file but a page or a picture: `collect links` takes pictures from "
            "those. If it is the page of a zip, download the zip there and give the file."
        )
