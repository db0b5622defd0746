"""The three programs that boorus run: how each is asked, and how its posts are read.

Gelbooru (0.2 and 0.25, `index.php?page=dapi`), Danbooru (`/posts.json`), Moebooru (`/post.json`).
An engine is a class of functions on plain values; it asks nobody itself.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Protocol
from urllib.parse import urljoin

from ...errors import Refused
from ..visitor import is_address
from .post import RATINGS, File, Post, number
from .query import ALL, Number, Query, Tag

Row = Mapping[str, Any]
Ask = tuple[str, dict[str, str | int]]  # path below the site's address, and its query
WORDS = {"g": "general", "s": "sensitive", "q": "questionable", "e": "explicit"}


class Engine(Protocol):
    """What search.py wants of an engine. `limit` is how many tags a search may have, `page` how
    many posts an answer has at most, `free` whether a rating does not count as a tag.
    """

    @property
    def limit(self) -> int: ...

    @property
    def page(self) -> int: ...

    @property
    def free(self) -> bool: ...

    def posts(self, terms: Sequence[str], below: int) -> Ask:
        """Asks for the newest posts with a number below `below`."""

    def rows(self, answer: Any) -> list[Row]:
        """The posts of that answer as they come. Raises Refused for an answer that is none."""

    def read(self, row: Row, base: str) -> Post: ...

    def count(self, terms: Sequence[str]) -> Ask:
        """Asks how many posts there are; its answer is text."""

    def counted(self, text: str) -> int | None: ...

    def either(self, tags: Sequence[Tag]) -> list[str]:
        """Terms of which one is enough."""

    def rating(self, ratings: str) -> list[str]: ...

    def page_of(self, id: int) -> str: ...


@dataclass(frozen=True)
class Gelbooru:
    """`rated` is whether its ratings are WORDS; safebooru.org is all safe and keeps older words."""

    rated: bool = True
    limit: int = 60
    page: int = 100
    free: bool = True

    def posts(self, terms: Sequence[str], below: int) -> Ask:
        tags = " ".join([*terms, *([f"id:<{below}"] if below < ALL else [])])
        return self._ask(limit=self.page, tags=tags, json=1)

    def rows(self, answer: Any) -> list[Row]:
        if isinstance(answer, str):  # 'Missing authentication. ...', with status 200
            raise Refused(answer.strip()[:200])
        found = answer.get("post", []) if isinstance(answer, dict) else answer
        return _rows([found] if isinstance(found, dict) else found)

    def read(self, row: Row, base: str) -> Post:
        width, height = number(row.get("width")), number(row.get("height"))
        directory, image = row.get("directory"), str(row.get("image") or "")
        stem = PurePosixPath(image).stem
        # 0.2 leaves the addresses to its readers
        made = bool(directory and image) and "file_url" not in row
        full = f"images/{directory}/{image}" if made else row.get("file_url")
        sample = f"samples/{directory}/sample_{stem}.jpg" if made else row.get("sample_url")
        small = f"thumbnails/{directory}/thumbnail_{stem}.jpg" if made else row.get("preview_url")
        has_sample = str(row.get("sample", "0")).lower() in ("1", "true")
        # 0.2 has a `hash`, of what it does not say: without a checksum the picture is decoded
        sizes = [File(_address(base, full), width, height, row.get("md5") or "")]
        if has_sample and sample:
            smaller = number(row.get("sample_width")), number(row.get("sample_height"))
            sizes.append(File(_address(base, sample), *smaller))
        return Post(
            number(row.get("id")),
            frozenset(html.unescape(str(row.get("tags") or "")).split()),
            _rating(str(row.get("rating") or "")),
            number(row.get("score")),
            width,
            height,
            number(row.get("parent_id")),
            _files(sizes),
            _address(base, small),
        )

    def count(self, terms: Sequence[str]) -> Ask:
        return self._ask(limit=1, tags=" ".join(terms))

    def counted(self, text: str) -> int | None:
        return _counted_xml(text)

    def either(self, tags: Sequence[Tag]) -> list[str]:
        return ["{" + " ~ ".join(tag.text for tag in tags) + "}"]

    def rating(self, ratings: str) -> list[str]:
        return [f"-rating:{WORDS[r]}" for r in RATINGS if r not in ratings] if self.rated else []

    def page_of(self, id: int) -> str:
        return f"index.php?page=post&s=view&id={id}"

    def _ask(self, **more: str | int) -> Ask:
        return "index.php", {"page": "dapi", "s": "post", "q": "index", **more}


@dataclass(frozen=True)
class Danbooru:
    limit: int = 2  # of who is not signed in, and of members
    page: int = 200
    free: bool = True

    def posts(self, terms: Sequence[str], below: int) -> Ask:
        asked: dict[str, str | int] = {"limit": self.page, "tags": " ".join(terms)}
        return "posts.json", asked | ({"page": f"b{below}"} if below < ALL else {})

    def rows(self, answer: Any) -> list[Row]:
        if isinstance(answer, dict) and answer.get("success") is False:
            raise Refused(str(answer.get("message") or "The site gave no reason.")[:200])
        return _rows(answer)

    def read(self, row: Row, base: str) -> Post:
        width, height = number(row.get("image_width")), number(row.get("image_height"))
        sizes = [File(_address(base, row.get("file_url")), width, height, row.get("md5") or "")]
        sample = row.get("large_file_url")
        if sample and sample != row.get("file_url"):
            # by the site's rule: 850 pixels wide
            sizes.append(File(_address(base, sample), 850, round(850 * height / max(1, width))))
        return Post(
            number(row.get("id")),
            frozenset(str(row.get("tag_string") or "").split()),
            str(row.get("rating") or "")[:1],
            number(row.get("score")),
            width,
            height,
            number(row.get("parent_id")),
            _files(sizes),
            _address(base, row.get("preview_file_url")),
        )

    def count(self, terms: Sequence[str]) -> Ask:
        return "counts/posts.json", {"tags": " ".join(terms)}

    def counted(self, text: str) -> int | None:
        found = re.search(r'"posts"\s*:\s*(\d+)', text)
        return int(found[1]) if found else None

    def tag_counts(self, tags: Sequence[Tag]) -> Ask:
        """Asks how many posts have each tag."""
        names = ",".join(tag.text for tag in tags)
        return "tags.json", {"search[name_comma]": names, "limit": 1000, "only": "name,post_count"}

    def either(self, tags: Sequence[Tag]) -> list[str]:
        return [f"~{tag.text}" for tag in tags]

    def rating(self, ratings: str) -> list[str]:
        return [] if set(ratings) == set(RATINGS) else [f"rating:{','.join(ratings)}"]

    def page_of(self, id: int) -> str:
        return f"posts/{id}"


@dataclass(frozen=True)
class Moebooru:
    limit: int = 5  # six, one of which says below which number
    page: int = 100
    free: bool = False

    def posts(self, terms: Sequence[str], below: int) -> Ask:
        tags = " ".join([*terms, *([f"id:<{below}"] if below < ALL else [])])
        return "post.json", {"limit": self.page, "tags": tags}

    def rows(self, answer: Any) -> list[Row]:
        if isinstance(answer, dict) and answer.get("success") is False:
            raise Refused(str(answer.get("reason") or "The site gave no reason.")[:200])
        return _rows(answer.get("posts", []) if isinstance(answer, dict) else answer)

    def read(self, row: Row, base: str) -> Post:
        sizes = [
            File(_address(base, row.get("file_url")), *_pixels(row, ""), row.get("md5") or ""),
            File(_address(base, row.get("jpeg_url")), *_pixels(row, "jpeg_")),
            File(_address(base, row.get("sample_url")), *_pixels(row, "sample_")),
        ]
        return Post(
            number(row.get("id")),
            frozenset(str(row.get("tags") or "").split()),
            _rating({"s": "safe"}.get(str(row.get("rating")), str(row.get("rating") or ""))),
            number(row.get("score")),
            *_pixels(row, ""),
            number(row.get("parent_id")),
            _files(sizes),
            _address(base, row.get("preview_url")),
        )

    def count(self, terms: Sequence[str]) -> Ask:
        return "post.xml", {"limit": 1, "tags": " ".join(terms)}

    def counted(self, text: str) -> int | None:
        return _counted_xml(text)

    def either(self, tags: Sequence[Tag]) -> list[str]:
        return [f"~{tag.text}" for tag in tags]

    def rating(self, ratings: str) -> list[str]:
        """Its s (safe) is both g and s."""
        theirs = {"s": "gs", "q": "q", "e": "e"}
        return [f"-rating:{name}" for name, of in theirs.items() if not set(of) & set(ratings)]

    def page_of(self, id: int) -> str:
        return f"post/show/{id}"


def limits(numbers: Iterable[Number]) -> list[str]:
    """Limits on numbers in the words that all engines share: `score:>=11`. Post numbers are left
    out: paging has them.
    """
    terms = []
    for each in numbers:
        if each.name == "id" or each.negated or len(each.spans) > 1:
            continue
        span = each.spans[0]
        terms += [f"{each.name}:>={span.low}"] if span.low > -ALL else []
        terms += [f"{each.name}:<={span.high}"] if span.high < ALL else []
    return terms


def tags_of(query: Query) -> list[Tag]:
    """The tags that a search must have, those without * first."""
    return sorted(query.include, key=lambda tag: tag.wild)


def _rows(found: Any) -> list[Row]:
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise Refused(f"The site gave something else than posts: {str(found)[:100]}")
    return found


def _files(sizes: Sequence[File]) -> tuple[File, ...]:
    """Those that are there, each once, the original first; none where the original is not."""
    if not sizes[0].url:
        return ()
    return tuple({file.url: file for file in reversed(sizes) if file.url}.values())[::-1]


def _address(base: str, url: Any) -> str:
    """A full address: some sites leave out the protocol or the host. '' for what is none."""
    try:
        full = urljoin(base + "/", str(url)) if url else ""
    except ValueError:
        return ""
    return full if is_address(full) else ""


def _pixels(row: Row, prefix: str) -> tuple[int, int]:
    return number(row.get(f"{prefix}width")), number(row.get(f"{prefix}height"))


def _rating(word: str) -> str:
    """Letters of RATINGS for a rating's name."""
    return "gs" if word in ("safe",) else word[:1] if word[:1] in RATINGS else ""


def _counted_xml(text: str) -> int | None:
    found = re.search(r'<posts[^>]*?\bcount="(\d+)"', text)
    return int(found[1]) if found else None
