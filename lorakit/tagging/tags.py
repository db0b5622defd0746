"""Pure edits on captions made of tags. A list of tags goes in, a new list comes out; nothing is
changed in place.

Two spellings are the same tag when they differ only in case, underscores or escaped parentheses:
`Red_Hair` is `red hair`. Order is kept by every edit. `|||`, with which kohya's trainer marks the
end of the fixed part of a caption, travels through as an item of its own.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

from ..errors import SettingsError

SEPARATOR = "|||"
# Names whose underscores are part of a face (the list that the WD demo page, imgutils and taggui
# share).
KAOMOJI = frozenset(
    "0_0 (o)_(o) +_+ +_- ._. <o>_<o> <|>_<|> =_= >_< 3_3 6_9 >_o @_@ ^_^ o_o u_u x_x |_| "
    "||_||".split()
)


def tidy(name: str) -> str:
    """A tag as people write it: underscores and escapes gone, blanks single; faces like `^_^` stay
    as they are.
    """
    name = " ".join(name.split())
    if name in KAOMOJI:
        return name
    return " ".join(name.replace("\\(", "(").replace("\\)", ")").replace("_", " ").split())


def key(tag: str) -> str:
    """What two spellings of one tag have in common."""
    return tidy(tag).lower()


def parse(caption: str) -> list[str]:
    """The tags of a caption, in order, duplicates included; commas and line ends separate them.

    Blanks around tags and empty tags are dropped, `\\(` and `\\)` read as parentheses. Underscores
    stay as written.
    """
    caption = caption.replace("\\(", "(").replace("\\)", ")")
    parts = re.split(r"[,\n\r]|(\|\|\|)", caption)
    return [tag for tag in (" ".join((part or "").split()) for part in parts) if tag]


def join(tags: Iterable[str]) -> str:
    """The caption made of `tags`. Raises SettingsError for a tag with a comma or line end in it."""
    tags = list(tags)
    for tag in tags:
        if re.search(r"[,\n\r]", tag):
            raise SettingsError(
                f"'{tag}' is not one tag: it holds a comma or a line end. Give its parts one by "
                "one."
            )
    return re.sub(r"(, )?\|\|\|(, )?", " ||| ", ", ".join(tags)).strip()


def dedupe(tags: Iterable[str]) -> list[str]:
    """Each tag once, where it stood first; every `|||` stays."""
    first: dict[str, str] = {}
    for position, tag in enumerate(tags):
        first.setdefault(f"{SEPARATOR} {position}" if tag == SEPARATOR else key(tag), tag)
    return list(first.values())


def remove(tags: Iterable[str], unwanted: Iterable[str]) -> list[str]:
    """`tags` without the unwanted ones."""
    gone = {key(tag) for tag in unwanted}
    return [tag for tag in tags if key(tag) not in gone]


def replace(tags: Iterable[str], changes: Mapping[str, Sequence[str]]) -> list[str]:
    """Each tag that `changes` names gives way, on the spot, to the tags named for it (none: it is
    removed).

    New tags are not looked up again, so `a -> b, b -> a` swaps; a tag that comes up twice is kept
    once.
    """
    wanted = {key(old): new for old, new in changes.items()}
    return dedupe(new for tag in tags for new in wanted.get(key(tag), [tag]))


def add(tags: Sequence[str], new: Iterable[str], first: bool = False) -> list[str]:
    """`tags` and those of `new` that are not among them yet, at the end or (`first`) at the
    beginning.
    """
    fresh = dedupe(remove(new, tags))
    return [*fresh, *tags] if first else [*tags, *fresh]


def activation_first(tags: Sequence[str], activation: str) -> list[str]:
    """`tags` with the activation tag (or several, comma separated) in front, wherever it was
    before.
    """
    words = dedupe(parse(activation))
    return [*words, *remove(tags, [word for word in words if word != SEPARATOR])]


# --- tags with scores -----------------------------------------------------------------------------


def union(scored: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Tags that any tagger found, each with its highest score; best first."""
    return _merge(scored, any, max)


def intersection(scored: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Tags that every tagger found, each with its lowest score; best first."""
    return _merge(scored, all, min)


def mean(scored: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Tags that any tagger found, each with its mean score, where "not found" counts as 0; best
    first.
    """
    return _merge(scored, any, lambda scores: sum(scores) / len(scored))


def _merge(scored: Sequence[Mapping[str, float]], wanted, combine) -> dict[str, float]:  # type: ignore[no-untyped-def]
    names = dict.fromkeys(name for scores in scored for name in scores)
    merged = {
        n: combine([s.get(n, 0.0) for s in scored]) for n in names if wanted(n in s for s in scored)
    }
    return dict(sorted(merged.items(), key=lambda item: -item[1]))


# --- looking at many captions ---------------------------------------------------------------------


def frequencies(captions: Iterable[str | Iterable[str]]) -> dict[str, int]:
    """In how many captions each tag is, most frequent first, then a to z. Captions are texts or
    lists of tags.
    """
    counts: Counter[str] = Counter()
    for caption in captions:
        tags = parse(caption) if isinstance(caption, str) else caption
        counts.update({key(tag) for tag in tags} - {SEPARATOR})
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def likeness(found: Sequence[Collection[str]], base_tags: Collection[str]) -> float:
    """The share (0 to 1) of the base tags that is found, averaged over pictures.

    `found` holds for each picture the tags seen in it. Raises SettingsError without pictures or
    base tags.
    """
    wanted = {key(tag) for tag in base_tags}
    if not wanted:
        raise SettingsError(
            "Likeness needs base tags: choose the tags that make up the character first."
        )
    if not found:
        raise SettingsError("Likeness needs at least one picture to look at.")
    shares = [len(wanted & {key(tag) for tag in tags}) / len(wanted) for tags in found]
    return sum(shares) / len(shares)
