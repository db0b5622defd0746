"""The training loop: when the text encoders stop, when it gives up, and where it goes on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import nn

from lorakit.errors import SettingsError, TrainingError
from lorakit.training import adapter, ledger, loop, objective
from lorakit.training.base import Base, load_base
from lorakit.training.checkpointing import set_checkpointing
from lorakit.training.config import TrainingSettings
from lorakit.training.memory import TEXT
from lorakit.training.parallel import World
from lorakit.training.plan import make_plan
from lorakit.training.planner import Way
from lorakit.training.turns import Turn

from .test_batch import batch_of, example, material

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
    learning = fresh(base, settings)
    made = material(*[example("astrid, smile")] * count)
    return list(loop.train(base, plan, made, settings, learning))


def fresh(base: Base, settings: TrainingSettings) -> loop.Learning:
    """A fresh adapter on `base`, and its optimiser."""
    adapter.add_adapter(loop.trained_parts(base, settings), settings, seed=1)
    return loop.begin(base, settings, "cpu")


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


def test_accumulated_batches_are_half_the_steps(base: Base) -> None:
    made = run(base, replace(SETTINGS, accumulation=2))
    assert sum(isinstance(event, loop.StepDone) for event in made) == 2


def test_accumulated_batches_make_one_step_with_the_gradient_of_one_large_batch(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same three pictures under the same noise, in one batch, or in two of unequal size."""
    learning, made = fresh(base, SETTINGS), material(*[example("astrid, smile")] * 3)
    whole = batch_of(base, made, SETTINGS)
    monkeypatch.setattr(
        loop, "make_batch", lambda _, rows, *others: whole.part(slice(rows[0], rows[-1] + 1))
    )
    kept, outcomes = objective.kept_signal(base.scheduler), []
    for rows in ([[0, 1, 2]], [[0, 1], [2]]):
        turn, group = loop._batches(base, made, SETTINGS, World(), "cpu", Turn(1, 1, rows, True))
        way = Way(99, (), 0, 0.0)
        loss = loop._gradients(base, turn, group, kept, SETTINGS, learning, World(), way)
        grads = {n: p.grad for n, p in adapter.named_weights(base.parts) if p.grad is not None}
        outcomes.append((loss, grads))
        learning.optimizer.zero_grad(set_to_none=True)
    (once, large), (twice, summed) = outcomes
    assert twice == pytest.approx(once)
    assert large.keys() == summed.keys() and any(grad.any() for grad in large.values())
    largest = max(float(grad.abs().max()) for grad in large.values())
    for name in large:
        torch.testing.assert_close(summed[name], large[name], rtol=1e-3, atol=1e-5 * largest)


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
    learning = fresh(base, settings)
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
        ledger._check(learning, loss, i + 1)
    return learning


def test_a_loss_that_is_not_a_number_stops_the_run_with_advice() -> None:
    with pytest.raises(TrainingError, match="not a number any more at step 3. Lower unet_lr"):
        learning_of([0.1, 0.1, float("nan")])


def test_an_exploding_loss_stops_the_run_with_advice() -> None:
    calm = [0.05 + 0.05 * (i % 3) for i in range(60)]
    learning_of([*calm, 5.0, *calm])  # one bad batch is not an explosion
    with pytest.raises(TrainingError, match="The loss has exploded: .* LoRA files saved before"):
        learning_of([*calm, *[2.0] * 20])


UNET_ALONE = replace(SETTINGS, text_encoder_lr=0.0, text_encoder_2_lr=0.0, repeats=40, epochs=1)


@pytest.mark.parametrize(("fp16", "steps"), [(False, 1), (True, ledger.SKIPPED)])
def test_gradients_that_are_no_numbers_stop_the_run_though_the_loss_is_one(
    base: Base, fp16: bool, steps: int
) -> None:
    """Over fp16 a step without gradients is skipped and tried again with a smaller scale, but not
    for ever.
    """
    plan, learning = make_plan([(64, 64)], UNET_ALONE), fresh(base, UNET_ALONE)
    learning.scaler = torch.amp.GradScaler("cpu", enabled=fp16)
    before = weights(base, "unet")
    for weight in learning.parameters:
        weight.register_hook(lambda gradient: gradient * float("nan"))
    events = loop.train(base, plan, material(example("astrid, a")), UNET_ALONE, learning)
    with pytest.raises(TrainingError, match=f"gradient is not a number any more at step {steps}. "):
        list(events)
    assert learning.step == steps
    if fp16:
        for now, then in zip(weights(base, "unet"), before, strict=True):
            assert torch.equal(now, then)


