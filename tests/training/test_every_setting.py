"""No dead field: every setting of a run, changed alone, changes what a run does or leaves."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from lorakit.demo.sample import good_picture
from lorakit.errors import BaseModelError, LorakitError
from lorakit.project import Project, find
from lorakit.training import loop, run, sources
from lorakit.training.base import Base, load_base, open_base
from lorakit.training.config import PreviewSettings, SubsetSettings, TrainingSettings
from lorakit.training.examples import read_examples

PLAIN = TrainingSettings(
    repeats=1,
    batch_size=2,
    epochs=2,
    resolution=64,
    bucket_step=32,
    unet_lr=2e-3,
    text_encoder_lr=2e-3,
    text_encoder_2_lr=2e-3,
    rank=4,
    optimizer="AdamW",
    checkpointing="none",
)
FROZEN = {"text_encoder_lr": 0.0, "text_encoder_2_lr": 0.0}

# field -> what else is set, its new value, and what of the outcome must change
CHANGES: dict[str, tuple[dict[str, Any], Any, str]] = {
    "base_model": ({}, "nowhere.safetensors", "error"),
    "models_folder": ({}, "here", "asked"),
    "vae": ({}, "nowhere.safetensors", "error"),
    "prediction": ({}, "v_prediction", "lora"),
    "zero_terminal_snr": ({"prediction": "v_prediction"}, "on", "lora"),
    "precision": ({}, "bf16", "lora"),
    "storage": ({}, "8bit", "lora"),
    "compile": ({}, True, "compiled"),
    "checkpointing": ({}, "full", "memory"),
    "at_once": ({}, 1, "memory"),
    "repeats": ({}, 2, "plan"),
    "batch_size": ({}, 1, "plan"),
    "resolution": ({}, 96, "plan"),
    "bucket_step": ({"resolution": 128}, 64, "plan"),
    "upscale": ({"resolution": 192}, False, "plan"),
    "smallest_bucket": ({"resolution": 128}, 5, "plan"),
    "flip": ({}, True, "lora"),
    "balance": ({}, True, "plan"),
    "regularisation_weight": ({}, 0.2, "lora"),
    "mask": ({}, "files", "lora"),
    "unmasked_weight": ({"mask": "alpha"}, 0.5, "lora"),
    "unet_lr": ({}, 1e-3, "lora"),
    "text_encoder_lr": ({}, 1e-3, "lora"),
    "text_encoder_2_lr": ({}, 1e-3, "lora"),
    "rank": ({}, 6, "lora"),
    "alpha": ({}, 1.0, "lora"),
    "kind": ({}, "locon", "lora"),
    "conv_rank": ({"kind": "locon"}, 5, "lora"),
    "conv_alpha": ({"kind": "locon"}, 3.0, "lora"),
    "text_rank": ({}, 2, "lora"),
    "text_alpha": ({}, 2.0, "lora"),
    "text_2_rank": ({}, 2, "lora"),
    "text_2_alpha": ({}, 2.0, "lora"),
    "text_encoder_share": ({}, 0.3, "lora"),
    "continue_from": ({}, "earlier.safetensors", "lora"),
    "dropout": ({}, 0.5, "lora"),
    "rank_dropout": ({}, 0.5, "lora"),
    "module_dropout": ({}, 0.5, "lora"),
    "rank_stabilized": ({}, True, "lora"),
    "lora_plus": ({}, 4.0, "lora"),
    "dora": ({}, True, "lora"),
    "ema": ({}, 0.9, "lora"),
    "max_norm": ({}, 0.001, "lora"),
    "epochs": ({}, 3, "plan"),
    "max_steps": ({}, 3, "plan"),
    "most_steps": ({}, 3, "error"),
    "save_every": ({}, 2, "files"),
    "save_every_steps": ({}, 2, "files"),
    "keep_last": ({"epochs": 3}, 1, "files"),
    "save_precision": ({}, "fp32", "lora"),
    "save_diffusers": ({}, True, "files"),
    "state_every": ({}, 2, "states"),
    "resume": ({"epochs": 3}, "never", "resumed"),
    "validation_share": ({}, 0.3, "plan"),
    "tensorboard": ({}, True, "error"),  # told to the writer: test_logs
    "wandb": ({}, "characters", "error"),
    "seed": ({}, 7, "lora"),
    "optimizer": ({}, "Lion", "lora"),
    "optimizer_arguments": ({}, "betas=0.5,0.6", "lora"),
    "weight_decay": ({}, 0.9, "lora"),
    "schedule": ({}, "constant", "lora"),
    "schedule_cycles": ({"schedule": "restarts", "warmup": 0.0}, 1, "lora"),
    "schedule_power": ({"schedule": "polynomial"}, 1.0, "lora"),
    "warmup": ({}, 0.5, "lora"),
    "accumulation": ({}, 2, "plan"),
    "gradient_clip": ({}, 1e-6, "lora"),
    "lora_precision": ({}, "bf16", "lora"),
    "shuffle_tags": ({}, False, "lora"),
    "keep_tags": ({}, 3, "lora"),
    "keep_separator": ({}, "", "lora"),
    "tag_dropout": ({}, 0.6, "lora"),
    "caption_dropout": ({}, 0.7, "lora"),
    "caption_prefix": ({}, "drawing", "lora"),
    "caption_suffix": ({}, "by me", "lora"),
    "wildcards": ({}, True, "lora"),
    "sentences": ({}, True, "lora"),
    "caption_variants": (FROZEN, 0, "lora"),
    "prior_weight": ({}, 2.0, "lora"),
    "min_snr_gamma": ({}, 1.0, "lora"),
    "min_snr_form": ({}, "soft", "lora"),
    "debiased": ({}, True, "lora"),
    "loss": ({}, "l1", "lora"),
    "huber_threshold": ({"loss": "huber"}, 1.0, "lora"),
    "huber_schedule": ({"loss": "huber"}, "constant", "lora"),
    "noise_offset": ({}, 0.3, "lora"),
    "multires_iterations": ({}, 4, "lora"),
    "multires_discount": ({"multires_iterations": 4}, 0.9, "lora"),
    "input_noise": ({}, 0.3, "lora"),
    "timestep_low": ({}, 500, "lora"),
    "timestep_high": ({}, 500, "lora"),
    "timesteps": ({}, "logit_normal", "lora"),
    "timestep_bias": ({"timesteps": "logit_normal"}, 1.0, "lora"),
}
PREVIEWS: dict[str, tuple[dict[str, Any], Any, str]] = {
    "prompts": ({}, ("1girl",), "pictures"),
    "count": ({}, 2, "pictures"),
    "every": ({}, 2, "previews"),
    "every_steps": ({}, 1, "previews"),
    "prompts_file": ({}, "prompts.txt", "pictures"),
    "from_captions": ({}, 1, "pictures"),
    "sampler": ({}, "euler", "pictures"),
    "width": ({}, 96, "pictures"),
    "height": ({}, 96, "pictures"),
    "steps": ({}, 3, "pictures"),
    "cfg": ({}, 2.0, "pictures"),
    "negative": ({}, "blurry", "pictures"),
    "seed": ({}, 5, "pictures"),
}


@dataclass(frozen=True)
class Outcome:
    """What a run did and left, as far as a setting can change it."""

    error: str = ""
    plan: str = ""
    lora: str = ""
    files: str = ""
    states: int = 0
    previews: str = ""
    pictures: str = ""
    memory: str = ""


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a dataset of every kind of picture, and an earlier LoRA; a base that need not
    be read from disk each time.
    """
    folder = tmp_path_factory.mktemp("workshop")
    fresh = load_base("demo")

    def open_copy(settings: Any, dtype: Any, device: str, progress: Any) -> Base:
        plain = {f.name: f.default for f in dataclasses.fields(settings)}
        touched = (
            "base_model",
            "models_folder",
            "vae",
            "prediction",
            "zero_terminal_snr",
            "storage",
        )
        if any(getattr(settings, name) != plain[name] for name in touched) or dtype != DTYPE:
            return open_base(settings, dtype, device, progress)
        return copy.deepcopy(fresh)

    DTYPE = fresh.unet.dtype
    patch = pytest.MonkeyPatch()
    patch.setattr(run, "open_base", open_copy)
    patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    patch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    patch.setitem(__import__("sys").modules, "wandb", None)
    patch.chdir(folder)
    (folder / "prompts.txt").write_text("astrid, smile\n")
    yield folder
    patch.undo()


