"""What can be chosen about screencaps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...settings import check, setting


@dataclass(frozen=True)
class VideoSettings:
    """Screencaps from films."""

    SECTION: ClassVar[str] = "videos"

    per_shot: int = setting(1, "Pictures kept of each shot, the sharpest first", low=1, high=20)
    per_minute: int = setting(
        0, "At most this many pictures of each minute; 0: as many as shots give", low=0, high=600
    )
    limit: int = setting(
        0, "At most this many pictures in all, spread over the films; 0: no limit", low=0
    )
    format: str = setting(
        "png",
        "File type: png loses nothing, jpg (quality 95) takes a fifth of the room",
        choices=("png", "jpg"),
    )
    crop_borders: bool = setting(True, "Cut off black bars that are there the whole film")
    avoid_subtitles: bool = setting(
        True, "Prefer frames of a shot in which nothing is written at the bottom"
    )
    skip_repeated: bool = setting(
        True, "Leave out what an earlier film has too, such as openings and endings"
    )
    distance: int = setting(
        12,
        "How different two pictures must be; fewer keeps more of those that look alike",
        unit="of 128 bits",
        low=0,
        high=64,
        advanced=True,
    )
    min_shot: float = setting(
        0.4, "Shots shorter than this are left out", unit="seconds", low=0, high=60, advanced=True
    )
    deinterlace: str = setting(
        "auto",
        "auto: films that are marked as interlaced, or look it",
        choices=("auto", "always", "never"),
        advanced=True,
    )

    def __post_init__(self) -> None:
        check(self)
