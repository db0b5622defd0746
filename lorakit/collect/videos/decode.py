"""Films as PyAV (FFmpeg) decodes them: what kind of film it is, and its frames one by one.

PyAV is imported inside: only films need it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from ...errors import CollectError
from . import combs

NEEDS, SIZE = "av>=15", "35 MB"
PEEKS = 12  # places of a film where it is looked at for interlacing
HDR = (16, 18)  # transfer functions of HDR pictures: PQ and HLG (ITU-T H.273, table 3)


@dataclass(frozen=True)
class Kind:
    """What a film's frames are: stored size, width of a pixel over its height, degrees by which
    they are to be turned anticlockwise, frames a second, seconds on its clock at which it starts,
    length in seconds (0: not known), and which field comes first in an interlaced one ('top',
    'bottom'; '': it is not interlaced).
    """

    size: tuple[int, int]
    pixel: Fraction = Fraction(1)
    turn: int = 0
    rate: float = 25.0
    start: float = 0.0
    length: float = 0.0
    fields: str = ""
    hdr: bool = False


@contextlib.contextmanager
def opened(path: Path, threads: str = "AUTO") -> Iterator[tuple[Any, Any]]:
    """The film's container and its video stream. What FFmpeg makes of a film it cannot read is a
    CollectError.
    """
    import av

    try:
        with av.open(str(path), metadata_errors="replace") as container:
            stream = _stream(container, path)
            stream.thread_type = threads
            yield container, stream
    except av.error.FFmpegError as error:
        raise CollectError(
            f"{path.name} cannot be read as a film ({error.strerror}): it is damaged, or no film. "
            "Copy or download it again."
        ) from error


def _stream(container: Any, path: Path) -> Any:
    """The first video stream that is no cover picture."""
    import av

    cover = av.stream.Disposition.attached_pic
    streams = [each for each in container.streams.video if not each.disposition & cover]
    if not streams:
        raise CollectError(f"{path.name} has no pictures in it, only sound or text.")
    if streams[0].codec_context is None:
        raise CollectError(
            f"The codec of {path.name} is unknown here; convert it to H.264, for example with "
            "HandBrake, and give that file."
        )
    return streams[0]


def kind_of(path: Path, deinterlace: str = "auto") -> Kind:
    """What kind of film it is, from its head and a look at a few places. Raises CollectError."""
    with opened(path, "SLICE") as (container, stream):
        looks = _peeks(container, stream)
        if not looks:
            raise CollectError(f"No picture of {path.name} can be decoded: it is damaged.")
        first = looks[0][0]
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        return Kind(
            (first.width, first.height),
            stream.sample_aspect_ratio or Fraction(1),
            round(first.rotation) % 360,
            float(rate),
            float((stream.start_time or 0) * stream.time_base),
            _length(container, stream),
            _fields(looks, deinterlace),
            int(first.color_trc) in HDR,
        )


def _length(container: Any, stream: Any) -> float:
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration else 0.0


def _peeks(container: Any, stream: Any) -> list[list[Any]]:
    """Three frames on end from each of a few places; the first place is the start."""
    looks, length = [], container.duration or 0
    for part in range(PEEKS):
        with contextlib.suppress(OSError, ValueError):  # FFmpeg's errors are one of these
            if part:
                if not length:
                    break
                container.seek(int((container.start_time or 0) + length * part / PEEKS))
            frames = _three(container, stream)
            if frames:
                looks.append(frames)
    return looks


def _three(container: Any, stream: Any) -> list[Any]:
    frames = []
    for frame in decoded(container, stream):
        frames.append(frame)
        if len(frames) == 3:
            break
    return frames


def _fields(looks: list[list[Any]], deinterlace: str) -> str:
    """Which field comes first, if the film is to be deinterlaced."""
    if deinterlace == "never":
        return ""
    flagged = sum(frame.interlaced_frame for frames in looks for frame in frames)
    grey = [[frame.to_ndarray(format="gray") for frame in frames] for frames in looks]
    combed = combs.combed(grey)
    if deinterlace == "always" or combed or 2 * flagged > sum(map(len, looks)):
        return combs.first_field(grey)
    return ""


def decoded(container: Any, stream: Any) -> Iterator[Any]:
    """The film's frames from where it stands; what cannot be decoded is left out."""
    import av

    errors = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
            frames = packet.decode()
        except (StopIteration, EOFError):
            return
        except av.error.FFmpegError:
            errors += 1
            if errors > 1000:  # the rest of the film is lost
                return
            continue
        yield from (frame for frame in frames if not frame.is_corrupt)


def filtered(frames: Iterable[Any], stream: Any, *filters: tuple[str, str]) -> Iterator[Any]:
    """The frames as FFmpeg's filters make them, each a name and its options."""
    from av.filter import Graph

    graph, size = None, (0, 0)
    for frame in frames:
        if graph is None or size != (frame.width, frame.height):
            if graph is not None:
                yield from _pull(graph, last=True)
            graph, size = _graph(Graph(), stream, frame, filters), (frame.width, frame.height)
        graph.push(frame)
        yield from _pull(graph)
    if graph is not None:
        yield from _pull(graph, last=True)


def _graph(graph: Any, stream: Any, frame: Any, filters: tuple[tuple[str, str], ...]) -> Any:
    source = graph.add_buffer(
        width=frame.width,
        height=frame.height,
        format=frame.format,
        time_base=stream.time_base,
    )
    links = [source, *(graph.add(*each) for each in filters), graph.add("buffersink")]
    graph.link_nodes(*links)
    graph.configure()
    return graph


def _pull(graph: Any, last: bool = False) -> Iterator[Any]:
    import av

    with contextlib.suppress(av.error.BlockingIOError, av.error.EOFError):
        if last:
            graph.push(None)
        while True:
            yield graph.pull()
