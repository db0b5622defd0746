"""Films of known shots made from real pictures: exactly those shots, in sharp frames, in little
time and memory.
"""

from __future__ import annotations

import random
import resource
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image

from lorakit.collect.videos.choose import shots as shots_of
from lorakit.collect.videos.decode import kind_of
from lorakit.collect.videos.settings import VideoSettings
from lorakit.collect.videos.survey import survey
from lorakit.collect.videos.trace import watch
from lorakit.progress import silent

from .films import Shot, boxed, encode, frames, truth, woven
from .real import debian, drawings, photos

pytestmark = pytest.mark.slow
FADES = ((0, ""), (0, ""), (0, ""), (6, ""), (12, ""), (24, ""), (12, "white"), (24, "black"))


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return drawings() + photos()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def film(pictures: list[Image.Image], seed: int, count: int) -> list[Shot]:
    """Shots of 2 to 4 s with slow pans and zooms; in each some frames are blurred, in half of them
    something is said, in some there is a flash.
    """
    rng, shots = random.Random(seed), []
    for number, picture in enumerate(rng.sample(pictures, count)):
        start = (rng.uniform(0.35, 0.65), rng.uniform(0.35, 0.65), rng.uniform(0.6, 0.95))
        end = (start[0] + rng.uniform(-0.15, 0.15), start[1], start[2] * rng.uniform(0.8, 1.2))
        length = rng.choice((54, 72, 96))
        fade, through = rng.choice(FADES) if number else (0, "")
        at = rng.randrange(fade + 4, length - 8)
        shot = Shot(picture, length, start, start if number % 3 else end, fade, through)
        said = range(length // 2, length) if number % 2 else range(0)
        flash = length - 6 if number % 5 == 4 else -1
        shots.append(replace(shot, blurred=tuple(range(at, at + 6)), said=said, flash=flash))
    return shots


def fields(shots: list[Shot]) -> list[Shot]:
    """The same film at twice the rate."""
    return [
        replace(
            shot,
            length=2 * shot.length,
            fade=2 * shot.fade,
            blurred=tuple(n for each in shot.blurred for n in (2 * each, 2 * each + 1)),
            said=range(2 * shot.said.start, 2 * shot.said.stop),
            flash=-1,
        )
        for shot in shots
    ]


def make(kind: str, shots: list[Shot], folder: Path) -> tuple[Path, list[Shot], int]:
    """The film as a file, the shots as they are in it, and its frames a second."""
    if kind == "interlaced":
        path, images = folder / "a.mpg", woven(frames(fields(shots), (720, 576)))
        encode(path, images, 25, "mpeg2video", Fraction(16, 15), interlaced=True)
        return path, [replace(shot, flash=-1) for shot in shots], 25
    path = folder / ("a.webm" if kind == "vp9" else "a.mkv")
    if kind == "letterboxed":
        encode(path, boxed(frames(shots, (640, 272)), (640, 360)))
    elif kind == "anamorphic":
        encode(path, frames(shots, (480, 360)), aspect=Fraction(4, 3))
    elif kind == "vp9":
        encode(path, frames(shots, (640, 360)), codec="libvpx-vp9")
    else:
        encode(path, frames(shots, (640, 360)))
    return path, shots, 24


KINDS = ("plain", "again", "letterboxed", "anamorphic", "interlaced", "vp9")


@pytest.mark.parametrize("seed, kind", list(enumerate(KINDS)))
def test_a_film_gives_exactly_its_shots_in_sharp_frames(pictures, tmp_path, seed, kind) -> None:
    path, shots, rate = make(kind, film(pictures, 300 + seed, 10), tmp_path)
    offer = survey(VideoSettings(), [str(path)], silent)
    found = [round(float(find.origin.id.rpartition(":")[2]) * rate) for find in offer.finds]
    true = truth(shots)
    per_shot = [[n for n in found if shot.first <= n <= shot.last] for shot in true]
    assert [len(each) for each in per_shot] == [1] * 10 and len(found) == 10
    sharp = sum(n in shot.sharp for each, shot in zip(per_shot, true, strict=True) for n in each)
    assert sharp >= 0.95 * len(found), f"{sharp} of {len(found)}"
    could = [
        i for i, shot in enumerate(true) if shots[i].said and min(shot.silent) + 20 in shot.silent
    ]
    assert could and all(per_shot[i][0] in true[i].silent for i in could)
    widths = {"letterboxed": (640, 268), "interlaced": (768, 576)}
    assert offer.finds[0].size == widths.get(kind, (640, 360))


def test_an_opening_in_two_episodes_is_taken_once(pictures, tmp_path) -> None:
    opening, rest = film(pictures[:6], 1, 4), film(pictures[6:], 2, 8)
    episodes = [[rest[0], *opening, *rest[1:4]], [rest[4], rest[5], *opening, *rest[6:]]]
    for number, shots in enumerate(episodes, 1):
        rate = {"crf": str(16 + 6 * number), "preset": "ultrafast"}
        encode(tmp_path / f"ep{number}.mkv", frames(shots, (640, 360)), options=rate)
    offer = survey(VideoSettings(), [str(tmp_path)], silent)
    counts = []
    for number, shots in enumerate(episodes, 1):
        mine = [find for find in offer.finds if find.name.startswith(f"ep{number}_")]
        times = [float(find.origin.id.rpartition(":")[2]) * 24 for find in mine]
        counts.append([sum(t.first <= n <= t.last for n in times) for t in truth(shots)])
    assert counts == [[1] * 8, [1, 1, 0, 0, 0, 0, 1, 1]]


def test_the_launch_in_renpys_demo_has_one_shot_or_few(tmp_path) -> None:
    (path,) = debian("renpy-demo").rglob("oa4_launch.webm")
    offer = survey(VideoSettings(), [str(path)], silent)
    assert 1 <= len(offer.finds) <= 4
    offer.finds[0].write(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == offer.finds[0].size


MEASURE = """
import re, sys
from pathlib import Path
from lorakit.collect.videos.decode import kind_of
from lorakit.collect.videos.trace import watch
path = Path(sys.argv[1])
watch(path, kind_of(path), lambda *said: None)
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def test_time_and_memory_at_720p(pictures, tmp_path, capsys) -> None:
    """At most half the film's length on two cores, so one length of CPU seconds; a film of four
    minutes takes no more memory than one of one.
    """
    paths = []
    options = {"preset": "veryfast", "crf": "20"}
    once = [image for image in frames(film(pictures, 9, 8), (1280, 720))]
    for minutes in (1, 4):
        images = (once[n % len(once)] for n in range(minutes * 60 * 24))
        paths.append(encode(tmp_path / f"{minutes}.mkv", images, options=options))
    peaks = [
        int(subprocess.run([sys.executable, "-c", MEASURE, p], capture_output=True).stdout)
        for p in paths
    ]
    wall, spent = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    kind = kind_of(paths[0])
    trace = watch(paths[0], kind, silent)
    done = resource.getrusage(resource.RUSAGE_SELF)
    cpu = done.ru_utime + done.ru_stime - spent.ru_utime - spent.ru_stime
    wall = time.monotonic() - wall
    with capsys.disabled():
        print(
            f"\n60 s of 720p: {cpu:.1f} s of CPU ({cpu / 60:.2f} of its length), {wall:.1f} s on "
            f"the clock; peak memory {peaks[0]} MB, of 240 s {peaks[1]} MB"
        )
    assert len(shots_of(trace)) > 8 and cpu < 30
    assert peaks[1] < 1.1 * peaks[0] + 20
