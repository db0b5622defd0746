"""How a batch is computed so that it fits: what is chosen for how much memory, and what then
happens.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lorakit.errors import TrainingError
from lorakit.training import adapter, loop, planner
from lorakit.training.base import Base, load_base, open_base
from lorakit.training.config import BaseSettings, TrainingSettings
from lorakit.training.plan import make_plan
from lorakit.training.planner import Way, Ways, find_ways

from .test_batch import example, material

SETTINGS = TrainingSettings(batch_size=4, resolution=128, bucket_step=32, optimizer="AdamW")
GB = planner.GB


def ways(base: Base, free: float = 100.0, device: str = "cpu", **changes: object) -> Ways:
    settings = replace(SETTINGS, **changes)  # type: ignore[arg-type]
    plan = make_plan([(128, 128)] * 6, settings)
    found = find_ways(base, settings, plan, device, 77)
    return replace(found, free=int(free * GB))


def test_with_room_enough_the_whole_batch_is_computed_at_once_and_nothing_twice(
    base: Base,
) -> None:
    best = ways(base).best()
    assert (best.at_once, best.stages) == (4, ())


def test_the_less_memory_the_less_is_kept_and_the_longer_it_takes(base: Base) -> None:
    found = ways(base)
    chosen = [
        replace(found, free=way.need).best() for way in sorted(found.ways, key=lambda w: -w.need)
    ]
    for before, after in zip(chosen, chosen[1:], strict=False):
        assert after.need <= before.need and after.time >= before.time
    assert chosen[-1].at_once == 1 and len(chosen[-1].stages) > 10


def test_if_nothing_fits_the_smallest_is_tried(base: Base) -> None:
    found = ways(base, free=0.0)
    assert found.best().need == min(way.need for way in found.ways)
    assert found.smaller(found.best()) is None


def test_the_settings_leave_only_some_ways(base: Base) -> None:
    assert {way.stages for way in ways(base, checkpointing="none").ways} == {()}
    [full] = {way.stages for way in ways(base, checkpointing="full").ways}
    assert planner.RESNETS in full and planner.TEXT in full
    assert {way.at_once for way in ways(base, at_once=2).ways} == {2}
    assert {way.at_once for way in ways(base).ways} == {1, 2, 4}, "3 and 1 take two turns too"


FROZEN = {"text_encoder_lr": 0.0, "text_encoder_2_lr": 0.0}


def size(*modules: torch.nn.Module) -> int:
    return sum(t.nbytes for m in modules for t in (*m.parameters(), *m.buffers()))


def test_what_is_in_memory_already_is_not_counted_again(base: Base) -> None:
    not_read = open_base(BaseSettings(base_model="demo"))
    assert ways(not_read, **FROZEN).best().need - ways(base, **FROZEN).best().need == size(
        base.unet
    )
    not_read.fetch("unet")
    assert ways(not_read, **FROZEN).best().need == ways(base, **FROZEN).best().need


def test_frozen_encoders_are_not_in_memory_and_not_counted() -> None:
    base = open_base(BaseSettings(base_model="demo"))
    least, kept = (ways(base, caption_variants=n, **FROZEN).best().need for n in (16, 0))
    assert kept - least == pytest.approx(size(*base.encoders), rel=0.001)
    assert ways(base).best().need > kept, "trained, they keep what the way back needs too"


@pytest.mark.parametrize(
    "name, each", [("AdamW", 8), ("SGD", 4), ("Lion", 4), ("Adafactor", 0), ("Prodigy", 16)]
)
def test_what_the_optimiser_notes_is_counted(base: Base, name: str, each: int) -> None:
    learned = 0
    for part, module in planner._shapes(base, SETTINGS).items():
        learned += sum(p.numel() for p in adapter.trainable(module))
        assert next(module.parameters()).is_meta, f"{part} must not take memory"
    plain = ways(base, optimizer="SGD").best().need
    extra = ways(base, optimizer=name).best().need - plain
    assert extra == pytest.approx((each - 4) * learned, abs=0.1 * learned)


def test_the_sentence_says_what_is_done_and_how_much_it_takes() -> None:
    stages = tuple(f"attentions.{i}" for i in range(8))
    found = Ways((Way(2, stages, int(13.2 * GB), 1.0),), 4, int(14.6 * GB), 11)
    assert found.sentence(found.best()) == (
        "checkpointing on 8 of 11 attention stages, fused attention, batch 4 (2 at a time), "
        "latents on disk, 13.2 GB of 14.6 GB expected"
    )
    whole = Way(4, (*stages, planner.RESNETS), GB, 1.0)
    assert "8 of 11 attention stages and the resnets, fused attention, batch 4, " in found.sentence(
        whole
    )
    assert found.sentence(Way(4, (), GB, 1.0)).startswith("no checkpointing, ")
    assert found.sentence(Way(4, (), 15 * GB, 1.0)).endswith("expected, more than is free")


# --- out of memory while training -----------------------------------------------------------------


def out_of_memory(monkeypatch: pytest.MonkeyPatch, most: int) -> list[int]:
    """From now on more than `most` pictures at a time do not fit; returns how many were tried."""
    tried: list[int] = []
    real = loop.picture_losses

    def counted(base, batch, *rest):
        tried.append(len(batch))
        if len(batch) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(base, batch, *rest)

    monkeypatch.setattr(loop, "picture_losses", counted)
    return tried


LADDER = Ways(tuple(Way(count, (), count * GB, 1 / count) for count in (4, 2, 1)), 4, 9 * GB, 11)


def learn(base: Base, ways: Ways = LADDER, **changes: float) -> list[loop.Event]:
    """All that happens in three steps of batches of four."""
    settings = replace(SETTINGS, repeats=4, epochs=3, resolution=64, unet_lr=1e-3)
    settings = replace(settings, **changes)  # type: ignore[arg-type]
    plan = make_plan([(64, 64)], settings)
    adapter.add_adapter(loop.trained_parts(base, settings), settings, seed=1)
    learning = loop.begin(base, settings, "cpu")
    made = material(example("astrid, smile"))
    return list(loop.train(base, plan, made, settings, learning, ways=ways))


def test_a_unet_that_is_not_trained_is_checkpointed_too_for_gradients_pass_it(base: Base) -> None:
    way = Way(4, (planner.RESNETS,), GB, 1.0)
    learn(base, Ways((way,), 4, 9 * GB, 11), unet_lr=0.0, text_encoder_lr=1e-3)
    assert any(getattr(module, "gradient_checkpointing", False) for module in base.unet.modules())


@pytest.mark.parametrize(
    "error, memory",
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_running_out_of_memory_has_several_names(error: RuntimeError, memory: bool) -> None:
    assert loop.out_of_memory(error) == memory


def losses(events: list[loop.Event]) -> list[float]:
    return [event.loss for event in events if isinstance(event, loop.StepDone)]


def test_out_of_memory_the_same_step_is_done_in_smaller_parts_with_the_same_result(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = losses(learn(load_base("demo")))
    tried = out_of_memory(monkeypatch, most=1)
    events = learn(base)
    assert tried[:6] == [4, 2, 1, 1, 1, 1] and set(tried[2:]) == {1}
    assert [type(event).__name__ for event in events[:3]] == ["Shrunk", "Shrunk", "StepDone"]
    assert losses(events) == pytest.approx(wanted, rel=1e-4)


def test_if_one_picture_does_not_fit_the_run_ends_with_what_to_change(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    out_of_memory(monkeypatch, most=0)
    with pytest.raises(TrainingError, match="Set at_once to 1 and checkpointing to full"):
        learn(base)
