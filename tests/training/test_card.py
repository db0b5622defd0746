"""The model card: what it says, that the Hub reads it, and that a user's own card is never lost."""

from __future__ import annotations

import ast
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from PIL import Image, PngImagePlugin

from lorakit.errors import LoraFileError, SettingsError
from lorakit.project import Project, find
from lorakit.settings import to_mapping
from lorakit.tagging.captions import TaggingSettings
from lorakit.training import card, export
from lorakit.training.config import PreviewSettings, TrainingSettings

from .lora_files import random_lora

TAGS = ("1girl", "blue hair", "star (symbol)", "^_^")


def trained(folder: Path, **changes: object) -> Project:
    """A project with a LoRA file and previews of epochs 0, 2 and 10."""
    project = find(str(folder / "astrid")).create()
    project.save(TaggingSettings(activation_tag="asTrd", base_tags=TAGS))
    project.save(PreviewSettings(count=2, prompts=("asTrd, night | city",)))
    settings = TrainingSettings(rank=16, noise_offset=0.05, **changes)  # type: ignore[arg-type]
    details = {
        "ss_base_model_version": "sdxl_base_v1-0",
        "ss_network_dim": "16",
        "ss_network_alpha": "8.0",
        "ss_steps": "450",
        "ss_epoch": "10",
        "ss_dataset_dirs": json.dumps({"4_astrid": {"n_repeats": 4, "img_count": 26}}),
        "ss_training_started_at": "1000.0",
        "ss_training_finished_at": "2320.5",
        "modelspec.trigger_phrase": "asTrd",
        "modelspec.prediction_type": "epsilon",
        "lorakit.settings": json.dumps(to_mapping(settings)),
        "lorakit.likeness": "0.7812",
    }
    export.save_lora(project.output / "astrid.safetensors", random_lora(0), details)
    (project.output / "previews").mkdir()
    for name in ("epoch-000-00", "epoch-002-00", *(f"epoch-010-0{i}" for i in range(4)), "x"):
        Image.new("RGB", (8, 8)).save(project.output / "previews" / f"{name}.png")
    Image.new("RGB", (8, 8)).save(project.output / "previews" / "step-000999-00.png")
    return project


def written(project: Project, repo: str = "") -> tuple[str, dict[str, object]]:
    """The card's text, and its YAML as huggingface_hub reads it."""
    path = card.write_card(project, repo)
    assert path == project.output / "README.md"
    text = path.read_text(encoding="utf-8")
    return text, ModelCard(text).data.to_dict()


def test_the_hub_reads_base_model_activation_tag_and_previews(tmp_path: Path) -> None:
    text, data = written(trained(tmp_path, base_model="Illustrious XL 0.1"))
    assert data["base_model"] == "OnomaAIResearch/Illustrious-xl-early-release-v0"
    assert (data["library_name"], data["pipeline_tag"]) == ("diffusers", "text-to-image")
    assert data["instance_prompt"] == "asTrd"
    assert {"lora", "stable-diffusion-xl", "template:sd-lora"} <= set(data["tags"])
    assert data["widget"] == [
        {"text": "asTrd", "output": {"url": "previews/epoch-010-00.png"}},
        {"text": "asTrd", "output": {"url": "previews/epoch-010-01.png"}},
        {"text": "asTrd, night | city", "output": {"url": "previews/epoch-010-02.png"}},
        {"text": "", "output": {"url": "previews/epoch-010-03.png"}},
    ]
    assert "Illustrious XL 0.1" in text and "Fair AI Public License 1.0-SD" in text


def test_the_last_previews_are_shown_with_paths_that_lead_to_files(tmp_path: Path) -> None:
    project = trained(tmp_path)
    text, _ = written(project)
    shown = re.findall(r"!\[([^]]*)\]\(([^)]+)\)", text)
    assert [path for _, path in shown] == [f"previews/epoch-010-0{i}.png" for i in range(4)]
    assert all((project.output / path).exists() for _, path in shown)
    assert [words for words, _ in shown][2:] == [r"asTrd, night \| city", "astrid"]


def test_a_preview_that_says_its_own_prompt_is_believed(tmp_path: Path) -> None:
    project = trained(tmp_path)
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "asTrd, by the sea\nSteps: 20")
    path = project.output / "previews" / "epoch-010-00.png"
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    assert written(project)[1]["widget"][0]["text"] == "asTrd, by the sea"


def test_previews_by_steps_are_shown_where_there_are_none_by_epochs(tmp_path: Path) -> None:
    project = trained(tmp_path)
    for path in (project.output / "previews").glob("epoch-0*"):
        path.unlink()
    found = card.read_card(project).previews
    assert [preview.path for preview in found] == ["previews/step-000999-00.png"]


def test_previews_of_an_earlier_longer_run_are_not_shown(tmp_path: Path) -> None:
    project = trained(tmp_path)  # this file's run began at second 1000
    for path in (project.output / "previews").glob("*-010-*"):
        os.utime(path, (999, 999))
    found = card.read_card(project).previews
    assert [preview.path for preview in found] == ["previews/epoch-002-00.png"]


