"""What every optimiser does with a LoRA: it learns, at each part's own rate, in either number
format; and what it shows of what it has learnt.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import pytorch_optimizer
import torch
from prodigyplus import ProdigyPlusScheduleFree

from lorakit.training import optim
from lorakit.training.config.optimizer import OPTIMIZERS
from lorakit.training.optim import effective_rate, eval_mode, round_randomly

from .toy import OFF, TEXT, aims, go, groups, learner, loss, settings_for, weights

ONE_DISTANCE = ["Prodigy", "DAdaptAdam", "DAdaptLion"]
SCHEDULE_FREE = ["AdamWScheduleFree", "ProdigyPlusScheduleFree"]


# Learning


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_with_its_recommended_values_an_optimiser_finds_the_bottom_of_a_small_bowl(
    name: str,
) -> None:
    values, settings = weights(), settings_for(name)
    before = loss(values, aims(0.002)).item()
    optimizer = learner(values, settings)
    go(optimizer, values, settings, range(300), of=300, distance=0.002)
    with eval_mode(optimizer):
        assert loss(values, aims(0.002)).item() < 0.05 * before


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decay_pulls_each_part_to_zero_at_its_own_rate(name: str) -> None:
    """Down an even slope, where decay changes nothing but the weights."""
    finds_its_rate = name in (*ONE_DISTANCE, "ProdigyPlusScheduleFree")
    unet = 1.0 if finds_its_rate else 1e-3
    changes: dict[str, Any] = {"unet_lr": unet, "text_encoder_lr": 0.2 * unet}
    if name in (
        "DAdaptAdam",
        "Prodigy",
    ):  # such a slope has no bottom, so the distance to it has no bounds
        changes["optimizer_arguments"] = "growth_rate=1.1 d0=1e-4"
    dice = torch.Generator().manual_seed(3)
    directions = [torch.randn(w.shape, generator=dice) for w in weights()]

    def slope(values: list[torch.nn.Parameter]) -> torch.Tensor:
        sums = [(w * d).sum() for w, d in zip(values, directions, strict=True)]
        return torch.stack(sums).sum()

    outcomes = []
    for decay in (0.0, 0.1):
        values, settings = weights(), settings_for(name, weight_decay=decay, **changes)
        optimizer = learner(values, settings)
        go(optimizer, values, settings, range(60), of=60, slope=slope)
        outcomes.append([w.detach() for w in values])
    pull, text_pull = (
        -((with_decay - without) * start).sum().item() / (start * start).sum().item()
        for without, with_decay, start in [
            (outcomes[0][i], outcomes[1][i], weights()[i].detach()) for i in (0, 3)
        ]
    )
    assert pull > 0 and text_pull > 0
    if name != "ProdigyPlusScheduleFree":  # it finds a rate for each part
        assert text_pull == pytest.approx(0.2 * pull, rel=0.2)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_part_without_gradients_stays_as_it_is(name: str) -> None:
    """Text encoders stop learning at a share of the steps."""
    values, settings = weights(), settings_for(name)
    optimizer = learner(values, settings)
    go(optimizer, values, settings, range(10), of=40)
    kept = [w.detach().clone() for w in values]
    for w in values[TEXT:]:
        w.requires_grad_(False)
    go(optimizer, values, settings, range(10, 40), of=40)
    assert all(torch.equal(w, k) for w, k in zip(values[TEXT:], kept[TEXT:], strict=True))
    assert not torch.equal(values[0], kept[0])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_rate_of_zero_moves_nothing(name: str) -> None:
    values, settings = weights(), settings_for(name)
    optimizer = learner(values, settings)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    loss(values, aims()).backward()
    optim.step(optimizer, OFF, settings, 1)
    assert all(torch.equal(w, k) for w, k in zip(values, weights(), strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_whose_gradients_overflowed_moves_nothing(name: str, dtype: torch.dtype) -> None:
    """As over a base in fp16: the scaler halves its scale instead."""
    values, settings = weights(dtype), settings_for(name)
    optimizer = learner(values, settings)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(loss(values, aims())).backward()
    assert values[0].grad is not None
    values[0].grad[0, 0] = float("inf")
    scaler.unscale_(optimizer)
    optim.step(optimizer, scaler, settings, 1)
    assert all(torch.equal(w, k) for w, k in zip(values, weights(dtype), strict=True))
    assert scaler.get_scale() == 512


# Rates of their own for optimisers that know one distance


@pytest.mark.parametrize("name", ONE_DISTANCE)
def test_groups_with_rates_of_their_own_learn_as_if_their_weights_were_written_in_another_unit(
    name: str,
) -> None:
    """The library's own optimiser, with one rate, on text encoder weights five times as large."""
    settings = settings_for(name, unet_lr=1.0, text_encoder_lr=0.2, weight_decay=0.0)
    values = weights()
    optimizer = learner(values, settings)
    go(optimizer, values, settings, range(50), of=50)

    theirs = [torch.nn.Parameter(w.detach() / s) for w, s in zip(weights(), UNITS, strict=True)]
    arguments = {k: v for k, v in optimizer.defaults.items() if k in ARGUMENTS_OF[name]}
    plain = getattr(pytorch_optimizer, name)(theirs, **arguments)
    for number in range(50):
        plain.param_groups[0]["lr"] = optim.rate_factor(number, 50, settings)
        loss([w * s for w, s in zip(theirs, UNITS, strict=True)], aims()).backward()
        plain.step()
        plain.zero_grad()
    assert plain.param_groups[0]["d"] > 2e-5, "it found a rate"
    assert optimizer.param_groups[0]["d"] == pytest.approx(plain.param_groups[0]["d"], rel=1e-3)
    for ours, other, unit in zip(values, theirs, UNITS, strict=True):
        assert torch.allclose(ours, other * unit, rtol=1e-3, atol=1e-5)


