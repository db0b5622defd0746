"""Forms: made from the settings classes, saved on change, wrong values answered at the field."""

from __future__ import annotations

import ipywidgets as W
import pytest

from lorakit.errors import SettingsError
from lorakit.settings import specs
from lorakit.tagging.captions import TaggingSettings
from lorakit.training.config import PreviewSettings, TrainingSettings
from lorakit.widgets import TIP
from lorakit.widgets.forms import Form, label

CLASSES = [TaggingSettings, TrainingSettings, PreviewSettings]


@pytest.mark.parametrize(
    "name, shown",
    [
        ("epochs", "Epochs"),
        ("unet_lr", "U-Net learning rate"),
        ("text_encoder_lr", "Text encoder learning rate"),
        ("min_snr_gamma", "Min SNR gamma"),
        ("cfg", "CFG"),
    ],
)
def test_labels_are_words(name, shown):
    assert label(name) == shown


@pytest.mark.parametrize("cls", CLASSES)
def test_every_setting_is_on_the_form_with_its_meaning_and_a_test_hook(empty, cls):
    form = Form(empty, cls)
    for spec in specs(cls):
        field = form.fields[spec.name]
        assert field.read() == spec.default
        assert f"lk-{cls.SECTION}-{spec.name}" in field.widget._dom_classes
        assert spec.help in getattr(field.widget, TIP)
        assert (spec.unit or spec.help) in getattr(field.widget, TIP)
    assert form.value == cls()
    assert not empty.settings_file.exists(), "a form that was only looked at writes nothing"


def test_large_limits_are_written_out(empty):
    assert "(0 to 2147483647)" in getattr(Form(empty, TrainingSettings).fields["seed"].widget, TIP)


def test_each_kind_of_setting_has_its_widget(empty):
    fields = Form(empty, TrainingSettings).fields
    names = ("epochs", "unet_lr", "shuffle_tags", "optimizer", "models_folder", "base_model")
    assert {name: type(fields[name].widget) for name in names} == {
        "epochs": W.IntText,
        "unet_lr": W.FloatText,
        "shuffle_tags": W.Checkbox,
        "optimizer": W.Dropdown,
        "models_folder": W.Text,
        "base_model": W.Combobox,
    }


def test_common_fields_are_in_front_and_the_rest_is_folded_away(empty):
    marker = W.HTML("between")
    form = Form(empty, TrainingSettings, front=("epochs",), between=[marker])
    assert form.children[0] is form.fields["epochs"].box and form.children[1] is marker
    accordion = form.children[-1]
    assert accordion.get_title(0) == "Advanced" and accordion.selected_index is None
    subjects = accordion.children[0]
    folded_away = [box for page in subjects.children for box in page.children]
    advanced = [spec.name for spec in specs(TrainingSettings) if spec.advanced]
    assert folded_away == [form.fields[name].box for name in advanced]
    assert subjects.get_title(0) == "The base model" and subjects.selected_index is None


def test_a_change_is_saved_and_a_second_form_shows_it(empty):
    form = Form(empty, TrainingSettings)
    form.fields["epochs"].widget.value = 7
    form.fields["optimizer"].widget.value = "AdamW"
    form.fields["shuffle_tags"].widget.value = False
    again = Form(empty, TrainingSettings)
    assert again.fields["epochs"].widget.value == 7
    assert (
        again.value
        == form.value
        == TrainingSettings(epochs=7, optimizer="AdamW", shuffle_tags=False)
    )


def test_a_list_of_tags_is_written_with_commas(empty):
    form = Form(empty, TaggingSettings)
    form.fields["base_tags"].widget.value = "red hair,  blue eyes ,"
    assert form.value.base_tags == ("red hair", "blue eyes")
    assert Form(empty, TaggingSettings).fields["base_tags"].widget.value == "red hair, blue eyes"


