"""The pictures themselves: single frames of films at full size, as they are meant to be seen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image

from ...errors import CollectError
from .decode import Kind, decoded, filtered, opened
from .trace import timed

FAR = 8.0  # seconds up to which decoding on is quicker than seeking
BEFORE = 0.3  # seconds sought too early: deinterlacing looks at the frames before
HD = 720  # lines from which on an unmarked film's colours are those of BT.709, as players take it
ITU601, ITU709, UNKNOWN = 5, 1, (2, 3)  # colour matrices (ITU-T H.273, table 4)


@dataclass(frozen=True)
class Film:
    """A film, what kind it is, and which part of its frames is the picture (left, top, right,
    bottom; None: all).
    """

    path: Path
    kind: Kind
    box: tuple[int, int, int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of its pictures."""
        left, top, right, bottom = self.box or (0, 0, *self.kind.size)
        width, height = square(right - left, bottom - top, self.kind.pixel)
        return (height, width) if self.kind.turn % 180 else (width, height)


def square(width: int, height: int, pixel: Fraction) -> tuple[int, int]:
    """The size with square pixels: the side that is too short grows."""
    if pixel >= 1:
        return round(width * pixel), height
    return width, round(height / pixel)


class Projector:
    """Shows frames of films. It keeps the last film open, so frames asked for in order are found
    by decoding on, without seeking.
    """

    def __init__(self) -> None:
        self._film: Film | None = None
        self._open = ExitStack()
        self._frames: Iterator[tuple[float, Any]] = iter(())
        self._container: Any = None
        self._stream: Any = None
        self._now = 0.0

    def picture(self, film: Film, time: float) -> Image.Image:
        """The frame of that time. Raises CollectError."""
        if film != self._film:
            self._load(film)
        try:
            return seen(film, self._frame(film, time))
        except BaseException:
            self.close()  # nobody knows where the decoder stands now
            raise

    def close(self) -> None:
        """Lets go of the film."""
        self._film, self._frames = None, iter(())
        self._open.close()

    def _load(self, film: Film) -> None:
        self.close()
        self._container, self._stream = self._open.enter_context(opened(film.path))
        self._film = film
        self._run(film)

    def _run(self, film: Film) -> None:
        """Decodes on from where the container stands."""
        frames = decoded(self._container, self._stream)
        if film.kind.fields:
            order = "tff" if film.kind.fields == "top" else "bff"
            way = ("bwdif", f"mode=send_frame:parity={order}:deint=all")
            frames = filtered(frames, self._stream, way)
        self._frames = timed(frames, film.kind)
        self._now = 0.0

    def _frame(self, film: Film, time: float) -> Any:
        half = 0.5 / max(film.kind.rate, 1.0)
        if not self._now - half < time <= self._now + FAR:
            self._seek(film, time)
        found = self._next(time, half)
        if found is None:  # sought wrongly, as in films without an index
            self._load(film)
            found = self._next(time, half)
        if found is None:
            raise CollectError(f"{film.path.name} could not be decoded again at {time:.2f} s.")
        return found

    def _next(self, time: float, half: float) -> Any:
        """The frame of that time if it is yet to come, else None."""
        for now, frame in self._frames:
            self._now = now
            if now > time + 2 * half:
                return None
            if now > time - half:
                return frame
        return None

    def _seek(self, film: Film, time: float) -> None:
        if time < FAR:
            return self._load(film)
        self._stream.codec_context.flush_buffers()
        clock = film.kind.start + time - BEFORE
        self._container.seek(int(clock / self._stream.time_base), stream=self._stream)
        self._run(film)


def seen(film: Film, frame: Any) -> Image.Image:
    """A decoded frame as a picture: in its colours, without bars, with square pixels, upright."""
    matrix = int(frame.colorspace)
    if matrix in UNKNOWN:
        matrix = ITU709 if frame.height >= HD else ITU601
    rgb = frame.reformat(format="rgb24", src_colorspace=matrix, interpolation="LANCZOS")
    image = Image.fromarray(rgb.to_ndarray())
    if film.box and film.box != (0, 0, *image.size) and image.size == film.kind.size:
        image = image.crop(film.box)
    size = square(*image.size, film.kind.pixel)
    if size != image.size:
        image = image.resize(size, Image.Resampling.LANCZOS)
    return image.rotate(film.kind.turn, expand=True) if film.kind.turn else image
