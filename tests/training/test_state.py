"""Going on where a run was cut off: when it does, what it says, and what it keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lorakit.dataset import Picture
from lorakit.errors import TrainingError
from lorakit.training import adapter, loop, state
from lorakit.training.base import Base
from lorakit.training.config import TrainingSettings
from lorakit.training.plan import make_plan
from lorakit.training.state import Identity, Stored, decide

from .test_batch import example, material
from .test_loop import SETTINGS

SAME = Identity({"unet_lr": 1e-3, "rank": 8}, {"a.png": "1", "b.png": "2"})


def stored(who: Identity = SAME, step: int = 30) -> Stored:
    return Stored(
        {}, {"step": step, "identity": {"settings": who.settings, "pictures": who.pictures}}
    )


@pytest.mark.parametrize(
    ("now", "resume", "goes_on", "says"),
    [
        (SAME, "auto", True, "Going on from step 30 of 100."),
        (SAME, "never", False, "A state at step 30 of 100 is put aside, as resume is 'never'"),
        (
            replace(SAME, settings={"unet_lr": 2e-3, "rank": 8}),
            "auto",
            False,
            "Starting anew instead of going on from step 30 of 100, because unet_lr was 0.001 and "
            "is 0.002. To go on all the same, set resume to 'always'",
        ),
        (
            replace(SAME, settings={"unet_lr": 2e-3, "rank": 8}),
            "always",
            True,
            "Going on from step 30 of 100, though unet_lr was 0.001 and is 0.002.",
        ),
        (  # a state of an earlier release, which had one setting less
            replace(SAME, settings=SAME.settings | {"text_2_rank": 0}),
            "auto",
            True,
            "Going on from step 30 of 100.",
        ),
        (
            replace(SAME, settings=SAME.settings | {"text_2_rank": 4}),
            "auto",
            False,
            "text_2_rank was 0 and is 4",
        ),
        (
            replace(SAME, pictures={"a.png": "1", "b.png": "9", "c.png": "3"}),
            "auto",
            False,
            "because the dataset changed (pictures or captions: 1 new, 1 changed)",
        ),
    ],
)
def test_what_changed_decides_and_is_said(
    now: Identity, resume: str, goes_on: bool, says: str
) -> None:
    decision = decide(stored(), now, 100, resume)
    assert decision.go_on is goes_on
    assert says in decision.sentence


def test_a_run_that_was_complete_starts_anew_and_a_longer_one_goes_on() -> None:
    for steps, resume in ((100, "auto"), (80, "auto"), (100, "always")):
        decision = decide(stored(step=100), SAME, steps, resume)
        assert not decision.go_on
        assert decision.sentence.startswith(
            f"The run before has come to step 100, and this plan ends at {steps}: starting anew."
        )
    assert decide(stored(step=100), SAME, 150, "auto").go_on


def test_without_a_state_there_is_nothing_to_say() -> None:
    assert decide(None, SAME, 100, "auto") == state.Decision(False, "")


def test_length_and_saving_may_change_but_nothing_that_changes_the_lora(tmp_path: Path) -> None:
    def who(**changes: object) -> Identity:
        return state.identity(replace(SETTINGS, **changes), [], tmp_path)

    for name, value in {"epochs": 9, "save_every": 3, "wandb": "x", "max_steps": 5}.items():
        assert who(**{name: value}) == who(), name
    for name, value in {"unet_lr": 0.5, "seed": 3, "tag_dropout": 0.2, "flip": True}.items():
        assert who(**{name: value}) != who(), name


def test_an_example_s_digest_changes_with_picture_caption_and_handling(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"one")
    first = replace(example("astrid"), picture=Picture(path))
    seen = {state.digest(first), state.digest(replace(first, caption="astrid, smile"))}
    seen.add(state.digest(replace(first, repeats=7)))
    path.write_bytes(b"two")
    seen.add(state.digest(first))
    assert len(seen) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ema": 0.9},
        {"optimizer": "Prodigy", "unet_lr": 1.0, "text_encoder_lr": 1.0, "text_encoder_2_lr": 1.0},
        {"optimizer": "AdamWScheduleFree"},
        {"lora_precision": "bf16", "dropout": 0.2, "rank_dropout": 0.1, "module_dropout": 0.1},
        {"kind": "locon", "lora_plus": 4.0, "max_norm": 0.5, "accumulation": 2},
        {"dora": True, "text_encoder_share": 0.5, "prior_weight": 1.0},
    ],
    ids=lambda changes: "-".join(changes) or "plain",
)
def test_a_run_cut_off_after_any_step_ends_with_the_same_bits(
    base: Base, tmp_path: Path, changes: dict[str, object]
) -> None:
    settings = replace(SETTINGS, **changes)
    plan = make_plan([(64, 64)] * 2, settings)
    made = material(example("astrid, smile, horns"), example("astrid, red kimono"))
    who = Identity({}, {})

    def fresh() -> tuple[Base, loop.Learning]:
        from lorakit.training.base import load_base

        new = load_base("demo")
        adapter.add_adapter(loop.trained_parts(new, settings), settings, seed=1)
        return new, loop.begin(new, settings, "cpu")

    whole, learning = fresh()
    files = {}
    for event in loop.train(whole, plan, made, settings, learning):
        if isinstance(event, loop.StepDone) and event.step < plan.steps:
            files[event.step] = tmp_path / f"{event.step}.safetensors"
            state.save_state(files[event.step], learning, who, {})
    with learning.shown():
        wanted = adapter.tensors(learning.parts, torch.float32)
    for step in {1, max(files)}:
        other, again = fresh()
        found = state.read_state(files[step])
        assert found is not None and found.step == step
        state.restore(again, found)
        list(loop.train(other, plan, made, settings, again))
        with again.shown():
            got = adapter.tensors(again.parts, torch.float32)
        assert all(torch.equal(wanted[name], got[name]) for name in wanted), step


@pytest.mark.parametrize("before", ["bf16", "fp16"])
def test_a_run_goes_on_where_the_base_is_in_another_number_format(
    base: Base, tmp_path: Path, before: str
) -> None:
    """Only fp16 has a loss scale: a state from an L4 (bf16) has none, a T4 (fp16) needs one."""
    scales = {"bf16": torch.amp.GradScaler("cpu", enabled=False), "fp16": fp16_scale(2.0)}
    adapter.add_adapter({"unet": base.unet}, SETTINGS, seed=1)
    learning = loop.begin(base, replace(SETTINGS, text_encoder_lr=0, text_encoder_2_lr=0), "cpu")
    learning.scaler, learning.step = scales.pop(before), 3
    path = tmp_path / "state.safetensors"
    state.save_state(path, learning, SAME, {"precision": before})
    found = state.read_state(path)
    assert found
    now, learning.scaler = scales.popitem()
    learning.step = 0
    state.restore(learning, found)
    assert learning.step == 3
    assert learning.scaler.state_dict().get("scale") == (None if now == "bf16" else 2.0)
    assert state.other_format(found, before) == ""
    assert state.other_format(found, now).startswith(
        f"The base was in {before} so far and is in {now} on this device: the LoRA goes on,"
    )


def fp16_scale(value: float) -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", init_scale=value)


def test_a_file_that_is_no_state_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "astrid.safetensors"
    path.write_bytes(b"half a file")
    with pytest.raises(TrainingError, match="is not a state that this lorakit can go on from"):
        state.read_state(path)


def test_a_state_put_aside_is_kept_under_another_name(tmp_path: Path) -> None:
    path = tmp_path / "astrid.safetensors"
    path.write_bytes(b"precious")
    state.put_aside(path)
    assert (tmp_path / "astrid-old.safetensors").read_bytes() == b"precious"
    state.put_aside(path)  # nothing there: nothing happens


def test_settings_are_all_either_free_or_part_of_the_identity() -> None:
    from lorakit.settings import specs

    names = {spec.name for spec in specs(TrainingSettings)}
    assert names >= state.FREE
