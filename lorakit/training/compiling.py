"""The U-Net's transformer blocks compiled: a minute or two before the first step, quicker steps
after it on a GPU.

Only the blocks are: they are alike, so one compilation serves all of the same width, and their
only changing size, the number of latents' places, is left open, so that no bucket needs another.
"""

from __future__ import annotations

import torch


def compile_blocks(unet: torch.nn.Module) -> int:
    """Compiles every transformer block where it stands, at its first call; returns how many."""
    blocks = [
        block
        for module in unet.modules()
        if hasattr(module, "transformer_blocks")
        for block in module.transformer_blocks
    ]
    for block in blocks:
        block.compile(dynamic=True)
    return len(blocks)
