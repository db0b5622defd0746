"""Adapters for tests: an effect that is plain to see, and what a base answers."""

from __future__ import annotations

import torch

from lorakit.training import adapter
from lorakit.training.base import Base
from lorakit.training.config import AdapterSettings


def shaken(base: Base, settings: AdapterSettings | None = None, spread: float = 0.15) -> Base:
    """The base with a LoRA whose effect is plain to see; its values are exact in fp16."""
    adapter.add_adapter(base.parts, settings or AdapterSettings(rank=4, alpha=2), seed=3)
    generator = torch.Generator().manual_seed(0)
    for name, weight in adapter.named_weights(base.parts):
        noise = torch.randn(weight.shape, generator=generator)
        mean = weight.data * (1 + 0.2 * noise) if name.endswith("dora_scale") else spread * noise
        weight.data = mean.half().float()
    return base


@torch.no_grad()
def answer(base: Base) -> torch.Tensor:
    """What the U-Net says to fixed noise under what both encoders say to fixed tokens: all that an
    adapter can change.
    """
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(0, 49000, (2, 77), generator=generator)
    first, second = (
        encoder(tokens, output_hidden_states=True).hidden_states[-2] for encoder in base.encoders
    )
    config = base.unet.config
    pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
    dtype = base.unet.dtype
    conditions = {
        "text_embeds": torch.randn(2, pooled, generator=generator).to(dtype),
        "time_ids": torch.tensor([[128.0, 96, 0, 8, 128, 96]] * 2),
    }
    noise = torch.randn(2, 4, 16, 12, generator=generator).to(dtype)
    hidden = torch.cat([first, second], dim=-1)
    return base.unet(noise, torch.tensor([500, 20]), hidden, added_cond_kwargs=conditions).sample
