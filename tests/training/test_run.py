"""A short run on drawn pictures, from folder to file: what happens in which order, and what stops
it beforehand.
"""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from lorakit.dataset import require
from lorakit.demo.run import TRAINING
from lorakit.demo.sample import good_picture
from lorakit.errors import DatasetError, TrainingError
from lorakit.project import Project, find
from lorakit.training import cache, loop, run
from lorakit.training.base import Base, open_base
from lorakit.training.config import PreviewSettings
from lorakit.training.examples import plan_project
from lorakit.training.parts import is_empty

SHORT = replace(TRAINING, repeats=1, batch_size=2, epochs=2, save_every=1)
PREVIEW = PreviewSettings(count=1, steps=2, every=1, prompts=("1girl, smile",))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = find(str(tmp_path / "astrid")).create()
    for i in range(4):
        good_picture(i).resize((160, 160) if i % 2 else (128, 192)).save(made.dataset / f"{i}.png")
        (made.dataset / f"{i}.txt").write_text("astrid, smile\n")
    return made


def events(project: Project, **changes: object) -> list[run.RunEvent]:
    return list(
        run.train_project(
            project,
            replace(SHORT, **changes),
            PREVIEW,
            "astrid",
            score=lambda pictures: len(pictures) / 4,
        )
    )


def test_only_what_is_trained_stays_in_memory(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Base] = []

    def remembered(*arguments: object) -> Base:
        opened.append(open_base(*arguments))  # type: ignore[arg-type]
        return opened[-1]

    monkeypatch.setattr(run, "open_base", remembered)
    frozen = {"text_encoder_lr": 0.0, "text_encoder_2_lr": 0.0}
    for changes, expected in (
        (frozen, {"unet"}),
        (frozen | {"caption_variants": 0, "prior_weight": 0.0}, {"unet", "te1", "te2"}),
        ({"text_encoder_2_lr": 0.0}, {"unet", "te1", "te2"}),
    ):
        settings = replace(SHORT, resume="never", epochs=1, **changes)
        for event in run.train_project(project, settings, PREVIEW, "astrid"):
            if isinstance(event, run.StepDone):
                modules = {**opened[-1].parts, "vae": opened[-1].vae}
                assert {n for n, m in modules.items() if not is_empty(m)} == expected


def test_a_run_plans_previews_steps_saves_and_finishes(project: Project) -> None:
    happened = events(project)
    kinds = [type(event).__name__ for event in happened if not isinstance(event, run.Note)]
    assert kinds == [
        "Planned",
        "Previews",
        "StepDone",
        "StepDone",
        "EpochDone",
        "Saved",
        "Previews",
    ] + [
        "StepDone",
        "StepDone",
        "EpochDone",
        "Previews",
        "Saved",
        "Finished",
    ]
    planned, finished = happened[0], happened[-1]
    assert isinstance(planned, run.Planned) and isinstance(finished, run.Finished)
    assert planned.plan.steps == finished.steps == 4
    assert [e.likeness for e in happened if isinstance(e, run.Previews)] == [0.25] * 3
    assert {p.name for p in project.output.glob("*.safetensors")} == {
        "astrid.safetensors",
        "astrid-000001.safetensors",
    }
    assert len(list((project.output / "previews").iterdir())) == 6


def test_the_same_seed_gives_the_same_file_and_another_seed_another(project: Project) -> None:
    def weights(seed: int) -> dict[str, torch.Tensor]:
        events(project, seed=seed)
        with safe_open(project.output / "astrid.safetensors", framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}

    one, same, other = weights(1), weights(1), weights(2)
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert any(not torch.equal(one[key], other[key]) for key in one)


def test_with_a_text_encoder_rate_of_zero_only_the_unet_is_in_the_file(project: Project) -> None:
    events(project, text_encoder_lr=0.0, text_encoder_2_lr=0.0)
    with safe_open(project.output / "astrid.safetensors", framework="pt") as file:
        assert {key.split("_")[1] for key in file.keys()} == {"unet"}


def test_stopping_saves_what_is_learnt_so_far_and_going_on_ends_as_if_never_stopped(
    project: Project,
) -> None:
    def lora() -> dict[str, torch.Tensor]:
        return load_file(project.output / "astrid.safetensors")

    events(project)
    wanted = lora()
    happened = run.train_project(project, SHORT, PREVIEW, "astrid")
    for event in happened:
        if isinstance(event, loop.StepDone) and event.step == 3:
            break
    last = [happened.throw(KeyboardInterrupt()), *happened][-1]
    assert isinstance(last, run.Finished)
    assert (last.stopped, last.steps) == (True, 3)
    assert any(not torch.equal(wanted[name], tensor) for name, tensor in lora().items())
    again = events(project)
    assert run.Note("Going on from step 3 of 4.") in again
    assert [e.step for e in again if isinstance(e, loop.StepDone)] == [4]
    assert [e.epoch for e in again if isinstance(e, run.Previews)] == [0, 2]
    assert all(torch.equal(wanted[name], tensor) for name, tensor in lora().items())


def test_a_complete_run_can_be_made_longer_and_started_anew(project: Project) -> None:
    events(project)
    longer = events(project, epochs=3)
    assert [e.step for e in longer if isinstance(e, loop.StepDone)] == [5, 6]
    anew = events(project, epochs=3)
    assert [e.step for e in anew if isinstance(e, loop.StepDone)] == [1, 2, 3, 4, 5, 6]


def test_a_complete_run_started_again_by_accident_loses_no_lora_file(project: Project) -> None:
    events(project, save_diffusers=True)
    precious = {p.name: p.read_bytes() for p in project.output.glob("astrid*.safetensors")}
    again = run.train_project(project, SHORT, PREVIEW, "astrid")
    notes = []
    for event in again:
        notes += [event.text] if isinstance(event, run.Note) else []
        if isinstance(event, loop.StepDone):
            break
    rest = [again.throw(KeyboardInterrupt()), *again]
    notes += [event.text for event in rest if isinstance(event, run.Note)]
    assert any(note.startswith("The run before has come to step 4, and this") for note in notes)
    for name in ("astrid", "astrid-diffusers"):
        assert f"The LoRA file of an earlier run is kept as {name}-old.safetensors." in notes
        kept = project.output / f"{name}-old.safetensors"
        assert kept.read_bytes() == precious[f"{name}.safetensors"]
    events(project)  # goes on with the stopped run: the final file is its own to replace
    assert len(list(project.output.glob("*-old*"))) == 2


def stopped_after(project: Project, step: int, **changes: object) -> None:
    """A run that is stopped after a step."""
    going = run.train_project(project, replace(SHORT, **changes), PREVIEW, "astrid")
    for event in going:
        if isinstance(event, loop.StepDone) and event.step == step:
            break
    going.throw(KeyboardInterrupt())
    list(going)


def first_pictures(project: Project) -> list[bytes]:
    """The pixels of the previews before training, in order."""
    paths = sorted((project.output / "previews").glob("epoch-000-*.png"))
    return [Image.open(path).tobytes() for path in paths]


def test_previews_before_training_that_are_missing_show_no_trained_lora(project: Project) -> None:
    stopped_after(project, 3, unet_lr=0.01)
    wanted = first_pictures(project)
    (project.output / "previews" / "epoch-000-01.png").unlink()
    again = events(project, unet_lr=0.01)
    assert run.Note("Going on from step 3 of 4.") in again
    assert first_pictures(project) == wanted
    before, after = (e.pictures for e in again if isinstance(e, run.Previews))
    assert [p.tobytes() for p in before] == wanted
    assert [p.tobytes() for p in after] != wanted


def test_previews_before_training_are_of_the_prompts_above_them(project: Project) -> None:
    stopped_after(project, 3)
    tag_alone, smile = first_pictures(project)
    changed = replace(PREVIEW, prompts=("1girl, horns",))
    happened = list(run.train_project(project, SHORT, changed, "astrid"))
    first = next(event for event in happened if isinstance(event, run.Previews))
    assert [prompt.text for prompt in first.prompts] == ["astrid", "1girl, horns"]
    assert first.pictures[0].tobytes() == tag_alone
    assert first.pictures[1].tobytes() != smile


def test_the_log_begins_before_the_first_step_and_goes_on_with_the_run(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    real = run.open_logs
    monkeypatch.setattr(run, "open_logs", lambda *a: opened.append(a[3:]) or real(*a))
    stopped_after(project, 3, validation_share=0.25, max_steps=4)
    events(project, validation_share=0.25, max_steps=4)
    with (project.output / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows if row["loss"]] == [1, 2, 3, 4]
    assert [int(row["step"]) for row in rows if row["validation"]] == [0, 2, 4]
    (began, name), (since, same_name) = opened
    assert (began, since) == (0, 3)
    assert name == same_name != ""


def test_likeness_before_training_is_in_the_log(project: Project) -> None:
    events(project, max_steps=1)
    assert (project.output / "log.csv").read_text().splitlines()[1] == "0,0,,,,,,0.25"


def test_going_on_in_another_number_format_is_said(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:  # yesterday's GPU
        patch.setattr(run, "choose_device", lambda *_: ("cpu", torch.bfloat16, "an L4"))
        stopped_after(project, 3)
    told = [event.text for event in events(project) if isinstance(event, run.Note)]
    assert told[-2:] == [
        "Going on from step 3 of 4.",
        "The base was in bfloat16 so far and is in float32 on this device: the LoRA goes on, but "
        "not bit for bit as it would have there.",
    ]


def test_after_the_pictures_changed_it_says_so_and_starts_anew(project: Project) -> None:
    happened = run.train_project(project, replace(SHORT, state_every=1), PREVIEW, "astrid")
    for event in happened:
        if isinstance(event, loop.StepDone) and event.step == 2:
            break
    happened.close()  # as a kill would
    (project.dataset / "2.txt").write_text("astrid, horns\n")
    again = events(project)
    told = [e.text for e in again if isinstance(e, run.Note) and "Starting anew" in e.text]
    assert told and "the dataset changed (pictures or captions: 1 changed)" in told[0]
    assert [e.step for e in again if isinstance(e, loop.StepDone)] == [1, 2, 3, 4]
    assert (project.output / "state" / "astrid-old.safetensors").exists()


def test_a_plan_nobody_means_is_not_started(project: Project) -> None:
    with pytest.raises(TrainingError, match="has 12,000 steps, more than most_steps .10,000."):
        events(project, epochs=1000, repeats=6)


def test_pictures_held_out_are_asked_about_and_not_trained_on(project: Project) -> None:
    happened = events(project, validation_share=0.25)
    planned = happened[0]
    assert isinstance(planned, run.Planned) and len(planned.plan.placements) == 3
    losses = {e.epoch: e.loss for e in happened if isinstance(e, run.Validated)}
    assert set(losses) == {0, 1, 2} and all(0 < loss < 3 for loss in losses.values())
    assert losses[0] != losses[2]


def test_latents_are_made_once_and_again_when_the_picture_changes(
    project: Project, base, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    made: list[int] = []
    real = cache._encode
    monkeypatch.setattr(
        cache, "_encode", lambda vae, images: made.append(len(images)) or real(vae, images)
    )
    pictures, plan = require(project.dataset), plan_project(project, SHORT)
    store = project.output / "latents.bin"
    first, _ = cache.latents(pictures, plan.placements, base.vae, store)
    again, _ = cache.latents(pictures, plan.placements, base.vae, store)
    assert sum(made) == 4
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    good_picture(9).resize((160, 160)).save(project.dataset / "1.png")
    cache.latents(pictures, plan.placements, base.vae, store)
    assert sum(made) == 5


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda d: [p.unlink() for p in d.iterdir()],
            "There are no pictures in .*dataset. Put some there",
        ),
        (
            lambda d: (d / "2.png").write_bytes((d / "2.png").read_bytes()[:900]),
            "2.png cannot be read as a picture",
        ),
        (
            lambda d: (d / "3.txt").unlink(),
            "1 of 4 pictures have no caption, the first is .*3.png. Tag them first",
        ),
        (
            lambda d: Image.new("RGB", (8, 8)).save(d / "3.jpg"),
            "3.jpg and 3.png in .* would share one caption file",
        ),
    ],
)
def test_what_is_wrong_with_the_dataset_is_said_before_the_base_is_loaded(
    project: Project, spoil, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(run, "open_base", lambda *_: pytest.fail("the base was loaded"))
    spoil(project.dataset)
    with pytest.raises(DatasetError, match=message):
        events(project)
