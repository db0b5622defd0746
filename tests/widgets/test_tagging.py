"""Tagging on screen: base tags from the best picture, captions written, shown, and taken back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from lorakit.dataset import read_caption, scan
from lorakit.errors import SettingsError
from lorakit.tagging import taggers
from lorakit.tagging.captions import TaggingSettings
from lorakit.widgets.tagging import Review, TaggingForm


class Eyes:
    """A tagger that sees the same girl everywhere, and on picture 0 boots too."""

    name, identity, general, character, characters = (
        "eyes",
        "eyes-1",
        0.5,
        0.9,
        frozenset({"mila (series)"}),
    )

    def scores(self, images: Sequence[Path], progress=None) -> list[dict[str, float]]:
        seen = {
            "1girl": 0.99,
            "smile": 0.9,
            "red hair": 0.8,
            "blue dress": 0.7,
            "hat": 0.2,
            "mila (series)": 0.95,
        }
        return [seen | ({"boots": 0.6} if path.stem == "0" else {}) for path in images]


@pytest.fixture(autouse=True)
def eyes(monkeypatch):
    def load(name):
        if name != "eyes":
            raise SettingsError(f"There is no tagger '{name}'")
        return Eyes()

    monkeypatch.setattr(taggers, "load", load)


@pytest.fixture
def form(project) -> TaggingForm:
    project.save(TaggingSettings(activation_tag="mila", tagger="eyes"))
    return TaggingForm(project)


def captions(project) -> list[str | None]:
    return [read_caption(picture) for picture in scan(project.dataset)]


def test_base_tags_are_proposed_from_the_best_picture_and_saved(form):
    form.propose.click()
    assert form.value.base_tags == ("boots", "blue dress", "red hair")
    form.best.value = scan(form.project.dataset)[1]
    form.propose.click()
    assert form.project.load(TaggingSettings).base_tags == ("blue dress", "red hair")


def test_the_best_picture_is_shown(form):
    first = form.shown.value
    form.best.value = scan(form.project.dataset)[2]
    assert (
        first.startswith("<img ")
        and form.shown.value.startswith("<img ")
        and form.shown.value != first
    )


def test_a_proposal_that_fails_says_why_and_keeps_the_tags(form):
    form.form.fill(base_tags=["kept"], tagger="nose")
    form.propose.click()
    assert "There is no tagger &#x27;nose&#x27;" in form.problem.value
    assert form.form.settings.base_tags == ("kept",)


def test_a_wrong_setting_stops_the_proposal_with_its_reason(form):
    form.form.fill(threshold=3.0)
    form.propose.click()
    assert "threshold is 3" in form.problem.value


def test_without_pictures_there_is_nothing_to_propose_from(empty):
    assert TaggingForm(empty).propose.disabled


def test_captions_are_written_shown_and_counted(form):
    form.form.fill(base_tags=["red hair"])
    review = Review(form.project)
    review.run(form)
    assert captions(form.project)[1] == "mila, blue dress, 1girl, smile"
    assert "4 captions written. Activation tag: mila. Base tags: red hair." in review.line.value
    assert (
        "<code>   4</code> mila" in review.counts.value
        and "<code>   1</code> boots" in review.counts.value
    )
    assert "1.png</b><br>mila, blue dress, 1girl, smile" in review.page.value


def test_base_tags_chosen_by_the_tagger_come_into_the_form_and_the_file(form):
    Review(form.project).run(form)
    assert set(form.value.base_tags) == {"red hair", "blue dress"}
    assert form.project.load(TaggingSettings).base_tags == form.value.base_tags


def test_a_missing_activation_tag_is_pointed_out(form):
    form.form.fill(activation_tag="")
    review = Review(form.project)
    review.run(form)
    assert "Activation tag: none: the LoRA will have no word that calls it." in review.line.value


def test_the_edit_can_be_taken_back(form):
    (form.project.dataset / "0.txt").write_text("by hand")
    review = Review(form.project)
    assert review.undo.disabled
    review.run(form)
    assert captions(form.project)[0] != "by hand"
    review.undo.click()
    assert captions(form.project) == ["by hand", None, None, None]
    assert "4 captions are as they were before." in review.line.value and review.undo.disabled


def test_taking_back_twice_is_answered(form):
    review = Review(form.project)
    review.run(form)
    review.undo.click()
    review.undo.click()
    assert "There is no caption edit to undo" in review.line.value


def test_an_edit_that_changed_nothing_cannot_be_taken_back(form):
    Review(form.project).run(form)
    review = Review(form.project)
    review.run(form)
    assert review.undo.disabled
