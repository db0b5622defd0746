"""Screencaps from films: what is offered, what is said, and the pictures that are written."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from lorakit.collect import source
from lorakit.collect.finds import Find, Offer
from lorakit.collect.intake import take
from lorakit.collect.videos.settings import VideoSettings
from lorakit.dataset import scan
from lorakit.demo.sample import good_picture
from lorakit.errors import CollectError, SettingsError
from lorakit.progress import silent
from lorakit.project import find

from .films import Shot, Truth, boxed, encode, frames, truth, woven

SIZE = (320, 180)
QUIET = silent


@pytest.fixture(scope="module")
def drawn() -> list[Image.Image]:
    return [good_picture(number) for number in (0, 1, 2, 4, 5, 8)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lorakit" / "videos"


def plain(drawn: list[Image.Image], length: int = 30) -> list[Shot]:
    """Four shots; in each a few frames are blurred."""
    blurred = tuple(range(10, 16))
    return [Shot(picture, length, blurred=blurred) for picture in drawn[:4]]


def look(*items: Path, progress: object = QUIET, **settings: object) -> Offer:
    return source("videos").look(  # type: ignore[no-any-return]
        VideoSettings(**settings), [str(item) for item in items], progress
    )


def numbers(finds: list[Find], rate: float = 24) -> list[int]:
    return [round(float(find.origin.id.rpartition(":")[2]) * rate) for find in finds]


def hits(finds: list[Find], true: list[Truth], rate: float = 24) -> list[int]:
    """How many sharp frames of each shot are there; every other frame that is there fails."""
    got = numbers(finds, rate)
    per_shot = [[n for n in got if n in shot.sharp] for shot in true]
    assert sorted(n for shot in per_shot for n in shot) == sorted(got)
    return [len(shot) for shot in per_shot]


def written(find: Find, folder: Path) -> Image.Image:
    find.write(folder / find.name)
    return Image.open(folder / find.name).convert("RGB")


def difference(one: Image.Image, other: Image.Image) -> float:
    return float(np.abs(np.asarray(one, float) - np.asarray(other, float)).mean())


# --- which frames ---------------------------------------------------------------------------------


def test_each_shot_gives_a_sharp_frame_and_its_name_says_when(drawn, tmp_path) -> None:
    film = encode(tmp_path / "ep 01.mp4", frames(plain(drawn), SIZE))
    finds = look(film).finds
    assert hits(finds, truth(plain(drawn))) == [1, 1, 1, 1]
    seconds = float(finds[2].origin.id.rpartition(":")[2])
    assert finds[2].name == f"ep_01_{seconds:07.2f}s.png" and 2.5 < seconds < 3.75
    assert finds[2].origin.id.startswith(f"ep 01.mp4:{film.stat().st_size}:")


def test_the_frame_that_is_written_is_the_one_that_was_chosen(drawn, tmp_path) -> None:
    shots = plain(drawn)
    film = encode(tmp_path / "a.mp4", frames(shots, SIZE), options={"crf": "5", "g": "40"})
    finds, images = look(film, per_shot=2, distance=0).finds, list(frames(shots, SIZE))
    assert len(finds) >= 4
    for one in [*finds, *finds[::-1]]:  # also backwards: that needs seeking
        image = written(one, tmp_path)
        errors = [difference(image, each) for each in images]
        assert errors[numbers([one])[0]] <= min(errors) + 0.5 and min(errors) < 4


def test_several_of_a_shot_are_unlike_one_another(drawn, tmp_path) -> None:
    pan = Shot(drawn[0], 90, (0.3, 0.2, 0.5), (0.6, 0.8, 0.5))
    film = encode(tmp_path / "a.mp4", frames([pan, Shot(drawn[1], 40)], SIZE))
    assert hits(look(film, per_shot=4).finds, truth([pan, Shot(drawn[1], 40)])) == [4, 1]


def test_a_shot_that_comes_again_gives_no_second_picture(drawn, tmp_path) -> None:
    a, b = Shot(drawn[0], 30), Shot(drawn[1], 30)
    offer = look(encode(tmp_path / "a.mp4", frames([a, b, a, b], SIZE)))
    assert hits(offer.finds, truth([a, b, a, b])) == [1, 1, 0, 0]
    assert "2 shots look like others and give no picture (distance 12)." in offer.notes


def test_so_many_of_each_minute_and_in_all(drawn, tmp_path) -> None:
    shots = plain(drawn) + [Shot(drawn[4], 60)]
    film = encode(tmp_path / "a.mp4", frames(shots, SIZE))
    assert hits(look(film, per_minute=1).finds, truth(shots)) == [0, 0, 0, 0, 1]  # the longest
    limited = look(film, limit=2)
    assert hits(limited.finds, truth(shots)) == [0, 1, 0, 1, 0]
    assert "2 of 5 pictures are taken (limit), spread evenly." in limited.notes


def test_a_frame_without_a_subtitle_is_preferred(drawn, tmp_path) -> None:
    shots = [Shot(p, 48, said=range(0, 30), blurred=tuple(range(34, 40))) for p in drawn[:3]]
    film = encode(tmp_path / "a.mp4", frames(shots, (640, 360)))
    true, found = truth(shots), numbers(look(film).finds)
    assert [n for n in found if any(n in shot.silent & shot.sharp for shot in true)] == found
    assert len(found) == 3


def test_black_and_white_and_flashes_are_no_pictures(drawn, tmp_path) -> None:
    black, white = (Shot(Image.new("RGB", (64, 64), c), 20) for c in ("black", "white"))
    shots = [black, Shot(drawn[0], 40, flash=20), white, Shot(drawn[1], 40), black]
    film = encode(tmp_path / "a.mp4", frames(shots, SIZE))
    assert hits(look(film, per_shot=3, distance=0).finds, truth(shots))[::2] == [0, 0, 0]
    assert hits(look(film).finds, truth(shots)) == [0, 1, 0, 1, 0]


def test_an_opening_is_taken_from_the_first_film_that_has_it(drawn, tmp_path) -> None:
    opening = [Shot(picture, 40, (0.4, 0.4, 0.7), (0.6, 0.6, 0.7)) for picture in drawn[:3]]
    first, second = [*opening, Shot(drawn[3], 40)], [Shot(drawn[4], 40), *opening]
    one = encode(tmp_path / "ep1.mp4", frames(first, SIZE))
    two = encode(tmp_path / "ep2.mkv", frames(second, SIZE), options={"crf": "28"})
    offer = look(tmp_path, per_shot=2)
    by_film = [[f for f in offer.finds if f.name.startswith(name)] for name in ("ep1_", "ep2_")]
    assert all(hits(by_film[0], truth(first))) and one.exists() and two.exists()
    assert hits(by_film[1], truth(second))[1:] == [0, 0, 0] and by_film[1]
    said = [note for note in offer.notes if "skip_repeated" in note]
    assert said == [
        "ep2.mkv: 5 s that an earlier film has too, such as an opening, are left out "
        "(skip_repeated)."
    ]


# --- what the pictures are like -------------------------------------------------------------------


def test_black_bars_are_cut_off_although_a_subtitle_stands_in_them(drawn, tmp_path) -> None:
    def subtitled():
        for number, image in enumerate(boxed(frames(plain(drawn), (320, 136)), SIZE)):
            if number % 30 < 20:
                ImageDraw.Draw(image).text((100, 168), "In the bar.", "white")
            yield image

    film = encode(tmp_path / "a.mp4", subtitled())
    offer = look(film)
    picture = written(offer.finds[0], tmp_path)
    assert picture.size == offer.finds[0].size == (320, 132)  # two lines at each soft edge go too
    assert "a.mp4: black bars are cut off; 320x132 is left." in offer.notes
    assert look(film, crop_borders=False).finds[0].size == SIZE


def test_a_dark_film_keeps_its_edges(drawn, tmp_path) -> None:
    def night():
        for number, image in enumerate(frames(plain(drawn), SIZE)):
            share = 0.2 if number < 100 else 0.5
            yield image.point(lambda value, share=share: int(value * share))

    film = encode(tmp_path / "a.mp4", night())
    assert look(film).finds[0].size == SIZE


def test_pixels_that_are_not_square_are_made_square(drawn, tmp_path) -> None:
    film = encode(tmp_path / "a.mp4", frames(plain(drawn), (240, 180)), aspect=Fraction(4, 3))
    (first, *_) = look(film).finds
    assert written(first, tmp_path).size == first.size == (320, 180)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_film_taken_with_the_telephone_upright_is_upright(drawn, tmp_path, turn) -> None:
    shots = plain(drawn)
    film = encode(tmp_path / "a.mp4", frames(shots, SIZE), rotation=turn)
    (first, *_) = look(film).finds
    picture, stored = written(first, tmp_path), shots[0].frame(0, SIZE)
    assert picture.size == first.size == (SIZE if turn == 180 else SIZE[::-1])
    assert difference(picture, stored.rotate(turn, expand=True)) < 8


@pytest.mark.parametrize("top", [True, False])
def test_what_is_interlaced_is_deinterlaced_marked_or_not(drawn, tmp_path, top) -> None:
    shots = [Shot(p, 60, (0.3, 0.3, 0.5), (0.6, 0.5, 0.5)) for p in drawn[:3]]

    def fields():
        images = frames(shots, (480, 360))
        for first, second in zip(images, images, strict=True):
            yield from (first, second) if top else (second, first)

    film = encode(tmp_path / "a.mp4", woven(fields()), 25, options={"crf": "12"})
    offer = look(film)
    assert "a.mp4 is interlaced; its pictures are deinterlaced." in offer.notes
    assert len(offer.finds) == 3
    combed = look(film, deinterlace="never").finds[1]
    assert ragged(written(offer.finds[1], tmp_path)) < 0.5 * ragged(written(combed, tmp_path))


def ragged(image: Image.Image) -> float:
    """How much neighbouring lines differ, beside every second line."""
    grey = np.asarray(image.convert("L"), float)
    return float(np.abs(grey[1:-1] - (grey[:-2] + grey[2:]) / 2).mean())


def test_the_colours_are_those_of_the_film(tmp_path) -> None:
    for size, name in (((1280, 720), "hd.mp4"), ((640, 360), "sd.mp4")):
        image = Image.new("RGB", size, (200, 40, 60))
        image.paste((30, 160, 90), (size[0] // 2, 0, *size))
        (one,) = look(encode(tmp_path / name, iter([image] * 24))).finds
        picture = written(one, tmp_path)
        assert np.allclose(picture.getpixel((size[0] // 4, 9)), (200, 40, 60), atol=4)
        assert np.allclose(picture.getpixel((size[0] * 3 // 4, 9)), (30, 160, 90), atol=4)


def test_jpg_by_setting_and_thumbnails(drawn, tmp_path) -> None:
    film = encode(tmp_path / "a.mp4", frames(plain(drawn), SIZE))
    one = look(film, format="jpg").finds[1]
    assert one.name.endswith("s.jpg") and one.thumbnail
    one.write(tmp_path / one.name)
    assert (tmp_path / one.name).read_bytes()[:3] == b"\xff\xd8\xff"
    assert difference(one.thumbnail(), plain(drawn)[1].frame(0, SIZE)) < 8


# --- again, and what goes wrong -------------------------------------------------------------------


def test_a_film_is_watched_once_even_if_it_moves_and_nothing_is_taken_twice(
    drawn, tmp_path, cache
) -> None:
    film = encode(tmp_path / "a.mp4", frames(plain(drawn), SIZE))
    project = find(str(tmp_path / "astrid"))
    assert str(take(project, look(film))) == "4 new pictures."
    said: list[str] = []
    moved = film.rename(tmp_path / "cache" / "a.mp4")
    again = look(moved, progress=lambda what, done, total: said.append(what))
    assert not [what for what in said if what.startswith("Watching")]
    assert str(take(project, again)) == "0 new pictures; 4 were here already."
    (kept,) = cache.iterdir()
    kept.write_bytes(kept.read_bytes()[:100])  # killed while it was written
    assert numbers(look(moved).finds) == numbers(again.finds)
    assert len(scan(project.dataset)) == 4


def test_a_film_that_is_cut_off_gives_what_there_is_and_says_so(drawn, tmp_path) -> None:
    shots = plain(drawn) + plain(drawn[2:])
    whole = encode(tmp_path / "a.mkv", frames(shots, SIZE))
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    offer = look(whole)
    assert 1 <= len(offer.finds) <= 4
    assert "it is damaged or cut off. What there is is used." in " ".join(offer.notes)
    assert written(offer.finds[0], tmp_path).size == SIZE


def test_bytes_that_were_lost_within_cost_a_few_frames_only(drawn, tmp_path) -> None:
    film = encode(tmp_path / "a.mkv", frames(plain(drawn), SIZE), options={"g": "12"})
    data = bytearray(film.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 300] = bytes(300)
    film.write_bytes(data)
    assert len(look(film).finds) >= 3


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("empty.mp4", b"", "empty.mp4 is empty. Copy or download it again."),
        ("text.mp4", b"no film " * 999, "text.mp4 cannot be read as a film"),
        ("half.mp4", None, "half.mp4 cannot be read as a film"),
    ],
)
def test_what_is_no_film_is_said_plainly(drawn, tmp_path, name, content, said) -> None:
    if content is None:  # an mp4 has its table of contents at the end
        whole = encode(tmp_path / "whole.mp4", frames(plain(drawn), SIZE))
        content = whole.read_bytes()[: whole.stat().st_size // 2]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CollectError, match=said):
        look(tmp_path / name)


def test_sound_alone_is_no_film(tmp_path) -> None:
    import av

    with av.open(str(tmp_path / "song.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(CollectError, match=r"song.mp4 has no pictures in it, only sound or text"):
        look(tmp_path / "song.mp4")


def test_one_bad_film_of_several_does_not_stop_the_others(drawn, tmp_path) -> None:
    encode(tmp_path / "a.mp4", frames(plain(drawn), SIZE))
    (tmp_path / "b.mp4").write_bytes(b"")
    offer = look(tmp_path)
    assert len(offer.finds) == 4
    assert "b.mp4 is empty. Copy or download it again. The other films are used." in offer.notes
    assert "a.mp4 is only 320x180; look for a better copy if there is one." in offer.notes


def test_items_that_are_no_films_are_said_plainly(tmp_path) -> None:
    with pytest.raises(CollectError, match="There is no film in"):
        look(tmp_path)
    with pytest.raises(CollectError, match="There is no file .*nowhere.mkv. Give films, or"):
        look(tmp_path / "nowhere.mkv")
    with pytest.raises(CollectError, match="is an address; download the film"):
        source("videos").look(VideoSettings(), ["https://example.org/a.mp4"], silent)
    with pytest.raises(SettingsError, match="videos: per_shot is 0; it must be from 1 to 20"):
        VideoSettings(per_shot=0)


def test_episodes_come_in_the_order_in_which_a_person_counts(drawn, tmp_path) -> None:
    for number, picture in ((10, drawn[0]), (9, drawn[1])):
        encode(tmp_path / f"ep{number}.mp4", frames([Shot(picture, 24)], SIZE))
    assert [one.name[:4] for one in look(tmp_path).finds] == ["ep9_", "ep10"]


def test_the_command_shows_takes_and_refuses(drawn, tmp_path) -> None:
    film = encode(tmp_path / "a.mp4", frames(plain(drawn), SIZE))

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        base = [sys.executable, "-m", "lorakit", "collect", "videos"]
        end = ["--project", str(tmp_path / "p")]
        return subprocess.run([*base, *words, *end], capture_output=True, text=True)

    shown = command(str(film), "--dry-run", "--json")
    assert json.loads(shown.stdout)["new"] == 4, shown.stderr
    assert Path(json.loads(shown.stdout)["sheet"]).exists()
    taken = command(str(film), "--format", "jpg")
    assert taken.returncode == 0 and "4 new pictures." in taken.stdout
    assert len(list(tmp_path.glob("p/dataset/*.jpg"))) == 4
    wrong = command(str(tmp_path / "none.mp4"))
    assert wrong.returncode == 2 and "There is no file" in wrong.stderr
    assert "Traceback" not in wrong.stderr
