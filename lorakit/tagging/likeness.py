"""Likeness: the share of base tags that the tagger finds in previews prompted by the activation tag
alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PIL import Image

from . import taggers
from .captions import TaggingSettings
from .tags import likeness


def scorer(settings: TaggingSettings) -> Callable[[Sequence[Image.Image]], float] | None:
    """A function that measures the likeness of previews with the project's first tagger; None
    without base tags.
    """
    if not settings.base_tags:
        return None
    tagger = taggers.load(settings.tagger.split(",")[0].strip())
    threshold = settings.threshold or tagger.row.general

    def score(pictures: Sequence[Image.Image]) -> float:
        found = [
            [tag for tag, value in scores.items() if value >= threshold]
            for scores in tagger.scores(list(pictures))
        ]
        return likeness(found, settings.base_tags)

    return score
