"""Captions to what SDXL's U-Net listens to: both encoders' penultimate states, the second's pooled
projection.

Long captions are cut into chunks of 75 tokens, each wrapped in begin and end marks, as A1111 and
ComfyUI do at inference; a batch uses as many chunks as its longest caption needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

CHUNK = 75


def token_chunks(tokenizer: Any, captions: Sequence[str]) -> torch.Tensor:
    """Token ids, shape (captions, chunks, 77); unused places hold the tokenizer's padding token."""
    rows = tokenizer(
        list(captions), add_special_tokens=False, truncation=False, verbose=False
    ).input_ids
    count = max(1, max(-(-len(row) // CHUNK) for row in rows)) if rows else 1
    ids = torch.full((len(rows), count, CHUNK + 2), tokenizer.pad_token_id, dtype=torch.long)
    ids[:, :, 0] = tokenizer.bos_token_id
    for i, row in enumerate(rows):
        for k in range(count):
            part = row[k * CHUNK : (k + 1) * CHUNK]
            ids[i, k, 1 : 1 + len(part)] = torch.tensor(part, dtype=torch.long)
            ids[i, k, 1 + len(part)] = tokenizer.eos_token_id
    return ids


def encode(encoder: torch.nn.Module, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Hidden states (captions, chunks * 77, width) and, from an encoder with a projection, the
    pooled output.

    The hidden states are those before the last layer, without the final norm; the pooled output is
    that of the first chunk at its first end mark (SDXL, Podell et al. 2023, section 2.1, and its
    reference code).
    """
    captions, chunks, length = ids.shape
    output = encoder(ids.flatten(0, 1).to(encoder.device), output_hidden_states=True)
    hidden = output.hidden_states[-2].reshape(captions, chunks * length, -1)
    pooled = getattr(output, "text_embeds", None)
    return hidden, None if pooled is None else pooled.reshape(captions, chunks, -1)[:, 0]


def encode_captions(
    tokenizers: Sequence[Any], encoders: Sequence[torch.nn.Module], captions: Sequence[str]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Both encoders' hidden states side by side (captions, tokens, width 1 + width 2), and the
    pooled output.
    """
    (first, _), (second, pooled) = (
        encode(encoder, token_chunks(tokenizer, captions))
        for tokenizer, encoder in zip(tokenizers, encoders, strict=True)
    )
    assert pooled is not None, "the second text encoder of SDXL has a projection"
    return torch.cat([first, second], dim=-1), pooled