def test_prompts_are_written_one_a_line_since_they_have_commas(empty):
    empty.save(PreviewSettings(prompts=("1girl, red hair", "scenery")))
    form = Form(empty, PreviewSettings)
    assert form.fields["prompts"].widget.value == "1girl, red hair\nscenery"
    form.fields["count"].widget.value = 1
    assert empty.load(PreviewSettings).prompts == ("1girl, red hair", "scenery")
    form.fields["prompts"].widget.value = "1girl, hat\n\n boots, rain "
    assert form.value.prompts == ("1girl, hat", "boots, rain")


def test_saving_leaves_the_users_comments_alone(empty):
    empty.settings_file.write_text("# mine\n[training]\nepochs = 3  # few\n")
    Form(empty, TrainingSettings).fields["repeats"].widget.value = 9
    text = empty.settings_file.read_text()
    assert "# mine" in text and "epochs = 3  # few" in text and "repeats = 9" in text


def test_a_wrong_value_is_answered_at_its_field_and_not_saved(empty):
    form = Form(empty, TrainingSettings)
    field = form.fields["epochs"]
    field.widget.value = 0
    assert "epochs is 0; it must be from 1 to 1000 epochs." in field.problem.value
    assert field.problem.layout.display is None
    with pytest.raises(SettingsError, match="epochs is 0"):
        _ = form.value
    assert form.settings.epochs == 10 and not empty.settings_file.exists()
    field.widget.value = 12
    assert field.problem.value == "" and field.problem.layout.display == "none"
    assert form.value.epochs == 12


def test_two_wrong_values_are_each_answered(empty):
    form = Form(empty, TrainingSettings)
    form.fields["epochs"].widget.value = 0
    form.fields["rank"].widget.value = 999
    assert "epochs is 0" in form.fields["epochs"].problem.value
    assert "rank is 999" in form.fields["rank"].problem.value
    form.fields["epochs"].widget.value = 1
    assert form.fields["epochs"].problem.value == ""
    with pytest.raises(SettingsError, match="rank is 999"):
        _ = form.value


def test_settings_that_contradict_each_other_are_told_where_the_person_types(empty):
    form = Form(empty, TrainingSettings)
    form.fields["resolution"].widget.value = 96
    assert "less than twice bucket_step" in form.fields["resolution"].problem.value
    form.fields["bucket_step"].widget.value = 32
    assert form.fields["resolution"].problem.value == form.fields["bucket_step"].problem.value == ""
    assert (form.value.resolution, form.value.bucket_step) == (96, 32)


def test_a_problem_is_shown_as_text_not_as_html(empty):
    form = Form(empty, TaggingSettings)
    form.fields["threshold"].complain("<img src=x>")
    assert "&lt;img src=x&gt;" in form.fields["threshold"].problem.value


def test_a_full_disk_is_told_at_the_field(empty, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lorakit.files.os.replace", full)
    form = Form(empty, TrainingSettings)
    form.fields["epochs"].widget.value = 5
    assert "No space left on device" in form.fields["epochs"].problem.value


def test_a_misspelt_key_in_the_file_is_named_when_the_form_is_made(empty):
    empty.settings_file.write_text("[training]\nepoch = 3\n")
    with pytest.raises(SettingsError, match="did you mean 'epochs'"):
        Form(empty, TrainingSettings)


def test_filling_a_form_is_like_typing(empty):
    form = Form(empty, TrainingSettings)
    seen = []
    form.observe(lambda change: seen.append(change["new"].epochs), "settings")
    form.fill(repeats=2, epochs=3)
    assert seen == [10, 3] and empty.load(TrainingSettings).repeats == 2


def test_a_setting_with_suggestions_offers_them_and_takes_any_other_text(empty):
    field = Form(empty, TrainingSettings).fields["base_model"]
    assert isinstance(field.widget, W.Combobox) and not field.widget.ensure_option
    assert field.widget.options[:2] == ("demo", "Illustrious XL 0.1")
    field.widget.value = "owner/name"
    assert empty.load(TrainingSettings).base_model == "owner/name"
