"""A base in 8 or 4 bits: how far off it is, what it takes, and that a LoRA learns on it."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch

from lorakit.errors import SettingsError
from lorakit.training import compact, parts
from lorakit.training.base import Base, open_base
from lorakit.training.compact import Compact
from lorakit.training.config import BaseSettings, TrainingSettings

from .test_memory import drawn, really_kept

OFF = {"8bit": 0.01, "4bit": 0.11}  # of a normal weight's size: 0.8 and 9.2 %


def layer(storage: str) -> tuple[torch.nn.Linear, Compact]:
    torch.manual_seed(0)
    whole = torch.nn.Linear(128, 192)
    small = Compact.like(whole, compact.BITS[storage])
    state = small.packed(whole.weight.detach()) | {"bias": whole.bias.detach()}
    small.load_state_dict(state, assign=True)
    return whole, small


def opened(storage: str) -> Base:
    base = open_base(BaseSettings(storage=storage))
    base.fetch("unet", "te1", "te2", "vae")
    return base


@pytest.mark.parametrize("storage", compact.BITS)
def test_a_packed_weight_is_near_the_whole_one_and_much_smaller(storage: str) -> None:
    whole, small = layer(storage)
    back = compact.unpacked(small.weight, small.scale, (192, 128), torch.float32)
    assert ((back - whole.weight).norm() / whole.weight.norm()) < OFF[storage]
    bits = 8 * (small.weight.nbytes + small.scale.nbytes) / whole.weight.numel()
    assert bits <= compact.BITS[storage] + 0.5


@pytest.mark.parametrize("storage", compact.BITS)
def test_forward_and_back_go_through_the_unpacked_weight_and_keep_nothing_else(
    storage: str,
) -> None:
    _, small = layer(storage)
    back = compact.unpacked(small.weight, small.scale, (192, 128), torch.float32)
    x = torch.randn(5, 128, requires_grad=True)
    kept = really_kept(small, lambda: small(x)) - small.scale.nbytes
    assert kept == 0, "a frozen layer needs nothing but its weight for the way back"
    (small(x).square().sum()).backward()
    found, x.grad = x.grad, None
    torch.nn.functional.linear(x, back, small.bias).square().sum().backward()
    assert torch.allclose(found, x.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("storage, least, most", [("8bit", 0.25, 0.3), ("4bit", 0.14, 0.2)])
def test_a_base_is_read_into_its_bits_part_by_part(storage: str, least: float, most: float) -> None:
    plain, small = opened("full"), opened(storage)
    sizes = [
        sum(t.nbytes for t in (*m.parameters(), *m.buffers()))
        for m in (small.unet.mid_block.attentions[0], plain.unet.mid_block.attentions[0])
    ]
    assert least < sizes[0] / sizes[1] < most
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 4, 16, 16, generator=generator)
    hidden = torch.randn(2, 77, 160, generator=generator)
    pooled = torch.randn(2, plain.encoders[1].config.projection_dim, generator=generator)
    conditions = {"text_embeds": pooled, "time_ids": torch.zeros(2, 6)}
    with torch.no_grad():
        guesses = [
            base.unet(x, torch.tensor([300, 700]), hidden, added_cond_kwargs=conditions).sample
            for base in (plain, small)
        ]
    off = (guesses[0] - guesses[1]).norm() / guesses[0].norm()
    assert 0 < off < (0.02 if storage == "8bit" else 0.3)
    small.release("unet")
    assert small.fetch("unet") == ["unet"] and not parts.is_empty(small.unet)


def test_without_its_package_four_bits_are_refused_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(SettingsError, match="needs bitsandbytes: pip install bitsandbytes. Or set"):
        open_base(BaseSettings(storage="4bit"))


def test_dora_needs_whole_weights() -> None:
    with pytest.raises(SettingsError, match="dora .* storage"):
        replace(TrainingSettings(), storage="8bit", dora=True)


@pytest.mark.parametrize("storage", compact.BITS)
def test_a_lora_learns_on_a_compact_base(storage: str) -> None:
    from lorakit.training import adapter
    from lorakit.training.config import AdapterSettings

    base = opened(storage)
    adapter.add_adapter({"unet": base.unet}, AdapterSettings(rank=4), 0)
    learned = adapter.trainable(base.unet)
    optimizer = torch.optim.AdamW(learned, 5e-3)
    losses = []
    for _ in range(8):
        torch.manual_seed(0)
        loss = drawn(base, 1, (128, 128), 77).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
