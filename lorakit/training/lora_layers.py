"""peft's LoRA layers with a leaner step: the LoRA computes in the number format of what comes in,
while its weights stay float32, and adds to the layer's output in place.

peft turns each input into float32 first. In half precision that is one more copy of every
activation to keep for the backward pass, in all of 722 layers.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import layer as peft_layer
from torch.nn import functional

from .compact import Compact

NAME = "lorakit"  # peft's name for the adapter


class LinearHalf(torch.nn.Linear):
    """One half of a LoRA on a linear layer."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weight.to(x.dtype))


class ConvHalf(torch.nn.Conv2d):
    """One half of a LoRA on a convolution."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight.to(x.dtype)
        return functional.conv2d(x, weight, None, self.stride, self.padding, self.dilation)


class Linear(peft_layer.Linear):
    """A linear layer with a LoRA."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if not plain(self):
            return super().forward(x, *args, **kwargs)
        result, low = self.base_layer(x), self.lora_A[NAME](x)
        up = self.lora_B[NAME].weight.to(low.dtype)
        flat = result.view(-1, result.shape[-1])
        # what a compact layer puts out is not autograd's own, and must not be changed
        add = flat.addmm if isinstance(self.base_layer, Compact) else flat.addmm_
        added = add(low.reshape(-1, low.shape[-1]), up.t(), alpha=self.scaling[NAME])
        return added.view_as(result)


class Conv2d(peft_layer.Conv2d):
    """A convolution with a LoRA."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        if not plain(self):
            return super().forward(x, *args, **kwargs)
        low = self.lora_A[NAME](x) * self.scaling[NAME]
        return self.base_layer(x) + self.lora_B[NAME](low)


def plain(layer: Any) -> bool:
    """Whether a layer has a LoRA that is switched on, without DoRA."""
    off = layer.disable_adapters or layer.merged
    return not off and NAME not in layer.lora_magnitude_vector
