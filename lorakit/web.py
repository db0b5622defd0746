"""Asking a web server: who asks, and what to call it when the line breaks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import requests

from . import __version__

TIMEOUT = (20, 60)  # seconds to connect, seconds without a byte
AGENT = {"User-Agent": f"lorakit/{__version__}", "Accept-Encoding": "identity"}


@dataclass(frozen=True)
class Request:
    """An address; `login` is the sentence for a server that wants to know who asks, `token` what to
    tell it.
    """

    url: str
    login: str = ""
    token: str = ""


class Again(Exception):
    """The transfer ended early, in a way that another try may mend."""


class _Bearer(requests.auth.AuthBase):
    """Sends a token. requests takes it off again where the server sends us on to another host."""

    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, request: Any) -> Any:
        if self.token:
            request.headers["Authorization"] = f"Bearer {self.token}"
        return request


# what another try may mend
TRANSIENT = (
    Again,
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
)


def get(request: Request, headers: dict[str, str] | None = None) -> requests.Response:
    """The answer, its body still to be read; use it in a `with`."""
    return requests.get(
        request.url,
        headers={**AGENT, **(headers or {})},
        auth=_Bearer(request.token),
        timeout=TIMEOUT,
        stream=True,
    )


def short(error: Exception) -> str:
    """A few words for an error: requests wraps the reason in several others."""
    text = str(error)
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError) or "IncompleteRead" in text:
        return "the line broke off"
    unknown = r"failed to resolve|name or service not known|name resolution|getaddrinfo"
    if re.search(unknown, text, re.I):
        return "its address cannot be found: no connection?"
    return re.sub(r"\[Errno -?\d+\] ", "", text).rpartition(": ")[2].strip("')\"( ") or repr(error)
