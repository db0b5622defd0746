"""The training loop: when the text encoders stop, when it gives up, and where it goes on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import nn

from lorakit.errors import SettingsError, TrainingError
from lorakit.training import adapter, loop
from lorakit.training.base import Base
from lorakit.training.checkpointing import set_checkpointing
from lorakit.training.config import TrainingSettings
from lorakit.training.memory import TEXT
from lorakit.training.plan import make_plan

from .test_batch import example, material

SETTINGS = TrainingSettings(
    unet_lr=1e-3,
    text_encoder_lr=1e-3,
    text_encoder_2_lr=1e-3,
    resolution=64,
    bucket_step=32,
    batch_size=1,
    repeats=2,
    epochs=2,
    optimizer="AdamW",
    warmup=0.0,
)


def run(base: Base, settings: TrainingSettings, count: int = 1) -> list[loop.Event]:
    """Trains `count` tiny pictures on a fresh adapter; all that happened."""
    plan = make_plan([(64, 64)] * count, settings)
    adapter.add_adapter(loop.trained_parts(base, settings), settings, seed=1)
    learning = loop.begin(base, settings, "cpu")
    made = material(*[example("astrid, smile")] * count)
    return list(loop.train(base, plan, made, settings, learning))


def weights(base: Base, part: str) -> list[torch.Tensor]:
    return [p.detach().clone() for p in adapter.trainable(base.parts[part])]


def test_a_run_counts_steps_and_epochs(base: Base) -> None:
    happened = run(base, SETTINGS)
    kinds = Counter(type(event).__name__ for event in happened)
    assert kinds == {"StepDone": 4, "EpochDone": 2}
    steps = [event for event in happened if isinstance(event, loop.StepDone)]
    assert [(s.step, s.steps, s.epoch) for s in steps] == [
        (1, 4, 1),
        (2, 4, 1),
        (3, 4, 2),
        (4, 4, 2),
    ]


def test_accumulated_batches_make_one_step_with_the_gradient_of_one_large_batch(base: Base) -> None:
    """Two pictures in one batch, or one after the other: the same pictures, so near the same loss
    and half the steps.
    """
    made = run(base, replace(SETTINGS, accumulation=2))
    assert sum(isinstance(event, loop.StepDone) for event in made) == 2


def test_max_steps_ends_in_the_middle_of_an_epoch(base: Base) -> None:
    happened = run(base, replace(SETTINGS, max_steps=3))
    assert [type(event).__name__ for event in happened] == [
        "StepDone",
        "StepDone",
        "EpochDone",
        "StepDone",
        "EpochDone",
    ]
    assert happened[-1] == loop.EpochDone(2, 2, 3)


def test_text_encoders_stop_at_their_share_and_the_unet_goes_on(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(SETTINGS, text_encoder_share=0.5)
    plan = make_plan([(64, 64)], settings)
    adapter.add_adapter(loop.trained_parts(base, settings), settings, seed=1)
    learning = loop.begin(base, settings, "cpu")
    seen: dict[int, dict[str, list[torch.Tensor]]] = {0: {p: weights(base, p) for p in base.parts}}
    for event in loop.train(base, plan, material(example("astrid, a")), settings, learning):
        if isinstance(event, loop.StepDone):
            seen[event.step] = {p: weights(base, p) for p in base.parts}

    def moved(part: str, first: int, second: int) -> bool:
        pairs = zip(seen[first][part], seen[second][part], strict=True)
        return any(not torch.equal(a, b) for a, b in pairs)

    assert moved("te1", 0, 2) and moved("te2", 0, 2)
    assert not moved("te1", 2, 4) and not moved("te2", 2, 4)
    assert moved("unet", 2, 3) and moved("unet", 3, 4)


@pytest.mark.parametrize("part, rate", [("unet", "unet_lr"), ("te2", "text_encoder_2_lr")])
def test_a_part_with_rate_0_gets_no_lora(base: Base, part: str, rate: str) -> None:
    run(base, replace(SETTINGS, **{rate: 0.0}, epochs=1))
    assert not list(adapter.lora_modules(base.parts[part]))


def test_bf16_weights_are_trained_as_bf16(base: Base) -> None:
    run(base, replace(SETTINGS, lora_precision="bf16", epochs=1))
    assert {p.dtype for p in adapter.trainable(base.parts["unet"])} == {torch.bfloat16}


def test_the_norm_of_what_a_module_adds_stays_below_the_limit(base: Base) -> None:
    run(base, replace(SETTINGS, unet_lr=0.5, max_norm=0.01, gradient_clip=0.0))
    for _, layer in adapter.lora_modules(base.unet):
        if isinstance(layer.get_base_layer(), nn.Linear):
            added = layer.lora_B[adapter.NAME].weight @ layer.lora_A[adapter.NAME].weight
            assert float(added.detach().norm() * layer.scaling[adapter.NAME]) < 0.0101


def test_checkpointing_changes_no_gradient_of_any_part(base: Base) -> None:
    """transformers 4 once let none through to the text encoders, and nothing said so."""
    adapter.add_adapter(base.parts, SETTINGS, seed=1)
    tokens = torch.randint(0, 49000, (1, 77), generator=torch.Generator().manual_seed(1))
    gradients = []
    for module in base.parts.values():
        module.train()
    for stages in ((), (TEXT,)):
        set_checkpointing(base.parts, stages)
        for encoder in base.encoders:
            encoder(tokens, output_hidden_states=True).hidden_states[-2].pow(2).sum().backward()
        found = [p.grad for e in base.encoders for p in adapter.trainable(e) if p.grad is not None]
        gradients.append([g.clone() for g in found])
        for encoder in base.encoders:
            encoder.zero_grad()
    assert len(gradients[0]) == len(gradients[1]) > 40
    assert any(g.abs().sum() > 0 for g in gradients[1])
    for plain, checkpointed in zip(*gradients, strict=True):
        assert torch.allclose(plain, checkpointed)


def learning_of(losses: list[float]) -> loop.Learning:
    learning = loop.Learning({}, None, None, None)  # type: ignore[arg-type]
    for i, loss in enumerate(losses):
        loop._check(learning, loss, i + 1)
    return learning


def test_a_loss_that_is_not_a_number_stops_the_run_with_advice() -> None:
    with pytest.raises(TrainingError, match="not a number any more at step 3. Lower unet_lr"):
        learning_of([0.1, 0.1, float("nan")])


def test_an_exploding_loss_stops_the_run_with_advice() -> None:
    calm = [0.05 + 0.05 * (i % 3) for i in range(60)]
    learning_of([*calm, 5.0, *calm])  # one bad batch is not an explosion
    with pytest.raises(TrainingError, match="The loss has exploded: .* LoRA files saved before"):
        learning_of([*calm, *[2.0] * 20])


def test_nothing_to_train_is_said_by_the_settings() -> None:
    with pytest.raises(SettingsError, match="are all 0, so there is nothing to train"):
        TrainingSettings(unet_lr=0, text_encoder_lr=0, text_encoder_2_lr=0)


def test_a_prior_without_kept_tags_is_refused_because_it_would_forbid_all_learning() -> None:
    with pytest.raises(SettingsError, match="prior_weight needs keep_tags of at least 1"):
        TrainingSettings(prior_weight=1.0, keep_tags=0)


def test_a_dora_under_diffusers_names_is_refused_before_training() -> None:
    with pytest.raises(SettingsError, match="diffusers' names have no place for a DoRA"):
        TrainingSettings(dora=True, save_diffusers=True)
