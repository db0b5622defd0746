"""Zip files behind ordinary links."""

from __future__ import annotations

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
        part.replace(path)
    return path


def _download(link: str, part: Path, most: float, progress: Progress) -> None:
    import requests

    have = part.stat().st_size if part.exists() else 0
    headers = {**AGENT, "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    with requests.get(link, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == 416:  # all of it is here
            return
        _check(link, answer, have)
        have = have if answer.status_code == 206 else 0
        total = have + int(answer.headers.get("Content-Length") or 0)
        with part.open("ab" if have else "wb") as file:
            for piece in answer.iter_content(1 << 16):
                have += file.write(piece)
                if max(have, total) > most:
                    raise CollectError(f"{link} has over {most / GB:g} GB; raise max_gb for it.")
                progress("Fetching the zip, MB", have // MB, total // MB)
    if have < total:
        raise requests.ConnectionError(f"it broke off after {have:,} of {total:,} bytes")


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
