"""Choosing a project: the sample when nothing is chosen, a new name, and what was chosen last."""

from __future__ import annotations

import pytest
from PIL import Image

from lorakit import project as projects
from lorakit.dataset import read_caption, scan
from lorakit.errors import SettingsError
from lorakit.widgets import projects as picking
from lorakit.widgets.projects import ProjectPicker


def test_nothing_chosen_is_the_sample_project(home):
    picker = ProjectPicker()
    assert picker.list.value == "demo"
    assert picker.list.options == (("the sample project (demo)", "demo"),)
    assert "drawn when the next cell runs" in picker.line.value
    assert not home.exists(), "looking at the picker makes no folder"


def test_a_new_name_makes_the_project_and_chooses_it(home):
    picker = ProjectPicker()
    picker.new.value = " mila_2 "
    assert picker.list.value == "mila_2" and picker.new.value == ""
    assert (home / "mila_2" / "dataset").is_dir()
    assert picker.ready() == projects.find("mila_2")


@pytest.mark.parametrize("name", ["my girl", "a/b", "../up", "-x", 'say "x"'])
def test_a_bad_name_is_answered_and_nothing_is_made(home, name):
    picker = ProjectPicker()
    picker.new.value = name
    assert "use letters, digits" in picker.line.value
    assert picker.list.value == "demo" and not home.exists()


def test_what_was_chosen_last_is_chosen_again(project):
    picker = ProjectPicker()
    picker.list.value = "mila"
    again = ProjectPicker()
    assert again.list.value == "mila"
    assert "<b>mila</b>: 4 pictures, 0 captions" in again.line.value


def test_a_remembered_project_that_is_gone_is_forgotten(project):
    ProjectPicker().list.value = "mila"
    project.dataset.rename(project.dataset.with_name("moved"))
    assert ProjectPicker().list.value == "demo"


def test_a_folder_of_that_name_in_the_working_directory_is_not_meant(
    project, tmp_path, monkeypatch
):
    (tmp_path / "work" / "mila" / "dataset").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    picker = ProjectPicker()
    picker.choose("mila")
    assert picker.ready().dataset == project.dataset


def test_both_layouts_are_listed(project, home):
    (home / "lora_training" / "datasets" / "otto").mkdir(parents=True)
    picker = ProjectPicker()
    assert [value for _, value in picker.list.options] == ["demo", "mila", "otto"]
    picker.list.value = "otto"
    assert picker.ready().dataset == home / "lora_training" / "datasets" / "otto"


def test_a_folder_with_a_name_that_other_tools_trip_over_is_told(home):
    (home / "my girl" / "dataset").mkdir(parents=True)
    picker = ProjectPicker()
    picker.list.value = "my girl"
    assert "use letters, digits" in picker.line.value
    with pytest.raises(SettingsError, match="'my girl' has ' ' in it"):
        picker.ready()


def test_a_choice_that_cannot_be_remembered_still_counts_and_is_told(project, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    picker = ProjectPicker()
    monkeypatch.setattr("lorakit.files.os.replace", full)
    picker.list.value = "mila"
    assert "No space left on device" in picker.line.value and picker.ready() == project


def test_names_are_shown_as_text(home):
    picker = ProjectPicker()
    picker.choose("R&B")
    assert "<b>R&amp;B</b>" in picker.line.value


@pytest.fixture
def small_sample(monkeypatch):
    """A sample of two pictures, one of them broken; tagging writes one word."""

    def sample_project(folder=None, progress=None):
        made = projects.named("demo").create()
        Image.new("RGB", (64, 64), "red").save(made.dataset / "a.png")
        (made.dataset / "broken.png").write_bytes(b"\x89PNG")
        return made

    def tag_dataset(project, settings, progress):
        for picture in scan(project.dataset):
            picture.caption_path.write_text("tagged")

    monkeypatch.setattr(picking, "sample_project", sample_project)
    monkeypatch.setattr(picking, "tag_dataset", tag_dataset)


def test_the_trainer_gets_the_sample_cleaned_and_tagged(small_sample):
    project = ProjectPicker().ready(captions=True)
    assert [read_caption(picture) for picture in scan(project.dataset)] == ["tagged"]
    assert (project.removed / "broken.png").exists()


def test_the_dataset_maker_gets_the_sample_as_it_came(small_sample):
    picker = ProjectPicker()
    project = picker.ready()
    assert len(scan(project.dataset)) == 2 and read_caption(scan(project.dataset)[0]) is None
    assert "<b>demo</b>: 2 pictures, 0 captions" in picker.line.value