UNITS = (1.0, 1.0, 0.2, 0.2)
ARGUMENTS_OF = {
    "Prodigy": ("betas", "d0", "safeguard_warmup"),
    "DAdaptAdam": ("betas", "weight_decouple"),
    "DAdaptLion": ("betas", "weight_decouple"),
}


@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize("name", [*ONE_DISTANCE, "ProdigyPlusScheduleFree"])
def test_the_text_encoder_moves_at_a_tenth_of_the_unets_rate_if_told_so(
    name: str, order: str
) -> None:
    settings = settings_for(name, unet_lr=1.0, text_encoder_lr=0.1, weight_decay=0.0)
    moved = {}
    values = weights()
    both = groups(values, settings)
    optimizer = optim.make_optimizer(settings, both if order == "first" else both[::-1], "cpu")
    go(optimizer, values, settings, range(3), of=100, distance=10)
    for part, now, then in (("unet", values[0], weights()[0]), ("te", values[3], weights()[3])):
        moved[part] = (now - then).abs().mean().item()
    assert moved["te"] == pytest.approx(0.1 * moved["unet"], rel=0.2)


@pytest.mark.parametrize("name", ONE_DISTANCE)
def test_a_group_at_rate_zero_takes_no_part_and_the_rates_are_left_as_they_were(name: str) -> None:
    values, settings = weights(), settings_for(name)
    optimizer = learner(values, settings)
    optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = 0.0, 0.5
    loss(values, aims()).backward()
    optim.step(optimizer, OFF, settings, 1)
    assert [group["lr"] for group in optimizer.param_groups] == [0.0, 0.5]
    assert torch.equal(values[0], weights()[0])
    assert not torch.equal(values[3], weights()[3])


def test_the_rate_that_is_logged_is_the_one_the_weights_move_at() -> None:
    values, settings = weights(), settings_for("Prodigy", schedule="constant")
    optimizer = learner(values, settings)
    go(optimizer, values, settings, range(100), of=100)
    assert effective_rate(optimizer) == optimizer.param_groups[0]["d"] > 2e-5
    plain = learner(weights(), settings_for("AdamW"))
    assert effective_rate(plain) == settings_for("AdamW").unet_lr


# bf16


def test_rounding_at_random_is_right_on_average() -> None:
    dice = torch.Generator().manual_seed(1)
    for value in (1.001, -0.3337, 7e-6, 123.456, -1e-30):
        values = torch.full((200_000,), value)
        rounded = round_randomly(values, dice).double()
        low, high = rounded.min().item(), rounded.max().item()
        assert low < value < high
        assert len(rounded.unique()) == 2, "to one of the two neighbours"
        spread = (high - low) / math.sqrt(4 * len(values))
        assert abs(rounded.mean().item() - values[0].double().item()) < 4 * spread


def test_rounding_leaves_what_fits_and_what_is_no_number() -> None:
    exact = torch.tensor([0.0, -0.0, 1.0, -2.5, float("inf"), -float("inf")])
    assert torch.equal(round_randomly(exact, torch.Generator()).float(), exact)
    assert round_randomly(torch.tensor([float("nan")]), torch.Generator()).isnan().all()


