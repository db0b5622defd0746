"""Searching a booru: what the server is asked for, and what is tested here.

A site takes a few tags only. It gets the rarest, so that little comes that is of no use; all others
are applied here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...errors import CollectError, Refused, SettingsError
from ..visitor import Call, Denied, Visitor
from .engines import Ask, Danbooru, Engine, limits, tags_of
from .post import Post
from .query import ALL, Query, Tag
from .sites import Site


@dataclass(frozen=True)
class Term:
    """A word of a search as the server reads it, and the tags that it sees to."""

    text: str
    tags: tuple[Tag, ...] = ()


def terms_for(query: Query, engine: Engine, counts: Mapping[str, int]) -> list[Term]:
    """What the server is asked for, the most important first. `counts` is how many posts have a
    tag, where that is known. Raises SettingsError.
    """
    plain = [tag for tag in tags_of(query) if not tag.wild] or list(tags_of(query)[:1])
    plain.sort(key=lambda tag: counts.get(tag.text, 0))
    terms = [Term(tag.text, (tag,)) for tag in plain]
    if query.either and len(terms) + len(query.either) <= engine.limit:
        texts = engine.either(query.either)
        terms += [Term(text, query.either) for text in texts]
    if not terms:
        raise SettingsError(
            f"tags: the site takes {engine.limit} tags in a search, too few for "
            f"{len(query.either)} tags with ~. Add a tag that all posts must have."
        )
    ratings = [Term(text) for text in engine.rating(query.ratings)]
    more = [] if engine.free else ratings
    more += [Term(text) for text in limits(query.numbers)]
    more += [Term(f"-{tag.text}", (tag,)) for tag in query.exclude if not tag.wild]
    counted = [*terms, *more][: engine.limit]
    return counted + (ratings if engine.free else [])


class Search:
    """One search on one site. `given` are the user's keys there."""

    def __init__(self, site: Site, query: Query, visitor: Visitor) -> None:
        self.site, self.query, self.visitor = site, query, visitor
        self.engine, self.given = site.engine, site.keys()
        self.unknown: list[str] = []  # tags that the site says it does not have
        self.terms = terms_for(query, self.engine, self._tag_counts())

    @property
    def texts(self) -> list[str]:
        """The words that the server is asked for."""
        return [term.text for term in self.terms]

    @property
    def rest(self) -> Query:
        """What is tested here."""
        return self.query.without({tag for term in self.terms for tag in term.tags})

    def total(self) -> int | None:
        """How many posts the site has for what it is asked for; None if it does not say."""
        try:
            body, _ = self.visitor.read(self._call(self.engine.count(self.texts)))
        except Refused:
            raise
        except CollectError:
            return None
        return self.engine.counted(body.decode("utf-8", "replace"))

    def posts(self) -> Iterator[Post]:
        """The newest first, without end of pages: each page is asked for by the number below which
        it lies, so that nothing slips through while new posts come in. Raises Refused.
        """
        span = self.query.ids()
        below = min(span.high + 1, ALL)
        while True:
            rows = self._rows(below)
            posts = [self.engine.read(row, self.site.base) for row in rows]
            older = [post for post in posts if 0 < post.id < below]
            yield from (post for post in older if post.id >= span.low)
            if not older or min(post.id for post in older) <= span.low:
                return
            below = min(post.id for post in older)

    def _rows(self, below: int) -> list[Mapping[str, object]]:
        """A page of posts. A site that takes fewer tags than was thought is asked for fewer."""
        while True:
            call = self._call(self.engine.posts(self.texts, below))
            try:
                return list(self.engine.rows(self.visitor.json(call)))
            except Denied as denied:
                if denied.status != 422 or len(self.terms) == 1:
                    raise self._refused(denied) from denied
                self.terms.pop()
            except Refused as error:
                raise self._refused(error) from error

    def _refused(self, error: CollectError) -> Refused:
        sent = "The keys that were sent are not accepted. " if self.given else ""
        status = error.status if isinstance(error, Denied) else 0
        if status in (401, 403):
            said = f"{self.site.name} refused the search ({status}). {sent}{self.site.login}"
        elif status == 422:
            said = f"{self.site.name} does not understand {' '.join(self.texts)!r} (422)."
        elif str(error).lower().startswith("missing auth"):
            said = f"{self.site.name} refused the search: {error} {self.site.login}"
        else:
            said = f"{self.site.name}: {error}"
        return Refused(said.rstrip())

    def _call(self, ask: Ask) -> Call:
        return self.site.call(ask, self.given)

    def _tag_counts(self) -> Mapping[str, int]:
        """How many posts have each tag, where more are asked for than the site takes and it tells;
        else the first ones are taken for the rarest.
        """
        tags = [tag for tag in self.query.include if not tag.wild]
        if len(tags) <= self.engine.limit or not isinstance(self.engine, Danbooru):
            return {}
        try:
            answer = self.visitor.json(self._call(self.engine.tag_counts(tags)))
            rows = self.engine.rows(answer)
        except Denied as denied:
            raise self._refused(denied) from denied
        counts = {str(row.get("name")): int(row.get("post_count") or 0) for row in rows}
        self.unknown = [tag.text for tag in tags if not counts.get(tag.text)]
        return counts


def unseen(terms: Sequence[Term], unknown: Sequence[str]) -> list[str]:
    """Those of `unknown` that the server is not asked for: it may know them as other names of a
    tag, which cannot be told here.
    """
    sent = {tag.text for term in terms for tag in term.tags}
    return [text for text in unknown if text not in sent]
