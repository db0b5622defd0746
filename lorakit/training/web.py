"""Asking a web server, politely: who asks, what its refusals mean, and trying again."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import requests

from .. import __version__
from ..errors import BaseModelError
from .tensorfile import refuse_pickle

TIMEOUT = (20, 60)  # seconds to connect, seconds without a byte
TRIES = 4  # in a row without a byte
PAUSE = 1.0  # seconds before the second try, doubled for each further one
AGENT = {"User-Agent": f"lorakit/{__version__}", "Accept-Encoding": "identity"}
# what the hub says in the header X-Error-Code
REASONS = {
    "GatedRepo": "its licence must be accepted first",
    "RepoNotFound": "there is no such repository, or it is private",
}


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


def ask(request: Request) -> dict[str, Any]:
    """The JSON object that a server answers with. Raises BaseModelError."""
    url, reason = request.url, ""
    for attempt in range(TRIES):
        try:
            with get(request) as answer:
                refuse(answer, request)
                return dict(answer.json())
        except (ValueError, TypeError) as error:
            raise BaseModelError(f"{url} gave an answer that cannot be understood.") from error
        except TRANSIENT as error:
            reason = short(error)
            if attempt + 1 < TRIES:
                time.sleep(PAUSE * 2**attempt)
        except requests.RequestException as error:
            raise BaseModelError(f"{url} cannot be asked ({short(error)}).") from error
    raise BaseModelError(
        f"{urlsplit(url).netloc} did not answer ({reason}). Run again when the connection is back, "
        "or give the path of a base model that is here already."
    )


def refuse(answer: requests.Response, request: Request) -> None:
    """Raises BaseModelError for an answer that is not the file, Again if it may be the next
    time.
    """
    status, kind = answer.status_code, answer.headers.get("Content-Type", "")
    if status in (401, 403) or "reason=download-auth" in answer.url:
        why = REASONS.get(answer.headers.get("X-Error-Code", ""), "it asks for a login")
        sent = " The token that was sent does not open it." if request.token else ""
        raise BaseModelError(f"{request.url} was refused: {why}.{sent} {request.login}".rstrip())
    if status in (404, 410):
        raise BaseModelError(
            f"There is nothing at {request.url}. Check the spelling, or whether it was taken down."
        )
    if status == 429 or status >= 500:
        raise Again(f"the server answered {status} {answer.reason}")
    if status >= 400:
        raise BaseModelError(f"{request.url} was refused: {status} {answer.reason}.")
    if kind.startswith("text/html"):
        advice = request.login or "Give the link of the file itself, or download it in a browser."
        raise BaseModelError(f"{request.url} gave a web page in place of a file. {advice}")
    named = re.search(r"filename\*?=(?:UTF-8'')?\"?([^\";]+)", _disposition(answer))
    for name in (urlsplit(answer.url).path, unquote(named[1]) if named else ""):
        refuse_pickle(name.strip(), f"{request.url} ({Path(name).name.strip()})")


def _disposition(answer: requests.Response) -> str:
    return answer.headers.get("Content-Disposition", "")


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
