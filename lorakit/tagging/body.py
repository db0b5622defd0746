"""Body order: tags from feet to head, then what surrounds the person, as the guide sorts its lists.

A picture that shows only the upper half then loses a run of tags at the front of the list, easy to
see and drop. `body.csv` holds phrases and their regions. A tag belongs where the longest phrase at
its END belongs (`striped thighhighs` -> thighhighs -> legs), so the table holds nouns, and whole
tags only where the noun misleads (`hand on own hip` is a pose). A phrase ending in ` *` speaks for
every tag that begins so (`holding *`).

Measured on the 8,106 general tags of the WD v3 vocabulary: 94.5 % of the tags and 99.2 % of their
uses on Danbooru find a phrase; the rest counts as objects, which most of it is.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from ..errors import SettingsError
from ..settings import nearest
from .tags import SEPARATOR, key

REGIONS = (
    "feet",
    "legs",
    "hips and waist",
    "arms and hands",
    "torso",
    "neck",
    "face and mouth",
    "head accessories",
    "eyes",
    "hair",
    "skin and whole body",
    "count and framing",
    "pose and expression",
    "objects",
    "background",
    "meta",
)
# What belongs to a character; the regions after these belong to one picture of it.
CHARACTER_REGIONS = REGIONS[: REGIONS.index("count and framing")]
UNKNOWN = "objects"
TABLE = Path(__file__).with_name("body.csv")
_RANK = {region: rank for rank, region in enumerate(REGIONS)}


def check_region(name: str, where: str) -> str:
    """`name` if it is a region. Raises SettingsError naming the nearest one."""
    if name not in _RANK:
        raise SettingsError(f"{where}: there is no region '{name}'{nearest(name, REGIONS)}")
    return name


def region(tag: str, overrides: Mapping[str, str] | None = None) -> str:
    """The region that `tag` belongs to, one of REGIONS; `overrides` (tag -> region) are the user's
    own.
    """
    name = key(tag)
    if overrides:
        own = {key(other): value for other, value in overrides.items()}
        if name in own:
            return check_region(own[name], f"Region of '{tag}'")
    return known_region(name) or UNKNOWN


def body_order(tags: Iterable[str], overrides: Mapping[str, str] | None = None) -> list[str]:
    """`tags` from feet to head; those of one region keep their order, and so do the parts between
    `|||`.
    """
    own = {
        key(tag): check_region(value, f"Region of '{tag}'")
        for tag, value in (overrides or {}).items()
    }
    parts: list[list[str]] = [[]]
    for tag in tags:
        parts += [[tag], []] if tag == SEPARATOR else []
        parts[-1] += [tag] if tag != SEPARATOR else []

    def rank(tag: str) -> int:
        name = key(tag)
        return _RANK[own.get(name) or known_region(name) or UNKNOWN]

    return [tag for part in parts for tag in sorted(part, key=rank)]


@lru_cache(maxsize=65536)
def known_region(name: str) -> str | None:
    """The region by table and rules, or None when no phrase fits; `name` as `tags.key` gives it."""
    bare = re.sub(r" ?\([^()]*\)$", "", name)
    found = _by_phrase(name.split()) or _by_phrase(bare.split())
    return found or next((r for r in map(_table().get, reversed(bare.split()[:-1])) if r), None)


def _by_phrase(words: list[str]) -> str | None:
    """The whole name, else the longest known beginning (`holding *`), else the longest known
    end.
    """
    table = _table()
    if " ".join(words) in table:
        return table[" ".join(words)]
    for end in range(len(words) - 1, 0, -1):
        if beginning := table.get(f"{' '.join(words[:end])} *"):
            return beginning
    ends = (" ".join(words[start:]) for start in range(1, len(words)))
    return next((table[phrase] for phrase in ends if phrase in table), None)


@lru_cache(maxsize=1)
def _table() -> dict[str, str]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return {row["phrase"]: row["region"] for row in csv.DictReader(file)}
