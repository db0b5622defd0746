"""What several films have in common: openings, endings, recaps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .choose import empty
from .trace import Trace

LEAST = 4.0  # seconds that must be the same on end
LOOKS, STEPS = 2.0, 6.0  # times a second that the later and the earlier film are looked at
NEAR = 14  # bits of 128: the same frame, decoded from another copy or a little later
FAULTS = 0.2  # share of the looks in a run that may differ: credits change


def repeated(later: Trace, earlier: Sequence[Trace]) -> np.ndarray:
    """Which frames of a film an earlier one has too."""
    found = np.zeros(len(later.time), bool)
    for each in earlier:
        for start, end in common(later, each):
            found |= (later.time >= start) & (later.time <= end)
    return found


def common(later: Trace, earlier: Trace) -> list[tuple[float, float]]:
    """Start and end, in seconds of the later film, of what runs on end in both."""
    ours, theirs = _looks(later, LOOKS), _looks(earlier, STEPS)
    if not len(ours) or not len(theirs):
        return []
    pairs = _matches(later.bits[ours], earlier.bits[theirs])
    times, others = later.time[ours][pairs[:, 0]], earlier.time[theirs][pairs[:, 1]]
    shifts = np.round((times - others) * STEPS).astype(int)
    runs = []
    for shift in np.unique(shifts):
        here = np.unique(times[np.abs(shifts - shift) <= 1])
        runs += _runs(here)
    return _joined(runs)


def _looks(trace: Trace, rate: float) -> np.ndarray:
    """Frames at that many a second, without those that show nothing: they are all alike."""
    wanted = np.arange(trace.time[0], trace.time[-1] + 1e-6, 1 / rate)
    frames = np.unique(np.searchsorted(trace.time, wanted).clip(0, len(trace.time) - 1))
    return frames[~empty(trace)[frames]]


def _matches(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Pairs (i, j) of fingerprints that are near, in blocks: memory is for one block."""
    found = [np.zeros((0, 2), int)]
    for start in range(0, len(ours), 256):
        block = ours[start : start + 256, None]
        differing = sum(np.bitwise_count(block[..., h] ^ theirs[:, h]) for h in (0, 1))
        found.append(np.argwhere(differing <= NEAR) + (start, 0))
    return np.concatenate(found)


def _runs(times: np.ndarray) -> list[tuple[float, float]]:
    """Stretches of at least LEAST seconds in which (nearly) every look is there."""
    runs = []
    for part in np.split(times, np.flatnonzero(np.diff(times) > 3 / LOOKS) + 1):
        length = part[-1] - part[0]
        if length >= LEAST and len(part) >= (1 - FAULTS) * length * LOOKS:
            runs.append((float(part[0]) - 1 / LOOKS, float(part[-1]) + 1 / LOOKS))
    return runs


def _joined(runs: list[tuple[float, float]]) -> list[tuple[float, float]]:
    joined: list[tuple[float, float]] = []
    for start, end in sorted(runs):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined
