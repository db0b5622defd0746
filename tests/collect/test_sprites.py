"""Sprites: what is cut, what is dropped, how pixels are kept sharp, what is said about it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from lorakit.__main__ import main
from lorakit.collect.finds import Offer
from lorakit.collect.intake import take
from lorakit.collect.origins import read_origins
from lorakit.collect.sprites import SpritesSettings, look
from lorakit.collect.sprites.pieces import in_rows
from lorakit.collect.sprites.pixels import enlarged, pixel_size, shrunk, whole_factor
from lorakit.collect.sprites.slicing import sliced
from lorakit.dataset import scan
from lorakit.errors import CollectError, SettingsError
from lorakit.images import open_image
from lorakit.progress import silent
from lorakit.project import Project, find


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return find(str(tmp_path / "p" / "astrid")).create()


def sprite(seed: int, width: int = 16, height: int = 24) -> Image.Image:
    """A figure of random pixels in eight colours, filling its box."""
    random = np.random.default_rng(seed)
    palette = random.integers(0, 256, (8, 3), dtype=np.uint8)
    pixels = np.full((height, width, 4), 255, np.uint8)
    pixels[..., :3] = palette[random.integers(0, 8, (height, width))]
    return Image.fromarray(pixels)


def sheet(
    path: Path, places: dict[tuple[int, int], Image.Image], size: tuple[int, int], colour: str = ""
) -> Path:
    image = Image.new("RGBA", size, colour or (0, 0, 0, 0))
    for place, each in places.items():
        image.alpha_composite(each, place)
    image.save(path)
    return path


def row(count: int, step: int = 30) -> dict[tuple[int, int], Image.Image]:
    return {(5 + n * step, 4): sprite(n) for n in range(count)}


def offer_of(*items: object, **settings: object) -> Offer:
    return look(SpritesSettings(**settings), [str(item) for item in items], silent)  # type: ignore[arg-type]


def same(one: Image.Image | np.ndarray, two: Image.Image | np.ndarray) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(two))


@pytest.mark.parametrize("colour", ["", "#ff00ff", "white", "#008080"])
def test_a_sheet_is_cut_where_it_is_transparent_or_has_its_borders_colour(
    tmp_path: Path, colour: str
) -> None:
    path = sheet(tmp_path / "s.png", row(4), (130, 34), colour)
    found = sliced(path, SpritesSettings())
    assert len(found.sprites) == 4
    assert all(same(each.pixels, sprite(n)) for n, each in enumerate(found.sprites))
    assert all(each.is_pixel_art for each in found.sprites)


def test_white_eyes_stay_on_a_white_sheet_and_holes_show_through_magenta(tmp_path: Path) -> None:
    for colour, opaque in (("white", 255), ("#ff00ff", 0)):
        figure = Image.new("RGBA", (20, 20), "navy")
        figure.paste(colour, (8, 8, 12, 12))
        path = sheet(
            tmp_path / f"{opaque}.png", {(5, 5): figure, (40, 5): sprite(1)}, (70, 40), colour
        )
        assert sliced(path, SpritesSettings()).sprites[0].pixels[10, 10, 3] == opaque


def test_a_key_colour_may_be_uneven_within_the_tolerance(tmp_path: Path) -> None:
    image = Image.new("RGB", (130, 34), (0, 128, 64))
    image.paste((3, 124, 66), (20, 31, 100, 34))
    for place, each in row(4).items():
        image.paste(each.convert("RGB"), place)
    image.save(tmp_path / "s.png")
    assert len(sliced(tmp_path / "s.png", SpritesSettings()).sprites) == 4
    assert len(sliced(tmp_path / "s.png", SpritesSettings(tolerance=0)).sprites) == 5


def test_empty_and_identical_cells_are_dropped_also_across_sheets(tmp_path: Path) -> None:
    cells = {(n * 32 + 8, 4): sprite(n % 3) for n in range(6)}
    one = sheet(tmp_path / "one.png", cells, (256, 32))
    two = sheet(tmp_path / "two.png", {(8, 4): sprite(0), (40, 4): sprite(9)}, (64, 32))
    offer = offer_of(one, two, cell_width=32, cell_height=32)
    assert len(offer.finds) == 4
    assert offer.notes[0] == (
        "one.png: 3 sprites (cells of 32 x 32); dropped: 2 empty, 3 the same as another."
    )
    assert "1 sprites are on several sheets and are taken once." in offer.notes


def test_a_grid_is_taken_as_given_with_offset_and_spacing(tmp_path: Path) -> None:
    cells = {(3 + n % 4 * 18, 5 + n // 4 * 26): sprite(n) for n in range(8)}
    path = sheet(tmp_path / "s.png", cells, (75, 57), "gray")
    found = sliced(
        path,
        SpritesSettings(
            mode="grid", cell_width=16, cell_height=24, offset_x=3, offset_y=5, spacing=2
        ),
    )
    assert [same(each.pixels, sprite(n)) for n, each in enumerate(found.sprites)] == [True] * 8


def test_sprites_in_pieces_are_kept_whole_by_a_grid_that_is_guessed(tmp_path: Path) -> None:
    cells = {}
    for n in range(8):
        left, top = n % 4 * 64, n // 4 * 64
        cells[left + 14, top + 20] = sprite(n, 24, 36)
        cells[left + 46, top + 20] = sprite(n + 50, 8, 30)  # a blade that flies beside it
    found = sliced(sheet(tmp_path / "s.png", cells, (256, 128)), SpritesSettings())
    assert found.how == "cells of 64 x 64" and len(found.sprites) == 8
    assert found.sprites[0].pixels.shape == (36, 40, 4)


def test_tiles_that_touch_are_cut_along_their_seams(tmp_path: Path) -> None:
    image = Image.new("RGB", (128, 96))
    for n in range(12):
        drawing = Image.new("RGB", (32, 32), (20 * n, 255 - 20 * n, n * 90 % 256))
        ImageDraw.Draw(drawing).ellipse((8, 8, 24, 24), fill=(n, 60, 255 - n))
        image.paste(drawing, (n % 4 * 32, n // 4 * 32))
    image.save(tmp_path / "s.png")
    found = sliced(tmp_path / "s.png", SpritesSettings())
    assert (found.how, len(found.sprites)) == ("cells of 32 x 32", 12)


def test_small_bits_belong_to_the_figure_beside_them_and_effects_are_named(tmp_path: Path) -> None:
    figures = {(10 + n * 60, 10): sprite(n, 32, 48) for n in range(6)}
    bits = {(46, 20): sprite(90, 4, 4), (370, 30): sprite(91, 10, 10)}
    offer = offer_of(sheet(tmp_path / "s.png", figures | bits, (400, 70)))
    assert len(offer.finds) == 7  # the bit 4 px beside the first is part of it, the far one is not
    assert offer.notes[1].startswith("s.png: 1 sprites are much smaller than the others")
    assert "look at 7" in offer.notes[1]


def test_one_figure_is_not_cut_apart(tmp_path: Path) -> None:
    image = Image.new("RGBA", (300, 600))
    drawer = ImageDraw.Draw(image)
    drawer.ellipse((60, 20, 240, 580), fill="crimson")
    drawer.rectangle((262, 100, 276, 118), fill="gold")  # an earring that hangs free
    image.save(tmp_path / "figure.png")
    offer = offer_of(tmp_path / "figure.png")
    assert [one.name for one in offer.finds] == ["figure.png"]
    assert offer.finds[0].size == (217, 561)


def test_a_photograph_stays_one_picture_and_that_is_said(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((480, 360), Image.Resampling.BICUBIC).save(tmp_path / "p.png")
    offer = offer_of(tmp_path / "p.png")
    assert len(offer.finds) == 1
    assert offer.notes[0] == (
        "p.png: 1 sprites (one picture: it has no transparency and no even border)."
    )


def test_sprites_come_in_the_order_of_reading() -> None:
    boxes = [(50, 3, 60, 20), (0, 0, 10, 22), (5, 30, 20, 50), (70, 1, 90, 24), (40, 28, 55, 49)]
    assert in_rows(boxes) == [1, 0, 3, 2, 4]


@pytest.mark.parametrize("factor", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("x, y", [(0, 0), (1, 2)])
def test_the_true_pixel_size_is_found_wherever_the_pixels_begin(
    factor: int, x: int, y: int
) -> None:
    true = np.asarray(sprite(3, 20, 30))
    large = enlarged(true, factor)[y % factor :, x % factor :]
    size, left, top = pixel_size(large)
    assert size == factor
    assert same(shrunk(large, size, left, top), true)


def test_painted_pictures_have_no_pixel_size(tmp_path: Path) -> None:
    soft = sprite(3).resize((64, 96), Image.Resampling.BICUBIC)
    assert pixel_size(np.asarray(soft)) == (1, 0, 0)
    assert pixel_size(np.zeros((40, 40, 4), np.uint8)) == (1, 0, 0)


def test_pixel_art_is_enlarged_by_whole_factors_and_padded_never_smoothed(
    project: Project, tmp_path: Path
) -> None:
    path = sheet(tmp_path / "s.png", row(2), (70, 34))
    take(project, offer_of(path, side=200, background=("#102030",)))
    picture = open_image(project.dataset / "sprites/s-001.png")
    assert picture.size == (200, 200) and picture.getpixel((0, 0)) == (0x10, 0x20, 0x30)
    inside = picture.crop((36, 4, 36 + 128, 4 + 192))  # 16 x 24 eight times
    assert same(inside, sprite(0).resize((128, 192), Image.Resampling.NEAREST).convert("RGB"))
    assert whole_factor(np.zeros((300, 20, 4), np.uint8), 200) == 1
    assert read_origins(project)["sprites/s-001.png"].tags == ("pixel art", "sprite")


def test_painted_sprites_are_scaled_smoothly_and_without_a_dark_rim(
    project: Project, tmp_path: Path
) -> None:
    image = Image.new("RGBA", (240, 240))
    ImageDraw.Draw(image).ellipse((40, 40, 200, 200), fill="white")
    pixels = np.asarray(image.resize((120, 120), Image.Resampling.LANCZOS)).copy()
    shade = np.linspace(200, 255, 120).astype(np.uint8)
    pixels[..., 0] = shade[:, None]
    pixels[..., 1:3] = shade[None, :, None]
    Image.fromarray(pixels).save(tmp_path / "p.png")
    take(project, offer_of(tmp_path / "p.png", side=512, background=("white",), own_folder=False))
    picture = np.asarray(open_image(project.dataset / "p.png"))
    assert picture.shape == (512, 512, 3) and picture.min() > 180
    assert len(np.unique(picture[256, :, 1])) > 40
    assert read_origins(project)["p.png"].tags == ()


def test_transparent_stays_transparent_and_backgrounds_take_turns(
    project: Project, tmp_path: Path
) -> None:
    path = sheet(tmp_path / "s.png", row(3), (100, 34))
    take(project, offer_of(path, side=0, square=False, background=("transparent", "red")))
    modes = []
    for each in scan(project.dataset):
        with Image.open(each.path) as image:
            modes.append(image.mode)
            assert image.mode == "RGB" or same(image, sprite(len(modes) - 1))
    assert modes == ["RGBA", "RGB", "RGBA"]


def test_another_size_is_another_picture_the_same_again_is_not(
    project: Project, tmp_path: Path
) -> None:
    path = sheet(tmp_path / "s.png", row(2), (70, 34))
    assert len(take(project, offer_of(path)).new) == 2
    assert str(take(project, offer_of(path))) == "0 new pictures; 2 were here already."
    assert len(take(project, offer_of(path, side=512)).new) == 2


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"cell_width": 32}, "cell_width is 32 and cell_height 0; give both"),
        ({"background": ("blurple",)}, "background 'blurple' is no colour and no file or folder"),
        ({"background": ()}, "background is empty"),
        ({"mode": "magic"}, "mode is 'magic'"),
    ],
)
def test_wrong_settings_are_named(tmp_path: Path, settings: dict, message: str) -> None:
    path = sheet(tmp_path / "s.png", row(2), (70, 34))
    with pytest.raises(SettingsError) as error:
        offer_of(path, **settings)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "name, message",
    [
        ("none.png", "There is no sheet or folder"),
        ("notes.txt", "is no picture file"),
        ("broken.png", "cannot be read as a picture"),
        ("empty", "There are no pictures in the folder"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CollectError, match=message):
        offer_of(tmp_path / name)


def test_one_broken_file_is_noted_and_the_others_are_cut(tmp_path: Path) -> None:
    for name in ("a.png", "z.png"):
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    sheet(tmp_path / "s.png", row(4), (130, 34))
    offer = offer_of(tmp_path)
    assert len(offer.finds) == 4
    assert sum("cannot be read as a picture" in note for note in offer.notes) == 2
    (tmp_path / "s.png").unlink()
    with pytest.raises(CollectError, match=r"a\.png cannot be read.*z\.png cannot be read"):
        offer_of(tmp_path)


def test_the_command_previews_and_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LORAKIT_HOME", str(tmp_path / "home"))
    path = sheet(tmp_path / "s.png", row(4), (130, 34))
    command = ["collect", "sprites", str(path), "--project", "astrid", "--json"]
    assert main([*command, "--dry-run", "--background", "white,#00ff00"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["new"] == 4 and Path(shown["sheet"]).exists()
    assert shown["notes"][0] == "s.png: 4 sprites (sprites that stand apart)."
    assert shown["notes"][-1].startswith("They go to dataset/sprites: to show them less often")
    assert main(command) == 0
    assert len(scan(tmp_path / "home/astrid/dataset/sprites")) == 4
