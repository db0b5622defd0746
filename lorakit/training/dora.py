"""DoRA: direction and size of a weight trained apart (Liu et al. 2024), and what a LoRA makes of a
weight.

Tools differ in whether the columns of a weight get a size or its rows. Here it is the columns, one
size an input, as in LyCORIS and OneTrainer, because that is what A1111, Forge, InvokeAI and every
ComfyUI read as it was trained; diffusers and peft know rows only. Sizes of rows (peft, diffusers,
ai-toolkit) ComfyUI divides by the norm of the weight before training instead of after it (its pull
request 15458), so such files are read here and gone on with, but not begun.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional


def norm(weight: torch.Tensor, scale_shape: tuple[int, ...] | torch.Size) -> torch.Tensor:
    """The Euclidean norm of `weight` over the axes where `scale_shape` is 1, in that shape:
    (1, in) for a linear layer's columns, (1, in, 1, 1) for a convolution's, (out, 1) for rows.
    """
    axes = [axis for axis, size in enumerate(scale_shape) if size == 1]
    return torch.linalg.vector_norm(weight, dim=axes, keepdim=True)


def columns(weight: torch.Tensor) -> tuple[int, ...]:
    """The shape of the sizes of a weight's columns."""
    return (1, weight.shape[1], *(1 for _ in weight.shape[2:]))


def change(
    weight: torch.Tensor, down: torch.Tensor, up: torch.Tensor, scale: float
) -> torch.Tensor:
    """What the two halves of a LoRA add to `weight`, in its shape; a convolution's too."""
    return (up.flatten(1) @ down.flatten(1)).reshape(weight.shape) * scale


@torch.no_grad()
def merged_weight(
    weight: torch.Tensor,
    down: torch.Tensor,
    up: torch.Tensor,
    alpha: float,
    dora_scale: torch.Tensor | None = None,
) -> torch.Tensor:
    """What every other tool makes of a LoRA: weight + up @ down * alpha / rank (Hu et al. 2021,
    section 4.1), and with `dora_scale` each of its columns (or rows) made that long (Liu et al.
    2024, equation 5).
    """
    whole = weight + change(weight, down.to(weight), up.to(weight), alpha / down.shape[0])
    if dora_scale is None:
        return whole
    return whole * (dora_scale.to(weight) / norm(whole, dora_scale.shape))


class Dora(torch.nn.Module):
    """The sizes of one layer's columns or rows, in the place where peft keeps its own.

    peft calls it with the layer's input and adds what it returns to what the base layer gave.
    `strength` 0 shows the base, 1 the weight as trained, and between them lies the straight line
    between the two weights, as in ComfyUI.
    """

    def __init__(self, base_layer: torch.nn.Module, dora_scale: torch.Tensor | None = None) -> None:
        super().__init__()
        weight = base_layer.weight.detach()
        if dora_scale is None:
            dora_scale = norm(weight.float(), columns(weight))
        self.weight = torch.nn.Parameter(dora_scale.to(weight.device, torch.float32))
        self.strength = 1.0
        self.train(base_layer.training)

    def forward(
        self,
        x: torch.Tensor,
        *,
        lora_A: torch.nn.Module,
        lora_B: torch.nn.Module,
        scaling: float,
        base_layer: torch.nn.Module,
        base_result: torch.Tensor,
        **_: Any,
    ) -> torch.Tensor:
        """What is to be added to `base_result`, the base layer's output for `x`."""
        if not self.strength:
            return torch.zeros_like(base_result)
        gain = self.gain(base_layer.weight, lora_A.weight, lora_B.weight, scaling)
        channels = [1] * x.ndim
        channels[1 if isinstance(base_layer, torch.nn.Conv2d) else -1] = -1
        factor = gain.reshape(channels)
        if gain.shape[0] == 1:  # columns: a size an input
            added = (
                _without_bias(base_layer, x * (factor - 1)) + lora_B(lora_A(x * factor)) * scaling
            )
        else:
            plain = base_result
            if base_layer.bias is not None:
                plain = base_result - base_layer.bias.reshape(channels)
            added = (factor - 1) * plain + factor * lora_B(lora_A(x)) * scaling
        return added * self.strength

    def gain(
        self, weight: torch.Tensor, down: torch.Tensor, up: torch.Tensor, scaling: float
    ) -> torch.Tensor:
        """Wanted size over present size. The present one counts as a constant for the gradient
        (Liu et al. 2024, section 4.3).
        """
        with torch.no_grad():
            whole = weight.float() + change(weight, down.float(), up.float(), scaling)
            present = norm(whole, self.weight.shape)
        return self.weight / present


def _without_bias(layer: torch.nn.Module, x: torch.Tensor) -> torch.Tensor:
    x = x.to(layer.weight.dtype)
    if isinstance(layer, torch.nn.Conv2d):
        return functional.conv2d(x, layer.weight, None, layer.stride, layer.padding, layer.dilation)
    return functional.linear(x, layer.weight)