@pytest.mark.parametrize(
    ("kind", "shown"), [("LoRA", "LoRA"), ("LoCon", "LoCon"), ("DoRA", "DoRA"), ("LoKr", "LoRA")]
)
def test_civitai_is_told_its_own_name_for_the_kind(tmp_path: Path, kind: str, shown: str) -> None:
    made = card.read_card(trained(tmp_path))
    text = card.card_text(replace(made, numbers={**made.numbers, "Kind": kind}))
    assert f"| Type | {shown} |" in text


def test_how_to_use_it_has_what_each_program_needs(tmp_path: Path) -> None:
    text, _ = written(trained(tmp_path))
    assert "- Begin the prompt with `asTrd`." in text
    assert "`1girl`, `blue hair`, `star (symbol)`, `^_^`" in text
    assert r"`<lora:astrid:1> asTrd, 1girl, blue hair, star \(symbol\), ^_^`" in text
    assert "v-prediction" not in text


def test_the_diffusers_example_is_python_and_names_the_file(tmp_path: Path) -> None:
    project = trained(tmp_path, base_model="SDXL 1.0")
    for repo in ("me/astrid", ""):
        text, _ = written(project, repo)
        code = re.search(r"```python\n(.*?)\n```", text, re.DOTALL)
        assert code
        ast.parse(code[1])
        assert f"load_lora_weights({repo or '.'!r}, weight_name='astrid.safetensors')" in code[1]
        assert "'stabilityai/stable-diffusion-xl-base-1.0'" in code[1]
        assert "asTrd, 1girl, blue hair, star (symbol)" in code[1]


def test_numbers_and_settings_are_those_of_the_file(tmp_path: Path) -> None:
    project = trained(tmp_path)
    project.save(TrainingSettings(rank=4))  # changed since
    text, _ = written(project)
    for row in (
        "| Pictures | 26 |",
        "| Steps | 450 |",
        "| Likeness | 0.78 (share",
        "| Training time | 22 min |",
        "| Rank / alpha | 16 / 8.0 |",
        "| `rank` | `16` | Size of the LoRA",
        "| `noise_offset` | `0.05` | Shifts",
    ):
        assert row in text
    assert "`huber_threshold`" not in text  # an advanced one at its default


def test_a_lora_for_v_prediction_says_so(tmp_path: Path) -> None:
    project = trained(tmp_path)
    made = replace(card.read_card(project), prediction="v")
    assert "use it with a v-prediction model" in card.card_text(made)


def test_where_files_lie_on_the_users_disk_is_not_told(tmp_path: Path) -> None:
    project = trained(
        tmp_path,
        base_model="/home/jane/secret/pony.safetensors",
        models_folder="/home/jane/models",
        continue_from="/home/jane/old.safetensors",
    )
    text, data = written(project)
    assert "pony.safetensors" in text and "old.safetensors" in text
    assert "jane" not in text and "base_model" not in data


def test_a_name_with_marks_of_markdown_changes_nothing_else(tmp_path: Path) -> None:
    made = replace(card.read_card(trained(tmp_path)), name="a_b_*c*", activation_tag="x`y|<b>: # z")
    text = card.card_text(made)
    assert r"# a\_b\_\*c\*" in text
    assert ModelCard(text).data.to_dict()["instance_prompt"] == "x`y|<b>: # z"
    assert "Begin the prompt with ``x`y|<b>: # z``." in text


def test_without_a_lora_file_it_says_what_to_do(tmp_path: Path) -> None:
    project = find(str(tmp_path / "astrid")).create()
    with pytest.raises(LoraFileError, match="no LoRA file at .* yet. Train first: python -m lorak"):
        card.write_card(project)


def test_a_file_that_another_program_made_gets_a_card_too(tmp_path: Path) -> None:
    project = find(str(tmp_path / "astrid")).create()
    export.save_lora(project.output / "astrid.safetensors", random_lora(0), {"ss_steps": "x"})
    text, data = written(project)
    assert "# astrid" in text and "widget" not in data and "instance_prompt" not in data
    assert "Begin the prompt" not in text


def test_a_card_is_made_again_but_not_over_one_that_was_changed_by_hand(tmp_path: Path) -> None:
    project = trained(tmp_path)
    path = card.write_card(project)
    first = path.read_text(encoding="utf-8")
    card.write_card(project, "me/astrid")  # as it was written: it may be made again
    assert path.read_text(encoding="utf-8") != first
    path.write_text(first.replace("# astrid", "# My Astrid"), encoding="utf-8")
    with pytest.raises(SettingsError, match="README.md was written or changed by hand"):
        card.write_card(project)
    assert card.refresh_card(project) == path
    assert "# My Astrid" in path.read_text(encoding="utf-8")
    card.write_card(project, overwrite=True)
    assert path.read_text(encoding="utf-8") == first
    path.write_text("all my own", encoding="utf-8")
    assert card.changed_by_hand(path)
