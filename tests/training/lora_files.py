"""LoRA files and their references for the tests of whatever reads and writes them."""

from __future__ import annotations

import torch

LINEAR, CONV, POINT = (
    "lora_unet_input_blocks_4_1_proj_in",
    "lora_unet_input_blocks_1_0_in_layers_2",
    "lora_unet_input_blocks_4_0_skip_connection",
)
SHAPES = {LINEAR: (24, 16), CONV: (12, 8, 3, 3), POINT: (12, 8, 1, 1)}


def random_lora(
    seed: int, rank: int = 6, alpha: float = 3.0, dtype: torch.dtype = torch.float64
) -> dict[str, torch.Tensor]:
    """A LoCon of a linear layer, a 3x3 and a 1x1 convolution."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, (outputs, *inputs) in SHAPES.items():
        ones = [1] * (len(inputs) - 1)
        down = torch.randn(rank, *inputs, generator=generator, dtype=torch.float64)
        up = torch.randn(outputs, rank, *ones, generator=generator, dtype=torch.float64)
        tensors[f"{name}.alpha"] = torch.tensor(alpha, dtype=dtype)
        tensors[f"{name}.lora_down.weight"] = down.to(dtype)
        tensors[f"{name}.lora_up.weight"] = up.to(dtype)
    return dict(sorted(tensors.items()))


def added(tensors: dict[str, torch.Tensor], name: str) -> torch.Tensor:
    """What other tools add to a weight, in float64: alpha / rank * up @ down (as in ComfyUI)."""
    down, up = (tensors[f"{name}.lora_{half}.weight"].double() for half in ("down", "up"))
    alpha = tensors.get(f"{name}.alpha", torch.tensor(float(down.shape[0]))).double()
    matrix = up.flatten(1) @ down.flatten(1) * alpha / down.shape[0]
    return matrix.reshape(up.shape[0], *down.shape[1:])
