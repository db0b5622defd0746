"""The guide's method over a whole project: the tagger's tags, the user's lists, the character's
base tags, in order.

The character is decided once (`base_tags_from` one picture that shows it best, or
`suggest_base_tags` over all), and every caption is made from that: threshold, remove list,
glossary, base tags, order, activation tag first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from .. import dataset
from ..dataset import Picture
from ..errors import SettingsError
from ..progress import Progress, silent
from ..project import Project
from ..settings import check, setting
from . import body, glossary, scores, taggers, tags

# Dropped from the character sheet in the guide's worked example. They stay in captions: what a
# caption does not say is learnt as part of the character, and nobody wants a white background
# learnt.
SHEET_REMOVE = ("1girl", "solo", "white background", "simple background", "smile", "open mouth")
# Never of use in a caption: they compare the picture with another one instead of saying what it
# shows.
ALWAYS_REMOVE = (
    "virtual youtuber",
    "cosplay",
    "alternate costume",
    "official alternate costume",
    "adapted costume",
    "alternate hairstyle",
    "official alternate hairstyle",
    "alternate hair length",
    "alternate hair color",
    "alternate eye color",
    "alternate breast size",
)


@dataclass(frozen=True)
class TaggingSettings:
    """How captions are made. The table [tagging] of project.toml."""

    SECTION: ClassVar[str] = "tagging"

    activation_tag: str = setting("", "The made-up word that will call the LoRA; always first.")
    tagger: str = setting(
        "wd-swinv2-tagger-v3",
        f"Which tagger looks at the pictures: {', '.join(taggers.names())}, or a folder that holds "
        "one. Several, separated by commas, are united.",
    )
    threshold: float = setting(
        0.0, "Tags with at least this score count; 0 takes each tagger's own.", low=0, high=1
    )
    character_threshold: float = setting(
        1.0,
        "The same for names of known characters; 1 leaves them out, 0 takes each tagger's own.",
        low=0,
        high=1,
        advanced=True,
    )
    base_tags: tuple[str, ...] = setting(
        (), "The character's own tags. Empty: those found in most pictures."
    )
    base_mode: str = setting(
        "prune",
        "What happens to base tags: 'prune' takes them out of captions, so that the activation tag "
        "alone comes to mean them; 'fixed' gives them to every picture, to be checked by hand; "
        "'keep' leaves what the tagger saw.",
        choices=("prune", "fixed", "keep"),
    )
    remove_tags: tuple[str, ...] = setting(
        ALWAYS_REMOVE, "Tags that never get into a caption.", advanced=True
    )
    order: str = setting(
        "body",
        "Order of tags: from feet to head, best score first, a to z, most frequent first, or as "
        "they come.",
        choices=("body", "score", "a-z", "frequency", "keep"),
        advanced=True,
    )
    existing: str = setting(
        "replace",
        "Captions that are already there: replace them, append new tags to them, or skip those "
        "pictures.",
        choices=("replace", "append", "skip"),
    )

    def __post_init__(self) -> None:
        check(self)
        for tag in (*self.base_tags, *self.remove_tags):
            tags.join([tag])
        if not tags.parse(self.tagger):
            raise SettingsError(
                f"{self.SECTION}: tagger is empty; choose one of {', '.join(taggers.names())}."
            )


@dataclass(frozen=True)
class CaptionPlan:
    """What would be written: the caption of each picture, and the base tags that went into them."""

    captions: dict[Picture, str]
    base_tags: tuple[str, ...]
    scores_files: tuple[Path, ...]


@dataclass(frozen=True)
class TagReport:
    """What was written; plain values. `top`: in how many captions each tag is, most frequent
    first.
    """

    pictures: int
    captions: int
    base_tags: tuple[str, ...]
    top: dict[str, int]
    scores_files: tuple[Path, ...]
    record: Path | None

    def __str__(self) -> str:
        top = ", ".join(f"{tag} {count}" for tag, count in list(self.top.items())[:12])
        return (
            f"{self.captions} of {self.pictures} pictures got a caption. Most frequent: "
            f"{top or 'nothing'}.\n"
            f"Base tags: {', '.join(self.base_tags) or 'none'}."
        )


# --- one picture ----------------------------------------------------------------------------------


def propose(
    found: Mapping[str, float],
    settings: TaggingSettings,
    words: glossary.Glossary | None = None,
    counts: Mapping[str, int] | None = None,
) -> list[str]:
    """The tags of one caption from the scores of one picture; pure.

    `found` are tags with scores (those under `settings.threshold` are left out), `words` the
    glossary, `counts` how often each tag occurs in the dataset (for the order by frequency).
    """
    words = words or {}
    seen = cleaned(found, settings, words)
    caption = with_base_tags(seen, settings.base_tags, settings.base_mode)
    caption = ordered(caption, settings.order, found, counts or {}, glossary.regions(words))
    return tags.activation_first(caption, settings.activation_tag)


def cleaned(
    found: Mapping[str, float], settings: TaggingSettings, words: glossary.Glossary
) -> list[str]:
    """The tags that count, best first, without the unwanted ones, with the glossary's
    replacements.
    """
    over = sorted(
        (tag for tag, score in found.items() if score >= settings.threshold),
        key=lambda tag: -found[tag],
    )
    return tags.dedupe(glossary.apply(tags.remove(over, settings.remove_tags), words))


def with_base_tags(seen: Sequence[str], base_tags: Sequence[str], mode: str) -> list[str]:
    """`seen` with the base tags given to it (`fixed`), taken out of it (`prune`), or as it is
    (`keep`).

    `prune` also takes what a base tag implies: beside the base tag `black thighhighs`, `thighhighs`
    goes.
    """
    if mode == "fixed":
        return tags.add(tags.dedupe(base_tags), seen)
    if mode == "keep":
        return list(seen)
    ends = tuple(tags.key(tag) for tag in base_tags)
    return [
        tag
        for tag in seen
        if not any(own == (k := tags.key(tag)) or own.endswith(f" {k}") for own in ends)
    ]


def ordered(
    caption: Sequence[str],
    order: str,
    found: Mapping[str, float],
    counts: Mapping[str, int],
    regions: Mapping[str, str],
) -> list[str]:
    """`caption` in one of the orders of TaggingSettings; tags that a person gave count as certain
    (score 1).
    """
    if order == "body":
        return body.body_order(caption, regions)
    if order == "score":
        return sorted(caption, key=lambda tag: -found.get(tag, 1.0))
    if order == "a-z":
        return sorted(caption, key=tags.key)
    if order == "frequency":
        return sorted(caption, key=lambda tag: -counts.get(tags.key(tag), 0))
    return list(caption)


# --- the character --------------------------------------------------------------------------------


def base_tags_from(
    found: Iterable[str],
    remove: Iterable[str] = SHEET_REMOVE,
    words: glossary.Glossary | None = None,
) -> list[str]:
    """The character sheet: the tags of the picture that shows the character best, cleaned, from
    feet to head.

    `remove` goes first, then the glossary replaces, then whatever belongs to the picture rather
    than the character (count, framing, pose, expression, background, meta) is dropped.
    """
    words = words or {}
    own = glossary.regions(words)
    kept = glossary.apply(tags.remove(found, remove), words)
    wanted = {*body.CHARACTER_REGIONS, "objects"}
    return body.body_order([tag for tag in kept if body.region(tag, own) in wanted], own)


def suggest_base_tags(
    found: Sequence[Collection[str]], share: float = 0.6, least: float = 0.15
) -> list[str]:
    """The tags found in at least `share` of the pictures that show their part of the body, from
    feet to head.

    Boots count over the pictures that show feet at all, so a set full of portraits does not lose
    them; `least` is the share of all pictures that a tag must be in. `found` holds the tags of each
    picture.
    """
    if not found:
        return []
    seen = [{tag: body.region(tag) for tag in tags_} for tags_ in found]
    shows = tags.frequencies(set(regions.values()) for regions in seen)
    counts = tags.frequencies(seen)
    wanted = [
        tag
        for tag, count in counts.items()
        if (region := body.region(tag)) in body.CHARACTER_REGIONS
        and count >= share * shows[region]
        and count >= max(least * len(found), min(2, len(found)))
    ]
    return body.body_order(wanted)


# --- the whole project ----------------------------------------------------------------------------


def tag_dataset(
    project: Project,
    settings: TaggingSettings,
    progress: Progress = silent,
    scorers: Sequence[scores.Scorer] | None = None,
    words: glossary.Glossary | None = None,
) -> TagReport:
    """Writes a caption beside every picture of the project, as one edit that
    `dataset.undo_captions` takes back.

    `scorers` are used instead of the taggers in `settings`, `words` instead of the user's glossary.
    Raises DatasetError for an empty folder or a broken picture, SettingsError, SaveError.
    """
    plan = plan_captions(project, settings, progress, scorers, words)
    record = dataset.write_captions(project, plan.captions)
    top = tags.frequencies(plan.captions.values())
    pictures = len(dataset.scan(project.dataset))
    return TagReport(pictures, len(plan.captions), plan.base_tags, top, plan.scores_files, record)


def plan_captions(
    project: Project,
    settings: TaggingSettings,
    progress: Progress = silent,
    scorers: Sequence[scores.Scorer] | None = None,
    words: glossary.Glossary | None = None,
) -> CaptionPlan:
    """What `tag_dataset` would write; writes nothing but the kept scores."""
    pictures = dataset.require(project.dataset)
    old = {picture: tags.parse(dataset.read_caption(picture) or "") for picture in pictures}
    todo = [picture for picture in pictures if settings.existing != "skip" or not old[picture]]
    if scorers is None:  # nothing to do is no reason for a download
        scorers = [taggers.load(name) for name in tags.parse(settings.tagger)] if todo else []
    words = glossary.load() if words is None else words
    found = find_tags(project, todo, settings, scorers, progress)
    seen = [cleaned(each, settings, words) for each in found]
    if settings.base_mode != "keep" and not settings.base_tags:
        settings = replace(settings, base_tags=tuple(suggest_base_tags(seen)))
    counts = tags.frequencies(seen)
    captions = {}
    for picture, each in zip(todo, found, strict=True):
        new = propose(each, settings, words, counts)
        if settings.existing == "append":
            new = tags.activation_first(tags.dedupe([*old[picture], *new]), settings.activation_tag)
        captions[picture] = tags.join(new)
    files = tuple(scores.scores_file(project, scorer.name) for scorer in scorers)
    return CaptionPlan(captions, settings.base_tags, files)


def find_tags(
    project: Project,
    pictures: Sequence[Picture],
    settings: TaggingSettings,
    scorers: Sequence[scores.Scorer],
    progress: Progress = silent,
) -> list[dict[str, float]]:
    """For each picture the tags over the thresholds, each tagger's own or the settings', united
    over the taggers.
    """
    paths = [picture.path for picture in pictures]
    each = []
    for scorer in scorers:
        found = scores.score(project, scorer, paths, progress)
        each.append([over(picture, settings, scorer) for picture in found])
    return [tags.union(several) for several in zip(*each, strict=True)]


def over(
    found: Mapping[str, float], settings: TaggingSettings, scorer: scores.Scorer
) -> dict[str, float]:
    """The tags of one tagger that reach its thresholds, or those of the settings."""
    names = settings.character_threshold or scorer.character
    character = names if names < 1 else float("inf")
    return taggers.tags_over(
        found, settings.threshold or scorer.general, character, scorer.characters
    )
