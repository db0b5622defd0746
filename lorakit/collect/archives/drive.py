"""Files and folders that someone shares on Google Drive, fetched with gdown."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from ...errors import CollectError
from ...progress import Progress
from .store import place

HOST = re.compile(r"https?://(drive|docs)\.google\.com/")
FOLDER = re.compile(r"/folders/([\w-]{10,})")
FILE = re.compile(r"(?:/d/|[?&]id=)([\w-]{10,})")


def parse(link: str) -> tuple[str, str] | None:
    """('folder' or 'file', id) of a Drive link; None for other links. Raises CollectError for a
    Drive link without an id.
    """
    if not HOST.match(link):
        return None
    for kind, pattern in (("folder", FOLDER), ("file", FILE)):
        if found := pattern.search(link):
            return kind, found[1]
    raise CollectError(
        f"{link} names no file or folder. On Drive choose Share, Copy link, and give that link."
    )


def fetched(link: str, progress: Progress) -> Path:
    """The shared file or folder, on this machine; a download that was cut off goes on. Raises
    CollectError.
    """
    found = parse(link)
    assert found
    kind, name = found
    whole = place(name)
    if not whole.exists():
        part = whole.with_suffix(".part")
        part.mkdir(exist_ok=True)
        progress("Fetching from Drive", 0, 0)
        _download(link, kind, name, part)
        part.replace(whole)
    files = list(whole.iterdir())
    return files[0] if kind == "file" and len(files) == 1 else whole


def forget(link: str) -> None:
    """Deletes what was fetched of a link, if all of it came: the next run fetches it again. A part
    of a download stays, to go on with.
    """
    found = parse(link)
    whole = place(found[1]) if found else None
    if whole and whole.exists():
        shutil.rmtree(whole)


def _download(link: str, kind: str, name: str, folder: Path) -> None:
    """Raises CollectError when Drive does not hand it out."""
    import gdown
    import requests

    where: dict[str, Any] = {"id": name, "output": f"{folder}/", "quiet": True, "resume": True}
    try:
        got = gdown.download_folder(**where) if kind == "folder" else gdown.download(**where)
    except (OSError, requests.RequestException) as error:
        got, reason = None, str(error)
    except Exception as error:  # gdown's own kinds differ from release to release
        if not type(error).__module__.startswith("gdown"):
            raise
        got, reason = None, str(error)
    else:
        reason = "it gave nothing"
    if not got:
        said = " ".join(reason.split())[:200]
        raise CollectError(
            f"Google Drive does not hand out {link} ({said}). Share it with 'Anyone with the "
            "link'; or add it to your own Drive, connect Drive and give the path of the folder."
        )
