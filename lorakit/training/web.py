"""Asking where base models are kept: what refusals mean there, and trying again."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import requests

from ..errors import BaseModelError
from ..web import TRANSIENT, Again, Request, get, short
from .tensorfile import refuse_pickle

TRIES = 4  # in a row without a byte
PAUSE = 1.0  # seconds before the second try, doubled for each further one
# what the hub says in the header X-Error-Code
REASONS = {
    "GatedRepo": "its licence must be accepted first",
    "RepoNotFound": "there is no such repository, or it is private",
}


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