def dataset(folder: Path) -> Project:
    """Seven small pictures: two shapes, one with a mask, one transparent, one folder with repeats,
    one for regularisation; captions with a separator and wildcards.
    """
    project = find(str(folder)).create()
    captions = ["astrid, a|||b, c, {d|e}, f, g", "astrid, smile, horns, red kimono, solo, crescent"]
    for i, place in enumerate(["", "", "", "", "2_more", "1_reg", "1_reg"]):
        picture = good_picture(i).resize((90, 90) if i % 3 else (80, 110))
        path = project.dataset / place / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        if i == 1:
            picture.putalpha(Image.linear_gradient("L").resize(picture.size))
        picture.save(path)
        caption = "1girl, solo" if place == "1_reg" else captions[i % 2]
        path.with_suffix(".txt").write_text(caption + "\n")
    Image.linear_gradient("L").resize((80, 110)).save(project.dataset / "0.mask.png")
    project.settings_file.write_text(
        '[[subset]]\nfolder = "1_reg"\nregularisation = true\n', "utf-8"
    )
    return project


def trained(folder: Path, settings: TrainingSettings, preview: PreviewSettings) -> Outcome:
    project = dataset(folder)
    planned, memory, states = "", "", 0
    path = project.output / "state" / f"{project.name}.safetensors"
    seen: list[str] = []
    try:
        for event in run.train_project(project, settings, preview, "astrid"):
            if isinstance(event, run.Planned):
                planned = repr(event.plan)
            elif isinstance(event, run.Note) and event.text.startswith("Memory: "):
                memory = event.text.rpartition(", ")[0]  # without the bytes
            elif isinstance(event, run.Previews):
                seen.append(f"{event.epoch}/{event.step}")
            elif isinstance(event, loop.StepDone):
                states += path.exists()
    except LorakitError as error:
        return Outcome(error=str(error), plan=planned)
    lora = project.output / f"{project.name}.safetensors"
    values = {
        name: (str(t.dtype), t.float().numpy().tobytes()) for name, t in load_file(lora).items()
    }
    pictures = sorted((project.output / "previews").glob("epoch-000*"))
    return Outcome(
        "",
        planned,
        hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest(),
        str(sorted(p.name for p in project.output.glob("*.safetensors"))),
        states,
        previews=str(seen),
        memory=memory,
        pictures=hashlib.sha256(b"".join(p.read_bytes() for p in pictures)).hexdigest(),
    )


