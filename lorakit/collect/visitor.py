"""Visiting web servers as a good guest: says who asks, keeps a distance between two requests to the
same host, waits when told to, tries again where that may help, and gives up where it does not.
"""

from __future__ import annotations

import email.utils
import logging
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests

from .. import REPOSITORY, __version__
from ..errors import CollectError, Refused
from ..web import TIMEOUT, TRANSIENT, Again, short

log = logging.getLogger(__name__)

AGENT = f"lorakit/{__version__} (+{REPOSITORY})"
TRIES = 8  # in a row without a byte
STRANGER = 3  # tries at a host that has never answered: perhaps there is none of that name
PAUSE = 1.0  # seconds before the second try, doubled for each further one
LONGEST = 60.0  # seconds of such a pause
PATIENCE = 600.0  # seconds: a server that wants to be left alone for longer ends the run
ENOUGH = 5  # refusals in a row by one host, after which the rest is not asked for
LARGEST = 20_000_000  # bytes of an answer that is kept in memory: a page, a list, a small picture
BROWSER = (
    "Open the page in a browser, save it there (Ctrl+S) and give the saved .html file to 'collect "
    "links', or give a zip of the pictures to 'collect archives'."
)
T = TypeVar("T")


@dataclass(frozen=True)
class Call:
    """A request: address, what goes into its query, its headers, and (name, password) for a server
    that asks who it is. `login` is the sentence that says where to get those.
    """

    url: str
    params: Mapping[str, str | int] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    auth: tuple[str, str] | None = None
    login: str = ""

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc


class Denied(CollectError):
    """The server answered that it will not: `status` says how, `body` is the start of what it
    said.
    """

    def __init__(self, message: str, status: int, body: str = "") -> None:
        super().__init__(message)
        self.status, self.body = status, body


