"""The form of a dataset's folders: what is typed there stands in project.toml and in the plan."""

from __future__ import annotations

import pytest

from lorakit.project import Project
from lorakit.training.config import SubsetSettings
from lorakit.widgets.folders import FoldersForm
from lorakit.widgets.trainer import TrainerForm


@pytest.fixture
def parted(project: Project) -> Project:
    """The project with two of its four pictures in a folder of their own."""
    folder = project.dataset / "3_swimsuit"
    folder.mkdir()
    pictures = sorted(project.dataset.glob("*.png"))[:2]
    for picture in pictures:
        for file in (picture, picture.with_suffix(".txt")):
            if file.exists():
                file.rename(folder / file.name)
    return project


def shown(form: FoldersForm, folder: str) -> dict[str, object]:
    return {name: widget.value for name, widget in form.rows[folder].items()}


def test_without_folders_there_is_no_form_for_them(project):
    assert TrainerForm(project).folders is None


def test_each_folder_has_a_row_where_nothing_is_said_at_first(parted):
    form = TrainerForm(parted).folders
    assert form and list(form.rows) == [".", "3_swimsuit"]
    empty = {"repeats": "", "keep_tags": "", "flip": "as elsewhere"}
    assert shown(form, "3_swimsuit") == empty | {"regularisation": "as elsewhere"}
    assert form.rows["3_swimsuit"]["repeats"].placeholder == "3", "what the name says"
    assert form.tables == []


def test_what_is_set_is_saved_and_changes_the_plan_at_once(parted):
    form = TrainerForm(parted)
    assert form.folders
    before = form.plan.steps_per_epoch
    form.folders.rows["3_swimsuit"]["repeats"].value = "40"
    form.folders.rows["3_swimsuit"]["regularisation"].value = "on"
    wanted = SubsetSettings(folder="3_swimsuit", repeats=40, regularisation=True)
    assert parted.load_all(SubsetSettings) == (wanted,)
    assert form.plan.steps_per_epoch > before
    again = FoldersForm(parted, [".", "3_swimsuit"], lambda: None)
    assert shown(again, "3_swimsuit")["repeats"] == "40"
    assert shown(again, "3_swimsuit")["regularisation"] == "on"
    form.folders.rows["3_swimsuit"]["repeats"].value = ""
    form.folders.rows["3_swimsuit"]["regularisation"].value = "as elsewhere"
    assert parted.load_all(SubsetSettings) == () and form.plan.steps_per_epoch == before


@pytest.mark.parametrize(
    "typed, told",
    [
        ("many", "repeats is 'many'; it takes a whole number. Or leave it empty."),
        ("0", "repeats is 0; it must be from 1 to 1000 times. Or leave it empty."),
    ],
)
def test_a_wrong_value_is_answered_and_not_saved(parted, typed, told):
    form = FoldersForm(parted, [".", "3_swimsuit"], lambda: pytest.fail("nothing was changed"))
    form.rows["."]["repeats"].value = typed
    assert told in form.problem.value.replace("&#x27;", "'")
    assert parted.load_all(SubsetSettings) == ()


def test_a_table_whose_folder_has_gone_can_be_seen_and_emptied(parted):
    parted.save_all(SubsetSettings, [SubsetSettings(folder="gone", repeats=2)])
    form = FoldersForm(parted, ["."], lambda: None)
    assert shown(form, "gone")["repeats"] == "2"
    form.rows["gone"]["repeats"].value = ""
    assert parted.load_all(SubsetSettings) == ()
