"""Boorus on this machine that speak as Gelbooru, Danbooru and Moebooru do: field names, pages,
limits and refusals, and, if asked to, bad days.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from PIL import Image

NAMES = {"g": "general", "s": "sensitive", "q": "questionable", "e": "explicit"}


def png(seed: int, side: int = 24) -> bytes:
    """A picture of noise, of about 3 * side * side bytes; each seed has its own."""
    pixels = random.Random(seed).randbytes(3 * side * side)
    out = BytesIO()
    Image.frombytes("RGB", (side, side), pixels).save(out, "PNG")
    return out.getvalue()


@dataclass
class Shown:
    """A post: what the board knows of it, and the file."""

    id: int
    tags: str = "1girl solo"
    rating: str = "g"
    score: int = 0
    width: int = 900
    height: int = 1200
    parent: int = 0
    suffix: str = "png"
    body: bytes = b""
    hidden: bool = False  # no file_url
    sample: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        self.body = self.body or png(self.id)

    @property
    def md5(self) -> str:
        return hashlib.md5(self.body).hexdigest()


@dataclass
class Board:
    """One site. `engine` is 'gelbooru', 'safebooru' (0.2: a bare list without addresses),
    'danbooru' or 'moebooru'; `keys` are what it lets in; `faults` is the share of answers that go
    wrong.
    """

    engine: str
    posts: list[Shown] = field(default_factory=list)
    keys: tuple[str, str] | None = None
    tag_limit: int = 2
    faults: float = 0.0
    seed: int = 0
    port: int = 0
    script: list[tuple[int, dict[str, str]]] = field(default_factory=list)  # answers to give first
    cuts: list[int] = field(default_factory=list)  # lengths at which files break off
    lies: list[bytes] = field(default_factory=list)  # files to give in place of the right ones
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)  # path, headers
    aliases: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.seed)
        self.lock = threading.Lock()

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def searches(self) -> list[str]:
        """The tags of every search for posts, in order."""
        listing = ("/index.php", "/posts.json", "/post.json")
        paths = [path for path, _ in self.asked if urlsplit(path).path in listing]
        queries = [parse_qs(urlsplit(path).query) for path in paths]
        return [
            q["tags"][0]
            for q in queries
            if q.get("json") == ["1"] or "page" not in q or q["page"][0] != "dapi"
        ]

    def files(self) -> list[str]:
        return [path for path, _ in self.asked if path.startswith("/images/")]

    # --- searching, as the site would

    def matching(self, text: str) -> list[Shown]:
        words = text.replace("{", " { ").replace("}", " } ").split()
        found = self.posts
        either = [w[1:] for w in words if w.startswith("~") and len(w) > 1]
        if "{" in words:
            start, end = words.index("{"), words.index("}")
            either, words = words[start + 1 : end : 2], words[:start] + words[end + 1 :]
        if either:
            found = [p for p in found if set(either) & set(p.tags.split())]
        for word in (w for w in words if not w.startswith("~")):
            keep = not word.startswith("-")
            found = [p for p in found if self._has(p, word.removeprefix("-")) == keep]
        return sorted(found, key=lambda p: -p.id)

    def _has(self, post: Shown, word: str) -> bool:
        name, colon, value = word.partition(":")
        if name == "rating":
            theirs = {"g": "s", "s": "s"} if self.engine == "moebooru" else {}
            mine = theirs.get(post.rating, post.rating)
            return any(mine == v[:1] for v in value.split(","))
        if colon and name in ("id", "score", "width", "height"):
            mine = getattr(post, name)
            for sign in (">=", "<=", "<", ">"):
                if value.startswith(sign):
                    other = int(value.removeprefix(sign))
                    return {
                        ">=": mine >= other,
                        "<=": mine <= other,
                        "<": mine < other,
                        ">": mine > other,
                    }[sign]
            return mine == int(value)
        if "*" in word:
            return any(t.startswith(word.partition("*")[0]) for t in post.tags.split())
        return self.aliases.get(word, word) in post.tags.split()

    # --- what it answers

    def answer(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        parts = urlsplit(path)
        query = {k: v[0] for k, v in parse_qs(parts.query).items()}
        if parts.path.startswith(("/images/", "/samples/", "/thumbnails/")):
            return self._file(unquote(parts.path), headers)
        if self.engine in ("gelbooru", "safebooru"):
            return self._gelbooru(query)
        if self.engine == "danbooru":
            return self._danbooru(parts.path, query, headers)
        return self._moebooru(parts.path, query)

    def _file(self, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        if path.startswith("/thumbnails/"):
            return 200, {"Content-Type": "image/png"}, png(1, 8)
        name = path.rpartition("/")[2].partition(".")[0].removeprefix("sample_")
        post = next((p for p in self.posts if p.md5 == name), None)
        if not post:
            return 404, {}, b"gone"
        body, tag = post.body, f'"{post.md5}"'
        if path.startswith("/samples/"):
            return 200, {"Content-Type": "image/jpeg"}, png(post.id, 16)
        if self.lies:
            return 200, {"ETag": '"other"', "Content-Type": "image/png"}, self.lies.pop(0)
        told = {"ETag": tag, "Content-Type": "image/png"}
        if wanted := headers.get("range", ""):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if headers.get("if-range", tag) == tag:
                if start >= len(body):
                    return 416, {"Content-Range": f"bytes */{len(body)}"}, b""
                told["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                return 206, told, body[start:]
        return 200, told, body

    def _gelbooru(self, query: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        if self.keys and (query.get("user_id"), query.get("api_key")) != self.keys:
            return 401, {}, b""
        found = self.matching(query.get("tags", ""))
        page = found[: int(query.get("limit", 100))]
        if query.get("json") != "1":
            return (
                200,
                {},
                f'<?xml version="1.0"?><posts count="{len(found)}" offset="0"/>'.encode(),
            )
        if self.engine == "safebooru":
            return _json([self._v02(post) for post in page])
        top = {"limit": 100, "offset": 0, "count": len(found)}
        rows = [self._v025(post) for post in page]
        if len(rows) == 1:
            return _json({"@attributes": top, "post": rows[0]})
        return _json({"@attributes": top, **({"post": rows} if rows else {})})

    def _v025(self, p: Shown) -> dict[str, Any]:
        shown = "" if p.hidden else f"{self.base}/images/{p.md5[:2]}/{p.md5}.{p.suffix}"
        sample = p.sample or (0, 0)
        return {
            "id": p.id, "created_at": "Sat Jan 03 10:00:00 -0600 2026", "score": p.score,
            "width": p.width, "height": p.height, "md5": p.md5, "directory": p.md5[:2],
            "image": f"{p.md5}.{p.suffix}", "rating": NAMES[p.rating], "source": "", "change": 1,
            "owner": "x", "creator_id": 1, "parent_id": p.parent, "sample": int(bool(p.sample)),
            "preview_height": 100, "preview_width": 80, "tags": p.tags.replace("'", "&#039;"),
            "title": "", "has_notes": "false", "has_comments": "false", "file_url": shown,
            "preview_url": f"{self.base}/thumbnails/{p.md5}.jpg",
            "sample_url": f"{self.base}/samples/a/sample_{p.md5}.jpg" if p.sample else "",
            "sample_width": sample[0], "sample_height": sample[1], "status": "active",
            "post_locked": 0, "has_children": "false",
        }  # fmt: skip

    def _v02(self, p: Shown) -> dict[str, Any]:
        directory = "" if p.hidden else p.md5[:2]
        sample = p.sample or (0, 0)
        return {
            "directory": directory, "hash": p.md5, "height": p.height, "id": p.id,
            "image": f"{p.md5}.{p.suffix}", "change": 1, "owner": "x",
            "parent_id": p.parent or None,
            "rating": "safe" if p.rating == "s" else NAMES[p.rating], "sample": bool(p.sample),
            "sample_height": sample[1], "sample_width": sample[0], "score": None, "tags": p.tags,
            "width": p.width,
        }  # fmt: skip

    def _danbooru(
        self, path: str, query: dict[str, str], headers: dict[str, str]
    ) -> tuple[int, dict[str, str], bytes]:
        if "authorization" in headers:
            given = base64.b64decode(headers["authorization"].partition(" ")[2]).decode()
            if tuple(given.split(":")) != self.keys:
                return _error(401, "SessionLoader::AuthenticationFailure", "Invalid API key")
        if "lorakit/" not in headers.get("user-agent", ""):
            return 403, {"Content-Type": "text/html"}, b"<html>blocked"
        if path == "/tags.json":
            names = query["search[name_comma]"].split(",")
            rows = [
                {"name": n, "post_count": len(self.matching(n))}
                for n in names
                if n not in self.aliases
            ]
            return _json(rows)
        tags = query.get("tags", "").split()
        if len([t for t in tags if not t.startswith(("rating:", "status:"))]) > self.tag_limit:
            return _error(
                422, "PostQuery::TagLimitError",
                f"You cannot search for more than {self.tag_limit} tags at a time.",
            )  # fmt: skip
        found = self.matching(query.get("tags", ""))
        if path == "/counts/posts.json":
            return _json({"counts": {"posts": len(found)}})
        page = query.get("page", "1")
        if page.startswith("b"):
            found = [p for p in found if p.id < int(page[1:])]
        elif int(page) > 1:
            return _error(410, "PaginationExtension::PaginationError", "no such page here")
        return _json([self._danbooru_row(p) for p in found[: min(200, int(query["limit"]))]])

    def _danbooru_row(self, p: Shown) -> dict[str, Any]:
        row: dict[str, Any] = {
            "id": p.id, "created_at": "2026-01-03T10:00:00.000-05:00", "uploader_id": 1,
            "score": p.score, "source": "", "rating": p.rating, "image_width": p.width,
            "image_height": p.height, "tag_string": p.tags, "fav_count": 0, "file_ext": p.suffix,
            "last_noted_at": None, "parent_id": p.parent or None, "has_children": False,
            "file_size": len(p.body), "tag_string_general": p.tags, "tag_string_character": "",
            "tag_string_copyright": "", "tag_string_artist": "", "tag_string_meta": "",
            "is_deleted": False, "is_banned": p.hidden,
        }  # fmt: skip
        if not p.hidden:
            full = f"{self.base}/images/{p.md5[:2]}/{p.md5}.{p.suffix}"
            sample = f"{self.base}/samples/a/sample_{p.md5}.jpg" if p.sample else full
            small = f"{self.base}/thumbnails/{p.md5}.jpg"
            row |= {"md5": p.md5, "file_url": full, "large_file_url": sample}
            row |= {"preview_file_url": small}
        return row

    def _moebooru(self, path: str, query: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        if len(query.get("tags", "").split()) > 6:
            return _json({"success": False, "reason": "too many tags"}, 403)
        found = self.matching(query.get("tags", ""))
        if path == "/post.xml":
            return 200, {}, f'<?xml?>\n<posts count="{len(found)}" offset="0">'.encode()
        return _json([self._moebooru_row(p) for p in found[: int(query.get("limit", 40))]])

    def _moebooru_row(self, p: Shown) -> dict[str, Any]:
        full = f"{self.base}/images/{p.md5[:2]}/{p.md5}.{p.suffix}"
        sample = p.sample or (p.width, p.height)
        row: dict[str, Any] = {
            "id": p.id, "tags": p.tags, "created_at": 1767434400, "creator_id": 1, "author": "x",
            "change": 1, "source": "", "score": p.score, "md5": p.md5, "file_size": len(p.body),
            "is_shown_in_index": True, "preview_url": f"{self.base}/thumbnails/{p.md5}.jpg",
            "preview_width": 112, "preview_height": 150, "actual_preview_width": 225,
            "sample_url": f"{self.base}/samples/a/sample_{p.md5}.jpg" if p.sample else full,
            "sample_width": sample[0], "sample_height": sample[1], "sample_file_size": 0,
            "jpeg_url": full, "jpeg_width": p.width, "jpeg_height": p.height, "jpeg_file_size": 0,
            "rating": {"g": "s"}.get(p.rating, p.rating), "has_children": False,
            "parent_id": p.parent or None, "status": "active", "width": p.width,
            "height": p.height, "is_held": False, "frames_string": "", "frames": [],
        }  # fmt: skip
        return row if p.hidden else row | {"file_url": full}


def _json(value: Any, status: int = 200) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/json"}, json.dumps(value).encode()


def _error(status: int, name: str, message: str) -> tuple[int, dict[str, str], bytes]:
    rows = {"success": False, "error": name, "message": message, "backtrace": ["app/x.rb:1"]}
    return _json(rows, status)


class _Handler(BaseHTTPRequestHandler):
    board: Board
    disable_nagle_algorithm = True  # else each answer waits for an acknowledgement

    def do_GET(self) -> None:
        board, headers = self.board, {k.lower(): v for k, v in self.headers.items()}
        with board.lock:
            board.asked.append((self.path, headers))
            status, told, body = (
                (*board.script.pop(0), b"<html>no</html>")
                if board.script
                else board.answer(self.path, headers)
            )
            fault = board.dice.choice(FAULTS) if board.dice.random() < board.faults else ""
            cut = len(body)
            if board.cuts and self.path.startswith("/images/"):
                cut = board.cuts.pop(0)
        if fault == "hang up":
            self.close_connection = True
            return
        if fault in ("429", "500", "503"):
            status, told, body = int(fault), {"Retry-After": "0"}, b"<html>busy</html>"
            cut = len(body)
        elif fault == "broken off":
            cut = len(body) // 2
        elif fault == "spoilt":
            body = bytes(reversed(body))
        self.send_response(status)
        for name, value in {**told, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:cut])
        self.close_connection = cut < len(body)

    def log_message(self, *args: Any) -> None:
        """Says nothing."""


FAULTS: Sequence[str] = ("429", "500", "503", "hang up", "broken off", "spoilt")


@contextmanager
def serving(board: Board) -> Iterator[Board]:
    """The board while it can be asked."""
    handler = type("Handler", (_Handler,), {"board": board, "protocol_version": "HTTP/1.1"})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    board.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield board
    finally:
        server.shutdown()
        thread.join()
        with suppress(OSError):
            server.server_close()
