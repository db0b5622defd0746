"""What becomes of a caption each time its picture is shown. Pure, given its random generator.

A caption is a list of tags with commas between; in `fixed|||others|||end` the separator says which
of them stay in place. Lines and `{a|b}` are choices if wildcards are on.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from .config import CaptionSettings

CHOICE = re.compile(r"\{([^{}]*\|[^{}]*)\}")  # the innermost ones; braces without | are smileys


@dataclass(frozen=True)
class Parted:
    """A caption's tags: those kept at its start, those that may move or go, those kept at its
    end.
    """

    kept: list[str]
    others: list[str]
    end: list[str]


def shown_caption(
    caption: str,
    settings: CaptionSettings,
    rng: random.Random,
    keep_tags: int | None = None,
    regularisation: bool = False,
) -> str:
    """The caption with its first `keep_tags` tags (by default the settings') in place, the others
    shuffled and thinned as the settings say; or '', as often as `caption_dropout` says.

    A regularisation caption gets no prefix: that may hold the activation tag.
    """
    if rng.random() < settings.caption_dropout:
        return ""
    text, suffix = _chosen(caption, settings, rng), settings.caption_suffix
    prefix = "" if regularisation else settings.caption_prefix
    if settings.sentences:
        return _sentence(prefix, *pieces(text, settings), suffix)
    parted = part(text, settings, keep_tags)
    others = [tag for tag in parted.others if rng.random() >= settings.tag_dropout]
    if settings.shuffle_tags:
        rng.shuffle(others)
    return ", ".join([*split(prefix), *parted.kept, *others, *parted.end, *split(suffix)])


def prior_caption(
    caption: str,
    settings: CaptionSettings,
    rng: random.Random,
    keep_tags: int | None = None,
    regularisation: bool = False,
) -> str:
    """The caption without what calls the LoRA: prefix and kept tags left out, all others there.

    Of a sentence, what stands before the separator is left out, else its first `keep_tags` parts
    between commas. A regularisation caption has nothing that calls the LoRA.
    """
    text, suffix = _chosen(caption, settings, rng), settings.caption_suffix
    count = settings.keep_tags if keep_tags is None else keep_tags
    if settings.sentences:
        found = pieces(text, settings)
        if not regularisation:
            found = found[1:] or [",".join(text.split(",")[count:])]
        return _sentence(*found, suffix)
    parted = part(text, settings, count)
    if settings.shuffle_tags:
        rng.shuffle(parted.others)
    kept = parted.kept if regularisation else []
    return ", ".join([*kept, *parted.others, *parted.end, *split(suffix)])


def pieces(caption: str, settings: CaptionSettings) -> list[str]:
    """What stands between the separators of a caption; all of it where there is none."""
    return caption.split(settings.keep_separator) if settings.keep_separator else [caption]


def split(text: str) -> list[str]:
    """The tags of a text: between commas and line ends, none of them empty."""
    return [tag for each in re.split(r"[,\n]", text) if (tag := each.strip())]


def part(caption: str, settings: CaptionSettings, keep_tags: int | None = None) -> Parted:
    """A caption's tags by what may happen to them: by the separator where it has one, else the
    first `keep_tags` are kept.
    """
    tags, *more = (split(piece) for piece in pieces(caption, settings))
    if more:
        return Parted(tags, more[0], [tag for end in more[1:] for tag in end])
    count = settings.keep_tags if keep_tags is None else keep_tags
    return Parted(tags[:count], tags[count:], [])


def _chosen(caption: str, settings: CaptionSettings, rng: random.Random) -> str:
    """One of a caption's lines, and one of each `{a|b|c}` in it, if wildcards are on."""
    if not settings.wildcards:
        return caption
    lines = [line for line in caption.splitlines() if line.strip()]
    text = rng.choice(lines) if lines else ""
    while CHOICE.search(text):
        text = CHOICE.sub(lambda found: rng.choice(found[1].split("|")), text)
    return text


def _sentence(*parts: str) -> str:
    """Sentences one behind the other; a comma between, where none ends with a mark of its own."""
    text = ""
    for piece in (" ".join(piece.split()) for piece in parts):
        between = " " if text.endswith((".", "!", "?", ",", ";", ":")) else ", "
        text = f"{text}{between}{piece}" if text and piece else text or piece
    return text