class _Later(Again):
    """The server says when to come back: in so many seconds."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


@dataclass
class Visitor:
    """One caller. `pace` is the number of seconds between two requests to a host, `paces` where a
    host asks for another; `sleep` is what passes the time.
    """

    pace: float = 1.0
    paces: dict[str, float] = field(default_factory=dict)
    sleep: Callable[[float], object] | None = None
    _session: requests.Session = field(default_factory=requests.Session)
    _last: dict[str, float] = field(default_factory=dict)
    _denied: Counter[str] = field(default_factory=Counter)
    _met: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._session.headers.update({"User-Agent": AGENT, "Accept-Encoding": "identity"})

    def read(self, call: Call) -> tuple[bytes, requests.Response]:
        """The body of an answer, and the answer. Raises Denied, Refused."""
        return self.visit(call, _body)

    def json(self, call: Call) -> Any:
        """What a server answers as JSON. Raises Denied, Refused."""
        return self.visit(call, _json)

    def visit(self, call: Call, use: Callable[[requests.Response], T]) -> T:
        """`use(answer)` of the first answer that is one, whole. Raises Denied for what the server
        refuses, Refused where no further request is any use.
        """
        return self.persist(call.host, lambda: self.once(call, use))

    def persist(
        self,
        host: str,
        attempt: Callable[[], T],
        bytes_here: Callable[[], int] = lambda: 0,
    ) -> T:
        """`attempt()` until it works: TRIES times in a row, counted anew whenever `bytes_here` has
        grown.
        """
        failed, had = 0, bytes_here()
        while True:
            try:
                return attempt()
            except TRANSIENT as error:
                grown, had = bytes_here() > had, bytes_here()
                failed = 1 if grown else failed + 1
                log.info("%s: %s", host, reason(error))
                if failed >= (TRIES if host in self._met else STRANGER):
                    raise _given_up(host, error) from error
                self._rest(host, failed, error)
            except requests.RequestException as error:
                raise CollectError(f"{host} cannot be asked ({reason(error)}).") from error

    def once(self, call: Call, use: Callable[[requests.Response], T]) -> T:
        """One request, at a distance from the last one to that host. Raises Again for what another
        try may mend.
        """
        self._keep_distance(call.host)
        with self._session.get(
            call.url,
            params=dict(call.params),
            headers=dict(call.headers),
            auth=call.auth,
            timeout=TIMEOUT,
            stream=True,
        ) as answer:
            self._met.add(call.host)
            try:
                _check(answer, call)
            except Denied as denied:
                self._count(call, denied)
                raise
            got = use(answer)
            self._denied[call.host] = 0
            return got

    def _count(self, call: Call, denied: Denied) -> None:
        """One that is not there says nothing about the others; a host that turns down several in a
        row does.
        """
        if denied.status in (401, 403):
            self._denied[call.host] += 1
            if self._denied[call.host] >= ENOUGH:
                raise Refused(
                    f"{call.host} has refused {ENOUGH} requests in a row, so it was left alone: "
                    f"{denied}"
                ) from denied

    def _keep_distance(self, host: str) -> None:
        ready = self._last.get(host, 0.0) + self.paces.get(host, self.pace)
        if (wait := ready - time.monotonic()) > 0:
            self._sleep(wait)
        self._last[host] = time.monotonic()

    def _rest(self, host: str, failed: int, error: Exception) -> None:
        """As long as the server says; else doubled each time, and not in step with others."""
        wait = min(PAUSE * 2 ** (failed - 1), LONGEST) * random.uniform(0.75, 1.25)
        if isinstance(error, _Later):
            if error.seconds > PATIENCE:
                raise Refused(
                    f"{host} wants to be left alone for {error.seconds / 60:.0f} minutes. Run "
                    "again then: what is here is not fetched twice."
                ) from error
            wait = max(wait, error.seconds)
        self._sleep(wait)

    def _sleep(self, seconds: float) -> None:
        (self.sleep or time.sleep)(seconds)


def _given_up(host: str, error: Exception) -> CollectError:
    """A server that is there but cannot give this one is asked for the others; one that does not
    answer is not.
    """
    if isinstance(error, _Later):
        return Refused(f"{host} keeps saying that it was asked too often. Run again in an hour.")
    if isinstance(error, Again) or "the line broke off" in short(error):
        return CollectError(f"{host} failed {TRIES} times ({reason(error)}). Run again later.")
    return Refused(
        f"{host} did not answer ({reason(error)}). Check the address, or run again when the "
        "connection is back: what is here is not fetched twice."
    )


def reason(error: Exception) -> str:
    """A few words for an error, without the query of an address: it may hold a key."""
    return re.sub(r"\?\S*", "", short(error))


def _check(answer: requests.Response, call: Call) -> None:
    """Raises for an answer that is not what was asked for. Addresses are told without their query,
    which may hold a key.
    """
    status = answer.status_code
    if status < 400:
        return
    place = call.url.partition("?")[0]
    if challenge(answer):
        raise Refused(
            f"{call.host} lets no programs in ({status}: it checks for a browser). {BROWSER}"
        )
    if status == 429 or (status == 503 and "Retry-After" in answer.headers):
        raise _Later(f"the server answered {status}", _seconds(answer.headers.get("Retry-After")))
    if status >= 500:
        raise Again(f"the server answered {status} {answer.reason}")
    if status in (401, 403):
        raise Denied(f"{place} was refused ({status}). {call.login}".rstrip(), status)
    if status in (404, 410):
        raise Denied(f"There is nothing at {place} any more ({status}).", status)
    said = answer.raw.read(2000).decode("utf-8", "replace")
    raise Denied(f"{place} was refused ({status} {answer.reason}).", status, said)


def is_address(text: str) -> bool:
    """Whether that is the address of something on the web; pages and sites give all sorts."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def challenge(answer: requests.Response) -> bool:
    """Whether the answer is a page that makes browsers prove that they are browsers."""
    if answer.status_code not in (403, 429, 503):
        return False
    server = answer.headers.get("Server", "").lower()
    page = answer.headers.get("Content-Type", "").startswith("text/html")
    return "cf-mitigated" in answer.headers or (
        page and any(name in server for name in ("cloudflare", "ddos-guard", "sucuri"))
    )


def _seconds(told: str | None) -> float:
    """What Retry-After says: a number of seconds, or a date."""
    try:
        return max(0.0, float(told or 0))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(told or "").timestamp() - time.time())
    except ValueError:
        return 0.0


def _body(answer: requests.Response) -> tuple[bytes, requests.Response]:
    """All of a small answer. Raises CollectError for a large one."""
    parts, size = [], 0
    for chunk in answer.iter_content(1 << 16):
        parts.append(chunk)
        size += len(chunk)
        if size > LARGEST:
            raise CollectError(f"{answer.url.partition('?')[0]} is larger than a page should be.")
    return b"".join(parts), answer


def _json(answer: requests.Response) -> Any:
    import json

    body, _ = _body(answer)
    try:
        return json.loads(body) if body.strip() else []
    except ValueError as error:
        raise Again("it gave an answer that cannot be understood") from error
