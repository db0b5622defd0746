"""The three kinds of dropout of a LoRA, as sd-scripts has them: on the values between its two
halves, on whole ranks, on whole modules.

They act while training only, and draw from torch's global generators.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from .config import AdapterSettings


class Dropout:
    """A forward hook for the first half of a LoRA, or for whatever else adds a whole module up;
    `dropout`, `rank_dropout` and `module_dropout` are shares from 0 to 1.
    """

    def __init__(self, dropout: float, rank_dropout: float, module_dropout: float) -> None:
        self.dropout, self.rank_dropout = dropout, rank_dropout
        self.module_dropout = module_dropout

    def __call__(self, half: torch.nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        if not half.training:
            return output
        if self.module_dropout and float(torch.rand(())) < self.module_dropout:
            return output * 0.0  # in the graph still, so that its weights get gradients of zero
        if self.dropout:
            output = functional.dropout(output, self.dropout)
        if self.rank_dropout:
            output = output * kept_ranks(half, output, self.rank_dropout)
        return output


def kept_ranks(half: torch.nn.Module, output: torch.Tensor, share: float) -> torch.Tensor:
    """1 / (1 - share) for the ranks that each picture keeps and 0 for the rest, so that the mean
    stays what it is.
    """
    shape = [1] * output.ndim
    channels = 1 if isinstance(half, torch.nn.Conv2d) else -1
    shape[0], shape[channels] = output.shape[0], output.shape[channels]
    kept = torch.rand(shape, device=output.device) >= share
    return kept.to(output.dtype) / (1.0 - share)


def add_dropout(
    half: torch.nn.Module, settings: AdapterSettings, dora: torch.nn.Module | None = None
) -> None:
    """Puts the dropout of `settings` on a LoRA: on its first `half` and, as a DoRA adds more than
    comes through there, on the `dora` that adds it all up.
    """
    values, ranks, modules = settings.dropout, settings.rank_dropout, settings.module_dropout
    if dora is not None and modules:
        dora.register_forward_hook(Dropout(0.0, 0.0, modules))
        modules = 0.0
    if values or ranks or modules:
        half.register_forward_hook(Dropout(values, ranks, modules))
