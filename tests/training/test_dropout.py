"""The three kinds of dropout: how much they leave out, and when."""

import pytest
import torch

from lorakit.training import adapter
from lorakit.training.base import Base
from lorakit.training.config import AdapterSettings
from lorakit.training.dropout import Dropout, add_dropout

from .adapters import answer, shaken

RANK, SHARE = 40, 0.3


def half(kind: str) -> torch.nn.Module:
    """The first half of a LoRA of rank 40 whose every output is 1."""
    if kind == "convolution":
        layer: torch.nn.Module = torch.nn.Conv2d(3, RANK, 3, padding=1, bias=True)
    else:
        layer = torch.nn.Linear(3, RANK, bias=True)
    layer.weight.data.zero_()
    layer.bias.data.fill_(1.0)
    return layer


INPUTS = {
    "sequence": torch.zeros(300, 5, 3),
    "vector": torch.zeros(300, 3),
    "convolution": torch.zeros(300, 3, 2, 2),
}
each_input = pytest.mark.parametrize("kind", INPUTS)


def dropped(kind: str, **settings: float) -> torch.Tensor:
    """Its outputs with that dropout, the ranks as the last axis: (300, positions, rank)."""
    layer = half(kind)
    add_dropout(layer, AdapterSettings(**settings))
    torch.manual_seed(0)
    out = layer(INPUTS[kind]).detach()
    return out.flatten(2).transpose(1, 2) if kind == "convolution" else out.reshape(300, -1, RANK)


def close(share: float, wanted: float, draws: int) -> bool:
    """Within four standard deviations of a share of so many independent draws."""
    return abs(share - wanted) < 4 * (wanted * (1 - wanted) / draws) ** 0.5


@each_input
def test_dropout_leaves_single_values_out_and_raises_the_rest(kind: str) -> None:
    out = dropped(kind, dropout=SHARE)
    assert sorted(out.unique().tolist()) == pytest.approx([0.0, 1 / (1 - SHARE)])
    assert close((out == 0).float().mean().item(), SHARE, out.numel())
    if out.shape[1] > 1:  # positions of one rank fare differently
        assert (out.std(1) > 0).any(1).all()


@each_input
def test_rank_dropout_leaves_whole_ranks_out_for_each_picture_and_raises_the_rest(
    kind: str,
) -> None:
    out = dropped(kind, rank_dropout=SHARE)
    assert sorted(out.unique().tolist()) == pytest.approx([0.0, 1 / (1 - SHARE)])
    assert (out == out[:, :1]).all()  # all positions alike
    assert close((out[:, 0] == 0).float().mean().item(), SHARE, 300 * RANK)
    assert len({tuple(row) for row in out[:, 0].tolist()}) > 290  # pictures differ


def test_module_dropout_leaves_the_whole_module_out_and_raises_nothing() -> None:
    layer = half("sequence")
    layer.register_forward_hook(Dropout(0.0, 0.0, SHARE))
    torch.manual_seed(0)
    outputs = [layer(INPUTS["sequence"][:2]).detach().unique() for _ in range(1000)]
    values = torch.cat(outputs)
    assert len(values) == 1000 and set(values.tolist()) == {0.0, 1.0}
    assert close((values == 0).float().mean().item(), SHARE, 1000)


def test_all_three_together_keep_the_mean_of_what_module_dropout_leaves() -> None:
    layer = half("sequence")
    layer.register_forward_hook(Dropout(0.2, 0.3, 0.5))
    torch.manual_seed(0)
    means = torch.stack([layer(INPUTS["sequence"]).mean().detach() for _ in range(400)])
    kept = means[means > 0]
    assert close(len(kept) / 400, 0.5, 400)
    assert abs(kept.mean() - 1) < 0.01


def test_nothing_is_left_out_and_no_number_drawn_outside_training() -> None:
    layer = half("sequence").eval()
    add_dropout(layer, AdapterSettings(dropout=0.9, rank_dropout=0.9, module_dropout=0.9))
    before = torch.get_rng_state()
    assert (layer(INPUTS["sequence"]) == 1).all()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_module_that_was_left_out_gets_gradients_of_zero() -> None:
    layer = torch.nn.Linear(3, 2, bias=False)
    layer.register_forward_hook(Dropout(0.0, 0.0, 1.0))
    layer(torch.ones(1, 3)).sum().backward()
    assert torch.equal(layer.weight.grad, torch.zeros(2, 3))


@pytest.mark.parametrize("name", ["dropout", "rank_dropout", "module_dropout"])
@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_an_adapter_leaves_out_while_its_part_trains_and_only_then(
    base: Base, name: str, dora: bool
) -> None:
    shaken(base, AdapterSettings(rank=4, alpha=2, dora=dora, **{name: 0.5}))
    whole = answer(base)
    assert torch.equal(answer(base), whole)
    base.unet.train()
    torch.manual_seed(0)
    first, second = answer(base), answer(base)
    assert not torch.equal(first, whole) and not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(answer(base), first)
    with adapter.without(base.parts):
        plain = answer(base)
    base.unet.eval()
    with adapter.without(base.parts):
        assert torch.equal(answer(base), plain)
    assert torch.equal(answer(base), whole)


@pytest.mark.parametrize("dora", [False, True], ids=["lora", "dora"])
def test_with_every_module_left_out_the_base_answers(
    base: Base, dora: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = answer(base)
    shaken(base, AdapterSettings(rank=4, alpha=2, dora=dora, module_dropout=0.9))
    for module in base.parts.values():
        module.train()
    assert not torch.equal(answer(base), before)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.zeros(()))  # all dice fall low
    assert torch.equal(answer(base), before)
