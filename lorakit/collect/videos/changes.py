"""Where one shot ends and the next begins: hard cuts, cross-fades and fades, and the flashes that
are neither.

A frame is judged by a coarse copy of it (a grid), so that what moves in the picture counts little.

- At a cut a frame differs from the one before far more than its neighbours do from theirs.
- While A melts into B, the frame in the middle is the mean of a frame of A and one of B, and before
  and after it little changes. What moves is not the mean of where it was and will be.
- After a flash the picture is what it was.

PySceneDetect, the known library for this, finds the first kind alone in its adaptive detector, and
cuts at flashes in the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

CUT = 14.0  # a cut changes the grid by at least so much (grey levels, summed over Y, U and V) ...
STEEP = 3.0  # ... and this many times more than the frames around it, or more than those ...
ABOVE = 1.3  # ... on its quieter side, if so many times more than any on the other: a camera shakes
AROUND = 6  # frames on either side that are "around"
FLASH = 8  # a flash is over after at most this many frames
BACK = 0.3  # and then the picture differs from before it by at most this share of the flash
MELTS = (3, 5, 8, 12, 18, 27)  # half lengths of the fades that are looked for, in frames
MELT = 20.0  # grey levels by which a fade changes the picture
MIDDLE = 0.2  # the share of it by which the middle may differ from the mean of both ends
STEADY = 0.4  # and the share by which each side may go on changing
ALIKE = 0.95  # correlation of two sides that show the same, only in another light
FLAT = 6.0  # deviation in grey levels of a picture that shows nothing
REACH = 2 * MELTS[-1] + FLASH  # how far a frame's neighbourhood goes
BLOCK = 1000  # frames judged at once


@dataclass(frozen=True)
class Change:
    """Frames `first` to `last` belong to no shot. A cut lies before `first` and takes no frame
    (`last` is `first` - 1); a flash parts no shots.
    """

    kind: str  # cut, melt, flash
    first: int
    last: int

    @property
    def middle(self) -> int:
        return (self.first + self.last + 1) // 2

    def moved(self, frames: int) -> Change:
        return Change(self.kind, self.first + frames, self.last + frames)


class Watcher:
    """Finds the changes of a film of any length while it runs; only the grids of the last frames
    are held.
    """

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self._grids: list[np.ndarray] = []
        self._start = 0  # number of the first frame that is held
        self._judged = 0  # frames before this one are done with

    def add(self, grid: np.ndarray) -> None:
        """The next frame as (9, 16, 3) of 0..255."""
        self._grids.append(grid)
        if self._start + len(self._grids) >= self._judged + BLOCK + REACH:
            self._judge(self._judged + BLOCK)

    def finish(self) -> list[Change]:
        """All changes, in order."""
        if self._grids:
            self._judge(self._start + len(self._grids))
        return self.changes

    def _judge(self, until: int) -> None:
        found = (each.moved(self._start) for each in changes(np.stack(self._grids)))
        self.changes += [each for each in found if self._judged <= each.middle < until]
        self._judged = until
        spent = max(0, until - REACH - self._start)
        self._grids, self._start = self._grids[spent:], self._start + spent


def changes(grids: np.ndarray) -> list[Change]:
    """The changes among these frames (n, 9, 16, 3), in order."""
    values = np.moveaxis(grids, 3, 1).reshape(len(grids), 3, -1).astype(np.float32)
    found = [*_cuts(values), *_melts(values)]
    melts = [each for each in found if each.kind == "melt"]
    kept = [each for each in found if each.kind != "cut" or not _within(each.first, melts)]
    return sorted(kept, key=lambda each: (each.first, each.last))


def _within(frame: int, spans: list[Change]) -> bool:
    return any(each.first <= frame <= each.last for each in spans)


def _apart(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Mean difference over the cells, summed over the channels; (..., 3, cells) each."""
    return np.abs(one - other).mean(-1).sum(-1)


# --- cuts and flashes -----------------------------------------------------------------------------


