"""One query language for every booru: what a post must have, must not have, and between what limits
its numbers are.

`astrid solo -comic ~smile ~grin blue_* score:>10 rating:g,s width:>=768`: tags are separated by
spaces, words within a tag by _; of several ~tags one is enough; * stands for anything.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ...errors import SettingsError
from .post import RATINGS, Post

NUMBERS = ("score", "width", "height", "id")
# what sites understand and lorakit cannot test on a post
FOREIGN = {
    *("order", "sort", "user", "date", "age", "status", "pool", "fav", "favcount", "source"),
    *("parent", "child", "limit", "is", "has", "mpixels", "ratio", "filesize", "filetype", "md5"),
}
ALL = 2**62  # above any number that a site gives


@dataclass(frozen=True)
class Span:
    """Numbers from `low` to `high`, both included."""

    low: int = -ALL
    high: int = ALL

    def __contains__(self, number: int) -> bool:
        return self.low <= number <= self.high


@dataclass(frozen=True)
class Tag:
    """One tag, perhaps with * in it."""

    text: str

    @property
    def wild(self) -> bool:
        return "*" in self.text

    def on(self, tags: Collection[str]) -> bool:
        """Whether a post with those tags has it."""
        if not self.wild:
            return self.text in tags
        pattern = self.text.replace("[", "[[]").replace("?", "[?]")
        return any(fnmatchcase(tag, pattern) for tag in tags)


@dataclass(frozen=True)
class Number:
    """A limit on one of NUMBERS: the value is in one of `spans`, or in none if `negated`."""

    name: str
    spans: tuple[Span, ...]
    negated: bool = False

    def on(self, post: Post) -> bool:
        value = getattr(post, self.name)
        return any(value in span for span in self.spans) != self.negated


@dataclass(frozen=True)
class Query:
    """What is looked for. `ratings` are letters of 'gsqe', those that will do."""

    include: tuple[Tag, ...] = ()
    exclude: tuple[Tag, ...] = ()
    either: tuple[Tag, ...] = ()
    numbers: tuple[Number, ...] = ()
    ratings: str = RATINGS

    def ids(self) -> Span:
        """Between which post numbers all of it lies."""
        low, high = 0, ALL
        for number in self.numbers:
            if number.name == "id" and not number.negated:
                low = max(low, min(span.low for span in number.spans))
                high = min(high, max(span.high for span in number.spans))
        return Span(low, high)

    def without(self, sent: Collection[Tag]) -> Query:
        """What is still to be tested here when the server was asked for the tags `sent`: it knows
        other names of a tag, so that its answer is not tested again.
        """
        return Query(
            tuple(tag for tag in self.include if tag not in sent),
            tuple(tag for tag in self.exclude if tag not in sent),
            () if self.either and set(self.either) <= set(sent) else self.either,
            self.numbers,
            self.ratings,
        )

    def on(self, post: Post) -> bool:
        """Whether the post is one of those."""
        return (
            all(tag.on(post.tags) for tag in self.include)
            and not any(tag.on(post.tags) for tag in self.exclude)
            and (not self.either or any(tag.on(post.tags) for tag in self.either))
            and all(number.on(post) for number in self.numbers)
            and self._rated(post)
        )

    def _rated(self, post: Post) -> bool:
        """A rating that covers two ('safe') will do if one of them was asked for."""
        return not post.rating or bool(set(post.rating) & set(self.ratings))


def parse(text: str) -> Query:
    """The query that `text` spells. Raises SettingsError."""
    include: list[Tag] = []
    exclude: list[Tag] = []
    either: list[Tag] = []
    numbers: list[Number] = []
    ratings = RATINGS
    for word in text.lower().split():
        negated, term = word.startswith("-") and len(word) > 1, word.removeprefix("-") or word
        _refuse_commas(term, text)
        name, colon, value = term.partition(":")
        if colon and name in NUMBERS:
            numbers.append(Number(name, _spans(term, value), negated))
        elif colon and name == "rating":
            asked = _ratings(value)
            ratings = "".join(r for r in ratings if (r in asked) != negated)
        elif colon and value and name in FOREIGN:
            raise SettingsError(
                f"tags: '{term}' is not understood here; beside tags there are rating:, "
                f"{', '.join(f'{n}:' for n in NUMBERS)}. Take it out."
            )
        elif not negated and term.startswith("~") and len(term) > 1:
            either.append(Tag(term[1:]))
        else:
            (exclude if negated else include).append(Tag(term))
    query = Query(_once(include), _once(exclude), _once(either), tuple(numbers), ratings)
    _refuse_nonsense(query)
    return query


def _once(tags: list[Tag]) -> tuple[Tag, ...]:
    return tuple(dict.fromkeys(tags))


def _refuse_commas(term: str, text: str) -> None:
    """Someone wrote tags as in a caption; a booru would find nothing."""
    if term.endswith(",") or (term.startswith(",") and len(term) > 1):
        tags = [part.strip().replace(" ", "_") for part in text.split(",") if part.strip()]
        raise SettingsError(
            "tags: tags are separated by spaces here, and words within a tag by _. "
            f"Did you mean: {' '.join(tags)}"
        )


def _refuse_nonsense(query: Query) -> None:
    both = set(query.include) & set(query.exclude)
    if both:
        raise SettingsError(
            f"tags: {min(tag.text for tag in both)} is both asked for and excluded."
        )
    if not query.ratings:
        raise SettingsError("tags: no rating is left. Ratings are g, s, q and e.")
    if not (query.include or query.either):
        raise SettingsError(
            "tags: say what to look for with one tag at least, such as the character's name as the "
            "site writes it: hatsune_miku"
        )


def _ratings(value: str) -> str:
    """'g,s' and 'general,sensitive' are 'gs'; so is 'safe', which older boorus call both."""
    letters = ""
    for word in value.split(","):
        if word == "safe":
            letters += "gs"
        elif word in ("general", "sensitive", "questionable", "explicit", *RATINGS):
            letters += word[0]
        else:
            raise SettingsError(
                f"tags: there is no rating '{word}'; there are g (general), s (sensitive), q "
                "(questionable), e (explicit) and safe (g and s)."
            )
    return letters


def _spans(term: str, value: str) -> tuple[Span, ...]:
    """'>10', '>=10', '<10', '<=10', '10', '10..20', '10..', '..20' and several with commas."""
    return tuple(_span(term, part) for part in value.split(","))


def _span(term: str, part: str) -> Span:
    if found := re.fullmatch(r"(<=|>=|<|>|)(-?\d{1,15})", part):
        number = int(found[2])
        return {
            ">": Span(number + 1),
            ">=": Span(number),
            "<": Span(high=number - 1),
            "<=": Span(high=number),
            "": Span(number, number),
        }[found[1]]
    if (found := re.fullmatch(r"(-?\d{1,15})?\.\.(-?\d{1,15})?", part)) and part != "..":
        span = Span(int(found[1] or -ALL), int(found[2] or ALL))
        if span.low <= span.high:
            return span
    name = term.partition(":")[0]
    raise SettingsError(
        f"tags: '{term}' is not understood; write {name}:>10, {name}:<=10, {name}:10..20 or "
        f"{name}:10."
    )