NONE, ONE = PreviewSettings(count=0), PreviewSettings(count=1, steps=2)
known: dict[str, Outcome] = {}


def outcome(folder: Path, others: dict[str, Any], change: dict[str, Any]) -> Outcome:
    """What a run with these settings comes to; each is done once."""
    settings = replace(PLAIN, **others, **change)
    name = hashlib.sha256(repr(settings).encode()).hexdigest()[:12]
    if name not in known:
        if "continue_from" in change and not (folder / "earlier.safetensors").exists():
            trained(folder / "earlier", PLAIN, NONE)
            source = folder / "earlier" / "output" / "earlier.safetensors"
            save_file(load_file(source), folder / "earlier.safetensors")
        known[name] = trained(folder / name / "lora", settings, NONE)
    return known[name]


SPECIAL = {
    "compile",
    "checkpointing",
    "at_once",
    "models_folder",
    "resume",
}  # seen elsewhere than in a run's outcome


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({f.name for f in dataclasses.fields(TrainingSettings)}))
def test_a_setting_changed_alone_changes_what_it_is_about(workshop: Path, name: str) -> None:
    others, value, about = CHANGES[name]
    if name in SPECIAL:
        pytest.skip("has a test of its own below")
    before, after = outcome(workshop, others, {}), outcome(workshop, others, {name: value})
    assert getattr(before, about) != getattr(after, about)
    if about != "error":
        assert not after.error and not before.error


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({f.name for f in dataclasses.fields(PreviewSettings)}))
def test_a_preview_setting_changed_alone_changes_the_previews(workshop: Path, name: str) -> None:
    others, value, about = PREVIEWS[name]
    settings = replace(PLAIN, max_steps=1, save_every=9)
    if about == "previews":
        settings = replace(settings, max_steps=0)
    outcomes = [
        trained(workshop / f"{name}{i}" / "lora", settings, replace(ONE, **others, **change))
        for i, change in enumerate(({}, {name: value}))
    ]
    assert not outcomes[0].error and not outcomes[1].error
    assert getattr(outcomes[0], about) != getattr(outcomes[1], about)