def _cuts(values: np.ndarray) -> Iterator[Change]:
    steps = np.zeros(len(values))
    steps[1:] = _apart(values[1:], values[:-1])
    lit = -1  # the last frame of the last flash
    for at in np.flatnonzero(steps >= CUT).tolist():
        if at <= lit + 1 or not _steep(steps, at):
            continue
        flash = _flash(values, at, BACK * steps[at])
        if flash is None:
            yield Change("cut", at, at - 1)
        else:
            yield flash
            lit = flash.last


def _steep(steps: np.ndarray, at: int) -> bool:
    """Whether a step stands out from those around. The few highest are left aside: cuts come in
    groups.
    """
    before, after = steps[max(1, at - AROUND) : at], steps[at + 1 : at + 1 + AROUND]
    around = np.r_[before, after]
    if not len(around) or steps[at] >= STEEP * np.quantile(around, 0.75):
        return True
    quiet, loud = sorted([before.max(initial=0), after.max(initial=0)])
    return bool(steps[at] >= max(STEEP * quiet, ABOVE * loud))


def _flash(values: np.ndarray, at: int, near: float) -> Change | None:
    """The flash that starts with a jump at `at`, or, if it grew slowly, ends with it."""
    after = _apart(values[at + 1 : at + 1 + FLASH], values[at - 1])
    if len(after) and after.min() <= near:
        return Change("flash", at, at + int((after <= near).argmax()))
    start = max(0, at - 1 - FLASH)
    before = _apart(values[start : at - 1], values[at])
    if len(before) and before.min() <= near:
        return Change("flash", start + int(np.flatnonzero(before <= near)[-1]) + 1, at - 1)
    return None


# --- fades ----------------------------------------------------------------------------------------


def _melts(values: np.ndarray) -> Iterator[Change]:
    """One change for each run of frames that could be the middle of a fade."""
    hits = sorted(hit for half in MELTS for hit in _middles(values, half))
    group: list[tuple[int, int, float, float]] = []
    for hit in hits:
        if group and hit[0] > group[-1][0] + 2:
            yield _fade(group)
            group = []
        group.append(hit)
    if group:
        yield _fade(group)


def _middles(values: np.ndarray, half: int) -> Iterator[tuple[int, int, float, float]]:
    """Frames that could be the middle of a fade of 2 x `half` frames: (frame, half, by how much it
    changes the picture, how badly it fits).
    """
    at = np.arange(half, len(values) - half)
    if not len(at):
        return
    before, after = values[at - half], values[at + half]
    whole = _apart(before, after)
    some = whole >= MELT
    at, before, after, whole = at[some], before[some], after[some], whole[some]
    bent = _apart(values[at], (before + after) / 2) / whole
    earlier = values[np.maximum(at - 2 * half, 0)]
    later = values[np.minimum(at + 2 * half, len(values) - 1)]
    moving = np.maximum(_apart(earlier, before), _apart(later, after)) / whole
    for i in np.flatnonzero((bent <= MIDDLE) & (moving <= STEADY)):
        if not _same_in_other_light(before[i, 0], after[i, 0]):
            yield int(at[i]), half, float(whole[i]), float(bent[i] + moving[i])


def _same_in_other_light(one: np.ndarray, other: np.ndarray) -> bool:
    if min(one.std(), other.std()) < FLAT:
        return False
    return float(np.corrcoef(one, other)[0, 1]) > ALIKE


def _fade(group: list[tuple[int, int, float, float]]) -> Change:
    """The fade that most frames of a run agree on: its middle fits best, and it is as long as it
    goes on changing the picture.
    """
    middle = min(group, key=lambda hit: hit[3])[0]
    here = [hit for hit in group if abs(hit[0] - middle) <= 1]
    most = max(hit[2] for hit in here)
    half = min(hit[1] for hit in here if hit[2] >= 0.9 * most)
    return Change("melt", middle - half, middle + half)
