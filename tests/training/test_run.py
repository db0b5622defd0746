"""A short run on drawn pictures, from folder to file: what happens in which order, and what stops
it beforehand.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open

from lorakit.demo.run import TRAINING
from lorakit.demo.sample import good_picture
from lorakit.errors import DatasetError, SettingsError, TrainingError
from lorakit.project import Project, find
from lorakit.training import cache, loop, run
from lorakit.training.config import PreviewSettings

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


def test_a_run_plans_previews_steps_saves_and_finishes(project: Project) -> None:
    happened = events(project)
    kinds = [type(event).__name__ for event in happened]
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


def test_stopping_saves_what_is_learnt_so_far(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> Iterator[loop.Event]:
        for event in real(*arguments):
            yield event
            if isinstance(event, loop.StepDone) and event.step == 3:
                raise KeyboardInterrupt

    real = loop.train
    monkeypatch.setattr(run, "train", interrupted)
    finished = events(project)[-1]
    assert isinstance(finished, run.Finished)
    assert (finished.stopped, finished.steps) == (True, 3)
    assert finished.lora_file.exists()


def test_latents_are_made_once_and_again_when_the_picture_changes(
    project: Project, base, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    made: list[int] = []
    real = cache._encode
    monkeypatch.setattr(
        cache, "_encode", lambda vae, images: made.append(len(images)) or real(vae, images)
    )
    pictures = run.require(project.dataset)
    plan = run.plan_project(project, SHORT)
    store = project.output / "latents.safetensors"
    first = cache.latents(pictures, plan.placements, base.vae, store)
    again = cache.latents(pictures, plan.placements, base.vae, store)
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
    monkeypatch.setattr(run, "load_base", lambda *_: pytest.fail("the base was loaded"))
    spoil(project.dataset)
    with pytest.raises(DatasetError, match=message):
        events(project)


def test_nothing_to_train_is_an_error(project: Project) -> None:
    with pytest.raises(SettingsError, match="unet_lr, text_encoder_lr and text_encoder_2_lr are"):
        events(project, unet_lr=0.0, text_encoder_lr=0.0, text_encoder_2_lr=0.0)


def test_a_loss_that_is_not_a_number_stops_the_run_with_advice() -> None:
    with pytest.raises(TrainingError, match="not a number any more at step 7. Lower unet_lr"):
        loop._check(float("nan"), 7)
