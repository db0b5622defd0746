"""What a step keeps in memory, counted on shapes alone: the same as on real weights."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lorakit.training import adapter, memory, parts
from lorakit.training.base import Base
from lorakit.training.checkpointing import set_checkpointing
from lorakit.training.config import AdapterSettings
from lorakit.training.memory import RESNETS, TEXT, Block, Trace
from lorakit.training.text import encode

LORA = AdapterSettings(rank=4)
TRANSFORMERS = 11  # two a stage on the way down, three on the way up, one in the middle


def shapes(base: Base, part: str, settings: AdapterSettings = LORA) -> torch.nn.Module:
    config = base.parts[part].config
    plain = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    module = parts.empty(part, plain)
    adapter.add_adapter({part: module}, settings, 0)
    return module


def really_kept(module: torch.nn.Module, forward: object) -> int:
    """The bytes that autograd keeps when `forward` is called, weights left out."""
    own = {p.untyped_storage().data_ptr() for p in module.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        forward()  # type: ignore[operator]
    return sum(storage.nbytes() for storage in kept.values())


def drawn(base: Base, count: int, size: tuple[int, int], tokens: int) -> torch.Tensor:
    guess: torch.Tensor = base.unet(
        torch.randn(count, 4, size[1] // 8, size[0] // 8),
        torch.full((count,), 500),
        torch.randn(count, tokens, base.unet.config.cross_attention_dim),
        added_cond_kwargs={
            "text_embeds": torch.randn(count, base.encoders[1].config.projection_dim),
            "time_ids": torch.zeros(count, 6),
        },
    ).sample
    return guess


@pytest.mark.parametrize("count, size, tokens", [(1, (128, 128), 77), (3, (192, 96), 154)])
@pytest.mark.parametrize("kind", ["lora", "locon"])
def test_the_count_on_shapes_is_what_a_real_step_keeps(
    base: Base, count: int, size: tuple[int, int], tokens: int, kind: str
) -> None:
    settings = replace(LORA, kind=kind)
    traced = memory.trace_unet(shapes(base, "unet", settings), size, tokens, False).times(count)
    adapter.add_adapter({"unet": base.unet}, settings, 0)
    real = really_kept(base.unet, lambda: drawn(base, count, size, tokens))
    assert traced.kept() == pytest.approx(real, rel=0.01)


@pytest.mark.parametrize("part", ["te1", "te2"])
def test_an_encoder_is_counted_like_the_unet(base: Base, part: str) -> None:
    traced = memory.trace_encoder(shapes(base, part), 2)
    encoder = base.parts[part]
    adapter.add_adapter({part: encoder}, LORA, 0)
    real = really_kept(encoder, lambda: encode(encoder, torch.zeros(1, 2, 77, dtype=torch.long)))
    assert traced.kept() == pytest.approx(real, rel=0.01)
    assert traced.stages == [TEXT] and len(traced.blocks) == encoder.config.num_hidden_layers


def test_the_stages_are_the_transformers_then_the_resnets(base: Base) -> None:
    traced = memory.trace_unet(shapes(base, "unet"), (128, 128), 77, False)
    assert len(traced.stages) == TRANSFORMERS + 1 and traced.stages[-1] == RESNETS
    sizes = [sum(b.kept for b in traced.blocks if b.stage == stage) for stage in traced.stages]
    assert sizes[:-1] == sorted(sizes[:-1], reverse=True)


@pytest.mark.parametrize("count", [1, 5, TRANSFORMERS, TRANSFORMERS + 1])
def test_what_checkpointed_stages_keep_is_foretold(base: Base, count: int) -> None:
    traced = memory.trace_unet(shapes(base, "unet"), (128, 128), 77, False)
    stages = traced.stages[:count]
    adapter.add_adapter({"unet": base.unet}, LORA, 0)
    base.unet.train()
    set_checkpointing({"unet": base.unet}, stages)
    real = really_kept(base.unet, lambda: drawn(base, 1, (128, 128), 77))
    left = [
        replace(block, kept=block.input if block.stage in stages else block.kept)
        for block in traced.blocks
    ]
    assert replace(traced, blocks=tuple(left)).kept() == pytest.approx(real, rel=0.05)
    assert 0.98 * real <= traced.kept(stages) <= traced.kept()


def test_a_checkpointed_block_keeps_its_input_and_is_whole_while_computed_again() -> None:
    made = Trace((Block("a", 100, 10), Block("a", 80, 10), Block("b", 60, 5)), 7, 40)
    assert made.kept() == 7 + 100 + 80 + 60
    assert made.kept(["a"]) == 7 + 10 + 100, "the others are done with by then"
    assert made.kept(["b"]) == 7 + 100 + 80 + 5 + 60
    assert made.kept(["a", "b"]) == 7 + 10 + 100, "when the first is computed again"
    assert made.times(3) == Trace(
        (Block("a", 300, 30), Block("a", 240, 30), Block("b", 180, 15)), 21, 120
    )
    assert (made + Trace((Block("c", 1, 1),), 2, 90)).kept() == 7 + 240 + 3
    assert (made + Trace((), 0, 90)).largest == 90
