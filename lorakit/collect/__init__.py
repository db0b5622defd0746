"""Collecting: fan art, screencaps, renders of 3D models, sprites, and files of one's own.

Every source is a module of the same shape: a settings class `Source.settings`, and `look`, which
says what there is without fetching anything large. `intake.take` then brings it into the project.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ..progress import Progress
from .finds import Offer

Look = Callable[[Any, Sequence[str], Progress], Offer]


@dataclass(frozen=True)
class Source:
    """One kind of source. `items` is what is listed after its name on the command line ('' if
    nothing is: its settings say all).
    """

    name: str
    title: str
    items: str
    settings: type
    look: Look


# in the order of the guide; each module has `SOURCE`
NAMES: tuple[str, ...] = ("boorus", "links", "videos", "models3d", "sprites", "archives")


def source(name: str) -> Source:
    """The source of that name; its module is imported now. Raises ValueError."""
    if name not in NAMES:
        raise ValueError(f"there is no source '{name}'; there are: {', '.join(NAMES)}")
    return import_module(f".{name}", __name__).SOURCE  # type: ignore[no-any-return]
