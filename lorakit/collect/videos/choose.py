"""Which frames of a film are kept: the sharpest distinct ones of each shot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from .changes import FLAT
from .settings import VideoSettings
from .trace import Trace

EDGE = 3  # frames left aside at both ends of a shot: encoders blur them, and cuts may be soft
DARK, LIGHT = 24, 228  # mean brightness of what is all but black or white ...
FAINT = 14.0  # ... if it also deviates from it by less than this
SHARP = 0.5  # of the sharpness of a shot's sharpest frame; others are no substitute for it
COLOUR = 24  # grey levels, summed over Y, U and V, by which a part of a picture makes it another
WRITTEN = 0.25  # of the way from a shot's least to its most text: up to here it has none
TEXT = 0.004  # by so much the strokes of a line of text add to the bottom; less is no text


@dataclass(frozen=True)
class Shot:
    """Frames `first` to `last` of a film, by their place in its trace."""

    first: int
    last: int

    @property
    def length(self) -> int:
        return self.last - self.first + 1


@dataclass
class Kept:
    """What is kept so far of all films, and how many shots gave nothing because it is like that."""

    bits: list[np.ndarray] = field(default_factory=list)
    colours: list[np.ndarray] = field(default_factory=list)
    alike: int = 0

    def near(self, trace: Trace, frame: int, distance: int) -> bool:
        """Whether a picture all but equal to this frame is kept: fingerprints are near, and no
        part of it has another colour. (On a plain ground fingerprints alone are near too often.)
        """
        if not self.bits:
            return False
        differing = np.bitwise_count(np.stack(self.bits) ^ trace.bits[frame]).sum(1)
        for i in np.flatnonzero(differing <= distance):
            other = np.abs(self.colours[i].astype(np.int16) - trace.colours[frame])
            if other.reshape(-1, 3).sum(1).max() <= COLOUR:
                return True
        return False

    def add(self, trace: Trace, frame: int) -> None:
        self.bits.append(trace.bits[frame])
        self.colours.append(trace.colours[frame])


def shots(trace: Trace) -> list[Shot]:
    """The film's shots, in order; those that show nothing (black, white) are none."""
    found, start = [], 0
    for change in [each for each in trace.changes if each.kind != "flash"]:
        found.append(Shot(start, change.first - 1))
        start = max(start, change.last + 1)
    found.append(Shot(start, len(trace.time) - 1))
    shown = ~empty(trace)
    return [shot for shot in found if shown[shot.first : shot.last + 1].any()]


def empty(trace: Trace) -> np.ndarray:
    """Which frames show nothing."""
    extreme = (trace.level < DARK) | (trace.level > LIGHT)
    return (trace.spread < FLAT) | (extreme & (trace.spread < FAINT))


def usable(trace: Trace) -> np.ndarray:
    """Which frames could be kept: those that show something and no flash."""
    good = ~empty(trace)
    for change in trace.changes:
        if change.kind == "flash":
            good[max(0, change.first - 1) : change.last + 2] = False
    return good


def choose(trace: Trace, good: np.ndarray, settings: VideoSettings, kept: Kept) -> list[int]:
    """The frames to keep of a film, in order; `good` says which could be, and what is chosen is
    added to `kept`.
    """
    chosen: list[tuple[int, int, int]] = []  # rank within the shot, minus its length, frame
    for shot in shots(trace):
        if trace.time[shot.last] - trace.time[shot.first] < settings.min_shot:
            continue
        ranked = ranking(trace, shot, good, settings.avoid_subtitles)
        best = _distinct(trace, ranked, settings, kept)
        kept.alike += bool(ranked) and not best
        chosen += [(rank, -shot.length, frame) for rank, frame in enumerate(best)]
    return sorted(_each_minute(trace, chosen, settings.per_minute))


def whole(trace: Trace, marked: np.ndarray) -> np.ndarray:
    """All frames of the shots of which most frames are marked: runs found by looks twice a second
    end a little beside the cut.
    """
    result = np.zeros_like(marked)
    for shot in shots(trace):
        frames = slice(shot.first, shot.last + 1)
        result[frames] = marked[frames].mean() > 0.5
    return result


def _distinct(
    trace: Trace, ranked: Sequence[int], settings: VideoSettings, kept: Kept
) -> list[int]:
    """The first of the ranking that are unlike one another and all that is kept."""
    best: list[int] = []
    for frame in ranked:
        if len(best) == settings.per_shot:
            break
        if not kept.near(trace, frame, settings.distance):
            best.append(frame)
            kept.add(trace, frame)
    return best


def ranking(trace: Trace, shot: Shot, good: np.ndarray, avoid_text: bool) -> list[int]:
    """Frames of a shot, the best first."""
    edge = min(EDGE, (shot.length - 1) // 3)
    frames = np.arange(shot.first + edge, shot.last + 1 - edge)
    frames = frames[good[frames]]
    if not len(frames):
        return []
    sharp, text = trace.sharp[frames], trace.text[frames]
    fit = sharp >= SHARP * sharp.max()
    frames, sharp, text = frames[fit], sharp[fit], text[fit]
    least, most = text.min(), text.max()
    clear = text <= least + max(TEXT, WRITTEN * (most - least))
    first = clear if avoid_text else np.ones_like(clear)
    return [int(frame) for frame in frames[np.lexsort((-sharp, ~first))]]


def _each_minute(trace: Trace, chosen: Sequence[tuple[int, int, int]], most: int) -> Iterator[int]:
    """At most so many of each minute: first one of each shot, long shots before short ones."""
    spent: dict[int, int] = {}
    for _, _, frame in sorted(chosen) if most else chosen:
        minute = int(trace.time[frame] // 60)
        spent[minute] = spent.get(minute, 0) + 1
        if not most or spent[minute] <= most:
            yield frame


def spread(count: int, limit: int) -> list[int]:
    """Places of `limit` of `count`, evenly over all; all if there is no limit (0)."""
    if not limit or limit >= count:
        return list(range(count))
    return [int((i + 0.5) * count / limit) for i in range(limit)]