def test_steps_that_are_told_together_are_the_same_and_all_told_where_somebody_looks(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, which is not asked after each step what it has come to."""
    one_by_one = run(base, SETTINGS, count=3)
    monkeypatch.setitem(loop.PATIENCE, "cpu", 1e9)
    done: list[int] = []
    real = loop._follow
    monkeypatch.setattr(loop, "_follow", lambda *given: done.append(1) or real(*given))
    plan = make_plan([(64, 64)] * 3, SETTINGS)
    other = load_base("demo")
    learning = fresh(other, SETTINGS)
    made = material(*[example("astrid, smile")] * 3)
    seen, told = [], []
    for event in loop.train(other, plan, made, SETTINGS, learning, looks=lambda step: step == 3):
        seen.append(event)
        told.append(len(done))
    plain = [(e.step, e.loss, e.gradient) for e in one_by_one if isinstance(e, loop.StepDone)]
    assert [(e.step, e.loss, e.gradient) for e in seen if isinstance(e, loop.StepDone)] == plain
    steps = [count for count, e in zip(told, seen, strict=True) if isinstance(e, loop.StepDone)]
    assert steps[:3] == [1, 3, 3], "the first at once, then where somebody looks"
    assert [type(e) for e in seen] == [type(e) for e in one_by_one]


def test_skipped_steps_that_a_good_one_follows_are_forgotten() -> None:
    learning = loop.Learning({}, None, torch.amp.GradScaler("cpu"), None)  # type: ignore[arg-type]
    for step in range(1, 4 * ledger.SKIPPED):
        ledger._check_gradient(learning, float("nan") if step % ledger.SKIPPED else 0.1, step)


@pytest.mark.parametrize(
    ("dtype", "scaled"),
    [(torch.float16, True), (torch.bfloat16, False), (torch.float32, False)],
)
def test_gradients_are_scaled_over_a_base_in_fp16_only(dtype: torch.dtype, scaled: bool) -> None:
    assert fresh(load_base("demo", dtype), SETTINGS).scaler.is_enabled() == scaled


def test_nothing_to_train_is_said_by_the_settings() -> None:
    with pytest.raises(SettingsError, match="are all 0, so there is nothing to train"):
        TrainingSettings(unet_lr=0, text_encoder_lr=0, text_encoder_2_lr=0)


def test_a_prior_without_kept_tags_is_refused_because_it_would_forbid_all_learning() -> None:
    with pytest.raises(SettingsError, match="prior_weight needs keep_tags of at least 1"):
        TrainingSettings(prior_weight=1.0, keep_tags=0)


def test_a_dora_under_diffusers_names_is_refused_before_training() -> None:
    with pytest.raises(SettingsError, match="diffusers' names have no place for a DoRA"):
        TrainingSettings(dora=True, save_diffusers=True)


def test_encoders_alone_cannot_stop_before_the_end() -> None:
    with pytest.raises(SettingsError, match="text_encoder_share is 0.5, but unet_lr is 0, so noth"):
        TrainingSettings(unet_lr=0, text_encoder_share=0.5)
    TrainingSettings(unet_lr=0, text_encoder_share=1)


@pytest.mark.parametrize("name", ["ema", "max_norm"])
@pytest.mark.parametrize("optimizer", ["AdamWScheduleFree", "ProdigyPlusScheduleFree"])
def test_what_a_schedule_free_optimiser_would_undo_is_refused(optimizer: str, name: str) -> None:
    with pytest.raises(SettingsError, match=f"{name} is on, but {optimizer} saves a running aver"):
        TrainingSettings(optimizer=optimizer, **{name: 0.9})


def test_prodigy_plus_with_a_schedule_may_have_an_average_and_a_largest_norm() -> None:
    TrainingSettings(
        optimizer="ProdigyPlusScheduleFree",
        optimizer_arguments="use_schedulefree=0",
        ema=0.9,
        max_norm=1.0,
    )
