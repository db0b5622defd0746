"""The trainer's form: the live line under the three knobs, and aiming for a number of steps."""

from __future__ import annotations

import json

import pytest

from lorakit.training.config import TrainingSettings
from lorakit.training.presets import PRESETS
from lorakit.widgets import presets, trainer
from lorakit.widgets.trainer import TrainerForm


def text(form: TrainerForm) -> str:
    return form.line.value


def test_the_line_counts_exactly_and_follows_every_knob(project):
    form = TrainerForm(project)
    # at 1024 the four pictures fall into three buckets: 2 x 4 repeats in batches of 4, and two
    # times 1 x 4
    assert (
        text(form)
        == "<b>4 pictures x 4 repeats, batch 4: 4 steps an epoch x 10 epochs = 40 steps</b>"
    )
    form.training.fields["epochs"].widget.value = 3
    assert "x 3 epochs = 12 steps" in text(form)
    form.training.fields["batch_size"].widget.value = 8
    assert "batch 8: 3 steps an epoch x 3 epochs = 9 steps" in text(form)
    form.training.fields["repeats"].widget.value = 1
    assert "4 pictures x 1 repeats" in text(form)


def test_while_a_knob_is_wrong_the_line_stays_with_the_last_right_settings(project):
    form = TrainerForm(project)
    form.training.fields["epochs"].widget.value = -1
    assert (
        "= 40 steps" in text(form)
        and "epochs is -1" in form.training.fields["epochs"].problem.value
    )


def test_the_time_is_told_once_a_run_has_measured_it(project, monkeypatch):
    monkeypatch.setattr(trainer, "gpu", lambda: "")
    assert "about" not in text(TrainerForm(project))
    (project.output / "timing.json").write_text(
        json.dumps({"seconds_per_step": 9.0, "device": "cpu"})
    )
    assert text(TrainerForm(project)) == (
        "<b>4 pictures x 4 repeats, batch 4: 4 steps an epoch x 10 epochs = 40 steps, about 6 min "
        "here</b>"
    )


@pytest.mark.parametrize(
    "device, found, told",
    [("cpu", "", True), ("cuda", "Tesla T4, 15 GB", True), ("cuda", "", False)],
)
def test_the_time_of_a_gpu_is_not_told_for_a_machine_without(
    project, monkeypatch, device, found, told
):
    monkeypatch.setattr(trainer, "gpu", lambda: found)
    (project.output / "timing.json").write_text(
        json.dumps({"seconds_per_step": 9.0, "device": device})
    )
    assert ("about 6 min here" in text(TrainerForm(project))) == told


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"seconds_per_step": null}'])
def test_a_damaged_timing_file_is_as_good_as_none(project, damaged):
    (project.output / "timing.json").write_text(damaged)
    assert "about" not in text(TrainerForm(project))


def test_aiming_sets_repeats_and_epochs_near_450_steps_and_saves_them(project):
    form = TrainerForm(project)
    assert form.steps.value == 450
    form.aim.click()
    assert abs(form.plan.steps - 450) <= 5
    assert f"= {form.plan.steps} steps" in text(form)
    saved = project.load(TrainingSettings)
    assert ({saved.repeats}, saved.epochs) == (set(form.plan.repeats), form.plan.epochs)
    form.steps.value = 100
    form.aim.click()
    assert abs(form.plan.steps - 100) <= 4


def test_aiming_for_nothing_changes_nothing(project):
    form = TrainerForm(project)
    form.steps.value = 0
    form.aim.click()
    assert form.value[0] == TrainingSettings()


def test_without_pictures_the_line_says_so_and_aiming_does_nothing(empty):
    form = TrainerForm(empty)
    assert "There are no pictures in" in text(form)
    form.aim.click()
    assert form.value[0] == TrainingSettings()


def test_a_broken_picture_is_named_in_the_line(project):
    (project.dataset / "torn.png").write_bytes(b"\x89PNG")
    assert "torn.png cannot be read" in text(TrainerForm(project))


def test_preview_settings_are_saved_in_their_own_table(project):
    form = TrainerForm(project)
    form.preview.fields["count"].widget.value = 2
    assert form.value[1].count == 2
    assert "[preview]" in project.settings_file.read_text()


def test_what_is_recommended_for_the_optimiser_is_shown_and_used_on_a_press_only(project):
    form = TrainerForm(project)
    assert form.advising.layout.display == "none"  # the embedded base has other rates
    form.training.fill(base_model="/models/illustrious.safetensors", optimizer="Prodigy")
    assert form.advising.layout.display is None
    assert "Recommended for Prodigy: unet_lr 1 (now 0.0003)" in form.advice.value
    assert form.training.value.unet_lr == 3e-4
    form.training.fill(text_encoder_2_lr=0.0)
    form.use.click()
    assert form.training.value.unet_lr == 1
    assert form.training.value.text_encoder_2_lr == 0  # not trained: the person's choice
    assert form.advising.layout.display == "none"


# --- presets --------------------------------------------------------------------------------------


def test_the_preset_of_this_machine_is_shown_and_sets_only_fields_one_can_see(project, monkeypatch):
    monkeypatch.setattr(presets, "gpu", lambda: "Tesla T4, 15 GB")
    form = TrainerForm(project)
    assert form.presets.layout.display == "none", "the embedded base needs none"
    form.training.fields["base_model"].widget.value = "SDXL 1.0"
    row = form.presets
    assert row.layout.display is None and row.choice.value.name == "T4"
    assert row.line.value.startswith("T4: batch_size 2, ")
    assert "steps take about" in row.line.value and "compute units (prices of" in row.line.value
    assert form.training.settings.batch_size == 4, "nothing is set before it is asked for"
    row.use.click()
    for name, value in row.choice.value.changes.items():
        assert getattr(form.training.settings, name) == value
        assert form.training.fields[name].widget.value == value


def test_another_machines_preset_can_be_looked_at_and_used(project, monkeypatch):
    monkeypatch.setattr(presets, "gpu", lambda: "")
    form = TrainerForm(project)
    form.training.fields["base_model"].widget.value = "SDXL 1.0"
    assert form.presets.choice.value.name == "no GPU"
    form.presets.choice.value = next(p for p in PRESETS if p.name == "H100")
    assert form.presets.line.value.startswith("H100: batch_size 8, ")
    form.presets.use.click()
    assert form.training.settings.batch_size == 8
    form.training.fields["epochs"].widget.value = -1
    assert form.presets.line.value.startswith("H100"), "it stays with the last right settings"
