"""The dataset as training sees it, and that the form counts the very steps that a run takes."""

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from lorakit.errors import DatasetError, SettingsError
from lorakit.project import Project, find
from lorakit.training.config import TrainingSettings
from lorakit.training.examples import (
    held_out,
    plan_examples,
    plan_project,
    read_examples,
    survey,
)
from lorakit.training.plan import fit

SETTINGS = TrainingSettings(resolution=512, repeats=2, batch_size=2, epochs=3)
SUBSETS = """
[[subset]]
folder = "reg"
regularisation = true
repeats = 1

[[subset]]
folder = "3_hat"
keep_tags = 2
flip = true
"""


def add(project: Project, name: str, caption: str | None = "astrid, smile", **more: object) -> Path:
    """A picture of its own size and colour, with its caption."""
    path = project.dataset / name
    path.parent.mkdir(parents=True, exist_ok=True)
    size, mode = more.get("size", (64, 64)), more.get("mode", "RGB")
    Image.new(str(mode), size, hash(name) % 255).save(path)  # type: ignore[arg-type]
    if caption is not None:
        path.with_suffix(".txt").write_text(caption)
    return path


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = find(str(tmp_path / "astrid")).create()
    add(made, "a.png", "astrid, smile\n")
    add(made, "b.png", "astrid, outdoors", size=(64, 96))
    add(made, "3_hat/c.png", "astrid, hat, sky")
    add(made, "reg/d.png", "1girl, Astrid, night")
    add(made, "reg/e.png", "astrid|||1girl, day", size=(96, 64))
    made.settings_file.write_text(SUBSETS)
    return made


def test_every_picture_comes_with_all_that_holds_for_it(project: Project) -> None:
    found = {e.picture.name: e for e in read_examples(project, SETTINGS, "astrid")}
    told = {
        name: (e.caption, e.repeats, e.keep_tags, e.flip, e.regularisation)
        for name, e in found.items()
    }
    assert told == {
        "a.png": ("astrid, smile", 2, 1, False, False),
        "b.png": ("astrid, outdoors", 2, 1, False, False),
        "c.png": ("astrid, hat, sky", 3, 2, True, False),
        "d.png": ("1girl,, night", 1, 0, False, True),
        "e.png": ("|||1girl, day", 1, 0, False, True),
    }
    assert found["a.png"].placement == fit((64, 64), (512, 512))
    assert found["b.png"].placement.bucket == (384, 640)


def test_without_an_activation_tag_captions_stay_as_they_are(project: Project) -> None:
    assert read_examples(project, SETTINGS)[-2].caption == "1girl, Astrid, night"


@pytest.mark.parametrize(
    ("caption", "left"),
    [
        ("astrid", ""),
        ("astrid, astrid, sky", "sky"),
        ("astrids hat, sky", "astrids hat, sky"),
        ("sky, old astrid, x", "sky, old astrid, x"),
        ("sky\nastrid\nsea", "sky\n\nsea"),
        ("{astrid|boris}, sky", "{|boris}, sky"),
    ],
)
def test_only_the_activation_tag_itself_is_left_out(
    project: Project, caption: str, left: str
) -> None:
    add(project, "reg/d.png", caption)
    assert read_examples(project, SETTINGS, "astrid")[-2].caption == left


def test_a_regularisation_sentence_with_the_activation_tag_is_refused(project: Project) -> None:
    add(project, "reg/d.png", "A girl who looks like Astrid.")
    with pytest.raises(DatasetError, match="reg/d.png has the activation tag 'astrid' in it"):
        read_examples(project, replace(SETTINGS, sentences=True), "astrid")


def test_the_caption_suffix_for_captions_is_read_too(project: Project) -> None:
    (project.dataset / "a.txt").rename(project.dataset / "a.caption")
    assert read_examples(project, SETTINGS)[1].caption == "astrid, smile"


# --- what is wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "changes", "error", "message"),
    [
        (
            lambda d: [p.unlink() for p in d.rglob("*.png")],
            {},
            DatasetError,
            "There are no pictures in .*dataset. Put some there",
        ),
        (
            lambda d: [(d / n).write_bytes(b"\x89PNG") for n in ("a.png", "b.png")],
            {},
            DatasetError,
            r"a.png cannot be read as a picture .* \(1 more like it.\)",
        ),
        (
            lambda d: [(d / n).unlink() for n in ("b.txt", "reg/e.txt")],
            {},
            DatasetError,
            "2 of 5 pictures have no caption, the first is .*b.png. Tag them first: python -m "
            "lorakit tag astrid",
        ),
        (
            lambda d: Image.new("RGB", (8, 8)).save(d / "b.jpg"),
            {},
            DatasetError,
            "b.jpg and b.png in .* would share one caption file",
        ),
        (
            lambda d: (d / "3_hat").rename(d / "3_hats"),
            {},
            SettingsError,
            "no pictures in a folder '3_hat' of dataset; did you mean '3_hats'",
        ),
        (
            lambda d: [p.unlink() for p in (*d.glob("*.png"), d / "3_hat/c.png")],
            {},
            SettingsError,
            "no pictures in a folder '3_hat'",
        ),
        (
            lambda d: (d.parent / "project.toml").write_text(
                '[[subset]]\nfolder = "."\nregularisation = true\n'
            ),
            {},
            DatasetError,
            "Every picture is for regularisation; none is left to learn from",
        ),
        (
            lambda d: None,
            {"mask": "files"},
            DatasetError,
            "mask is 'files', but there is no mask beside any picture; the first would be .*"
            "c.mask.png",
        ),
        (
            lambda d: None,
            {"mask": "alpha"},
            DatasetError,
            "mask is 'alpha', but no picture is transparent anywhere",
        ),
    ],
)
def test_what_is_wrong_is_said_with_the_name_of_what_it_is(
    project: Project, spoil, changes: dict, error: type[Exception], message: str
) -> None:  # type: ignore[no-untyped-def]
    spoil(project.dataset)
    with pytest.raises(error, match=message):
        read_examples(project, replace(SETTINGS, **changes))


