"""Pictures from boorus: gelbooru, danbooru, safebooru, yande.re, konachan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from ...progress import Progress, silent
from ...settings import check, setting
from .. import Source
from ..finds import Find, Offer, Origin
from ..transfer import fetch, small
from ..visitor import Call, Visitor
from .post import File, Post
from .query import parse
from .search import Search, unseen
from .sites import SITES, Site

DANGLING = "have no file that can be fetched (taken down, or for members only)"
MOVING = "are animations or films"
SMALL = "are too small"
VERSIONS = "are versions of another that is taken (parents=all takes them too)"


@dataclass(frozen=True)
class BooruSettings:
    """Pictures from a booru, found by their tags."""

    SECTION: ClassVar[str] = "boorus"

    site: str = setting("safebooru", "Which booru", choices=tuple(SITES))
    tags: str = setting(
        "",
        "What to look for, as on the site: tags separated by spaces, -excluded, ~one ~of ~these, "
        "blue_*, score:>10, rating:g,s, width:>=768, height:, id:",
    )
    limit: int = setting(200, "At most so many pictures, the newest", unit="pictures", low=1)
    size: str = setting(
        "full",
        "Size of the pictures: as uploaded, or the site's sample",
        choices=("full", "sample"),
    )
    smallest: int = setting(
        512, "Leave out what has a shorter side than this; 0: nothing", unit="pixels", low=0
    )
    largest: int = setting(
        0,
        "Of a picture with a longer side than this take the site's smaller size; 0: never",
        unit="pixels",
        low=0,
        advanced=True,
    )
    parents: str = setting(
        "one",
        "Of a post and its versions (parent and children) take one, or all",
        choices=("one", "all"),
        advanced=True,
    )
    look_at: int = setting(
        5000,
        "Give up after this many posts if few are what is wanted",
        unit="posts",
        low=1,
        advanced=True,
    )

    def __post_init__(self) -> None:
        check(self)
        if self.tags.strip():
            parse(self.tags)


def look(settings: BooruSettings, items: Sequence[str] = (), progress: Progress = silent) -> Offer:
    """What a search finds: lists of posts are fetched, no picture. Raises SettingsError, Refused,
    CollectError.
    """
    site = SITES[settings.site]
    visitor = Visitor(site.pace)
    search = Search(site, parse(settings.tags), visitor)
    gathered = _Gathered(settings)
    total = search.total()
    progress(f"Looking at posts of {site.name}", 0, settings.limit)
    for post in search.posts():
        gathered.consider(post, search)
        progress(f"Looking at posts of {site.name}", len(gathered.posts), settings.limit)
        if gathered.full:
            break
    finds = [_find(post, settings, site, visitor) for post in gathered.posts.values()]
    return Offer(finds, _notes(gathered, search, total))


class _Gathered:
    """The posts that are taken, by family, and why others are not."""

    def __init__(self, settings: BooruSettings) -> None:
        self.settings = settings
        self.posts: dict[int, Post] = {}
        self.left_out: Counter[str] = Counter()
        self.seen = 0

    @property
    def full(self) -> bool:
        return len(self.posts) >= self.settings.limit or self.seen >= self.settings.look_at

    def consider(self, post: Post, search: Search) -> None:
        """Takes a post, or counts why not."""
        self.seen += 1
        if not search.rest.on(post):
            return
        if reason := self._unfit(post):
            self.left_out[reason] += 1
            return
        if self.settings.parents == "all":
            self.posts[post.id] = post
            return
        there = self.posts.get(post.family)
        self.left_out[VERSIONS] += there is not None
        if there is None or post.id == post.family:  # the parent is the original
            self.posts[post.family] = post

    def _unfit(self, post: Post) -> str:
        if not post.files:
            return DANGLING
        if post.moves:
            return MOVING
        file = _file(post, self.settings)
        shorter = min(file.width, file.height)
        return SMALL if 0 < shorter < self.settings.smallest else ""


def _file(post: Post, settings: BooruSettings) -> File:
    return post.file(settings.size, settings.largest)


def _find(post: Post, settings: BooruSettings, site: Site, visitor: Visitor) -> Find:
    file = _file(post, settings)
    page = f"{site.base}/{site.engine.page_of(post.id)}"
    headers = {"Referer": page}
    suffix = ".jpg" if file.suffix == ".jpeg" else file.suffix
    return Find(
        Origin(site.source, str(post.id), page, tuple(sorted(post.tags))),
        f"{site.source}_{post.id}{suffix}",
        partial(_write, visitor, Call(file.url, headers=headers), file.md5),
        (file.width, file.height) if file.width and file.height else None,
        partial(small, visitor, Call(post.preview, headers=headers)) if post.preview else None,
    )


def _write(visitor: Visitor, call: Call, md5: str, path: Path) -> None:
    fetch(visitor, call, path, md5)


def _notes(gathered: _Gathered, search: Search, total: int | None) -> list[str]:
    """What was asked for, what was left out, and what to do where little was found."""
    settings, site, asked = gathered.settings, search.site.name, " ".join(search.texts)
    has = f"{site}: posts for" if total is None else f"{site} has {total:,} posts for"
    notes = [f"{has} '{asked}'; {gathered.seen:,} were looked at."]
    notes += [f"{count:,} {reason}." for reason, count in gathered.left_out.items() if count]
    if missing := unseen(search.terms, search.unknown):
        notes.append(
            f"{site} has no tag {' or '.join(missing)}. If that is another name of a "
            "tag, use the tag itself."
        )
    if gathered.seen >= settings.look_at and len(gathered.posts) < settings.limit:
        notes.append(
            f"After {settings.look_at:,} posts the search was ended; a higher look_at goes on."
        )
    if not gathered.seen:
        notes.append("Nothing was found: look up on the site how it writes these tags.")
    return notes


SOURCE = Source("boorus", "Boorus: fan art by its tags", "", BooruSettings, look)
