"""Screencaps: the sharpest distinct frames of every shot of the films given, at full size."""

from __future__ import annotations

from collections.abc import Sequence

from ...progress import Progress
from .. import Source
from ..finds import Offer
from .settings import VideoSettings


def look(settings: VideoSettings, items: Sequence[str], progress: Progress) -> Offer:
    """Watches the films (what was watched before is remembered) and offers their best frames.
    Raises CollectError if there is no film that can be watched.
    """
    from .survey import survey

    return survey(settings, items, progress)


SOURCE = Source("videos", "Films and episodes: screencaps", "FILE", VideoSettings, look)
