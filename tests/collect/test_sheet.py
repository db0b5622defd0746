"""The contact sheet of what a source offers."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from lorakit.collect.finds import Find, Origin
from lorakit.collect.sheet import LINE, SIDE, contact_sheet, save_sheet, thumbnails
from lorakit.errors import CollectError


def find(number: int, size: tuple[int, int], broken: bool = False) -> Find:
    def small() -> Image.Image:
        if broken:
            raise CollectError("gone")
        return Image.new("RGBA", size, (200, 0, 0, 255))

    return Find(Origin("x", str(number)), f"x_{number}.png", print, thumbnail=small)


def test_rows_are_as_high_as_their_pictures(tmp_path: Path) -> None:
    shown = thumbnails([find(i, (360, 180)) for i in range(6)] + [find(6, (90, 180))])
    sheet = contact_sheet(shown)
    assert sheet.size == (6 * SIDE, 90 + LINE + 180 + LINE)
    assert sheet.getpixel((5 * SIDE + 90, 45)) == (200, 0, 0)
    assert sheet.getpixel((90, 90 + LINE + 90)) == (200, 0, 0)
    assert sheet.getpixel((SIDE + 90, 90 + LINE + 90)) == (255, 255, 255)
    with Image.open(save_sheet(shown, tmp_path / "sheet.jpg")) as written:
        assert written.size == sheet.size


def test_a_small_picture_that_cannot_be_had_is_left_out() -> None:
    shown = thumbnails([find(0, (10, 10)), find(1, (10, 10), broken=True), find(2, (10, 10))])
    assert [each.name for each, _ in shown] == ["x_0.png", "x_2.png"]


def test_of_many_only_the_first_are_fetched() -> None:
    assert len(thumbnails([find(i, (10, 10)) for i in range(99)], count=5)) == 5
