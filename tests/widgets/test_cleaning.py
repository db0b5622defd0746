"""Cleaning on screen: what went is shown with the reason, and comes back by two clicks."""

from __future__ import annotations

import pytest
from PIL import Image

from lorakit.dataset import scan
from lorakit.widgets.cleaning import CleaningView


@pytest.fixture
def view(project) -> CleaningView:
    """A project with a copy and a torn file."""
    Image.open(project.dataset / "1.png").resize((128, 192)).save(project.dataset / "copy.png")
    (project.dataset / "torn.png").write_bytes(b"\x89PNG")
    return CleaningView(project)


def test_nothing_happens_before_it_runs(view):
    assert "6 pictures" in view.line.value
    assert view.controls.layout.display == "none"
    assert len(scan(view.project.dataset)) == 6


def test_a_run_moves_and_shows_what_it_moved(view):
    view.run()
    assert (
        view.line.value
        == "1 broken and 1 copies moved to removed/; <b>4 pictures</b> in the dataset."
    )
    assert (
        "1.png</b><br>stays" in view.groups.value and "copy.png</b><br>moved" in view.groups.value
    )
    assert (
        "near-duplicate of 1.png" in view.removed.value
        and "torn.png cannot be read" in view.removed.value
    )
    assert [value for _, value in view.chosen.options] == ["copy.png", "torn.png"]
    assert view.controls.layout.display is None


def test_a_removed_picture_is_brought_back_and_left_alone_from_then_on(view):
    view.run()
    view.chosen.value = ("copy.png",)
    view.back.click()
    assert "copy.png brought back; <b>5 pictures</b>" in view.line.value
    assert [value for _, value in view.chosen.options] == ["torn.png"]
    view.run()
    assert (view.project.dataset / "copy.png").exists()


def test_pressing_the_button_with_nothing_chosen_changes_nothing(view):
    view.run()
    view.back.click()
    assert "nothing brought back; <b>4 pictures</b>" in view.line.value


def test_a_picture_that_is_gone_for_good_is_told(view):
    view.run()
    view.chosen.value = ("copy.png",)
    (view.project.removed / "copy.png").unlink()
    view.back.click()
    assert "is not a removed picture" in view.line.value
