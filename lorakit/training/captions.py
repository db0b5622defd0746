"""What becomes of a caption each time its picture is shown. Pure, given its random generator."""

from __future__ import annotations

import random

from .config import TrainingSettings


def shown_caption(caption: str, settings: TrainingSettings, rng: random.Random) -> str:
    """The caption with its first `keep_tags` tags in place, the others shuffled and thinned as the
    settings say.
    """
    if rng.random() < settings.caption_dropout:
        return ""
    tags = [tag.strip() for tag in caption.split(",") if tag.strip()]
    kept, others = tags[: settings.keep_tags], tags[settings.keep_tags :]
    others = [tag for tag in others if rng.random() >= settings.tag_dropout]
    if settings.shuffle_tags:
        rng.shuffle(others)
    return ", ".join(kept + others)


def prior_caption(caption: str, settings: TrainingSettings, rng: random.Random) -> str:
    """The caption without what calls the LoRA: its first `keep_tags` tags left out, all others
    there.
    """
    others = [tag.strip() for tag in caption.split(",") if tag.strip()][settings.keep_tags :]
    if settings.shuffle_tags:
        rng.shuffle(others)
    return ", ".join(others)
