"""A web server on this machine that speaks as the hub, Civitai and plain file servers do."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import torch
from safetensors.torch import save

from lorakit.training.single_file import CONFIG_KEY, TE2, UNET

SDXL = {UNET + "label_emb.0.0.weight": (4, 4), TE2 + "token_embedding.weight": (4, 4)}


def checkpoint(bulk: int = 600_000, seed: int = 0) -> bytes:
    """A file that passes for an SDXL checkpoint until its tensors are wanted, about 4 * `bulk`
    bytes.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.zeros(shape) for name, shape in SDXL.items()}
    tensors["bulk"] = torch.randn(bulk, generator=generator)
    return save(tensors, {CONFIG_KEY: "{}"})


@dataclass
class Asked:
    """One request as it came in; header names in lower case."""

    path: str
    host: str
    headers: dict[str, str]


@dataclass
class Reply:
    """What to answer: a status, headers, a body."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Web:
    """The server. `pages` maps a path to a reply or to a function of the request that makes one;
    `files` are served with ranges and entity tags, cut off after `cuts.pop(0)` bytes while there
    are any; `asked` is what came in.
    """

    port: int = 0
    pages: dict[str, Reply | Callable[[Asked], Reply]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    cuts: list[int] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    ranges: bool = True
    tags: bool = True
    lengths: bool = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def elsewhere(self) -> str:
        """The same server under another host name."""
        return f"http://localhost:{self.port}"

    def paths(self) -> list[str]:
        return [each.path for each in self.asked]

    def page(self, path: str, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.pages[path] = Reply(status, body, {"Content-Type": "application/json"})

    def redirect(self, path: str, to: str, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.pages[path] = Reply(302, b"", {"Location": to, **named})

    def hub_file(self, repo: str, file: str, content: bytes, gated: str = "") -> None:
        """A large file as the hub serves it: sent on to a store on another host, checksum and size
        stated; with `gated` only to who shows that token.
        """
        digest = hashlib.sha256(content).hexdigest()
        self.files[f"/store/{digest}"] = content
        headers = {
            "Location": f"{self.elsewhere}/store/{digest}?signature=1",
            "X-Linked-Etag": f'"{digest}"',
            "X-Linked-Size": str(len(content)),
            "X-Repo-Commit": "0" * 40,
        }

        def answer(asked: Asked) -> Reply:
            if gated and asked.headers.get("authorization") != f"Bearer {gated}":
                return Reply(401, b"no", {"X-Error-Code": "GatedRepo"})
            return Reply(302, b"", headers)

        self.pages[f"/{repo}/resolve/main/{file}"] = answer

    def hub_list(self, repo: str, files: dict[str, bytes]) -> None:
        """A repository: its list of files, and the files."""
        rows = []
        for name, content in files.items():
            large = name.endswith(".safetensors")
            lfs = {"lfs": {"sha256": hashlib.sha256(content).hexdigest()}} if large else {}
            rows.append({"rfilename": name, "size": len(content), **lfs})
            if large:
                self.hub_file(repo, name, content)
            else:
                self.files[f"/{repo}/resolve/main/{name}"] = content
        self.page(f"/api/models/{repo}/revision/main", {"sha": "0" * 40, "siblings": rows})

    def civitai_version(self, version: int, name: str, content: bytes, token: str = "") -> None:
        """A version's description, and its download, with `token` only for who shows it."""
        digest = hashlib.sha256(content).hexdigest()
        self.files[f"/r2/{version}"] = content
        url = f"{self.url}/api/download/models/{version}"
        about = {
            "name": name,
            "type": "Model",
            "primary": True,
            "metadata": {"format": "SafeTensor", "size": "pruned", "fp": "fp16"},
            "hashes": {"SHA256": digest.upper()},
            "downloadUrl": url,
        }
        self.page(
            f"/api/v1/model-versions/{version}", {"files": [about], "model": {"type": "Checkpoint"}}
        )
        self.pages["/login"] = Reply(200, b"<!DOCTYPE html>log in", {"Content-Type": "text/html"})

        def answer(asked: Asked) -> Reply:
            if token and asked.headers.get("authorization") != f"Bearer {token}":
                return Reply(307, b"", {"Location": "/login?returnUrl=x&reason=download-auth"})
            return Reply(307, b"", {"Location": f"{self.elsewhere}/r2/{version}"})

        self.pages[f"/api/download/models/{version}"] = answer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: Web

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(path, headers["host"].partition(":")[0], headers)
        self.web.asked.append(asked)
        if path in self.web.files:
            return self._file(self.web.files[path], headers)
        reply = self.web.pages.get(path, Reply(404, b"not here"))
        reply = reply(asked) if callable(reply) else reply
        self._send(reply, len(reply.body))

    def _file(self, content: bytes, headers: dict[str, str]) -> None:
        tag, start = f'"{hashlib.md5(content).hexdigest()}"', 0
        wanted = headers.get("range", "") if self.web.ranges else ""
        if wanted and headers.get("if-range", tag) == tag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        out = {"ETag": tag} if self.web.tags else {}
        if start >= len(content) and start:
            return self._send(Reply(416, b"", {"Content-Range": f"bytes */{len(content)}"}), 0)
        if start:
            out["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        body = content[start:]
        cut = self.web.cuts.pop(0) if self.web.cuts else len(body)
        self._send(Reply(206 if start else 200, body[:cut], out), len(body))
        if cut < len(body):
            self.close_connection = True

    def _send(self, reply: Reply, length: int) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if self.web.lengths:
            self.send_header("Content-Length", str(length))
        else:  # only the end of the connection says where the body ends
            self.send_header("Connection", "close")
        self.end_headers()
        with suppress(ConnectionError):  # a client that has seen enough hangs up
            self.wfile.write(reply.body)


class Running:
    """`with Running() as web:` serves until the end of the block."""

    def __enter__(self) -> Web:
        self.web = Web()
        handler = type("Handler", (_Handler,), {"web": self.web})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.web.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self.web

    def __exit__(self, *problem: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def saved(folder: Path) -> list[str]:
    """The files below a folder that are not hidden."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    )
