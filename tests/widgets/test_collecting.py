"""Collecting on screen: looked at first, taken on the second click, and only what was looked at."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import ClassVar

import pytest
from PIL import Image

from lorakit.collect import Source
from lorakit.collect.finds import Find, Offer, Origin
from lorakit.dataset import scan
from lorakit.errors import CollectError, Refused, SaveError
from lorakit.settings import setting
from lorakit.widgets import collecting
from lorakit.widgets.collecting import CollectView, contents, words


@dataclass(frozen=True)
class Colours:
    """Painted squares."""

    SECTION: ClassVar[str] = "boorus"
    colour: str = setting("red", "their colour")


def squares(settings, items, progress):
    if "nowhere" in items:
        raise CollectError("There is nothing at nowhere. Correct the address.")

    def painted():
        return Image.new("RGB", (40, 30), settings.colour)

    def write(path):
        if settings.colour == "black":
            raise Refused("squares asks for a key.")
        painted().save(path, "PNG")

    finds = [
        Find(Origin("squares", f"{settings.colour}{i}"), f"{settings.colour}_{i}.png", write,
             thumbnail=painted)
        for i in items
    ]  # fmt: skip
    return Offer(finds, ["Licence: <free>."])


@pytest.fixture
def view(project, monkeypatch) -> CollectView:
    made = Source("squares", "Coloured squares", "NUMBER", Colours, squares)
    monkeypatch.setattr(collecting, "NAMES", ("squares",))
    monkeypatch.setattr(collecting, "source", lambda name: made)
    return CollectView(project)


def test_a_look_shows_small_pictures_and_fetches_nothing(view):
    before = len(scan(view.project.dataset))
    view.items.value = "1\n2\n"
    view.look_button.click()
    assert view.line.value == "Licence: &lt;free&gt;.<br>2 new pictures of 2."
    assert view.page.value.count("<img") == 2 and "red_1.png" in view.page.value
    assert view.take_button.description == "Take 2" and not view.take_button.disabled
    assert len(scan(view.project.dataset)) == before


def test_the_second_click_takes_them_and_a_second_look_knows_them(view):
    before = len(scan(view.project.dataset))
    view.items.value = "1\n2"
    view.look_button.click()
    view.take_button.click()
    assert view.line.value.startswith("2 new pictures. They are in ")
    assert len(scan(view.project.dataset)) == before + 2
    view.look_button.click()
    assert "0 new pictures of 2." in view.line.value and view.take_button.disabled


@pytest.mark.parametrize("change", ["items", "settings"])
def test_after_a_change_it_must_be_looked_at_again(view, change):
    view.items.value = "1"
    view.look_button.click()
    if change == "items":
        view.items.value = "1\n2"
    else:
        view.forms["squares"].fill(colour="blue")
    assert view.take_button.disabled and view.page.value == ""


def test_what_is_wrong_is_told_in_place(view):
    view.items.value = "nowhere"
    view.look_button.click()
    assert "There is nothing at nowhere." in view.line.value and view.take_button.disabled


def test_after_a_refusal_the_same_button_goes_on(view):
    view.forms["squares"].fill(colour="black")
    view.items.value = "1"
    view.look_button.click()
    view.take_button.click()
    assert "squares asks for a key." in view.line.value and not view.take_button.disabled


def test_uploaded_files_are_kept_and_listed(view):
    view.items.value = "1"
    view._uploaded({"a.zip": {"content": b"zip"}})
    view._uploaded(({"name": "../a.zip", "content": memoryview(b"other")},))
    first, second = words(view.items.value)[1:]
    folder = view.project.settings_file.parent / "uploads"
    assert [first, second] == [str(folder / "a.zip"), str(folder / "a-2.zip")]
    assert (folder / "a.zip").read_bytes() == b"zip"
    assert (folder / "a-2.zip").read_bytes() == b"other"


def test_lines_may_have_spaces_and_quotes():
    assert words(' /a b/c.zip \n\n"/d e.mkv"\n') == ["/a b/c.zip", "/d e.mkv"]


def test_both_shapes_of_an_upload_are_read():
    assert list(contents({"a": {"content": b"1"}})) == list(
        contents(({"name": "a", "content": b"1"},))
    )


@pytest.mark.parametrize("error", [SaveError("The disk is full."), RuntimeError("a bug")])
def test_after_any_error_the_button_may_be_clicked_again(view, monkeypatch, error):
    view.items.value = "1"
    view.look_button.click()

    def failing(*given):
        raise error

    monkeypatch.setattr(collecting, "take", failing)
    with contextlib.suppress(RuntimeError):
        view.take()
    assert not view.take_button.disabled
    if isinstance(error, SaveError):
        assert "The disk is full." in view.line.value
