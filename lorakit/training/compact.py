"""Frozen linear layers in 8 or 4 bits: a U-Net in half or a quarter of the memory that it takes in
half precision. Weights are unpacked where they are used, on the way forward and on the way back,
and never kept whole.

8 bits are whole numbers with a scale for each row; 4 bits are bitsandbytes' NF4 (Dettmers et al.
2023, "QLoRA", section 3), with a scale for each 64 numbers.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional

from ..errors import SettingsError

BITS = {"8bit": 8, "4bit": 4}
BLOCK = 64


class Compact(torch.nn.Linear):
    """A frozen linear layer whose `weight` is packed; `scale` says how large its numbers are."""

    scale: torch.Tensor

    @classmethod
    def like(cls, layer: torch.nn.Linear, bits: int) -> Compact:
        """The shape of a layer, without weights."""
        made = cls(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        count, rows = layer.weight.numel(), layer.out_features
        eight = bits == 8
        shape = layer.weight.shape if eight else ((count + 1) // 2, 1)
        kind = torch.int8 if eight else torch.uint8
        made.weight = torch.nn.Parameter(torch.empty(shape, dtype=kind, device="meta"), False)
        scales = (rows, 1) if eight else (math.ceil(count / BLOCK),)
        made.register_buffer("scale", torch.empty(scales, device="meta"))
        return made

    def packed(self, weight: torch.Tensor) -> dict[str, torch.Tensor]:
        """`weight` and `scale` of this layer for a weight in full."""
        if self.weight.dtype == torch.uint8:
            values, state = _nf4().quantize_4bit(
                weight.contiguous(), blocksize=BLOCK, quant_type="nf4"
            )
            return {"weight": values, "scale": state.absmax.float()}
        scale = weight.float().abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
        return {"weight": (weight.float() / scale).round().to(torch.int8), "scale": scale}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = (self.out_features, self.in_features)
        return _Product.apply(x, self.weight, self.scale, self.bias, shape)


class _Product(torch.autograd.Function):
    """x W' + b, where only the packed W waits for the way back."""

    @staticmethod
    def forward(  # type: ignore[override]
        context: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        scale: torch.Tensor,
        bias: torch.Tensor | None,
        shape: tuple[int, int],
    ) -> torch.Tensor:
        context.save_for_backward(weight, scale)
        context.shape = shape
        return functional.linear(x, unpacked(weight, scale, shape, x.dtype), bias)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> Any:  # type: ignore[override]
        weight, scale = context.saved_tensors
        whole = unpacked(weight, scale, context.shape, gradient.dtype)
        return gradient @ whole, None, None, None, None


def unpacked(
    weight: torch.Tensor, scale: torch.Tensor, shape: tuple[int, int], dtype: torch.dtype
) -> torch.Tensor:
    """The weight in full, (outputs, inputs), as near as its bits can say."""
    if weight.dtype == torch.int8:
        return weight.to(dtype) * scale.to(dtype)
    nf4 = _nf4()
    state = nf4.QuantState(
        absmax=scale, shape=shape, dtype=dtype, blocksize=BLOCK, quant_type="nf4"
    )
    return nf4.dequantize_4bit(weight, state)  # type: ignore[no-any-return]


def compact(model: torch.nn.Module, storage: str) -> None:
    """Turns the linear layers of a part without weights into compact ones. Raises SettingsError if
    their package is missing.
    """
    if BITS[storage] == 4:
        _nf4()
    for module in list(model.modules()):
        for name, child in module.named_children():
            if type(child) is torch.nn.Linear and min(child.weight.shape) >= BLOCK:
                setattr(module, name, Compact.like(child, BITS[storage]))


def _nf4() -> Any:
    try:
        from bitsandbytes import functional as nf4
    except ImportError as error:
        raise SettingsError(
            "training: storage is 4bit, which needs bitsandbytes: pip install bitsandbytes. Or set "
            "storage to 8bit."
        ) from error
    return nf4