@pytest.mark.parametrize("compiled", [True, False])
def test_the_transformer_blocks_are_compiled_where_that_is_asked_for(
    workshop: Path, monkeypatch: pytest.MonkeyPatch, compiled: bool
) -> None:
    seen: list[object] = []
    monkeypatch.setattr(run, "compile_blocks", seen.append)
    settings = replace(PLAIN, compile=compiled, max_steps=1)
    assert not trained(workshop / f"compiled-{compiled}" / "lora", settings, NONE).error
    assert len(seen) == compiled


def test_downloads_go_where_the_setting_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def resolve(text: str, folder: str, progress: object) -> Path:
        asked.append((text, folder))
        raise BaseModelError("no internet here")

    monkeypatch.setattr(sources, "resolve", resolve)
    with pytest.raises(BaseModelError):
        open_base(TrainingSettings(base_model="a/b", models_folder="/drive/models"))
    assert asked == [("a/b", "/drive/models")]


@pytest.mark.slow
def test_never_resumed_a_run_starts_anew(workshop: Path) -> None:
    project = dataset(workshop / "twice" / "lora")
    steps = []
    for settings in (PLAIN, replace(PLAIN, epochs=3), replace(PLAIN, epochs=4, resume="never")):
        events = list(run.train_project(project, settings, NONE, "astrid"))
        steps.append([e.step for e in events if isinstance(e, loop.StepDone)][0])
    assert steps[0] == steps[2] == 1 < steps[1]


SUBSET = {"folder": "1_reg", "repeats": 7, "keep_tags": 3, "flip": True, "regularisation": True}


@pytest.mark.parametrize("name", SUBSET)
def test_a_setting_of_a_subset_changes_what_is_read_of_its_folder(
    tmp_path: Path, name: str
) -> None:
    project = dataset(tmp_path / "lora")
    read = []
    for changes in ({}, {name: SUBSET[name]}):
        table: dict[str, Any] = {"folder": "2_more", "repeats": 4, **changes}
        project.save_all(SubsetSettings, [SubsetSettings(**table)])
        read.append(read_examples(project, PLAIN, "astrid"))
    folders = {
        one.picture.path.parent.name for one, other in zip(*read, strict=True) if one != other
    }
    assert folders == ({"2_more", "1_reg"} if name == "folder" else {"2_more"})


def test_every_field_is_in_the_tables() -> None:
    assert set(SUBSET) == {f.name for f in dataclasses.fields(SubsetSettings)}
    assert set(CHANGES) == {f.name for f in dataclasses.fields(TrainingSettings)}
    assert set(PREVIEWS) == {f.name for f in dataclasses.fields(PreviewSettings)}
