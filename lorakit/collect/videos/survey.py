"""From films to what they offer: each is watched once, then frames are chosen over all of them."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import CollectError
from ...files import caches
from ...install import ensure
from ...progress import Progress, duration
from ...project import FORBIDDEN
from ..finds import Find, Offer, Origin
from .choose import Kept, choose, spread, usable, whole
from .decode import NEEDS, SIZE, kind_of
from .files import films, identity
from .projector import Film, Projector
from .repeats import repeated
from .settings import VideoSettings
from .trace import Trace, load, save, watch

log = logging.getLogger(__name__)
VERSION = 6  # of what is remembered of a film; higher when it is measured in another way
SMALL = 512  # the shorter side of pictures too small to train SDXL with as they are
SHORT = 0.9  # of the length that a film claims; one that ends before is cut off
NAME = 120  # letters of a film's name that its pictures' names begin with


@dataclass(frozen=True)
class Watched:
    """A film and what was seen of it."""

    film: Film
    trace: Trace


def survey(settings: VideoSettings, items: Sequence[str], progress: Progress) -> Offer:
    """What the films offer. Raises CollectError if none can be watched."""
    paths = films(items)
    ensure(NEEDS, SIZE, progress)
    watched, notes = [], []
    for path in paths:
        try:
            watched.append(_watched(path, settings, progress))
        except CollectError as error:
            if len(paths) == 1:
                raise
            notes.append(f"{error} The other films are used.")
    if not watched:
        raise CollectError(f"None of the {len(paths)} films can be watched: {notes[0]}")
    chosen = _chosen(watched, settings, notes)
    for each in watched:
        notes += _about(each, settings)
    projector = Projector()
    picked = [chosen[i] for i in spread(len(chosen), settings.limit)]
    if len(picked) < len(chosen):
        notes.append(f"{len(picked)} of {len(chosen)} pictures are taken (limit), spread evenly.")
    return Offer([_find(one, frame, settings, projector) for one, frame in picked], notes)


def _watched(path: Path, settings: VideoSettings, progress: Progress) -> Watched:
    """The film, watched now or remembered."""
    key = f"{VERSION}:{settings.deinterlace}:{identity(path)}"
    kind = kind_of(path, settings.deinterlace)
    place = caches() / "videos" / f"{hashlib.sha256(key.encode()).hexdigest()}.npz"
    trace = load(place)
    if trace is None:
        trace = watch(path, kind, progress)
        save(trace, place)
    return Watched(Film(path, kind, trace.box if settings.crop_borders else None), trace)


def _chosen(
    watched: Sequence[Watched], settings: VideoSettings, notes: list[str]
) -> list[tuple[Watched, int]]:
    """Film and frame of each picture that is kept, in order."""
    kept, chosen = Kept(), []
    for number, one in enumerate(watched):
        good = usable(one.trace)
        if settings.skip_repeated and number:
            earlier = [each.trace for each in watched[:number]]
            again = whole(one.trace, repeated(one.trace, earlier))
            if again.any():
                notes.append(
                    f"{one.film.path.name}: {_seconds(one.trace, again)} that an earlier film has "
                    "too, such as an opening, are left out (skip_repeated)."
                )
            good &= ~again
        chosen += [(one, frame) for frame in choose(one.trace, good, settings, kept)]
    if kept.alike:
        notes.append(
            f"{kept.alike} shots look like others and give no picture (distance "
            f"{settings.distance})."
        )
    return chosen


def _seconds(trace: Trace, marked: np.ndarray) -> str:
    usual = float(np.median(np.diff(trace.time))) if len(trace.time) > 1 else 0.0
    return duration(float(marked.sum()) * usual)


def _about(one: Watched, settings: VideoSettings) -> list[str]:
    """What is to be said of a film."""
    name, kind, size = one.film.path.name, one.film.kind, one.film.size
    seen, notes = float(one.trace.time[-1] - one.trace.time[0]), []
    if kind.length > 2 and seen + 1 < SHORT * kind.length:
        notes.append(
            f"{name} is {duration(kind.length)} long, but only {duration(seen)} of it can be "
            "decoded: it is damaged or cut off. What there is is used."
        )
    if kind.fields:
        notes.append(f"{name} is interlaced; its pictures are deinterlaced.")
    if one.film.box and one.film.box != (0, 0, *kind.size):
        notes.append(f"{name}: black bars are cut off; {size[0]}x{size[1]} is left.")
    if kind.hdr:
        notes.append(
            f"{name} is HDR: its pictures come out pale. Convert it to SDR, or find an SDR copy."
        )
    if min(size) < SMALL:
        notes.append(f"{name} is only {size[0]}x{size[1]}; look for a better copy if there is one.")
    return notes


def _find(one: Watched, frame: int, settings: VideoSettings, projector: Projector) -> Find:
    film, time = one.film, float(one.trace.time[frame])
    stem = re.sub(f"[{re.escape(''.join(FORBIDDEN))}]+", "_", film.path.stem)[:NAME].strip("_")
    origin = Origin(
        "video",
        f"{film.path.name}:{film.path.stat().st_size}:{time:.3f}",
        f"{film.path}#t={time:.2f}",
    )

    def write(path: Path) -> None:
        save_picture(projector.picture(film, time), path, settings.format)

    def thumbnail() -> Image.Image:
        image = projector.picture(film, time)
        image.thumbnail((512, 512))
        return image

    name = f"{stem}_{time:07.2f}s.{settings.format}"
    return Find(origin, name, write, film.size, thumbnail)


def save_picture(image: Image.Image, path: Path, format: str) -> None:
    """Writes a whole picture, or nothing at all under a name that counts."""
    if format == "jpg":
        image.save(path, "JPEG", quality=95, subsampling=0)
    else:
        image.save(path, "PNG", compress_level=4)
