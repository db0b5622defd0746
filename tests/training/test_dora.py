"""DoRA by itself, against float64 references."""

import pytest
import torch
from torch.nn import functional

from lorakit.training.dora import Dora, columns, merged_weight, norm

LINEAR = torch.nn.Linear(6, 5)
CONV = torch.nn.Conv2d(6, 5, 3, stride=2, padding=1)
GENERATOR = torch.Generator().manual_seed(5)


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=GENERATOR)


def halves(base: torch.nn.Module) -> tuple[torch.nn.Module, torch.nn.Module]:
    """A LoRA of rank 2 on `base` with random weights."""
    if base is CONV:
        down: torch.nn.Module = torch.nn.Conv2d(6, 2, 3, stride=2, padding=1, bias=False)
        up: torch.nn.Module = torch.nn.Conv2d(2, 5, 1, bias=False)
    else:
        down, up = torch.nn.Linear(6, 2, bias=False), torch.nn.Linear(2, 5, bias=False)
    down.weight.data, up.weight.data = drawn(*down.weight.shape), drawn(*up.weight.shape)
    return down, up


def run(base: torch.nn.Module, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The base layer with another weight, in that weight's precision."""
    x, bias = x.to(weight), base.bias.detach().to(weight)
    if base is CONV:
        return functional.conv2d(x, weight, bias, stride=2, padding=1)
    return functional.linear(x, weight, bias)


def reference(
    base: torch.nn.Module, down: torch.nn.Module, up: torch.nn.Module, sizes: torch.Tensor
) -> torch.Tensor:
    """The weight of equation 5 of the paper in float64, LoRA strength 0.75, loop by loop."""
    change = torch.einsum(
        "or,ri...->oi...", up.weight.detach().double().flatten(1), down.weight.detach().double()
    )
    whole = base.weight.detach().double() + 0.75 * change
    for i in range(5 if len(sizes) > 1 else 6):
        part = whole[i] if len(sizes) > 1 else whole[:, i]
        part *= sizes.detach().double().flatten()[i] / part.square().sum().sqrt()
    return whole


@pytest.mark.parametrize("base", [LINEAR, CONV], ids=["linear", "convolution"])
@pytest.mark.parametrize("axis", ["columns", "rows"])
def test_the_output_is_that_of_the_weight_with_its_columns_or_rows_made_as_long_as_wanted(
    base: torch.nn.Module, axis: str
) -> None:
    rows = (5, *(1 for _ in base.weight.shape[1:]))
    sizes = drawn(*(columns(base.weight) if axis == "columns" else rows)).abs() + 0.5
    (down, up), dora = halves(base), Dora(base, sizes)
    x = drawn(3, 6, 8, 8) if base is CONV else drawn(3, 7, 6)
    wanted = run(base, x, reference(base, down, up, sizes))
    plain = base(x)
    for strength in (1.0, 0.5, 0.0):
        dora.strength = strength
        added = dora(x, lora_A=down, lora_B=up, scaling=0.75, base_layer=base, base_result=plain)
        expected = plain.double() + strength * (wanted - plain.double())
        torch.testing.assert_close((plain + added).double(), expected, atol=1e-5, rtol=1e-5)
    merged = merged_weight(base.weight, down.weight, up.weight, 1.5, sizes)  # alpha 1.5, rank 2
    torch.testing.assert_close(run(base, x, merged).double(), wanted, atol=1e-5, rtol=1e-5)


def test_a_fresh_one_has_the_sizes_of_the_bases_columns_and_adds_nothing() -> None:
    (down, up), dora = halves(LINEAR), Dora(LINEAR)
    up.weight.data.zero_()
    wanted = LINEAR.weight.detach().double().square().sum(0, keepdim=True).sqrt()
    torch.testing.assert_close(dora.weight.detach().double(), wanted)
    x = drawn(2, 6)
    added = dora(x, lora_A=down, lora_B=up, scaling=1.0, base_layer=LINEAR, base_result=LINEAR(x))
    assert not added.any()


def test_the_present_size_counts_as_a_constant_for_the_gradient() -> None:
    (down, up), dora = halves(LINEAR), Dora(LINEAR)
    x, plain = drawn(4, 6), torch.zeros(4, 5)
    call = {"lora_A": down, "lora_B": up, "base_layer": LINEAR, "base_result": plain}
    dora(x, scaling=0.75, **call).square().sum().backward()
    base = LINEAR.weight.detach().double()
    a, b, m = (w.detach().double().requires_grad_() for w in (down.weight, up.weight, dora.weight))
    whole = base + 0.75 * b @ a
    weight = whole * (m / norm(whole.detach(), m.shape)) - base
    (x.double() @ weight.T).square().sum().backward()
    for ours, theirs in ((down.weight, a), (up.weight, b), (dora.weight, m)):
        torch.testing.assert_close(ours.grad.double(), theirs.grad, atol=1e-4, rtol=1e-4)


def test_a_base_in_half_precision_keeps_sizes_in_float32() -> None:
    base = torch.nn.Linear(6, 5, dtype=torch.bfloat16)
    dora, (down, up) = Dora(base), halves(LINEAR)
    assert dora.weight.dtype == torch.float32
    x = drawn(2, 6)
    plain = base(x.bfloat16())
    added = dora(x, lora_A=down, lora_B=up, scaling=1.0, base_layer=base, base_result=plain)
    assert added.isfinite().all()
