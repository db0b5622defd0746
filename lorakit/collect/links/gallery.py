"""Sites that gallery-dl knows (pixiv, X, Fandom, ...), by running it as a program of its own.

It is licensed under the GPL, so it is never imported and not installed by lorakit. Keys go to it in
a file that only the user can read, and which is deleted afterwards.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ... import colab
from ...errors import CollectError
from .. import keys
from ..visitor import is_address

UNKNOWN = 64  # its exit code for an address that it does not know
PATIENCE = 900  # seconds for one list or one picture
# sites whose pages show nothing to who only reads their HTML
NEEDED = (
    *("pixiv.net", "x.com", "twitter.com", "fandom.com", "deviantart.com", "artstation.com"),
    *("instagram.com", "bsky.app", "tumblr.com", "reddit.com", "weibo.com", "zerochan.net"),
)
SECRETS = {  # variable or secret -> where it stands in gallery-dl's settings
    "PIXIV_REFRESH_TOKEN": ("pixiv", "refresh-token"),
    "X_AUTH_TOKEN": ("twitter", "cookies", "auth_token"),
}
INSTALL = (
    "is read by gallery-dl, a separate program (GPL) that is not installed here. Install it with "
    "`pip install gallery-dl` and run again, or save the pictures in a browser and give a zip to "
    "'collect archives'."
)


@dataclass(frozen=True)
class Item:
    """A picture that it found: `number` is its place in the list of that page, from 1."""

    page: str
    number: int
    url: str
    about: Mapping[str, Any]

    @property
    def site(self) -> str:
        return str(self.about.get("category") or urlsplit(self.page).netloc)

    @property
    def id(self) -> str:
        """What tells it from every other picture of the site."""
        names = [str(self.about[k]) for k in ("id", "num", "filename") if self.about.get(k)]
        return "-".join(names) or self.url

    @property
    def suffix(self) -> str:
        return "." + str(self.about.get("extension") or "").lower()

    @property
    def tags(self) -> tuple[str, ...]:
        """Its tags, which sites give as a text, a list, or lists by kind."""
        tags = self.about.get("tags") or self.about.get("hashtags") or ()
        if isinstance(tags, str):
            tags = tags.split()
        elif isinstance(tags, dict):
            tags = [
                tag for several in tags.values() if isinstance(several, list) for tag in several
            ]
        return tuple(tag for tag in tags if isinstance(tag, str))

    @property
    def headers(self) -> dict[str, str]:
        """What the site wants to be told by who fetches the picture."""
        parts = urlsplit(self.page)
        told = self.about.get("_http_headers")
        told = told if isinstance(told, dict) else {}
        texts = {k: v for k, v in told.items() if isinstance(k, str) and isinstance(v, str)}
        return {"Referer": f"{parts.scheme}://{parts.netloc}/"} | texts


def program() -> str:
    """Where gallery-dl is, '' where it is not."""
    beside = Path(sys.executable).with_name("gallery-dl")
    return shutil.which("gallery-dl") or (str(beside) if beside.exists() else "")


def needed(url: str) -> bool:
    """Whether nothing else will do for that address."""
    host = urlsplit(url).hostname or ""
    return any(host == name or host.endswith(f".{name}") for name in NEEDED)


def listed(url: str, limit: int) -> list[Item] | None:
    """What is at that address, at most `limit` items; None if gallery-dl does not know it. Nothing
    is downloaded. Raises CollectError.
    """
    with _settings() as file:
        done = _run(file, ["--resolve-json", "--range", f"1-{limit}"], url)
    if done.returncode == UNKNOWN:
        return None
    try:
        rows = json.loads(done.stdout or "[]")
    except ValueError as error:
        raise _failed(url, done) from error
    found = [row for row in rows if isinstance(row, list) and len(row) == 3 and row[0] == 3]
    wrong = [row[1] for row in rows if isinstance(row, list) and len(row) == 2 and row[0] == -1]
    if not found and (wrong or done.returncode):
        raise _failed(url, done, wrong)
    return [
        Item(url, number, row[1], row[2])
        for number, row in enumerate(found, 1)
        if isinstance(row[1], str) and is_address(row[1]) and isinstance(row[2], dict)
    ]


def download(item: Item, path: Path) -> None:
    """One picture, fetched by gallery-dl itself. Raises CollectError."""
    with _settings() as file, tempfile.TemporaryDirectory() as folder:
        words = ["--range", str(item.number), "--directory", folder]
        done = _run(file, words, item.page)
        files = [each for each in Path(folder).rglob("*") if each.is_file()]
        if done.returncode or len(files) != 1:
            raise _failed(item.page, done)
        shutil.copyfile(files[0], path)


def _run(settings: Path, words: Sequence[str], url: str) -> subprocess.CompletedProcess[str]:
    command = [program(), "--config-ignore", "--config", str(settings), *words, "--", url]
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired as error:
        raise CollectError(
            f"gallery-dl was not done with {url} after {PATIENCE // 60} minutes. Set a lower limit."
        ) from error
    except OSError as error:
        raise CollectError(
            f"gallery-dl cannot be run ({error.strerror}). {url} {INSTALL}"
        ) from error


def _failed(
    url: str, done: subprocess.CompletedProcess[str], wrong: Sequence[Any] = ()
) -> CollectError:
    """What went wrong, in gallery-dl's words, and what may help."""
    lines = [re.sub(r"^.*?\[(error|warning)\]", r"[\1]", line) for line in done.stderr.splitlines()]
    said = [
        line.partition("]")[2].strip() for line in lines if line.startswith(("[error]", "[warn"))
    ]
    said += [f"{w.get('error')}: {w.get('message')}" for w in wrong if isinstance(w, dict)]
    reason = " ".join("; ".join(said).split())[:300].rstrip(".") or f"exit code {done.returncode}"
    help = ""
    if done.returncode & 16 or any("Auth" in each or "login" in each.lower() for each in said):
        help = (
            f" It wants keys: put them into {keys.keys_file()} (mode 600) below a line such as "
            f"[gallery-dl.pixiv], named as gallery-dl names them, or into {' or '.join(SECRETS)}."
        )
    return CollectError(f"gallery-dl could not read {url} ({reason}).{help}")


@contextmanager
def _settings() -> Iterator[Path]:
    """A file of settings with the user's keys, for as long as it is needed."""
    extractor: dict[str, Any] = {"sleep-request": 1.0, **keys.table("gallery-dl")}
    for name, (site, *steps) in SECRETS.items():
        if value := colab.secret(name):
            place = extractor.setdefault(site, {})
            for step in steps[:-1]:
                place = place.setdefault(step, {})
            place[steps[-1]] = value
    descriptor, name = tempfile.mkstemp(suffix=".json")  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({"extractor": extractor, "output": {"private": True}}, file)
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
