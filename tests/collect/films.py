"""Films of known shots, made of still pictures: slow pans and zooms, cuts, cross-fades, fades to
black, flashes; in each shot some frames are blurred and some carry a subtitle, and which is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

LINES = ("I never said that I would come.", "And yet here you are,", "in the rain, without a coat.")


@dataclass(frozen=True)
class Shot:
    """`length` frames of a picture. The view moves from `start` to `end`: (centre x, centre y,
    share of the picture seen), each 0 to 1. `fade` frames of the shot before melt into this one
    (0: a cut), or, with `through` a colour, fade to it and from it.
    """

    picture: Image.Image
    length: int
    start: tuple[float, float, float] = (0.5, 0.5, 0.8)
    end: tuple[float, float, float] = (0.5, 0.5, 0.8)
    fade: int = 0
    through: str = ""
    blurred: tuple[int, ...] = ()
    said: range = field(default_factory=lambda: range(0))
    flash: int = -1  # the frame that is all but white

    def frame(self, number: int, size: tuple[int, int]) -> Image.Image:
        """The shot's frame as it is before it melts into another."""
        part = min(max(number / max(1, self.length - 1), -0.3), 1.3)
        x, y, share = (a + (b - a) * part for a, b in zip(self.start, self.end, strict=True))
        seen = _seen(self.picture.size, size[0] / size[1], x, y, share)
        image = self.picture.resize(size, Image.Resampling.BILINEAR, box=seen)
        if number in self.blurred:
            image = image.filter(ImageFilter.GaussianBlur(size[1] / 240))
        if number == self.flash:
            image = Image.blend(image, Image.new("RGB", size, "white"), 0.85)
        return image


@dataclass(frozen=True)
class Truth:
    """What is in the film of one shot: frames that show it alone, and those of them that are sharp,
    and those without a subtitle.
    """

    first: int
    last: int
    sharp: frozenset[int]
    silent: frozenset[int]


def _seen(
    picture: tuple[int, int], aspect: float, x: float, y: float, share: float
) -> tuple[float, float, float, float]:
    """The box of the picture that is seen, kept inside it."""
    width = min(picture[0], picture[1] * aspect) * min(share, 0.999)
    height = width / aspect
    left = min(max(x * picture[0] - width / 2, 0), picture[0] - width)
    top = min(max(y * picture[1] - height / 2, 0), picture[1] - height)
    return left, top, left + width, top + height


def truth(shots: Sequence[Shot]) -> list[Truth]:
    """Where each shot stands in the film, in frames."""
    found, at = [], 0
    for number, shot in enumerate(shots):
        after = shots[number + 1].fade if number + 1 < len(shots) else 0
        first, last = at + shot.fade, at + shot.length - 1
        own = set(range(first, last + 1))
        spoilt = {at + n for n in shot.blurred} | {at + shot.flash}
        silent = own - {at + n for n in shot.said}
        found.append(Truth(first, last, frozenset(own - spoilt), frozenset(silent)))
        at += shot.length
        assert shot.length > shot.fade + after
    return found


def frames(shots: Sequence[Shot], size: tuple[int, int]) -> Iterator[Image.Image]:
    """The film. A fade stands at the start of the later shot: its first `fade` frames."""
    for number, shot in enumerate(shots):
        for n in range(shot.length):
            image = shot.frame(n, size)
            if n < shot.fade:
                before = shots[number - 1]
                old = before.frame(before.length + n, size)
                image = _melted(old, image, (n + 1) / (shot.fade + 1), shot.through)
            if n in shot.said:
                _say(image, LINES[(number + n // 30) % len(LINES)])
            yield image


def _melted(old: Image.Image, new: Image.Image, part: float, through: str) -> Image.Image:
    if not through:
        return Image.blend(old, new, part)
    ground = Image.new("RGB", new.size, through)
    if part <= 0.5:
        return Image.blend(old, ground, min(1.0, part / 0.4))
    return Image.blend(ground, new, max(0.0, (part - 0.6) / 0.4))


def _say(image: Image.Image, line: str) -> None:
    font = ImageFont.load_default(image.height / 16)
    drawer, (width, height) = ImageDraw.Draw(image), image.size
    box = drawer.textbbox((0, 0), line, font=font)
    place = ((width - box[2]) / 2, height * 0.94 - box[3])
    stroke = max(1, height // 240)
    drawer.text(place, line, "white", font, stroke_width=stroke, stroke_fill="black")


def boxed(images: Iterator[Image.Image], size: tuple[int, int]) -> Iterator[Image.Image]:
    """Each picture in the middle of a black one of `size`: letterbox or pillarbox."""
    for image in images:
        whole = Image.new("RGB", size, "black")
        whole.paste(image, ((size[0] - image.width) // 2, (size[1] - image.height) // 2))
        yield whole


def woven(images: Iterator[Image.Image]) -> Iterator[Image.Image]:
    """Interlaced: the even lines of one picture, the odd lines of the next."""
    for top in images:
        frame = np.array(top)
        frame[1::2] = np.asarray(next(images))[1::2]
        yield Image.fromarray(frame)


def encode(
    path: Path,
    images: Iterator[Image.Image],
    rate: Fraction | int = 24,
    codec: str = "libx264",
    aspect: Fraction = Fraction(1),
    interlaced: bool = False,
    rotation: int = 0,
    options: dict[str, str] | None = None,
) -> Path:
    """Writes the film; `aspect` is that of a pixel."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.pix_fmt = "yuv420p"
        stream.options = options if options is not None else _fast(codec)
        if interlaced:
            stream.codec_context.flags |= 0x40000 | 0x20000000  # interlaced DCT and motion
        if rotation:
            stream.set_display_rotation(rotation)
        for number, image in enumerate(images):
            if not number:
                stream.width, stream.height = image.size
                stream.codec_context.sample_aspect_ratio = aspect
            frame = av.VideoFrame.from_image(image).reformat(
                format="yuv420p", dst_colorspace="ITU709" if image.height >= 720 else "ITU601"
            )
            frame.pts = number
            frame.time_base = 1 / Fraction(rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _fast(codec: str) -> dict[str, str]:
    if codec == "libx264":
        return {"preset": "ultrafast", "crf": "18"}
    if codec == "libvpx-vp9":
        return {"deadline": "realtime", "cpu-used": "8", "crf": "24", "b": "0"}
    return {"qscale": "3"}
