"""Parts of a step computed twice, so as to keep less in memory (Chen et al. 2016)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch

from .memory import RESNETS, TEXT


def set_checkpointing(parts: Mapping[str, torch.nn.Module], stages: Collection[str]) -> None:
    """Checkpoints these stages (paths of the U-Net's transformers, RESNETS, TEXT) of the parts and
    no others.
    """
    for part, module in parts.items():
        if part == "unet":
            _unet(module, stages)
        else:
            _encoder(module, TEXT in stages)


def _unet(unet: torch.nn.Module, stages: Collection[str]) -> None:
    unet.enable_gradient_checkpointing()  # tells every module how; what is not wanted is undone
    for path, module in unet.named_modules():
        if hasattr(module, "gradient_checkpointing"):
            deep = hasattr(module, "transformer_blocks")
            # the blocks around them checkpoint their ResNets alone
            module.gradient_checkpointing = path in stages if deep else RESNETS in stages


def _encoder(encoder: torch.nn.Module, on: bool) -> None:
    """transformers has had three names for it."""
    if hasattr(encoder, "activation_checkpointing_enable"):  # from release 6 on
        name = f"activation_checkpointing_{'enable' if on else 'disable'}"
        getattr(encoder, name)()
    elif on:  # re-entrant, which transformers 4 takes by itself, no gradient comes through
        encoder.gradient_checkpointing_enable({"use_reentrant": False})
    else:
        encoder.gradient_checkpointing_disable()
