"""One pass over a film: a few numbers of each frame, from a small copy of it. From them alone it is
chosen which frames to keep, so that the film's length does not matter and no choice needs a second
pass.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import CollectError
from ...files import write_safely
from ...progress import Progress
from .borders import Borders
from .changes import Change, Watcher
from .decode import Kind, decoded, filtered, opened

WIDTH, HEIGHT = 576, 324  # of the copy in which sharpness is measured, whatever the film's shape
COARSE = (144, 81)  # of the copy in which frames are compared
GRID, PARTS = (9, 16), (3, 8)  # rows and columns of cells: to find shots; to tell pictures apart
FASTEST = 40.0  # frames per second; of faster films every second frame is looked at, and so on
BOTTOM = slice(230, 322)  # the lines in which subtitles stand, in letterboxed films too
# the part of the copy in which sharpness is measured: no border, no subtitle
MIDDLE = (slice(42, 230), slice(72, 504))
STROKE = 90  # grey levels between a letter and its outline, two points apart
MARGIN = 3  # grey levels by which a neighbour must be darker for a bit of the fingerprint


@dataclass(frozen=True)
class Trace:
    """What is known of a film's frames, an array each: time in seconds, brightness and its
    deviation (0..255), sharpness (mean square of the Laplacian), the share of strokes as of
    letters at the bottom, a fingerprint of 128 bits (n, 2), and mean colours (Y, U, V) of 3 x 8
    parts of the frame (n, 72). Then where shots change, and
    the part of the stored frame within black borders: left, top, right, bottom.
    """

    time: np.ndarray
    level: np.ndarray
    spread: np.ndarray
    sharp: np.ndarray
    text: np.ndarray
    bits: np.ndarray
    colours: np.ndarray
    changes: list[Change]
    box: tuple[int, int, int, int]


def watch(path: Path, kind: Kind, progress: Progress) -> Trace:
    """Watches a film from start to end. Raises CollectError."""
    rows: list[tuple[float, ...]] = []
    bits: list[np.ndarray] = []
    colours: list[np.ndarray] = []
    watcher, borders = Watcher(), Borders()
    step, doing = max(1, round(kind.rate / FASTEST)), f"Watching {path.name}"
    progress(doing, 0, round(kind.length))
    for number, (time, frame, whole) in enumerate(_frames(path, kind)):
        if number % round(max(1, kind.rate)) == 0:
            borders.add(whole.to_ndarray(format="gray"))
            progress(doing, min(round(time), round(kind.length) - 1), round(kind.length))
        if number % step:
            continue
        grey, coarse = _copies(frame)
        rows.append((time, *_measures(grey)))
        bits.append(fingerprint(coarse[0]))
        colours.append(_cells(coarse, PARTS).ravel())
        watcher.add(_cells(coarse, GRID))
    if not rows:
        raise CollectError(f"No picture of {path.name} can be decoded: it is damaged.")
    progress(doing, round(kind.length) or 1, round(kind.length) or 1)
    time, level, spread, sharp, text = np.array(rows).T
    changes, box = watcher.finish(), borders.box()
    marks = np.stack(bits), np.stack(colours)
    return Trace(time, level, spread, sharp, text, *marks, changes, box)


def _frames(path: Path, kind: Kind) -> Iterator[tuple[float, Any, Any]]:
    """Time, frame to look at, frame as it is. Of an interlaced film one field is looked at: two
    moments in one would look sharp.
    """
    with opened(path) as (container, stream):
        frames = timed(decoded(container, stream), kind)
        if not kind.fields:
            yield from ((time, frame, frame) for time, frame in frames)
            return
        for time, frame in frames:
            for field in filtered([frame], stream, ("field", f"type={kind.fields}")):
                yield time, field, frame


def timed(frames: Iterator[Any], kind: Kind) -> Iterator[tuple[float, Any]]:
    """The frames with their times in seconds from the film's start; one without a time comes a
    frame after the last.
    """
    step = 1 / max(kind.rate, 1.0)
    last = -step
    for frame in frames:
        last = last + step if frame.time is None else float(frame.time) - kind.start
        yield last, frame


# --- one frame ------------------------------------------------------------------------------------


def _copies(frame: Any) -> tuple[np.ndarray, np.ndarray]:
    """The frame in grey (HEIGHT, WIDTH), and coarse in Y, U, V."""
    grey = frame.reformat(WIDTH, HEIGHT, "gray", interpolation="AREA").to_ndarray()
    coarse = frame.reformat(*COARSE, "yuv444p", interpolation="AREA").to_ndarray()
    return grey, coarse


def _cells(coarse: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Means over cells: (rows, columns, 3)."""
    channels, height, width = coarse.shape
    cells = coarse.reshape(channels, shape[0], height // shape[0], shape[1], width // shape[1])
    return np.moveaxis(cells.mean((2, 4)), 0, 2).astype(np.uint8)


def fingerprint(grey: np.ndarray) -> np.ndarray:
    """128 bits as two numbers, as `clean.duplicates.dhash` makes them: is a cell of 9 x 9 brighter
    than the one to the right, and than the one below.
    """
    cells = grey.reshape(9, grey.shape[0] // 9, 9, grey.shape[1] // 9).mean((1, 3))
    right = cells[:8, :8] > cells[:8, 1:] + MARGIN
    below = cells[:8, :8] > cells[1:, :8] + MARGIN
    return np.packbits(np.stack([right, below])).view(np.uint64)


def _measures(grey: np.ndarray) -> tuple[float, float, float, float]:
    """Brightness, deviation, sharpness and strokes at the bottom."""
    middle = grey[MIDDLE].astype(np.int16)
    inner = middle[1:-1, 1:-1]
    bend = 4 * inner - middle[:-2, 1:-1] - middle[2:, 1:-1] - middle[1:-1, :-2] - middle[1:-1, 2:]
    flat = bend.astype(np.float32).ravel()
    bottom = grey[BOTTOM].astype(np.int16)
    strokes = np.abs(bottom[:, 2:] - bottom[:, :-2]) > STROKE
    small = middle[::4, ::4]
    return (
        float(small.mean()),
        float(small.std()),
        float(flat @ flat) / len(flat),
        float(strokes.mean()),
    )


# --- kept for the next time -----------------------------------------------------------------------


def save(trace: Trace, path: Path) -> None:
    """Writes the trace of a film as one file."""
    marks = [(each.kind, str(each.first), str(each.last)) for each in trace.changes]
    arrays = {name: getattr(trace, name) for name in ("time", "level", "spread", "sharp", "text")}

    def write(part: Path) -> None:
        with part.open("wb") as file:
            np.savez_compressed(
                file,
                **arrays,
                bits=trace.bits,
                colours=trace.colours,
                changes=np.array(marks, dtype="U8").reshape(-1, 3),
                box=np.array(trace.box),
            )

    write_safely(path, write)


def load(path: Path) -> Trace | None:
    """The trace that was saved; None if there is none, or it is damaged."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            parts = {name: saved[name] for name in saved.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None
    marks = [Change(str(k), int(a), int(b)) for k, a, b in parts.pop("changes")]
    left, top, right, bottom = (int(side) for side in parts.pop("box"))
    return Trace(**parts, changes=marks, box=(left, top, right, bottom))