def test_changes_too_small_for_bf16_are_not_lost() -> None:
    """Steps of 1e-4 at 1.0, where bf16 has neighbours 0.004 and 0.008 away."""
    settings = settings_for(
        "AdamW", lora_precision="bf16", unet_lr=1e-4, weight_decay=0.0, schedule="constant"
    )
    w = torch.nn.Parameter(torch.ones(200, 200, dtype=torch.bfloat16))
    optimizer = optim.make_optimizer(settings, [{"params": [w], "lr": 1e-4}], "cpu")
    for number in range(50):
        w.sum().backward()
        optim.step(optimizer, OFF, settings, number)
        optimizer.zero_grad()
    assert w.dtype == torch.bfloat16
    assert w.double().mean().item() == pytest.approx(1 - 50e-4, abs=2e-4)
    assert optimizer.state[w]["exp_avg"].dtype == torch.float32


def test_the_dice_of_bf16_are_the_seeds_and_the_steps() -> None:
    def after_one(seed: int, number: int) -> torch.Tensor:
        settings = settings_for("AdamW", lora_precision="bf16", seed=seed)
        values = weights(torch.bfloat16)
        go(learner(values, settings), values, settings, range(number, number + 1), of=10)
        return values[0].detach()

    assert torch.equal(after_one(1, 3), after_one(1, 3))
    assert not torch.equal(after_one(1, 3), after_one(2, 3))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_learns_in_bf16(name: str) -> None:
    values = weights(torch.bfloat16)
    settings = settings_for(name, lora_precision="bf16")
    before = loss(values, aims(0.1)).item()
    optimizer = learner(values, settings)
    rate = 6e-3 / settings.unet_lr if settings.unet_lr < 0.1 else 1.0
    full = [group["lr"] * rate for group in optimizer.param_groups]
    for number in range(150):
        for group, lr in zip(optimizer.param_groups, full, strict=True):
            group["lr"] = lr * optim.rate_factor(number, 150, settings)
        loss(values, aims(0.1)).backward()
        optim.step(optimizer, OFF, settings, number)
        optimizer.zero_grad()
    with eval_mode(optimizer):
        assert all(w.dtype == torch.bfloat16 for w in values)
        assert loss(values, aims(0.1)).item() < 0.1 * before


# What a schedule-free optimiser has learnt


def test_schedule_free_adamw_shows_the_mean_of_its_fast_weights() -> None:
    values, settings = weights(), settings_for("AdamWScheduleFree", weight_decay=0.0)
    optimizer = learner(values, settings)
    fast = []
    for number in range(30):
        go(optimizer, values, settings, range(number, number + 1), of=30)
        fast.append(optimizer.state[values[0]]["z"].double().clone())
    trained = values[0].detach().clone()
    with eval_mode(optimizer):
        assert torch.allclose(values[0].double(), torch.stack(fast).mean(0), atol=1e-7)
        assert not torch.equal(values[0], trained)
    assert torch.equal(values[0], trained), "back bit for bit"


@pytest.mark.parametrize("name", SCHEDULE_FREE)
def test_what_is_shown_is_what_the_optimisers_own_eval_shows(name: str) -> None:
    values, settings = weights(), settings_for(name)
    optimizer = learner(values, settings)
    go(optimizer, values, settings, range(25), of=50)
    with eval_mode(optimizer):
        shown = [w.detach().clone() for w in values]
    optimizer.eval()  # type: ignore[attr-defined]
    assert all(torch.allclose(w, s, atol=1e-7) for w, s in zip(values, shown, strict=True))


@pytest.mark.parametrize("name", SCHEDULE_FREE)
def test_training_goes_on_after_a_look_as_if_nobody_had_looked(name: str) -> None:
    outcomes = []
    for looks in (False, True):
        values, settings = weights(torch.bfloat16), settings_for(name, lora_precision="bf16")
        optimizer = learner(values, settings)
        for number in range(20):
            go(optimizer, values, settings, range(number, number + 1), of=20)
            if looks:
                with pytest.raises(ZeroDivisionError), eval_mode(optimizer):
                    raise ZeroDivisionError
        outcomes.append(values)
    assert all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))


@pytest.mark.parametrize("name", [n for n in OPTIMIZERS if n not in SCHEDULE_FREE])
def test_the_others_show_the_weights_they_train(name: str) -> None:
    values, settings = weights(), settings_for(name)
    optimizer = learner(values, settings)
    go(optimizer, values, settings, range(5), of=10)
    kept = [w.detach().clone() for w in values]
    with eval_mode(optimizer):
        assert all(torch.equal(w, k) for w, k in zip(values, kept, strict=True))


def test_prodigy_plus_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """It prints what it has to say; a notebook's output is no place for that."""
    settings = settings_for("ProdigyPlusScheduleFree", optimizer_arguments="eps=none")
    learner(weights(), settings)
    assert capsys.readouterr().out == ""
    ProdigyPlusScheduleFree([torch.nn.Parameter(torch.ones(1))], eps=None)
    assert "eps" in capsys.readouterr().out
