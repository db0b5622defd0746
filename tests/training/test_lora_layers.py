"""The layers that carry a LoRA: what they give, in which number format, and what they keep in
memory for the backward pass.
"""

from __future__ import annotations

import pytest
import torch

from lorakit.training.layers import NAME, inject, put, weights
from lorakit.training.lora_layers import plain

ALPHA, RANK = 6.0, 4


class Attention(torch.nn.Module):
    """Three linear layers and a convolution on the same input."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (torch.nn.Linear(32, 32) for _ in range(3))
        self.conv = torch.nn.Conv2d(32, 16, 3, stride=2, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        square = x.transpose(1, 2).reshape(len(x), 32, 4, 4)
        return (self.q(x) * self.k(x)).sum() + (self.v(x) ** 2).sum() + self.conv(square).sum()


def made(dtype: torch.dtype = torch.float32) -> Attention:
    torch.manual_seed(0)
    module = Attention().requires_grad_(False)
    inject(module, ["q", "k", "v", "conv"])
    for name in ("q", "k", "v"):
        put(getattr(module, name), torch.randn(RANK, 32) / 8, torch.randn(32, RANK) / 8, ALPHA)
    put(module.conv, torch.randn(RANK, 32, 3, 3) / 16, torch.randn(16, RANK, 1, 1) / 4, ALPHA)
    for name in ("q", "k", "v", "conv"):
        getattr(module, name).base_layer.to(dtype)
    return module


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 16, 32, generator=torch.Generator().manual_seed(1))


def test_a_linear_layer_gives_the_base_and_the_lora_added_up(x: torch.Tensor) -> None:
    layer = made().q
    down, up = (weights(layer)[which].double() for which in ("down", "up"))
    whole = layer.base_layer.weight.double() + up @ down * ALPHA / RANK
    wanted = x.double() @ whole.T + layer.base_layer.bias.double()
    assert (layer(x) - wanted).abs().max() < 1e-5
    assert (layer(x[0]) - wanted[0]).abs().max() < 1e-5, "without a batch too"


def test_a_convolution_gives_the_base_and_the_lora_added_up(x: torch.Tensor) -> None:
    layer = made().conv
    square = x.transpose(1, 2).reshape(2, 32, 4, 4).double()
    down, up = (weights(layer)[which].double() for which in ("down", "up"))
    change = torch.einsum("or,rihw->oihw", up[:, :, 0, 0], down) * ALPHA / RANK
    wanted = torch.nn.functional.conv2d(
        square,
        layer.base_layer.weight.double() + change,
        layer.base_layer.bias.double(),
        stride=2,
        padding=1,
    )
    assert (layer(square.float()) - wanted).abs().max() < 1e-5


def test_the_gradients_are_those_of_the_plain_formula(x: torch.Tensor) -> None:
    layer = made().q
    (layer(x) ** 2).sum().backward()
    down, up = (weights(layer)[which] for which in ("down", "up"))
    copies = [weight.detach().double().requires_grad_() for weight in (down, up)]
    base = layer.base_layer
    out = x.double() @ (base.weight.double() + copies[1] @ copies[0] * ALPHA / RANK).T
    ((out + base.bias.double()) ** 2).sum().backward()
    for ours, wanted in zip((down, up), copies, strict=True):
        assert ours.grad is not None and wanted.grad is not None
        assert (ours.grad - wanted.grad).abs().max() < 1e-4 * wanted.grad.abs().max()


def test_on_a_half_precision_base_all_is_half_but_the_loras_weights(x: torch.Tensor) -> None:
    module = made(torch.bfloat16)
    half = x.bfloat16()
    assert module.q(half).dtype == torch.bfloat16
    module(half).backward()
    for name in ("q", "conv"):
        for weight in weights(getattr(module, name)).values():
            assert weight.dtype == torch.float32 and weight.grad is not None
            assert weight.grad.dtype == torch.float32 and weight.grad.abs().max() > 0


def test_an_input_is_kept_once_for_all_layers_that_share_it() -> None:
    module = made(torch.bfloat16)
    x = torch.randn(64, 512, 32).bfloat16().requires_grad_()
    kept: dict[int, int] = {}

    def remember(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        module.q(x), module.k(x), module.v(x)
    large = [size for size in kept.values() if size >= x.nbytes]
    assert large == [x.nbytes], "peft's own layers keep three more, in float32"


def test_switched_off_the_base_alone_is_left(x: torch.Tensor) -> None:
    layer = made().q
    assert plain(layer)
    layer.enable_adapters(False)
    assert not plain(layer) and torch.equal(layer(x), layer.base_layer(x))
    layer.enable_adapters(True)
    assert layer.active_adapters == [NAME] and not torch.equal(layer(x), layer.base_layer(x))
