"""The boorus that lorakit knows: where they are, what runs there, how often they may be asked, and
the keys they want.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import Refused
from .. import keys
from ..visitor import Call
from .engines import Ask, Danbooru, Engine, Gelbooru, Moebooru


@dataclass(frozen=True)
class Site:
    """`source` is what its pictures are called after (two sites may show the same posts), `pace`
    the seconds between two requests, `key_names` what it wants from who has an account, `must`
    whether it answers nobody else, `account` where a person gets those keys.
    """

    name: str
    base: str
    engine: Engine
    pace: float
    source: str
    key_names: tuple[str, ...] = ()
    must: bool = False
    account: str = ""

    def keys(self) -> dict[str, str]:
        """The user's keys; empty if one is missing. Raises Refused where it answers nobody without
        them.
        """
        found = {name: keys.key(self.source, name) for name in self.key_names}
        if all(found.values()):
            return found
        if self.must:
            missing = " and ".join(name for name, value in found.items() if not value)
            raise Refused(f"{self.name} answers nobody without {missing}. {self.login}")
        return {}

    @property
    def login(self) -> str:
        """The sentence that says where keys come from and where they go; '' where there are
        none.
        """
        if not self.key_names:
            return ""
        return f"{self.account} Put them {keys.how_to_give(self.source, *self.key_names)}."

    def call(self, ask: Ask, given: dict[str, str]) -> Call:
        """The request for what an engine asks, with the keys as this engine wants them."""
        path, params = ask
        url = f"{self.base}/{path}"
        if isinstance(self.engine, Gelbooru):
            return Call(url, {**params, **given}, login=self.login)
        auth = (given["login"], given["api_key"]) if given else None
        return Call(url, params, auth=auth, login=self.login)


# paces: Danbooru's staff asks collectors for one picture a second (facts/datasets.md, section 2)
DANBOORU_KEYS = {
    "source": "danbooru",
    "key_names": ("login", "api_key"),
    "account": "On danbooru.donmai.us, My Account shows your name (login) and makes an API key.",
}
SITES = {
    site.name: site
    for site in (
        Site(
            "gelbooru",
            "https://gelbooru.com",
            Gelbooru(),
            0.5,
            "gelbooru",
            ("user_id", "api_key"),
            must=True,
            account="A free account on gelbooru.com has both under Options, API Access "
            "Credentials.",
        ),
        Site("danbooru", "https://danbooru.donmai.us", Danbooru(), 1.0, **DANBOORU_KEYS),  # type: ignore[arg-type]
        Site("safebooru", "https://safebooru.org", Gelbooru(rated=False), 0.5, "safebooru"),
        Site(
            "safebooru-donmai",
            "https://safebooru.donmai.us",
            Danbooru(),
            1.0,
            **DANBOORU_KEYS,  # type: ignore[arg-type]
        ),
        Site("yandere", "https://yande.re", Moebooru(), 1.0, "yandere"),
        Site("konachan", "https://konachan.com", Moebooru(), 1.0, "konachan"),
    )
}
