"""A run that was cut off goes on exactly, whatever its optimiser: its memory goes through a file
without pickle.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from bitsandbytes.optim import AdamW8bit, Lion8bit
from safetensors.torch import load_file, save_file

from lorakit.errors import TrainingError
from lorakit.training.config.optimizer import OPTIMIZERS
from lorakit.training.optim import load_state, state_tensors

from .toy import go, learner, settings_for, weights


def through_a_file(optimizer: torch.optim.Optimizer, folder: Path):
    tensors, plain = state_tensors(optimizer)
    save_file(tensors, folder / "state.safetensors", {"plain": json.dumps(plain, allow_nan=False)})
    return load_file(folder / "state.safetensors"), json.loads(json.dumps(plain))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_going_on_from_a_state_is_bit_for_bit_the_run_that_was_not_cut_off(
    name: str, precision: str, tmp_path: Path
) -> None:
    settings = settings_for(name, lora_precision=precision, warmup=0.1)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    whole = weights(dtype)
    optimizer = learner(whole, settings)
    go(optimizer, whole, settings, range(7), of=20)
    kept = [w.detach().clone() for w in whole]
    memory = through_a_file(optimizer, tmp_path)
    go(optimizer, whole, settings, range(7, 20), of=20)

    resumed = [torch.nn.Parameter(w.clone()) for w in kept]
    again = learner(resumed, settings)
    load_state(again, *memory)
    go(again, resumed, settings, range(7, 20), of=20)
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))
    assert not torch.equal(whole[0], kept[0]), "it did move"
    assert same(state_tensors(again), state_tensors(optimizer))


@pytest.mark.parametrize("eight_bit", [AdamW8bit, Lion8bit])
def test_the_eight_bit_optimisers_go_on_exactly_too(eight_bit, tmp_path: Path) -> None:
    """bitsandbytes' own, which make_optimizer only takes on a GPU, but which run on the CPU."""
    settings = settings_for("AdamW")
    whole = weights()
    optimizer = eight_bit([{"params": whole, "lr": 1e-3, "part": "unet"}])
    go(optimizer, whole, settings, range(7), of=20)
    kept = [w.detach().clone() for w in whole]
    tensors, plain = through_a_file(optimizer, tmp_path)
    assert tensors["0.state1"].dtype == torch.uint8
    go(optimizer, whole, settings, range(7, 20), of=20)
    resumed = [torch.nn.Parameter(w) for w in kept]
    again = eight_bit([{"params": resumed, "lr": 1e-3, "part": "unet"}])
    load_state(again, tensors, plain)
    go(again, resumed, settings, range(7, 20), of=20)
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))


def test_a_state_does_not_change_while_the_run_goes_on() -> None:
    values, settings = weights(), settings_for("Prodigy")
    optimizer = learner(values, settings)
    go(optimizer, values, settings, range(5), of=10)
    tensors, plain = state_tensors(optimizer)
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    written = json.dumps(plain)
    go(optimizer, values, settings, range(5, 10), of=10)
    assert all(torch.equal(before[name], tensors[name]) for name in before)
    assert json.dumps(plain) == written


def test_changed_settings_hold_when_a_run_goes_on() -> None:
    values, settings = weights(), settings_for("AdamW", weight_decay=0.01)
    optimizer = learner(values, settings)
    go(optimizer, values, settings, range(3), of=10)
    changed = settings_for("AdamW", weight_decay=0.3, optimizer_arguments="betas=0.8,0.95")
    again = learner(values, changed)
    load_state(again, *state_tensors(optimizer))
    assert again.param_groups[0]["weight_decay"] == 0.3
    assert again.param_groups[0]["betas"] == (0.8, 0.95)
    assert again.param_groups[0]["lr"] == changed.unet_lr


def test_a_state_of_another_optimiser_is_refused() -> None:
    values = weights()
    memory = state_tensors(learner(values, settings_for("AdamW")))
    with pytest.raises(TrainingError, match="is one of AdamW, this run uses Lion"):
        load_state(learner(values, settings_for("Lion")), *memory)


def test_a_state_of_another_lora_is_refused() -> None:
    memory = state_tensors(learner(weights(), settings_for("AdamW")))
    with pytest.raises(TrainingError, match="another LoRA"):
        load_state(learner(weights()[:3], settings_for("AdamW")), *memory)


def same(one, other) -> bool:
    (tensors, plain), (theirs, rest) = one, other
    return (
        plain == rest
        and tensors.keys() == theirs.keys()
        and all(torch.equal(value, theirs[name]) for name, value in tensors.items())
    )
