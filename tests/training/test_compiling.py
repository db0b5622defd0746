"""Compiled transformer blocks: the same step, and no compilation for another bucket."""

from __future__ import annotations

import shutil

import pytest
import torch

from lorakit.training import adapter
from lorakit.training.base import Base, load_base
from lorakit.training.compiling import compile_blocks
from lorakit.training.config import AdapterSettings

from .test_memory import drawn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of torch to itself
    pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler here"),
]
SIZES = ((128, 128), (192, 96), (96, 160))


def gradients(base: Base, size: tuple[int, int]) -> list[torch.Tensor]:
    torch.manual_seed(0)
    drawn(base, 2, size, 77).square().mean().backward()
    found = [p.grad for p in adapter.trainable(base.unet)]
    for parameter in adapter.trainable(base.unet):
        parameter.grad = None
    return found  # type: ignore[return-value]


def test_compiled_blocks_give_the_same_gradients_and_are_compiled_once_for_all_buckets() -> None:
    bases = [load_base("demo"), load_base("demo")]
    for base in bases:
        adapter.add_adapter({"unet": base.unet}, AdapterSettings(rank=4), 0)
        base.unet.train()
    plain, compiled = bases
    torch._dynamo.reset()
    assert compile_blocks(compiled.unet) > 5
    gradients(compiled, SIZES[0])
    torch._dynamo.config.error_on_recompile = True
    try:
        for size in SIZES[1:]:
            found, wanted = gradients(compiled, size), gradients(plain, size)
            largest = max(float(each.abs().max()) for each in wanted)
            for ours, theirs in zip(found, wanted, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5 * largest)
    finally:
        torch._dynamo.config.error_on_recompile = False
        torch._dynamo.reset()
