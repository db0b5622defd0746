"""What becomes of a caption each time its picture is shown."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import SettingsError
from ...settings import setting
from .subject import SubjectSettings


@dataclass(frozen=True)
class CaptionSettings(SubjectSettings):
    """Captions."""

    shuffle_tags: bool = setting(
        True, "Shuffle a caption's tags each time, behind the kept ones", advanced=True
    )
    keep_tags: int = setting(
        1,
        "Tags at the start of a caption that are never shuffled or dropped",
        unit="tags",
        low=0,
        high=20,
        advanced=True,
    )
    keep_separator: str = setting(
        "|||",
        "In captions that have it: what stands before it is kept in place (and what stands behind "
        "a second one), instead of keep_tags; empty: not looked for",
        advanced=True,
    )
    tag_dropout: float = setting(
        0.0, "Share of the other tags left out each time", low=0, high=1, advanced=True
    )
    caption_dropout: float = setting(
        0.0, "Share of pictures shown without any caption", low=0, high=1, advanced=True
    )
    caption_prefix: str = setting("", "Put before every caption, and kept there", advanced=True)
    caption_suffix: str = setting("", "Put behind every caption, and kept there", advanced=True)
    wildcards: bool = setting(
        False,
        "In captions, {red|blue} stands for one of the two, another each time, and of several "
        "lines one is taken; off, all lines are one caption",
        advanced=True,
    )
    sentences: bool = setting(
        False,
        "Captions are sentences: never shuffled or thinned, only left out as a whole",
        advanced=True,
    )
    caption_variants: int = setting(
        16,
        "While the text encoders are not trained, their output is computed once for so many "
        "shuffled variants of each caption (fewer where they would not fit into memory, which is "
        "said); 0 computes it in every step",
        unit="variants",
        low=0,
        high=1000,
        advanced=True,
    )
    prior_weight: float = setting(
        0.0,
        "How strongly the LoRA is held back where the activation tag is missing: each picture is "
        "also shown without it, and must give what the base gives (takes about twice as long); "
        "0 turns it off",
        low=0,
        high=10,
        advanced=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prior_weight and not self.keep_tags:
            raise SettingsError(
                "training: prior_weight needs keep_tags of at least 1: the kept tags, the "
                "activation tag first, are what it leaves out. Set keep_tags to 1, or "
                "prior_weight to 0."
            )