def test_a_strip_of_which_hardly_anything_would_be_seen_is_refused(project: Project) -> None:
    add(project, "long.png", size=(64, 500))
    assert len(read_examples(project, SETTINGS)) == 6
    add(project, "strip.png", size=(10, 2000))
    told = r"strip\.png is 10x2000, so narrow that training would see 2\.0% of it. Crop or remove"
    with pytest.raises(DatasetError, match=told):
        read_examples(project, SETTINGS)


@pytest.mark.parametrize("spoil", [("a.txt", ""), ("a.txt", "||| smile"), ("3_hat/c.txt", "x")])
def test_a_prior_needs_something_to_leave_out_of_every_caption(
    project: Project, spoil: tuple[str, str]
) -> None:
    settings = replace(SETTINGS, prior_weight=1.0)
    project.settings_file.write_text(SUBSETS.replace("keep_tags = 2", "keep_tags = 0"))
    add(project, "3_hat/c.png", "astrid, hat ||| sky")
    assert len(read_examples(project, settings, "astrid")) == 5
    name, caption = spoil
    (project.dataset / name).write_text(caption)
    picture = name.replace("txt", "png")
    with pytest.raises(DatasetError, match=f"nothing is kept at the start of .*{picture}. Put the"):
        read_examples(project, settings, "astrid")
    assert len(read_examples(project, replace(settings, caption_prefix="astrid"), "astrid")) == 5


@pytest.mark.parametrize(
    "caption, changes",
    [
        ("1girl, astrid, smile", {}),
        ("1girl, astrid, smile", {"caption_prefix": "score_9"}),
        ("1girl ||| smile, astrid", {}),
        ("A girl, Astrid, waves.", {"sentences": True}),
        ("astrid, smile\n1girl, {astrid|hat}", {"wildcards": True}),
    ],
)
def test_a_prior_must_not_speak_of_the_character(
    project: Project, caption: str, changes: dict[str, object]
) -> None:
    settings = replace(SETTINGS, prior_weight=1.0, **changes)  # type: ignore[arg-type]
    add(project, "a.png", caption)
    add(project, "reg/d.png", "1girl")
    add(project, "reg/e.png", "1girl", size=(96, 64))
    told = r"a\.png 'astrid' is not among what is kept at the start. Put it first"
    with pytest.raises(DatasetError, match=told):
        read_examples(project, settings, "astrid")
    add(project, "a.png", "astrid, smile, astrids hat\nastrid, 1girl")
    assert len(read_examples(project, replace(settings, wildcards=True), "astrid")) == 5


def test_one_mask_and_one_transparent_picture_are_enough(project: Project) -> None:
    Image.new("L", (64, 64)).save(project.dataset / "b.mask.png")
    Image.new("RGBA", (64, 64)).save(project.dataset / "a.png")
    for kind in ("files", "alpha"):
        assert len(read_examples(project, replace(SETTINGS, mask=kind))) == 5


# --- the plan -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"repeats": 7, "balance": True},
        {"smallest_bucket": 2, "accumulation": 2},
        {"upscale": False},
        {"max_steps": 11},
        {"validation_share": 0.4},
    ],
)
def test_the_form_counts_the_steps_that_a_run_takes(
    project: Project, changes: dict[str, object]
) -> None:
    settings = replace(SETTINGS, **changes)  # type: ignore[arg-type]
    examples = read_examples(project, settings)
    held = held_out([e.regularisation for e in examples], settings)
    learnt = [e for i, e in enumerate(examples) if i not in held]
    plan = plan_examples(learnt, settings)
    assert plan == survey(project).plan(settings) == plan_project(project, settings)
    assert len(plan.placements) == 5 - len(held)
    assert len(held) == (1 if "validation_share" in changes else 0)


def test_the_plan_changes_with_folders_and_tables(project: Project) -> None:
    # 512x512: a 2, c 3, d 1; 384x640: b 2; 640x384: e 1; in batches of 2
    assert plan_project(project, SETTINGS).steps_per_epoch == 3 + 1 + 1
    project.settings_file.write_text(SUBSETS + "repeats = 9\n")
    assert plan_project(project, SETTINGS).steps_per_epoch == 6 + 1 + 1


@pytest.mark.parametrize("changes", [{}, {"balance": True}, {"validation_share": 0.3}])
def test_aiming_changes_what_the_setting_can_change(
    project: Project, changes: dict[str, object]
) -> None:
    found = survey(project)
    wanted = replace(SETTINGS, max_steps=7, **changes)  # type: ignore[arg-type]
    aimed = found.aim(wanted, 100)
    assert abs(found.plan(aimed).steps - 100) <= 10
    assert aimed == replace(wanted, repeats=aimed.repeats, epochs=aimed.epochs, max_steps=0)


def test_held_out_are_a_share_of_the_pictures_that_show_the_character() -> None:
    flags = [True, *[False] * 20, True]
    share = replace(SETTINGS, validation_share=0.1)
    held = held_out(flags, share)
    assert len(held) == 2 and not held & {0, 21}
    assert held == held_out(flags, share)
    assert len({frozenset(held_out(flags, replace(share, seed=s))) for s in range(20)}) > 10
    assert held_out(flags, SETTINGS) == set()
    assert len(held_out([False, False], replace(share, validation_share=0.01))) == 1
    assert held_out([False, True], replace(share, validation_share=0.5)) == set(), "never all"
