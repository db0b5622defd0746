"""The running average of the LoRA."""

import pytest
import torch

from lorakit.errors import TrainingError
from lorakit.training import adapter
from lorakit.training.adapter import Ema
from lorakit.training.base import Base
from lorakit.training.config import AdapterSettings

SETTINGS = AdapterSettings(rank=2, dora=True)


@pytest.fixture
def parts(base: Base) -> dict[str, torch.nn.Module]:
    """One encoder with a LoRA: enough, and quick."""
    parts: dict[str, torch.nn.Module] = {"te1": base.encoders[0]}
    adapter.add_adapter(parts, SETTINGS, seed=1)
    return parts


def walk(parts: dict[str, torch.nn.Module], step: int) -> dict[str, torch.Tensor]:
    """Moves every weight somewhere else; where, in float64."""
    generator = torch.Generator().manual_seed(step)
    for _, weight in adapter.named_weights(parts):
        weight.data = torch.randn(weight.shape, generator=generator)
    return {name: weight.detach().double() for name, weight in adapter.named_weights(parts)}


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_the_average_is_what_the_formula_says(
    parts: dict[str, torch.nn.Module], decay: float
) -> None:
    ema = Ema(parts, decay)
    wanted = {name: weight.detach().double() for name, weight in adapter.named_weights(parts)}
    for step in range(20):
        kept = min(decay, (1 + step) / (10 + step))
        now = walk(parts, step)
        wanted = {name: kept * wanted[name] + (1 - kept) * now[name] for name in wanted}
        ema.update()
    with ema.averaged():
        for name, weight in adapter.named_weights(parts):
            torch.testing.assert_close(weight.detach().double(), wanted[name], atol=1e-6, rtol=1e-5)


def test_what_is_saved_is_the_average_and_what_is_trained_on_comes_back(
    parts: dict[str, torch.nn.Module],
) -> None:
    ema = Ema(parts, 0.9)
    walk(parts, 0)
    ema.update()
    trained = adapter.tensors(parts)
    with ema.averaged():
        saved = adapter.tensors(parts)
    ups = [name for name in saved if name.endswith("lora_up.weight")]
    # The first update keeps a tenth of the start, where these were zero.
    assert all(torch.allclose(saved[n].float(), 0.9 * trained[n].float(), atol=1e-2) for n in ups)
    with pytest.raises(KeyboardInterrupt), ema.averaged():
        raise KeyboardInterrupt
    back = adapter.tensors(parts)
    assert all(torch.equal(back[name], trained[name]) for name in trained)


def test_the_weights_stay_in_their_own_number_format(parts: dict[str, torch.nn.Module]) -> None:
    for weight in adapter.trainable(parts["te1"]):
        weight.data = weight.data.bfloat16()
    ema = Ema(parts, 0.9)
    ema.update()
    assert {average.dtype for average in ema.average.values()} == {torch.float32}
    with ema.averaged():
        assert {p.dtype for p in adapter.trainable(parts["te1"])} == {torch.bfloat16}


def test_an_average_that_was_saved_goes_on_as_if_it_had_never_stopped(
    parts: dict[str, torch.nn.Module],
) -> None:
    whole, broken = Ema(parts, 0.8), Ema(parts, 0.8)
    for step in range(3):
        walk(parts, step)
        whole.update()
        broken.update()
    state = broken.state_dict()
    broken = Ema(parts, 0.8)
    broken.load_state_dict(state)
    for step in range(3, 6):
        walk(parts, step)
        whole.update()
        broken.update()
    ours, theirs = whole.state_dict(), broken.state_dict()
    assert list(ours) == list(theirs) and int(ours["updates"]) == 6
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    up = "te1.encoder.layers.0.mlp.fc1.up"
    assert int(state["updates"]) == 3 and not torch.equal(state[up], ours[up])  # a copy


def test_an_average_of_another_adapter_is_refused(parts: dict[str, torch.nn.Module]) -> None:
    ema = Ema(parts, 0.9)
    state = ema.state_dict()
    del state["te1.encoder.layers.0.mlp.fc1.up"]
    with pytest.raises(TrainingError, match="average belongs to another adapter"):
        ema.load_state_dict(state)
